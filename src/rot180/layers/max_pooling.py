"""Max pooling: the largest of each window; the gradient goes to the input that won."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape
from rot180.chance import Training
from rot180.convolve import pad
from rot180.errors import ShapeError
from rot180.layers.layer import Parameters
from rot180.layers.pooling import Pooling, unpad


class Saved(NamedTuple):
    winner: Array  # (N,C,OH,OW): the winning place u·KW + v; of equals, the first
    shape: Shape  # (N,C,H,W)


@final
@dataclass(frozen=True)
class MaxPooling(Pooling):
    """y[n,c,i,j] = max_uv x[n, c, i·S+u·D-P, j·S+v·D-P]                                          (B3, CNN-1)

    x (N,C,H,W) -> y (N,C,OH,OW); no parameters; padding never wins; the same in training and inference.
    Backward: dy goes to the input that won its window, and adds up where windows overlap.
    Raises ShapeError as all pooling does, and for padding so wide that a window sees nothing else. Seeds 000 and 004.
    """

    def output_shape(self, shape: Shape) -> Shape:
        output, size = super().output_shape(shape), self.window(shape).size
        for side, most in zip(self.pads(shape), size, strict=True):
            if max(side) >= most:
                raise ShapeError(f"padding {max(side)} leaves nothing to see for a window of {most}: pad less")
        return output

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        places = self.taps(pad(x, self.pads(x.shape[1:]), -np.inf))
        y = next(places).copy()
        winner = np.zeros(y.shape, np.intp)
        for place, here in enumerate(places, start=1):
            wins = here > y
            np.copyto(y, here, where=wins)
            np.copyto(winner, place, where=wins)
        return y, Saved(winner, x.shape)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        pads = self.pads(saved.shape[1:])
        dx = pad(np.zeros(saved.shape, dy.dtype), pads)
        for place, here in enumerate(self.taps(dx)):
            here += dy * (saved.winner == place)
        return unpad(dx, pads)
