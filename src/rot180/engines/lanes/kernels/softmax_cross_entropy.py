"""Softmax and cross-entropy, image by image in the lanes."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.layout import Maps, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, exp, load, log, maximum, store, where, zeros
from rot180.layers import SoftmaxCrossEntropy


class Row(NamedTuple):
    z: Maps
    label: Maps  # the label's number, then the image's weight: 1/N, or 0 for a lane without an image
    loss: Maps
    dz: Maps
    classes: int


@kernel(Row)
def cross_entropy_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """loss = log Σ_k e^z[k] - z[label], the largest z taken off both; a unit: a group."""
    for group in range(first, last):
        z, label = of_group(row.z, group).start, load(A, of_group(row.label, group).start)
        largest = load(A, z)
        for k in range(1, row.classes):
            largest = maximum(largest, load(A, z + k * LANES))
        total, chosen = zeros(), zeros()
        for k in range(row.classes):
            shifted = load(A, z + k * LANES) - largest
            total += exp(shifted)
            chosen += where(label == float(k), shifted, 0.0)
        store(A, of_group(row.loss, group).start, log(total) - chosen)


@kernel(Row)
def cross_entropy_backward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """dz[k] = (o[k] - [k = label]) · weight; a unit: a group."""
    for group in range(first, last):
        z, dz, target = of_group(row.z, group).start, of_group(row.dz, group).start, of_group(row.label, group).start
        label, weight = load(A, target), load(A, target + LANES)
        largest = load(A, z)
        for k in range(1, row.classes):
            largest = maximum(largest, load(A, z + k * LANES))
        total = zeros()
        for k in range(row.classes):
            power = exp(load(A, z + k * LANES) - largest)
            total += power
            store(A, dz + k * LANES, power)
        share = weight / total
        for k in range(row.classes):
            probability = load(A, dz + k * LANES) * share
            store(A, dz + k * LANES, probability - where(label == float(k), weight, 0.0))


@lowers(SoftmaxCrossEntropy)
class SoftmaxCrossEntropyLowering:
    """The loss of each image, and the scores' gradient."""

    def forward(self, site: Site) -> None:
        z, loss = site.x(), site.y()
        site.emit(cross_entropy_forward, Row(z, site.x(1), loss, z, z.channels), 1)

    def backward(self, site: Site) -> None:
        z, label = site.x(), site.x(1)
        site.write_dx(lambda dz: site.emit(cross_entropy_backward, Row(z, label, label, dz, z.channels), 1))
