"""MNIST, embedded: 60,000 + 10,000 handwritten digits of 28x28 grey pixels. No download.

The images lie in the package grouped by digit (like beside like compresses best) as one xz stream of 8.9 MB; the
labels, in the original order, say how to lay them back. Every byte is the original's, and the digest proves it.
Source: LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/ (CC BY-SA 3.0, see NOTICE).
"""

import hashlib
import lzma
from functools import cache
from pathlib import Path

import numpy as np

from rot180.arrays import Array
from rot180.data.dataset import Dataset, Sets
from rot180.errors import DataError

FOLDER = Path(__file__).parent
TRAIN_COUNT, TEST_COUNT, SIDE = 60_000, 10_000, 28
CLASS_NAMES = tuple("0123456789")
SHA256 = "c2069063c1105f2bf96266aef1ff68c6e13bdda7a54e37bf19c16f1db24efc83"
"""Of the training images, test images, training labels, test labels: the values of the four IDX files in a row."""


@cache
def mnist() -> Sets:
    """The training and the test set, in the original order. Raises DataError if the package is damaged."""
    stored = FOLDER / "embedded"
    try:
        labels = np.frombuffer(lzma.decompress((stored / "mnist-labels.xz").read_bytes()), np.uint8)
        grouped = np.frombuffer(lzma.decompress((stored / "mnist-images.xz").read_bytes()), np.uint8)
        images = ungroup(grouped.reshape(-1, 1, SIDE, SIDE), labels)
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise DataError(f"the embedded MNIST is damaged ({error}); install rot180 again") from error
    if hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() != SHA256:
        raise DataError("the embedded MNIST is not the original's bytes; install rot180 again")
    train, test = slice(0, TRAIN_COUNT), slice(TRAIN_COUNT, TRAIN_COUNT + TEST_COUNT)
    return Sets(
        Dataset(images[train], labels[train], CLASS_NAMES, "mnist/train"),
        Dataset(images[test], labels[test], CLASS_NAMES, "mnist/test"),
    )


def group(images: Array, labels: Array) -> Array:
    """The images in the order of their labels, equals in their own order."""
    return images[np.argsort(labels, kind="stable")]


def ungroup(grouped: Array, labels: Array) -> Array:
    """What `group` was given."""
    images = np.empty_like(grouped)
    images[np.argsort(labels, kind="stable")] = grouped
    return images
