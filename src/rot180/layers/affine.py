"""Scaling and shifting: one learned weight and bias for each map, or each pixel, or for all."""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape, flag, text, whole
from rot180.chance import Training
from rot180.errors import SettingError, ShapeError
from rot180.layers.layer import Cost, Layer, Parameters


class Saved(NamedTuple):
    x: Array
    w: Array | None


@final
@dataclass(frozen=True)
class Affine(Layer):
    """y = w ⊙ x + b

    x (N, *S) -> y of the same shape; w, b of `shape`, which has an axis for each of S, of its size or of 1: (C,1,1) for
    one number a map, (C,H,W) for one a value. The same in training and inference. Without `scale` w is 1, without
    `shift` b is 0. Backward: dx = w ⊙ dy; dw = x ⊙ dy and db = dy, summed over images and the axes of size 1.
    Raises ShapeError where `shape` does not fit. Caffe's "scale" layer, which stands behind its batch normalization.
    """

    shape: Shape
    scale: bool = True
    shift: bool = True

    linear = True

    def __post_init__(self) -> None:
        check_shape(self.shape)
        if not (flag(self.scale, "scale") | flag(self.shift, "shift")):
            raise SettingError("an affine layer scales, or shifts, or does both: this one does neither")

    @property
    def initial_values(self) -> dict[str, float]:
        return {"w": 1.0, "b": 0.0}

    def output_shape(self, shape: Shape) -> Shape:
        return check_fits(self.shape, shape)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {name: self.shape for name, has in (("w", self.scale), ("b", self.shift)) if has}

    def cost(self, shape: Shape) -> Cost:
        values = prod(shape)
        return Cost(connections=(self.scale + self.shift) * values, multiply_adds=self.scale * values)

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        w = parameters["w"] if self.scale else None
        y = x if w is None else x * w
        return (y + parameters["b"] if self.shift else y), Saved(x, w)

    def parameter_gradients(self, dy: Array, saved: Saved) -> dict[str, Array]:
        gradients = {"b": summed(dy, self.shape)} if self.shift else {}
        return {"w": summed(dy * saved.x, self.shape), **gradients} if self.scale else gradients

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return dy if saved.w is None else dy * saved.w


def check_shape(shape: Shape) -> None:
    """SettingError unless it is a tuple of sizes."""
    if not (isinstance(shape, tuple) and shape):
        raise SettingError(f"shape is {shape!r}: give a tuple of sizes, such as (channels, 1, 1)")
    for size in shape:
        whole(size, "a size of the shape")


def check_fits(shape: Shape, x: Shape) -> Shape:
    """The shape of x; ShapeError unless parameters of `shape` have an axis for each of its axes."""
    if len(shape) != len(x) or any(size not in (1, of_x) for size, of_x in zip(shape, x, strict=True)):
        raise ShapeError(f"parameters of {text(shape)} do not fit an input of {text(x)}: give each axis its size, or 1")
    return x


def summed(values: Array, shape: Shape) -> Array:
    """(N, *S) summed over images and wherever `shape`, with an axis for each of S, has size 1."""
    axes = tuple(axis for axis, size in enumerate(shape, start=1) if size == 1)
    return np.asarray(values.sum(axis=(0, *axes)).reshape(shape))
