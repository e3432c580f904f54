"""The highway gate: how much of a layer's output goes on, and how much of its input."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, final

from rot180.arrays import Array, Shape, text
from rot180.chance import Training
from rot180.errors import ShapeError
from rot180.layers.layer import Cost, Layer, Parameters


class Saved(NamedTuple):
    h: Array  # all three of one shape
    t: Array
    x: Array


@final
@dataclass(frozen=True)
class HighwayGate(Layer):
    """y = H ⊙ T + x ⊙ (1 - T)                                                                              (B8)

    H, the transform, T, the gate (0..1 behind a sigmoid), and x, what is carried, all of one shape -> y of that shape;
    no parameters; the same in training and inference.
    Backward: dH = dy ⊙ T, dT = dy ⊙ (H - x), dx = dy ⊙ (1 - T). A gate whose bias starts at -2 is nearly shut: the
    network begins as a copy of its input, and its gradient reaches the bottom of a hundred layers.
    Raises ShapeError where shapes differ. Srivastava, Greff and Schmidhuber 2015, with C = 1 - T.
    """

    several_inputs = True

    def output_shape(self, shape: Sequence[Shape]) -> Shape:
        if len(shape) != 3 or len(set(shape)) != 1:
            raise ShapeError(
                "a highway gate takes the transform, the gate and the input, all of one shape, "
                f"not {' and '.join(text(each) for each in shape)}"
            )
        return shape[0]

    def cost(self, shape: Sequence[Shape]) -> Cost:
        values = prod(shape[0])
        return Cost(connections=3 * values, multiply_adds=2 * values)

    def forward(
        self, x: Sequence[Array], parameters: Parameters, training: Training | None = None
    ) -> tuple[Array, Saved]:
        h, t, carried = x
        return h * t + carried * (1 - t), Saved(h, t, carried)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> tuple[Array, Array, Array]:
        h, t, x = saved
        return dy * t, dy * (h - x), dy * (1 - t)
