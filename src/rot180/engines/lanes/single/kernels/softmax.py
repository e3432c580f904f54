"""Softmax over the channels of a pixel, which lie in the lanes, and its logarithm."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.simd import (
    LANES,
    broadcast,
    exp,
    horizontal_sum,
    lane_numbers,
    load,
    log,
    store,
    where,
    zeros,
)
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import LogSoftmax, Softmax


class Row(NamedTuple):
    x: Picture
    y: Picture
    logarithm: int


@kernel(Row)
def softmax_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[k] = e^x[k] / Σ_l e^x[l], or its logarithm, the largest x taken off all; a unit: a row of pixels."""
    x, y = row.x, row.y
    for i in range(first, last):
        for j in range(x.width):
            here, there = at(x, i, j), at(y, i, j)
            largest = A[here]
            for k in range(1, x.channels):
                largest = max(largest, A[here + k])
            total = zeros()
            for k in range(0, x.channels, LANES):
                exists = lane_numbers() < float(x.channels - k)
                power = where(exists, exp(load(A, here + k) - largest), 0.0)
                total += power
                store(A, there + k, power)
            share = horizontal_sum(total)
            shift = log(broadcast(share)) + largest
            for k in range(0, x.channels, LANES):
                if row.logarithm:
                    store(A, there + k, load(A, here + k) - shift)
                else:
                    store(A, there + k, load(A, there + k) / share)


@lowers(Softmax, LogSoftmax)
class SoftmaxLowering:
    """Out of place."""

    def forward(self, site: SingleSite) -> None:
        x, y = site.source(), site.target()
        site.emit(softmax_of_one, Row(x, y, int(isinstance(site.layer, LogSoftmax))), y.height)
