"""Scaling pixels to the range that a network likes."""

from dataclasses import dataclass
from typing import NamedTuple, final

from rot180.arrays import Array, Shape, number
from rot180.chance import Training
from rot180.errors import SettingError
from rot180.layers.layer import Layer, Parameters


class Saved(NamedTuple):
    pass


@final
@dataclass(frozen=True)
class ScalePixels(Layer):
    """y = low + (high - low) · x / 255                                                                     (D5)

    x of any shape, pixels 0..255 -> y of the same shape; no parameters; the same in training and inference.
    Backward: dx = dy (high - low)/255. A network that begins with it takes images as they are, wherever it goes.
    LeCun et al. 1998 have paper at -0.1 and ink at 1.175, which makes the mean of a digit about 0 and its variance
    about 1, and learning faster.
    """

    low: float = 0.0
    high: float = 1.0

    linear = True

    def __post_init__(self) -> None:
        if not number(self.low, "low") < number(self.high, "high"):
            raise SettingError(f"pixels cannot be scaled to {self.low}..{self.high}: low must be below high")

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        return x * x.dtype.type((self.high - self.low) / 255) + x.dtype.type(self.low), Saved()

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return dy * dy.dtype.type((self.high - self.low) / 255)
