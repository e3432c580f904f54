"""What a layer's outputs are multiplied by and shifted by: its bias, and the batch normalization behind it.

    γ (z + b - μ)/√(σ²+ε) + β = s z + t,    s = γ/√(σ²+ε),    t = s (b - μ) + β

s goes into the weights when they are packed, t takes the bias's place.
"""

from typing import NamedTuple

from rot180.arrays import Array
from rot180.engines.lanes.jit import kernel
from rot180.engines.lanes.simd import LANES, broadcast, fma, load, square_root, store, zeros
from rot180.engines.lanes.single.layout import vectors
from rot180.engines.lanes.single.plan import SingleSite


class Fold(NamedTuple):
    scale: int  # s, a number for each filter, 0 up to a whole vector
    shift: int  # t
    b: int
    has_bias: int
    gamma: int
    beta: int
    mean: int
    variance: int
    epsilon: float
    normalizes: int


@kernel(Fold)
def fold(P: Array, G: Array, A: Array, S: Array, row: Fold, first: int, last: int) -> None:
    """s and t; a unit: 16 filters."""
    for here in range(first * LANES, last * LANES, LANES):
        scale, shift = broadcast(1.0), zeros()
        if row.has_bias:
            shift = load(P, row.b + here)
        if row.normalizes:
            scale = load(P, row.gamma + here) / square_root(load(P, row.variance + here) + row.epsilon)
            shift = fma(shift - load(P, row.mean + here), scale, load(P, row.beta + here))
        store(P, row.scale + here, scale)
        store(P, row.shift + here, shift)


def folded(site: SingleSite, filters: int, has_bias: bool, normalization: SingleSite | None) -> Fold:
    """Emit the row that computes s and t for a node, before its weights are packed."""
    size = vectors(filters) * LANES
    b = site.parameter("b") if has_bias else 0
    scale, shift = site.packed(size, "scale"), site.packed(size, "shift")
    row = Fold(scale, shift, b, int(has_bias), gamma=0, beta=0, mean=0, variance=0, epsilon=1.0, normalizes=0)
    if normalization is not None:
        row = row._replace(
            gamma=normalization.parameter("gamma"),
            beta=normalization.parameter("beta"),
            mean=normalization.parameter("running_mean"),
            variance=normalization.parameter("running_variance"),
            epsilon=normalization.layer.epsilon,
            normalizes=1,
        )
    site.prepare(fold, row, vectors(filters))
    return row
