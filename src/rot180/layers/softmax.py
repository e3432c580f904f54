"""Softmax: scores to probabilities."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape
from rot180.chance import Training
from rot180.layers.layer import Layer, Parameters


def softmax(z: Array) -> Array:
    """e^z_k / Σ_j e^z_j over axis 1; the largest z is taken off first, so that nothing overflows."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


class Saved(NamedTuple):
    y: Array


@final
@dataclass(frozen=True)
class Softmax(Layer):
    """y[n,k] = e^x[n,k] / Σ_j e^x[n,j]                                                                     (B5)

    x (N,K), or maps (N,K,H,W) pixel by pixel -> y of the same shape; no parameters; the same in training and
    inference. Backward: ∂y_k/∂x_i = y_k([i=k] - y_i), hence dx = y ⊙ (dy - Σ_k dy_k y_k).
    As the end of a classifier use SoftmaxCrossEntropy, which has it inside. Bridle 1990.
    """

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        y = softmax(x)
        return y, Saved(y)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        y = saved.y
        return y * (dy - (dy * y).sum(axis=1, keepdims=True))


@final
@dataclass(frozen=True)
class LogSoftmax(Layer):
    """y[n,k] = x[n,k] - log Σ_j e^x[n,j]                                                                   (B5)

    The logarithm of Softmax, without its underflow: shapes as there. Backward: dx = dy - e^y Σ_k dy_k.
    As the end of a classifier use SoftmaxCrossEntropy, which has it inside.
    """

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        shifted = x - x.max(axis=1, keepdims=True)
        y = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return y, Saved(y)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return dy - np.exp(saved.y) * dy.sum(axis=1, keepdims=True)
