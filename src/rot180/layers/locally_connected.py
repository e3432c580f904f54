"""Locally connected: windows as in a convolution, but each place has weights of its own."""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Pair, Shape, flag, one_or_pair, pair, text, whole
from rot180.chance import Training
from rot180.convolve import Padding, Pads, Remainder, pad
from rot180.errors import ShapeError
from rot180.layers.convolution import Convolution
from rot180.layers.layer import Cost, Fan, Layer, Parameters, Window
from rot180.layers.pooling import taps, unpad


class Saved(NamedTuple):
    x: Array  # (N,C,H,W)
    w: Array  # (OH,OW,F,C,KH,KW)
    pads: Pads


@final
@dataclass(frozen=True)
class LocallyConnected(Layer):
    """y[n,f,i,j] = b[f,i,j] + Σ_cuv w[i,j,f,c,u,v] · x[n, c, i·S+u-P, j·S+v-P]                              (B2)

    x (N,C,H,W), w (OH,OW,F,C,KH,KW), b (F,OH,OW) -> y (N,F,OH,OW). The same in training and inference.
    It has the connections of a convolution and none of its sharing: OH·OW times the weights. A million units that each
    see 10x10 pixels need 10^8 weights, where a dense layer on 1000x1000 pixels needs 10^12 and a convolution 10^2
    (seed 002). Right where each place means something else, as in an aligned face. Raises ShapeError as a convolution
    does. LeCun 1989; Taigman et al. 2014.
    """

    filters: int
    size: int | Pair
    stride: int | Pair = 1
    padding: Padding = 0
    bias: bool = True
    remainder: Remainder = "error"

    linear = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", one_or_pair(self.size, "the window's size"))
        object.__setattr__(self, "stride", one_or_pair(self.stride, "stride"))
        whole(self.filters, "filters")
        flag(self.bias, "bias")

    @property
    def shared(self) -> Convolution:
        """The convolution of the same windows."""
        return Convolution(self.filters, self.size, self.stride, self.padding, remainder=self.remainder)

    def pads(self, shape: Shape) -> Pads:
        """((top, bottom), (left, right)) for maps of this shape."""
        return self.shared.pads(shape)

    def output_shape(self, shape: Shape) -> Shape:
        return self.shared.output_shape(shape)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        outputs = self.output_shape(shape)
        w: dict[str, Shape] = {"w": (*outputs[1:], self.filters, shape[0], *pair(self.size, "size"))}
        return {**w, "b": outputs} if self.bias else w

    def fan(self, w: Shape) -> Fan:
        _, _, filters, channels, kh, kw = w
        return Fan(channels * kh * kw, filters * kh * kw)

    def cost(self, shape: Shape) -> Cost:
        outputs, inputs = prod(self.output_shape(shape)), shape[0] * prod(pair(self.size, "size"))
        return Cost(connections=outputs * (inputs + self.bias), multiply_adds=outputs * inputs)

    def window(self, shape: Shape) -> Window:
        return self.shared.window(shape)

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        w, pads = parameters["w"], self.pads(x.shape[1:])
        if self.parameter_shapes(x.shape[1:])["w"] != w.shape:
            raise ShapeError(f"weights of {text(w.shape)} do not fit maps of {text(x.shape[1:])}")
        # for each tap (N,C,OH,OW) with (OH,OW,F,C) -> (N,F,OH,OW)
        y = sum(_products(here, each) for here, each in zip(self._taps(x, pads), _by_tap(w), strict=True))
        return np.asarray(y + parameters["b"] if self.bias else y), Saved(x, w, pads)

    def parameter_gradients(self, dy: Array, saved: Saved) -> dict[str, Array]:
        """Dw[i,j,f,c,u,v] = Σ_n dy[n,f,i,j] x[n, c, i·S+u-P, j·S+v-P]; db[f,i,j] = Σ_n dy[n,f,i,j]."""
        delta = dy.transpose(2, 3, 1, 0)  # (OH,OW,F,N)
        dw = [delta @ here.transpose(2, 3, 0, 1) for here in self._taps(saved.x, saved.pads)]  # with (OH,OW,N,C)
        w = {"w": np.stack(dw, axis=-1).reshape(saved.w.shape)}
        return {**w, "b": dy.sum(axis=0)} if self.bias else w

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        """Each tap's products go back to where the tap read."""
        dx = pad(np.zeros(saved.x.shape, dy.dtype), saved.pads)
        for here, w in zip(taps(dx, self.window(saved.x.shape[1:])), _by_tap(saved.w), strict=True):
            here += _products(dy, w.swapaxes(2, 3))  # (N,F,OH,OW) with (OH,OW,C,F) -> (N,C,OH,OW)
        return unpad(dx, saved.pads)

    def _taps(self, x: Array, pads: Pads) -> list[Array]:
        """What the windows see at each of their places: (N,C,OH,OW) for each u, v."""
        return list(taps(pad(x, pads), self.window(x.shape[1:])))


def _by_tap(w: Array) -> list[Array]:
    """(OH,OW,F,C,KH,KW) -> (OH,OW,F,C) for each u, v."""
    return [w[..., u, v] for u in range(w.shape[-2]) for v in range(w.shape[-1])]


def _products(x: Array, w: Array) -> Array:
    """Pixel by pixel: (N,C,OH,OW) with (OH,OW,F,C) -> (N,F,OH,OW)."""
    return np.asarray((w @ x.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1))
