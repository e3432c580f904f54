"""Convolution and dense layers, direct: a register tile of pixels x vectors of 16 filters.

A tile holds y[i, j..j+R, f..f+16·C]. For each tap and channel it takes R numbers of x, one of each pixel, and C vectors
of weights, and does R·C multiply-adds. Weights are laid out once, as they are met: [block of 16·C filters][u][v][c] of
16·C. A dense layer is a convolution whose kernel is as large as the map.

Where taps and channels of a row of x follow one another without a gap, they are one run of numbers. With groups, a
block reads the channels of all groups that its filters belong to, and the weights of other groups' channels are zeros.
Tiles and blocks at the end are moved back to fit, as in the other layout.
"""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array, Pair
from rot180.engines.lanes.jit import Kernel, helper, kernel
from rot180.engines.lanes.limits import Limits, limited_tile
from rot180.engines.lanes.simd import LANES, outer, tile_add, tile_columns, tile_store
from rot180.engines.lanes.single.kernels import depthwise, first_convolution, winograd
from rot180.engines.lanes.single.kernels.fold import folded
from rot180.engines.lanes.single.layout import Picture, at, vectors
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.engines.lanes.single.table import case_of, choose, pixels_chosen, tile_for
from rot180.engines.lanes.table import Variant
from rot180.layers import Convolution, Dense

TALL = 8  # pixels of a tile: with more, their addresses take more registers than there are


class Geometry(NamedTuple):
    """A convolution's settings, and which channels a block of filters reads."""

    height: int  # of the kernel
    width: int
    down: int  # stride
    right: int
    top: int  # padding
    left: int
    dilation_down: int
    dilation_right: int
    vectors: int  # of 16 filters
    channels: int  # that a block reads: all, or those of its groups
    group_filters: int
    group_channels: int


class Forward(NamedTuple):
    x: Picture
    y: Picture
    added: Picture
    geometry: Geometry
    runs: int  # of numbers in a row of taps, that lie without a gap
    run: int  # numbers in one
    w: int  # packed
    b: int
    adds: int
    limits: Limits


@helper
def first_filter(g: Geometry, block: int, columns: int) -> int:
    """Where a block of filters begins."""
    return min(block * columns, g.vectors - columns) * LANES


@helper
def first_channel(g: Geometry, f: int, channels: int) -> int:
    """Where the channels begin that the block of filters from f on reads."""
    return min(f // g.group_filters * g.group_channels, channels - g.channels)


@cache
def forward(rows: int, columns: int, apart: int) -> Kernel[Forward]:
    """The kernel of a tile of pixels x vectors of filters; x's pixels lie `apart` floats apart, 0 for any number.

    Where that is known, one register holds the addresses of all pixels.
    """

    @kernel(Forward)
    def convolution_of_one(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
        """y[i,j,f] = b[f] + Σ_uvc w[f,c,u,v] x[i·S+u·D-P, j·S+v·D-P, c]; what is to be added to it; limited.

        A unit: a row of pixels, of a block of filters.
        """
        g, x, y = row.geometry, row.x, row.y
        kernel_line = row.runs * row.run * columns * LANES
        for unit in range(first, last):
            block, i = unit // y.height, unit % y.height
            f = first_filter(g, block, columns)
            channel = first_channel(g, f, x.channels)
            for start in range(0, y.width, rows):
                j = min(start, y.width - rows)
                total = tile_columns(rows, columns, P, row.b + f, LANES)
                step = apart if apart else g.right * x.pixel
                for u in range(g.height):
                    line = i * g.down + u * g.dilation_down - g.top
                    if line < 0 or line >= x.height:
                        continue
                    w = row.w + (block * g.height + u) * kernel_line
                    place = at(x, line, j * g.right - g.left) + channel
                    for _run in range(row.runs):
                        here = place
                        for _c in range(row.run):
                            total = outer(total, A, here, step, P, w, LANES)
                            here += 1
                            w += columns * LANES
                        place += g.dilation_right * x.pixel
                if row.adds:
                    total = tile_add(total, A, at(row.added, i, j) + f, row.added.pixel, LANES)
                total = limited_tile(total, row.limits)
                tile_store(total, A, at(y, i, j) + f, y.pixel, LANES)

    return convolution_of_one


class Pack(NamedTuple):
    w: int
    packed: int
    scale: int  # of each filter
    filters: int
    x_channels: int
    columns: int
    geometry: Geometry


@kernel(Pack)
def pack_weights(P: Array, G: Array, A: Array, S: Array, row: Pack, first: int, last: int) -> None:
    """w (F,C/G,KH,KW), scaled, as [block][u][v][c][16·C]; zeros for what does not exist; a unit: a block."""
    g, taps, width = row.geometry, row.geometry.height * row.geometry.width, row.columns * LANES
    for block in range(first, last):
        start = first_filter(g, block, row.columns)
        channel = first_channel(g, start, row.x_channels)
        for c in range(g.channels):
            for k in range(min(width, row.filters - start)):
                f = start + k
                own = channel + c - f // g.group_filters * g.group_channels  # its number in the filter's group
                if 0 <= own < g.group_channels:
                    w = row.w + (f * g.group_channels + own) * taps
                    for tap in range(taps):
                        place = row.packed + ((block * taps + tap) * g.channels + c) * width + k
                        P[place] = P[w + tap] * P[row.scale + f]


def halo(width: int, out: int, g: Geometry) -> tuple[int, int]:
    """Columns of zeros that are read beside maps of this width."""
    return g.left, max(0, (out - 1) * g.right + (g.width - 1) * g.dilation_right - g.left - width + 1)


@lowers(Convolution)
class ConvolutionLowering:
    """Any kernel, stride, padding, dilation and groups; by Winograd's algorithm where that is less work."""

    def forward(self, site: SingleSite) -> None:
        layer: Convolution = site.layer
        shape = site.plan.graph.input_shape_of(site.node)
        (top, _), (left, _) = layer.pads(shape)
        case = case_of(layer, shape, site.plan.precise)
        if site.reads_planes:
            site.plan.choices.append(pixels_chosen(site.node.name, case))
            first_convolution.emit(site, case)
            return
        size, stride, dilation = case.kernel, case.stride, case.dilation
        if layer.groups == layer.filters == shape[0] > 1:
            depthwise.emit(site, size, stride, (top, left), dilation)
            return
        choice = choose(site.node.name, case)
        site.plan.choices.append(choice)
        if isinstance(choice.algorithm, Variant):
            winograd.emit(site, choice.algorithm, (top, left))
        else:
            emit(site, layer.groups, size, stride, (top, left), dilation)


@lowers(Dense)
class DenseLowering:
    """One output pixel."""

    def forward(self, site: SingleSite) -> None:
        x = site.source(in_vectors=False)
        emit(site, 1, (x.height, x.width), (1, 1), (0, 0), (1, 1))


def emit(
    site: SingleSite, groups: int, size: Pair, stride: Pair, padding: Pair, dilation: Pair, weights: int | None = None
) -> None:
    """The rows of a convolution; padding above and to the left. weights: where they lie, if not in the parameter w."""
    x, y = site.source(in_vectors=False), site.target()
    rows, columns = tile_for(y.width, vectors(y.channels))
    group_filters, group_channels = y.channels // groups, x.channels // groups
    g = Geometry(
        *(*size, *stride, *padding, *dilation),
        *(vectors(y.channels), x.channels, group_filters, group_channels),
    )
    blocks = -(-g.vectors // columns)
    starts = [first_filter(g, block, columns) for block in range(blocks)]
    lasts = [min(start + columns * LANES, y.channels) - 1 for start in starts]
    touched = max(f // group_filters - start // group_filters + 1 for start, f in zip(starts, lasts, strict=True))
    g = g._replace(channels=touched * group_channels)
    x = site.source(halo=halo(x.width, y.width, g), in_vectors=False)
    fold = folded(site, y.channels, site.layer.bias, site.normalization())
    w = site.packed(blocks * g.height * g.width * g.channels * columns * LANES)
    weights = site.parameter("w") if weights is None else weights
    pack = Pack(weights, w, fold.scale, y.channels, x.channels, columns, g)
    site.prepare(pack_weights, pack, blocks)
    gapless = g.channels == x.pixel and g.dilation_right == 1
    runs, run = (1, g.width * g.channels) if gapless else (g.width, g.channels)
    added = site.added()
    row = Forward(x, y, added or y, g, runs, run, w, fold.shift, int(added is not None), site.limits)
    apart = LANES if rows > TALL and g.right * x.pixel == LANES else 0
    site.emit(forward(rows, columns, apart), row, blocks * y.height)
