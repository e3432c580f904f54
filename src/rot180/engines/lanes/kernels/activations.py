"""The activations, entry by entry. A ReLU or clip behind a layer that can apply it costs its gradient, or nothing."""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, helper, kernel
from rot180.engines.lanes.kernels.copy import copied
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.limits import LIMITING, limits_of
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import (
    LANES,
    Lanes,
    absolute,
    exp,
    load,
    log,
    maximum,
    minimum,
    sigmoid,
    store,
    tanh,
    where,
)
from rot180.layers import (
    ELU,
    Clip,
    HardSigmoid,
    HardSwish,
    Identity,
    Layer,
    LeakyReLU,
    ReLU,
    ScaledTanh,
    Sigmoid,
    Softplus,
    Tanh,
)
from rot180.layers.activations import AMPLITUDE, STEEPNESS

(RELU, LEAKY_RELU, SIGMOID, TANH, SCALED_TANH, EXPONENTIAL, SOFTPLUS, CLIP, HARD_SIGMOID, HARD_SWISH) = range(10)
FUNCTIONS: dict[type[Layer], int] = {
    ReLU: RELU,
    LeakyReLU: LEAKY_RELU,
    Sigmoid: SIGMOID,
    Tanh: TANH,
    ScaledTanh: SCALED_TANH,
    ELU: EXPONENTIAL,
    Softplus: SOFTPLUS,
    Clip: CLIP,
    HardSigmoid: HARD_SIGMOID,
    HardSwish: HARD_SWISH,
}
SLOPE_FROM_X = LeakyReLU, ELU, Softplus, HardSwish  # the others' slope is had from y
SIXTH = 1 / 6


class Settings(NamedTuple):
    """The numbers of an activation that has some: α; α and the scale; the limits; gain and offset."""

    a: float
    b: float


def settings_of(layer: Layer) -> Settings:
    """The layer's."""
    match layer:
        case LeakyReLU(negative_slope=slope):
            return Settings(slope, 0.0)
        case ELU(alpha=alpha, scale=scale):
            return Settings(alpha, scale)
        case Clip():
            return Settings(*limits_of(layer)[1:])
        case HardSigmoid(gain=gain, offset=offset):
            return Settings(gain, offset)
    return Settings(0.0, 0.0)


@helper
def exponential_minus_1(x: Lanes) -> Lanes:
    """e^x - 1 for x <= 0 without loss of digits near 0: with t = tanh(x/2) it is 2t/(1 - t)."""
    t = tanh(x * 0.5)
    return t * 2.0 / (1.0 - t)


@helper
def logarithm_of_1_plus(e: Lanes) -> Lanes:
    """log(1 + e) for 0 <= e <= 1: what rounding 1 + e has lost or added is made good by a factor."""
    u = e + 1.0
    return where(u == 1.0, e, log(u) * (e / (u - 1.0)))


@helper
def value(function: int, x: Lanes, settings: Settings) -> Lanes:
    """f(x)."""
    if function == RELU:
        return maximum(x, 0.0)
    if function == LEAKY_RELU:
        return where(x > 0.0, x, x * settings.a)
    if function == SIGMOID:
        return sigmoid(x)
    if function == SCALED_TANH:
        return tanh(x * STEEPNESS) * AMPLITUDE
    if function == EXPONENTIAL:
        return where(x > 0.0, x, exponential_minus_1(minimum(x, 0.0)) * settings.a) * settings.b
    if function == SOFTPLUS:
        return maximum(x, 0.0) + logarithm_of_1_plus(exp(-absolute(x)))
    if function == CLIP:
        return minimum(maximum(x, settings.a), settings.b)
    if function == HARD_SIGMOID:
        return minimum(maximum(x * settings.a + settings.b, 0.0), 1.0)
    if function == HARD_SWISH:
        return x * minimum(maximum(x * SIXTH + 0.5, 0.0), 1.0)
    return tanh(x)


@helper
def times_slope(function: int, x: Lanes, dy: Lanes, settings: Settings) -> Lanes:
    """What dx is: dy · f'(x). Unless the layer is one of SLOPE_FROM_X, x stands for y = f(x), from which f' is had."""
    if function == RELU:
        return where(x > 0.0, dy, 0.0)
    if function == LEAKY_RELU:
        return where(x > 0.0, dy, dy * settings.a)
    if function == SIGMOID:
        return dy * (x * (1.0 - x))
    if function == SCALED_TANH:
        return dy * ((AMPLITUDE - x * x / AMPLITUDE) * STEEPNESS)
    if function == EXPONENTIAL:
        return dy * (where(x > 0.0, 1.0, exp(minimum(x, 0.0)) * settings.a) * settings.b)
    if function == SOFTPLUS:
        return dy * sigmoid(x)
    if function == CLIP:
        return where((x > settings.a) & (x < settings.b), dy, 0.0)
    if function == HARD_SIGMOID:
        return where((x > 0.0) & (x < 1.0), dy * settings.a, 0.0)
    if function == HARD_SWISH:
        return where(absolute(x) < 3.0, dy * (x * (2 * SIXTH) + 0.5), where(x >= 3.0, dy, 0.0))
    return dy * (1.0 - x * x)


class Row(NamedTuple):
    x: Maps  # backward: x or y, whichever the slope is had from
    dy: Maps
    result: Maps  # y, or dx
    settings: Settings


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
                    store(A, there, value(function, load(A, here), row.settings))
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
                    store(A, there, times_slope(function, load(A, here), load(A, delta), row.settings))
                    here += LANES
                    delta += LANES
                    there += LANES

    return activation_backward


def applied(site: Site, layer: Layer, x: Maps, y: Maps) -> None:
    """Emit the row for y = f(x)."""
    if isinstance(layer, Identity):
        copied(site, "", x, y)
    else:
        site.emit(forward(FUNCTIONS[type(layer)]), Row(x, x, y, settings_of(layer)), x.channels)


@lowers(LeakyReLU, Sigmoid, Tanh, ScaledTanh, ELU, Softplus, HardSigmoid, HardSwish)
class ActivationLowering:
    """Out of place."""

    def forward(self, site: Site) -> None:
        applied(site, site.layer, site.x(), site.y())

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: self.gradient(site, dx))

    def gradient(self, site: Site, dx: Maps) -> None:
        """The row that writes dx."""
        x = site.x() if isinstance(site.layer, SLOPE_FROM_X) else site.y()
        row = Row(x, site.dy(), dx, settings_of(site.layer))
        site.emit(backward(FUNCTIONS[type(site.layer)]), row, x.channels)


@lowers(*LIMITING)
class LimitingLowering(ActivationLowering):
    """Out of place; in place where the plan has fused it with the node before, which has computed y already.

    A layer with `applies_limits_gradient` masks dy itself wherever it reads it.
    """

    def backward(self, site: Site) -> None:
        if not site.plan.is_fused(site.node.name):
            super().backward(site)
            return
        if not site.plan.applies_limits_gradient(site.node.inputs[0]):
            self.gradient(site, site.dy())
        site.hand_on_gradient()


@lowers(Identity)
class IdentityLowering:
    """A copy."""

    def forward(self, site: Site) -> None:
        applied(site, site.layer, site.x(), site.y())

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: copied(site, "", site.dy(), dx) and None)
