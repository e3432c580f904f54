"""Reading the image: from the caller's (C,H,W) to pixels with their channels side by side, scaled on the way."""

from typing import NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.single.layout import Picture, at


class Row(NamedTuple):
    image: Picture
    scale: float
    low: float


@kernel(Row)
def read_image(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """image[i,j,c] = G[c,i,j] · scale + low, where G is the image as it came; a unit: a row of pixels."""
    image = row.image
    scale, low = np.float32(row.scale), np.float32(row.low)
    for i in range(first, last):
        for c in range(image.channels):
            here, there = (c * image.height + i) * image.width, at(image, i, 0) + c
            for _j in range(image.width):
                A[there] = G[here] * scale + low
                here += 1
                there += image.pixel
