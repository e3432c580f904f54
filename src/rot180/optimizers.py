"""Optimisers: from a gradient to the next parameters, on the flat vector. (D3)"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from rot180.arrays import Array
from rot180.errors import SettingError


class Optimizer(Protocol):
    """An update rule. What it remembers are `slots` vectors as long as the parameters, zero at the start."""

    @property
    def slots(self) -> int:
        """How many vectors it remembers."""
        ...

    def update(self, parameters: Array, gradient: Array, memory: Array, rate: float, decayed: Array) -> None:
        """Write the next parameters and memory (slots, size) over the old; weight decay acts where decayed is 1."""
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

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise SettingError(f"momentum is {self.momentum}: choose a number from 0 to below 1")
        if not 0 <= self.weight_decay < float("inf"):
            raise SettingError(f"weight decay is {self.weight_decay}: choose a number from 0, such as 0.0005")

    def update(self, parameters: Array, gradient: Array, memory: Array, rate: float, decayed: Array) -> None:
        """One step of the rule above."""
        g = gradient + (self.weight_decay * decayed).astype(parameters.dtype) * parameters
        velocity = memory[0]
        velocity *= self.momentum
        velocity += g
        parameters -= rate * (g + self.momentum * velocity if self.nesterov else velocity)


OPTIMIZERS: dict[str, type[Optimizer]] = {"SGD": SGD}
