"""Data: labelled images, where they come from and how they are split and varied."""

from rot180.data.augmentation import Augmentation
from rot180.data.balance import BalanceReport, balance
from rot180.data.cifar import load_cifar_folder
from rot180.data.dataset import Dataset, Sets, split, split_65_25_10
from rot180.data.folder import PictureOptions, load_folder
from rot180.data.idx import load_idx_folder, read_idx
from rot180.data.mnist import mnist
from rot180.data.npz import load_npz
from rot180.data.preparation import Preparation, fit
from rot180.data.source import EMBEDDED, load, load_test

__all__ = [
    "EMBEDDED",
    "Augmentation",
    "BalanceReport",
    "Dataset",
    "PictureOptions",
    "Preparation",
    "Sets",
    "balance",
    "fit",
    "load",
    "load_cifar_folder",
    "load_folder",
    "load_idx_folder",
    "load_npz",
    "load_test",
    "mnist",
    "read_idx",
    "split",
    "split_65_25_10",
]
