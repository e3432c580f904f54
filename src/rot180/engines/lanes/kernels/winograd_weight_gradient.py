"""The weight gradient of Winograd's convolution.

    dw[f,c] = Gᵀ[Σ_tiles D[f] ⊙ V[c]]G        D[f] = A dY[f] Aᵀ,   V[c] = Bᵀ x[c] B

with the transforms of winograd_transforms.py. The sum runs over tiles and images, for each tap by itself: a product of
matrices whose terms are the tiles' 16 images. There filters go into the lanes: D is transposed, 16 x 16 at a time.

Where filters are few, partial sums are made in slots, each of a share of the tiles that depends on the batch alone, and
a second row adds them in the slots' order. Largest errors as in winograd.py: F(4x4,3x3) and F(2x2,5x5) 3e-5, F(2x2,3x3)
2e-6; the direct kernels 7e-7.
"""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, helper, kernel
from rot180.engines.lanes.kernels.winograd import (
    Tiling,
    halo,
    place_of,
    register_tile,
    tiling_of,
    transform_inputs,
    zero_line,
)
from rot180.engines.lanes.kernels.winograd_transforms import added, evaluate, gather, load_line, scaled, store_line
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site
from rot180.engines.lanes.simd import LANES, outer, tile_load, tile_store, tile_zeros, transpose
from rot180.engines.lanes.table import Variant

CHUNK = 4  # tiles at a time: 64 terms of the sum
SHARE = 64  # filters at a time: scratch for their sums, against transforms of x made again for each share
SLOTS = 8  # at most


@helper
def transform_gradients(
    size: int,
    taps: int,
    A: Array,
    dy: Maps,
    filters: int,
    i: int,
    j: int,
    S: Array,
    temporary: int,
    turned: int,
    to: int,
    plane: int,
    image: int,
) -> None:
    """D = A dY Aᵀ of 16 filters' tile from row i, column j on, with filters in the lanes: tap k to `to` + k·plane,
    then `image` floats from an image to the next. Lanes without a filter have no meaning.
    """
    for f in range(filters, min(filters + LANES, dy.channels)):
        for u in range(size):
            row = zero_line()
            if i + u < dy.height:
                row = evaluate(taps, size, load_line(size, A, at(dy, f, i + u, j), LANES))
            store_line(taps, row, S, temporary + u * LANES, taps * LANES)
        for k in range(taps):
            column = evaluate(taps, size, load_line(size, S, temporary + k * taps * LANES, LANES))
            store_line(taps, column, S, turned + k * taps * LANES * LANES + (f - filters) * LANES, LANES * LANES)
    for tap in range(taps * taps):
        block = transpose(tile_load(16, 1, S, turned + tap * LANES * LANES, LANES, 0))
        tile_store(block, S, to + tap * plane, image, 0)


class Sums(NamedTuple):
    x: Maps
    dy: Maps
    tiling: Tiling
    slots: int  # shares of the tiles, each with sums of its own
    shares: int  # of the filters
    share_filters: int  # a multiple of 16 x the register tile's columns
    channels: int  # rounded up to a multiple of the register tile's rows
    chunk: int  # tiles at a time
    sums: int  # [slot][share][tap][channels][share_filters] in A; of one slot, a share at a time in S
    dw: int


@helper
def finish(
    kernel_size: int,
    taps: int,
    row: Sums,
    source: Array,
    sums: int,
    slots: int,
    filters: int,
    c: int,
    S: Array,
    temporary: int,
    G: Array,
) -> None:
    """dw[f,c] += Gᵀ[Σ_slots source]G for one channel of 16 filters, which are the lanes."""
    of_one = kernel_size * kernel_size
    tap_size = row.channels * row.share_filters
    share_size = taps * taps * tap_size
    place = sums + filters // row.share_filters * share_size + c * row.share_filters + filters % row.share_filters
    result = temporary + LANES * kernel_size * taps
    for k in range(taps):
        line = load_line(taps, source, place + k * taps * tap_size, tap_size)
        for slot in range(1, slots):
            other = load_line(taps, source, place + k * taps * tap_size + slot * row.shares * share_size, tap_size)
            line = added(line, other)
        line = gather(taps, kernel_size, scaled(taps, line))
        store_line(kernel_size, line, S, temporary + k * LANES, taps * LANES)
    for i in range(kernel_size):
        line = scaled(taps, load_line(taps, S, temporary + i * taps * LANES, LANES))
        store_line(kernel_size, gather(taps, kernel_size, line), S, result + i * kernel_size * LANES, LANES)
    for r in range(min(LANES, row.dy.channels - filters)):
        dw = row.dw + ((filters + r) * row.x.channels + c) * of_one
        for tap in range(of_one):
            G[dw + tap] += S[result + tap * LANES + r]


@cache
def sums(variant: Variant, rows: int, columns: int) -> Kernel[Sums]:
    """The kernel of a register tile of channels x columns of 16 filters."""
    size, kernel_size, taps = variant.size, variant.kernel, variant.taps

    @kernel(Sums)
    def winograd_sums(P: Array, G: Array, A: Array, S: Array, row: Sums, first: int, last: int) -> None:
        """Σ_tiles D[f] ⊙ V[c]; a unit: a slot of tiles and a share of the filters."""
        points, images = taps * taps, row.chunk * LANES  # terms of the sum at a time
        v_plane, d_plane = row.channels * images + LANES, row.share_filters * images + LANES
        temporary, turned, v = 0, LANES * points, LANES * points * (1 + LANES)
        d = v + points * v_plane
        width = columns * LANES
        for unit in range(first, last):
            slot, share = unit // row.shares, unit % row.shares
            target, sums = S, d + points * d_plane
            if row.slots > 1:
                target, sums = A, row.sums + unit * points * row.channels * row.share_filters
            begin, end = slot * row.tiling.total // row.slots, (slot + 1) * row.tiling.total // row.slots
            for start in range(begin, end, row.chunk):
                count = min(row.chunk, end - start)
                for k in range(count):
                    group, down, right = place_of(row.tiling, start + k)
                    x, dy = of_group(row.x, group), of_group(row.dy, group)
                    i, j = down * size, right * size
                    for c in range(x.channels):
                        place = v + c * images + k * LANES
                        top, left = i - row.tiling.top, j - row.tiling.left
                        transform_inputs(taps, A, x, c, top, left, S, temporary, place, v_plane)
                    for column in range(0, row.share_filters, LANES):
                        f, place = share * row.share_filters + column, d + k * LANES * row.share_filters + column
                        transform_gradients(
                            *(size, taps, A, dy, f, i, j, S, temporary, turned, place, d_plane, row.share_filters)
                        )
                for tap in range(points):
                    for f in range(0, row.share_filters, width):
                        for c in range(0, row.channels, rows):
                            place = sums + (tap * row.channels + c) * row.share_filters + f
                            total = tile_zeros(rows, columns)
                            if start > begin:
                                total = tile_load(rows, columns, target, place, row.share_filters, LANES)
                            inputs, outputs = v + tap * v_plane + c * images, d + tap * d_plane + f
                            for _n in range(count * LANES):
                                total = outer(total, S, inputs, images, S, outputs, LANES)
                                inputs += 1
                                outputs += row.share_filters
                            tile_store(total, target, place, row.share_filters, LANES)
            if row.slots == 1:
                filters = share * row.share_filters
                sums -= share * points * row.channels * row.share_filters
                for f in range(filters, min(filters + row.share_filters, row.dy.channels), LANES):
                    for c in range(row.x.channels):
                        finish(kernel_size, taps, row, target, sums, 1, f, c, S, 0, G)

    return winograd_sums


@cache
def slots_sum(variant: Variant) -> Kernel[Sums]:
    """The kernel that ends a weight gradient of several slots."""
    kernel_size, taps = variant.kernel, variant.taps

    @kernel(Sums)
    def winograd_slots_sum(P: Array, G: Array, A: Array, S: Array, row: Sums, first: int, last: int) -> None:
        """dw[f,c] += Gᵀ[Σ_slots ...]G; a unit: a channel of 16 filters."""
        for unit in range(first, last):
            filters, c = unit // row.x.channels * LANES, unit % row.x.channels
            finish(kernel_size, taps, row, A, row.sums, row.slots, filters, c, S, 0, G)

    return winograd_slots_sum


# --- the rows ---------------------------------------------------------------------------------------------------------


def slots_and_shares(site: Site, filters: int) -> tuple[int, int]:
    """Of a weight gradient: slots of tiles, which set the order of its sum, and shares of filters, which do not.

    With few filters slots give all threads work; with many, shares do, and sums need no memory but scratch.
    """
    slots = max(1, min(site.groups, SLOTS * LANES // filters))
    shares = max(filters // SHARE, min(site.plan.threads // slots, filters // LANES), 1)
    return slots, shares


def emit_weight_gradient(site: Site, variant: Variant, top: int, left: int) -> None:
    """The rows that add to dw."""
    tiling = tiling_of(site, variant, site.y(), top, left)
    x = site.x(halo=halo(variant, tiling, site.x().width))
    dy = site.dy(halo=(0, tiling.across * variant.size - site.dy().width))
    points, filters = variant.taps**2, dy.channels
    slots, shares = slots_and_shares(site, filters)
    vectors = -(-filters // (LANES * shares))
    rows, columns = register_tile(x.channels, vectors)
    share_filters = -(-vectors // columns) * columns * LANES
    channels = -(-x.channels // rows) * rows
    share_size = points * channels * share_filters
    chunk = min(CHUNK, tiling.total)
    scratch = points * LANES * (4 + LANES + (channels + share_filters) * chunk)
    place = 0
    if slots == 1:
        site.scratch(scratch + share_size)
    else:
        site.scratch(scratch)
        place = site.keep("sums of dw", -(-slots * shares * share_size // (LANES * site.groups))).start
    row = Sums(x, dy, tiling, slots, shares, share_filters, channels, chunk, place, site.parameter("w"))
    site.emit_across(sums(variant, rows, columns), row, slots * shares)
    if slots > 1:
        site.emit_across(slots_sum(variant), row, -(-filters // LANES) * x.channels)
