"""Softmax over the channels, and its logarithm, pixel by pixel; a vector is maps of one pixel."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import helper, kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import Lanes, exp, load, log, maximum, store, zeros
from rot180.layers import LogSoftmax, Softmax


class Forward(NamedTuple):
    x: Maps
    y: Maps


@helper
def largest_of(A: Array, x: Maps, i: int, j: int) -> Lanes:
    """max_k x[k] of a pixel."""
    largest = load(A, at(x, 0, i, j))
    for k in range(1, x.channels):
        largest = maximum(largest, load(A, at(x, k, i, j)))
    return largest


@kernel(Forward)
def softmax_forward(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
    """y[k] = e^x[k] / Σ_l e^x[l], the largest x taken off all; a unit: a row of pixels of one group."""
    for unit in range(first, last):
        group, i = unit // row.x.height, unit % row.x.height
        x, y = of_group(row.x, group), of_group(row.y, group)
        for j in range(x.width):
            largest = largest_of(A, x, i, j)
            total = zeros()
            for k in range(x.channels):
                power = exp(load(A, at(x, k, i, j)) - largest)
                total += power
                store(A, at(y, k, i, j), power)
            for k in range(x.channels):
                store(A, at(y, k, i, j), load(A, at(y, k, i, j)) / total)


class Backward(NamedTuple):
    y: Maps
    dy: Maps
    dx: Maps


@kernel(Backward)
def softmax_backward(P: Array, G: Array, A: Array, S: Array, row: Backward, first: int, last: int) -> None:
    """dx[k] = y[k] (dy[k] - Σ_l dy[l] y[l]); a unit: a row of pixels of one group."""
    for unit in range(first, last):
        group, i = unit // row.y.height, unit % row.y.height
        y, dy, dx = of_group(row.y, group), of_group(row.dy, group), of_group(row.dx, group)
        for j in range(y.width):
            total = zeros()
            for k in range(y.channels):
                total += load(A, at(dy, k, i, j)) * load(A, at(y, k, i, j))
            for k in range(y.channels):
                store(A, at(dx, k, i, j), load(A, at(y, k, i, j)) * (load(A, at(dy, k, i, j)) - total))


@kernel(Forward)
def log_softmax_forward(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
    """y[k] = x[k] - log Σ_l e^x[l], the largest x taken off all; a unit: a row of pixels of one group."""
    for unit in range(first, last):
        group, i = unit // row.x.height, unit % row.x.height
        x, y = of_group(row.x, group), of_group(row.y, group)
        for j in range(x.width):
            largest = largest_of(A, x, i, j)
            total = zeros()
            for k in range(x.channels):
                total += exp(load(A, at(x, k, i, j)) - largest)
            logarithm = log(total)
            for k in range(x.channels):
                store(A, at(y, k, i, j), load(A, at(x, k, i, j)) - largest - logarithm)


@kernel(Backward)
def log_softmax_backward(P: Array, G: Array, A: Array, S: Array, row: Backward, first: int, last: int) -> None:
    """dx[k] = dy[k] - e^y[k] Σ_l dy[l]; a unit: a row of pixels of one group."""
    for unit in range(first, last):
        group, i = unit // row.y.height, unit % row.y.height
        y, dy, dx = of_group(row.y, group), of_group(row.dy, group), of_group(row.dx, group)
        for j in range(y.width):
            total = zeros()
            for k in range(y.channels):
                total += load(A, at(dy, k, i, j))
            for k in range(y.channels):
                store(A, at(dx, k, i, j), load(A, at(dy, k, i, j)) - exp(load(A, at(y, k, i, j))) * total)


@lowers(Softmax, LogSoftmax)
class SoftmaxLowering:
    """Out of place: the gradient is had from y."""

    def forward(self, site: Site) -> None:
        x, y = site.x(), site.y()
        forward = softmax_forward if isinstance(site.layer, Softmax) else log_softmax_forward
        site.emit(forward, Forward(x, y), y.height)

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            y, dy = site.y(), site.dy()
            backward = softmax_backward if isinstance(site.layer, Softmax) else log_softmax_backward
            site.write_dx(lambda dx: site.emit(backward, Backward(y, dy, dx), y.height))
