"""LeNet-5's output layer and its loss, image by image in the lanes."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, broadcast, exp, fma, load, log, maximum, store, where, zeros
from rot180.layers import RadialBasisLoss, RadialBasisOutput


class Distances(NamedTuple):
    x: Maps
    y: Maps  # or dy
    result: Maps  # y, or dx
    codes: int  # (K,D)


@kernel(Distances)
def radial_basis_forward(P: Array, G: Array, A: Array, S: Array, row: Distances, first: int, last: int) -> None:
    """y[k] = -Σ_d (x[d] - w[k,d])²; a unit: a class of one group."""
    for unit in range(first, last):
        x, k = of_group(row.x, unit // row.y.channels), unit % row.y.channels
        total = zeros()
        for d in range(x.channels):
            difference = load(A, at(x, d, 0, 0)) - P[row.codes + k * x.channels + d]
            total -= difference * difference
        store(A, at(of_group(row.y, unit // row.y.channels), k, 0, 0), total)


@kernel(Distances)
def radial_basis_backward(P: Array, G: Array, A: Array, S: Array, row: Distances, first: int, last: int) -> None:
    """dx[d] = 2 Σ_k dy[k] (w[k,d] - x[d]); a unit: a group."""
    for group in range(first, last):
        x, dy, dx = of_group(row.x, group), of_group(row.y, group), of_group(row.result, group)
        for d in range(x.channels):
            value, total = load(A, at(x, d, 0, 0)), zeros()
            for k in range(dy.channels):
                towards = P[row.codes + k * x.channels + d] - value
                total = fma(load(A, at(dy, k, 0, 0)), towards, total)
            store(A, at(dx, d, 0, 0), total * 2.0)


@lowers(RadialBasisOutput)
class RadialBasisOutputLowering:
    """The codes lie behind the parameters."""

    def forward(self, site: Site) -> None:
        x, y = site.x(), site.y()
        site.emit(radial_basis_forward, Distances(x, y, y, self.codes(site)), y.channels)

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            x, dy, codes = site.x(), site.dy(), self.codes(site)
            site.write_dx(lambda dx: site.emit(radial_basis_backward, Distances(x, dy, dx, codes), 1))

    def codes(self, site: Site) -> int:
        """Where they lie."""
        return site.constants("codes", site.layer.w)


class Row(NamedTuple):
    s: Maps
    label: Maps  # the label's number, then the image's weight: 1/N, or 0 for a lane without an image
    result: Maps  # the loss, or ds
    rubbish: float  # the score of the class of everything else
    others: int  # do the scores of other classes matter?


@kernel(Row)
def radial_basis_loss_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """L = -s[label] + log(e^-j + Σ_k e^s[k]), or the first term alone; a unit: a group."""
    for group in range(first, last):
        s, label = of_group(row.s, group).start, load(A, of_group(row.label, group).start)
        largest, total, chosen = broadcast(row.rubbish), zeros(), zeros()
        for k in range(row.s.channels):
            score = load(A, s + k * LANES)
            largest = maximum(largest, score)
            chosen += where(label == float(k), score, 0.0)
        if row.others:
            total = exp(row.rubbish - largest)
            for k in range(row.s.channels):
                total += exp(load(A, s + k * LANES) - largest)
            total = log(total) + largest
        store(A, of_group(row.result, group).start, total - chosen)


@kernel(Row)
def radial_basis_loss_backward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """ds[k] = (o[k] - t[k]) · weight, or -t[k] · weight; a unit: a group."""
    for group in range(first, last):
        s, ds, target = (
            of_group(row.s, group).start,
            of_group(row.result, group).start,
            of_group(row.label, group).start,
        )
        label, weight = load(A, target), load(A, target + LANES)
        largest = broadcast(row.rubbish)
        for k in range(row.s.channels):
            largest = maximum(largest, load(A, s + k * LANES))
        total = exp(row.rubbish - largest)
        for k in range(row.s.channels):
            total += exp(load(A, s + k * LANES) - largest)
        share = weight / total
        for k in range(row.s.channels):
            probability = zeros()
            if row.others:
                probability = exp(load(A, s + k * LANES) - largest) * share
            store(A, ds + k * LANES, probability - where(label == float(k), weight, 0.0))


@lowers(RadialBasisLoss)
class RadialBasisLossLowering:
    """The loss of each image, and the gradient that starts the chain."""

    def forward(self, site: Site) -> None:
        site.emit(radial_basis_loss_forward, self.row(site, site.y()), 1)

    def backward(self, site: Site) -> None:
        site.write_dx(lambda ds: site.emit(radial_basis_loss_backward, self.row(site, ds), 1))

    def row(self, site: Site, result: Maps) -> Row:
        """Both kernels' row."""
        rubbish = site.layer.rubbish
        return Row(site.x(), site.label(), result, -(rubbish or 0.0), int(rubbish is not None))
