"""What a layer is: three passes, two shapes and a cost, and no memory of its own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from math import prod
from typing import Any, ClassVar, NamedTuple, TypeAlias

from rot180.arrays import Array, Pair, Shape, text
from rot180.chance import Training
from rot180.errors import ShapeError

Parameters: TypeAlias = Mapping[str, Array]


class Cost(NamedTuple):
    """What one image costs: connections as LeCun et al. 1998 count them (biases too), and multiply-adds."""

    connections: int = 0
    multiply_adds: int = 0


class Window(NamedTuple):
    """What one output sees of the layer's input map: a window of `size`, moved by `stride`."""

    size: Pair = (1, 1)
    stride: Pair = (1, 1)


class Fan(NamedTuple):
    """How many connections enter a unit and leave it: numbers, or arrays that broadcast to the weights."""

    inputs: int | Array
    outputs: int | Array


@dataclass(frozen=True)
class Layer(ABC):
    """One operation: forward, parameter gradients, input gradient.

    A layer holds its settings only. Parameters and everything saved for the backward pass travel as arguments,
    and no pass writes to an argument. Arrays are (N, *shape): NCHW maps, or (N, D).

        y, saved  = layer.forward(x, parameters, training)
        gradients = layer.parameter_gradients(dy, saved)        # first: batch normalization's dx uses dβ and dγ
        dx        = layer.input_gradient(dy, saved, gradients)

    `training` is None in inference; in training it is the address that chance is drawn from.
    A layer with `several_inputs` takes x, and shapes, as a sequence, and returns as many input gradients.
    """

    several_inputs: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    """Linear in x (a bias apart), and so proved by the adjoint test <Au, v> = <u, Aᵀv>."""

    def settings(self) -> dict[str, Any]:
        """The settings that differ from their defaults, or have none."""
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.default is MISSING or getattr(self, each.name) != each.default
        }

    def __str__(self) -> str:
        settings = (f"{name}={_short(value)}" for name, value in self.settings().items())
        return f"{type(self).__name__}({', '.join(settings)})"

    @abstractmethod
    def output_shape(self, shape: Any) -> Shape:
        """The shape of one image's output; raises ShapeError where the input does not fit."""

    def parameter_shapes(self, shape: Any) -> dict[str, Shape]:
        """The learned arrays by name, for an input of this shape."""
        return {}

    @property
    def initial_values(self) -> Mapping[str, float]:
        """Parameters that start at a constant; all others are drawn by the network's initialiser."""
        return {"b": 0.0}

    def fan(self, w: Shape) -> Fan:
        """The connections of one unit, for the initialiser of weights of this shape: (outputs, inputs, ...)."""
        return Fan(prod(w[1:]), w[0] * prod(w[2:]))

    def statistic_shapes(self, shape: Any) -> dict[str, Shape]:
        """Arrays that training measures rather than learns (running means), handed in with the parameters."""
        return {}

    def cost(self, shape: Any) -> Cost:
        """Connections and multiply-adds of one image."""
        return Cost()

    def window(self, shape: Any) -> Window:
        """What one output sees, for the receptive field."""
        return Window()

    @abstractmethod
    def forward(self, x: Any, parameters: Parameters, training: Training | None = None) -> tuple[Array, Any]:
        """y, and what the backward pass needs: a NamedTuple."""

    def parameter_gradients(self, dy: Array, saved: Any) -> dict[str, Array]:
        """∂L/∂parameter by name, given dy = ∂L/∂y."""
        return {}

    @abstractmethod
    def input_gradient(self, dy: Array, saved: Any, gradients: Parameters) -> Any:
        """∂L/∂x; for several inputs a tuple, None where an input has no gradient (labels)."""

    def new_statistics(self, saved: Any) -> dict[str, Array]:
        """The statistics after a training step, by name."""
        return {}


def _short(value: Any) -> Any:
    """Numbers, and those in tuples, to six digits."""
    if isinstance(value, tuple):
        return tuple(map(_short, value))
    return float(f"{value:.6g}") if isinstance(value, float) else value


class Loss(Layer):
    """The last node: from scores (N, K), of each head, and labels (N,) to one number, the mean over the images.

    Its backward pass starts the chain: dy is 1.
    """

    several_inputs: ClassVar[bool] = True

    @property
    def heads(self) -> int:
        """How many vectors of scores it takes; the first is the network's output."""
        return 1

    @property
    def of_output(self) -> "Loss":
        """The loss that the network's output has by itself."""
        return self

    def output_shape(self, shape: Sequence[Shape]) -> Shape:
        *scores, label = shape or ((),)
        if not scores or label != () or any(len(each) != 1 for each in scores) or len(set(scores)) > 1:
            raise ShapeError(
                f"a loss takes one score per class and one label, not {' and '.join(text(each) for each in shape)}: "
                "end the network with a dense or global pooling layer"
            )
        if len(scores) != self.heads:
            raise ShapeError(
                f"the scores of {len(scores)} heads reach a loss of {self.heads}: "
                "give SoftmaxCrossEntropy a weight for each, the network's output first"
            )
        return ()

    @abstractmethod
    def probabilities(self, scores: Array) -> Array:
        """(N, K) -> (N, K): how sure the network is of each class, as this loss reads its scores."""


def maps(shape: Shape, layer: str) -> tuple[int, int, int]:
    """The shape as (C, H, W); ShapeError where it is something else."""
    if len(shape) != 3:
        raise ShapeError(f"{layer} takes maps (channels, height, width), not {text(shape)}")
    return shape[0], shape[1], shape[2]


def columns(x: Array) -> tuple[int, ...]:
    """The axes over which a per-channel value is shared: all but axis 1."""
    return (0, *range(2, x.ndim))


def per_channel(values: Array, like: Array) -> Array:
    """(C,) shaped to broadcast over (N, C, ...)."""
    return values.reshape(1, -1, *(1,) * (like.ndim - 2))
