"""Scaling and shifting by parameters that have an axis for each of x's, of its size or of 1."""

from typing import NamedTuple

from rot180.arrays import Array, Shape
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.kernels.affine import fits
from rot180.engines.lanes.layout import as_maps
from rot180.engines.lanes.simd import LANES, load, store
from rot180.engines.lanes.single.layout import Picture, at, vectors
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import Affine


class Spread(NamedTuple):
    """A parameter laid out as the picture is, and the steps from row to row, pixel to pixel, vector to vector.

    A step of 0: it is the same for all of them.
    """

    start: int
    row: int
    pixel: int
    vector: int


class Pack(NamedTuple):
    source: int  # (channels, pixels)
    packed: int
    channels: int  # 1: the same for all
    pixels: int


@kernel(Pack)
def pack_spread(P: Array, G: Array, A: Array, S: Array, row: Pack, first: int, last: int) -> None:
    """Channels side by side, in vectors of 16; the only one there is in all 16 lanes. A unit: a pixel."""
    places = (max(row.channels, LANES) + LANES - 1) // LANES * LANES
    for pixel in range(first, last):
        for k in range(LANES if row.channels == 1 else row.channels):
            P[row.packed + pixel * places + k] = P[row.source + min(k, row.channels - 1) * row.pixels + pixel]


def spread(site: SingleSite, name: str, shape: Shape) -> Spread:
    """Emit the row that lays out this parameter of the layer."""
    channels, height, width = as_maps(shape)
    pixel = vectors(channels) * LANES
    packed = site.packed(height * width * pixel)
    site.prepare(pack_spread, Pack(site.parameter(name), packed, channels, height * width), height * width)
    return Spread(
        packed,
        row=width * pixel if height > 1 else 0,
        pixel=pixel if width > 1 else 0,
        vector=LANES if channels > 1 else 0,
    )


class Row(NamedTuple):
    x: Picture
    y: Picture
    scale: Spread
    shift: Spread
    scales: int
    shifts: int


@kernel(Row)
def affine_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[i,j,c] = w x[i,j,c] + b, each where there is one; a unit: a row of pixels."""
    for i in range(first, last):
        for j in range(row.x.width):
            here, there = at(row.x, i, j), at(row.y, i, j)
            w = row.scale.start + i * row.scale.row + j * row.scale.pixel
            b = row.shift.start + i * row.shift.row + j * row.shift.pixel
            for c in range(0, row.x.channels, LANES):
                value = load(A, here + c)
                if row.scales:
                    value = value * load(P, w)
                if row.shifts:
                    value = value + load(P, b)
                store(A, there + c, value)
                w += row.scale.vector
                b += row.shift.vector


@lowers(Affine)
class AffineLowering:
    """Out of place."""

    def takes(self, layer: Affine, x: Shape) -> bool:
        """Parameters that maps can be scaled with."""
        return fits(layer.shape, x)

    def forward(self, site: SingleSite) -> None:
        layer: Affine = site.layer
        x, y, none = site.source(), site.target(), Spread(0, 0, 0, 0)
        scale = spread(site, "w", layer.shape) if layer.scale else none
        shift = spread(site, "b", layer.shape) if layer.shift else none
        site.emit(affine_of_one, Row(x, y, scale, shift, int(layer.scale), int(layer.shift)), y.height)
