"""Convolution (as networks have it: cross-correlation), and why its backward pass turns the kernel by 180°.

Take one channel, stride 1, and ask what the single input x[s] does. It meets the kernel's last tap in the first
output that sees it, then the tap before, ... and the first tap in the last output:

    y[i] = Σ_u w[u] x[i+u]    =>    dx[s] = Σ_i dy[i] ∂y[i]/∂x[s] = Σ_u w[u] dy[s-u]        (u = s - i)

The minus sign is the flip: dy is convolved with w where the forward pass correlated. Written with the one forward
primitive, it is a correlation of dy, with K-1 zeros around it so that the border inputs find all their outputs,
with rot180(w) (CNN-2). With channels, the roles of input and output maps are swapped as well. A stride S skipped
outputs: they are put back as zeros between the entries of dy (the expanded sensitivity map). Two traps:

  - The size rule rounds down: rows that no window reached have gradient 0, but they exist. dy gets that many more
    zeros at the end, or dx comes out too small.
  - Padding P larger than K-1: the outputs at the rim saw nothing but zeros. K-1-P is then negative, and dy is cut.

The weight gradient is the correlation of x with dy (CNN-3): dw[u] = Σ_i dy[i] x[i·S + u·D]. In it stride and dilation
have changed places: neighbours in dy are S pixels apart, neighbours in dw D pixels. The sum over images is a sum over
channels once images are read as channels.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Pair, Shape, flag, number, one_or_pair, pair, text, whole
from rot180.chance import Training
from rot180.convolve import (
    Padding,
    Pads,
    Remainder,
    correlate_maps,
    expand,
    output_size,
    resolve_padding,
    rot180,
    rounds_down,
)
from rot180.errors import SettingError, ShapeError
from rot180.layers.layer import Cost, Layer, Parameters, Window, maps


class Saved(NamedTuple):
    x: Array  # (N,C,H,W)
    w: Array  # (F,C/G,KH,KW)
    pads: Pads


@final
@dataclass(frozen=True)
class Convolution(Layer):
    """y[n,f,i,j] = b[f] + Σ_cuv w[f,c,u,v] · x[n, c, i·S + u·D - P, j·S + v·D - P]                      (B1)

    x (N,C,H,W), w (F,C/G,KH,KW), b (F,) -> y (N,F,OH,OW), OH = (H + 2P - D(KH-1) - 1)/S + 1. With G groups, filter f
    sees only the C/G channels of its own group. The same in training and inference.
    Raises ShapeError where the kernel does not fit, the stride leaves a remainder (unless remainder="floor"), or
    the groups do not divide the channels. LeCun et al. 1989; CNN-2..CNN-4 of the seeds.
    """

    filters: int
    size: int | Pair
    stride: int | Pair = 1
    padding: Padding = 0
    dilation: int | Pair = 1
    groups: int = 1
    bias: bool = True
    remainder: Remainder = "error"
    bias_start: float = 0.0

    linear = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", one_or_pair(self.size, "the kernel's size"))
        object.__setattr__(self, "stride", one_or_pair(self.stride, "stride"))
        object.__setattr__(self, "dilation", one_or_pair(self.dilation, "dilation"))
        flag(self.bias, "bias")
        number(self.bias_start, "bias_start")
        if whole(self.filters, "filters") % whole(self.groups, "groups"):
            raise SettingError(f"{self.filters} filters cannot be shared out among {self.groups} groups")

    @property
    def initial_values(self) -> dict[str, float]:
        return {"b": self.bias_start}

    @property
    def _kernel(self) -> Pair:
        return pair(self.size, "size")

    @property
    def _stride(self) -> Pair:
        return pair(self.stride, "stride")

    @property
    def _dilation(self) -> Pair:
        return pair(self.dilation, "dilation")

    def pads(self, shape: Shape) -> Pads:
        """((top, bottom), (left, right)) for maps of this shape."""
        return resolve_padding(self.padding, (shape[1], shape[2]), self._kernel, self._stride, self._dilation)

    def output_shape(self, shape: Shape) -> Shape:
        channels, height, width = maps(shape, "a convolution")
        if channels % self.groups:
            raise ShapeError(f"{channels} channels cannot be shared out among {self.groups} groups")
        pads, rule = self.pads(shape), rounds_down(self.padding, self.remainder)
        return (
            self.filters,
            output_size(height, self._kernel[0], self._stride[0], pads[0], self._dilation[0], rule),
            output_size(width, self._kernel[1], self._stride[1], pads[1], self._dilation[1], rule),
        )

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        w: dict[str, Shape] = {"w": (self.filters, shape[0] // self.groups, *self._kernel)}
        return {**w, "b": (self.filters,)} if self.bias else w

    def cost(self, shape: Shape) -> Cost:
        taps = shape[0] // self.groups * self._kernel[0] * self._kernel[1]
        outputs = int(np.prod(self.output_shape(shape)))
        return Cost(connections=outputs * (taps + self.bias), multiply_adds=outputs * taps)

    def window(self, shape: Shape) -> Window:
        (kh, kw), (dh, dw) = self._kernel, self._dilation
        return Window((dh * (kh - 1) + 1, dw * (kw - 1) + 1), self._stride)

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        w, groups, pads = parameters["w"], self.groups, self.pads(x.shape[1:])
        if x.shape[1] != w.shape[1] * groups:
            raise ShapeError(f"a kernel of {text(w.shape)} in {groups} groups does not fit {x.shape[1]} channels")
        # (N,G,C/G,H,W) with (G,F/G,C/G,KH,KW) -> (N,G,F/G,OH,OW)
        y = correlate_maps(_grouped(x, groups), _split(w, groups), self._stride, pads, self._dilation)
        y = y.reshape(len(x), self.filters, *y.shape[-2:])
        if self.bias:
            y += parameters["b"][:, None, None]
        return y, Saved(x, w, pads)

    def parameter_gradients(self, dy: Array, saved: Saved) -> dict[str, Array]:
        """Dw = x ⊗ dy with stride and dilation exchanged (CNN-3); db[f] = Σ_nij dy[n,f,i,j] (CNN-4)."""
        x, delta = _grouped(saved.x, self.groups), _grouped(dy, self.groups)
        x = x.transpose(1, 2, 0, 3, 4)  # (G,C/G,N,H,W): images as channels
        delta = delta.transpose(1, 2, 0, 3, 4)[:, None]  # (G,1,F/G,N,OH,OW): dy as the kernel
        dw = correlate_maps(x, delta, self._dilation, saved.pads, self._stride)  # (G,C/G,F/G,>=KH,>=KW)
        dw = dw[..., : self._kernel[0], : self._kernel[1]]  # rows the size rule left over make it too large
        dw = dw.swapaxes(1, 2).reshape(saved.w.shape)
        return {"w": dw, "b": dy.sum(axis=(0, 2, 3))} if self.bias else {"w": dw}

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        """Dx = expanded, padded dy ⊗ rot180(w), input and output maps exchanged (CNN-2)."""
        delta = expand(_grouped(dy, self.groups), self._stride)  # (N,G,F/G,OH',OW')
        turned = rot180(_split(saved.w, self.groups)).swapaxes(1, 2)  # (G,C/G,F/G,KH,KW)
        window = self.window(saved.x.shape[1:])
        pads = tuple(  # what the forward pass did not pad, and at the end the rows that no window reached
            (extent - 1 - before, size + before - reached)
            for extent, size, reached, (before, _) in zip(
                window.size, saved.x.shape[2:], delta.shape[-2:], saved.pads, strict=True
            )
        )
        dx = correlate_maps(delta, turned, (1, 1), pads, self._dilation)  # type: ignore[arg-type]
        return dx.reshape(saved.x.shape)


def _grouped(x: Array, groups: int) -> Array:
    """(N,C,H,W) -> (N,G,C/G,H,W)."""
    return x.reshape(len(x), groups, -1, *x.shape[2:])


def _split(w: Array, groups: int) -> Array:
    """(F,C/G,KH,KW) -> (G,F/G,C/G,KH,KW)."""
    return w.reshape(groups, -1, *w.shape[1:])
