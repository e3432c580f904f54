"""NumPy's .npz: arrays by name, in a zip file. A file may come from anywhere: no pickle, and sizes are checked first.

x_train (or train_images, images, x)    (N,H,W), (N,H,W,C) or (N,C,H,W), C being 1 or 3
y_train (or train_labels, labels, y)    (N,)
x_test, y_test (or test_images, ...)    likewise; without, the images are split 65/25/10 and the validation share
                                        goes to training, which holds out its own
class_names                             (K,) text; without, the numbers
"""

import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from rot180.arrays import Array
from rot180.data.dataset import Dataset, Sets, split_65_25_10
from rot180.errors import DataError

LARGEST = 8 * 2**30  # bytes of all arrays
MOST_CLASSES = 1000  # of labels without names
NAMES = {
    ("train", "images"): ("x_train", "train_images", "images", "x"),
    ("train", "labels"): ("y_train", "train_labels", "labels", "y"),
    ("test", "images"): ("x_test", "test_images"),
    ("test", "labels"): ("y_test", "test_labels"),
}


def load_npz(path: str | os.PathLike[str]) -> Sets:
    """The training and the test set of the file. Raises DataError, naming the file, for anything else."""
    path = Path(path)
    arrays = _read(path)
    found = {part: _pick(path, arrays, names) for part, names in NAMES.items()}
    for part in ("train", "test"):
        images, labels = found[part, "images"], found[part, "labels"]
        if (images is None) != (labels is None) or (part == "train" and images is None):
            wanted = " and ".join(NAMES[part, kind][0] for kind in ("images", "labels"))
            raise DataError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; {wanted} are expected")
    given = [each.reshape(-1) for (_, kind), each in found.items() if kind == "labels" and each is not None]
    if any(each.dtype.kind not in "ui" for each in given):
        raise DataError(f"{path}: labels are {given[0].dtype}; give whole numbers")
    if "class_names" in arrays:
        names = tuple(str(name) for name in arrays["class_names"].reshape(-1))
    else:
        largest = max(int(each.max(initial=0)) for each in given)
        if largest >= MOST_CLASSES:
            raise DataError(f"{path}: a label is {largest}; are these labels?")
        names = tuple(str(label) for label in range(largest + 1))
    train, test = (
        _dataset(path, found[part, "images"], found[part, "labels"], names, part) for part in ("train", "test")
    )
    if train is None or not len(train):
        raise DataError(f"{path}: holds no images to train on")
    if test is not None:
        return Sets(train, test)
    for_training, for_test, validation = split_65_25_10(train)
    both = np.concatenate([for_training.images, validation.images])
    return Sets(
        Dataset(both, np.concatenate([for_training.labels, validation.labels]), names, train.name),
        Dataset(for_test.images, for_test.labels, names, f"{path.stem}/test"),
    )


def _read(path: Path) -> dict[str, Array]:
    """The arrays with known names, read only once the headers have said that they are small enough."""
    known = {name for names in NAMES.values() for name in names} | {"class_names"}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.removesuffix(".npy") in known]
            declared = sum(_declared(archive, name) for name in members)
            if declared > LARGEST:
                raise DataError(f"{path}: declares {declared:,} bytes of arrays, more than {LARGEST:,}")
            arrays: dict[str, Array] = {}
            for name in members:
                with archive.open(name) as file:
                    arrays[name.removesuffix(".npy")] = npy.read_array(file, allow_pickle=False)
            return arrays
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise anything on damaged files
        raise DataError(f"{path}: not an .npz file of plain arrays that can be read ({error})") from error


def _declared(archive: zipfile.ZipFile, name: str) -> int:
    """The bytes of an array, by its header; ValueError where the file does not have as many."""
    with archive.open(name) as file:
        version = npy.read_magic(file)
        shape, _, dtype = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects")
        size = int(np.prod([int(each) for each in shape], dtype=object)) * dtype.itemsize
        if size != archive.getinfo(name).file_size - file.tell():
            raise ValueError(f"{name} declares {size:,} bytes, which it does not hold")
        return size


def _pick(path: Path, arrays: dict[str, Array], names: tuple[str, ...]) -> Array | None:
    present = [name for name in names if name in arrays]
    if len(present) > 1:
        raise DataError(f"{path}: holds both {present[0]} and {present[1]}; keep one")
    return arrays[present[0]] if present else None


def _dataset(
    path: Path, images: Array | None, labels: Array | None, names: tuple[str, ...], part: str
) -> Dataset | None:
    """(N,C,H,W) from what is there; None from None."""
    if images is None or labels is None:
        return None
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    try:
        return Dataset(np.ascontiguousarray(images), labels.reshape(-1), names, f"{path.stem}/{part}")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
