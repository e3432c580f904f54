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
    result: Maps  # the loss, or dz
    weight: float  # of the head
    smoothing: float
    adds: int  # is there a loss of other heads to add to?


@kernel(Row)
def cross_entropy_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """loss = log Σ_k e^z[k] - Σ_k t[k] z[k], the largest z taken off all; a unit: a group."""
    classes = row.z.channels
    for group in range(first, last):
        z, label = of_group(row.z, group).start, load(A, of_group(row.label, group).start)
        largest = load(A, z)
        for k in range(1, classes):
            largest = maximum(largest, load(A, z + k * LANES))
        total, chosen, all_of_them = zeros(), zeros(), zeros()
        for k in range(classes):
            shifted = load(A, z + k * LANES) - largest
            total += exp(shifted)
            chosen += where(label == float(k), shifted, 0.0)
            all_of_them += shifted
        if row.smoothing > 0.0:
            chosen = chosen * (1.0 - row.smoothing) + all_of_them * (row.smoothing / classes)
        loss = (log(total) - chosen) * row.weight
        there = of_group(row.result, group).start
        store(A, there, loss + load(A, there) if row.adds else loss)


@kernel(Row)
def cross_entropy_backward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """dz[k] = (o[k] - t[k]) · weight; a unit: a group."""
    classes = row.z.channels
    for group in range(first, last):
        z, dz = of_group(row.z, group).start, of_group(row.result, group).start
        target = of_group(row.label, group).start
        label, weight = load(A, target), load(A, target + LANES) * row.weight
        largest = load(A, z)
        for k in range(1, classes):
            largest = maximum(largest, load(A, z + k * LANES))
        total = zeros()
        for k in range(classes):
            power = exp(load(A, z + k * LANES) - largest)
            total += power
            store(A, dz + k * LANES, power)
        share = weight / total
        everywhere = weight * (row.smoothing / classes)
        at_label = everywhere + weight * (1.0 - row.smoothing)
        for k in range(classes):
            probability = load(A, dz + k * LANES) * share
            store(A, dz + k * LANES, probability - where(label == float(k), at_label, everywhere))


@lowers(SoftmaxCrossEntropy)
class SoftmaxCrossEntropyLowering:
    """The loss of each image, head after head, and the gradient of each head's scores."""

    def forward(self, site: Site) -> None:
        for head, weight in enumerate(site.layer.weights):
            row = Row(site.x(head), site.label(), site.y(), weight, site.layer.smoothing, adds=min(head, 1))
            site.emit(cross_entropy_forward, row, 1)

    def backward(self, site: Site) -> None:
        for head in range(site.layer.heads):
            if site.wants_dx(head):
                site.write_dx(lambda dz, head=head: self.gradient(site, head, dz), head)  # type: ignore[misc]

    def gradient(self, site: Site, head: int, dz: Maps) -> None:
        """The row that writes a head's dz."""
        row = Row(site.x(head), site.label(), dz, site.layer.weights[head], site.layer.smoothing, adds=0)
        site.emit(cross_entropy_backward, row, 1)
