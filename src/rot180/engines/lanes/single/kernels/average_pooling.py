"""Average pooling of any window, and of the whole map."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import helper, kernel
from rot180.engines.lanes.kernels.average_pooling import Counted, counted_of, share
from rot180.engines.lanes.kernels.max_pooling import Window, inside, window_of
from rot180.engines.lanes.simd import LANES, Lanes, load, store, zeros
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import AveragePooling, GlobalAveragePooling


@helper
def window_sum(A: Array, x: Picture, c: int, window: Window, i: int, j: int) -> Lanes:
    """Σ_uv x[i·S+u·D-P, j·S+v·D-P, c..c+15], as far as it exists."""
    top, left = i * window.down - window.top, j * window.right - window.left
    before, behind = inside(left, window.apart_right), min(left + window.width, x.width)
    total = zeros()
    for s in range(inside(top, window.apart_down), min(top + window.height, x.height), window.apart_down):
        line, place = zeros(), at(x, s, before) + c
        for _t in range(before, behind, window.apart_right):
            line += load(A, place)
            place += window.apart_right * x.pixel
        total += line
    return total


class Row(NamedTuple):
    x: Picture
    y: Picture
    window: Window
    counted: Counted


@kernel(Row)
def average_pooling_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[i,j,c] = share[i,j] Σ_uv x[i·S+u·D-P, j·S+v·D-P, c]; a unit: a row of pixels."""
    for i in range(first, last):
        for j in range(row.y.width):
            for c in range(0, row.y.channels, LANES):
                total = window_sum(A, row.x, c, row.window, i, j)
                store(A, at(row.y, i, j) + c, total * share(row.window, row.counted, i, j))


@lowers(AveragePooling)
class AveragePoolingLowering:
    """Windows that overlap, lie apart, have gaps, or hang over the rim."""

    def forward(self, site: SingleSite) -> None:
        window, y = self.window(site), site.target()
        counted = counted_of(site.layer, site.plan.graph.input_shape_of(site.node))
        row = Row(site.source(), y, window, counted)
        site.emit(average_pooling_of_one, row, y.height)

    def window(self, site: SingleSite) -> Window:
        """The layer's."""
        return window_of(site)


@lowers(GlobalAveragePooling)
class GlobalAveragePoolingLowering(AveragePoolingLowering):
    """One window, as large as the map."""

    def window(self, site: SingleSite) -> Window:
        x = site.source()
        return Window(x.height, x.width, x.height, x.width, 0, 0, 1, 1)
