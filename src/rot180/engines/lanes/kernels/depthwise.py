"""Convolution whose filters see one channel each: convolution.py's sums, with little to do for every value read.

    forward            y[c,i,j]   = b[c] + Σ_uv w[c,u,v] x[c, i·S+u·D-P, j·S+v·D-P]
    input gradient     dx[c,s,t]  = Σ_uv w[c,u,v] dy[c,i,j]                       where s = i·S+u·D-P, t = j·S+v·D-P
    weight gradient    dw[c,u,v] += Σ_nij dy[n,c,i,j] x[n, c, i·S+u·D-P, j·S+v·D-P]

So values must come early, and no sum may wait for itself. A tile is a row of columns, as long as registers allow; when
it is computed, what the next row will meet first is already asked for (it takes half the time on maps of 112 x 112).
Of the taps, those that meet an output on the way back are every S/gcd(S,D)-th, from a first one that is the same for a
row, or for all columns of a phase. The weight gradient goes on with two columns of dy at a time.
"""

from functools import cache
from math import gcd
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import REGISTERS, Kernel, helper, kernel, target
from rot180.engines.lanes.kernels.packing import Geometry, tile_for
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.limits import Limits, limited_tile
from rot180.engines.lanes.plan import Site
from rot180.engines.lanes.simd import (
    LANES,
    outer,
    outer_lanes,
    prefetch,
    tile_add,
    tile_add_sums,
    tile_load,
    tile_rows,
    tile_store,
    tile_zeros,
)

LINE_VECTORS = 256  # of x at a time, and as many of dy or fewer: 32 KB stay in the first-level cache


class Forward(NamedTuple):
    x: Maps
    y: Maps
    geometry: Geometry
    w: int
    b: int
    limits: Limits


@helper
def ask_for(A: Array, maps: Maps, c: int, i: int, j: int, columns: int) -> None:
    """Have so many columns of a row fetched, if there is such a row."""
    if 0 <= i < maps.height:
        place = at(maps, c, i, j)
        for _k in range(columns):
            prefetch(A, place)
            place += LANES


@cache
def forward(columns: int) -> Kernel[Forward]:
    """The kernel of so many columns at a time."""

    @kernel(Forward)
    def depthwise_forward(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
        """y[c,i,j], limited; a unit: a map of one group."""
        g = row.geometry
        for unit in range(first, last):
            x, y = of_group(row.x, unit // row.y.channels), of_group(row.y, unit // row.y.channels)
            c = unit % row.y.channels
            for i in range(y.height):
                bottom = i * g.stride_down + (g.kernel_height - 1) * g.dilation_down - g.top
                for start in range(0, y.width, columns):
                    j = min(start, y.width - columns)
                    for ahead in range(g.stride_down):
                        ask_for(A, x, c, bottom + 1 + ahead, j * g.stride_right, columns * g.stride_right)
                    total = tile_rows(1, columns, P, row.b + c, 1)
                    for u in range(g.kernel_height):
                        line = i * g.stride_down + u * g.dilation_down - g.top
                        if line < 0 or line >= x.height:
                            continue
                        w = row.w + (c * g.kernel_height + u) * g.kernel_width
                        place = at(x, c, line, j * g.stride_right - g.left)
                        for _v in range(g.kernel_width):
                            total = outer(total, P, w, 1, A, place, g.stride_right * LANES)
                            w += 1
                            place += g.dilation_right * LANES
                    total = limited_tile(total, row.limits)
                    tile_store(total, A, at(y, c, i, j), y.plane, LANES)

    return depthwise_forward


class InputGradient(NamedTuple):
    dy: Maps
    dx: Maps
    geometry: Geometry
    w: int
    step_down: int  # from a tap that meets an output to the next
    step_right: int


@helper
def first_tap(place: int, dilation: int, stride: int, step: int) -> int:
    """The first tap u that meets an output: place - u·D is a multiple of S. `step` where none does."""
    u = 0
    while u < step and (place - u * dilation) % stride != 0:
        u += 1
    return u


@cache
def input_gradient(columns: int) -> Kernel[InputGradient]:
    """The kernel of so many columns at a time."""

    @kernel(InputGradient)
    def depthwise_input_gradient(
        P: Array, G: Array, A: Array, S: Array, row: InputGradient, first: int, last: int
    ) -> None:
        """dx[c,s,t]; columns in S phases, those of one meet the same taps. A unit: a map of one group."""
        g = row.geometry
        back = row.step_right * g.dilation_right // g.stride_right * LANES  # from a tap's output to the next one's
        for unit in range(first, last):
            dy, dx = of_group(row.dy, unit // row.dx.channels), of_group(row.dx, unit // row.dx.channels)
            c = unit % row.dx.channels
            for s in range(dx.height):
                first_u = first_tap(s + g.top, g.dilation_down, g.stride_down, row.step_down)
                if first_u == row.step_down:
                    first_u = g.kernel_height
                for phase in range(g.stride_right):
                    first_v = first_tap(phase + g.left, g.dilation_right, g.stride_right, row.step_right)
                    if first_v == row.step_right:
                        first_v = g.kernel_width
                    j = (phase + g.left - first_v * g.dilation_right) // g.stride_right
                    count = (dx.width - phase + g.stride_right - 1) // g.stride_right
                    for start in range(0, count, columns):
                        k = min(start, count - columns)
                        if phase == 0:
                            ask_for(A, dy, c, (s + g.top) // g.stride_down + 1, j + k, columns)
                        total = tile_zeros(1, columns)
                        for u in range(first_u, g.kernel_height, row.step_down):
                            i = (s + g.top - u * g.dilation_down) // g.stride_down
                            if i < 0 or i >= dy.height:
                                continue
                            w = row.w + (c * g.kernel_height + u) * g.kernel_width
                            place = at(dy, c, i, j + k)
                            for v in range(first_v, g.kernel_width, row.step_right):
                                total = outer(total, P, w + v, 1, A, place, LANES)
                                place -= back
                        column = phase + k * g.stride_right
                        tile_store(total, A, at(dx, c, s, column), dx.plane, g.stride_right * LANES)

    return depthwise_input_gradient


class WeightGradient(NamedTuple):
    x: Maps
    dy: Maps
    geometry: Geometry
    dw: int
    tap: int  # the first of a row
    lines: int  # of dy at a time
    image_groups: int


@cache
def weight_gradient(taps: int) -> Kernel[WeightGradient]:
    """The kernel of so many taps of a row."""

    @kernel(WeightGradient)
    def depthwise_weight_gradient(
        P: Array, G: Array, A: Array, S: Array, row: WeightGradient, first: int, last: int
    ) -> None:
        """dw[c,u,v] += Σ_nij dy x, lane by lane, the lanes summed at the end; a unit: a channel.

        A few lines go into all rows of taps, whose sums wait in scratch: even columns' sums, then those of odd ones.
        """
        g, size = row.geometry, taps * LANES
        for c in range(first, last):
            for part in range(2 * g.kernel_height):
                tile_store(tile_zeros(1, taps), S, part * size, 0, LANES)
            for group in range(row.image_groups):
                x, dy = of_group(row.x, group), of_group(row.dy, group)
                for top in range(0, dy.height, row.lines):
                    for u in range(g.kernel_height):
                        even = tile_load(1, taps, S, 2 * u * size, 0, LANES)
                        odd = tile_load(1, taps, S, (2 * u + 1) * size, 0, LANES)
                        for i in range(top, min(top + row.lines, dy.height)):
                            line = i * g.stride_down + u * g.dilation_down - g.top
                            if line < 0 or line >= x.height:
                                continue
                            delta, place = at(dy, c, i, 0), at(x, c, line, row.tap * g.dilation_right - g.left)
                            for _pair in range(dy.width // 2):
                                even = outer_lanes(even, A, delta, 0, A, place, g.dilation_right * LANES)
                                delta += LANES
                                place += g.stride_right * LANES
                                odd = outer_lanes(odd, A, delta, 0, A, place, g.dilation_right * LANES)
                                delta += LANES
                                place += g.stride_right * LANES
                            if dy.width % 2 == 1:
                                even = outer_lanes(even, A, delta, 0, A, place, g.dilation_right * LANES)
                        tile_store(even, S, 2 * u * size, 0, LANES)
                        tile_store(odd, S, (2 * u + 1) * size, 0, LANES)
            for u in range(g.kernel_height):
                total = tile_load(1, taps, S, 2 * u * size, 0, LANES)
                total = tile_add(total, S, (2 * u + 1) * size, 0, LANES)
                tile_add_sums(total, G, row.dw + (c * g.kernel_height + u) * g.kernel_width + row.tap, 0, 1)

    return depthwise_weight_gradient


def emit_forward(site: Site, g: Geometry, x: Maps) -> None:
    """The row that computes y."""
    y = site.y()
    _, columns = tile_for(1, y.width)
    b = site.parameter("b") if site.layer.bias else site.packed(y.channels)
    row = Forward(x, y, g, site.parameter("w"), b, site.limits)
    site.emit(forward(columns), row, y.channels)


def emit_weight_gradient(site: Site, g: Geometry, x: Maps) -> None:
    """The rows that add to dw: one for as many taps of a row as the registers hold two columns' sums of."""
    dy = site.dy()
    lines = max(1, LINE_VECTORS // (x.width * g.stride_down))
    most = (REGISTERS[target()] - 1) // 2
    parts = -(-g.kernel_width // most)
    for part in range(parts):
        tap, end = (g.kernel_width * bound // parts for bound in (part, part + 1))
        site.scratch(2 * g.kernel_height * (end - tap) * LANES)
        row = WeightGradient(x, dy, g, site.parameter("w"), tap, lines, site.groups)
        site.emit_across(weight_gradient(end - tap), row, dy.channels)


def emit_input_gradient(site: Site, g: Geometry, dx: Maps) -> None:
    """The rows that write dx."""
    left = -(-((g.kernel_width - 1) * g.dilation_right - g.left) // g.stride_right)
    right = (dx.width - 1 + g.left) // g.stride_right - site.dy().width + 1
    dy = site.dy(halo=(max(0, left), max(0, right)))
    steps = (
        g.stride_down // gcd(g.stride_down, g.dilation_down),
        g.stride_right // gcd(g.stride_right, g.dilation_right),
    )
    _, columns = tile_for(1, max(1, dx.width // g.stride_right))
    row = InputGradient(dy, dx, g, site.parameter("w"), *steps)
    site.emit(input_gradient(columns), row, dx.channels)
