"""Local response normalization, a row of pixels at a time, whose values of all maps stay in the nearer caches.

With r = 1/√d, which costs a root and a division, d^-3/4 is r√r and 1/d is r²: AlexNet's β needs no logarithm. The
backward pass computes d again rather than read it from memory, which would take as long.
"""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, helper, kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, Lanes, exp, fma, load, log, square_root, store, zeros
from rot180.layers import LocalResponseNormalization

THREE_QUARTERS = 0.75


class Settings(NamedTuple):
    reach: int  # maps on either side
    alpha: float
    beta: float
    k: float


@helper
def denominator(A: Array, x: Maps, s: Settings, c: int, i: int, j: int) -> Lanes:
    """d = k + α Σ_m x[m,i,j]²."""
    total = zeros()
    for m in range(max(c - s.reach, 0), min(c + s.reach + 1, x.channels)):
        value = load(A, at(x, m, i, j))
        total = fma(value, value, total)
    return fma(total, s.alpha, s.k)


@helper
def powers(d: Lanes, beta: float, by_roots: bool) -> tuple[Lanes, Lanes]:
    """d^-β and d^-(β+1)."""
    if by_roots:
        r = 1.0 / square_root(d)
        power = r * square_root(r)
        return power, power * (r * r)
    power = exp(log(d) * -beta)
    return power, power / d


class Forward(NamedTuple):
    x: Maps
    y: Maps
    settings: Settings


@cache
def forward(by_roots: bool) -> Kernel[Forward]:
    """The kernel for β = 3/4, or for any."""

    @kernel(Forward)
    def local_response_forward(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
        """y[c,i,j] = x[c,i,j] / d^β; a unit: a row of pixels of one group."""
        s = row.settings
        for unit in range(first, last):
            group, i = unit // row.x.height, unit % row.x.height
            x, y = of_group(row.x, group), of_group(row.y, group)
            for c in range(x.channels):
                for j in range(x.width):
                    power, _ = powers(denominator(A, x, s, c, i, j), s.beta, by_roots)
                    store(A, at(y, c, i, j), load(A, at(x, c, i, j)) * power)

    return local_response_forward


class Backward(NamedTuple):
    x: Maps
    dy: Maps
    dx: Maps
    settings: Settings


@cache
def backward(by_roots: bool) -> Kernel[Backward]:
    """The kernel for β = 3/4, or for any."""

    @kernel(Backward)
    def local_response_backward(P: Array, G: Array, A: Array, S: Array, row: Backward, first: int, last: int) -> None:
        """dx[c] = dy[c] d[c]^-β - 2αβ x[c] Σ_m dy[m] x[m] d[m]^-(β+1); a unit: a row of pixels of one group.

        S holds the terms of the sum, (C, W) vectors.
        """
        s = row.settings
        for unit in range(first, last):
            group, i = unit // row.x.height, unit % row.x.height
            x, dy, dx = of_group(row.x, group), of_group(row.dy, group), of_group(row.dx, group)
            line = x.width * LANES
            for c in range(x.channels):
                for j in range(x.width):
                    power, steeper = powers(denominator(A, x, s, c, i, j), s.beta, by_roots)
                    delta = load(A, at(dy, c, i, j))
                    store(A, at(dx, c, i, j), delta * power)
                    store(S, c * line + j * LANES, delta * load(A, at(x, c, i, j)) * steeper)
            for c in range(x.channels):
                begin, end = max(c - s.reach, 0), min(c + s.reach + 1, x.channels)
                for j in range(x.width):
                    total = zeros()
                    for m in range(begin, end):
                        total += load(S, m * line + j * LANES)
                    own = load(A, at(x, c, i, j)) * (-2.0 * s.alpha * s.beta)
                    place = at(dx, c, i, j)
                    store(A, place, fma(own, total, load(A, place)))

    return local_response_backward


def settings_of(layer: LocalResponseNormalization) -> Settings:
    """As kernels read them."""
    return Settings(layer.size // 2, layer.alpha, layer.beta, layer.k)


def by_roots(layer: LocalResponseNormalization) -> bool:
    """Is β AlexNet's?"""
    return layer.beta == THREE_QUARTERS


@lowers(LocalResponseNormalization)
class LocalResponseNormalizationLowering:
    """Out of place."""

    def forward(self, site: Site) -> None:
        x, y = site.x(), site.y()
        site.emit(forward(by_roots(site.layer)), Forward(x, y, settings_of(site.layer)), y.height)

    def backward(self, site: Site) -> None:
        if not site.wants_dx():
            return
        x, dy, layer = site.x(), site.dy(), site.layer
        site.scratch(x.channels * x.width * LANES)
        site.write_dx(
            lambda dx: site.emit(backward(by_roots(layer)), Backward(x, dy, dx, settings_of(layer)), x.height)
        )
