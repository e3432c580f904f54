"""Scaling pixels, anywhere but at the start, where they are scaled as the image is read."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.simd import LANES, load, store
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import ScalePixels


class Row(NamedTuple):
    x: Picture
    y: Picture
    scale: float
    low: float


@kernel(Row)
def scale_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[i,j,c] = x[i,j,c] · scale + low; a unit: a row of pixels."""
    for i in range(first, last):
        here, there = at(row.x, i, 0), at(row.y, i, 0)
        for k in range(0, row.x.width * row.x.pixel, LANES):
            store(A, there + k, load(A, here + k) * row.scale + row.low)


@lowers(ScalePixels)
class ScalePixelsLowering:
    """Out of place."""

    def forward(self, site: SingleSite) -> None:
        x, y, layer = site.source(), site.target(), site.layer
        site.emit(scale_one, Row(x, y, (layer.high - layer.low) / 255, layer.low), y.height)
