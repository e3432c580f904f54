"""Padding as a layer of its own, for what the padding of windows cannot say."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, final

import numpy as np

from rot180.arrays import Array, Shape, number
from rot180.chance import Training
from rot180.convolve import Padding, Pads, resolve_padding
from rot180.errors import SettingError, ShapeError
from rot180.layers.layer import Layer, Parameters, maps

Mode: TypeAlias = Literal["constant", "edge", "reflect", "wrap"]
MODES: tuple[Mode, ...] = ("constant", "edge", "reflect", "wrap")


class Saved(NamedTuple):
    shape: Shape  # (N,C,H,W)


@final
@dataclass(frozen=True)
class Pad(Layer):
    """y = x with rows and columns around each map

    x (N,C,H,W) -> y (N, C, H+top+bottom, W+left+right). mode: "constant", all `value`; "edge", the rim repeated;
    "reflect", mirrored at the rim; "wrap", the other side. No parameters; the same in training and inference.
    Backward: every x receives the dy of all the places where it stands. Raises ShapeError for a mirror or another side
    that is too small. Zeros are better given to the convolution or pooling behind it.
    """

    padding: Padding
    value: float = 0.0
    mode: Mode = "constant"

    linear = True  # a constant apart

    def __post_init__(self) -> None:
        number(self.value, "value")
        if self.mode not in MODES:
            raise SettingError(f"mode is {self.mode!r}: choose one of {', '.join(MODES)}")
        if isinstance(self.padding, str):
            raise SettingError(f"padding is {self.padding!r}: give numbers")

    def pads(self, shape: Shape) -> Pads:
        """((top, bottom), (left, right)) for maps of this shape."""
        return resolve_padding(self.padding, (shape[1], shape[2]), (1, 1), (1, 1), (1, 1))

    def output_shape(self, shape: Shape) -> Shape:
        channels, *sizes = maps(shape, "padding")
        most = {"reflect": -1, "wrap": 0}.get(self.mode)
        pads = self.pads(shape)
        for size, sides in zip(sizes, pads, strict=True):
            if most is not None and max(sides) > size + most:
                raise ShapeError(f"padding {max(sides)} is more than {size} pixels can {self.mode}: pad less")
        return channels, *(size + sum(sides) for size, sides in zip(sizes, pads, strict=True))

    def sources(self, shape: Shape) -> tuple[Array, Array]:
        """The row and the column of x at each row and column of y, numbered from 1; 0 where it is the constant."""
        settings = {"constant_values": 0} if self.mode == "constant" else {}
        rows, columns = (
            np.pad(np.arange(1, size + 1), sides, mode=self.mode, **settings)  # type: ignore[call-overload]
            for size, sides in zip(shape[1:], self.pads(shape), strict=True)
        )
        return rows, columns

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        rows, columns = self.sources(x.shape[1:])
        y = x[..., np.maximum(rows - 1, 0)[:, None], np.maximum(columns - 1, 0)]
        y[..., (rows[:, None] == 0) | (columns == 0)] = self.value
        return y, Saved(x.shape)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        """With R[i,s] = 1 where row i of y is row s of x, and C likewise, y = R x Cᵀ and dx = Rᵀ dy C."""
        r, c = (
            (sources[:, None] == np.arange(1, size + 1)).astype(dy.dtype)
            for sources, size in zip(self.sources(saved.shape[1:]), saved.shape[2:], strict=True)
        )
        return np.asarray(r.T @ dy @ c)  # (H,OH) @ (N,C,OH,OW) @ (OW,W) -> (N,C,H,W)
