"""The activations, entry by entry. A ReLU behind a layer that can apply it costs only its gradient, or nothing."""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, helper, kernel
from rot180.engines.lanes.kernels.copy import copied
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, Lanes, load, maximum, sigmoid, store, tanh, where
from rot180.layers import Identity, Layer, LeakyReLU, ReLU, ScaledTanh, Sigmoid, Tanh
from rot180.layers.activations import AMPLITUDE, STEEPNESS

RELU, LEAKY_RELU, SIGMOID, TANH, SCALED_TANH = range(5)
FUNCTIONS: dict[type[Layer], int] = {
    ReLU: RELU,
    LeakyReLU: LEAKY_RELU,
    Sigmoid: SIGMOID,
    Tanh: TANH,
    ScaledTanh: SCALED_TANH,
}


@helper
def value(function: int, x: Lanes, negative_slope: float) -> Lanes:
    """f(x)."""
    if function == RELU:
        return maximum(x, 0.0)
    if function == LEAKY_RELU:
        return where(x > 0.0, x, x * negative_slope)
    if function == SIGMOID:
        return sigmoid(x)
    if function == SCALED_TANH:
        return tanh(x * STEEPNESS) * AMPLITUDE
    return tanh(x)


@helper
def times_slope(function: int, x: Lanes, dy: Lanes, negative_slope: float) -> Lanes:
    """What dx is: dy · f'(x). For sigmoid and both tanh x stands for y = f(x), from which f' is had."""
    if function == RELU:
        return where(x > 0.0, dy, 0.0)
    if function == LEAKY_RELU:
        return where(x > 0.0, dy, dy * negative_slope)
    if function == SIGMOID:
        return dy * (x * (1.0 - x))
    if function == SCALED_TANH:
        return dy * ((AMPLITUDE - x * x / AMPLITUDE) * STEEPNESS)
    return dy * (1.0 - x * x)


class Row(NamedTuple):
    x: Maps  # backward: x or y, whichever the slope is had from
    dy: Maps
    result: Maps  # y, or dx
    negative_slope: float


@cache
def forward(function: int) -> Kernel[Row]:
    """The kernel of a function: known when it is compiled, so that nothing is left of the choice."""

    @kernel(Row)
    def activation_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
        """y[c,i,j] = f(x[c,i,j]); a unit: a map of one group."""
        for unit in range(first, last):
            group, c = unit // row.x.channels, unit % row.x.channels
            x, y = of_group(row.x, group), of_group(row.result, group)
            for i in range(x.height):
                here, there = at(x, c, i, 0), at(y, c, i, 0)
                for _j in range(x.width):
                    store(A, there, value(function, load(A, here), row.negative_slope))
                    here += LANES
                    there += LANES

    return activation_forward


@cache
def backward(function: int) -> Kernel[Row]:
    """The kernel of a function's gradient."""

    @kernel(Row)
    def activation_backward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
        """dx[c,i,j] = dy[c,i,j] · f'(x[c,i,j]); dx may be dy. A unit: a map of one group."""
        for unit in range(first, last):
            group, c = unit // row.x.channels, unit % row.x.channels
            x, dy, dx = of_group(row.x, group), of_group(row.dy, group), of_group(row.result, group)
            for i in range(x.height):
                here, delta, there = at(x, c, i, 0), at(dy, c, i, 0), at(dx, c, i, 0)
                for _j in range(x.width):
                    store(A, there, times_slope(function, load(A, here), load(A, delta), row.negative_slope))
                    here += LANES
                    delta += LANES
                    there += LANES

    return activation_backward


def applied(site: Site, layer: type[Layer], x: Maps, y: Maps) -> None:
    """Emit the row for y = f(x)."""
    if layer is Identity:
        copied(site, "", x, y)
    else:
        site.emit(forward(FUNCTIONS[layer]), Row(x, x, y, negative_slope(site)), x.channels)


@lowers(LeakyReLU, Sigmoid, Tanh, ScaledTanh)
class ActivationLowering:
    """Out of place."""

    def forward(self, site: Site) -> None:
        applied(site, type(site.layer), site.x(), site.y())

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: self.gradient(site, dx))

    def gradient(self, site: Site, dx: Maps) -> None:
        """The row that writes dx."""
        x = site.x() if isinstance(site.layer, LeakyReLU) else site.y()
        row = Row(x, site.dy(), dx, negative_slope(site))
        site.emit(backward(FUNCTIONS[type(site.layer)]), row, x.channels)


@lowers(ReLU)
class ReLULowering(ActivationLowering):
    """Out of place; in place where the plan has fused it with the node before, which has computed y already.

    A layer with `applies_relu_gradient` masks dy itself wherever it reads it.
    """

    def backward(self, site: Site) -> None:
        if not site.plan.is_fused(site.node.name):
            super().backward(site)
            return
        if not site.plan.applies_relu_gradient(site.node.inputs[0]):
            self.gradient(site, site.dy())
        site.hand_on_gradient()

    def gradient(self, site: Site, dx: Maps) -> None:
        y = site.y()  # y > 0 where x > 0
        site.emit(backward(RELU), Row(y, site.dy(), dx, 0.0), y.channels)


@lowers(Identity)
class IdentityLowering:
    """A copy."""

    def forward(self, site: Site) -> None:
        applied(site, Identity, site.x(), site.y())

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: copied(site, "", site.dy(), dx) and None)


def negative_slope(site: Site) -> float:
    """Of a leaky ReLU; others do not look at it."""
    return site.layer.negative_slope if isinstance(site.layer, LeakyReLU) else 0.0
