"""Convolution with a table of connections: sums that walk the table, and leave out what it leaves out.

A filter's links lie side by side in w, in the order in which they are walked, so weights need not be laid out anew. The
table itself lies behind the parameters as numbers that never change. Tiles are one row high, a filter or a map, since
two rarely see the same: each multiply-add loads a vector, and the processor can do both at once.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, kernel, tile_fits
from rot180.engines.lanes.kernels.bias import bias_gradient
from rot180.engines.lanes.kernels.convolution import chunks
from rot180.engines.lanes.kernels.max_pooling import Window, window_of
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Position, Site, lowers
from rot180.engines.lanes.simd import LANES, outer, outer_lanes, tile_add_sums, tile_rows, tile_store, tile_zeros
from rot180.layers import TableConvolution


class Links(NamedTuple):
    """The table, as places in P: of link l the filter and the map, of filter f its first link and the next one's."""

    filters: int
    maps: int
    of_filter: int
    of_map: int  # of map c the first of `by_map`
    by_map: int  # links, map by map


class Forward(NamedTuple):
    x: Maps
    y: Maps
    window: Window
    links: Links
    w: int
    b: int


@cache
def forward(columns: int) -> Kernel[Forward]:
    """The kernel of a tile."""

    @kernel(Forward)
    def table_forward(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
        """y[f,i,j] = b[f] + Σ_l∈f Σ_uv w[l,u,v] x[c_l, i·S+u-P, j·S+v-P]; a unit: a filter of one group."""
        window, links = row.window, row.links
        for unit in range(first, last):
            x, y = of_group(row.x, unit // row.y.channels), of_group(row.y, unit // row.y.channels)
            f = unit % row.y.channels
            begin, end = int(P[links.of_filter + f]), int(P[links.of_filter + f + 1])
            for i in range(y.height):
                for start in range(0, y.width, columns):
                    j = min(start, y.width - columns)
                    total = tile_rows(1, columns, P, row.b + f, 1)
                    for link in range(begin, end):
                        c = int(P[links.maps + link])
                        for u in range(window.height):
                            line = i * window.down + u - window.top
                            if line < 0 or line >= x.height:
                                continue
                            w = row.w + (link * window.height + u) * window.width
                            place = at(x, c, line, j * window.right - window.left)
                            for _v in range(window.width):
                                total = outer(total, P, w, 1, A, place, window.right * LANES)
                                w += 1
                                place += LANES
                    tile_store(total, A, at(y, f, i, j), y.plane, LANES)

    return table_forward


class InputGradient(NamedTuple):
    dy: Maps
    dx: Maps
    window: Window
    links: Links
    w: int


@cache
def input_gradient(columns: int) -> Kernel[InputGradient]:
    """The kernel of a tile; columns in S phases, as in convolution.py."""

    @kernel(InputGradient)
    def table_input_gradient(P: Array, G: Array, A: Array, S: Array, row: InputGradient, first: int, last: int) -> None:
        """dx[c,s,t] = Σ_l∋c Σ_uv w[l,u,v] dy[f_l,i,j] where s = i·S+u-P, t = j·S+v-P; a unit: a map of one group."""
        window, links = row.window, row.links
        for unit in range(first, last):
            dy, dx = of_group(row.dy, unit // row.dx.channels), of_group(row.dx, unit // row.dx.channels)
            c = unit % row.dx.channels
            begin, end = int(P[links.of_map + c]), int(P[links.of_map + c + 1])
            for s in range(dx.height):
                for phase in range(window.right):
                    count = (dx.width - phase + window.right - 1) // window.right
                    for start in range(0, count, columns):
                        k = min(start, count - columns)
                        total = tile_zeros(1, columns)
                        for u in range(window.height):
                            i = s + window.top - u
                            if i < 0 or i % window.down != 0 or i // window.down >= dy.height:
                                continue
                            for v in range(window.width):
                                j = phase + window.left - v
                                if j % window.right != 0:
                                    continue
                                j = j // window.right + k
                                if j + columns <= 0 or j >= dy.width:
                                    continue
                                tap = row.w + u * window.width + v
                                place = at(dy, 0, i // window.down, j)
                                for each in range(links.by_map + begin, links.by_map + end):
                                    link = int(P[each])
                                    f = int(P[links.filters + link])
                                    w = tap + link * window.height * window.width
                                    total = outer(total, P, w, 1, A, place + f * dy.plane, LANES)
                        column = phase + k * window.right
                        tile_store(total, A, at(dx, c, s, column), dx.plane, window.right * LANES)

    return table_input_gradient


class WeightGradient(NamedTuple):
    x: Maps
    dy: Maps
    window: Window
    links: Links
    dw: int
    tap: int  # the first v of its columns
    groups: int


@cache
def weight_gradient(columns: int) -> Kernel[WeightGradient]:
    """The kernel of so many taps side by side."""

    @kernel(WeightGradient)
    def table_weight_gradient(
        P: Array, G: Array, A: Array, S: Array, row: WeightGradient, first: int, last: int
    ) -> None:
        """dw[l,u,v] += Σ_nij dy[n,f_l,i,j] x[n, c_l, i·S+u-P, j·S+v-P]; a unit: a link."""
        window = row.window
        for link in range(first, last):
            f, c = int(P[row.links.filters + link]), int(P[row.links.maps + link])
            for u in range(window.height):
                total = tile_zeros(1, columns)
                for group in range(row.groups):
                    x, dy = of_group(row.x, group), of_group(row.dy, group)
                    for i in range(dy.height):
                        line = i * window.down + u - window.top
                        if line < 0 or line >= x.height:
                            continue
                        delta = at(dy, f, i, 0)
                        place = at(x, c, line, row.tap - window.left)
                        for _j in range(dy.width):
                            total = outer_lanes(total, A, delta, 0, A, place, LANES)
                            delta += LANES
                            place += window.right * LANES
                tile_add_sums(total, G, row.dw + (link * window.height + u) * window.width + row.tap, 1, 1)

    return table_weight_gradient


def links_of(site: Position) -> Links:
    """Lay the table behind the parameters."""
    layer: TableConvolution = site.layer
    filters, maps = map(np.array, layer.links)
    channels = site.plan.graph.input_shape_of(site.node)[0]

    def starts(ends: Array, count: int) -> Array:
        return np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=count))])

    return Links(
        filters=site.constants("filters", filters),
        maps=site.constants("maps", maps),
        of_filter=site.constants("first link of a filter", starts(filters, len(layer.table))),
        of_map=site.constants("first link of a map", starts(maps, channels)),
        by_map=site.constants("links by map", np.argsort(maps, kind="stable")),
    )


def columns_for(width: int) -> int:
    """Columns of a tile of one row: as few tiles as fit the registers, all about equally wide."""
    most = max(c for c in range(1, 33) if tile_fits(1, c))
    return -(-width // -(-width // most))


def halo(width: int, out: int, window: Window) -> tuple[int, int]:
    """Columns of zeros that windows reach beside maps of this width."""
    return window.left, max(0, (out - 1) * window.right + window.width - window.left - width)


def gradient_halo(width: int, out: int, window: Window, columns: int) -> tuple[int, int]:
    """Columns of zeros that tiles of dx, `width` wide, read beside dy, `out` wide."""
    before = max(0, -(-(window.width - 1 - window.left) // window.right))
    behind = max(0, (width - 1 + window.left) // window.right - out + 1)
    return min(before, columns - 1), min(behind, columns - 1)


@lowers(TableConvolution)
class TableConvolutionLowering:
    """One way for any table."""

    def forward(self, site: Site) -> None:
        y, window = site.y(), window_of(site)
        x = site.x(halo=halo(site.x().width, y.width, window))
        b = site.parameter("b") if site.layer.bias else site.packed(y.channels)
        row = Forward(x, y, window, links_of(site), site.parameter("w"), b)
        site.emit(forward(columns_for(y.width)), row, y.channels)

    def backward(self, site: Site) -> None:
        dy, window, links = site.dy(), window_of(site), links_of(site)
        if site.layer.bias:
            bias_gradient(site, dy)
        x = site.x(halo=halo(site.x().width, dy.width, window))
        for start, columns, many in chunks(window.width, (5, 4, 3, 2, 1)):
            for tap in range(start, start + many * columns, columns):
                row = WeightGradient(x, dy, window, links, site.parameter("w"), tap, site.groups)
                site.emit_across(weight_gradient(columns), row, len(site.layer.links[0]))
        if site.wants_dx():
            site.write_dx(lambda dx: self.input_gradient(site, window, links, dx))

    def input_gradient(self, site: Site, window: Window, links: Links, dx: Maps) -> None:
        """The row that writes dx."""
        columns = columns_for(max(1, dx.width // window.right))
        dy = site.dy(halo=gradient_halo(dx.width, site.dy().width, window, columns))
        site.emit(input_gradient(columns), InputGradient(dy, dx, window, links, site.parameter("w")), dx.channels)
