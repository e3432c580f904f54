"""Max pooling of any window."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.kernels.max_pooling import Window, inside, window_of
from rot180.engines.lanes.simd import LANES, broadcast, load, maximum, store
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import MaxPooling


class Row(NamedTuple):
    x: Picture
    y: Picture
    window: Window


@kernel(Row)
def max_pooling_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[i,j,c] = max_uv x[i·S+u·D-P, j·S+v·D-P, c]; a unit: a row of pixels."""
    x, y, window = row.x, row.y, row.window
    for i in range(first, last):
        top = i * window.down - window.top
        above, below = inside(top, window.apart_down), min(top + window.height, x.height)
        for j in range(y.width):
            left = j * window.right - window.left
            before, behind = inside(left, window.apart_right), min(left + window.width, x.width)
            for c in range(0, y.channels, LANES):
                largest = broadcast(-float("inf"))
                for s in range(above, below, window.apart_down):
                    place = at(x, s, before) + c
                    for _t in range(before, behind, window.apart_right):
                        largest = maximum(load(A, place), largest)
                        place += window.apart_right * x.pixel
                store(A, at(y, i, j) + c, largest)


@lowers(MaxPooling)
class MaxPoolingLowering:
    """Windows that overlap, lie apart, have gaps, or hang over the rim."""

    def forward(self, site: SingleSite) -> None:
        y = site.target()
        site.emit(max_pooling_of_one, Row(site.source(), y, window_of(site)), y.height)
