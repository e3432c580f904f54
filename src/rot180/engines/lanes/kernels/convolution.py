"""Convolution, direct: the definition's loops, with a register tile of filters x columns as the innermost value.

A tile holds y[f..f+R, i, j..j+C] for 16 images. For each tap it takes R weights and C columns of x, and does R·C
multiply-adds: enough work on each load to keep the processor at its peak. Weights are laid out anew before each update
so that those R lie side by side: [filter block][c][u][v][R].

Where F is not a multiple of R (or the width of C) the last tile is moved back to fit: it computes again what the one
before it did, the same numbers. Sums that add up must not do so; the weight gradient has rows of their own for what is
left. Where table.py prefers other kernels, the lowering hands over to winograd.py, pointwise.py or depthwise.py.
"""

from functools import cache, partial
from math import sqrt
from typing import NamedTuple

from rot180.arrays import Array, pair
from rot180.engines.lanes.jit import TILES, Kernel, kernel, target
from rot180.engines.lanes.kernels import depthwise, pointwise, winograd, winograd_weight_gradient
from rot180.engines.lanes.kernels.bias import bias_gradient
from rot180.engines.lanes.kernels.packing import Geometry, Pack, convolution_pack, tile_for
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.limits import Limits, limited_tile
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import (
    LANES,
    outer,
    outer_lanes,
    tile_add_sums,
    tile_load,
    tile_rows,
    tile_store,
    tile_zeros,
)
from rot180.engines.lanes.table import DEPTHWISE, POINTWISE, Algorithm, Case, Pass, Variant, choose
from rot180.layers import Convolution


class Forward(NamedTuple):
    x: Maps
    y: Maps
    geometry: Geometry
    packed: int
    in_arena: int  # 1 where packed lies in A, not in P
    b: int
    limits: Limits


@cache
def forward(rows: int, columns: int) -> Kernel[Forward]:
    """The kernel of a tile."""

    @kernel(Forward)
    def convolution_forward(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
        """y[f,i,j] = b[f] + Σ_cuv w[f,c,u,v] x[c, i·S+u·D-P, j·S+v·D-P]; a unit: a block of filters of one group."""
        g, weights = row.geometry, A if row.in_arena else P
        blocks = (g.filters + rows - 1) // rows
        for unit in range(first, last):
            x, y = of_group(row.x, unit // (g.groups * blocks)), of_group(row.y, unit // (g.groups * blocks))
            part, block = unit // blocks % g.groups, unit % blocks
            f = part * g.filters + min(block * rows, g.filters - rows)
            w_block = row.packed + (part * blocks + block) * g.channels * g.kernel_height * g.kernel_width * rows
            for i in range(y.height):
                for start in range(0, y.width, columns):
                    j = min(start, y.width - columns)
                    total = tile_rows(rows, columns, P, row.b + f, 1)
                    for c in range(g.channels):
                        for u in range(g.kernel_height):
                            line = i * g.stride_down + u * g.dilation_down - g.top
                            if line < 0 or line >= x.height:
                                continue
                            w = w_block + (c * g.kernel_height + u) * g.kernel_width * rows
                            place = at(x, part * g.channels + c, line, j * g.stride_right - g.left)
                            for _v in range(g.kernel_width):
                                total = outer(total, weights, w, 1, A, place, g.stride_right * LANES)
                                w += rows
                                place += g.dilation_right * LANES
                    total = limited_tile(total, row.limits)
                    tile_store(total, A, at(y, f, i, j), y.plane, LANES)

    return convolution_forward


class InputGradient(NamedTuple):
    dy: Maps
    dx: Maps
    geometry: Geometry
    packed: int
    in_arena: int


@cache
def input_gradient(rows: int, columns: int) -> Kernel[InputGradient]:
    """The kernel of a tile of channels x columns."""

    @kernel(InputGradient)
    def convolution_input_gradient(
        P: Array, G: Array, A: Array, S: Array, row: InputGradient, first: int, last: int
    ) -> None:
        """dx[c,s,t] = Σ_fuv w[f,c,u,v] dy[f,i,j] where s = i·S+u·D-P, t = j·S+v·D-P; a unit: a block of channels.

        Columns are taken in S phases: those of one phase meet the same taps v, and their dy lie side by side.
        """
        g, weights = row.geometry, A if row.in_arena else P
        blocks = (g.channels + rows - 1) // rows
        for unit in range(first, last):
            dy, dx = of_group(row.dy, unit // (g.groups * blocks)), of_group(row.dx, unit // (g.groups * blocks))
            part, block = unit // blocks % g.groups, unit % blocks
            c = part * g.channels + min(block * rows, g.channels - rows)
            w_block = row.packed + (part * blocks + block) * g.kernel_height * g.kernel_width * g.filters * rows
            for s in range(dx.height):
                for phase in range(g.stride_right):
                    count = (dx.width - phase + g.stride_right - 1) // g.stride_right
                    for start in range(0, count, columns):
                        k = min(start, count - columns)
                        total = tile_zeros(rows, columns)
                        for u in range(g.kernel_height):
                            i = s + g.top - u * g.dilation_down
                            if i < 0 or i % g.stride_down != 0 or i // g.stride_down >= dy.height:
                                continue
                            for v in range(g.kernel_width):
                                j = phase + g.left - v * g.dilation_right
                                if j % g.stride_right != 0:
                                    continue
                                j = j // g.stride_right + k
                                if j + columns <= 0 or j >= dy.width:
                                    continue
                                w = w_block + (u * g.kernel_width + v) * g.filters * rows
                                place = at(dy, part * g.filters, i // g.stride_down, j)
                                for _f in range(g.filters):
                                    total = outer(total, weights, w, 1, A, place, LANES)
                                    w += rows
                                    place += dy.plane
                        column = phase + k * g.stride_right
                        tile_store(total, A, at(dx, c, s, column), dx.plane, g.stride_right * LANES)

    return convolution_input_gradient


class WeightGradient(NamedTuple):
    x: Maps
    dy: Maps
    geometry: Geometry
    dw: int
    filter_start: int  # the filters, within each group of the convolution, that this row sums
    filter_blocks: int
    tap: int  # the first of its columns: a tap v, or a channel
    channels: int  # how many channels (columns are taps) or blocks of channels (columns are channels)
    filter_chunk: int  # a unit's blocks of filters, at most
    channel_chunk: int  # and its channels or blocks of channels
    lines: int  # of dy at a time
    x_column: int  # floats in x from one column of the tile to the next
    dw_column: int  # the same in dw
    image_groups: int


@cache
def weight_gradient(rows: int, columns: int) -> Kernel[WeightGradient]:
    """The kernel of a tile of filters x taps (or, for kernels one tap wide, channels)."""

    @kernel(WeightGradient)
    def convolution_weight_gradient(
        P: Array, G: Array, A: Array, S: Array, row: WeightGradient, first: int, last: int
    ) -> None:
        """dw[f,c,u,v] += Σ_nij dy[n,f,i,j] x[n, c, i·S+u·D-P, j·S+v·D-P], lane by lane, the lanes summed at the end.

        A unit: a chunk of filters by a chunk of channels. A few lines of the images at a time go into all its tiles,
        whose sums wait in scratch: both then stay in the second-level cache.
        """
        g, size = row.geometry, rows * columns * LANES
        by_channel = g.kernel_width == 1
        v = 0 if by_channel else row.tap
        filter_chunks = (row.filter_blocks + row.filter_chunk - 1) // row.filter_chunk
        channel_chunks = (row.channels + row.channel_chunk - 1) // row.channel_chunk
        for unit in range(first, last):
            first_block = unit // channel_chunks % filter_chunks * row.filter_chunk
            blocks = min(row.filter_chunk, row.filter_blocks - first_block)
            first_channel = unit % channel_chunks * row.channel_chunk
            tiles = min(row.channel_chunk, row.channels - first_channel) * g.kernel_height
            part = unit // (channel_chunks * filter_chunks)
            filters = part * g.filters + row.filter_start + first_block * rows
            for tile in range(blocks * tiles):
                tile_store(tile_zeros(rows, columns), S, tile * size, columns * LANES, LANES)
            for group in range(row.image_groups):
                x, dy = of_group(row.x, group), of_group(row.dy, group)
                for top in range(0, dy.height, row.lines):
                    bottom = min(top + row.lines, dy.height)
                    for tile in range(blocks * tiles):
                        f = filters + tile // tiles * rows
                        k, u = first_channel + tile % tiles // g.kernel_height, tile % g.kernel_height
                        c = row.tap + k * columns if by_channel else k
                        total = tile_load(rows, columns, S, tile * size, columns * LANES, LANES)
                        for i in range(top, bottom):
                            line = i * g.stride_down + u * g.dilation_down - g.top
                            if line < 0 or line >= x.height:
                                continue
                            delta = at(dy, f, i, 0)
                            place = at(x, part * g.channels + c, line, v * g.dilation_right - g.left)
                            for _j in range(dy.width):
                                total = outer_lanes(total, A, delta, dy.plane, A, place, row.x_column)
                                delta += LANES
                                place += g.stride_right * LANES
                        tile_store(total, S, tile * size, columns * LANES, LANES)
            for tile in range(blocks * tiles):
                f = filters + tile // tiles * rows
                k, u = first_channel + tile % tiles // g.kernel_height, tile % g.kernel_height
                c = row.tap + k * columns if by_channel else k
                dw = row.dw + ((f * g.channels + c) * g.kernel_height + u) * g.kernel_width + v
                total = tile_load(rows, columns, S, tile * size, columns * LANES, LANES)
                tile_add_sums(total, G, dw, g.channels * g.kernel_height * g.kernel_width, row.dw_column)

    return convolution_weight_gradient


CHUNK_VECTORS = 4096  # a weight gradient's sums at a time: 256 KB stay in the second-level cache
FEWEST_UNITS = 8  # to share out among threads
LINE_VECTORS = 64  # of each filter's dy at a time: with 8 filters 32 KB stay in the first-level cache


def chunks(count: int, sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """`count` as blocks of equal size, largest first: (start, size, how many)."""
    found, start = [], 0
    for size in sizes:
        if many := (count - start) // size:
            found.append((start, size, many))
            start += many * size
    return found


def taps_at_a_time(width: int) -> tuple[int, int]:
    """A kernel's taps in as few parts as 5 at a time allow, of about the same size: 7 are 4 and 3."""
    largest = -(-width // -(-width // 5))
    return largest, largest - 1


def chunk_sizes(filter_blocks: int, channels: int, g: Geometry, rows: int, columns: int) -> tuple[int, int]:
    """How many blocks of filters, and how many channels (or blocks), a weight gradient sums at a time.

    dy is read once for each chunk of channels, x once for each chunk of filters: chunks in the ratio of their sizes
    read least. With few of both, there are some for every thread.
    """
    tiles = max(1, CHUNK_VECTORS // (g.kernel_height * rows * columns))
    wide = columns if g.kernel_width == 1 else 1
    share = g.stride_down * g.stride_right * wide / rows  # blocks of filters for each channel
    across = min(filter_blocks, max(1, round(sqrt(tiles * share))))
    along = min(channels, max(1, tiles // across))
    while across * along > 1 and -(-filter_blocks // across) * -(-channels // along) < FEWEST_UNITS:
        across, along = (-(-across // 2), along) if across > along else (across, -(-along // 2))
    return across, along


@lowers(Convolution)
class ConvolutionLowering:
    """Direct kernels for any kernel, stride, padding, dilation and groups; Winograd's where the table prefers them."""

    applies_limits = True

    def geometry(self, site: Site) -> Geometry:
        """The layer's settings for its input."""
        layer: Convolution = site.layer
        shape = site.plan.graph.input_shape_of(site.node)
        (top, _), (left, _) = layer.pads(shape)
        groups = layer.groups
        return Geometry(
            *(layer.filters // groups, shape[0] // groups, groups),
            *pair(layer.size, "size"),
            *pair(layer.stride, "stride"),
            *(top, left),
            *pair(layer.dilation, "dilation"),
        )

    def halo(self, site: Site, g: Geometry) -> tuple[int, int]:
        """Columns of zeros that the forward pass reads beside x."""
        width, out = site.x().width, site.y().width
        return g.left, max(0, (out - 1) * g.stride_right + (g.kernel_width - 1) * g.dilation_right - g.left - width + 1)

    def algorithm(self, site: Site, g: Geometry, in_pass: Pass) -> Algorithm:
        """What the table chooses for a pass; the choice is noted in the plan."""
        x, y = site.x(), site.y()
        case = Case(
            in_pass=in_pass,
            channels=g.channels * g.groups,
            filters=g.filters * g.groups,
            kernel=(g.kernel_height, g.kernel_width),
            stride=(g.stride_down, g.stride_right),
            dilation=(g.dilation_down, g.dilation_right),
            groups=g.groups,
            inputs=(x.height, x.width),
            outputs=(y.height, y.width),
            image_groups=site.groups,
            precise=site.plan.precise,
        )
        choice = choose(site.node.name, case)
        site.plan.choices.append(choice)
        return choice.algorithm

    def forward(self, site: Site) -> None:
        g = self.geometry(site)
        algorithm = self.algorithm(site, g, Pass.FORWARD)
        if isinstance(algorithm, Variant):
            winograd.emit_forward(site, algorithm, g.top, g.left)
        elif algorithm is POINTWISE:
            pointwise.emit_pointwise(site, g, site.x(), site.y(), turned=False)
        elif algorithm is DEPTHWISE:
            depthwise.emit_forward(site, g, site.x(halo=self.halo(site, g)))
        else:
            self.direct_forward(site, g)

    def backward(self, site: Site) -> None:
        g = self.geometry(site)
        if site.layer.bias:
            bias_gradient(site, site.dy())
        algorithm = self.algorithm(site, g, Pass.WEIGHT_GRADIENT)
        if isinstance(algorithm, Variant):
            winograd_weight_gradient.emit_weight_gradient(site, algorithm, g.top, g.left)
        elif algorithm is POINTWISE:
            pointwise.emit_weight_gradient(site, g)
        elif algorithm is DEPTHWISE:
            depthwise.emit_weight_gradient(site, g, site.x(halo=self.halo(site, g)))
        else:
            self.direct_weight_gradient(site, g)
        if site.wants_dx():
            site.write_dx(lambda dx: self.input_gradient(site, g, dx))

    def input_gradient(self, site: Site, g: Geometry, dx: Maps) -> None:
        """The rows that write dx."""
        algorithm = self.algorithm(site, g, Pass.INPUT_GRADIENT)
        if isinstance(algorithm, Variant):
            winograd.emit_input_gradient(site, algorithm, g.top, g.left, dx)
        elif algorithm is POINTWISE:
            pointwise.emit_pointwise(site, g, site.dy(), dx, turned=True)
        elif algorithm is DEPTHWISE:
            depthwise.emit_input_gradient(site, g, dx)
        else:
            self.direct_input_gradient(site, g, dx)

    def direct_forward(self, site: Site, g: Geometry) -> None:
        """The rows that compute y."""
        x, y = site.x(halo=self.halo(site, g)), site.y()
        rows, columns = tile_for(g.filters, y.width)
        blocks = g.groups * -(-g.filters // rows)
        size = blocks * rows * g.channels * g.kernel_height * g.kernel_width
        packed, in_arena = site.weights(
            "weights",
            convolution_pack,
            partial(Pack, site.parameter("w"), geometry=g, rows=rows, by_channel=0),
            blocks,
            size,
        )
        b = site.parameter("b") if site.layer.bias else site.packed(g.groups * g.filters)
        site.emit(forward(rows, columns), Forward(x, y, g, packed, in_arena, b, site.limits), blocks)

    def direct_weight_gradient(self, site: Site, g: Geometry) -> None:
        """The rows that add to dw."""
        x, dy = site.x(halo=self.halo(site, g)), site.dy()
        by_channel = g.kernel_width == 1
        limit = max(r * c for r, c in TILES[target()])
        taps = chunks(g.channels, (4, 2, 1)) if by_channel else chunks(g.kernel_width, taps_at_a_time(g.kernel_width))
        for tap, columns, many in taps:
            for filter_start, rows, filter_blocks in chunks(
                g.filters, tuple(r for r in (8, 6, 4, 2, 1) if r * columns <= limit)
            ):
                for each in [tap] if by_channel else range(tap, tap + many * columns, columns):
                    channels = many if by_channel else g.channels
                    across, along = chunk_sizes(filter_blocks, channels, g, rows, columns)
                    site.scratch(across * along * g.kernel_height * rows * columns * LANES)
                    row = WeightGradient(
                        *(x, dy, g, site.parameter("w"), filter_start, filter_blocks, each, channels),
                        filter_chunk=across,
                        channel_chunk=along,
                        lines=max(1, LINE_VECTORS // dy.width),
                        x_column=x.plane if by_channel else g.dilation_right * LANES,
                        dw_column=g.kernel_height if by_channel else 1,
                        image_groups=site.groups,
                    )
                    units = g.groups * -(-filter_blocks // across) * -(-channels // along)
                    site.emit_across(weight_gradient(rows, columns), row, units)

    def direct_input_gradient(self, site: Site, g: Geometry, dx: Maps) -> None:
        """The rows that write dx."""
        rows, columns = tile_for(g.channels, max(1, dx.width // g.stride_right))
        left = max(0, -(-((g.kernel_width - 1) * g.dilation_right - g.left) // g.stride_right))
        right = max(0, (dx.width - 1 + g.left) // g.stride_right - site.dy().width + 1)
        dy = site.dy(halo=(min(left, columns - 1), min(right, columns - 1)))
        blocks = g.groups * -(-g.channels // rows)
        size = blocks * rows * g.filters * g.kernel_height * g.kernel_width
        packed, in_arena = site.weights(
            "turned weights",
            convolution_pack,
            partial(Pack, site.parameter("w"), geometry=g, rows=rows, by_channel=1),
            blocks,
            size,
        )
        site.emit(input_gradient(rows, columns), InputGradient(dy, dx, g, packed, in_arena), blocks)
