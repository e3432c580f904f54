"""Convolution with a kernel of one tap: at every pixel a product of the weights with that pixel's channels.

    forward            y[f,p] = b[f] + Σ_c w[f,c] x[c,p]
    input gradient     dx[c,p] = Σ_f w[f,c] dy[f,p]          the same, weights turned
    weight gradient    dw[f,c] = Σ_p dy[f,p] x[c,p]

There are no neighbours to share, so the loops of convolution.py would fetch all maps anew for every few filters, each
from another place in memory. Here a unit of work copies a few pixels' channels into scratch once, where they lie side
by side, and takes them through all filters. Pixels are numbered through the groups of 16 images. A stride S skips
pixels: those of x in the forward pass; in the input gradient they are pixels of dx, and 0.
"""

from functools import cache, partial
from math import sqrt
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import TILES, Kernel, helper, kernel, target
from rot180.engines.lanes.kernels.packing import Geometry, Pack, convolution_pack, tile_for
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.limits import Limits, limited_tile, limits_of
from rot180.engines.lanes.plan import Site
from rot180.engines.lanes.simd import (
    LANES,
    horizontal_sum,
    load,
    outer,
    outer_lanes,
    store,
    tile_load,
    tile_rows,
    tile_store,
    zeros,
)

GATHERED = 6144  # vectors of x at a time: 384 KB stay in the second-level cache
UNITS_A_THREAD = 4
SUMMED = 8192  # sums of a weight gradient at a time: 512 KB, and the pixels some 300 KB
PIXELS = 24  # of a weight gradient at a time: a tile's lie in the first-level cache
LINE = PIXELS * LANES + LANES  # floats from a channel's to the next: not a power of two


class Pixels(NamedTuple):
    """The pixels that are computed, row by row, and where they lie."""

    height: int  # of one group
    width: int
    total: int  # of all groups
    x_down: int  # rows of x from one to the next
    x_right: int
    y_down: int
    y_right: int


class Row(NamedTuple):
    x: Maps  # dy, for the input gradient
    y: Maps  # dx
    pixels: Pixels
    packed: int
    in_arena: int  # 1 where packed lies in A, not in P
    b: int
    limits: Limits
    together: int  # pixels at a time
    shares: int  # of the blocks of filters; each has units of its own


@helper
def pixel_of(pixels: Pixels, pixel: int) -> tuple[int, int, int]:
    """(group, row, column)."""
    of_one = pixels.height * pixels.width
    return pixel // of_one, pixel % of_one // pixels.width, pixel % pixels.width


@helper
def gather(
    x: Maps,
    first: int,
    last: int,
    pixels: Pixels,
    down: int,
    right: int,
    begin: int,
    end: int,
    A: Array,
    S: Array,
    to: int,
    line: int,
) -> None:
    """Copy these channels of these pixels, which lie `down` rows and `right` columns apart, to `to` + channel·line."""
    first_group, first_row, first_column = pixel_of(pixels, begin)
    for c in range(first, last):
        group, i, j = first_group, first_row, first_column
        place, there = at(of_group(x, group), c, i * down, j * right), to + (c - first) * line
        for _p in range(begin, end):
            store(S, there, load(A, place))
            there += LANES
            j += 1
            place += right * LANES
            if j == pixels.width:
                i, j = i + 1, 0
                if i == pixels.height:
                    group, i = group + 1, 0
                place = at(of_group(x, group), c, i * down, 0)


@cache
def pointwise(rows: int, columns: int) -> Kernel[Row]:
    """The kernel of a register tile of filters x pixels."""

    @kernel(Row)
    def convolution_pointwise(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
        """y[f,p] = b[f] + Σ_c w[f,c] x[c,p], limited; a unit: a few pixels, a share of filters."""
        pixels, channels, filters = row.pixels, row.x.channels, row.y.channels
        weights = A if row.in_arena else P
        blocks = (filters + rows - 1) // rows
        aside = channels * row.together * LANES
        for unit in range(first, last):
            begin = min(unit // row.shares * row.together, pixels.total - row.together)
            share = unit % row.shares
            end = begin + row.together
            gather(row.x, 0, channels, pixels, pixels.x_down, pixels.x_right, begin, end, A, S, 0, row.together * LANES)
            for block in range(share * blocks // row.shares, (share + 1) * blocks // row.shares):
                f = min(block * rows, filters - rows)
                for start in range(0, row.together, columns):
                    total = tile_rows(rows, columns, P, row.b + f, 1)
                    w, place = row.packed + block * channels * rows, start * LANES
                    for _c in range(channels):
                        total = outer(total, weights, w, 1, S, place, LANES)
                        w += rows
                        place += row.together * LANES
                    total = limited_tile(total, row.limits)
                    group, i, j = pixel_of(pixels, begin + start)
                    if j + columns <= pixels.width:
                        y = at(of_group(row.y, group), f, i * pixels.y_down, j * pixels.y_right)
                        tile_store(total, A, y, row.y.plane, pixels.y_right * LANES)
                        continue
                    tile_store(total, S, aside, columns * LANES, LANES)
                    for k in range(columns):
                        group, i, j = pixel_of(pixels, begin + start + k)
                        y = at(of_group(row.y, group), f, i * pixels.y_down, j * pixels.y_right)
                        for r in range(rows):
                            store(A, y + r * row.y.plane, load(S, aside + (r * columns + k) * LANES))

    return convolution_pointwise


class WeightGradient(NamedTuple):
    x: Maps
    dy: Maps
    pixels: Pixels
    dw: int
    filter_chunk: int  # a unit's filters, a multiple of the register tile's rows
    channel_chunk: int  # and its channels, a multiple of the tile's columns


@cache
def weight_gradient(rows: int, columns: int) -> Kernel[WeightGradient]:
    """The kernel of a register tile of filters x channels."""

    @kernel(WeightGradient)
    def pointwise_weight_gradient(
        P: Array, G: Array, A: Array, S: Array, row: WeightGradient, first: int, last: int
    ) -> None:
        """dw[f,c] += Σ_p dy[f,p] x[c,p], lane by lane, the lanes summed at the end; a unit: a chunk of filters by one
        of channels.

        What goes beyond the last filter or channel counts as zeros.
        """
        pixels, size = row.pixels, rows * columns * LANES
        channel_chunks = (row.x.channels + row.channel_chunk - 1) // row.channel_chunk
        sums = row.filter_chunk * row.channel_chunk * LANES
        x_place, dy_place = sums, sums + row.channel_chunk * LINE
        for unit in range(first, last):
            f, c = unit // channel_chunks * row.filter_chunk, unit % channel_chunks * row.channel_chunk
            last_f, last_c = min(f + row.filter_chunk, row.dy.channels), min(c + row.channel_chunk, row.x.channels)
            for place in range(0, dy_place + row.filter_chunk * LINE, LANES):
                store(S, place, zeros())
            for begin in range(0, pixels.total, PIXELS):
                count = min(PIXELS, pixels.total - begin)
                end = begin + count
                gather(row.x, c, last_c, pixels, pixels.x_down, pixels.x_right, begin, end, A, S, x_place, LINE)
                gather(row.dy, f, last_f, pixels, 1, 1, begin, end, A, S, dy_place, LINE)
                tile = 0
                for r in range(0, row.filter_chunk, rows):
                    for k in range(0, row.channel_chunk, columns):
                        total = tile_load(rows, columns, S, tile, columns * LANES, LANES)
                        delta, place = dy_place + r * LINE, x_place + k * LINE
                        for _p in range(count):
                            total = outer_lanes(total, S, delta, LINE, S, place, LINE)
                            delta += LANES
                            place += LANES
                        tile_store(total, S, tile, columns * LANES, LANES)
                        tile += size
            for r in range(last_f - f):
                for k in range(last_c - c):
                    tile = (r // rows * (row.channel_chunk // columns) + k // columns) * size
                    lanes = load(S, tile + (r % rows * columns + k % columns) * LANES)
                    G[row.dw + (f + r) * row.x.channels + c + k] += horizontal_sum(lanes)

    return pointwise_weight_gradient


class Zero(NamedTuple):
    maps: Maps


@kernel(Zero)
def zero_maps(P: Array, G: Array, A: Array, S: Array, row: Zero, first: int, last: int) -> None:
    """x[c,i,j] = 0; a unit: a map of one group."""
    for unit in range(first, last):
        x, c = of_group(row.maps, unit // row.maps.channels), unit % row.maps.channels
        for i in range(x.height):
            place = at(x, c, i, 0)
            for _j in range(x.width):
                store(A, place, zeros())
                place += LANES


def emit_pointwise(site: Site, g: Geometry, x: Maps, y: Maps, turned: bool) -> None:
    """The rows of the forward pass; of the input gradient where weights are turned: x is dy then, and y dx."""
    height, width = (x.height, x.width) if turned else (y.height, y.width)
    stride, none = (g.stride_down, g.stride_right), (1, 1)
    total = height * width * site.groups
    pixels = Pixels(height, width, total, *((*none, *stride) if turned else (*stride, *none)))
    rows, columns = tile_for(y.channels, total)
    blocks = -(-y.channels // rows)
    packed, in_arena = site.weights(
        *("turned weights" if turned else "weights", convolution_pack),
        partial(Pack, site.parameter("w"), geometry=g, rows=rows, by_channel=int(turned)),
        *(blocks, blocks * rows * x.channels),
    )
    if turned and stride != none:
        site.emit(zero_maps, Zero(y), y.channels)
    b = site.parameter("b") if site.layer.bias and not turned else site.packed(y.channels)
    count = min(max(GATHERED // x.channels, columns), total) // columns * columns
    site.scratch((x.channels * count + rows * columns) * LANES)
    chunks = -(-total // count)
    shares = min(blocks, max(1, -(-UNITS_A_THREAD * site.plan.threads // chunks))) if site.plan.threads > 1 else 1
    limits = site.limits if not turned else limits_of(None)
    row = Row(x, y, pixels, packed, in_arena, b, limits, count, shares)
    site.emit_across(pointwise(rows, columns), row, chunks * shares)


def emit_weight_gradient(site: Site, g: Geometry) -> None:
    """The rows that add to dw."""
    x, dy = site.x(), site.dy()
    pixels = Pixels(dy.height, dy.width, dy.height * dy.width * site.groups, g.stride_down, g.stride_right, 1, 1)
    rows, columns = TILES[target()][0]
    filters, channels = -(-dy.channels // rows), -(-x.channels // columns)  # in tiles
    across = min(filters, max(1, round(sqrt(SUMMED) / rows)))  # squares read least
    along = min(channels, max(1, SUMMED // (across * rows * columns)))
    across = min(filters, max(1, SUMMED // (along * rows * columns)))
    while across * along > 1 and -(-filters // across) * -(-channels // along) < 2 * site.plan.threads:
        across, along = (-(-across // 2), along) if across > along else (across, -(-along // 2))
    filter_chunk, channel_chunk = across * rows, along * columns
    site.scratch(filter_chunk * channel_chunk * LANES + (filter_chunk + channel_chunk) * LINE)
    row = WeightGradient(x, dy, pixels, site.parameter("w"), filter_chunk, channel_chunk)
    site.emit_across(weight_gradient(rows, columns), row, -(-filters // across) * -(-channels // along))
