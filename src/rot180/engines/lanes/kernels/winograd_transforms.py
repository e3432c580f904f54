"""Winograd's transforms: a small convolution with fewer multiplications, for some additions before and after.

In one dimension first. r weights g over t = m+r-1 inputs d give m outputs y[i] = Σ_u g[u] d[i+u]: m·r multiplications
as it is defined. Multiply the polynomials a(z) = Σ_i a[i] z^i and g(z) = Σ_u g[u] z^u instead: their product has the
coefficients c[k] = Σ_{i+u=k} a[i] g[u], so that

    Σ_k d[k] c[k] = Σ_i a[i] Σ_u g[u] d[i+u] = Σ_i a[i] y[i]                       for every a.

A product of degree t-1 is known from its values at t points, and a value of the product is a product of values: t
multiplications. Let E_n be the matrix that evaluates n coefficients at the points, a row 1, p, p², ... for each ("∞"
stands for the highest coefficient); then c = E_t⁻¹[(E_m a) ⊙ (E_r g)]. Put into the line above, for every a:

    y = Aᵀ[(G g) ⊙ (Bᵀ d)]        A = E_m,   G = N E_r,   Bᵀ = N⁻¹ E_t⁻ᵀ

The diagonal N takes the fractions out of Bᵀ, whose row for the point p then holds the coefficients of Π_{q≠p} (z - q),
whole numbers, and whose row for ∞ those of Π_q (z - q) (Lagrange); N is 1/Π_{q≠p} (p - q). For a square, first along
the rows, then along the columns:

    Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A        t² multiplications for m² outputs of r² terms       (Lavin and Gray 2016)

F(4x4,3x3): 36 instead of 144; F(2x2,5x5): 36 instead of 100; F(2x2,3x3): 16 instead of 36. The formula is linear in g,
and its gradient with respect to g is the transpose: dg = Gᵀ[(A dY Aᵀ) ⊙ (Bᵀ d B)]G.

Four taps take the points 0, 1, -1, ∞; six taps 2 and -2 as well, whose powers up to 16 cost a digit of precision. A
pair ±p shares its even and its odd terms. What the functions below compute is tested against `matrices`, which says
the same by the formulas above.
"""

from typing import TypeAlias

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.jit import helper
from rot180.engines.lanes.limits import Limits, limited
from rot180.engines.lanes.simd import Lanes, fma, load, store

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)  # and ∞, the last of four or six
SCALES_OF_FOUR = (-1.0, 1 / 2, 1 / 2, 1.0)
SCALES_OF_SIX = (1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24, 1.0)

Line: TypeAlias = tuple[Lanes, Lanes, Lanes, Lanes, Lanes, Lanes]
"""A row or a column of a tile: as many as there are, the rest without meaning."""


def matrices(size: int, kernel: int) -> tuple[Array, Array, Array]:
    """(A, B, G) of F(size, kernel): A (T,M), B (T,T), G (T,R) in float64."""
    taps = size + kernel - 1
    points = np.array(POINTS[: taps - 1])
    products = [np.poly(np.delete(points, k))[::-1] for k in range(taps - 1)]  # coefficients, the lowest first
    rows = np.array([[*product, 0.0] for product in products] + [np.poly(points)[::-1]])
    scales = [1 / np.prod(point - np.delete(points, k)) for k, point in enumerate(points)] + [1.0]
    return _evaluation(points, size), rows.T, np.array(scales)[:, None] * _evaluation(points, kernel)


def _evaluation(points: Array, count: int) -> Array:
    """E_count."""
    highest = np.arange(count) == count - 1
    return np.vstack([points[:, None] ** np.arange(count), highest])


@helper
def scaled(taps: int, line: Line) -> Line:
    """N times the line."""
    if taps == 4:
        n = SCALES_OF_FOUR
        return line[0] * n[0], line[1] * n[1], line[2] * n[2], line[3] * n[3], line[4], line[5]
    k = SCALES_OF_SIX
    return line[0] * k[0], line[1] * k[1], line[2] * k[2], line[3] * k[3], line[4] * k[4], line[5] * k[5]


@helper
def load_line(count: int, array: Array, index: int, step: int) -> Line:
    """`count` lanes, `step` floats apart; two at least."""
    first = load(array, index)
    return (
        first,
        load(array, index + step),
        load(array, index + 2 * step) if count > 2 else first,
        load(array, index + 3 * step) if count > 3 else first,
        load(array, index + 4 * step) if count > 4 else first,
        load(array, index + 5 * step) if count > 5 else first,
    )


@helper
def store_line(count: int, line: Line, array: Array, index: int, step: int) -> None:
    """The first `count` of the line."""
    if count > 0:
        store(array, index, line[0])
    if count > 1:
        store(array, index + step, line[1])
    if count > 2:
        store(array, index + 2 * step, line[2])
    if count > 3:
        store(array, index + 3 * step, line[3])
    if count > 4:
        store(array, index + 4 * step, line[4])
    if count > 5:
        store(array, index + 5 * step, line[5])


@helper
def interpolate(taps: int, d: Line) -> Line:
    """Bᵀd."""
    if taps == 4:
        return d[2] - d[0], d[2] + d[1], d[2] - d[1], d[3] - d[1], d[0], d[0]
    ones, ones_odd = fma(d[2], -4.0, d[4]), fma(d[1], -4.0, d[3])  # z²(z² - 4) and z(z² - 4): for ±1
    twos, twos_odd = d[4] - d[2], d[3] - d[1]  # z²(z² - 1) and z(z² - 1): for ±2
    return (
        fma(d[0], 4.0, fma(d[2], -5.0, d[4])),  # (z² - 1)(z² - 4)
        ones + ones_odd,
        ones - ones_odd,
        fma(twos_odd, 2.0, twos),
        fma(twos_odd, -2.0, twos),
        fma(d[1], 4.0, fma(d[3], -5.0, d[5])),  # z(z² - 1)(z² - 4)
    )


@helper
def evaluate(taps: int, count: int, g: Line) -> Line:
    """E_count g: the values of the polynomial with these coefficients."""
    highest = g[1]
    ones, ones_odd = g[0], g[1]  # even and odd terms at ±1
    twos, twos_odd = g[0], g[1]  # at ±2, where the odd ones still lack a factor 2
    if count > 2:
        highest, ones, twos = g[2], ones + g[2], fma(g[2], 4.0, twos)
    if count > 3:
        highest, ones_odd, twos_odd = g[3], ones_odd + g[3], fma(g[3], 4.0, twos_odd)
    if count > 4:
        highest, ones, twos = g[4], ones + g[4], fma(g[4], 16.0, twos)
    if taps == 4:
        return g[0], ones + ones_odd, ones - ones_odd, highest, g[0], g[0]
    return g[0], ones + ones_odd, ones - ones_odd, fma(twos_odd, 2.0, twos), fma(twos_odd, -2.0, twos), highest


@helper
def gather(taps: int, count: int, v: Line) -> Line:
    """E_countᵀ v: k-th, the sum of p^k v over the points p."""
    even, odd = v[1] + v[2], v[1] - v[2]  # the points ±1
    highest = v[3]
    first, second, third, fourth, fifth = v[0] + even, odd, even, odd, even
    if taps == 6:
        twos, twos_odd = v[3] + v[4], v[3] - v[4]
        highest = v[5]
        first, second, third = first + twos, fma(twos_odd, 2.0, second), fma(twos, 4.0, third)
        fourth, fifth = fma(twos_odd, 8.0, fourth), fma(twos, 16.0, fifth)
    if count == 2:
        second = second + highest
    if count == 3:
        third = third + highest
    if count == 4:
        fourth = fourth + highest
    if count == 5:
        fifth = fifth + highest
    return first, second, third, fourth, fifth, highest


@helper
def added(a: Line, b: Line) -> Line:
    """a + b."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5]


@helper
def raised(line: Line, bias: Lanes, limits: Limits) -> Line:
    """line + bias, limited."""
    return (
        limited(line[0] + bias, limits),
        limited(line[1] + bias, limits),
        limited(line[2] + bias, limits),
        limited(line[3] + bias, limits),
        line[4],
        line[5],
    )
