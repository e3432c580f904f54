"""Averages of the parameters over updates: steadier than the last ones, and often better. (D3)

    a <- a + w (p - a)

after an update, with a weight w that the rule below gives; a begins with the first p that it takes up.
"""

from dataclasses import dataclass
from typing import Protocol

from rot180.errors import SettingError


class Averaging(Protocol):
    """A rule of what goes into the average."""

    def weight(self, number: int, progress: float, ends_epoch: bool) -> float:
        """w after an update, or 0 to leave it out.

        number: which this would be of those taken up, from 1. progress: the share of the training that is done then.
        """
        ...


@dataclass(frozen=True)
class ExponentialAverage:
    """w = 1 - decay after every update; 1/k for the first ones, so that those weigh alike until there are enough.

    decay = 0.999 looks back about 1000 updates. Polyak and Juditsky 1992; Tarvainen and Valpola 2017.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise SettingError(f"the average's decay is {self.decay}: choose a number from 0 to below 1")

    def weight(self, number: int, progress: float, ends_epoch: bool) -> float:
        """The w above."""
        return max(1 - self.decay, 1 / number)


@dataclass(frozen=True)
class StochasticWeightAverage:
    """w = 1/k at the end of each epoch behind a share `start` of the training: their plain mean.

    It wants a learning rate that stays up: schedule Constant or Steps. Izmailov et al. 2018.
    """

    start: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise SettingError(f"the average's start is {self.start}: choose a share of the training, below 1")

    def weight(self, number: int, progress: float, ends_epoch: bool) -> float:
        """The w above."""
        return 1 / number if ends_epoch and progress > self.start else 0.0


AVERAGES: dict[str, type[ExponentialAverage] | type[StochasticWeightAverage]] = {
    "exponential": ExponentialAverage,
    "stochastic-weight": StochasticWeightAverage,
}
