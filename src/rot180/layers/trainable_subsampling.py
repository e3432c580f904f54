"""Trainable subsampling: LeNet's pooling, which learns one weight and one bias for each map."""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape
from rot180.chance import Training
from rot180.convolve import pad
from rot180.layers.layer import Cost, Fan, Parameters
from rot180.layers.pooling import Pooling, unpad


class Saved(NamedTuple):
    total: Array  # (N,C,OH,OW): the sum of each window
    w: Array  # (C,)
    shape: Shape  # (N,C,H,W)


@final
@dataclass(frozen=True)
class TrainableSubsampling(Pooling):
    """y[n,c,i,j] = b[c] + w[c] Σ_uv x[n, c, i·S+u-P, j·S+v-P]                                              (B3, C2)

    x (N,C,H,W), w (C,), b (C,) -> y (N,C,OH,OW). The same in training and inference. The squashing function behind it
    is a layer of its own. With a small w that function is nearly linear and the layer only blurs; with a large one it
    is like an "or" or an "and" of the window, as b decides.
    Backward: dw[c] = Σ dy ⊙ Σ_uv x, db[c] = Σ dy, and every x of a window receives w[c] dy.
    Raises ShapeError as all pooling does. LeCun et al. 1998, section II.B (S2 and S4).
    """

    linear = True

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"w": shape[:1], "b": shape[:1]}

    def fan(self, w: Shape) -> Fan:
        return Fan(self.area, self.area)

    def cost(self, shape: Shape) -> Cost:
        outputs = prod(self.output_shape(shape))
        return Cost(connections=outputs * (self.area + 1), multiply_adds=outputs)

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        shape, w = x.shape[1:], parameters["w"]
        total = np.asarray(sum(self.taps(pad(x, self.pads(shape)))))
        return w[:, None, None] * total + parameters["b"][:, None, None], Saved(total, w, x.shape)

    def parameter_gradients(self, dy: Array, saved: Saved) -> dict[str, Array]:
        return {"w": (dy * saved.total).sum(axis=(0, 2, 3)), "b": dy.sum(axis=(0, 2, 3))}

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        pads = self.pads(saved.shape[1:])
        share = saved.w[:, None, None] * dy
        dx = pad(np.zeros(saved.shape, dy.dtype), pads)
        for here in self.taps(dx):
            here += share
        return unpad(dx, pads)
