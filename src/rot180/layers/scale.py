"""Scaling pixels to the range that a network likes."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape, number, text
from rot180.chance import Training
from rot180.errors import SettingError, ShapeError
from rot180.layers.layer import Layer, Parameters, per_channel


class Saved(NamedTuple):
    pass


@final
@dataclass(frozen=True)
class ScalePixels(Layer):
    """y[c] = low[c] + (high[c] - low[c]) · x[c] / 255                                                      (D5)

    x (N,C,...), pixels 0..255 -> y of the same shape; no parameters; the same in training and inference.
    low and high: a number for all channels, or a tuple with one for each. Backward: dx[c] = dy[c] (high[c]-low[c])/255.
    Raises ShapeError where there are more or fewer numbers than channels. A network that begins with it takes images
    as they are, wherever it goes. LeCun et al. 1998 have paper at -0.1 and ink at 1.175, which makes the mean of a
    digit about 0 and its variance about 1, and learning faster. A photograph's colours have a mean and variance each.
    """

    low: float | tuple[float, ...] = 0.0
    high: float | tuple[float, ...] = 1.0

    linear = True

    def __post_init__(self) -> None:
        low, high = _numbers(self.low, "low"), _numbers(self.high, "high")
        if min(len(low), len(high)) > 1 and len(low) != len(high):
            raise SettingError(f"low has {len(low)} numbers and high {len(high)}: give both one for each channel")
        if not np.less(low, high).all():
            raise SettingError(f"pixels cannot be scaled to {self.low}..{self.high}: low must be below high")

    def by_channel(self, channels: int) -> tuple[Array, Array]:
        """(scale, low), float64, each (C,): y[c] = scale[c] · x[c] + low[c]."""
        low, high = (np.broadcast_to(np.asarray(limit, np.float64), channels) for limit in (self.low, self.high))
        return (high - low) / 255, low

    def output_shape(self, shape: Shape) -> Shape:
        for name, limit in (("low", self.low), ("high", self.high)):
            if isinstance(limit, tuple) and len(limit) != shape[0]:
                raise ShapeError(
                    f"{name} has {len(limit)} numbers for an input of {text(shape)}: give one, or {shape[0]}"
                )
        return shape

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        scale, low = (per_channel(each.astype(x.dtype), x) for each in self.by_channel(x.shape[1]))
        return x * scale + low, Saved()

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        scale, _ = self.by_channel(dy.shape[1])
        return dy * per_channel(scale.astype(dy.dtype), dy)


def _numbers(value: float | tuple[float, ...], name: str) -> tuple[float, ...]:
    """One number, or one for each channel; SettingError for anything else."""
    if not isinstance(value, tuple):
        return (number(value, name),)
    if not value:
        raise SettingError(f"{name} is empty: give a number, or one for each channel")
    return tuple(number(each, f"{name} of channel {channel}") for channel, each in enumerate(value))
