"""Scaling pixels, anywhere but at the start, where they are scaled as the image is read."""

from typing import NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.simd import LANES, fma, load, store
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import ScalePixels


class Row(NamedTuple):
    x: Picture
    y: Picture
    w: int  # where the channels' factors begin in P
    b: int  # and what is added


@kernel(Row)
def scale_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[i,j,c] = x[i,j,c] · w[c] + b[c]; a unit: a row of pixels."""
    for i in range(first, last):
        for j in range(row.x.width):
            here, there = at(row.x, i, j), at(row.y, i, j)
            for c in range(0, row.x.pixel, LANES):
                store(A, there + c, fma(load(A, here + c), load(P, row.w + c), load(P, row.b + c)))


@lowers(ScalePixels)
class ScalePixelsLowering:
    """Out of place."""

    def forward(self, site: SingleSite) -> None:
        x, y = site.source(), site.target()
        w, b = (np.pad(each, (0, -x.channels % LANES)) for each in site.layer.by_channel(x.channels))
        site.emit(scale_one, Row(x, y, site.constants("scale", w), site.constants("low", b)), y.height)
