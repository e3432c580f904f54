"""How values lie: 16 images side by side in the lanes, batch last.

A group is 16 images. The value of channel c at row i and column j is one vector of 16 numbers, one for each image of
the group, and a map is rows of such vectors. This file and the kernels are all that know of it.

Rows may have a halo: columns on either side that hold zeros, which a convolution reads where the image has ended. Only
what lies inside is ever written. Rows above and below need no halo: a kernel leaves out the taps that fall there.
"""

from math import prod
from typing import NamedTuple

from rot180.arrays import Shape
from rot180.engines.lanes.jit import helper
from rot180.engines.lanes.twin import LANES


class Maps(NamedTuple):
    """Where the C maps of a node's values lie, in floats from the start of the arena."""

    start: int  # of value (0, 0, 0) of the first group
    group: int  # from a group to the next
    plane: int  # from a map to the next
    line: int  # from a row to the next; from a column to the next it is LANES
    channels: int
    height: int
    width: int

    @property
    def end(self) -> int:
        """Where the last value of the first group ends."""
        return self.start + (self.channels - 1) * self.plane + (self.height - 1) * self.line + self.width * LANES


@helper
def at(maps: Maps, c: int, i: int, j: int) -> int:
    """Where the lanes of channel c, row i, column j begin."""
    return maps.start + c * maps.plane + i * maps.line + j * LANES


@helper
def of_group(maps: Maps, group: int) -> Maps:
    """The maps of one group of 16 images."""
    return Maps(
        maps.start + group * maps.group,
        maps.group,
        maps.plane,
        maps.line,
        maps.channels,
        maps.height,
        maps.width,
    )


def as_maps(shape: Shape) -> tuple[int, int, int]:
    """(C, H, W) of a value's shape: a vector of D numbers is D maps of one pixel, a number is one.

    With more axes, or two, all but the first make one long row.
    """
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return (shape[0] if shape else 1), 1, prod(shape[1:])


def is_contiguous(maps: Maps) -> bool:
    """Do the vectors of a group follow one another without a gap, in the order c, i, j?"""
    return maps.line == maps.width * LANES and maps.plane == maps.height * maps.line
