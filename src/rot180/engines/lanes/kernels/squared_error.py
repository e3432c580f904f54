"""Squared error with one-of-c targets, image by image in the lanes."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import helper, kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, Lanes, load, store, where, zeros
from rot180.layers import SquaredError


class Row(NamedTuple):
    y: Maps
    label: Maps  # the label's number, then the image's weight: 1/N, or 0 for a lane without an image
    result: Maps  # the loss, or dy
    off_target: float


@helper
def difference(A: Array, y: Maps, label: Lanes, k: int, off_target: float) -> Lanes:
    """y[k] - t[k], with t 1 at the label and `off_target` elsewhere."""
    return load(A, at(y, k, 0, 0)) - where(label == float(k), 1.0, off_target)


@kernel(Row)
def squared_error_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """L = 1/2 Σ_k (y[k] - t[k])²; a unit: a group."""
    for group in range(first, last):
        y, label = of_group(row.y, group), load(A, of_group(row.label, group).start)
        total = zeros()
        for k in range(y.channels):
            distance = difference(A, y, label, k, row.off_target)
            total += distance * distance
        store(A, of_group(row.result, group).start, total * 0.5)


@kernel(Row)
def squared_error_backward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """dy[k] = (y[k] - t[k]) · weight; a unit: a group."""
    for group in range(first, last):
        y, dy, target = of_group(row.y, group), of_group(row.result, group), of_group(row.label, group).start
        label, weight = load(A, target), load(A, target + LANES)
        for k in range(y.channels):
            store(A, at(dy, k, 0, 0), difference(A, y, label, k, row.off_target) * weight)


@lowers(SquaredError)
class SquaredErrorLowering:
    """The loss of each image, and the gradient that starts the chain."""

    def forward(self, site: Site) -> None:
        site.emit(squared_error_forward, Row(site.x(), site.x(1), site.y(), site.layer.off_target), 1)

    def backward(self, site: Site) -> None:
        y, label, off_target = site.x(), site.x(1), site.layer.off_target
        site.write_dx(lambda dy: site.emit(squared_error_backward, Row(y, label, dy, off_target), 1))
