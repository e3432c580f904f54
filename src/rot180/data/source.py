"""From the word a person types to data: `mnist`, a folder of IDX or CIFAR-10 files, or an .npz file."""

import os
from pathlib import Path

from rot180.data.cifar import is_cifar_folder, load_cifar_folder
from rot180.data.dataset import Sets
from rot180.data.idx import is_idx_folder, load_idx_folder
from rot180.data.mnist import mnist
from rot180.data.npz import load_npz
from rot180.errors import DataError

EMBEDDED = "mnist"


def load(source: str | os.PathLike[str] = EMBEDDED) -> Sets:
    """The training and the test set of `source`. Raises DataError, saying what would do, for anything else."""
    if source == EMBEDDED:
        return mnist()
    folder = Path(source)
    if is_idx_folder(folder):
        return load_idx_folder(folder)
    if is_cifar_folder(folder):
        return load_cifar_folder(folder)
    if folder.suffix == ".npz" and folder.is_file():
        return load_npz(folder)
    what = "holds no data set" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
    raise DataError(
        f"{folder} {what}: give the word mnist, or a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
        "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (plain or .gz), or with CIFAR-10's data_batch_1.bin to "
        "data_batch_5.bin and test_batch.bin, or an .npz file with x_train and y_train"
    )
