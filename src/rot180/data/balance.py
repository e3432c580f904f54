"""Balance: as many images of each class, by leaving some out or by adding noisy copies.                         (D5)

Seed 002: a network trained on more of one class leans towards it. "Removal" keeps as many of every class as the rarest
has; "duplication" brings every class up to the most frequent one with copies that random noise was added to.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rot180.arrays import Array, number
from rot180.chance import Use, key, normal, permutation
from rot180.data.dataset import Dataset
from rot180.errors import DataError, SettingError

WAYS = ("remove", "duplicate")
LARGEST_PIXEL = 255
NOISE = 5.0  # standard deviation, in pixel values of 0..255


@dataclass(frozen=True)
class BalanceReport:
    """What balancing did."""

    way: str
    class_names: tuple[str, ...]
    before: tuple[int, ...]  # images of each class
    after: tuple[int, ...]
    noise: float | None  # of the copies; None where images were left out

    def __str__(self) -> str:
        done = "left out" if self.way == "remove" else f"added as copies with noise of deviation {self.noise:g}"
        changed = sum(abs(after - before) for before, after in zip(self.before, self.after, strict=True))
        counts = ", ".join(
            f"{name} {before:,} -> {after:,}"
            for name, before, after in zip(self.class_names, self.before, self.after, strict=True)
            if before != after
        )
        return f"balance: {changed:,} images {done}" + (f" ({counts})" if counts else "")

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def balance(dataset: Dataset, way: str, seed: int = 0, noise: float = NOISE) -> tuple[Dataset, BalanceReport]:
    """The data set with as many images of each class that it has any of, and what was done.

    way: "remove" or "duplicate". noise: the standard deviation of what is added to each pixel of a copy, rounded and
    kept in 0..255 where pixels are bytes. What is chosen, and the noise, belong to the seed. Images keep their order,
    copies come behind them. Raises SettingError for another way, DataError where there are no images.
    """
    if way not in WAYS:
        raise SettingError(f"there is no balancing by {way!r}: choose one of {', '.join(WAYS)}")
    if number(noise, "noise") < 0:
        raise SettingError(f"noise is {noise:g}: choose a standard deviation of at least 0")
    before = np.bincount(dataset.labels, minlength=len(dataset.class_names))
    if not len(dataset):
        raise DataError(f"{dataset.name}: there are no images to balance")
    order = permutation(len(dataset), Use.BALANCE, seed)
    members = [order[dataset.labels[order] == label] for label in np.flatnonzero(before)]
    if way == "remove":
        fewest = min(len(each) for each in members)
        balanced = dataset.take(np.sort(np.concatenate([each[:fewest] for each in members])))
    else:
        most = max(len(each) for each in members)
        balanced = _with_copies(dataset, np.concatenate([_more(each, most) for each in members]), seed, noise)
    after = np.bincount(balanced.labels, minlength=len(before))
    report = BalanceReport(
        way,
        dataset.class_names,
        tuple(before.tolist()),
        tuple(after.tolist()),
        float(noise) if way == "duplicate" else None,
    )
    return balanced, report


def _more(members: Array, count: int) -> Array:
    """Which are copied to have so many: each as often as the others, to one."""
    return np.resize(members, count - len(members)) if count > len(members) else members[:0]


def _with_copies(dataset: Dataset, sources: Array, seed: int, noise: float) -> Dataset:
    """The images, and behind them noisy copies; copy k draws from its own address."""
    images = dataset.images
    if images.dtype.kind != "f" and images.dtype != np.uint8:
        images = images.astype(np.float32)
    copies = np.empty((len(sources), *dataset.shape), images.dtype)
    for k, source in enumerate(sources):
        values = images[source] + noise * normal(key(Use.BALANCE, seed, 1, k), images[0].size).reshape(dataset.shape)
        copies[k] = np.clip(np.rint(values), 0, LARGEST_PIXEL) if images.dtype == np.uint8 else values
    labels = np.concatenate([dataset.labels, dataset.labels[sources]])
    names = None if dataset.names is None else np.concatenate([dataset.names, dataset.names[sources]])
    return Dataset(np.concatenate([images, copies]), labels, dataset.class_names, dataset.name, names=names)
