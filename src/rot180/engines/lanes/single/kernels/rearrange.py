"""Values in another shape or order: one by one, since neighbours in the lanes do not stay neighbours."""

from typing import NamedTuple

import numpy as np

from rot180.arrays import Array, Shape
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.layout import as_maps
from rot180.engines.lanes.plan import EXACT
from rot180.engines.lanes.single.layout import Picture, at, vectors
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.engines.lanes.twin import LANES
from rot180.layers import ChannelShuffle, Reshape, Transpose


class Row(NamedTuple):
    x: Picture
    y: Picture
    places: int  # where in P lies, for each value of y, how far behind x's start it is found


@kernel(Row)
def move_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[k] = x[places[k]]; a unit: a row of pixels."""
    y = row.y
    for i in range(first, last):
        k = row.places + i * y.width * y.channels
        for j in range(y.width):
            there = at(y, i, j)
            for c in range(y.channels):
                A[there + c] = A[row.x.start + int(P[k])]
                k += 1


@lowers(Reshape, Transpose, ChannelShuffle)
class RearrangeLowering:
    """By a table that the definition makes: it moves the values' places."""

    def takes(self, layer: Reshape | Transpose | ChannelShuffle, x: Shape) -> bool:
        """As many places as float32 can number, halos included."""
        channels, height, width = as_maps(x)
        return 2 * vectors(channels) * LANES * height * width <= EXACT

    def forward(self, site: SingleSite) -> None:
        x, y = site.source(in_vectors=False), site.target()
        c, i, j = np.ogrid[: x.channels, : x.height, : x.width]
        shape = site.plan.graph.input_shape_of(site.node)
        places = (i * x.line + j * x.pixel + c).reshape(1, *shape)
        moved, _ = site.layer.forward(places, {})
        of_maps = moved.reshape(as_maps(moved.shape[1:]))
        site.emit(move_one, Row(x, y, site.constants("places", of_maps.transpose(1, 2, 0))), y.height)
