"""Batch normalization that stands alone: behind a convolution or a dense layer it is part of their weights."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.simd import LANES, broadcast, fma, load, maximum, store
from rot180.engines.lanes.single.kernels.fold import folded
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import BatchNormalization


class Row(NamedTuple):
    x: Picture
    y: Picture
    scale: int
    shift: int
    relu: int


@kernel(Row)
def normalize_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[i,j,c] = s[c] x[i,j,c] + t[c], and max(0, ·) of it where a ReLU follows; a unit: a row of pixels."""
    lowest = broadcast(0.0 if row.relu else -float("inf"))
    for i in range(first, last):
        for j in range(row.x.width):
            here, there = at(row.x, i, j), at(row.y, i, j)
            for c in range(0, row.x.channels, LANES):
                value = fma(load(A, here + c), load(P, row.scale + c), load(P, row.shift + c))
                store(A, there + c, maximum(value, lowest))


@lowers(BatchNormalization)
class BatchNormalizationLowering:
    """A scaling."""

    def forward(self, site: SingleSite) -> None:
        x, y = site.source(), site.target()
        fold = folded(site, x.channels, has_bias=False, normalization=site)
        site.emit(normalize_one, Row(x, y, fold.scale, fold.shift, site.applies_relu), y.height)
