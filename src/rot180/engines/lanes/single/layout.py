"""How one image's values lie: pixel after pixel, a pixel's channels side by side in vectors of 16.

What lies behind the last channel of a pixel, up to a multiple of 16, has no meaning and may hold anything. Rows may
have a halo of zeros on either side, as in the other layout; rows above and below are left out by the kernels.
"""

from typing import NamedTuple

from rot180.engines.lanes.jit import helper
from rot180.engines.lanes.twin import LANES


class Picture(NamedTuple):
    """Where a node's values lie, in floats from the start of the arena."""

    start: int  # of pixel (0, 0)
    line: int  # from a row to the next
    pixel: int  # from a pixel to the next
    channels: int
    height: int
    width: int

    @property
    def end(self) -> int:
        """Where the last value ends."""
        return self.start + (self.height - 1) * self.line + self.width * self.pixel


@helper
def at(picture: Picture, i: int, j: int) -> int:
    """Where the channels of the pixel at row i, column j begin."""
    return picture.start + i * picture.line + j * picture.pixel


def vectors(channels: int) -> int:
    """How many vectors of 16 hold so many channels."""
    return -(-channels // LANES)
