"""Convolution by Winograd's minimal filtering, for stride 1, dilation 1 and one group: forward and input gradient.

The result is cut into tiles of m x m; t = m+r-1, and a tap here is one of the t² points at which polynomials are
evaluated. winograd_transforms.py derives the form that is computed; with channels it is

    forward            Y[f] = Aᵀ[Σ_c U[f,c] ⊙ V[c]]A + b[f]        U[f,c] = G w[f,c] Gᵀ,   V[c] = Bᵀ x[c] B
    input gradient     the same, on dy, with rot180(w) and the roles of channels and filters exchanged
    weight gradient    see winograd_weight_gradient.py

For each tap by itself the sum in brackets is a product of matrices. So a unit of work takes a few tiles, transforms all
their channels into scratch, does t² matrix products there with the register tile of the direct kernels, and transforms
back. Tiles are numbered through the groups of 16 images, row by row. Those at the rim reach beyond it: rows of x that
do not exist count as zeros, columns are zeros of the halo, and what lies outside the result is not stored.

Largest errors against float64, of the largest value, for 6 to 512 maps: F(4x4,3x3) 2e-5, F(2x2,5x5) 1e-5, F(2x2,3x3)
1e-6; the direct kernels 3e-6. tests/lanes/test_winograd.py measures some.
"""

from functools import cache, partial
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, helper, kernel, tile_fits
from rot180.engines.lanes.kernels.winograd_transforms import (
    Line,
    evaluate,
    gather,
    interpolate,
    load_line,
    raised,
    scaled,
    store_line,
)
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.limits import Limits, limits_of
from rot180.engines.lanes.plan import Site
from rot180.engines.lanes.simd import LANES, Lanes, broadcast, outer, prefetch, tile_store, tile_zeros, zeros
from rot180.engines.lanes.table import Variant


class Tiling(NamedTuple):
    """Tiles of outputs, and where their inputs begin."""

    down: int  # tiles of one group
    across: int
    total: int  # of all groups
    top: int  # padding: tile (0, 0) starts at input (-top, -left)
    left: int


@helper
def place_of(tiling: Tiling, tile: int) -> tuple[int, int, int]:
    """(group, row, column) of a tile, counted in tiles."""
    of_one = tiling.down * tiling.across
    return tile // of_one, tile % of_one // tiling.across, tile % tiling.across


@helper
def zero_line() -> Line:
    """Nothing but zeros."""
    return zeros(), zeros(), zeros(), zeros(), zeros(), zeros()


@helper
def transform_inputs(
    taps: int, A: Array, x: Maps, c: int, i: int, j: int, S: Array, temporary: int, to: int, plane: int
) -> None:
    """V = Bᵀ d B, where d are the inputs from row i, column j on: tap k to `to` + k·plane."""
    for u in range(taps):
        row = zero_line()
        if 0 <= i + u < x.height:
            row = interpolate(taps, load_line(taps, A, at(x, c, i + u, j), LANES))
        store_line(taps, row, S, temporary + u * LANES, taps * LANES)
    for k in range(taps):
        column = load_line(taps, S, temporary + k * taps * LANES, LANES)
        store_line(taps, interpolate(taps, column), S, to + k * taps * plane, plane)


@helper
def transform_back(
    size: int,
    taps: int,
    S: Array,
    place: int,
    plane: int,
    temporary: int,
    A: Array,
    y: Maps,
    f: int,
    i: int,
    j: int,
    bias: Lanes,
    limits: Limits,
) -> None:
    """Y = Aᵀ M A + bias, limited, to row i, column j on, as far as y reaches; tap k of M at `place` + k·plane."""
    for k in range(taps):
        column = load_line(taps, S, place + k * taps * plane, plane)
        store_line(size, gather(taps, size, column), S, temporary + k * LANES, taps * LANES)
    inside = min(size, y.width - j)
    for u in range(min(size, y.height - i)):
        row = gather(taps, size, load_line(taps, S, temporary + u * taps * LANES, LANES))
        store_line(inside, raised(row, bias, limits), A, at(y, f, i + u, j), LANES)


# --- weights -------------------------------------------------------------------------------------------------------


class Weights(NamedTuple):
    w: int
    outputs: int  # filters; channels where the weights are turned for the input gradient
    inputs: int
    output_stride: int  # in w
    input_stride: int
    first_tap: int  # 0, or the last where the kernel is rotated
    tap_stride: int  # 1, or -1
    packed: int  # U
    in_arena: int  # 1 where U lies in A, not in P


@helper
def tap_size(inputs: int, rows: int) -> int:
    """Floats from a tap of a block of U to the next: not a multiple of 4096 bytes."""
    return inputs * rows + LANES


@cache
def weights(variant: Variant, rows: int) -> Kernel[Weights]:
    """The kernel for blocks of so many outputs."""
    kernel_size, taps = variant.kernel, variant.taps

    @kernel(Weights)
    def winograd_weights(P: Array, G: Array, A: Array, S: Array, row: Weights, first: int, last: int) -> None:
        """U[f,c] = G w[f,c] Gᵀ, laid out [block][tap][c][rows]; a unit: a block of filters.

        The lanes are a few channels' filters of the block, as they will lie in U. Lanes that are left, or channels
        there are not, go to places that the next store, or nobody, writes.
        """
        of_one, together = kernel_size * kernel_size, LANES // rows
        temporary, lanes = 0, LANES * kernel_size * taps
        size = tap_size(row.inputs, rows)
        target = A if row.in_arena else P
        for block in range(first, last):
            for r in range(rows):
                w = row.w + min(block * rows + r, row.outputs - 1) * row.output_stride
                for c in range(row.inputs):
                    lane = lanes + c // together * of_one * LANES + c % together * rows + r
                    for tap in range(of_one):
                        S[lane + tap * LANES] = P[w + row.first_tap + tap * row.tap_stride]
                    w += row.input_stride
            for c in range(0, row.inputs, together):
                for i in range(kernel_size):
                    lane = lanes + (c // together * of_one + i * kernel_size) * LANES
                    line = scaled(taps, evaluate(taps, kernel_size, load_line(kernel_size, S, lane, LANES)))
                    store_line(taps, line, S, temporary + i * LANES, kernel_size * LANES)
                for k in range(taps):
                    weight = load_line(kernel_size, S, temporary + k * kernel_size * LANES, LANES)
                    line = scaled(taps, evaluate(taps, kernel_size, weight))
                    place = row.packed + (block * taps * taps + k * taps) * size + c * rows
                    store_line(taps, line, target, place, size)

    return winograd_weights


# --- forward and input gradient ------------------------------------------------------------------------------------


class Correlation(NamedTuple):
    x: Maps  # dy, for the input gradient
    y: Maps  # dx
    tiling: Tiling
    packed: int  # U
    in_arena: int
    b: int
    limits: Limits  # of the outputs
    unit_tiles: int  # a multiple of the register tile's columns
    shares: int  # of the blocks of filters; each has units of its own


@helper
def prefetch_inputs(row: Correlation, tile: int, size: int, taps: int, A: Array, first: int, last: int) -> None:
    """Have the inputs of a tile on their way to the cache, of some channels."""
    group, down, right = place_of(row.tiling, tile)
    x, i, j = of_group(row.x, group), down * size - row.tiling.top, right * size - row.tiling.left
    for c in range(first, last):
        for u in range(max(0, -i), min(taps, x.height - i)):
            for v in range(taps):
                prefetch(A, at(x, c, i + u, j + v))


@cache
def correlation(variant: Variant, rows: int, columns: int) -> Kernel[Correlation]:
    """The kernel of a register tile of filters x tiles."""
    size, taps = variant.size, variant.taps

    @kernel(Correlation)
    def winograd(P: Array, G: Array, A: Array, S: Array, row: Correlation, first: int, last: int) -> None:
        """Y[f] = Aᵀ[Σ_c U[f,c] ⊙ V[c]]A + b[f]; a unit: a few tiles, and a share of the filters."""
        points, channels = taps * taps, row.x.channels
        weights = A if row.in_arena else P
        blocks = (row.y.channels + rows - 1) // rows
        u_size = tap_size(channels, rows)
        step = row.unit_tiles * LANES  # from a channel to the next
        plane = max(channels, blocks * rows) * step + LANES
        temporary, m, v = 0, LANES * points, LANES * points + plane  # M[tap] takes the place of V[tap-1]
        for unit in range(first, last):
            tile = min(unit // row.shares * row.unit_tiles, row.tiling.total - row.unit_tiles)
            share = unit % row.shares
            first_block, last_block = share * blocks // row.shares, (share + 1) * blocks // row.shares
            for k in range(row.unit_tiles):
                group, down, right = place_of(row.tiling, tile + k)
                x, i, j = of_group(row.x, group), down * size - row.tiling.top, right * size - row.tiling.left
                for c in range(channels):
                    transform_inputs(taps, A, x, c, i, j, S, temporary, v + c * step + k * LANES, plane)
            following = min(tile + row.unit_tiles, row.tiling.total - row.unit_tiles)
            for tap in range(points):
                begin, end = tap * channels // points, (tap + 1) * channels // points
                for k in range(row.unit_tiles):
                    prefetch_inputs(row, following + k, size, taps, A, begin, end)
                for block in range(first_block, last_block):
                    for k in range(0, row.unit_tiles, columns):
                        total = tile_zeros(rows, columns)
                        u = row.packed + (block * points + tap) * u_size
                        place = v + tap * plane + k * LANES
                        for _c in range(channels):
                            total = outer(total, weights, u, 1, S, place, LANES)
                            u += rows
                            place += step
                        tile_store(total, S, m + tap * plane + block * rows * step + k * LANES, step, LANES)
            for k in range(row.unit_tiles):
                group, down, right = place_of(row.tiling, tile + k)
                y, i, j = of_group(row.y, group), down * size, right * size
                for f in range(first_block * rows, min(last_block * rows, y.channels)):
                    bias = broadcast(P[row.b + f])
                    transform_back(
                        size, taps, S, m + f * step + k * LANES, plane, temporary, A, y, f, i, j, bias, row.limits
                    )

    return winograd


# --- the rows of a convolution -------------------------------------------------------------------------------------

UNIT_TILES = 2  # scratch then stays in the second-level cache
LARGE, UNIT_TILES_WHERE_LARGE = 2**22, 4  # so many transformed weights one would not read again for every two tiles
ROWS, COLUMNS = (8, 6, 4, 1), (2, 1)  # of register tiles: 8 x 2 needs the least scratch for its speed


def register_tile(count: int, width: int) -> tuple[int, int]:
    """(rows, columns) for `count` x `width`: the least work when both are rounded up to multiples."""
    sizes = [(r, c) for c in COLUMNS for r in ROWS if r <= count and c <= width and tile_fits(r, c)]

    def cost(tile: tuple[int, int]) -> float:
        r, c = tile
        return -(-count // r) * -(-width // c) * max(r * c, 8, 1.2 * (r + c))  # products, waiting time, loads

    return min(sizes, key=cost)


def tiling_of(site: Site, variant: Variant, y: Maps, top: int, left: int) -> Tiling:
    """The tiles of y."""
    down, across = -(-y.height // variant.size), -(-y.width // variant.size)
    return Tiling(down, across, down * across * site.groups, top, left)


def halo(variant: Variant, tiling: Tiling, width: int) -> tuple[int, int]:
    """Columns of zeros beside inputs of this width."""
    right = tiling.across * variant.size + variant.kernel - 1 - tiling.left - width
    return max(0, tiling.left), max(0, right)


def emit_correlation(site: Site, variant: Variant, x: Maps, y: Maps, tiling: Tiling, turned: bool) -> None:
    """The rows of the forward pass; of the input gradient where weights are turned: x is dy then, and y dx."""
    rows, columns = register_tile(y.channels, tiling.total)
    of_one, points = variant.kernel**2, variant.taps**2
    blocks = -(-y.channels // rows)
    order = (of_one, y.channels * of_one, of_one - 1, -1) if turned else (x.channels * of_one, of_one, 0, 1)
    packed, in_arena = site.weights(
        *("turned weights" if turned else "weights", weights(variant, rows)),
        partial(Weights, site.parameter("w"), y.channels, x.channels, *order),
        *(blocks, blocks * points * tap_size(x.channels, rows)),
    )
    site.scratch((variant.kernel * variant.taps + x.channels * of_one) * LANES)

    b = site.parameter("b") if site.layer.bias and not turned else site.packed(y.channels)
    limits = limits_of(None) if turned else site.limits
    unit_tiles = UNIT_TILES if points * blocks * rows * x.channels < LARGE else UNIT_TILES_WHERE_LARGE
    unit_tiles = max(columns, min(tiling.total, unit_tiles) // columns * columns)
    chunks = -(-tiling.total // unit_tiles)
    shares = min(blocks, max(1, site.plan.threads // chunks))
    site.scratch(LANES * (points + (points + 1) * (max(x.channels, blocks * rows) * unit_tiles + 1)))
    row = Correlation(x, y, tiling, packed, in_arena, b, limits, unit_tiles, shares)
    site.emit_across(correlation(variant, rows, columns), row, chunks * shares)


def emit_forward(site: Site, variant: Variant, top: int, left: int) -> None:
    """The rows that compute y."""
    tiling = tiling_of(site, variant, site.y(), top, left)
    x = site.x(halo=halo(variant, tiling, site.x().width))
    emit_correlation(site, variant, x, site.y(), tiling, turned=False)


def emit_input_gradient(site: Site, variant: Variant, top: int, left: int, dx: Maps) -> None:
    """The rows that write dx: dy is padded by what the forward pass did not pad."""
    tiling = tiling_of(site, variant, dx, variant.kernel - 1 - top, variant.kernel - 1 - left)
    dy = site.dy(halo=halo(variant, tiling, site.dy().width))
    emit_correlation(site, variant, dy, dx, tiling, turned=True)
