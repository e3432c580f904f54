"""Copying values from one layout to another: rows with a halo to rows without, and back."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.layout import Maps, at, is_contiguous, of_group
from rot180.engines.lanes.plan import Site
from rot180.engines.lanes.simd import LANES, load, store


class Row(NamedTuple):
    source: Maps
    target: Maps


@kernel(Row)
def copy_maps(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """target[c,i,j] = source[c,i,j]; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.source.channels, unit % row.source.channels
        source, target = of_group(row.source, group), of_group(row.target, group)
        for i in range(source.height):
            here, there = at(source, c, i, 0), at(target, c, i, 0)
            for _j in range(source.width):
                store(A, there, load(A, here))
                here += LANES
                there += LANES


def copied(site: Site, name: str, source: Maps, target: Maps | None = None) -> Maps:
    """The maps themselves where they lie without gaps and no target is given; else a copy of them."""
    if target is None:
        if is_contiguous(source):
            return source
        target = site.keep(name, source.channels, source.height, source.width)
    site.emit(copy_maps, Row(source, target), source.channels)
    return target
