"""Max pooling of any window. The winner is not stored: it is the first input of the window that equals the output."""

from typing import NamedTuple

from rot180.arrays import Array, pair
from rot180.engines.lanes.jit import helper, kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Position, Site, lowers
from rot180.engines.lanes.simd import broadcast, load, maximum, store, where, zeros
from rot180.layers import MaxPooling


class Window(NamedTuple):
    height: int  # as far as it reaches, with its gaps
    width: int
    down: int  # stride
    right: int
    top: int  # padding
    left: int
    apart_down: int  # from one of its inputs to the next: the dilation
    apart_right: int


@helper
def inside(start: int, apart: int) -> int:
    """The first of start, start + apart, ... that is not before the map."""
    return start if start >= 0 else start % apart


class Forward(NamedTuple):
    x: Maps
    y: Maps
    window: Window


@kernel(Forward)
def max_pooling_forward(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
    """y[c,i,j] = max_uv x[c, i·S+u·D-P, j·S+v·D-P]; a unit: a map of one group."""
    window = row.window
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        x, y = of_group(row.x, group), of_group(row.y, group)
        for i in range(y.height):
            top = i * window.down - window.top
            for j in range(y.width):
                left = j * window.right - window.left
                before = inside(left, window.apart_right)
                largest = broadcast(-float("inf"))
                for s in range(inside(top, window.apart_down), min(top + window.height, x.height), window.apart_down):
                    for t in range(before, min(left + window.width, x.width), window.apart_right):
                        largest = maximum(load(A, at(x, c, s, t)), largest)
                store(A, at(y, c, i, j), largest)


class Backward(NamedTuple):
    x: Maps
    y: Maps
    dy: Maps
    dx: Maps
    window: Window
    apart: int  # no two windows share an input, and every input is in one


@kernel(Backward)
def max_pooling_backward(P: Array, G: Array, A: Array, S: Array, row: Backward, first: int, last: int) -> None:
    """dx[winner of window i,j] += dy[i,j]; a unit: a map of one group."""
    window = row.window
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        x, y = of_group(row.x, group), of_group(row.y, group)
        dy, dx = of_group(row.dy, group), of_group(row.dx, group)
        if not row.apart:
            for s in range(dx.height):
                for t in range(dx.width):
                    store(A, at(dx, c, s, t), zeros())
        for i in range(y.height):
            top = i * window.down - window.top
            for j in range(y.width):
                left = j * window.right - window.left
                before = inside(left, window.apart_right)
                largest, delta = load(A, at(y, c, i, j)), load(A, at(dy, c, i, j))
                for s in range(inside(top, window.apart_down), min(top + window.height, x.height), window.apart_down):
                    for t in range(before, min(left + window.width, x.width), window.apart_right):
                        wins = load(A, at(x, c, s, t)) == largest
                        place = at(dx, c, s, t)
                        if row.apart:
                            store(A, place, where(wins, delta, 0.0))
                        else:
                            store(A, place, load(A, place) + where(wins, delta, 0.0))
                        delta = where(wins, 0.0, delta)  # of equals, the first


@lowers(MaxPooling)
class MaxPoolingLowering:
    """Windows that overlap, lie apart, have gaps, or hang over the rim."""

    def forward(self, site: Site) -> None:
        x, y = site.x(), site.y()
        site.emit(max_pooling_forward, Forward(x, y, window_of(site)), y.channels)

    def backward(self, site: Site) -> None:
        if not site.wants_dx():
            return
        x, y, dy, window = site.x(), site.y(), site.dy(), window_of(site)
        row = Backward(x, y, dy, dy, window, tiles_exactly(window, x, y))
        site.write_dx(lambda dx: site.emit(max_pooling_backward, row._replace(dx=dx), y.channels))


def window_of(site: Position) -> Window:
    """A pooling layer's window, stride, padding and dilation."""
    shape = site.plan.graph.input_shape_of(site.node)
    (top, _), (left, _) = site.layer.pads(shape)
    (height, width), (down, right) = site.layer.window(shape)
    return Window(height, width, down, right, top, left, *pair(getattr(site.layer, "dilation", 1), "dilation"))


def tiles_exactly(window: Window, x: Maps, y: Maps) -> int:
    """1 where every input lies in one window and one only."""
    apart = (window.height, window.width, window.top, window.left) == (window.down, window.right, 0, 0)
    apart &= window.apart_down == window.apart_right == 1
    return int(apart and (y.height * window.height, y.width * window.width) == (x.height, x.width))
