"""Joining branches: sums that no convolution adds, and concatenations; and plain copies."""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.limits import Limits, limited, limits_of
from rot180.engines.lanes.simd import LANES, load, store
from rot180.engines.lanes.single.kernels import activations
from rot180.engines.lanes.single.layout import Picture, at
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import Add, Concatenate, Dropout, Identity


class Sum(NamedTuple):
    a: Picture
    b: Picture
    y: Picture
    limits: Limits


@kernel(Sum)
def add_one(P: Array, G: Array, A: Array, S: Array, row: Sum, first: int, last: int) -> None:
    """y = a + b, limited; y may be a. A unit: a row of pixels."""
    for i in range(first, last):
        here, there, target = at(row.a, i, 0), at(row.b, i, 0), at(row.y, i, 0)
        for k in range(0, row.y.width * row.y.pixel, LANES):
            store(A, target + k, limited(load(A, here + k) + load(A, there + k), row.limits))


@lowers(Add)
class AddLowering:
    """Two inputs at a time; one alone is only copied."""

    def forward(self, site: SingleSite) -> None:
        y, last = site.target(), len(site.node.inputs) - 1
        total = site.source(0)
        if last == 0:
            site.emit(copy_one, Copy(total, y, 0), y.height)
            if site.limiter:
                activations.applied(site, site.limiter, y, y)
        for index in range(1, last + 1):
            limits = site.limits if index == last else limits_of(None)
            site.emit(add_one, Sum(total, site.source(index), y, limits), y.height)
            total = y


class Copy(NamedTuple):
    x: Picture
    y: Picture
    channel: int  # of y, from which on x is put


@kernel(Copy)
def copy_one(P: Array, G: Array, A: Array, S: Array, row: Copy, first: int, last: int) -> None:
    """y[i,j,channel+c] = x[i,j,c]; a unit: a row of pixels.

    Whole vectors, then what is left one by one: behind it lie another input's channels.
    """
    whole = row.x.channels // LANES * LANES
    for i in range(first, last):
        for j in range(row.x.width):
            here, there = at(row.x, i, j), at(row.y, i, j) + row.channel
            for c in range(0, whole, LANES):
                store(A, there + c, load(A, here + c))
            for c in range(whole, row.x.channels):
                A[there + c] = A[here + c]


@lowers(Concatenate)
class ConcatenateLowering:
    """Each input to its own channels of y."""

    def forward(self, site: SingleSite) -> None:
        start = 0
        for index in range(len(site.node.inputs)):
            x = site.source(index)
            site.emit(copy_one, Copy(x, site.target(), start), x.height)
            start += x.channels


@lowers(Dropout, Identity)
class CopyLowering:
    """Where others read the values that come in."""

    def forward(self, site: SingleSite) -> None:
        x = site.source()
        site.emit(copy_one, Copy(x, site.target(), 0), x.height)
