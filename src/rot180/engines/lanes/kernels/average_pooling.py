"""Average pooling of any window, and of the whole map."""

from typing import NamedTuple

from rot180.arrays import Array, Shape
from rot180.engines.lanes.jit import helper, kernel
from rot180.engines.lanes.kernels.max_pooling import Window, inside, window_of
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, Lanes, load, store, zeros
from rot180.layers import AveragePooling, GlobalAveragePooling


@helper
def window_sum(A: Array, x: Maps, c: int, window: Window, i: int, j: int) -> Lanes:
    """Σ_uv x[c, i·S+u·D-P, j·S+v·D-P], as far as it exists."""
    top, left = i * window.down - window.top, j * window.right - window.left
    before = inside(left, window.apart_right)
    total = zeros()
    for s in range(inside(top, window.apart_down), min(top + window.height, x.height), window.apart_down):
        line = zeros()
        for t in range(before, min(left + window.width, x.width), window.apart_right):
            line += load(A, at(x, c, s, t))
        total += line
    return total


@helper
def in_gap(distance: int, apart: int) -> bool:
    """Does a window whose inputs are so far apart leave out what lies at this distance from its start?"""
    return apart > 1 and distance % apart != 0


@helper
def spread_map(A: Array, dx: Maps, dy: Maps, c: int, window: Window, share: float) -> None:
    """dx[c,s,t] = share · Σ dy[c,i,j] of the windows that s, t lies in.

    Those are i = top..bottom, where i·S-P ≤ s < i·S-P+KH, and j = left..right likewise, which move on with s and t,
    but for those that have a gap there.
    """
    top, bottom = 0, 0
    for s in range(dx.height):
        while bottom < dy.height and bottom * window.down - window.top <= s:
            bottom += 1
        while top < bottom and top * window.down - window.top + window.height <= s:
            top += 1
        left, right = 0, 0
        there = at(dx, c, s, 0)
        for t in range(dx.width):
            while right < dy.width and right * window.right - window.left <= t:
                right += 1
            while left < right and left * window.right - window.left + window.width <= t:
                left += 1
            total = zeros()
            for i in range(top, bottom):
                if in_gap(s + window.top - i * window.down, window.apart_down):
                    continue
                for j in range(left, right):
                    if not in_gap(t + window.left - j * window.right, window.apart_right):
                        total += load(A, at(dy, c, i, j))
            store(A, there, total * share)
            there += LANES


class Counted(NamedTuple):
    """The rows and columns that count: from `top` to before `bottom`, from `left` to before `right`."""

    top: int
    bottom: int
    left: int
    right: int
    everything: int  # 1: all that a window sees counts, and the rest need not be looked at


@helper
def taps(start: int, first: int, last: int, apart: int) -> int:
    """How many of start, start + apart, ... are from `first` to before `last`."""
    begin = start if start >= first else first + (start - first) % apart
    return (last - begin + apart - 1) // apart


@helper
def share(window: Window, counted: Counted, i: int, j: int) -> float:
    """1 over the number of inputs in window i, j that count."""
    top, left = i * window.down - window.top, j * window.right - window.left
    bottom, right = top + window.height, left + window.width
    if counted.everything:
        return 1 / (taps(top, top, bottom, window.apart_down) * taps(left, left, right, window.apart_right))
    rows = taps(top, counted.top, min(bottom, counted.bottom), window.apart_down)
    columns = taps(left, counted.left, min(right, counted.right), window.apart_right)
    return 1 / (rows * columns)


class Row(NamedTuple):
    x: Maps  # or dx
    y: Maps  # or dy
    window: Window
    counted: Counted


@kernel(Row)
def average_pooling_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[c,i,j] = share[i,j] Σ_uv x[c, i·S+u·D-P, j·S+v·D-P]; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        x, y = of_group(row.x, group), of_group(row.y, group)
        for i in range(y.height):
            for j in range(y.width):
                total = window_sum(A, x, c, row.window, i, j)
                store(A, at(y, c, i, j), total * share(row.window, row.counted, i, j))


@kernel(Row)
def shared_out(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """x[c,i,j] = share[i,j] y[c,i,j]: what each input of a window receives. A unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        x, y = of_group(row.x, group), of_group(row.y, group)
        for i in range(y.height):
            for j in range(y.width):
                store(A, at(x, c, i, j), load(A, at(y, c, i, j)) * share(row.window, row.counted, i, j))


@kernel(Row)
def average_pooling_backward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """dx[c,s,t] = Σ share dy[c,i,j] of the windows that s, t lies in; a unit: a map of one group.

    Where not all windows have the same share, dy has been shared out already.
    """
    same = share(row.window, row.counted, 0, 0) if row.counted.everything else 1.0
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        spread_map(A, of_group(row.x, group), of_group(row.y, group), c, row.window, same)


def counted_of(layer: AveragePooling | GlobalAveragePooling, shape: Shape) -> Counted:
    """What counts in the layer's windows, on maps of this shape."""
    if isinstance(layer, GlobalAveragePooling) or layer.counted is None:
        return Counted(0, 0, 0, 0, everything=1)
    (top, bottom), (left, right) = layer.counted_pads(shape)
    return Counted(-top, shape[1] + bottom, -left, shape[2] + right, everything=0)


@lowers(AveragePooling)
class AveragePoolingLowering:
    """Windows that overlap, lie apart, have gaps, or hang over the rim."""

    def forward(self, site: Site) -> None:
        site.emit(average_pooling_forward, self.row(site, site.x(), site.y()), site.y().channels)

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: self.gradient(site, dx))

    def gradient(self, site: Site, dx: Maps) -> None:
        """The rows that write dx."""
        dy = site.dy()
        row = self.row(site, dx, dy)
        if not row.counted.everything:
            parts = site.keep("shares of dy", dy.channels, dy.height, dy.width)
            site.emit(shared_out, row._replace(x=parts), dy.channels)
            row = row._replace(y=parts)
        site.emit(average_pooling_backward, row, dx.channels)

    def row(self, site: Site, x: Maps, y: Maps) -> Row:
        """Both kernels' row."""
        return Row(x, y, self.window(site), counted_of(site.layer, site.plan.graph.input_shape_of(site.node)))

    def window(self, site: Site) -> Window:
        """The layer's."""
        return window_of(site)


@lowers(GlobalAveragePooling)
class GlobalAveragePoolingLowering(AveragePoolingLowering):
    """One window, as large as the map."""

    def window(self, site: Site) -> Window:
        _, height, width = site.plan.graph.input_shape_of(site.node)
        return Window(height, width, height, width, 0, 0, 1, 1)
