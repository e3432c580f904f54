"""Batch normalization that stands alone: behind a convolution or a dense layer it is part of their weights."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.limits import Limits, limited
from rot180.engines.lanes.simd import LANES, fma, load, store
from rot180.engines.lanes.single.kernels.fold import folded
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import BatchNormalization


class Row(NamedTuple):
    x: Picture
    y: Picture
    scale: int
    shift: int
    limits: Limits


@kernel(Row)
def normalize_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[i,j,c] = s[c] x[i,j,c] + t[c], limited; a unit: a row of pixels."""
    for i in range(first, last):
        for j in range(row.x.width):
            here, there = at(row.x, i, j), at(row.y, i, j)
            for c in range(0, row.x.channels, LANES):
                value = fma(load(A, here + c), load(P, row.scale + c), load(P, row.shift + c))
                store(A, there + c, limited(value, row.limits))


@lowers(BatchNormalization)
class BatchNormalizationLowering:
    """A scaling."""

    def forward(self, site: SingleSite) -> None:
        x, y = site.source(), site.target()
        fold = folded(site, x.channels, has_bias=False, normalization=site)
        site.emit(normalize_one, Row(x, y, fold.scale, fold.shift, site.limits), y.height)
