"""Learning-rate schedules: the factor on the learning rate after a share of the training. (D3)

A schedule is a function of progress alone, from 0 at the first step to 1 at the end, so that it means the same for
any batch size and any number of epochs.
"""

from dataclasses import dataclass
from math import cos, pi
from typing import Protocol

from rot180.errors import SettingError


class Schedule(Protocol):
    """progress in [0, 1] -> the factor on the learning rate."""

    def __call__(self, progress: float) -> float:
        """The factor."""
        ...


@dataclass(frozen=True)
class Constant:
    """1 all along."""

    def __call__(self, progress: float) -> float:
        return 1.0


@dataclass(frozen=True)
class Steps:
    """factor^k after the k-th of `at`: for instance a tenth at half and at three quarters (He et al. 2016)."""

    factor: float = 0.1
    at: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self) -> None:
        if not 0 < self.factor <= 1 or any(not 0 < share < 1 for share in self.at):
            raise SettingError(f"a step schedule needs a factor in (0, 1] and places in (0, 1), not {self}")

    def __call__(self, progress: float) -> float:
        return float(self.factor ** sum(progress >= share for share in self.at))


@dataclass(frozen=True)
class Exponential:
    """final^progress: the same ratio from step to step, down to `final`."""

    final: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.final <= 1:
            raise SettingError(f"an exponential schedule ends at a factor in (0, 1], not {self.final}")

    def __call__(self, progress: float) -> float:
        return float(self.final**progress)


@dataclass(frozen=True)
class Cosine:
    """(1 + cos(π progress))/2, with a linear rise over the first `warmup` of it. Loshchilov and Hutter 2017."""

    warmup: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise SettingError(f"warmup is {self.warmup}: choose a share of the training from 0 to below 1")

    def __call__(self, progress: float) -> float:
        rise = min(1.0, progress / self.warmup) if self.warmup else 1.0
        return rise * (1 + cos(pi * progress)) / 2


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "steps": Steps,
    "exponential": Exponential,
    "cosine": Cosine,
}
