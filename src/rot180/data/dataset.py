"""Labelled images, in memory or mapped from a file."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from rot180.arrays import Array, Shape, text
from rot180.chance import Use, permutation
from rot180.data.mapped_rows import MappedRows
from rot180.errors import DataError, SettingError

AT_ONCE = 1024  # images looked at together: they may lie in a file larger than memory
SHOWN_CLASSES = 12  # in a notebook


@dataclass(frozen=True)
class Dataset:
    """images (N,C,H,W), pixels 0..255 as uint8 or numbers as float; labels (N,) in 0..K-1; K class names.

    images may be MappedRows of a file: then they are read as they are needed, and so are parts of the data.
    report: what the loader has to say of where they come from, as plain values for results.json.
    names (N,): what each image is called, as its file; they go with their images through `take` and `split`.
    Raises DataError, naming the first offender, where labels do not fit the images or the classes, and where a
    number is NaN or infinite.
    """

    images: Array
    labels: Array
    class_names: tuple[str, ...]
    name: str = "data"
    report: dict[str, Any] | None = None
    names: Array | None = None

    def __post_init__(self) -> None:
        images = self.images if isinstance(self.images, MappedRows) else np.asarray(self.images)
        labels = np.asarray(self.labels)
        if images.ndim != 4:
            raise DataError(f"{self.name}: images have shape {images.shape}; give (images, channels, height, width)")
        if labels.shape != images.shape[:1]:
            raise DataError(f"{self.name}: {len(images)} images but labels of shape {labels.shape}; give one per image")
        if images.dtype.kind not in "uif" or labels.dtype.kind not in "ui":
            raise DataError(
                f"{self.name}: images are {images.dtype}, labels {labels.dtype}; give numbers, and whole ones as labels"
            )
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))
        if wrong.size:
            raise DataError(
                f"{self.name}: image {wrong[0]} has label {labels[wrong[0]]}, but there are "
                f"{len(self.class_names)} classes, 0 to {len(self.class_names) - 1}"
            )
        if self.names is not None:
            names = np.asarray(self.names, object)  # of strings that exist once, whatever takes of them there are
            if names.shape != labels.shape:
                raise DataError(f"{self.name}: {len(images)} images but names of shape {names.shape}; give one each")
            object.__setattr__(self, "names", names)
        for first in range(0, len(images) if images.dtype.kind == "f" else 0, AT_ONCE):
            finite = np.isfinite(images[first : first + AT_ONCE]).all(axis=(1, 2, 3))
            if not finite.all():
                bad = first + int(np.argmin(finite))
                raise DataError(f"{self.name}: image {bad} holds a number that is NaN or infinite")
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> Shape:
        """(C, H, W) of one image."""
        return tuple(self.images.shape[1:])

    def take(self, indices: Array | slice) -> "Dataset":
        """The images at these positions."""
        images = self.images.take(indices) if isinstance(self.images, MappedRows) else self.images[indices]
        names = None if self.names is None else self.names[indices]
        return replace(self, images=images, labels=self.labels[indices], names=names)

    def name_of(self, position: int) -> str:
        """What the image there is called: by its number, where it has no name."""
        return f"image {position}" if self.names is None else str(self.names[position])

    def _repr_html_(self) -> str:
        """What it holds and its first images of each class, for notebooks."""
        from rot180 import notebook

        counts = np.bincount(self.labels, minlength=len(self.class_names))
        line = f"{self.name}: {len(self):,} images {text(self.shape)}, {len(self.class_names)} classes"
        first = [int(np.argmax(self.labels == label)) for label in np.flatnonzero(counts)[:SHOWN_CLASSES]]
        captions = [f"{self.class_names[self.labels[at]]}: {counts[self.labels[at]]:,}" for at in first]
        return notebook.paragraph(line) + notebook.thumbnails(self.images[first], captions)

    def check_fits(self, shape: Shape, classes: int) -> None:
        """Raise DataError unless a network for images of this shape and so many classes can take the data."""
        if self.shape != shape:
            raise DataError(
                f"{self.name}: images are {text(self.shape)}, but the network takes {text(shape)}; "
                "choose another network or resize the images"
            )
        if len(self.class_names) > classes:
            raise DataError(
                f"{self.name}: there are {len(self.class_names)} classes, but the network tells only {classes} apart"
            )


def content_digest(dataset: Dataset) -> str:
    """SHA-256 of the images and labels: what tells them from others."""
    digest = hashlib.sha256(f"{dataset.images.shape} {dataset.images.dtype}".encode())
    for first in range(0, len(dataset), AT_ONCE):
        digest.update(np.ascontiguousarray(dataset.images[first : first + AT_ONCE]).data)
    digest.update(np.ascontiguousarray(dataset.labels).data)
    return digest.hexdigest()


class Sets(NamedTuple):
    """What to learn from, and what to be tested on once, at the end."""

    train: Dataset
    test: Dataset


def split(dataset: Dataset, shares: Sequence[float], seed: int = 0) -> list[Dataset]:
    """Parts with these shares of every class, drawn by the seed; what the shares leave goes to the first.  (D5)

    The images of a part keep their order. Raises SettingError unless the shares are at least 0 and at most 1 together.
    """
    if not shares or min(shares) < 0 or not sum(shares) <= 1 + 1e-9:
        raise SettingError(f"shares {list(shares)} cannot split a data set: give numbers from 0 that sum to at most 1")
    part = np.zeros(len(dataset), np.int64)
    order = permutation(len(dataset), Use.SPLIT, seed)
    for label in range(len(dataset.class_names)):
        members = order[dataset.labels[order] == label]
        ends = np.rint(np.cumsum(shares[::-1]) * len(members)).astype(int)
        for index, end in reversed(list(enumerate(ends))):
            part[members[:end]] = len(shares) - 1 - index
        part[members[ends[-1] :]] = 0
    return [dataset.take(np.flatnonzero(part == index)) for index in range(len(shares))]


def split_65_25_10(dataset: Dataset, seed: int = 0) -> tuple[Dataset, Dataset, Dataset]:
    """65 % to train on, 25 % to test on, 10 % to validate on, of every class: seed 002, after Looney 1996.    (D5)"""
    train, test, validation = split(dataset, [0.65, 0.25, 0.1], seed)
    return train, test, validation
