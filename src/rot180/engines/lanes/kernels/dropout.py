"""Dropout. Each image's mask comes from its own address (chance.py), whichever lane and thread it is in."""

from math import ceil
from typing import NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.chance import FLOAT_BITS
from rot180.engines.lanes.chance import GAMMA, SIXTEEN_BITS, extend, mix
from rot180.engines.lanes.jit import helper, kernel
from rot180.engines.lanes.kernels.copy import copied
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.simd import LANES, load, store
from rot180.layers import Dropout

KEY = 4 * LANES  # floats of S: a group's keys, 64 bits as four numbers of 16, the highest first
UNUSED_BITS = 64 - FLOAT_BITS


class Forward(NamedTuple):
    x: Maps
    y: Maps
    mask: Maps
    label: Maps
    node: int  # position in the graph
    threshold: int  # of 2^24: a value whose number is below is left out
    scale: float  # 1/(1-rate)


@helper
def find_keys(A: Array, S: Array, label: Maps, node: int) -> None:
    """Put the key of (layer, seed, step, node, image) for the group's 16 images into S."""
    for n in range(LANES):
        key = np.uint64(0)
        for part in range(4):
            key = np.uint64((key << np.uint64(16)) | np.uint64(A[label.start + (2 + part) * LANES + n]))
        key = extend(extend(key, node), int(A[label.start + 6 * LANES + n]))
        for part in range(4):
            S[part * LANES + n] = np.float32((key >> np.uint64(48 - 16 * part)) & np.uint64(SIXTEEN_BITS))


@helper
def bits(S: Array, n: int, element: int) -> np.uint64:
    """The random bits of one element of the image in lane n, as many as chance.uniform takes."""
    key = (
        (np.uint64(S[n]) << np.uint64(48))
        | (np.uint64(S[LANES + n]) << np.uint64(32))
        | (np.uint64(S[2 * LANES + n]) << np.uint64(16))
        | np.uint64(S[3 * LANES + n])
    )
    return mix(key + np.uint64(GAMMA) * np.uint64(element + 1)) >> np.uint64(UNUSED_BITS)


@kernel(Forward)
def dropout_forward(P: Array, G: Array, A: Array, S: Array, row: Forward, first: int, last: int) -> None:
    """y[c,i,j] = x[c,i,j] m[c,i,j],  m = 1/(1-rate) where the element's number reaches the rate, else 0.

    Elements are numbered in the order c, i, j. A unit: a map of one group.
    """
    threshold = np.uint64(row.threshold)
    group = -1
    for unit in range(first, last):
        c = unit % row.x.channels
        if unit // row.x.channels != group:
            group = unit // row.x.channels
            find_keys(A, S, of_group(row.label, group), row.node)
        x, y, mask = of_group(row.x, group), of_group(row.y, group), of_group(row.mask, group)
        for i in range(x.height):
            for j in range(x.width):
                place, element = at(mask, c, i, j), (c * x.height + i) * x.width + j
                for n in range(LANES):
                    A[place + n] = row.scale if bits(S, n, element) >= threshold else np.float32(0.0)
                store(A, at(y, c, i, j), load(A, at(x, c, i, j)) * load(A, place))


class Backward(NamedTuple):
    mask: Maps
    dy: Maps
    dx: Maps


@kernel(Backward)
def dropout_backward(P: Array, G: Array, A: Array, S: Array, row: Backward, first: int, last: int) -> None:
    """dx[c,i,j] = dy[c,i,j] m[c,i,j]; a unit: a map of one group."""
    for unit in range(first, last):
        group, c = unit // row.dy.channels, unit % row.dy.channels
        mask, dy, dx = of_group(row.mask, group), of_group(row.dy, group), of_group(row.dx, group)
        for i in range(dy.height):
            for j in range(dy.width):
                store(A, at(dx, c, i, j), load(A, at(dy, c, i, j)) * load(A, at(mask, c, i, j)))


@lowers(Dropout)
class DropoutLowering:
    """In training a mask, kept for the gradient; in inference a copy."""

    def forward(self, site: Site) -> None:
        x, y = site.x(), site.y()
        if not site.training:
            copied(site, "", x, y)
            return
        rate = float(site.layer.rate)
        threshold = ceil(float(np.float32(rate)) * 2**FLOAT_BITS)  # uniform numbers are whole multiples of 2^-24
        site.scratch(KEY)
        row = Forward(x, y, self.mask(site), site.label(), self.position(site), threshold, 1 / (1 - rate))
        site.emit(dropout_forward, row, x.channels)

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: self.gradient(site, dx))

    def gradient(self, site: Site, dx: Maps) -> None:
        """The row that writes dx."""
        if site.training:
            site.emit(dropout_backward, Backward(self.mask(site), site.dy(), dx), dx.channels)
        else:
            copied(site, "", site.dy(), dx)

    def mask(self, site: Site) -> Maps:
        """What each value is multiplied by."""
        x = site.x()
        return site.keep("mask", x.channels, x.height, x.width)

    def position(self, site: Site) -> int:
        """The node's place in the graph: a part of its address."""
        return next(k for k, node in enumerate(site.plan.graph) if node is site.node)
