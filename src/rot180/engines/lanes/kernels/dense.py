"""Fully connected: the same tiles, with features in place of pixels.

Forward and input gradient keep images in the lanes. The weight gradient sums over images, so there features go into the
lanes: x is transposed, 16 x 16 at a time, and the 16 images of a group become the terms of the sum.
"""

from functools import cache
from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, kernel
from rot180.engines.lanes.kernels.bias import bias_gradient
from rot180.engines.lanes.kernels.convolution import chunks
from rot180.engines.lanes.kernels.copy import copied
from rot180.engines.lanes.layout import Maps, is_contiguous, of_group
from rot180.engines.lanes.limits import Limits, limited_tile, limits_of
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import (
    LANES,
    outer,
    outer_lanes,
    tile_add,
    tile_add_sums,
    tile_load,
    tile_rows,
    tile_store,
    tile_zeros,
    transpose,
)
from rot180.layers import Dense

ROWS = 14, 6, 2, 1  # of the tiles, which are one column wide: one group of images


class Row(NamedTuple):
    x: Maps
    y: Maps
    inputs: int
    outputs: int
    w: int
    b: int
    limits: Limits


@cache
def forward(rows: int) -> Kernel[Row]:
    """The kernel of a tile of outputs."""

    @kernel(Row)
    def dense_forward(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
        """y[f] = b[f] + Σ_d w[f,d] x[d]; a unit: a block of outputs of one group."""
        blocks = (row.outputs + rows - 1) // rows
        for unit in range(first, last):
            x, y = of_group(row.x, unit // blocks), of_group(row.y, unit // blocks)
            f = min(unit % blocks * rows, row.outputs - rows)
            total = tile_rows(rows, 1, P, row.b + f, 1)
            for d in range(row.inputs):
                total = outer(total, P, row.w + f * row.inputs + d, row.inputs, A, x.start + d * LANES, LANES)
            total = limited_tile(total, row.limits)
            tile_store(total, A, y.start + f * LANES, LANES, LANES)

    return dense_forward


@cache
def input_gradient(rows: int) -> Kernel[Row]:
    """The kernel of a tile of inputs; the row's x and y are dx and dy."""

    @kernel(Row)
    def dense_input_gradient(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
        """dx[d] = Σ_f w[f,d] dy[f]; a unit: a block of inputs of one group."""
        blocks = (row.inputs + rows - 1) // rows
        for unit in range(first, last):
            dx, dy = of_group(row.x, unit // blocks), of_group(row.y, unit // blocks)
            d = min(unit % blocks * rows, row.inputs - rows)
            total = tile_zeros(rows, 1)
            for f in range(row.outputs):
                total = outer(total, P, row.w + f * row.inputs + d, 1, A, dy.start + f * LANES, LANES)
            tile_store(total, A, dx.start + d * LANES, LANES, LANES)

    return dense_input_gradient


class Transpose(NamedTuple):
    x: Maps
    turned: Maps  # of a group: 16 rows, one an image, of `inputs` numbers rounded up to 16
    inputs: int


@kernel(Transpose)
def dense_transpose(P: Array, G: Array, A: Array, S: Array, row: Transpose, first: int, last: int) -> None:
    """x (D,16) -> (16,D), the whole blocks of 16 features only; a unit: a block of one group."""
    blocks = row.inputs // LANES
    for unit in range(first, last):
        x, turned = of_group(row.x, unit // blocks), of_group(row.turned, unit // blocks)
        d = unit % blocks * LANES
        block = transpose(tile_load(16, 1, A, x.start + d * LANES, LANES, 0))
        tile_store(block, A, turned.start + d, turned.line, 0)


class WeightGradient(NamedTuple):
    x: Maps  # transposed, or as it is for the features that are left
    dy: Maps
    inputs: int
    dw: int
    output_start: int
    output_blocks: int
    input_start: int
    input_blocks: int
    groups: int


@cache
def weight_gradient(rows: int, columns: int) -> Kernel[WeightGradient]:
    """The kernel of a tile of outputs x columns of 16 inputs."""

    @kernel(WeightGradient)
    def dense_weight_gradient(
        P: Array, G: Array, A: Array, S: Array, row: WeightGradient, first: int, last: int
    ) -> None:
        """dw[f,d] += Σ_n dy[f,n] x[n,d]; a unit: a block of outputs and one of inputs."""
        for unit in range(first, last):
            f = row.output_start + unit % row.output_blocks * rows
            d = row.input_start + unit // row.output_blocks * columns * LANES
            place = row.dw + f * row.inputs + d
            total = tile_zeros(rows, columns)
            for group in range(row.groups):
                x, dy = of_group(row.x, group), of_group(row.dy, group)
                for n in range(LANES):
                    image = x.start + n * x.line + d
                    total = outer(total, A, dy.start + f * LANES + n, LANES, A, image, LANES)
            tile_store(tile_add(total, G, place, row.inputs, LANES), G, place, row.inputs, LANES)

    return dense_weight_gradient


@cache
def weight_gradient_rest(rows: int) -> Kernel[WeightGradient]:
    """The kernel for the up to 15 features behind the last whole block."""

    @kernel(WeightGradient)
    def dense_weight_gradient_rest(
        P: Array, G: Array, A: Array, S: Array, row: WeightGradient, first: int, last: int
    ) -> None:
        """dw[f,d] += Σ_n dy[f,n] x[d,n], lane by lane, the lanes summed at the end; a unit: an input."""
        for unit in range(first, last):
            d = row.input_start + unit
            for block in range(row.output_blocks):
                f = row.output_start + block * rows
                total = tile_zeros(rows, 1)
                for group in range(row.groups):
                    x, dy = of_group(row.x, group), of_group(row.dy, group)
                    total = outer_lanes(total, A, dy.start + f * LANES, LANES, A, x.start + d * LANES, LANES)
                tile_add_sums(total, G, row.dw + f * row.inputs + d, row.inputs, 1)

    return dense_weight_gradient_rest


@lowers(Dense)
class DenseLowering:
    """Kernels for vectors, and for maps that lie without gaps; others are copied first."""

    applies_limits = True

    def forward(self, site: Site) -> None:
        layer: Dense = site.layer
        x = copied(site, "x", site.x())
        inputs, rows = x.channels * x.height * x.width, block(layer.outputs)
        b = site.parameter("b") if layer.bias else site.packed(layer.outputs)
        row = Row(x, site.y(), inputs, layer.outputs, site.parameter("w"), b, site.limits)
        site.emit(forward(rows), row, -(-layer.outputs // rows))

    def backward(self, site: Site) -> None:
        layer: Dense = site.layer
        dy = site.dy()
        if layer.bias:
            bias_gradient(site, dy)
        x = site.x()
        x = x if is_contiguous(x) else site.keep("x", x.channels, x.height, x.width)
        inputs = x.channels * x.height * x.width
        self.weight_gradients(site, x, dy, inputs)
        if site.wants_dx():
            site.write_dx(lambda dx: self.input_gradient(site, dx, dy, inputs))

    def weight_gradients(self, site: Site, x: Maps, dy: Maps, inputs: int) -> None:
        """The rows that add to dw."""
        outputs, dw, whole = site.layer.outputs, site.parameter("w"), inputs // LANES
        turned = site.keep("x transposed", 1, LANES, -(-inputs // LANES))
        if whole:
            site.emit(dense_transpose, Transpose(x, turned, inputs), whole)
        for start, columns, many in chunks(whole, (4, 1)):
            for output_start, rows, blocks in chunks(outputs, (6, 2, 1)):
                row = WeightGradient(turned, dy, inputs, dw, output_start, blocks, start * LANES, many, site.groups)
                site.emit_across(weight_gradient(rows, columns), row, blocks * many)
        if left := inputs % LANES:
            for output_start, rows, blocks in chunks(outputs, (2, 1)):
                row = WeightGradient(x, dy, inputs, dw, output_start, blocks, whole * LANES, left, site.groups)
                site.emit_across(weight_gradient_rest(rows), row, left)

    def input_gradient(self, site: Site, dx: Maps, dy: Maps, inputs: int) -> None:
        """The rows that write dx."""
        rows = block(inputs)
        target = dx if is_contiguous(dx) else site.keep("dx", dx.channels, dx.height, dx.width)
        row = Row(target, dy, inputs, site.layer.outputs, site.parameter("w"), 0, limits_of(None))
        site.emit(input_gradient(rows), row, -(-inputs // rows))
        if target is not dx:
            copied(site, "dx", target, dx)


def block(count: int) -> int:
    """The tile's rows for `count` outputs: the largest that fits."""
    return next(rows for rows in ROWS if rows <= count)
