"""The activations, entry by entry. A ReLU or clip behind a layer that can apply it has no row of its own."""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, kernel
from rot180.engines.lanes.kernels.activations import FUNCTIONS, Settings, settings_of, value
from rot180.engines.lanes.simd import LANES, load, store
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import Layer


class Row(NamedTuple):
    x: Picture
    y: Picture
    settings: Settings


@cache
def forward(function: int) -> Kernel[Row]:
    """The kernel of a function."""

    @kernel(Row)
    def activation_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
        """y[i,j,c] = f(x[i,j,c]); a unit: a row of pixels."""
        for i in range(first, last):
            here, there = at(row.x, i, 0), at(row.y, i, 0)
            for k in range(0, row.x.width * row.x.pixel, LANES):
                store(A, there + k, value(function, load(A, here + k), row.settings))

    return activation_of_one


def applied(site: SingleSite, layer: Layer, x: Picture, y: Picture) -> None:
    """Emit the row for y = f(x); y may be x."""
    site.emit(forward(FUNCTIONS[type(layer)]), Row(x, y, settings_of(layer)), y.height)


@lowers(*FUNCTIONS)
class ActivationLowering:
    """Out of place."""

    def forward(self, site: SingleSite) -> None:
        applied(site, site.layer, site.source(), site.target())
