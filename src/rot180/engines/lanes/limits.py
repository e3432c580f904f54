"""A ReLU or a clip behind a layer only limits what comes out: the layer does it as it stores."""

from math import inf
from typing import NamedTuple

from rot180.engines.lanes.jit import helper
from rot180.engines.lanes.simd import Lanes, Mask, Tile, maximum, minimum, tile_maximum, tile_minimum
from rot180.layers import Clip, Layer, ReLU

LIMITING = ReLU, Clip
NOTHING, FROM_ZERO, BOTH_SIDES = range(3)


class Limits(NamedTuple):
    """y becomes min(max(y, lowest), highest)."""

    kind: int  # NOTHING; FROM_ZERO: lowest is 0, and there is no highest to be looked at; BOTH_SIDES
    lowest: float
    highest: float


def limits_of(layer: Layer | None) -> Limits:
    """Those of one of the layers LIMITING, or none."""
    match layer:
        case ReLU():
            return Limits(FROM_ZERO, 0.0, inf)
        case Clip(low=low, high=high):
            return Limits(BOTH_SIDES, -inf if low is None else low, inf if high is None else high)
    return Limits(NOTHING, -inf, inf)


@helper
def limited(y: Lanes, limits: Limits) -> Lanes:
    """min(max(y, lowest), highest)."""
    if limits.kind == FROM_ZERO:
        return maximum(y, 0.0)
    if limits.kind == BOTH_SIDES:
        return minimum(maximum(y, limits.lowest), limits.highest)
    return y


@helper
def limited_tile(tile: Tile, limits: Limits) -> Tile:
    """The same of a tile."""
    if limits.kind == FROM_ZERO:
        return tile_maximum(tile, 0.0)
    if limits.kind == BOTH_SIDES:
        return tile_minimum(tile_maximum(tile, limits.lowest), limits.highest)
    return tile


@helper
def passes(y: Lanes, limits: Limits) -> Mask:
    """Where the gradient passes: y lies between the limits."""
    return (y > limits.lowest) & (y < limits.highest)
