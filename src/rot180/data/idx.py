"""IDX, the file format of MNIST: a magic number, the sizes, the bytes. Plain or gzipped.

    00 00 | type (08: unsigned byte) | dimensions | each size, 4 bytes, big-endian | values, row by row

A file may come from anywhere: nothing is allocated on the word of a header. Source: LeCun's MNIST page.
"""

import gzip
import hashlib
import os
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rot180.arrays import Array
from rot180.data.dataset import Dataset, Sets
from rot180.errors import DataError

UNSIGNED_BYTE = 0x08
MOST_DIMENSIONS = 4
GZIP_MAGIC = b"\x1f\x8b"
GZIP_RATIO = 1032  # deflate cannot make more of one byte
LARGEST_CLASS_COUNT = 1000  # of labels without names
FASHION_NAMES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
FASHION_TEST_LABELS = "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9"
"""The SHA-256 by which Fashion-MNIST is known: its files do not hold its class names (Xiao, Rasul, Vollgraf 2017)."""
PIECE = 2**20  # bytes read at a time


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array of unsigned bytes in an IDX file. Raises DataError, naming the file, for anything else."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == GZIP_MAGIC
            file.seek(0)
            if not gzipped:
                return _read(file, path, path.stat().st_size)
            with gzip.open(file) as unpacked:
                return _read(unpacked, path, path.stat().st_size * GZIP_RATIO)  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: cannot be read ({reason}); fetch the file again") from error


def _read(file: BinaryIO, path: Path, most: int) -> Array:
    """Header and values; `most` bytes are all the file can hold."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] != UNSIGNED_BYTE or not 1 <= head[3] <= MOST_DIMENSIONS:
        raise DataError(
            f"{path}: not an IDX file of bytes: it begins with {head.hex(' ') or 'nothing'}, "
            f"not 00 00 08 and a number of dimensions from 1 to {MOST_DIMENSIONS}"
        )
    sizes_bytes = file.read(4 * head[3])
    if len(sizes_bytes) < 4 * head[3]:
        raise DataError(f"{path}: ends inside its header; fetch the file again")
    sizes = tuple(int(size) for size in np.frombuffer(sizes_bytes, ">u4"))
    declared = prod(sizes)
    if declared > most:
        raise DataError(f"{path}: declares {'x'.join(map(str, sizes))} values, more than the file can hold")
    values = bytearray()  # grows with what is there: read(declared) would allocate what the header says
    while piece := file.read(min(PIECE, declared - len(values))):
        values += piece
    if len(values) < declared:
        raise DataError(f"{path}: declares {declared} values but holds {len(values)}; the file is cut off")
    if file.read(1):
        raise DataError(f"{path}: holds more than the {declared} values it declares; the file is damaged")
    return np.frombuffer(values, np.uint8).reshape(sizes)


def is_idx_folder(folder: Path) -> bool:
    """Does the folder hold IDX images to train on?"""
    return _find(folder, "train", "images") is not None


def load_idx_folder(folder: str | os.PathLike[str]) -> Sets:
    """The four files of an MNIST-like data set: train-images, train-labels, t10k-images (or test-images), ...-labels.

    Any names that begin so, with or without .gz. Raises DataError where one is missing or images and labels differ
    in number.
    """
    folder = Path(folder)
    train, test = (_load_pair(folder, part) for part in ("train", "test"))
    classes = 1 + max(int(labels.max(initial=0)) for _, labels in (train, test))
    if classes > LARGEST_CLASS_COUNT:
        raise DataError(f"{folder}: a label is {classes - 1}; are these labels?")
    fashion = hashlib.sha256(test[1].tobytes()).hexdigest() == FASHION_TEST_LABELS
    names = FASHION_NAMES if fashion else tuple(str(label) for label in range(classes))
    parts = zip((train, test), Sets._fields, strict=True)
    return Sets(*(Dataset(images, labels, names, f"{folder.name}/{part}") for (images, labels), part in parts))


def _load_pair(folder: Path, part: str) -> tuple[Array, Array]:
    paths = {kind: _find(folder, part, kind) for kind in ("images", "labels")}
    for kind, path in paths.items():
        if path is None:
            raise DataError(f"{folder}: there is no file {part}-{kind}... in IDX format")
    images, labels = read_idx(paths["images"] or folder), read_idx(paths["labels"] or folder)
    if images.ndim not in (3, 4) or labels.ndim != 1:
        raise DataError(
            f"{paths['images']}: images have {images.ndim} dimensions and labels {labels.ndim}; give 3 and 1"
        )
    if len(images) != len(labels):
        raise DataError(f"{folder}: {len(images)} {part} images but {len(labels)} labels")
    if len(images) == 0:
        raise DataError(f"{paths['images']}: holds no images")
    return images if images.ndim == 4 else images[:, None], labels


def _find(folder: Path, part: str, kind: str) -> Path | None:
    prefixes = ("train",) if part == "train" else ("t10k", "test")
    for prefix in prefixes:
        for path in sorted(folder.glob(f"{prefix}*{kind}*")) if folder.is_dir() else ():
            if path.is_file():
                return path
    return None
