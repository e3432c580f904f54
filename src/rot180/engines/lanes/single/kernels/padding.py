"""Padding as a layer of its own: each row and column of y is one of x, or the constant."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.kernels.padding import sources
from rot180.engines.lanes.simd import LANES, broadcast, load, store
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import Pad


class Row(NamedTuple):
    x: Picture
    y: Picture
    rows: int  # where in P lies, for each row of y, that of x, numbered from 1; 0 for the constant
    columns: int
    value: float


@kernel(Row)
def pad_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[i,j,c] = x[rows[i], columns[j], c], or the constant; a unit: a row of pixels."""
    for i in range(first, last):
        s = int(P[row.rows + i]) - 1
        for j in range(row.y.width):
            t = int(P[row.columns + j]) - 1
            here, there = at(row.x, s, t), at(row.y, i, j)
            for c in range(0, row.y.channels, LANES):
                if s < 0 or t < 0:
                    store(A, there + c, broadcast(row.value))
                else:
                    store(A, there + c, load(A, here + c))


@lowers(Pad)
class PadLowering:
    """Any mode: the tables say it."""

    def forward(self, site: SingleSite) -> None:
        x, y = site.source(), site.target()
        site.emit(pad_one, Row(x, y, *sources(site), site.layer.value), y.height)
