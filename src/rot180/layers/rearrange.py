"""Values in another order or another shape, none changed: their gradients go back the way they came."""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape, text, whole
from rot180.chance import Training
from rot180.errors import SettingError, ShapeError
from rot180.layers.affine import check_shape
from rot180.layers.layer import Layer, Parameters, maps


class Saved(NamedTuple):
    shape: Shape  # of x


@final
@dataclass(frozen=True)
class Reshape(Layer):
    """y = x, read in the same order, as (N, *shape)

    No parameters; the same in training and inference. Backward: dx = dy in the shape of x. Raises ShapeError where the
    shapes have different numbers of values.
    """

    shape: Shape

    linear = True

    def __post_init__(self) -> None:
        check_shape(self.shape)

    def output_shape(self, shape: Shape) -> Shape:
        if prod(shape) != prod(self.shape):
            raise ShapeError(f"{text(shape)} cannot be read as {text(self.shape)}: the numbers of values differ")
        return self.shape

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        return x.reshape(len(x), *self.shape), Saved(x.shape)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return dy.reshape(saved.shape)


@final
@dataclass(frozen=True)
class Transpose(Layer):
    """Axis k of y is axis axes[k] of x, counted without the images' own

    Transpose((2, 0, 1)) makes maps of pixels whose colours lie together: (H,W,C) -> (C,H,W). No parameters; the same in
    training and inference. Backward: the axes go back. Raises ShapeError where x has another number of axes.
    """

    axes: tuple[int, ...]

    linear = True

    def __post_init__(self) -> None:
        if not isinstance(self.axes, tuple) or sorted(self.axes) != list(range(len(self.axes))):
            raise SettingError(f"axes are {self.axes!r}: give a tuple with each of 0, 1, ... once")

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.axes):
            raise ShapeError(f"an input of {text(shape)} has not the {len(self.axes)} axes to exchange")
        return tuple(shape[axis] for axis in self.axes)

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        return np.ascontiguousarray(x.transpose(0, *(axis + 1 for axis in self.axes))), Saved(x.shape)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return np.ascontiguousarray(dy.transpose(0, *(int(axis) + 1 for axis in np.argsort(self.axes))))


@final
@dataclass(frozen=True)
class ChannelShuffle(Layer):
    """y[n, k·G + g] = x[n, g·(C/G) + k]

    x (N,C,...) -> y of the same shape; the maps of G groups, dealt out in turn, so that the next convolution in groups
    sees some of each. No parameters; the same in training and inference. Backward: the maps go back. Raises ShapeError
    where the groups do not divide the maps. Zhang, Zhou, Lin and Sun 2018 (ShuffleNet).
    """

    groups: int

    linear = True

    def __post_init__(self) -> None:
        whole(self.groups, "groups")

    def output_shape(self, shape: Shape) -> Shape:
        if maps(shape, "a channel shuffle")[0] % self.groups:
            raise ShapeError(f"{shape[0]} channels cannot be shared out among {self.groups} groups")
        return shape

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        return _dealt(x, self.groups), Saved(x.shape)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return _dealt(dy, saved.shape[1] // self.groups)


def _dealt(x: Array, groups: int) -> Array:
    """(N, G·K, ...): map k of group g goes to k·G + g."""
    return np.asarray(x.reshape(len(x), groups, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape))
