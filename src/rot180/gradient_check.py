"""Are the hand-written gradients right? Two proofs, for every layer and for any network. (B9)

The adjoint test, for layers that are linear:      <A u, v> = <u, Aᵀ v>         exact but for rounding
The directional check, for all, in float64:        (φ(θ + εd) - φ(θ - εd)) / 2ε = <∂φ/∂θ, d>

with random u, v, d. Inputs are well separated, so that a step of ε changes no winner of a max pooling and no sign
before a ReLU. Inside a network such a kink can still be near: the check tries several ε until one proves the
gradient, since a wrong one is wrong for all of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rot180.arrays import Array, Shape
from rot180.chance import Training, Use, key, normal, permutation
from rot180.engines.reference import ReferenceEngine
from rot180.errors import SettingError
from rot180.graph import Graph
from rot180.layers import (
    ELU,
    Add,
    Affine,
    Arithmetic,
    AveragePooling,
    BatchNormalization,
    ChannelShuffle,
    Clip,
    Concatenate,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    HardSigmoid,
    HardSwish,
    HighwayGate,
    Identity,
    Layer,
    LeakyReLU,
    LocallyConnected,
    LocalResponseNormalization,
    LogSoftmax,
    Loss,
    MaxPooling,
    Pad,
    ParametricReLU,
    RadialBasisLoss,
    RadialBasisOutput,
    ReLU,
    Reshape,
    ScaledTanh,
    ScalePixels,
    Sigmoid,
    Softmax,
    SoftmaxCrossEntropy,
    Softplus,
    SquaredError,
    TableConvolution,
    Tanh,
    TrainableSubsampling,
    Transpose,
)
from rot180.network import Network

DIRECTIONAL_TOLERANCE = 1e-6
ADJOINT_TOLERANCE = 1e-12
STEPS = 1e-5, 1e-6, 1e-7, 1e-4
IMAGES = 3
BIAS_SPREAD = 0.05

EXAMPLES: tuple[tuple[Layer, Shape | tuple[Shape, ...]], ...] = (
    (Convolution(4, (3, 2)), (3, 7, 6)),
    (Convolution(4, 3, stride=2, padding=1, remainder="floor"), (2, 8, 6)),
    (Convolution(2, (2, 3), stride=(3, 2), padding=((4, 3), (5, 2)), remainder="floor"), (2, 5, 9)),
    (Convolution(6, 3, padding=2, dilation=2, groups=2, remainder="floor"), (4, 7, 9)),
    (Convolution(4, 5, stride=2, padding="same", groups=4, bias=False), (4, 9, 6)),
    (TableConvolution(((0, 2), (1,), (2, 1, 0), (0, 3)), (3, 2), padding=1), (4, 6, 5)),
    (TableConvolution(((1,), (2, 0)), 3, stride=(2, 3), bias=False, remainder="floor"), (3, 8, 7)),
    (LocallyConnected(3, (3, 2)), (2, 5, 4)),
    (LocallyConnected(2, 3, stride=2, padding=2, bias=False, remainder="floor"), (3, 6, 5)),
    (Dense(5), (2, 3, 4)),
    (Dense(4, bias=False), (7,)),
    (MaxPooling(2), (3, 4, 6)),
    (MaxPooling((3, 2), stride=(2, 1), padding=1, remainder="floor"), (2, 6, 7)),
    (AveragePooling(2), (3, 4, 6)),
    (AveragePooling((3, 2), stride=(2, 1), padding=1, remainder="floor"), (2, 6, 7)),
    (AveragePooling((3, 2), stride=(2, 1), padding=((1, 2), (1, 1)), remainder="floor", counted=0), (2, 5, 7)),
    (AveragePooling(3, stride=2, padding=((1, 2), (1, 1)), counted=1, remainder="floor"), (2, 6, 7)),
    (AveragePooling((2, 3), stride=1, dilation=(3, 2), padding=(1, 2), counted=(0, 1)), (2, 6, 7)),
    (MaxPooling((2, 3), stride=(2, 1), padding=(1, 2), dilation=(3, 2), remainder="floor"), (2, 6, 7)),
    (TrainableSubsampling(2), (3, 4, 6)),
    (TrainableSubsampling((3, 2), stride=(2, 1), padding=1, remainder="floor"), (2, 6, 7)),
    (GlobalAveragePooling(), (3, 4, 5)),
    (Identity(), (2, 3, 4)),
    (ReLU(), (2, 3, 4)),
    (LeakyReLU(), (2, 3, 4)),
    (Sigmoid(), (2, 3, 4)),
    (Tanh(), (2, 3, 4)),
    (ScaledTanh(), (2, 3, 4)),
    (ELU(), (2, 3, 4)),
    (ELU(0.7, 1.3), (5,)),
    (Softplus(), (2, 3, 4)),
    (Clip(-0.4, 0.5), (2, 3, 4)),
    (Clip(high=0.35), (5,)),
    (HardSigmoid(0.9, 0.4), (2, 3, 4)),
    (HardSwish(), (2, 3, 4)),
    (ParametricReLU((2, 1, 1)), (2, 3, 4)),
    (ParametricReLU((1, 3, 4)), (2, 3, 4)),
    (ParametricReLU((5,)), (5,)),
    (Affine((2, 1, 1)), (2, 3, 4)),
    (Affine((1, 3, 4), shift=False), (2, 3, 4)),
    (Affine((5,), scale=False), (5,)),
    (Softmax(), (5,)),
    (Softmax(), (3, 2, 4)),
    (LogSoftmax(), (5,)),
    (LogSoftmax(), (3, 2, 4)),
    (ScalePixels(-0.1, 1.175), (2, 3, 4)),
    (ScalePixels((-0.1, -2), (1.175, 1)), (2, 3, 4)),
    (BatchNormalization(), (3, 4, 5)),
    (BatchNormalization(), (6,)),
    (LocalResponseNormalization(alpha=0.3), (7, 3, 4)),
    (LocalResponseNormalization(3, alpha=0.5, beta=0.6, k=1), (2, 3, 2)),
    (Dropout(0.4), (2, 5, 4)),
    (Add(), ((2, 3, 4), (2, 3, 4), (2, 3, 4))),
    (Concatenate(), ((2, 3, 4), (1, 3, 4), (3, 3, 4))),
    (HighwayGate(), ((2, 3, 4), (2, 3, 4), (2, 3, 4))),
    (HighwayGate(), ((5,), (5,), (5,))),
    *((Arithmetic(operation), ((2, 3, 4), (2, 1, 1))) for operation in ("add", "subtract", "multiply", "divide")),
    (Arithmetic("multiply"), ((2, 3, 4), (2, 3, 4))),
    (Arithmetic("divide"), ((1, 3, 1), (2, 3, 4))),
    (Reshape((4, 3, 2)), (2, 3, 4)),
    (Reshape((24,)), (2, 3, 4)),
    (Transpose((2, 0, 1)), (2, 3, 4)),
    (Transpose((1, 0, 2, 3)), (3, 2, 4, 2)),
    (ChannelShuffle(3), (6, 2, 3)),
    (Pad(((1, 2), (0, 3)), value=0.5), (2, 3, 4)),
    (Pad((2, 3), mode="reflect"), (2, 3, 4)),
    (Pad(((4, 0), (1, 2)), mode="edge"), (2, 3, 4)),
    (Pad(((2, 1), (4, 3)), mode="wrap"), (2, 3, 4)),
    (RadialBasisOutput(("##..#", "#.#.#", ".#.##")), (5,)),
    (SoftmaxCrossEntropy(), ((5,), ())),
    (SoftmaxCrossEntropy(smoothing=0.1), ((5,), ())),
    (SoftmaxCrossEntropy((1.0, 0.3, 0.2)), ((5,), (5,), (5,), ())),
    (SquaredError(), ((5,), ())),
    (SquaredError(off_target=-1), ((5,), ())),
    (RadialBasisLoss(), ((5,), ())),
    (RadialBasisLoss(1.5), ((5,), ())),
    (RadialBasisLoss(None), ((5,), ())),
)
"""Every layer, on shapes that are awkward: not square, with remainders, overlaps, padding larger than the kernel."""


@dataclass(frozen=True)
class Check:
    """The worst relative errors found at one place; None where a proof does not apply."""

    name: str
    directional: float
    adjoint: float | None = None

    @property
    def passed(self) -> bool:
        """Are both below their tolerance?"""
        return self.directional < DIRECTIONAL_TOLERANCE and (self.adjoint or 0.0) < ADJOINT_TOLERANCE


def worst(name: str, checks: list[Check]) -> Check:
    """Of many places, under one name."""
    return Check(name, _worst([check.directional for check in checks]))


def check_all(seed: int = 0) -> list[Check]:
    """Every layer of EXAMPLES, in training and in inference."""
    return [check_layer(layer, shape, seed) for layer, shape in EXAMPLES]


def check_layer(layer: Layer, shape: Any, seed: int = 0, images: int = IMAGES) -> Check:
    """One layer on inputs of this shape (a tuple of shapes for several inputs), in training and in inference."""
    source = _Source(seed)
    shapes = shape if layer.several_inputs else (shape,)
    x = [source.separated((images, *each)) if each else source.labels(images, shapes[0][0]) for each in shapes]
    parameters = {
        name: source.normal(each)
        for name, each in {**layer.parameter_shapes(shape), **layer.statistic_shapes(shape)}.items()
    }
    if "running_variance" in parameters:
        parameters["running_variance"] = np.abs(parameters["running_variance"]) + 0.5
    directional = _worst(
        _layer_directional(layer, x, parameters, training, source) for training in (None, Training(seed))
    )
    adjoint = _layer_adjoint(layer, x, parameters, seed) if layer.linear and np.isfinite(directional) else None
    return Check(str(layer), directional, adjoint)


def check_network(graph: Graph, seed: int = 0, images: int = IMAGES) -> list[Check]:
    """A whole network: for each node that learns, and for the image, the gradient of the loss.

    The parameters are drawn afresh, biases too: at a bias of 0 a ReLU behind a map of zeros would be at its kink.
    Batch normalization and dropout behave as in training.
    """
    network = Network(graph, seed, dtype=np.float64)
    program = ReferenceEngine().compile(graph, network.layout, network.statistics_layout)
    source = _Source(seed)
    for array in network.layout.named(network.parameters).values():
        array += BIAS_SPREAD * source.normal(array.shape)
    labels = source.labels(images, graph.classes)
    image = 127.5 + 40.0 * source.separated((images, *graph.input_shape))
    training = Training(seed)
    values = network.trace(image, labels, training)

    def loss() -> float:
        return program.loss(image, labels, network.parameters, network.statistics, training)

    checks = [Check("image", _directional(loss, image, values.gradients["image"], source, scale=40.0))]
    for node, arrays in network.layout.views(network.parameters).items():
        gradients = values.parameter_gradients[node]
        errors = [_directional(loss, array, gradients.get(name), source) for name, array in arrays.items()]
        checks.append(Check(node, _worst(errors)))
    return checks


def _directional(
    function: Callable[[], float], array: Array, gradient: Array | None, source: "_Source", scale: float = 1.0
) -> float:
    """The relative error of the gradient along a random direction; the array is moved in place and put back.

    Measured against the size of <|gradient|, |d|>, in which a chance cancellation of the sum does not count.
    Infinite where the gradient is missing or has another shape than its array.
    """
    if gradient is None or gradient.shape != array.shape:
        return np.inf
    kept = array.copy()
    direction = source.normal(array.shape) * scale
    expected = float((gradient * direction).sum())
    size = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
    errors = []
    for step in STEPS:
        at = []
        for side in (+1, -1):
            array[...] = kept + side * step * direction
            at.append(function())
        # the gradient may be zero by right (a bias before a batch normalization): then absolute error counts
        error = abs((at[0] - at[1]) / (2 * step) - expected) / max(abs(expected), 1e-3 * size, 1e-9)
        errors.append(error)
        if error < DIRECTIONAL_TOLERANCE / 10:
            break
    array[...] = kept
    return float(np.min(errors))


def _worst(errors: Iterable[float]) -> float:
    """The largest; NaN if there is one, which Python's max may pass over."""
    return float(np.max(list(errors)))


def _layer_directional(
    layer: Layer, x: list[Array], parameters: dict[str, Array], training: Training | None, source: "_Source"
) -> float:
    y, saved = layer.forward(_as_input(layer, x), parameters, training)
    dy = source.normal(y.shape) if not isinstance(layer, Loss) else np.ones_like(y)
    gradients = layer.parameter_gradients(dy, saved)
    dx = layer.input_gradient(dy, saved, gradients)
    dx = dx if layer.several_inputs else (dx,)

    def weighted_output() -> float:
        return float((layer.forward(_as_input(layer, x), parameters, training)[0] * dy).sum())

    shapes = tuple(each.shape[1:] for each in x)
    learned = layer.parameter_shapes(shapes if layer.several_inputs else shapes[0])
    places = [(each, gradient) for each, gradient in zip(x, dx, strict=True) if each.dtype.kind == "f"]  # not labels
    places += [(parameters[name], gradients.get(name)) for name in learned]
    return _worst(_directional(weighted_output, array, gradient, source) for array, gradient in places)


def _layer_adjoint(layer: Layer, x: list[Array], parameters: dict[str, Array], seed: int) -> float:
    """|<A u, v> - <u, Aᵀ v>| relative to the sizes, for A the layer without its constant part; and for its weights."""
    training = Training(seed)

    def apply(inputs: list[Array], p: dict[str, Array]) -> Array:
        zeros = [np.zeros_like(each) for each in inputs]
        return (
            layer.forward(_as_input(layer, inputs), p, training)[0]
            - layer.forward(_as_input(layer, zeros), p, training)[0]
        )

    u = [np.array(each) for each in x]
    au = apply(u, parameters)
    v = _Source(seed + 1).normal(au.shape)
    _, saved = layer.forward(_as_input(layer, u), parameters, training)
    gradients = layer.parameter_gradients(v, saved)
    atv = layer.input_gradient(v, saved, gradients)
    atv = atv if layer.several_inputs else (atv,)
    left, right = float((au * v).sum()), sum(float((a * b).sum()) for a, b in zip(u, atv, strict=True))
    worst = abs(left - right) / float(np.linalg.norm(au) * np.linalg.norm(v))
    if "w" in gradients:  # linear in the weights too
        right = float((parameters["w"] * gradients["w"]).sum())
        worst = _worst((worst, abs(left - right) / float(np.linalg.norm(au) * np.linalg.norm(v))))
    return worst


def _as_input(layer: Layer, x: list[Array]) -> Any:
    return tuple(x) if layer.several_inputs else x[0]


class _Source:
    """Test values, all from one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._drawn = 0

    def _address(self) -> tuple[int, int, int]:
        self._drawn += 1
        return Use.GRADIENT_CHECK, self._seed, self._drawn

    def normal(self, shape: Shape) -> Array:
        return np.asarray(normal(key(*self._address()), int(np.prod(shape)))[0].reshape(shape))

    def separated(self, shape: Shape) -> Array:
        """Values in -1..1, none near another or near 0, in random order."""
        count = int(np.prod(shape))
        values = (2.0 * np.arange(count) + 1 - count) / count + (0.5 / count if count % 2 else 0.0)
        return values[permutation(count, *self._address())].reshape(shape)

    def labels(self, images: int, classes: int) -> Array:
        if classes < 1:
            raise SettingError("a loss needs at least one class")
        return (permutation(max(images, classes), *self._address())[:images] % classes).astype(np.int64)
