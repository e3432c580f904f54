"""The highway gate, entry by entry."""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, fma, load, store
from rot180.layers import HighwayGate

TRANSFORM, GATE, CARRIED = range(3)  # the inputs


class Forward(NamedTuple):
    h: Maps
    t: Maps
    x: Maps
    y: Maps


@kernel(Forward)
def highway_forward(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
    """y = x + t (h - x); a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        for i in range(row.y.height):
            h, t = at(of_group(row.h, group), c, i, 0), at(of_group(row.t, group), c, i, 0)
            x, y = at(of_group(row.x, group), c, i, 0), at(of_group(row.y, group), c, i, 0)
            for k in range(0, row.y.width * LANES, LANES):
                carried = load(A, x + k)
                store(A, y + k, fma(load(A, t + k), load(A, h + k) - carried, carried))


class Backward(NamedTuple):
    dy: Maps
    a: Maps  # the gate; of its own gradient the transform
    b: Maps  # of the gate's gradient what is carried
    result: Maps


@cache
def backward(wanted: int) -> Kernel[Backward]:
    """The kernel of an input's gradient."""

    @kernel(Backward)
    def highway_backward(P: Array, G: Array, A: Array, S: Array, row: Backward, first: int, last: int) -> None:
        """dh = dy t, dt = dy (h - x), dx = dy (1 - t); a unit: a map of one group."""
        for unit in range(first, last):
            group, c = unit // row.dy.channels, unit % row.dy.channels
            for i in range(row.dy.height):
                dy, result = at(of_group(row.dy, group), c, i, 0), at(of_group(row.result, group), c, i, 0)
                a, b = at(of_group(row.a, group), c, i, 0), at(of_group(row.b, group), c, i, 0)
                for k in range(0, row.dy.width * LANES, LANES):
                    factor = load(A, a + k)
                    if wanted == GATE:
                        factor -= load(A, b + k)
                    if wanted == CARRIED:
                        factor = 1.0 - factor
                    store(A, result + k, load(A, dy + k) * factor)

    return highway_backward


@lowers(HighwayGate)
class HighwayGateLowering:
    """A row forward, and one for each gradient."""

    def forward(self, site: Site) -> None:
        row = Forward(site.x(TRANSFORM), site.x(GATE), site.x(CARRIED), site.y())
        site.emit(highway_forward, row, row.y.channels)

    def backward(self, site: Site) -> None:
        for index in (TRANSFORM, GATE, CARRIED):
            if site.wants_dx(index):
                site.write_dx(lambda result, index=index: self.gradient(site, index, result), index)  # type: ignore[misc]

    def gradient(self, site: Site, index: int, result: Maps) -> None:
        """The row that writes an input's gradient."""
        of_gate = index == GATE
        a, b = site.x(TRANSFORM if of_gate else GATE), site.x(CARRIED if of_gate else GATE)
        site.emit(backward(index), Backward(site.dy(), a, b, result), result.channels)
