"""The images of a data set that a network gets most wrong."""

from typing import NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.data.dataset import Dataset
from rot180.data.preparation import Preparation
from rot180.network import Network

MOST = 24


class Mistake(NamedTuple):
    """An image that the network gets wrong."""

    position: int  # in the data set
    name: str
    true: str
    said: str
    probability: float  # of what it says
    of_true: float  # of what is right


class Mistakes:
    """Collects them while a network is measured: network.evaluate(dataset, mistakes.note)."""

    def __init__(self, dataset: Dataset, class_names: tuple[str, ...], most: int = MOST) -> None:
        """class_names: the network's. most: so many are kept, those it holds the true class to be least likely for."""
        self._dataset, self._class_names, self._most = dataset, class_names, most
        self._found: list[tuple[float, int, Array]] = []

    def note(self, part: slice, probabilities: Array) -> None:
        """Keep the mistakes among these images: probabilities (n,K)."""
        labels = self._dataset.labels[part]
        of_true = probabilities[np.arange(len(labels)), labels]
        wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
        self._found += [(float(of_true[k]), part.start + int(k), probabilities[k]) for k in wrong]
        self._found = sorted(self._found, key=lambda each: each[:2])[: self._most]

    def worst(self) -> list[Mistake]:
        """Those first whose true class the network holds to be least likely."""
        return [
            Mistake(
                position,
                self._dataset.name_of(position),
                self._class_names[int(self._dataset.labels[position])],
                self._class_names[int(probabilities.argmax())],
                float(probabilities.max()),
                of_true,
            )
            for of_true, position, probabilities in self._found
        ]


def worst_mistakes(
    network: Network, dataset: Dataset, preparation: Preparation | None = None, most: int = MOST
) -> list[Mistake]:
    """What Mistakes finds in the data set. preparation: what is done to images before the network sees them."""
    found = Mistakes(dataset, network.class_names, most)
    network.evaluate(preparation.apply_to(dataset) if preparation else dataset, found.note)
    return found.worst()
