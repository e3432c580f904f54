"""From the word a person types to data: `mnist`, a folder of pictures, of IDX or CIFAR-10 files, or an .npz file."""

import os
from pathlib import Path

from rot180.data.cifar import is_cifar_folder, load_cifar_folder
from rot180.data.dataset import Dataset, Sets
from rot180.data.folder import AS_USUAL, SUFFIXES, PictureOptions, is_picture_folder, load_folder, load_test_folder
from rot180.data.idx import is_idx_folder, load_idx_folder
from rot180.data.mnist import mnist
from rot180.data.npz import load_npz
from rot180.errors import DataError

EMBEDDED = "mnist"


def load(source: str | os.PathLike[str] = EMBEDDED, pictures: PictureOptions = AS_USUAL) -> Sets:
    """The training and the test set of `source`. Raises DataError, saying what would do, for anything else.

    pictures: how they are read, where `source` is a folder of pictures.
    """
    if source == EMBEDDED:
        return mnist()
    folder = Path(source)
    if is_idx_folder(folder):
        return load_idx_folder(folder)
    if is_cifar_folder(folder):
        return load_cifar_folder(folder)
    if folder.suffix == ".npz" and folder.is_file():
        return load_npz(folder)
    if is_picture_folder(folder):
        return load_folder(folder, pictures)
    if folder.is_dir() and any(each.suffix.lower() in SUFFIXES for each in folder.iterdir()):
        raise DataError(f"{folder}: its pictures lie in no class's folder; put those of each into {folder / 'CLASS'}")
    what = "holds no data set" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
    raise DataError(
        f"{folder} {what}: give the word mnist, or a folder with a sub-folder of pictures for each class, or with "
        "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (plain or "
        ".gz), or with CIFAR-10's data_batch_1.bin to data_batch_5.bin and test_batch.bin, or an .npz file with "
        "x_train and y_train"
    )


def load_test(source: str | os.PathLike[str], pictures: PictureOptions, trained_on: str | None) -> Dataset:
    """What a network that was trained on `trained_on` is to be tested on: see load_test_folder for pictures."""
    folder = Path(source)
    others = source == EMBEDDED or is_idx_folder(folder) or is_cifar_folder(folder)
    if others or not is_picture_folder(folder):
        return load(source).test
    return load_test_folder(folder, pictures, learned_from=trained_on == str(folder.resolve()))
