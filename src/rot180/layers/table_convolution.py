"""Convolution with a table of connections: each filter sees the maps that its row of the table names."""

from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias, final

import numpy as np

from rot180.arrays import Array, Pair, Shape, flag, one_or_pair, pair, text
from rot180.chance import Training
from rot180.convolve import Padding, Pads, Remainder
from rot180.errors import SettingError, ShapeError
from rot180.layers.convolution import Convolution, Saved
from rot180.layers.layer import Cost, Fan, Layer, Parameters, Window

Table: TypeAlias = tuple[tuple[int, ...], ...]

LENET_TABLE: Table = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""LeNet-5's layer C3, table I of LeCun et al. 1998: three neighbours, four neighbours, two and two, all."""


@final
@dataclass(frozen=True)
class TableConvolution(Layer):
    """y[n,f,i,j] = b[f] + Σ_l∈f Σ_uv w[l,u,v] · x[n, c_l, i·S+u-P, j·S+v-P]                              (B1, C2)

    table[f] names the maps that filter f sees; each such pair is a link l, counted filter by filter.
    x (N,C,H,W), w (L,KH,KW), b (F,) -> y (N,F,OH,OW). The same in training and inference. It is a convolution whose
    kernel is zero wherever there is no link, and so are its passes; the gradient is read off at the links.
    Different filters are forced to find different things, since they see different inputs. Raises SettingError for a
    row that is empty or names a map twice, ShapeError for a map that is not there. LeCun et al. 1998, table I.
    """

    table: Table
    size: int | Pair
    stride: int | Pair = 1
    padding: Padding = 0
    bias: bool = True
    remainder: Remainder = "error"

    linear = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", one_or_pair(self.size, "the kernel's size"))
        object.__setattr__(self, "stride", one_or_pair(self.stride, "stride"))
        flag(self.bias, "bias")
        if not (isinstance(self.table, tuple) and self.table and all(map(_is_row, self.table))):
            raise SettingError("a table of connections has a tuple for each filter: the maps it sees, each named once")

    @property
    def links(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The filters and the maps that links join, in the order of w."""
        filters = tuple(f for f, row in enumerate(self.table) for _ in row)
        return filters, tuple(chain.from_iterable(self.table))

    @property
    def whole(self) -> Convolution:
        """The convolution that it is, the kernel filled up with zeros."""
        filters = len(self.table)
        return Convolution(filters, self.size, self.stride, self.padding, bias=self.bias, remainder=self.remainder)

    def kernel(self, w: Array, channels: int) -> Array:
        """(L,KH,KW) -> (F,C,KH,KW), zero where there is no link."""
        kernel = np.zeros((len(self.table), channels, *w.shape[1:]), w.dtype)
        kernel[self.links] = w
        return kernel

    def pads(self, shape: Shape) -> Pads:
        """((top, bottom), (left, right)) for maps of this shape."""
        return self.whole.pads(shape)

    def output_shape(self, shape: Shape) -> Shape:
        output = self.whole.output_shape(shape)
        if max(self.links[1]) >= shape[0]:
            raise ShapeError(f"the table names map {max(self.links[1])}, but there are only maps 0 to {shape[0] - 1}")
        return output

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        w: dict[str, Shape] = {"w": (len(self.links[0]), *pair(self.size, "size"))}
        return {**w, "b": (len(self.table),)} if self.bias else w

    def fan(self, w: Shape) -> Fan:
        """A number for each link: its filter sees so many maps, and so many filters see its map."""
        taps = w[1] * w[2]
        inputs, outputs = (np.bincount(ends)[list(ends)] * taps for ends in self.links)
        return Fan(inputs[:, None, None], outputs[:, None, None])

    def cost(self, shape: Shape) -> Cost:
        _, height, width = self.output_shape(shape)
        taps = len(self.links[0]) * int(np.prod(pair(self.size, "size")))
        biases = len(self.table) if self.bias else 0
        return Cost(connections=height * width * (taps + biases), multiply_adds=height * width * taps)

    def window(self, shape: Shape) -> Window:
        return self.whole.window(shape)

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        w = parameters["w"]
        if len(w) != len(self.links[0]):
            raise ShapeError(f"weights of {text(w.shape)} do not fit a table of {len(self.links[0])} links")
        return self.whole.forward(x, {**parameters, "w": self.kernel(w, x.shape[1])}, training)

    def parameter_gradients(self, dy: Array, saved: Saved) -> dict[str, Array]:
        gradients = self.whole.parameter_gradients(dy, saved)
        return {**gradients, "w": gradients["w"][self.links]}

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return self.whole.input_gradient(dy, saved, gradients)


def _is_row(row: object) -> bool:
    """Is it a tuple of different maps?"""
    if not (isinstance(row, tuple) and row and len(set(row)) == len(row)):
        return False
    return all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in row)
