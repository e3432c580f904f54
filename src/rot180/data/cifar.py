"""CIFAR-10's binary version: 60,000 colour photographs of 32x32 pixels, in ten classes.

    a record: label (1 byte) | 1,024 red | 1,024 green | 1,024 blue, row by row

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html
"""

import os
from pathlib import Path

import numpy as np

from rot180.data.dataset import Dataset, Sets
from rot180.errors import DataError

SHAPE = 3, 32, 32
RECORD = 1 + 3 * 32 * 32  # bytes
MOST_RECORDS = 100_000  # of one file; the original's have 10,000
NAMES_FILE = "batches.meta.txt"
CLASS_NAMES = "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"


def is_cifar_folder(folder: Path) -> bool:
    """Does the folder hold CIFAR-10's training images?"""
    return folder.is_dir() and any(folder.glob("data_batch*.bin"))


def load_cifar_folder(folder: str | os.PathLike[str]) -> Sets:
    """What data_batch_1.bin to data_batch_5.bin hold, as many as there are, and test_batch.bin.

    Class names come from batches.meta.txt where it is there. Raises DataError, naming the file, where one is missing
    or damaged.
    """
    folder = Path(folder)
    names = _class_names(folder / NAMES_FILE)
    train = sorted(folder.glob("data_batch*.bin"))
    if not train:
        raise DataError(f"{folder}: there is no file data_batch_1.bin")
    return Sets(
        Dataset(*_read(train, len(names)), names, f"{folder.name}/train"),
        Dataset(*_read([folder / "test_batch.bin"], len(names)), names, f"{folder.name}/test"),
    )


def _read(paths: list[Path], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the files, one behind the other."""
    parts = []
    for path in paths:
        try:
            size = path.stat().st_size
            if size == 0 or size % RECORD or size > MOST_RECORDS * RECORD:
                raise DataError(f"{path}: has {size:,} bytes, not a multiple of a record's {RECORD:,}; get it again")
            records = np.fromfile(path, np.uint8).reshape(-1, RECORD)
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise DataError(f"{path}: cannot be read ({reason})") from error
        wrong = np.flatnonzero(records[:, 0] >= classes)
        if wrong.size:
            raise DataError(
                f"{path}: record {wrong[0]} has label {records[wrong[0], 0]}, but there are {classes} classes; "
                "is this CIFAR-10's binary version?"
            )
        parts.append(records)
    records = np.concatenate(parts)
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, *SHAPE), records[:, 0].astype(np.int64)


def _class_names(path: Path) -> tuple[str, ...]:
    """A name a line; the known ones where there is no such file."""
    if not path.exists():
        return CLASS_NAMES
    try:
        with path.open("rb") as file:
            names = file.read(10_000).decode("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); a name a line is expected") from error
    if len(names) != len(CLASS_NAMES):
        raise DataError(f"{path}: has {len(names)} class names, not {len(CLASS_NAMES)}")
    return tuple(names)
