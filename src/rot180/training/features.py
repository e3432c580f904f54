"""What the frozen part of a network makes of a training's images: computed once, kept, and mapped into memory.

Images that are varied afresh in every epoch would have to pass through the frozen part in every epoch. So that it runs
once, a fixed number of variants of each image is drawn beforehand, as epochs 0, 1, ... would have them.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, BinaryIO

import numpy as np

from rot180.arrays import Array, Shape
from rot180.data import array_cache
from rot180.data.augmentation import AS_THEY_ARE, Augmentation
from rot180.data.dataset import Dataset, content_digest
from rot180.data.folder import Progress
from rot180.files import digest
from rot180.network import Network
from rot180.transfer import Parts

MOST_KEPT = 1 << 33  # bytes of features in the user's cache folder


def features(
    parts: Parts,
    dataset: Dataset,
    augmentation: Augmentation = AS_THEY_ARE,
    variants: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """The data set as the upper part takes it: `variants` of each image one after the other, all first ones first.

    They are found again by a hash of the frozen part's graph and numbers, the engine, the images, and how these are
    varied. Raises DataError where they cannot be kept.
    """
    variants = variants if augmentation else 1
    passing = _Passing(parts, dataset, augmentation, variants, seed, progress)
    path = array_cache.cache_folder("features") / f"{passing.name()}.npy"
    found = array_cache.stored(path)
    if found is None:
        found = array_cache.store(path, passing)
        array_cache.forget_oldest(path, MOST_KEPT)
    names = None if dataset.names is None else np.tile(dataset.names, variants)
    return replace(dataset, images=found[0], labels=np.tile(dataset.labels, variants), names=names)


class _Passing:
    """Iterating gives the features of each image of each variant."""

    dtype: type[np.generic] = np.float32

    def __init__(
        self,
        parts: Parts,
        dataset: Dataset,
        augmentation: Augmentation,
        variants: int,
        seed: int,
        progress: Progress | None,
    ) -> None:
        self._parts, self._dataset, self._progress = parts, dataset, progress
        self._augmentation, self._variants, self._seed = augmentation, variants, seed
        self.shape: Shape = parts.upper.graph.input_shape

    def __iter__(self) -> Iterator[Array]:
        images, done = self._dataset.images, 0
        for variant in range(self._variants):
            for values in self._parts.features_of(images, self._augmentation, self._seed, variant):
                yield from values
                done += len(values)
                if self._progress:
                    self._progress(done, self._variants * len(images))

    def name(self) -> str:
        """A hash of all that decides what comes out."""
        lower: Network = self._parts.lower
        described = [
            lower.graph.to_json(),
            digest(lower.named_arrays()),
            lower.engine_name,
            content_digest(self._dataset),
            asdict(self._augmentation),
            self._variants,
            self._seed if self._augmentation else 0,
        ]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:48]

    def known(self) -> dict[str, Any]:
        """Nothing but the features themselves."""
        return {}

    def compact(self, file: BinaryIO, start: int, count: int) -> Shape:
        """They stay as they are."""
        return self.shape
