"""What convolution's kernels share: its geometry, its register tile, and weights laid out as the tile reads them."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import TILES, kernel, target


class Geometry(NamedTuple):
    """A convolution's settings, and how filters and channels are shared out among its groups."""

    filters: int  # of a group
    channels: int  # of a group
    groups: int
    kernel_height: int
    kernel_width: int
    stride_down: int
    stride_right: int
    top: int  # padding
    left: int
    dilation_down: int
    dilation_right: int


class Pack(NamedTuple):
    w: int
    packed: int
    in_arena: int
    geometry: Geometry
    rows: int
    by_channel: int  # blocks of channels, for the input gradient; else blocks of filters


@kernel(Pack)
def convolution_pack(P: Array, G: Array, A: Array, S: Array, row: Pack, first: int, last: int) -> None:
    """w (F,C/G,KH,KW) laid out in blocks of R filters [c][u][v][R], or of R channels [u][v][f][R]; a unit: a block."""
    g, blocked = row.geometry, A if row.in_arena else P
    taps = g.kernel_height * g.kernel_width
    if row.by_channel:
        count, in_block = g.channels, taps
        outer_count, outer_step, inner_count, inner_step = taps, 1, g.filters, g.channels * taps
    else:
        count, in_block = g.filters, g.channels * taps
        outer_count, outer_step, inner_count, inner_step = g.channels, taps, taps, 1
    blocks = (count + row.rows - 1) // row.rows
    for unit in range(first, last):
        part, block = unit // blocks, unit % blocks
        source = row.w + part * g.filters * g.channels * taps + min(block * row.rows, count - row.rows) * in_block
        place = row.packed + unit * outer_count * inner_count * row.rows
        for k in range(outer_count):
            for m in range(inner_count):
                for r in range(row.rows):
                    blocked[place] = P[source + k * outer_step + m * inner_step + r * in_block]
                    place += 1


ALONE = 6, 7, 8, 14  # columns of a tile of one filter, besides the usual: several sums to go on with while one waits


def tile_for(count: int, width: int) -> tuple[int, int]:
    """The best tile that fits `count` filters (or channels) and `width` columns: the one that wastes least."""

    def cost(tile: tuple[int, int]) -> float:
        rows, columns = tile
        work = -(-count // rows) * -(-width // columns) * rows * columns  # what is computed, repeats included
        return work * (1 + 0.5 / columns + 0.1 / rows) * (1.3 if rows * columns < 12 else 1.0)

    sizes = {(r, c) for r, c in TILES[target()]} | {(r, c) for r in (1, 2, 4, 6, 8) for c in (1, 2, 4)}
    if count == 1:
        sizes |= {(1, c) for c in ALONE}
    limit = max(r * c for r, c in TILES[target()])
    return min((t for t in sizes if t[0] <= count and t[1] <= width and t[0] * t[1] <= limit), key=cost)
