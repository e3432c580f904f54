"""Locally connected: at each place a dense layer of its own, on the window that lies there.

Each weight serves 16 images and is not met again, so the kernels are as fast as weights come from memory.
"""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import TILES, Kernel, kernel, target
from rot180.engines.lanes.kernels.convolution import chunks
from rot180.engines.lanes.kernels.dense import block
from rot180.engines.lanes.kernels.max_pooling import Window, window_of
from rot180.engines.lanes.kernels.table_convolution import halo
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import (
    LANES,
    horizontal_sum,
    load,
    outer,
    outer_lanes,
    tile_add_sums,
    tile_rows,
    tile_store,
    tile_zeros,
    zeros,
)
from rot180.layers import LocallyConnected


class Row(NamedTuple):
    x: Maps  # or dx
    y: Maps  # or dy
    window: Window
    w: int  # (OH,OW,F,C,KH,KW)
    b: int


@cache
def forward(rows: int) -> Kernel[Row]:
    """The kernel of a tile of filters."""

    @kernel(Row)
    def local_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
        """y[f,i,j] = b[f,i,j] + Σ_cuv w[i,j,f,c,u,v] x[c, i·S+u-P, j·S+v-P]; a unit: a row of pixels of one group."""
        window, taps = row.window, row.window.height * row.window.width
        for unit in range(first, last):
            x, y = of_group(row.x, unit // row.y.height), of_group(row.y, unit // row.y.height)
            i = unit % row.y.height
            for j in range(y.width):
                for start in range(0, y.channels, rows):
                    f = min(start, y.channels - rows)
                    kernels = row.w + ((i * y.width + j) * y.channels + f) * x.channels * taps
                    total = tile_rows(rows, 1, P, row.b + (f * y.height + i) * y.width + j, y.height * y.width)
                    for c in range(x.channels):
                        for u in range(window.height):
                            line = i * window.down + u - window.top
                            if line < 0 or line >= x.height:
                                continue
                            w = kernels + c * taps + u * window.width
                            place = at(x, c, line, j * window.right - window.left)
                            for _v in range(window.width):
                                total = outer(total, P, w, x.channels * taps, A, place, LANES)
                                w += 1
                                place += LANES
                    tile_store(total, A, at(y, f, i, j), y.plane, LANES)

    return local_forward


@cache
def input_gradient(rows: int) -> Kernel[Row]:
    """The kernel of a tile of channels; the row's x and y are dx and dy."""

    @kernel(Row)
    def local_input_gradient(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
        """dx[c,s,t] = Σ_fuv w[i,j,f,c,u,v] dy[f,i,j] where s = i·S+u-P, t = j·S+v-P; a unit: a row of one group."""
        window, taps = row.window, row.window.height * row.window.width
        for unit in range(first, last):
            dx, dy = of_group(row.x, unit // row.x.height), of_group(row.y, unit // row.x.height)
            s = unit % row.x.height
            for t in range(dx.width):
                for start in range(0, dx.channels, rows):
                    c = min(start, dx.channels - rows)
                    total = tile_zeros(rows, 1)
                    for u in range(window.height):
                        i = s + window.top - u
                        if i < 0 or i % window.down != 0 or i // window.down >= dy.height:
                            continue
                        i = i // window.down
                        for v in range(window.width):
                            j = t + window.left - v
                            if j < 0 or j % window.right != 0 or j // window.right >= dy.width:
                                continue
                            j = j // window.right
                            w = row.w + ((i * dy.width + j) * dy.channels * dx.channels + c) * taps
                            w += u * window.width + v
                            place = at(dy, 0, i, j)
                            for _f in range(dy.channels):
                                total = outer(total, P, w, taps, A, place, LANES)
                                w += dx.channels * taps
                                place += dy.plane
                    tile_store(total, A, at(dx, c, s, t), dx.plane, LANES)

    return local_input_gradient


class WeightGradient(NamedTuple):
    x: Maps
    dy: Maps
    window: Window
    dw: int
    filter_start: int  # the filters that this row sums
    tap: int  # the first v of its columns
    groups: int


@cache
def weight_gradient(rows: int, columns: int) -> Kernel[WeightGradient]:
    """The kernel of a tile of filters x taps."""

    @kernel(WeightGradient)
    def local_weight_gradient(
        P: Array, G: Array, A: Array, S: Array, row: WeightGradient, first: int, last: int
    ) -> None:
        """dw[i,j,f,c,u,v] += Σ_n dy[n,f,i,j] x[n, c, i·S+u-P, j·S+v-P]; a unit: a block of filters, a row of pixels."""
        window, taps = row.window, row.window.height * row.window.width
        channels, height, width = row.x.channels, row.dy.height, row.dy.width
        for unit in range(first, last):
            i, f = unit % height, row.filter_start + unit // height * rows
            for j in range(width):
                for c in range(channels):
                    for u in range(window.height):
                        line = i * window.down + u - window.top
                        if line < 0 or line >= row.x.height:
                            continue
                        total = tile_zeros(rows, columns)
                        for group in range(row.groups):
                            x, dy = of_group(row.x, group), of_group(row.dy, group)
                            place = at(x, c, line, j * window.right - window.left + row.tap)
                            total = outer_lanes(total, A, at(dy, f, i, j), dy.plane, A, place, LANES)
                        dw = row.dw + (((i * width + j) * row.dy.channels + f) * channels + c) * taps
                        tile_add_sums(total, G, dw + u * window.width + row.tap, channels * taps, 1)

    return local_weight_gradient


class Bias(NamedTuple):
    dy: Maps
    db: int
    groups: int


@kernel(Bias)
def sum_to_bias_by_pixel(P: Array, G: Array, A: Array, S: Array, row: Bias, first: int, last: int) -> None:
    """db[f,i,j] += Σ_n dy[n,f,i,j]; a unit: a filter."""
    for f in range(first, last):
        for i in range(row.dy.height):
            for j in range(row.dy.width):
                total = zeros()
                for group in range(row.groups):
                    total += load(A, at(of_group(row.dy, group), f, i, j))
                G[row.db + (f * row.dy.height + i) * row.dy.width + j] += horizontal_sum(total)


@lowers(LocallyConnected)
class LocallyConnectedLowering:
    """One way for all."""

    def forward(self, site: Site) -> None:
        y, window = site.y(), window_of(site)
        x = site.x(halo=halo(site.x().width, y.width, window))
        b = site.parameter("b") if site.layer.bias else site.packed(y.channels * y.height * y.width)
        site.emit(forward(block(y.channels)), Row(x, y, window, site.parameter("w"), b), y.height)

    def backward(self, site: Site) -> None:
        dy, window = site.dy(), window_of(site)
        if site.layer.bias:
            site.emit_across(sum_to_bias_by_pixel, Bias(dy, site.parameter("b"), site.groups), dy.channels)
        x = site.x(halo=halo(site.x().width, dy.width, window))
        limit = max(r * c for r, c in TILES[target()])
        for start, columns, many in chunks(window.width, (5, 4, 3, 2, 1)):
            for tap in range(start, start + many * columns, columns):
                for f, rows, blocks in chunks(dy.channels, tuple(r for r in (6, 4, 2, 1) if r * columns <= limit)):
                    row = WeightGradient(x, dy, window, site.parameter("w"), f, tap, site.groups)
                    site.emit_across(weight_gradient(rows, columns), row, blocks * dy.height)
        if site.wants_dx():
            site.write_dx(lambda dx: self.input_gradient(site, window, dx))

    def input_gradient(self, site: Site, window: Window, dx: Maps) -> None:
        """The row that writes dx."""
        row = Row(dx, site.dy(), window, site.parameter("w"), 0)
        site.emit(input_gradient(block(dx.channels)), row, dx.height)
