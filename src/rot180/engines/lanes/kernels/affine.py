"""Scaling and shifting by parameters that have an axis for each of x's, of its size or of 1."""

from typing import NamedTuple

from rot180.arrays import Array, Shape
from rot180.engines.lanes.jit import helper, kernel
from rot180.engines.lanes.layout import Maps, as_maps, at, of_group
from rot180.engines.lanes.plan import Position, Site, lowers
from rot180.engines.lanes.simd import LANES, horizontal_sum, load, minimum, store, zeros
from rot180.layers import Affine


class Spread(NamedTuple):
    """Where one of the layer's parameters begins in P, and the steps to the next map's, row's and column's number.

    A step of 0: it is the same for all of them.
    """

    start: int
    map: int
    row: int
    column: int


def fits(shape: Shape, x: Shape) -> bool:
    """Can numbers of this shape be spread over maps? Of axes that are one row of a map, all may repeat, or none."""
    return all(size in (1, of_x) for size, of_x in zip(as_maps(shape), as_maps(x), strict=True))


def spread(site: Position, name: str, shape: Shape) -> Spread:
    """The parameter of this name and shape."""
    channels, height, width = as_maps(shape)
    steps = height * width if channels > 1 else 0, width if height > 1 else 0, int(width > 1)
    return Spread(site.parameter(name), *steps)


@helper
def number(spread: Spread, c: int, i: int, j: int) -> int:
    """Where in P the number for this value lies."""
    return spread.start + c * spread.map + i * spread.row + j * spread.column


class Row(NamedTuple):
    x: Maps
    y: Maps
    scale: Spread
    shift: Spread
    scales: int
    shifts: int


@kernel(Row)
def affine_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[c,i,j] = w x[c,i,j] + b, each where there is one; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.x.channels, unit % row.x.channels
        x, y = of_group(row.x, group), of_group(row.y, group)
        for i in range(x.height):
            w, b = number(row.scale, c, i, 0), number(row.shift, c, i, 0)
            here, there = at(x, c, i, 0), at(y, c, i, 0)
            for _j in range(x.width):
                value = load(A, here)
                if row.scales:
                    value = value * P[w]
                if row.shifts:
                    value = value + P[b]
                store(A, there, value)
                w += row.scale.column
                b += row.shift.column
                here += LANES
                there += LANES


class Sum(NamedTuple):
    x: Maps
    dy: Maps
    to: Spread  # where in G
    times: int  # TIMES_1, TIMES_X, or TIMES_NEGATIVE_X
    groups: int


TIMES_1, TIMES_X, TIMES_NEGATIVE_X = range(3)


@kernel(Sum)
def spread_parameter_gradients(P: Array, G: Array, A: Array, S: Array, row: Sum, first: int, last: int) -> None:
    """dw += Σ dy · (1, x or min(x, 0)) over images and all that w is the same for; a unit: a number of w."""
    to, dy = row.to, row.dy
    rows, columns = dy.height if to.row else 1, dy.width if to.column else 1
    for unit in range(first, last):
        c, i, j = unit // (rows * columns), unit // columns % rows, unit % columns
        last_c, last_i = c + 1 if to.map else dy.channels, i + 1 if to.row else dy.height
        last_j = j + 1 if to.column else dy.width
        total = zeros()
        for group in range(row.groups):
            of_x, of_dy = of_group(row.x, group), of_group(dy, group)
            for k in range(c, last_c):
                for s in range(i, last_i):
                    line, here, delta = zeros(), at(of_x, k, s, j), at(of_dy, k, s, j)
                    for _t in range(j, last_j):
                        part = load(A, delta)
                        if row.times == TIMES_X:
                            part = part * load(A, here)
                        if row.times == TIMES_NEGATIVE_X:
                            part = part * minimum(load(A, here), 0.0)
                        line += part
                        here += LANES
                        delta += LANES
                    total += line
        G[number(to, c, i, j)] += horizontal_sum(total)


def summed(site: Site, to: Spread, times: int) -> None:
    """Emit the row that adds to a parameter's gradient."""
    dy = site.dy()
    sizes = dy.channels if to.map else 1, dy.height if to.row else 1, dy.width if to.column else 1
    x = dy if times == TIMES_1 else site.x()
    site.emit_across(spread_parameter_gradients, Sum(x, dy, to, times, site.groups), sizes[0] * sizes[1] * sizes[2])


NONE = Spread(0, 0, 0, 0)


@lowers(Affine)
class AffineLowering:
    """Out of place."""

    def takes(self, layer: Affine, x: Shape) -> bool:
        """Parameters that maps can be scaled with."""
        return fits(layer.shape, x)

    def forward(self, site: Site) -> None:
        x, y = site.x(), site.y()
        site.emit(affine_forward, Row(x, y, *parameters(site)), x.channels)

    def backward(self, site: Site) -> None:
        scale, shift, scales, shifts = parameters(site)
        if shifts:
            summed(site, shift, TIMES_1)
        if scales:
            summed(site, scale, TIMES_X)
        if site.wants_dx():
            dy = site.dy()
            site.write_dx(lambda dx: site.emit(affine_forward, Row(dy, dx, scale, NONE, scales, 0), dy.channels))


def parameters(site: Position) -> tuple[Spread, Spread, int, int]:
    """Scale and shift, and whether the layer has them."""
    layer: Affine = site.layer
    scale = spread(site, "w", layer.shape) if layer.scale else NONE
    shift = spread(site, "b", layer.shape) if layer.shift else NONE
    return scale, shift, int(layer.scale), int(layer.shift)
