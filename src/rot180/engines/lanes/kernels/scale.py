"""Scaling pixels. As a network's first node it costs nothing: the runner scales the pixels as it reads them."""

from typing import NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, load, store
from rot180.layers import ScalePixels


class Row(NamedTuple):
    x: Maps
    y: Maps
    w: int  # where the maps' factors begin in P
    b: int  # and what is added


@kernel(Row)
def scale_maps(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[c,i,j] = x[c,i,j] · w[c] + b[c]; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.x.channels, unit % row.x.channels
        x, y = of_group(row.x, group), of_group(row.y, group)
        w, b = P[row.w + c], P[row.b + c]
        for i in range(x.height):
            here, there = at(x, c, i, 0), at(y, c, i, 0)
            for _j in range(x.width):
                store(A, there, load(A, here) * w + b)
                here += LANES
                there += LANES


@lowers(ScalePixels)
class ScalePixelsLowering:
    """Anywhere but at the start, where the plan has fused it with the image."""

    def forward(self, site: Site) -> None:
        _, low = site.layer.by_channel(site.x().channels)
        self.scaled(site, site.x(), site.y(), site.constants("low", low))

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            nothing = site.constants("nothing", np.zeros(site.x().channels))
            site.write_dx(lambda dx: self.scaled(site, site.dy(), dx, nothing))

    def scaled(self, site: Site, x: Maps, y: Maps, b: int) -> None:
        """The row for y = x · (high - low)/255 + b."""
        scale, _ = site.layer.by_channel(x.channels)
        site.emit(scale_maps, Row(x, y, site.constants("scale", scale), b), x.channels)
