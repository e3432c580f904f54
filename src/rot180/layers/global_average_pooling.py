"""Global average pooling: one number from each map."""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape
from rot180.chance import Training
from rot180.layers.layer import Cost, Layer, Parameters, Window, maps


class Saved(NamedTuple):
    shape: Shape  # (N,C,H,W)


@final
@dataclass(frozen=True)
class GlobalAveragePooling(Layer):
    """y[n,c] = 1/(H·W) Σ_ij x[n,c,i,j]                                                                     (B3)

    x (N,C,H,W) -> y (N,C), whatever the size of the maps; no parameters; the same in training and inference.
    Every x receives dy/(H·W). Raises ShapeError for anything but maps. Lin, Chen and Yan 2014.
    """

    linear = True

    def output_shape(self, shape: Shape) -> Shape:
        return (maps(shape, "global pooling")[0],)

    def cost(self, shape: Shape) -> Cost:
        return Cost(connections=prod(shape))

    def window(self, shape: Shape) -> Window:
        return Window((shape[1], shape[2]))

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        return x.mean(axis=(2, 3)), Saved(x.shape)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        share = dy / prod(saved.shape[2:])  # (N,C)
        return np.broadcast_to(share[:, :, None, None], saved.shape).copy()
