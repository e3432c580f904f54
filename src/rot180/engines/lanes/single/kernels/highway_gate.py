"""The highway gate, entry by entry."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.simd import LANES, fma, load, store
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import HighwayGate


class Row(NamedTuple):
    h: Picture
    t: Picture
    x: Picture
    y: Picture


@kernel(Row)
def highway_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y = x + t (h - x); a unit: a row of pixels."""
    for i in range(first, last):
        h, t, x, y = at(row.h, i, 0), at(row.t, i, 0), at(row.x, i, 0), at(row.y, i, 0)
        for k in range(0, row.y.width * row.y.pixel, LANES):
            carried = load(A, x + k)
            store(A, y + k, fma(load(A, t + k), load(A, h + k) - carried, carried))


@lowers(HighwayGate)
class HighwayGateLowering:
    """One row."""

    def forward(self, site: SingleSite) -> None:
        row = Row(site.source(0), site.source(1), site.source(2), site.target())
        site.emit(highway_of_one, row, row.y.height)
