"""Local response normalization: a pixel's channels lie in the lanes, their neighbours one place further."""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, kernel
from rot180.engines.lanes.kernels.local_response_normalization import Settings, by_roots, powers, settings_of
from rot180.engines.lanes.simd import LANES, fma, load, store, zeros
from rot180.engines.lanes.single.layout import Picture, at, vectors
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import LocalResponseNormalization


class Row(NamedTuple):
    x: Picture
    y: Picture
    settings: Settings


@cache
def forward(by_roots: bool) -> Kernel[Row]:
    """The kernel for β = 3/4, or for any."""

    @kernel(Row)
    def local_response_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
        """y[i,j,c] = x[i,j,c] / d^β; a unit: a row of pixels. S holds a pixel's squares, zeros on either side."""
        x, y, s = row.x, row.y, row.settings
        before = (s.reach + LANES - 1) // LANES * LANES
        for k in range(0, before, LANES):
            store(S, k, zeros())
        for i in range(first, last):
            for j in range(x.width):
                here, there = at(x, i, j), at(y, i, j)
                for c in range(0, x.channels, LANES):
                    value = load(A, here + c)
                    store(S, before + c, value * value)
                for c in range(x.channels, x.channels + s.reach):
                    S[before + c] = 0.0
                for c in range(0, x.channels, LANES):
                    total = zeros()
                    for m in range(c - s.reach, c + s.reach + 1):
                        total += load(S, before + m)
                    power, _ = powers(fma(total, s.alpha, s.k), s.beta, by_roots)
                    store(A, there + c, load(A, here + c) * power)

    return local_response_of_one


@lowers(LocalResponseNormalization)
class LocalResponseNormalizationLowering:
    """Out of place."""

    def forward(self, site: SingleSite) -> None:
        x, y, settings = site.source(), site.target(), settings_of(site.layer)
        site.scratch((2 * vectors(settings.reach) + vectors(x.channels)) * LANES)
        site.emit(forward(by_roots(site.layer)), Row(x, y, settings), y.height)
