"""Average pooling: the mean of each window; the gradient shared out evenly."""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape
from rot180.chance import Training
from rot180.convolve import pad
from rot180.layers.layer import Parameters
from rot180.layers.pooling import Pooling, taps, unpad


class Saved(NamedTuple):
    shape: Shape  # (N,C,H,W)


@final
@dataclass(frozen=True)
class AveragePooling(Pooling):
    """y[n,c,i,j] = 1/(KH·KW) Σ_uv x[n, c, i·S+u-P, j·S+v-P]                                      (B3, CNN-1)

    x (N,C,H,W) -> y (N,C,OH,OW); no parameters; padding counts as zeros; the same in training and inference.
    Every x of a window receives dy/(KH·KW): with windows side by side, the Kronecker product of dy with a block
    of ones. Raises ShapeError as all pooling does. LeCun et al. 1998, section II.B ("subsampling").
    """

    linear = True

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        window = self.window(x.shape[1:])
        total = sum(taps(pad(x, self.pads(x.shape[1:])), window))
        return np.asarray(total / prod(window.size), x.dtype), Saved(x.shape)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        pads, window = self.pads(saved.shape[1:]), self.window(saved.shape[1:])
        share = dy / prod(window.size)
        dx = pad(np.zeros(saved.shape, dy.dtype), pads)
        for here in taps(dx, window):
            here += share
        return unpad(dx, pads)
