"""Reading the image: from the caller's (C,H,W) to pixels with their channels side by side, scaled on the way."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.single.layout import Picture, at


class Row(NamedTuple):
    image: Picture  # as it lies: pixels with their channels, or planes one below another
    channels: int
    height: int
    plane: int  # floats from a channel to the next
    w: int  # where the channels' factors begin in P
    b: int  # and what is added


@kernel(Row)
def read_image(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """image[i,j,c] = G[c,i,j] · w[c] + b[c], where G is the image as it came; a unit: a row of pixels."""
    image = row.image
    for i in range(first, last):
        for c in range(row.channels):
            here, there = (c * row.height + i) * image.width, at(image, i, 0) + c * row.plane
            w, b = P[row.w + c], P[row.b + c]
            for _j in range(image.width):
                A[there] = G[here] * w + b
                here += 1
                there += image.pixel
