"""Two values joined entry by entry, one of them repeated where it has size 1."""

from collections.abc import Sequence
from typing import NamedTuple

from rot180.arrays import Array, Shape
from rot180.engines.lanes.jit import helper, kernel
from rot180.engines.lanes.kernels.arithmetic import NUMBERS, fits_as_repeated, joined
from rot180.engines.lanes.simd import LANES, Lanes, broadcast, load, store
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import Arithmetic


@helper
def repeated(A: Array, picture: Picture, i: int, j: int, c: int) -> Lanes:
    """The 16 channels from c on of the pixel at i, j: of an axis of size 1 always what there is."""
    place = at(picture, min(i, picture.height - 1), min(j, picture.width - 1))
    return broadcast(A[place]) if picture.channels == 1 else load(A, place + c)


class Row(NamedTuple):
    a: Picture
    b: Picture
    y: Picture
    operation: int


@kernel(Row)
def arithmetic_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y = a + b, a - b, a b or a / b; a unit: a row of pixels."""
    for i in range(first, last):
        for j in range(row.y.width):
            for c in range(0, row.y.channels, LANES):
                a, b = repeated(A, row.a, i, j, c), repeated(A, row.b, i, j, c)
                store(A, at(row.y, i, j) + c, joined(row.operation, a, b))


@lowers(Arithmetic)
class ArithmeticLowering:
    """Out of place."""

    def takes(self, layer: Arithmetic, shapes: Sequence[Shape]) -> bool:
        """Inputs that lie in maps as they are repeated."""
        return fits_as_repeated(layer, shapes)

    def forward(self, site: SingleSite) -> None:
        y = site.target()
        row = Row(site.source(0), site.source(1), y, NUMBERS[site.layer.operation])
        site.emit(arithmetic_of_one, row, y.height)
