"""The ReLU whose slope below zero is learned."""

from typing import NamedTuple

from rot180.arrays import Array, Shape
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.kernels.affine import TIMES_NEGATIVE_X, Spread, fits, number, spread, summed
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, load, store, where
from rot180.layers import ParametricReLU


class Row(NamedTuple):
    x: Maps
    values: Maps  # x, or dy
    result: Maps  # y, or dx
    slope: Spread


@kernel(Row)
def parametric_relu(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[c,i,j] = x where x > 0, else a x; dx = dy where x > 0, else a dy. A unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.x.channels, unit % row.x.channels
        x, values, result = of_group(row.x, group), of_group(row.values, group), of_group(row.result, group)
        for i in range(x.height):
            a = number(row.slope, c, i, 0)
            here, source, target = at(x, c, i, 0), at(values, c, i, 0), at(result, c, i, 0)
            for _j in range(x.width):
                value = load(A, source)
                store(A, target, where(load(A, here) > 0.0, value, value * P[a]))
                a += row.slope.column
                here += LANES
                source += LANES
                target += LANES


@lowers(ParametricReLU)
class ParametricReLULowering:
    """Out of place."""

    def takes(self, layer: ParametricReLU, x: Shape) -> bool:
        """Slopes that maps can be scaled with."""
        return fits(layer.shape, x)

    def forward(self, site: Site) -> None:
        x = site.x()
        site.emit(parametric_relu, Row(x, x, site.y(), spread(site, "a", site.layer.shape)), x.channels)

    def backward(self, site: Site) -> None:
        slope = spread(site, "a", site.layer.shape)
        summed(site, slope, TIMES_NEGATIVE_X)
        if site.wants_dx():
            x, dy = site.x(), site.dy()
            site.write_dx(lambda dx: site.emit(parametric_relu, Row(x, dy, dx, slope), x.channels))
