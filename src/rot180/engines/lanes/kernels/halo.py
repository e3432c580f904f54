"""The halo's zeros, where a value has come to lie in memory that another one has used before."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.simd import LANES, store, zeros


class Row(NamedTuple):
    maps: Maps
    left: int
    right: int


@kernel(Row)
def zero_halo(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """x[c,i,j] = 0 for the columns j beside the maps; a unit: a map of one group."""
    for unit in range(first, last):
        x, c = of_group(row.maps, unit // row.maps.channels), unit % row.maps.channels
        for i in range(x.height):
            for j in range(row.left):
                store(A, at(x, c, i, 0) - (j + 1) * LANES, zeros())
            for j in range(row.right):
                store(A, at(x, c, i, x.width) + j * LANES, zeros())
