"""Batch normalization.

In training each channel's mean and variance are taken over the whole batch, lanes without an image left out: the
program goes layer by layer. In inference they are the running ones, and the layer is a scaling, group by group.

x̂ is not kept: it costs no more to compute it anew from x than to read it. So with μ the mean and r = 1/√(σ²+ε),

    y  = γ r (x - μ) + β
    dβ = Σ dy,  dγ = Σ dy x̂ = r Σ dy (x - μ)
    dx = γ r (dy - dβ/M - x̂ dγ/M) = γ r (dy - a - b (x - μ)),     a = dβ/M,  b = r dγ/M

A ReLU or clip behind it is applied on the way out; and on the way back its gradient too, by computing y anew.
"""

from math import sqrt
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import helper, kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.limits import Limits, limited, passes
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import (
    LANES,
    Mask,
    broadcast,
    fma,
    horizontal_sum,
    load,
    square_root,
    store,
    where,
    zeros,
)
from rot180.layers import BatchNormalization


class Channels(NamedTuple):
    """Where in P each channel's numbers begin; dγ and dβ lie in G where γ and β lie in P."""

    gamma: int
    beta: int
    running_mean: int
    running_variance: int
    mean: int  # μ: the batch's, or the running one
    inverse: int  # r
    a: int  # of the gradient, in training
    b: int


class Prepare(NamedTuple):
    channels: Channels
    epsilon: float


@kernel(Prepare)
def batch_normalization_prepare(P: Array, G: Array, A: Array, S: Array, row: Prepare, first: int, last: int) -> None:
    """r[c] = 1/√(σ²+ε) from the running variance; a unit: 16 channels."""
    for unit in range(first, last):
        variance = load(P, row.channels.running_variance + unit * LANES)
        store(P, row.channels.inverse + unit * LANES, 1.0 / square_root(variance + row.epsilon))


@helper
def exists(A: Array, label: Maps, group: int) -> Mask:
    """The lanes that hold an image: those whose weight is not 0."""
    return load(A, of_group(label, group).start + LANES) > 0.0


@helper
def values(A: Array, x: Maps, label: Maps, groups: int) -> float:
    """M, how many values a channel has in the batch."""
    images = zeros()
    for group in range(groups):
        images += where(exists(A, label, group), 1.0, 0.0)
    return horizontal_sum(images) * float(x.height * x.width)


class Statistics(NamedTuple):
    x: Maps
    label: Maps
    channels: Channels
    epsilon: float
    momentum: float
    groups: int


@kernel(Statistics)
def batch_normalization_statistics(
    P: Array, G: Array, A: Array, S: Array, row: Statistics, first: int, last: int
) -> None:
    """μ = Σ x / M, σ² = Σ (x-μ)² / M, r; the running ones move towards μ and σ² M/(M-1). A unit: a channel.

    Sums are taken line by line, then line onto line: short sums keep their digits.
    """
    to = row.channels
    for c in range(first, last):
        count = values(A, row.x, row.label, row.groups)
        total = zeros()
        for group in range(row.groups):
            x, image = of_group(row.x, group), exists(A, row.label, group)
            for i in range(x.height):
                line, place = zeros(), at(x, c, i, 0)
                for _j in range(x.width):
                    line += load(A, place)
                    place += LANES
                total += where(image, line, 0.0)
        mean = horizontal_sum(total) / count
        P[to.mean + c] = mean
        P[to.running_mean + c] += (mean - P[to.running_mean + c]) * row.momentum

        total = zeros()
        center = broadcast(P[to.mean + c])
        for group in range(row.groups):
            x, image = of_group(row.x, group), exists(A, row.label, group)
            for i in range(x.height):
                line, place = zeros(), at(x, c, i, 0)
                for _j in range(x.width):
                    distance = load(A, place) - center
                    line = fma(distance, distance, line)
                    place += LANES
                total += where(image, line, 0.0)
        variance = horizontal_sum(total) / count
        P[to.inverse + c] = 1.0 / sqrt(variance + row.epsilon)
        unbiased = variance * (count / max(count - 1.0, 1.0))
        P[to.running_variance + c] += (unbiased - P[to.running_variance + c]) * row.momentum


class Normalize(NamedTuple):
    x: Maps
    y: Maps
    channels: Channels
    limits: Limits


@kernel(Normalize)
def batch_normalization_forward(P: Array, G: Array, A: Array, S: Array, row: Normalize, first: int, last: int) -> None:
    """y[c,i,j] = γ r (x[c,i,j] - μ) + β, limited; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.x.channels, unit % row.x.channels
        x, y = of_group(row.x, group), of_group(row.y, group)
        mean, beta = broadcast(P[row.channels.mean + c]), broadcast(P[row.channels.beta + c])
        scale = broadcast(P[row.channels.gamma + c] * P[row.channels.inverse + c])
        for i in range(x.height):
            here, there = at(x, c, i, 0), at(y, c, i, 0)
            for _j in range(x.width):
                store(A, there, limited(fma(load(A, here) - mean, scale, beta), row.limits))
                here += LANES
                there += LANES


class Gradient(NamedTuple):
    x: Maps
    dy: Maps
    dx: Maps
    label: Maps
    channels: Channels
    limits: Limits
    batch: int  # 1: μ and σ² are the batch's, and every x moves them too
    groups: int


@kernel(Gradient)
def batch_normalization_parameter_gradients(
    P: Array, G: Array, A: Array, S: Array, row: Gradient, first: int, last: int
) -> None:
    """dβ += Σ dy, dγ += r Σ dy (x - μ), dy masked where y is limited; a and b for dx. A unit: a channel."""
    to = row.channels
    for c in range(first, last):
        mean, beta = broadcast(P[to.mean + c]), broadcast(P[to.beta + c])
        scale = broadcast(P[to.gamma + c] * P[to.inverse + c])
        total, product = zeros(), zeros()
        for group in range(row.groups):
            x, dy = of_group(row.x, group), of_group(row.dy, group)
            for i in range(x.height):
                here, delta = at(x, c, i, 0), at(dy, c, i, 0)
                line, line_product = zeros(), zeros()
                for _j in range(x.width):
                    distance = load(A, here) - mean
                    passed = where(passes(fma(distance, scale, beta), row.limits), load(A, delta), 0.0)
                    line += passed
                    line_product = fma(passed, distance, line_product)
                    here += LANES
                    delta += LANES
                total += line
                product += line_product
        d_beta = horizontal_sum(total)
        d_gamma = horizontal_sum(product) * P[to.inverse + c]
        G[to.beta + c] += d_beta
        G[to.gamma + c] += d_gamma
        if row.batch:
            count = values(A, row.x, row.label, row.groups)
            P[to.a + c] = d_beta / count
            P[to.b + c] = d_gamma * P[to.inverse + c] / count


@kernel(Gradient)
def batch_normalization_input_gradient(
    P: Array, G: Array, A: Array, S: Array, row: Gradient, first: int, last: int
) -> None:
    """dx[c,i,j] = γ r (dy - a - b (x - μ)), 0 in lanes without an image; a unit: a map of one group.

    In inference a and b are 0.
    """
    to = row.channels
    for unit in range(first, last):
        group, c = unit // row.x.channels, unit % row.x.channels
        x, dy, dx = of_group(row.x, group), of_group(row.dy, group), of_group(row.dx, group)
        image = exists(A, row.label, group)
        mean, beta = broadcast(P[to.mean + c]), broadcast(P[to.beta + c])
        scale = broadcast(P[to.gamma + c] * P[to.inverse + c])
        a, minus_b = broadcast(P[to.a + c]), broadcast(-P[to.b + c])
        for i in range(x.height):
            here, delta, there = at(x, c, i, 0), at(dy, c, i, 0), at(dx, c, i, 0)
            for _j in range(x.width):
                distance = load(A, here) - mean
                passed = where(passes(fma(distance, scale, beta), row.limits), load(A, delta), 0.0)
                store(A, there, where(image, fma(distance, minus_b, passed - a) * scale, 0.0))
                here += LANES
                delta += LANES
                there += LANES


@lowers(BatchNormalization)
class BatchNormalizationLowering:
    """The batch's statistics in training, the running ones in inference; a ReLU or clip behind it comes for nothing.

    In training y is not kept for the backward pass: making it again from x is one pass through memory.
    """

    applies_limits = True
    applies_limits_gradient = True
    recomputes = True

    def forward(self, site: Site) -> None:
        layer: BatchNormalization = site.layer
        x, y, channels = site.x(), site.y(), self.channels(site)
        if site.training:
            row = Statistics(x, site.label(), channels, layer.epsilon, layer.momentum, site.groups)
            site.emit_across(batch_normalization_statistics, row, x.channels)
        else:
            site.prepare(batch_normalization_prepare, Prepare(channels, layer.epsilon), -(-x.channels // LANES))
        site.emit(batch_normalization_forward, Normalize(x, y, channels, site.limits), x.channels)

    def recompute(self, site: Site, y: Maps) -> None:
        """The row that computes y once more, from the batch's statistics."""
        row = Normalize(site.x(), y, self.channels(site), site.limits)
        site.emit(batch_normalization_forward, row, row.x.channels)

    def backward(self, site: Site) -> None:
        x, dy, label = site.x(), site.dy(), site.label()
        row = Gradient(x, dy, dy, label, self.channels(site), site.limits, int(site.training), site.groups)
        site.emit_across(batch_normalization_parameter_gradients, row, x.channels)
        if site.wants_dx():
            site.write_dx(lambda dx: site.emit(batch_normalization_input_gradient, row._replace(dx=dx), x.channels))

    def channels(self, site: Site) -> Channels:
        """The parameters' places, and room beside them for what is computed from each batch."""
        names = "gamma", "beta", "running_mean", "running_variance"
        gamma, beta, running_mean, running_variance = (site.parameter(name) for name in names)
        count = site.x().channels
        mean = site.packed(count, "mean") if site.training else running_mean
        inverse, a, b = (site.packed(count, name) for name in ("inverse", "a", "b"))
        return Channels(gamma, beta, running_mean, running_variance, mean, inverse, a, b)
