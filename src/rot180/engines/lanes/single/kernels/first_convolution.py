"""Convolution of the image with few filters: 16 neighbouring pixels of a row in the lanes.

With 6 filters, channels would leave 10 of 16 lanes empty. Here a register tile holds y[f..f+R, i, j..j+16·C]: for each
tap and channel it takes R numbers of w, one of each filter, and C vectors of x, and does R·C multiply-adds. So outputs
must be neighbours where inputs are (stride 1 along rows), and the image lies in planes, one below another, as it came.

Each output is the sum that the direct kernel forms, in the same order, so that both give the same bits. It is then
taken out of its lane and laid beside the other channels of its pixel; before that, max pooling in windows of 2x2:

    m[p] = max(y[i,p], y[i+1,p]),    pooled[j] = max(m[2j], m[2j+1])

on whole vectors, of which every second number is taken.
"""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, kernel
from rot180.engines.lanes.limits import Limits, limited_tile
from rot180.engines.lanes.simd import LANES, load, maximum, outer, store, tile_rows, tile_store
from rot180.engines.lanes.single.kernels.fold import folded
from rot180.engines.lanes.single.layout import Picture, at, vectors
from rot180.engines.lanes.single.plan import SingleSite
from rot180.engines.lanes.single.table import tile_for
from rot180.engines.lanes.table import Case
from rot180.layers import MaxPooling


class Forward(NamedTuple):
    x: Picture  # the planes
    y: Picture
    channels: int
    height: int  # of the kernel
    width: int
    down: int  # stride
    top: int  # padding
    left: int
    dilation_down: int
    dilation_right: int
    vectors: int  # of 16 outputs in a row
    w: int  # packed
    b: int
    limits: Limits


@cache
def forward(rows: int, columns: int, pool: int) -> Kernel[Forward]:
    """The kernel of a tile of filters x vectors of pixels, and of pool x pool outputs to each of the result."""

    @kernel(Forward)
    def first_convolution(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
        """y[f,i,j] = b[f] + Σ_uvc w[f,c,u,v] x[c, i·S+u·D-P, j+v·D-P], limited; the maximum of 2x2. A unit: a row."""
        x, y = row.x, row.y
        height = x.height // row.channels
        for i in range(first, last):
            for block in range(0, row.vectors, columns):
                j = min(block, row.vectors - columns) * LANES
                for tile in range(0, y.channels, rows):
                    f = min(tile, y.channels - rows)
                    for q in range(pool):
                        total = tile_rows(rows, columns, P, row.b + f, 1)
                        for u in range(row.height):
                            line = (i * pool + q) * row.down + u * row.dilation_down - row.top
                            if line < 0 or line >= height:
                                continue
                            w = row.w + u * row.width * row.channels * y.channels + f
                            for v in range(row.width):
                                place = at(x, line, j - row.left + v * row.dilation_right)
                                for _c in range(row.channels):
                                    total = outer(total, P, w, 1, A, place, LANES)
                                    place += height * x.line
                                    w += y.channels
                        total = limited_tile(total, row.limits)
                        tile_store(total, S, q * rows * columns * LANES, columns * LANES, LANES)
                    if pool == 2:
                        for k in range(0, rows * columns * LANES, LANES):
                            store(S, k, maximum(load(S, rows * columns * LANES + k), load(S, k)))
                        for k in range(0, rows * columns * LANES, LANES):
                            store(S, k, maximum(load(S, k + 1), load(S, k)))
                    there = at(y, i, j // pool) + f
                    for p in range(min(columns * LANES // pool, y.width - j // pool)):
                        for k in range(rows):
                            A[there + k] = S[k * columns * LANES + p * pool]
                        there += y.pixel

    return first_convolution


class Pack(NamedTuple):
    w: int
    packed: int
    scale: int  # of each filter
    filters: int
    channels: int
    taps: int


@kernel(Pack)
def pack_first(P: Array, G: Array, A: Array, S: Array, row: Pack, first: int, last: int) -> None:
    """w (F,C,KH,KW), scaled, as [u][v][c][F]; a unit: a filter."""
    for f in range(first, last):
        for c in range(row.channels):
            for tap in range(row.taps):
                w = P[row.w + (f * row.channels + c) * row.taps + tap]
                P[row.packed + (tap * row.channels + c) * row.filters + f] = w * P[row.scale + f]


def emit(site: SingleSite, case: Case) -> None:
    """The rows."""
    (height, width), (down, _), dilation = case.kernel, case.stride, case.dilation
    (top, _), (left, _) = site.layer.pads(site.plan.graph.input_shape_of(site.node))
    pool = 1 if site.plan.fused(site.node.name, MaxPooling) is None else 2
    y, count = site.target(), vectors(case.outputs[1])
    rows, columns = tile_for(case.filters, count)
    reach = count * LANES + (width - 1) * dilation[1]
    x = site.source(halo=(left, max(0, reach - left - case.inputs[1])), in_vectors=False)
    fold = folded(site, case.filters, site.layer.bias, site.normalization())
    w = site.packed(height * width * case.channels * case.filters)
    pack = Pack(site.parameter("w"), w, fold.scale, case.filters, case.channels, height * width)
    site.prepare(pack_first, pack, case.filters)
    site.scratch((pool * rows * columns + 1) * LANES)
    row = Forward(
        *(x, y, case.channels, height, width, down, top, left, *dilation, count),
        *(w, fold.shift, site.limits),
    )
    site.emit(forward(rows, columns, pool), row, y.height)
