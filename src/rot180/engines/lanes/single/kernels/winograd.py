"""Convolution by Winograd's minimal filtering, for stride 1 and dilation 1: three rows for one image.

winograd_transforms.py derives the form that is computed: for each tile of m x m outputs and the t = m+r-1 points (taps)
in either direction,

    Y[f] = Aᵀ[Σ_c U[f,c] ⊙ V[c]]A + b[f]        U[f,c] = G w[f,c] Gᵀ,   V[c] = Bᵀ x[c] B

    inputs      V of all tiles and channels, 16 channels at a time
    products    for each tap a product of matrices, M[tile,f] = Σ_c V[tile,c] U[c,f], by the direct kernel's means
    outputs     Y of all tiles, 16 filters at a time; bias, what is to be added, ReLU

V and M are pictures with a row for each tap and a pixel for each tile. Tiles at the rim reach beyond it: rows of x that
do not exist count as zeros, columns are zeros of the halo, and what lies outside the result is not stored.
"""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array, Pair
from rot180.engines.lanes.jit import Kernel, helper, kernel
from rot180.engines.lanes.kernels.winograd_transforms import (
    Line,
    evaluate,
    gather,
    interpolate,
    load_line,
    scaled,
    store_line,
)
from rot180.engines.lanes.limits import Limits, limited
from rot180.engines.lanes.simd import LANES, load, outer, store, tile_store, tile_zeros, zeros
from rot180.engines.lanes.single.kernels.fold import folded
from rot180.engines.lanes.single.layout import Picture, at, vectors
from rot180.engines.lanes.single.plan import SingleSite
from rot180.engines.lanes.single.table import tile_for
from rot180.engines.lanes.table import Variant


class Weights(NamedTuple):
    w: int
    packed: int
    scale: int  # of each filter
    filters: int
    channels: int
    columns: int


@cache
def pack(variant: Variant) -> Kernel[Weights]:
    """The kernel that packs weights."""
    size, taps = variant.kernel, variant.taps

    @kernel(Weights)
    def pack_winograd(P: Array, G: Array, A: Array, S: Array, row: Weights, first: int, last: int) -> None:
        """U = s G w Gᵀ as [tap][block of 16·C filters][c][16·C], zeros behind the last filter; a unit: 16 filters."""
        all_vectors, area = (row.filters + LANES - 1) // LANES, size * size
        blocks = (all_vectors + row.columns - 1) // row.columns
        width = row.columns * LANES
        weights, lines = 0, area * LANES
        for unit in range(first, last):
            block, column = unit // row.columns, unit % row.columns
            f = (min(block * row.columns, all_vectors - row.columns) + column) * LANES
            for tap in range(area):
                store(S, weights + tap * LANES, zeros())
            for c in range(row.channels):
                for k in range(min(LANES, row.filters - f)):
                    w = row.w + ((f + k) * row.channels + c) * area
                    for tap in range(area):
                        S[weights + tap * LANES + k] = P[w + tap] * P[row.scale + f + k]
                for u in range(size):
                    line = load_line(size, S, weights + u * size * LANES, LANES)
                    store_line(taps, scaled(taps, evaluate(taps, size, line)), S, lines + u * taps * LANES, LANES)
                for v in range(taps):
                    line = load_line(size, S, lines + v * LANES, taps * LANES)
                    place = row.packed + ((v * blocks + block) * row.channels + c) * width + column * LANES
                    step = taps * blocks * row.channels * width
                    store_line(taps, scaled(taps, evaluate(taps, size, line)), P, place, step)

    return pack_winograd


class Inputs(NamedTuple):
    x: Picture
    v: Picture  # (t² taps, tiles)
    across: int  # tiles
    top: int  # padding
    left: int


@helper
def zero_line() -> Line:
    """Nothing but zeros."""
    return zeros(), zeros(), zeros(), zeros(), zeros(), zeros()


@cache
def inputs(variant: Variant) -> Kernel[Inputs]:
    """The kernel that transforms inputs."""
    size, taps = variant.size, variant.taps

    @kernel(Inputs)
    def winograd_inputs(P: Array, G: Array, A: Array, S: Array, row: Inputs, first: int, last: int) -> None:
        """V = Bᵀ d B of each tile's inputs d; a unit: a tile."""
        x, v = row.x, row.v
        for tile in range(first, last):
            i, j = tile // row.across * size - row.top, tile % row.across * size - row.left
            for c in range(0, x.channels, LANES):
                for u in range(taps):
                    line = zero_line()
                    if 0 <= i + u < x.height:
                        line = interpolate(taps, load_line(taps, A, at(x, i + u, j) + c, x.pixel))
                    store_line(taps, line, S, u * taps * LANES, LANES)
                for k in range(taps):
                    line = interpolate(taps, load_line(taps, S, k * LANES, taps * LANES))
                    store_line(taps, line, A, at(v, k, tile) + c, taps * v.line)

    return winograd_inputs


class Products(NamedTuple):
    v: Picture
    m: Picture  # (t² taps, tiles)
    packed: int


@cache
def products(rows: int, columns: int) -> Kernel[Products]:
    """The kernel of a register tile of Winograd's tiles x vectors of filters."""

    @kernel(Products)
    def winograd_products(P: Array, G: Array, A: Array, S: Array, row: Products, first: int, last: int) -> None:
        """M[tile,f] = Σ_c V[tile,c] U[c,f]; a unit: a tap, and a block of filters."""
        v, m = row.v, row.m
        all_vectors = (m.channels + LANES - 1) // LANES
        blocks = (all_vectors + columns - 1) // columns
        for unit in range(first, last):
            tap, f = unit // blocks, min(unit % blocks * columns, all_vectors - columns) * LANES
            u = row.packed + unit * v.channels * columns * LANES
            for start in range(0, v.width, rows):
                tile = min(start, v.width - rows)
                total = tile_zeros(rows, columns)
                place, w = at(v, tap, tile), u
                for _c in range(v.channels):
                    total = outer(total, A, place, v.pixel, P, w, LANES)
                    place += 1
                    w += columns * LANES
                tile_store(total, A, at(m, tap, tile) + f, m.pixel, LANES)

    return winograd_products


class Outputs(NamedTuple):
    m: Picture
    y: Picture
    added: Picture
    across: int  # tiles
    b: int
    adds: int
    limits: Limits


@cache
def outputs(variant: Variant) -> Kernel[Outputs]:
    """The kernel that transforms outputs."""
    size, taps = variant.size, variant.taps

    @kernel(Outputs)
    def winograd_outputs(P: Array, G: Array, A: Array, S: Array, row: Outputs, first: int, last: int) -> None:
        """Y = Aᵀ M A + b; what is to be added to it; limited. A unit: a tile."""
        m, y = row.m, row.y
        for tile in range(first, last):
            i, j = tile // row.across * size, tile % row.across * size
            for f in range(0, y.channels, LANES):
                bias = load(P, row.b + f)
                for k in range(taps):
                    line = gather(taps, size, load_line(taps, A, at(m, k, tile) + f, taps * m.line))
                    store_line(size, line, S, k * LANES, taps * LANES)
                for q in range(min(size, y.height - i)):
                    line = gather(taps, size, load_line(taps, S, q * taps * LANES, LANES))
                    store_line(size, line, S, q * taps * LANES, LANES)
                    for p in range(min(size, y.width - j)):
                        value = load(S, (q * taps + p) * LANES) + bias
                        if row.adds:
                            value += load(A, at(row.added, i + q, j + p) + f)
                        store(A, at(y, i + q, j + p) + f, limited(value, row.limits))

    return winograd_outputs


def emit(site: SingleSite, variant: Variant, padding: Pair) -> None:
    """The rows of a convolution; padding above and to the left."""
    x, y, (top, left) = site.source(), site.target(), padding
    down, across = -(-y.height // variant.size), -(-y.width // variant.size)
    tiles, points = down * across, variant.taps**2
    x = site.source(halo=(left, max(0, across * variant.size + variant.kernel - 1 - left - x.width)))
    fold = folded(site, y.channels, site.layer.bias, site.normalization())
    rows, columns = tile_for(tiles, vectors(y.channels))
    blocks = -(-vectors(y.channels) // columns)
    u = site.packed(points * blocks * x.channels * columns * LANES)
    weights = Weights(site.parameter("w"), u, fold.scale, y.channels, x.channels, columns)
    site.prepare(pack(variant), weights, blocks * columns)
    v, m = site.room("V", x.channels, points, tiles), site.room("M", y.channels, points, tiles)
    site.scratch(LANES * max(points, variant.kernel * (variant.kernel + variant.taps)))
    site.emit(inputs(variant), Inputs(x, v, across, top, left), tiles)
    site.emit(products(rows, columns), Products(v, m, u), points * blocks)
    added = site.added()
    row = Outputs(m, y, added or y, across, fold.shift, int(added is not None), site.limits)
    site.emit(outputs(variant), row, tiles)
