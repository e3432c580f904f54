"""What all pooling layers share: a window, a stride, and the taps of the window as views."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from rot180.arrays import Array, Pair, Shape, one_or_pair, pair
from rot180.convolve import Padding, Pads, Remainder, output_size, resolve_padding, rounds_down
from rot180.layers.layer import Cost, Layer, Window, maps


@dataclass(frozen=True)
class Pooling(Layer):
    """One number from each window of each map: (N,C,H,W) -> (N,C,OH,OW).

    stride None: the size, windows side by side; smaller: they overlap. dilation: the inputs of a window are so far
    apart. Raises ShapeError where a window does not fit, or the stride leaves a remainder (unless remainder="floor").
    """

    size: int | Pair
    stride: int | Pair | None = None
    padding: Padding = 0
    remainder: Remainder = "error"
    dilation: int | Pair = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", one_or_pair(self.size, "the window's size"))
        if self.stride is not None:
            object.__setattr__(self, "stride", one_or_pair(self.stride, "stride"))
        object.__setattr__(self, "dilation", one_or_pair(self.dilation, "dilation"))

    @property
    def area(self) -> int:
        """KH·KW, the inputs of a window."""
        return prod(pair(self.size, "size"))

    def window(self, shape: Shape) -> Window:
        (kh, kw), (dh, dw) = pair(self.size, "size"), pair(self.dilation, "dilation")
        return Window((dh * (kh - 1) + 1, dw * (kw - 1) + 1), pair(self.stride or self.size, "stride"))

    def taps(self, padded: Array) -> Iterator[Array]:
        """What the windows see at each of their places."""
        return taps(padded, self.window(padded.shape[1:]), pair(self.dilation, "dilation"))

    def pads(self, shape: Shape) -> Pads:
        """((top, bottom), (left, right)) for maps of this shape."""
        window = self.window(shape)
        return resolve_padding(self.padding, (shape[1], shape[2]), window.size, window.stride, (1, 1))

    def output_shape(self, shape: Shape) -> Shape:
        channels, height, width = maps(shape, "pooling")
        window, pads, rule = self.window(shape), self.pads(shape), rounds_down(self.padding, self.remainder)
        return (
            channels,
            output_size(height, window.size[0], window.stride[0], pads[0], remainder=rule),
            output_size(width, window.size[1], window.stride[1], pads[1], remainder=rule),
        )

    def cost(self, shape: Shape) -> Cost:
        return Cost(connections=prod(self.output_shape(shape)) * self.area)


def taps(padded: Array, window: Window, dilation: Pair = (1, 1)) -> Iterator[Array]:
    """For each place u, v in the window, in rows: the inputs that lie there, a view x[n, c, i·S+u·D, j·S+v·D]."""
    (kh, kw), (sh, sw) = window  # as far as it reaches, with its gaps
    oh, ow = (padded.shape[-2] - kh) // sh + 1, (padded.shape[-1] - kw) // sw + 1
    for u in range(0, kh, dilation[0]):
        for v in range(0, kw, dilation[1]):
            yield padded[..., u : u + (oh - 1) * sh + 1 : sh, v : v + (ow - 1) * sw + 1 : sw]


def unpad(padded: Array, pads: Pads) -> Array:
    """The maps without what `pad` put around them."""
    (top, bottom), (left, right) = pads
    return padded[..., top : padded.shape[-2] - bottom, left : padded.shape[-1] - right]
