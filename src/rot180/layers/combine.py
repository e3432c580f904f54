"""Joining branches: the residual sum and the concatenation of maps. (B8)"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape, text
from rot180.chance import Training
from rot180.errors import ShapeError
from rot180.layers.layer import Cost, Layer, Parameters


class Saved(NamedTuple):
    channels: tuple[int, ...]  # of each input


@final
@dataclass(frozen=True)
class Add(Layer):
    """y = x₁ + x₂ + ...                                                                                    (B8)

    All inputs of one shape; no parameters. Backward: every input receives dy as it is, which is how a residual
    network keeps its gradient alive however deep it is. Raises ShapeError where shapes differ. He et al. 2016.
    """

    several_inputs = True
    linear = True

    def output_shape(self, shape: Sequence[Shape]) -> Shape:
        if len(set(shape)) != 1:
            raise ShapeError(f"cannot add {' and '.join(text(s) for s in shape)}: the shapes must be equal")
        return shape[0]

    def cost(self, shape: Sequence[Shape]) -> Cost:
        return Cost(connections=len(shape) * prod(shape[0]))

    def forward(
        self, x: Sequence[Array], parameters: Parameters, training: Training | None = None
    ) -> tuple[Array, Saved]:
        return np.asarray(sum(x[1:], start=x[0])), Saved(tuple(each.shape[1] for each in x))

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> tuple[Array, ...]:
        return (dy,) * len(saved.channels)


@final
@dataclass(frozen=True)
class Concatenate(Layer):
    """y = the maps of x₁, then those of x₂, ...                                                            (B8)

    x_k (N,C_k,H,W) or (N,D_k) -> y (N,ΣC_k,H,W); no parameters. Backward: each input receives its own slice of dy.
    Raises ShapeError where heights or widths differ. Szegedy et al. 2015 ("depth concatenation").
    """

    several_inputs = True
    linear = True

    def output_shape(self, shape: Sequence[Shape]) -> Shape:
        if len({s[1:] for s in shape}) != 1 or () in shape:
            raise ShapeError(
                f"cannot concatenate {' and '.join(text(s) for s in shape)}: only the number of maps may differ"
            )
        return (sum(s[0] for s in shape), *shape[0][1:])

    def forward(
        self, x: Sequence[Array], parameters: Parameters, training: Training | None = None
    ) -> tuple[Array, Saved]:
        return np.concatenate(x, axis=1), Saved(tuple(each.shape[1] for each in x))

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> tuple[Array, ...]:
        return tuple(np.split(dy, list(accumulate(saved.channels))[:-1], axis=1))
