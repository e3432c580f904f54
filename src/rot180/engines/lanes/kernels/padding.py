"""Padding as a layer of its own: each row and column of y is one of x, or the constant."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Position, Site, lowers
from rot180.engines.lanes.simd import broadcast, load, store, zeros
from rot180.layers import Pad


class Row(NamedTuple):
    x: Maps  # or dx
    y: Maps  # or dy
    rows: int  # where in P lies, for each row of y, that of x, numbered from 1; 0 for the constant
    columns: int
    value: float


@kernel(Row)
def pad_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[c,i,j] = x[c, rows[i], columns[j]], or the constant; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        x, y = of_group(row.x, group), of_group(row.y, group)
        for i in range(y.height):
            s = int(P[row.rows + i]) - 1
            for j in range(y.width):
                t = int(P[row.columns + j]) - 1
                if s < 0 or t < 0:
                    store(A, at(y, c, i, j), broadcast(row.value))
                else:
                    store(A, at(y, c, i, j), load(A, at(x, c, s, t)))


@kernel(Row)
def pad_backward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """dx[c,s,t] = Σ dy[c,i,j] where rows[i] is s and columns[j] is t; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        dx, dy = of_group(row.x, group), of_group(row.y, group)
        for s in range(dx.height):
            for t in range(dx.width):
                store(A, at(dx, c, s, t), zeros())
        for i in range(dy.height):
            s = int(P[row.rows + i]) - 1
            for j in range(dy.width):
                t = int(P[row.columns + j]) - 1
                if s >= 0 and t >= 0:
                    place = at(dx, c, s, t)
                    store(A, place, load(A, place) + load(A, at(dy, c, i, j)))


def sources(site: Position) -> tuple[int, int]:
    """Where in P the definition's tables of rows and of columns lie."""
    rows, columns = site.layer.sources(site.plan.graph.input_shape_of(site.node))
    return site.constants("rows", rows), site.constants("columns", columns)


@lowers(Pad)
class PadLowering:
    """Any mode: the tables say it."""

    def forward(self, site: Site) -> None:
        y = site.y()
        site.emit(pad_forward, Row(site.x(), y, *sources(site), site.layer.value), y.channels)

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            dy = site.dy()
            site.write_dx(lambda dx: site.emit(pad_backward, Row(dx, dy, *sources(site), 0.0), dy.channels))
