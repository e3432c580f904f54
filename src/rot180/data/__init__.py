"""Data: labelled images, where they come from and how they are split and varied."""

from rot180.data.augmentation import Augmentation
from rot180.data.cifar import load_cifar_folder
from rot180.data.dataset import Dataset, Sets, split
from rot180.data.idx import load_idx_folder, read_idx
from rot180.data.mnist import mnist
from rot180.data.source import EMBEDDED, load

__all__ = [
    "EMBEDDED",
    "Augmentation",
    "Dataset",
    "Sets",
    "load",
    "load_cifar_folder",
    "load_idx_folder",
    "mnist",
    "read_idx",
    "split",
]
