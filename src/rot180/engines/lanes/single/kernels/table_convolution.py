"""Convolution with a table of connections: filters lie side by side in the lanes, a link that is not there is a 0."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.kernels.max_pooling import window_of
from rot180.engines.lanes.kernels.table_convolution import Links, links_of
from rot180.engines.lanes.single.kernels.convolution import emit
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import TableConvolution


class Expand(NamedTuple):
    w: int  # (L,KH,KW)
    packed: int  # (F,C,KH,KW), zeros where no link is
    links: Links
    channels: int
    taps: int


@kernel(Expand)
def expand_table(P: Array, G: Array, A: Array, S: Array, row: Expand, first: int, last: int) -> None:
    """Each link's weights to their place in the whole kernel; a unit: a link."""
    for link in range(first, last):
        f, c = int(P[row.links.filters + link]), int(P[row.links.maps + link])
        for tap in range(row.taps):
            P[row.packed + (f * row.channels + c) * row.taps + tap] = P[row.w + link * row.taps + tap]


@lowers(TableConvolution)
class TableConvolutionLowering:
    """The whole convolution's kernels."""

    def forward(self, site: SingleSite) -> None:
        channels = site.plan.graph.input_shape_of(site.node)[0]
        w = window_of(site)
        taps = w.height * w.width
        whole = site.packed(len(site.layer.table) * channels * taps)
        expand = Expand(site.parameter("w"), whole, links_of(site), channels, taps)
        site.prepare(expand_table, expand, len(site.layer.links[0]))
        emit(site, 1, (w.height, w.width), (w.down, w.right), (w.top, w.left), (1, 1), whole)
