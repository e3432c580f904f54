"""The ReLU whose slope below zero is learned."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape
from rot180.chance import Training
from rot180.layers.affine import check_fits, check_shape, summed
from rot180.layers.layer import Layer, Parameters


class Saved(NamedTuple):
    x: Array
    a: Array


@final
@dataclass(frozen=True)
class ParametricReLU(Layer):
    """y = x where x > 0, else a ⊙ x

    x (N, *S) -> y of the same shape; a of `shape`, which has an axis for each of S, of its size or of 1: (C,1,1) for
    one slope a map. The same in training and inference. Backward: dx = dy where x > 0, else a ⊙ dy; da = x ⊙ dy where
    x <= 0, summed over images and the axes of size 1. Raises ShapeError where `shape` does not fit.
    He, Zhang, Ren and Sun 2015, who start at 0.25.
    """

    shape: Shape

    def __post_init__(self) -> None:
        check_shape(self.shape)

    @property
    def initial_values(self) -> dict[str, float]:
        return {"a": 0.25}

    def output_shape(self, shape: Shape) -> Shape:
        return check_fits(self.shape, shape)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"a": self.shape}

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        a = parameters["a"]
        return np.where(x > 0, x, a * x), Saved(x, a)

    def parameter_gradients(self, dy: Array, saved: Saved) -> dict[str, Array]:
        return {"a": summed(dy * np.minimum(saved.x, 0), self.shape)}

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return np.where(saved.x > 0, dy, saved.a * dy)
