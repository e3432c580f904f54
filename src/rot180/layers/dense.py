"""Fully connected: every output sees every input. BP-1 to BP-4 of the seeds."""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple, final

from rot180.arrays import Array, Pair, Shape, flag, number, text, whole
from rot180.chance import Training
from rot180.errors import ShapeError
from rot180.layers.layer import Cost, Layer, Parameters, Window


class Saved(NamedTuple):
    x: Array  # (N,...), as it came
    w: Array  # (F,D)


@final
@dataclass(frozen=True)
class Dense(Layer):
    """y[n,f] = b[f] + Σ_d w[f,d] x[n,d]                                                                   (B4)

    x (N,D), or maps (N,C,H,W) read in the order c, i, j; w (F,D), b (F,) -> y (N,F). The same in training and
    inference. Backward: dx = dy w (BP-2 without σ', which is a layer of its own), dw = dyᵀ x (BP-3),
    db = Σ_n dy (BP-4). Raises ShapeError where w was made for another D.
    A dense layer on maps is a convolution whose kernel is as large as the map.
    """

    outputs: int
    bias: bool = True
    bias_start: float = 0.0

    linear = True

    def __post_init__(self) -> None:
        whole(self.outputs, "outputs")
        flag(self.bias, "bias")
        number(self.bias_start, "bias_start")

    @property
    def initial_values(self) -> dict[str, float]:
        return {"b": self.bias_start}

    def output_shape(self, shape: Shape) -> Shape:
        return (self.outputs,)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        w: dict[str, Shape] = {"w": (self.outputs, prod(shape))}
        return {**w, "b": (self.outputs,)} if self.bias else w

    def cost(self, shape: Shape) -> Cost:
        inputs = prod(shape)
        return Cost(connections=self.outputs * (inputs + self.bias), multiply_adds=self.outputs * inputs)

    def window(self, shape: Shape) -> Window:
        whole: Pair = (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
        return Window(whole)

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        w = parameters["w"]
        if prod(x.shape[1:]) != w.shape[1]:
            raise ShapeError(f"weights for {w.shape[1]} inputs do not fit an input of {text(x.shape[1:])}")
        y = x.reshape(len(x), -1) @ w.T  # (N,D) @ (D,F) -> (N,F)
        return (y + parameters["b"] if self.bias else y), Saved(x, w)

    def parameter_gradients(self, dy: Array, saved: Saved) -> dict[str, Array]:
        dw = dy.T @ saved.x.reshape(len(saved.x), -1)  # (F,N) @ (N,D) -> (F,D)
        return {"w": dw, "b": dy.sum(axis=0)} if self.bias else {"w": dw}

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return (dy @ saved.w).reshape(saved.x.shape)  # (N,F) @ (F,D) -> (N,D)
