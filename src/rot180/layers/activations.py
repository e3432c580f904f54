"""The activations: y = f(x), entry by entry; dx = dy ⊙ f'(x). (B5)

Where f' can be had from y, y is saved instead of x: σ' = σ(1-σ), tanh' = 1-tanh². Softmax, the one that is not
entry by entry, has a file of its own.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape, number
from rot180.chance import Training
from rot180.layers.layer import Layer, Parameters


class Saved(NamedTuple):
    x: Array
    y: Array


@dataclass(frozen=True)
class Activation(Layer):
    """y = f(x), any shape; no parameters; the same in training and inference."""

    @abstractmethod
    def function(self, x: Array) -> Array:
        """f(x)."""

    @abstractmethod
    def slope(self, x: Array, y: Array) -> Array:
        """f'(x), from x or from y = f(x)."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        y = self.function(x)
        return y, Saved(x, y)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return np.multiply(dy, self.slope(saved.x, saved.y), dtype=dy.dtype)


@final
@dataclass(frozen=True)
class Identity(Activation):
    """f(x) = x, f'(x) = 1."""

    linear = True

    def function(self, x: Array) -> Array:
        return x

    def slope(self, x: Array, y: Array) -> Array:
        return np.ones_like(x)


@final
@dataclass(frozen=True)
class ReLU(Activation):
    """f(x) = max(0, x), f'(x) = 1 where x > 0, else 0. Nair and Hinton 2010."""

    def function(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def slope(self, x: Array, y: Array) -> Array:
        return x > 0


@final
@dataclass(frozen=True)
class LeakyReLU(Activation):
    """f(x) = x where x > 0, else αx; f'(x) = 1 or α. Seed 003 has α = 0.1."""

    negative_slope: float = 0.1

    def __post_init__(self) -> None:
        number(self.negative_slope, "negative_slope")

    def function(self, x: Array) -> Array:
        return np.where(x > 0, x, x.dtype.type(self.negative_slope) * x)

    def slope(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, x.dtype.type(1), x.dtype.type(self.negative_slope))


@final
@dataclass(frozen=True)
class Sigmoid(Activation):
    """f(x) = 1/(1 + e^-x), f'(x) = f(1 - f), at most 1/4: why deep sigmoid networks learn slowly (seed 004)."""

    def function(self, x: Array) -> Array:
        small = np.exp(-np.abs(x))  # never overflows
        return np.where(x >= 0, 1, small) / (1 + small)

    def slope(self, x: Array, y: Array) -> Array:
        return y * (1 - y)


@final
@dataclass(frozen=True)
class Tanh(Activation):
    """f(x) = tanh x, f'(x) = 1 - f²."""

    def function(self, x: Array) -> Array:
        return np.tanh(x)

    def slope(self, x: Array, y: Array) -> Array:
        return 1 - y * y


AMPLITUDE, STEEPNESS = 1.7159, 2 / 3


@final
@dataclass(frozen=True)
class ScaledTanh(Activation):
    """f(x) = A tanh(Sx), A = 1.7159, S = 2/3; f'(x) = S(A - f²/A): LeNet-5's squashing function.

    f(1) = 1 and f(-1) = -1: targets of ±1 lie where the curve bends most, not where it is flat. LeCun et al. 1998.
    """

    def function(self, x: Array) -> Array:
        return AMPLITUDE * np.tanh(STEEPNESS * x)

    def slope(self, x: Array, y: Array) -> Array:
        return STEEPNESS * (AMPLITUDE - y * y / AMPLITUDE)
