"""Average pooling: the mean of each window; the gradient shared out evenly."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Pair, Shape, pair
from rot180.chance import Training
from rot180.convolve import Padding, Pads, pad, resolve_padding
from rot180.errors import ShapeError
from rot180.layers.layer import Parameters
from rot180.layers.pooling import Pooling, unpad


class Saved(NamedTuple):
    shape: Shape  # (N,C,H,W)


@final
@dataclass(frozen=True)
class AveragePooling(Pooling):
    """y[n,c,i,j] = 1/(KH·KW) Σ_uv x[n, c, i·S+u·D-P, j·S+v·D-P]                                   (B3, CNN-1)

    x (N,C,H,W) -> y (N,C,OH,OW); no parameters; padding counts as zeros; the same in training and inference.
    counted: how much of the padding counts, None for all of it; the sum is divided by the number of inputs that count,
    with 0 by those inside the map. Every x of a window receives dy over that number: with windows side by side, the
    Kronecker product of dy with a block of ones. Raises ShapeError as all pooling does, and where nothing in a window
    counts. LeCun et al. 1998, section II.B ("subsampling").
    """

    counted: Padding | None = None

    linear = True

    def output_shape(self, shape: Shape) -> Shape:
        output = super().output_shape(shape)
        if self.counted is not None and not all(side.all() for side in self._counts(shape)):
            raise ShapeError("a window of an average pooling sees nothing that counts: pad less")
        return output

    def counted_pads(self, shape: Shape) -> Pads:
        """The part of the padding that counts, ((top, bottom), (left, right))."""
        if self.counted is None:
            return self.pads(shape)
        return resolve_padding(self.counted, (shape[1], shape[2]), (1, 1), (1, 1), (1, 1))

    def _counts(self, shape: Shape) -> tuple[Array, Array]:
        """How many rows and columns of each window count: (OH,), (OW,)."""
        _, *outputs = super().output_shape(shape)
        rows, columns = (
            _count(*of_axis)
            for of_axis in zip(
                shape[1:],
                outputs,
                pair(self.size, "size"),
                self.window(shape).stride,
                pair(self.dilation, "dilation"),
                self.pads(shape),
                self.counted_pads(shape),
                strict=True,
            )
        )
        return rows, columns

    def counts(self, shape: Shape) -> Array:
        """(OH,OW): what the sum of each window is divided by, on maps of this shape."""
        rows, columns = self._counts(shape)
        return np.asarray(rows[:, None] * columns)

    def _number(self, shape: Shape) -> Array | int:
        """The same, or one number for all."""
        return self.area if self.counted is None else self.counts(shape)

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        total = sum(self.taps(pad(x, self.pads(x.shape[1:]))))
        return np.asarray(total / self._number(x.shape[1:]), x.dtype), Saved(x.shape)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        pads = self.pads(saved.shape[1:])
        share = np.asarray(dy / self._number(saved.shape[1:]), dy.dtype)
        dx = pad(np.zeros(saved.shape, dy.dtype), pads)
        for here in self.taps(dx):
            here += share
        return unpad(dx, pads)


def _count(size: int, outputs: int, taps: int, stride: int, dilation: int, pads: Pair, counted: Pair) -> Array:
    """Along one axis: for each output, how many of its taps lie inside, or in padding that counts."""
    places = np.arange(outputs)[:, None] * stride - pads[0] + np.arange(taps) * dilation
    return np.asarray(((places >= -counted[0]) & (places < size + counted[1])).sum(axis=1))
