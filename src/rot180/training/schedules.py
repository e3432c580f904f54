"""Learning-rate schedules: the factor on the learning rate after a share of the training. (D3)

A schedule is a function of progress alone, from 0 at the first step to 1 at the end, so that it means the same for
any batch size and any number of epochs. Adaptive is the exception: it looks at how the error goes.
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


@dataclass(frozen=True)
class OneCycle:
    """From `first` up to 1 over a share `rise` of the training, then down to `last`, both along half a cosine.

    One long rise to a large rate, and one long fall. The momentum stays as it is. Smith and Topin 2018.
    """

    rise: float = 0.3
    first: float = 1 / 25
    last: float = 1 / 250_000

    def __post_init__(self) -> None:
        if not 0 < self.rise < 1:
            raise SettingError(f"the rise is {self.rise}: choose a share of the training between 0 and 1")
        if not (0 < self.first <= 1 and 0 < self.last <= 1):
            raise SettingError(f"a one-cycle schedule begins and ends at factors in (0, 1], not {self}")

    def __call__(self, progress: float) -> float:
        if progress < self.rise:
            return _half_cosine(self.first, 1.0, progress / self.rise)
        return _half_cosine(1.0, self.last, (progress - self.rise) / (1 - self.rise))


def _half_cosine(start: float, end: float, share: float) -> float:
    """From start to end, level at both."""
    return end + (start - end) * (1 + cos(pi * share)) / 2


@dataclass(frozen=True)
class Adaptive:
    """The rate that adjusts itself (seed 002): after each epoch it grows where the training loss L has fallen, and
    shrinks where L has risen by more than `tolerance`:

        η <- grow η    if L < L',        η <- shrink η    if L > tolerance L',        L' the epoch's before

    With whole-batch training every update is an epoch: the rule of Vogl et al. 1988 ("bold driver"), but that an
    update which raised the loss is kept. The factor so far is part of the checkpoint.
    """

    grow: float = 1.05
    shrink: float = 0.7
    tolerance: float = 1.04

    def __post_init__(self) -> None:
        if not (1 <= self.grow < float("inf") and 0 < self.shrink <= 1 and 1 <= self.tolerance < float("inf")):
            raise SettingError(f"an adaptive rate grows and tolerates by 1 or more, shrinks by 1 or less, not {self}")

    def __call__(self, progress: float) -> float:
        return 1.0

    def change(self, loss: float, before: float) -> float:
        """What to multiply the rate with after an epoch with this mean loss."""
        if loss < before:
            return self.grow
        return self.shrink if loss > self.tolerance * before else 1.0


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "steps": Steps,
    "exponential": Exponential,
    "cosine": Cosine,
    "one-cycle": OneCycle,
    "adaptive": Adaptive,
}
