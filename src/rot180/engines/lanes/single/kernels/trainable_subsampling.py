"""Trainable subsampling: the window's sum, times the maps' weights, plus their biases."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.kernels.max_pooling import Window, window_of
from rot180.engines.lanes.simd import LANES, fma, load, store
from rot180.engines.lanes.single.kernels.average_pooling import window_sum
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import TrainableSubsampling


class Row(NamedTuple):
    x: Picture
    y: Picture
    window: Window
    w: int
    b: int


@kernel(Row)
def subsampling_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[i,j,c] = b[c] + w[c] Σ_uv x[i·S+u·D-P, j·S+v·D-P, c]; a unit: a row of pixels."""
    for i in range(first, last):
        for j in range(row.y.width):
            for c in range(0, row.y.channels, LANES):
                total = window_sum(A, row.x, c, row.window, i, j)
                store(A, at(row.y, i, j) + c, fma(total, load(P, row.w + c), load(P, row.b + c)))


@lowers(TrainableSubsampling)
class TrainableSubsamplingLowering:
    """Windows that overlap, lie apart, have gaps, or hang over the rim."""

    def forward(self, site: SingleSite) -> None:
        row = Row(site.source(), site.target(), window_of(site), site.parameter("w"), site.parameter("b"))
        site.emit(subsampling_of_one, row, row.y.height)
