"""Joining branches: sums and concatenations, and the sum of gradients where several nodes read one value."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.kernels.activations import applied
from rot180.engines.lanes.kernels.copy import copied
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.limits import Limits, limited, limits_of
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, load, store
from rot180.layers import Add, Concatenate, Identity


class Row(NamedTuple):
    a: Maps
    b: Maps
    y: Maps
    limits: Limits


@kernel(Row)
def add_maps(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y = a + b, limited; y may be a or b. A unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.y.channels, unit % row.y.channels
        a, b, y = of_group(row.a, group), of_group(row.b, group), of_group(row.y, group)
        for i in range(y.height):
            here, there, target = at(a, c, i, 0), at(b, c, i, 0), at(y, c, i, 0)
            for _j in range(y.width):
                store(A, target, limited(load(A, here) + load(A, there), row.limits))
                here += LANES
                there += LANES
                target += LANES


def accumulate(site: Site, part: Maps, whole: Maps) -> None:
    """Emit the row for whole += part."""
    site.emit(add_maps, Row(whole, part, whole, limits_of(None)), whole.channels)


@lowers(Add)
class AddLowering:
    """Two inputs at a time."""

    applies_limits = True

    def forward(self, site: Site) -> None:
        y, last = site.y(), len(site.node.inputs) - 1
        total = site.x(0)
        if last == 0:  # a sum of one
            applied(site, site.limiter or Identity(), total, y)
        for index in range(1, last + 1):
            limits = site.limits if index == last else limits_of(None)
            site.emit(add_maps, Row(total, site.x(index), y, limits), y.channels)
            total = y

    def backward(self, site: Site) -> None:
        dy = site.dy()
        for index in range(len(site.node.inputs)):
            if site.wants_dx(index) and not site.pass_gradient_on(index):
                site.write_dx(lambda dx: _copy(site, dy, dx), index)


@lowers(Concatenate)
class ConcatenateLowering:
    """Each input is copied to its own maps of y, and its gradient from them."""

    def forward(self, site: Site) -> None:
        start = 0
        for index in range(len(site.node.inputs)):
            x = site.x(index)
            copied(site, "", x, _part(site.y(), start, x.channels))
            start += x.channels

    def backward(self, site: Site) -> None:
        start = 0
        for index in range(len(site.node.inputs)):
            part = _part(site.dy(), start, site.channels_of(index))
            start += part.channels
            if site.wants_dx(index):
                site.write_dx(lambda dx, part=part: _copy(site, part, dx), index)  # type: ignore[misc]


def _copy(site: Site, source: Maps, target: Maps) -> None:
    copied(site, "", source, target)


def _part(maps: Maps, start: int, channels: int) -> Maps:
    """So many of the maps, from `start`."""
    return maps._replace(start=maps.start + start * maps.plane, channels=channels)
