"""Variations of the training images, each drawn from its own address."""

import numpy as np

from rot180.arrays import Array
from rot180.chance import Use, bits, key
from rot180.convolve import pad, windows


def shifted(images: Array, most: int, seed: int, epoch: int, indices: Array) -> Array:
    """Each image moved by up to `most` pixels in each direction, zeros moving in.

    images (N,C,H,W), and indices (N,): their positions in the data set, which with seed and epoch address the chance.
    """
    height, width = images.shape[-2:]
    words = bits(key(Use.AUGMENTATION, seed, epoch, indices), 2)  # (N, 2)
    row, column = (words % np.uint64(2 * most + 1)).astype(np.intp).T
    places = windows(pad(images, ((most, most), (most, most))), (height, width))  # (N,C,2·most+1,2·most+1,H,W)
    return np.asarray(places[np.arange(len(images)), :, row, column])
