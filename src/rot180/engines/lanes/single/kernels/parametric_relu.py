"""The ReLU whose slope below zero is learned."""

from typing import NamedTuple

from rot180.arrays import Array, Shape
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.kernels.affine import fits
from rot180.engines.lanes.simd import LANES, load, store, where
from rot180.engines.lanes.single.kernels.affine import Spread, spread
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import ParametricReLU


class Row(NamedTuple):
    x: Picture
    y: Picture
    slope: Spread


@kernel(Row)
def parametric_relu_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[i,j,c] = x where x > 0, else a x; a unit: a row of pixels."""
    for i in range(first, last):
        for j in range(row.x.width):
            here, there = at(row.x, i, j), at(row.y, i, j)
            a = row.slope.start + i * row.slope.row + j * row.slope.pixel
            for c in range(0, row.x.channels, LANES):
                x = load(A, here + c)
                store(A, there + c, where(x > 0.0, x, x * load(P, a)))
                a += row.slope.vector


@lowers(ParametricReLU)
class ParametricReLULowering:
    """Out of place."""

    def takes(self, layer: ParametricReLU, x: Shape) -> bool:
        """Slopes that maps can be scaled with."""
        return fits(layer.shape, x)

    def forward(self, site: SingleSite) -> None:
        x, y = site.source(), site.target()
        site.emit(parametric_relu_of_one, Row(x, y, spread(site, "a", site.layer.shape)), y.height)
