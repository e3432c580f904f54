"""LeNet-5's output layer: classes in the lanes."""

from typing import NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.simd import LANES, load, store, zeros
from rot180.engines.lanes.single.layout import Picture, at, vectors
from rot180.engines.lanes.single.plan import SingleSite, lowers
from rot180.layers import RadialBasisOutput


class Row(NamedTuple):
    x: Picture
    y: Picture
    codes: int  # (D, classes up to whole vectors)


@kernel(Row)
def radial_basis_of_one(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:
    """y[k] = -Σ_d (x[d] - w[d,k])²; a unit: 16 classes."""
    x, y = at(row.x, 0, 0), at(row.y, 0, 0)
    step = (row.y.channels + LANES - 1) // LANES * LANES
    for k in range(first * LANES, last * LANES, LANES):
        total = zeros()
        for d in range(row.x.channels):
            difference = A[x + d] - load(P, row.codes + d * step + k)
            total -= difference * difference
        store(A, y + k, total)


@lowers(RadialBasisOutput)
class RadialBasisOutputLowering:
    """The codes lie behind the parameters, turned."""

    def forward(self, site: SingleSite) -> None:
        x, y, w = site.source(in_vectors=False), site.target(), site.layer.w
        turned = np.pad(w.T, ((0, 0), (0, -len(w) % LANES)))
        site.emit(radial_basis_of_one, Row(x, y, site.constants("codes", turned)), vectors(y.channels))
