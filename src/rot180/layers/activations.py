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


@final
@dataclass(frozen=True)
class ELU(Activation):
    """f(x) = λx where x > 0, else λα(e^x - 1); f'(x) = λ or f + λα. Clevert, Unterthiner and Hochreiter 2016.

    With SELU_SCALE and SELU_ALPHA the values of a deep network keep mean 0 and variance 1 by themselves: the SELU of
    Klambauer et al. 2017.
    """

    alpha: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        number(self.alpha, "alpha")
        number(self.scale, "scale")

    def function(self, x: Array) -> Array:
        alpha, scale = x.dtype.type(self.alpha), x.dtype.type(self.scale)
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))

    def slope(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, self.scale, y + self.scale * self.alpha)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@final
@dataclass(frozen=True)
class Softplus(Activation):
    """f(x) = log(1 + e^x), a ReLU without its corner; f'(x) = 1 - e^-f, the sigmoid. Dugas et al. 2001."""

    def function(self, x: Array) -> Array:
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))  # never overflows

    def slope(self, x: Array, y: Array) -> Array:
        return -np.expm1(-y)


@final
@dataclass(frozen=True)
class Clip(Activation):
    """f(x) = min(max(x, low), high), f'(x) = 1 between them, else 0; None: no limit on that side.

    Clip(0, 6) is the ReLU6 of networks for small devices. Krizhevsky 2010.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                number(getattr(self, name), name)

    def function(self, x: Array) -> Array:
        y = x if self.low is None else np.maximum(x, x.dtype.type(self.low))
        return y if self.high is None else np.minimum(y, x.dtype.type(self.high))  # where low > high, high

    def slope(self, x: Array, y: Array) -> Array:
        above = x > (-np.inf if self.low is None else self.low)
        return above & (x < (np.inf if self.high is None else self.high))


@final
@dataclass(frozen=True)
class HardSigmoid(Activation):
    """f(x) = min(max(gain·x + offset, 0), 1), f'(x) = gain between them, else 0. Courbariaux et al. 2015."""

    gain: float = 0.2
    offset: float = 0.5

    def __post_init__(self) -> None:
        number(self.gain, "gain")
        number(self.offset, "offset")

    def function(self, x: Array) -> Array:
        return np.clip(x.dtype.type(self.gain) * x + x.dtype.type(self.offset), 0, 1)

    def slope(self, x: Array, y: Array) -> Array:
        return np.where((y > 0) & (y < 1), x.dtype.type(self.gain), x.dtype.type(0))


@final
@dataclass(frozen=True)
class HardSwish(Activation):
    """f(x) = x · min(max(x/6 + 1/2, 0), 1); f'(x) = 0 below -3, 1 above 3, x/3 + 1/2 between. Howard et al. 2019."""

    def function(self, x: Array) -> Array:
        return x * np.clip(x / 6 + x.dtype.type(0.5), 0, 1)

    def slope(self, x: Array, y: Array) -> Array:
        return np.where(np.abs(x) < 3, x / 3 + x.dtype.type(0.5), x >= 3)
