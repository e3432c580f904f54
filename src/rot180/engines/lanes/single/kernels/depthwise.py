"""Depthwise convolution: each filter sees one channel, and both lie in the same lane."""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array, Pair
from rot180.engines.lanes.jit import Kernel, kernel
from rot180.engines.lanes.limits import Limits, limited_tile
from rot180.engines.lanes.simd import LANES, outer_lanes, tile_add, tile_columns, tile_store
from rot180.engines.lanes.single.kernels.fold import folded
from rot180.engines.lanes.single.layout import Picture, at, vectors
from rot180.engines.lanes.single.plan import SingleSite


class Forward(NamedTuple):
    x: Picture
    y: Picture
    added: Picture
    height: int  # of the kernel
    width: int
    down: int  # stride
    right: int
    top: int  # padding
    left: int
    dilation_down: int
    dilation_right: int
    w: int  # packed
    b: int
    adds: int
    limits: Limits


@cache
def forward(rows: int) -> Kernel[Forward]:
    """The kernel of a tile of pixels."""

    @kernel(Forward)
    def depthwise_of_one(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
        """y[i,j,c] = b[c] + Σ_uv w[c,u,v] x[i·S+u·D-P, j·S+v·D-P, c]; what is to be added to it; limited.

        A unit: a row of pixels, of 16 channels.
        """
        x, y = row.x, row.y
        for unit in range(first, last):
            i, c = unit % y.height, unit // y.height * LANES
            for start in range(0, y.width, rows):
                j = min(start, y.width - rows)
                total = tile_columns(rows, 1, P, row.b + c, LANES)
                for u in range(row.height):
                    line = i * row.down + u * row.dilation_down - row.top
                    if line < 0 or line >= x.height:
                        continue
                    w = row.w + c * row.height * row.width + u * row.width * LANES
                    place = at(x, line, j * row.right - row.left) + c
                    for _v in range(row.width):
                        total = outer_lanes(total, A, place, row.right * x.pixel, P, w, LANES)
                        place += row.dilation_right * x.pixel
                        w += LANES
                if row.adds:
                    total = tile_add(total, A, at(row.added, i, j) + c, row.added.pixel, LANES)
                total = limited_tile(total, row.limits)
                tile_store(total, A, at(y, i, j) + c, y.pixel, LANES)

    return depthwise_of_one


class Pack(NamedTuple):
    w: int
    packed: int
    scale: int
    channels: int
    taps: int


@kernel(Pack)
def pack_depthwise(P: Array, G: Array, A: Array, S: Array, row: Pack, first: int, last: int) -> None:
    """w (C,1,KH,KW), scaled, as [vector of 16 channels][u][v][16]; a unit: a channel."""
    for c in range(first, last):
        place = row.packed + c // LANES * LANES * row.taps + c % LANES
        for tap in range(row.taps):
            P[place + tap * LANES] = P[row.w + c * row.taps + tap] * P[row.scale + c]


def emit(site: SingleSite, size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> None:
    """The rows; padding above and to the left."""
    x, y = site.source(), site.target()
    right = (y.width - 1) * stride[1] + (size[1] - 1) * dilation[1] - padding[1] - x.width + 1
    x = site.source(halo=(padding[1], max(0, right)))
    fold = folded(site, y.channels, site.layer.bias, site.normalization())
    taps = size[0] * size[1]
    w = site.packed(vectors(y.channels) * taps * LANES)
    site.prepare(pack_depthwise, Pack(site.parameter("w"), w, fold.scale, y.channels, taps), y.channels)
    added = site.added()
    row = Forward(
        *(x, y, added or y, *size, *stride, *padding, *dilation),
        *(w, fold.shift, int(added is not None), site.limits),
    )
    rows = next(r for r in (14, 8, 7, 4, 2, 1) if r <= y.width)
    site.emit(forward(rows), row, vectors(y.channels) * y.height)
