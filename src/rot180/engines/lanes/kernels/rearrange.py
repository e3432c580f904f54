"""Values in another shape or order: copies alone, with the strides or the table that say where each value goes."""

from math import prod
from typing import NamedTuple

import numpy as np

from rot180.arrays import Array, Shape
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.kernels.copy import copied
from rot180.engines.lanes.layout import Maps, at, is_contiguous, of_group
from rot180.engines.lanes.plan import EXACT, Site, lowers
from rot180.engines.lanes.simd import LANES, load, store
from rot180.layers import ChannelShuffle, Reshape, Transpose


@lowers(Reshape)
class ReshapeLowering:
    """Values without gaps are in the order c, i, j whatever their shape; a halo takes a copy to be rid of."""

    def forward(self, site: Site) -> None:
        reshaped(site, "x without gaps", site.x(), site.y())

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: reshaped(site, "dy without gaps", site.dy(), dx))


def reshaped(site: Site, name: str, source: Maps, target: Maps) -> None:
    """Emit the rows for target = source, read in the same order."""
    plain = copied(site, name, source)
    line = target.width * LANES
    copied(
        site, "", target._replace(start=plain.start, group=plain.group, plane=target.height * line, line=line), target
    )


@lowers(ChannelShuffle)
class ChannelShuffleLowering:
    """The maps of each group go to every G-th place."""

    def forward(self, site: Site) -> None:
        for together, dealt in parts(site.layer.groups, site.x(), site.y()):
            copied(site, "", together, dealt)

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: self.gradient(site, dx))

    def gradient(self, site: Site, dx: Maps) -> None:
        """The rows that write dx."""
        for together, dealt in parts(site.layer.groups, dx, site.dy()):
            copied(site, "", dealt, together)


def parts(groups: int, x: Maps, y: Maps) -> list[tuple[Maps, Maps]]:
    """For each group its maps in x, side by side, and in y, G apart."""
    size = x.channels // groups
    return [
        (
            x._replace(start=x.start + g * size * x.plane, channels=size),
            y._replace(start=y.start + g * y.plane, plane=groups * y.plane, channels=size),
        )
        for g in range(groups)
    ]


class Move(NamedTuple):
    x: Maps  # without gaps
    y: Maps
    places: int  # where in P lies, for each value of y, the number of the value of x that it is
    back: int  # 1: from y to x, for the gradient


@kernel(Move)
def move_maps(P: Array, G: Array, A: Array, S: Array, row: Move, first: int, last: int) -> None:
    """y[k] = x[places[k]], or x[places[k]] = y[k]; a unit: a map of one group of y."""
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        x, y = of_group(row.x, group), of_group(row.y, group)
        k = row.places + c * y.height * y.width
        for i in range(y.height):
            there = at(y, c, i, 0)
            for _j in range(y.width):
                here = x.start + int(P[k]) * LANES
                if row.back:
                    store(A, here, load(A, there))
                else:
                    store(A, there, load(A, here))
                there += LANES
                k += 1


@lowers(Transpose)
class TransposeLowering:
    """By a table that the definition makes: it exchanges the axes of the values' numbers."""

    def takes(self, layer: Transpose, x: Shape) -> bool:
        """As many values as float32 can number."""
        return prod(x) <= EXACT

    def forward(self, site: Site) -> None:
        x, y = copied(site, "x without gaps", site.x()), site.y()
        site.emit(move_maps, Move(x, y, self.places(site), 0), y.channels)

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: self.gradient(site, dx))

    def gradient(self, site: Site, dx: Maps) -> None:
        """The rows that write dx."""
        plain = dx if is_contiguous(dx) else site.keep("dx without gaps", dx.channels, dx.height, dx.width)
        dy = site.dy()
        site.emit(move_maps, Move(plain, dy, self.places(site), 1), dy.channels)
        if plain != dx:
            copied(site, "", plain, dx)

    def places(self, site: Site) -> int:
        """The table."""
        shape = site.plan.graph.input_shape_of(site.node)
        moved, _ = site.layer.forward(np.arange(prod(shape)).reshape(1, *shape), {})
        return site.constants("places", moved)
