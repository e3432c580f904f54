"""Two values joined entry by entry: the gates and the attention of maps of newer networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape, text
from rot180.chance import Training
from rot180.errors import SettingError, ShapeError
from rot180.layers.layer import Cost, Layer, Parameters

OPERATIONS = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}


class Saved(NamedTuple):
    a: Array
    b: Array


@final
@dataclass(frozen=True)
class Arithmetic(Layer):
    """y = a + b, a - b, a ⊙ b or a / b, as `operation` says: "add", "subtract", "multiply", "divide"

    a (N, *S), b (N, *T) -> y: S and T have as many axes, and where one has size 1 it is repeated: maps times one number
    each are (C,H,W) and (C,1,1). No parameters; the same in training and inference. Backward, each summed over the axes
    along which it was repeated: da = dy and db = ±dy; da = b ⊙ dy and db = a ⊙ dy; da = dy/b and db = -a ⊙ dy/b².
    Raises ShapeError where the shapes do not fit. Hu, Shen and Sun 2018 multiply so (squeeze and excitation).
    For sums of one shape, as residual networks have them, use Add.
    """

    operation: str

    several_inputs = True

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            raise SettingError(f"operation is {self.operation!r}: choose one of {', '.join(OPERATIONS)}")

    def output_shape(self, shape: Sequence[Shape]) -> Shape:
        a, b = shape if len(shape) == 2 else ((), ())
        if len(a) != len(b) or not a or any(1 not in (s, t) and s != t for s, t in zip(a, b, strict=True)):
            raise ShapeError(
                f"cannot {self.operation} {' and '.join(text(each) for each in shape)}: give two inputs whose axes "
                "have the same size, or 1"
            )
        return np.broadcast_shapes(a, b)

    def cost(self, shape: Sequence[Shape]) -> Cost:
        values = prod(self.output_shape(shape))
        multiplies = self.operation in ("multiply", "divide")
        return Cost(connections=2 * values, multiply_adds=values if multiplies else 0)

    def forward(
        self, x: Sequence[Array], parameters: Parameters, training: Training | None = None
    ) -> tuple[Array, Saved]:
        a, b = x
        return np.asarray(OPERATIONS[self.operation](a, b)), Saved(a, b)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> tuple[Array, Array]:
        a, b = saved
        match self.operation:
            case "add":
                da, db = dy, dy
            case "subtract":
                da, db = dy, -dy
            case "multiply":
                da, db = dy * b, dy * a
            case _:
                da, db = dy / b, -dy * a / (b * b)
        return _gathered(da, a.shape), _gathered(db, b.shape)


def _gathered(gradient: Array, shape: Shape) -> Array:
    """Summed where an input of this shape was repeated."""
    axes = tuple(axis for axis, size in enumerate(shape) if size < gradient.shape[axis])
    return gradient.sum(axis=axes, keepdims=True) if axes else gradient
