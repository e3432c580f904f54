"""Locally connected: filters in the lanes; each place's weights are laid out for it once, as they are met."""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, kernel
from rot180.engines.lanes.kernels.max_pooling import Window, window_of
from rot180.engines.lanes.simd import LANES, outer, tile_columns, tile_store
from rot180.engines.lanes.single.layout import Picture, at, vectors
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.engines.lanes.single.table import tile_for
from rot180.layers import LocallyConnected


class Forward(NamedTuple):
    x: Picture
    y: Picture
    window: Window
    w: int  # packed: [i][j][u][v][c][16·V], V the vectors of filters
    b: int  # packed: [i][j][16·V]


@cache
def forward(columns: int) -> Kernel[Forward]:
    """The kernel of a tile of so many vectors of filters."""

    @kernel(Forward)
    def local_of_one(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
        """y[i,j,f] = b[i,j,f] + Σ_uvc w[i,j,u,v,c,f] x[i·S+u-P, j·S+v-P, c]; a unit: a row of pixels."""
        x, y, window = row.x, row.y, row.window
        filters = (y.channels + LANES - 1) // LANES * LANES
        for i in range(first, last):
            for j in range(y.width):
                pixel = i * y.width + j
                for start in range(0, filters, columns * LANES):
                    f = min(start, filters - columns * LANES)
                    total = tile_columns(1, columns, P, row.b + pixel * filters + f, LANES)
                    for u in range(window.height):
                        line = i * window.down + u - window.top
                        if line < 0 or line >= x.height:
                            continue
                        for v in range(window.width):
                            column = j * window.right + v - window.left
                            if column < 0 or column >= x.width:
                                continue
                            tap = (pixel * window.height + u) * window.width + v
                            w = row.w + tap * x.channels * filters + f
                            place = at(x, line, column)
                            for _c in range(x.channels):
                                total = outer(total, A, place, 0, P, w, LANES)
                                place += 1
                                w += filters
                    tile_store(total, A, at(y, i, j) + f, 0, LANES)

    return local_of_one


class Pack(NamedTuple):
    w: int
    b: int
    has_bias: int
    packed: int
    packed_bias: int
    pixels: int
    filters: int
    channels: int
    taps: int


@kernel(Pack)
def pack_local(P: Array, G: Array, A: Array, S: Array, row: Pack, first: int, last: int) -> None:
    """w (OH,OW,F,C,KH,KW) as [i][j][u][v][c][f], b (F,OH,OW) as [i][j][f]; a unit: a pixel."""
    filters = (row.filters + LANES - 1) // LANES * LANES
    for pixel in range(first, last):
        for f in range(row.filters):
            if row.has_bias:
                P[row.packed_bias + pixel * filters + f] = P[row.b + f * row.pixels + pixel]
            w = row.w + (pixel * row.filters + f) * row.channels * row.taps
            for c in range(row.channels):
                for tap in range(row.taps):
                    place = row.packed + ((pixel * row.taps + tap) * row.channels + c) * filters + f
                    P[place] = P[w + c * row.taps + tap]


@lowers(LocallyConnected)
class LocallyConnectedLowering:
    """One way for all."""

    def forward(self, site: SingleSite) -> None:
        x, y, window = site.source(in_vectors=False), site.target(), window_of(site)
        taps, pixels, filters = window.height * window.width, y.height * y.width, vectors(y.channels) * LANES
        w, b = site.packed(pixels * taps * x.channels * filters), site.packed(pixels * filters)
        bias = site.parameter("b") if site.layer.bias else 0
        pack = Pack(site.parameter("w"), bias, int(site.layer.bias), w, b, pixels, y.channels, x.channels, taps)
        site.prepare(pack_local, pack, pixels)
        _, columns = tile_for(1, vectors(y.channels))
        site.emit(forward(columns), Forward(x, y, window, w, b), y.height)
