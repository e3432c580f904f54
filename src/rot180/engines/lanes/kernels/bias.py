"""The gradient of a bias: what arrives, summed over images and pixels."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site
from rot180.engines.lanes.simd import LANES, horizontal_sum, load, zeros


class Row(NamedTuple):
    dy: Maps
    db: int
    groups: int


@kernel(Row)
def sum_to_bias(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """db[f] += Σ_nij dy[n,f,i,j]; a unit: a filter."""
    for f in range(first, last):
        total = zeros()
        for group in range(row.groups):
            dy = of_group(row.dy, group)
            for i in range(dy.height):
                place = at(dy, f, i, 0)
                for _j in range(dy.width):
                    total += load(A, place)
                    place += LANES
        G[row.db + f] += horizontal_sum(total)


def bias_gradient(site: Site, dy: Maps) -> None:
    """Emit the row for the node's parameter "b"."""
    site.emit_across(sum_to_bias, Row(dy, site.parameter("b"), site.groups), dy.channels)
