"""Optimisers: from a gradient to the next parameters, on the flat vector. (D3)"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Protocol

import numpy as np

from rot180.arrays import Array
from rot180.errors import SettingError


class Optimizer(Protocol):
    """An update rule. What it remembers are `slots` vectors as long as the parameters, zero at the start."""

    @property
    def slots(self) -> int:
        """How many vectors it remembers."""
        ...

    def update(
        self, parameters: Array, gradient: Array, memory: Array, rate: float, decayed: Sequence[slice], step: int
    ) -> None:
        """Write the next parameters and memory (slots, size) over the old.

        decayed: the parts of the vector that weight decay acts on. step: the update's number, from 1.
        """
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum m and weight decay λ, at learning rate η:

        g = ∂L/∂p + λ p,   v <- m v + g,   p <- p - η v        (Nesterov: p - η (g + m v))

    m = 0 and λ = 0 is the plain rule of the seeds. Weight decay pulls weights, not biases and scales, towards 0.
    Polyak 1964; Nesterov 1983; Sutskever et al. 2013.
    """

    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4

    slots: ClassVar[int] = 1
    usual_rate: ClassVar[float] = 0.05

    def __post_init__(self) -> None:
        _check_share("momentum", self.momentum)
        _check_weight_decay(self.weight_decay)

    def update(
        self, parameters: Array, gradient: Array, memory: Array, rate: float, decayed: Sequence[slice], step: int
    ) -> None:
        """One step of the rule above."""
        g = gradient.copy()
        for part in decayed:
            g[part] += self.weight_decay * parameters[part]
        velocity = memory[0]
        velocity *= self.momentum
        velocity += g
        parameters -= rate * (g + self.momentum * velocity if self.nesterov else velocity)


@dataclass(frozen=True)
class Adam:
    """Each parameter by its own measure: steps of about η, however large or small its gradients are.

        g = ∂L/∂p + λ p,   m <- β1 m + (1 - β1) g,   v <- β2 v + (1 - β2) g²
        p <- p - η m̂ / (√v̂ + ε),   m̂ = m/(1 - β1^t),   v̂ = v/(1 - β2^t)

    t counts the updates from 1: the hats make up for m and v having begun at 0. Kingma and Ba 2015.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    slots: ClassVar[int] = 2
    usual_rate: ClassVar[float] = 0.001
    decoupled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_share("beta1", self.beta1)
        _check_share("beta2", self.beta2)
        if not 0 < self.epsilon < float("inf"):
            raise SettingError(f"epsilon is {self.epsilon}: choose a number above 0, such as 1e-8")
        _check_weight_decay(self.weight_decay)

    def update(
        self, parameters: Array, gradient: Array, memory: Array, rate: float, decayed: Sequence[slice], step: int
    ) -> None:
        """One step of the rule above."""
        g = gradient.copy()
        for part in decayed:
            if self.decoupled:
                parameters[part] *= 1 - rate * self.weight_decay
            else:
                g[part] += self.weight_decay * parameters[part]
        m, v = memory
        m *= self.beta1
        m += (1 - self.beta1) * g
        v *= self.beta2
        v += (1 - self.beta2) * g * g
        first, second = self.corrections(step)
        parameters -= rate * first * m / (np.sqrt(v) * second + self.epsilon)

    def corrections(self, step: int) -> tuple[float, float]:
        """m̂/m and √(v̂/v) at this update."""
        return 1 / (1 - self.beta1**step), 1 / sqrt(1 - self.beta2**step)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with weight decay beside the gradient, not in it: p <- (1 - η λ) p, then Adam's step with λ = 0.

    In Adam, a weight with large gradients is hardly pulled towards 0; here all are alike. Loshchilov and Hutter 2019.
    """

    weight_decay: float = 0.01

    decoupled: ClassVar[bool] = True


OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise SettingError(f"{name} is {value}: choose a number from 0 to below 1")


def _check_weight_decay(value: float) -> None:
    if not 0 <= value < float("inf"):
        raise SettingError(f"weight decay is {value}: choose a number from 0, such as 0.0005")
