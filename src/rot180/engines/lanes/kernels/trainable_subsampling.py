"""Trainable subsampling: average pooling's sums, with a weight and a bias for each map."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.kernels.average_pooling import spread_map, window_sum
from rot180.engines.lanes.kernels.max_pooling import Window, window_of
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import fma, horizontal_sum, load, store, zeros
from rot180.layers import TrainableSubsampling


class Row(NamedTuple):
    x: Maps  # or dx
    y: Maps  # or dy
    window: Window
    w: int
    b: int


@kernel(Row)
def subsampling_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[c,i,j] = b[c] + w[c] Σ_uv x[c, i·S+u·D-P, j·S+v·D-P]; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        x, y = of_group(row.x, group), of_group(row.y, group)
        for i in range(y.height):
            for j in range(y.width):
                store(A, at(y, c, i, j), fma(window_sum(A, x, c, row.window, i, j), P[row.w + c], P[row.b + c]))


@kernel(Row)
def subsampling_backward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """dx[c,s,t] = w[c] Σ dy[c,i,j] of the windows that s, t lies in; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        spread_map(A, of_group(row.x, group), of_group(row.y, group), c, row.window, P[row.w + c])


class Gradients(NamedTuple):
    x: Maps
    dy: Maps
    window: Window
    dw: int
    db: int
    groups: int


@kernel(Gradients)
def subsampling_parameter_gradients(
    P: Array, G: Array, A: Array, S: Array, row: Gradients, first: int, last: int
) -> None:
    """dw[c] += Σ_nij dy[n,c,i,j] Σ_uv x, db[c] += Σ_nij dy; a unit: a map."""
    for c in range(first, last):
        dw, db = zeros(), zeros()
        for group in range(row.groups):
            x, dy = of_group(row.x, group), of_group(row.dy, group)
            for i in range(dy.height):
                for j in range(dy.width):
                    delta = load(A, at(dy, c, i, j))
                    dw = fma(delta, window_sum(A, x, c, row.window, i, j), dw)
                    db += delta
        G[row.dw + c] += horizontal_sum(dw)
        G[row.db + c] += horizontal_sum(db)


@lowers(TrainableSubsampling)
class TrainableSubsamplingLowering:
    """Windows that overlap, lie apart, have gaps, or hang over the rim."""

    def forward(self, site: Site) -> None:
        row = Row(site.x(), site.y(), window_of(site), site.parameter("w"), site.parameter("b"))
        site.emit(subsampling_forward, row, row.y.channels)

    def backward(self, site: Site) -> None:
        x, dy, window, w, b = site.x(), site.dy(), window_of(site), site.parameter("w"), site.parameter("b")
        gradients = Gradients(x, dy, window, w, b, site.groups)
        site.emit_across(subsampling_parameter_gradients, gradients, dy.channels)
        if site.wants_dx():
            site.write_dx(lambda dx: site.emit(subsampling_backward, Row(dx, dy, window, w, b), dy.channels))
