"""Preparation: what is done to every image before a network sees it, learned from the training images alone.   (D5)

    denoise     each pixel the median of its 3x3 neighbours: single wrong pixels go, edges stay
    pca:K       the part of the image that the K directions of largest variance can say: a reduction to K numbers, given
                back as an image of the same shape, so that any network takes it
    pca-whiten  the numbers along the principal directions, each of unit variance: (D,1,1), no image any more
    zca         the same turned back: an image again, its pixels uncorrelated and of unit variance

With mean μ of the flattened images and covariance Σ = U diag(λ) Uᵀ: reduction x̂ = μ + U_K U_Kᵀ (x - μ), PCA whitening
y = diag(λ+ε)^(-1/2) Uᵀ (x - μ), ZCA whitening y = U diag(λ+ε)^(-1/2) Uᵀ (x - μ), where ε is EPSILON of the largest λ.
Scaling pixels to an activation's range is the layer ScalePixels, with which networks begin: see `standardized`.
Bell and Sejnowski 1997 (ZCA); seed 002 on preparing data.
"""

import os
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

from rot180.arrays import Array, Shape, text
from rot180.convolve import windows
from rot180.data.dataset import Dataset
from rot180.errors import DataError, SettingError

KINDS = ("denoise", "pca:K", "pca-whiten", "zca")
EPSILON = 1e-3
MOST_VALUES = 4096  # of an image: the covariance has their square
FIT_IMAGES = 20_000  # are enough to know it by
AT_ONCE = 2000  # images that are mapped at a time


@dataclass(frozen=True)
class Preparation:
    """A preparation that is ready to be applied: fit(...) makes one.

    For all kinds but "denoise": y = matrix · (x - mean) + offset on flattened images.
    """

    kind: str
    shape: Shape  # of the images that go in
    mean: Array | None = None  # (D,)
    matrix: Array | None = None  # (E, D)

    @property
    def output_shape(self) -> Shape:
        """Of the images that come out."""
        if self.kind == "pca-whiten" and self.matrix is not None:
            return len(self.matrix), 1, 1
        return self.shape

    @property
    def offset(self) -> Array:
        """(E,): zeros where the mean is not put back."""
        if self.mean is None or self.matrix is None:
            raise SettingError(f"{self.kind} is not linear: it has no offset")
        return self.mean if self.kind.startswith("pca:") else np.zeros(len(self.matrix), np.float32)

    def apply(self, images: Array) -> Array:
        """(N,C,H,W) -> (N, *output_shape); raises DataError where the images have another shape."""
        if images.shape[1:] != self.shape:
            raise DataError(f"images are {text(images.shape[1:])}, but {self.kind} was fitted to {text(self.shape)}")
        if self.mean is None or self.matrix is None:
            return median(images)
        with threadpool_limits(1, "blas"):
            flat = self._mapped(images, self.mean, self.matrix)
        return flat.reshape(len(images), *self.output_shape)

    def _mapped(self, images: Array, mean: Array, matrix: Array) -> Array:
        """(N, E) of flattened images, some at a time."""
        parts = [
            (images[k : k + AT_ONCE].reshape(-1, mean.size) - mean) @ matrix.T + self.offset
            for k in range(0, len(images), AT_ONCE)
        ]
        return np.concatenate(parts).astype(np.float32) if parts else np.empty((0, len(matrix)), np.float32)

    def apply_to(self, dataset: Dataset) -> Dataset:
        """The data set with its images prepared."""
        return replace(dataset, images=self.apply(dataset.images))

    def save(self, path: str | os.PathLike[str]) -> None:
        """As safetensors."""
        from safetensors.numpy import save

        from rot180.files import replace_file

        arrays = {"mean": self.mean, "matrix": self.matrix}
        shape = np.array(self.shape, np.int64)
        stored = {"shape": shape, **{name: each for name, each in arrays.items() if each is not None}}
        replace_file(Path(path), save(stored, {"kind": self.kind}))


def load_preparation(path: str | os.PathLike[str]) -> Preparation:
    """What `save` wrote; DataError, naming the file, for anything else."""
    from safetensors import safe_open

    try:
        with safe_open(path, "numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no mapping
            kind = stored.metadata()["kind"]
        shape = tuple(int(size) for size in arrays.pop("shape"))
        _check_kind(kind)
        prepared = Preparation(kind, shape, **arrays)
        if kind != "denoise" and (
            prepared.mean is None or prepared.matrix is None or prepared.matrix.shape[1:] != prepared.mean.shape
        ):
            raise ValueError("its arrays do not fit")
        return prepared
    except Exception as error:  # safetensors raises its own
        raise DataError(f"{path}: not a preparation that can be read ({error})") from error


def fit(kind: str, dataset: Dataset) -> Preparation:
    """The preparation of this kind, as the images of the (training) set have it.

    kind: one of KINDS, K being a whole number from 1 to the values of an image. Raises SettingError for another kind,
    DataError where there are too few images or images too large.
    """
    components = _check_kind(kind)
    if kind == "denoise":
        return Preparation(kind, dataset.shape)
    size = int(np.prod(dataset.shape))
    if size > MOST_VALUES:
        raise DataError(f"{dataset.name}: images have {size:,} values; {kind} takes at most {MOST_VALUES:,}")
    if components > size:
        raise SettingError(f"pca:{components}: images of {text(dataset.shape)} have {size} components at most")
    if len(dataset) < 2:
        raise DataError(f"{dataset.name}: {kind} needs at least two images to be fitted to")
    with threadpool_limits(1, "blas"):  # the same bits on any number of processors
        mean, variances, directions = _directions(dataset, size)
    if variances[0] == 0:
        raise DataError(f"{dataset.name}: all images are the same; {kind} has nothing to go by")
    if kind.startswith("pca:"):
        kept = directions[:, :components]
        matrix = kept @ kept.T
    else:
        whitening = directions.T / np.sqrt(variances + EPSILON * variances[0])[:, None]
        matrix = directions @ whitening if kind == "zca" else whitening
    matrix = np.ascontiguousarray(matrix, np.float32)  # safetensors writes the memory as it lies
    return Preparation(kind, dataset.shape, mean.astype(np.float32), matrix)


def _directions(dataset: Dataset, size: int) -> tuple[Array, Array, Array]:
    """The mean (D,), the variances (D,) along the principal directions, the largest first, and these as columns."""
    step = -(-len(dataset) // FIT_IMAGES)
    x = dataset.images[::step].reshape(-1, size).astype(np.float64)
    mean = x.mean(axis=0)
    x -= mean
    variances, directions = np.linalg.eigh(x.T @ x / len(x))  # (D,D) -> (D,), columns; the largest last
    variances, directions = np.maximum(variances[::-1], 0), directions[:, ::-1]
    return mean, variances, directions * np.where(directions.sum(axis=0) < 0, -1.0, 1.0)  # eigh leaves the sign open


def _check_kind(kind: str) -> int:
    """K of pca:K, else 0; SettingError for what is not a kind."""
    name, _, number = kind.partition(":")
    if name == "pca" and number.isascii() and number.isdigit() and int(number) > 0:
        return int(number)
    if kind not in KINDS or name == "pca":
        raise SettingError(f"there is no preparation {kind!r}: choose one of {', '.join(KINDS)}")
    return 0


def median(images: Array) -> Array:
    """Each pixel the median of the 3x3 pixels around it, of each channel; the rim is repeated outwards."""
    rimmed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    parts = [np.median(windows(rimmed[k : k + AT_ONCE], (3, 3)), axis=(4, 5)) for k in range(0, len(images), AT_ONCE)]
    return np.concatenate(parts).astype(images.dtype) if parts else images


Limit: TypeAlias = float | tuple[float, ...]


def standardized(dataset: Dataset) -> tuple[Limit, Limit]:
    """(low, high) of the ScalePixels that gives each channel of the images zero mean and unit variance.

    Numbers for images of one channel, else tuples of one for each. A channel whose pixels are all the same is only
    shifted; raises DataError where that is so of all channels.
    """
    parts = [slice(first, first + AT_ONCE) for first in range(0, len(dataset), AT_ONCE)]  # of what may lie in a file
    values = len(dataset) * prod(dataset.shape[1:])
    none, columns = np.zeros(dataset.shape[0]), (0, 2, 3)
    mean = sum((dataset.images[part].sum(columns, np.float64) for part in parts), none) / values  # (C,)
    apart = (np.square(dataset.images[part] - mean[:, None, None]).sum(columns) for part in parts)
    deviation = np.sqrt(sum(apart, none) / values)
    if not deviation.any():
        raise DataError(f"{dataset.name}: all pixels are the same; they cannot be standardised")
    deviation[deviation == 0] = 1
    low, high = (tuple(map(float, limit)) for limit in (-mean / deviation, (255 - mean) / deviation))
    return (low, high) if len(low) > 1 else (low[0], high[0])
