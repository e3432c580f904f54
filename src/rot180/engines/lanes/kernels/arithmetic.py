"""Two values joined entry by entry, one of them repeated where it has size 1."""

from collections.abc import Sequence
from typing import NamedTuple

from rot180.arrays import Array, Shape
from rot180.engines.lanes.jit import helper, kernel
from rot180.engines.lanes.kernels.affine import fits
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import Lanes, load, store, zeros
from rot180.layers import Arithmetic
from rot180.layers.arithmetic import OPERATIONS

ADD, SUBTRACT, MULTIPLY, DIVIDE = range(4)
NUMBERS = {name: number for number, name in enumerate(OPERATIONS)}


@helper
def repeated(maps: Maps, c: int, i: int, j: int) -> int:
    """Where the lanes for this entry lie: of an axis of size 1 always the one there is."""
    return at(maps, min(c, maps.channels - 1), min(i, maps.height - 1), min(j, maps.width - 1))


@helper
def joined(operation: int, a: Lanes, b: Lanes) -> Lanes:
    """a + b, a - b, a b or a / b."""
    value = a + b
    if operation == SUBTRACT:
        value = a - b
    elif operation == MULTIPLY:
        value = a * b
    elif operation == DIVIDE:
        value = a / b
    return value


def fits_as_repeated(layer: Arithmetic, shapes: Sequence[Shape]) -> bool:
    """Do the inputs lie in maps as they are repeated?"""
    y = layer.output_shape(shapes)
    return all(fits(shape, y) for shape in shapes)


class Forward(NamedTuple):
    a: Maps
    b: Maps
    y: Maps
    operation: int


@kernel(Forward)
def arithmetic_forward(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
    """y = a + b, a - b, a b or a / b; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        of_a, of_b, y = of_group(row.a, group), of_group(row.b, group), of_group(row.y, group)
        for i in range(y.height):
            for j in range(y.width):
                a, b = load(A, repeated(of_a, c, i, j)), load(A, repeated(of_b, c, i, j))
                store(A, at(y, c, i, j), joined(row.operation, a, b))


@helper
def part(operation: int, second: int, dy: Lanes, a: Lanes, b: Lanes) -> Lanes:
    """What one entry adds to the gradient of a, or of b."""
    value = dy
    if operation == SUBTRACT and second:
        value = -dy
    elif operation == MULTIPLY:
        value = dy * a if second else dy * b
    elif operation == DIVIDE:
        value = -dy * a / (b * b) if second else dy / b
    return value


class Backward(NamedTuple):
    a: Maps
    b: Maps
    dy: Maps
    dx: Maps  # of one of the two
    operation: int
    second: int  # 1: of b


@kernel(Backward)
def arithmetic_backward(P: Array, G: Array, A: Array, S: Array, row: Backward, first: int, last: int) -> None:
    """da = dy, dy b or dy / b; db = dy, -dy, dy a or -dy a / b², summed where the input was repeated.

    A unit: a map of one group of the input.
    """
    for unit in range(first, last):
        group, c = unit // row.dx.channels, unit % row.dx.channels
        of_a, of_b = of_group(row.a, group), of_group(row.b, group)
        dy, dx = of_group(row.dy, group), of_group(row.dx, group)
        maps = dy.channels if dx.channels == 1 else 1
        lines, columns = dy.height if dx.height == 1 else 1, dy.width if dx.width == 1 else 1
        for i in range(dx.height):
            for j in range(dx.width):
                total = zeros()
                for k in range(c, c + maps):
                    for s in range(i, i + lines):
                        line = zeros()
                        for t in range(j, j + columns):
                            a, b = load(A, repeated(of_a, k, s, t)), load(A, repeated(of_b, k, s, t))
                            line += part(row.operation, row.second, load(A, at(dy, k, s, t)), a, b)
                        total += line
                store(A, at(dx, c, i, j), total)


@lowers(Arithmetic)
class ArithmeticLowering:
    """Out of place."""

    def takes(self, layer: Arithmetic, shapes: Sequence[Shape]) -> bool:
        """Inputs that lie in maps as they are repeated."""
        return fits_as_repeated(layer, shapes)

    def forward(self, site: Site) -> None:
        y = site.y()
        site.emit(arithmetic_forward, Forward(site.x(0), site.x(1), y, NUMBERS[site.layer.operation]), y.channels)

    def backward(self, site: Site) -> None:
        a, b, dy = site.x(0), site.x(1), site.dy()
        for second in (0, 1):
            if site.wants_dx(second):
                row = Backward(a, b, dy, dy, NUMBERS[site.layer.operation], second)
                site.write_dx(
                    lambda dx, row=row: site.emit(  # type: ignore[misc]
                        arithmetic_backward, row._replace(dx=dx), dx.channels
                    ),
                    second,
                )
