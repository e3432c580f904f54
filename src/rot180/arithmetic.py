"""The arithmetic of one number of a network: what a unit read, what that was multiplied by, and what it added up to.

Nothing here computes a layer anew. For a layer that is linear in its inputs, what an input weighs for one output is
its gradient: the layer's own backward pass, started with 1 at that output and 0 elsewhere, returns the window, the
kernel in its place, and zeros where the output does not look. Layers that are not linear have a rule each.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Any

import numpy as np

from rot180 import layers
from rot180.arrays import Array, Shape, text
from rot180.errors import SettingError
from rot180.graph import Graph, Node
from rot180.layers import (
    AveragePooling,
    BatchNormalization,
    Dropout,
    HighwayGate,
    Layer,
    LocalResponseNormalization,
    LogSoftmax,
    MaxPooling,
    ParametricReLU,
    RadialBasisOutput,
    Softmax,
)
from rot180.layers.activations import Activation

Place = tuple[int, ...]
TERMS = 10  # of many, so many are written out
WINDOW = 12  # rows and columns of a window that is written as one


@dataclass(frozen=True)
class Operand:
    """A window of one input, and what each of its values is multiplied by."""

    source: str  # the node read
    corner: Place  # where in it the window begins
    x: Array  # (C,KH,KW) or (D,)
    w: Array | None = None  # likewise; None: nothing is multiplied

    @property
    def products(self) -> Array:
        """X ⊙ w, in float64."""
        return np.asarray(self.x, np.float64) * (1.0 if self.w is None else np.asarray(self.w, np.float64))

    def place(self, flat: int) -> Place:
        """Where in the input the value with this number in the window lies."""
        return tuple(int(c + i) for c, i in zip(self.corner, np.unravel_index(flat, self.x.shape), strict=True))


@dataclass(frozen=True)
class Computation:
    """How one number came to be. print() writes it out."""

    node: str
    layer: str
    equation: str
    place: Place
    value: float  # as the network has it
    computed: float  # from the operands, in float64: the same but for rounding
    operands: tuple[Operand, ...]
    steps: Mapping[str, float]  # what else came in, and what came out on the way, by its letter
    strongest: tuple[str, Place]  # the input, and the value in it, that did most

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "node": self.node,
            "layer": self.layer,
            "equation": self.equation,
            "place": list(self.place),
            "value": self.value,
            "computed": self.computed,
            "operands": [
                {
                    "source": each.source,
                    "corner": list(each.corner),
                    "x": each.x.tolist(),
                    "w": None if each.w is None else each.w.tolist(),
                }
                for each in self.operands
            ],
            "steps": dict(self.steps),
        }

    def largest_terms(self, most: int = TERMS) -> list[tuple[str, Place, float, float | None, float]]:
        """(source, place, x, w, product) of the products that are largest in magnitude."""
        terms = [
            (each.source, each.place(k), float(each.x.flat[k]), w, float(product))
            for each in self.operands
            for k, product in enumerate(each.products.flat)
            for w in (None if each.w is None else float(each.w.flat[k]),)
        ]
        return sorted(terms, key=lambda term: -abs(term[-1]))[:most]

    def __str__(self) -> str:
        lines = [f"{self.node}[{_numbers(self.place)}] = {self.value:.6g}    {self.layer}", f"  {self.equation}"]
        for each in self.operands:
            lines.append("")
            if each.x.ndim == 3 and max(each.x.shape[1:]) <= WINDOW and each.x.size > 1:
                lines += _windows(each)
            elif each.x.size <= TERMS:
                lines += [_term(each.source, each.place(k), each, k) for k in range(each.x.size)]
            else:
                order = np.argsort(-np.abs(each.products), axis=None, kind="stable")
                lines.append(f"  the {TERMS} largest of {each.x.size} terms:")
                lines += [_term(each.source, each.place(int(k)), each, int(k)) for k in order[:TERMS]]
                rest = float(each.products.flat[order[TERMS:]].sum())
                lines.append(f"  the others together: {rest:.6g}")
        lines += ["", *(f"  {name} = {value:.6g}" for name, value in self.steps.items())]
        return "\n".join([*lines, f"  y = {self.computed:.6g}"])


def explain(
    graph: Graph, node: Node, outputs: Mapping[str, Array], parameters: Mapping[str, Array], place: tuple[Any, ...]
) -> Computation:
    """How the node's value at `place` came to be in inference. outputs: of every node, for one image.

    Raises SettingError where the node has no such value, and for a loss, which is no value of one image.
    """
    place = _checked(node, graph.shapes[node.name], place)
    layer, inputs = node.layer, [outputs[name] for name in node.inputs]
    for kinds, rule in RULES:
        if isinstance(layer, kinds):
            operands, steps, computed, strongest = rule(layer, node.inputs, inputs, parameters, place)
            break
    else:
        if not (layer.linear or isinstance(layer, LINEAR_IN_INFERENCE)):
            raise SettingError(f"{node.name} is {layer}, whose arithmetic is not that of one value")
        operands, steps, computed, strongest = _linear(layer, node.inputs, inputs, parameters, place)
    equation = re.sub(r"\s{2,}\([A-Z].*", "", (type(layer).__doc__ or "").split("\n")[0])
    value = float(outputs[node.name][place])
    return Computation(
        node.name, str(layer), equation, place, value, float(computed), tuple(operands), steps, strongest
    )


def follow(explained: Callable[[str, Place], Computation], node: str, place: Place, until: str) -> list[Computation]:
    """A number, then the one that did most to it, and so on, until what is read is the node `until`."""
    found = []
    while node != until:
        found.append(explained(node, place))
        node, place = found[-1].strongest
    return found


# --- the rules ---------------------------------------------------------------------------------------------------

Explained = tuple[list[Operand], dict[str, float], float, tuple[str, Place]]
LINEAR_IN_INFERENCE = BatchNormalization, Dropout


def _linear(layer: Layer, names: Any, inputs: list[Array], parameters: Mapping[str, Array], place: Place) -> Explained:
    """Y = b + Σ w x: the weights from the backward pass, b from the forward pass of zeros."""
    batch = [x[None] for x in inputs]
    zeros = [np.zeros_like(x) for x in batch]
    y, saved = layer.forward(zeros if layer.several_inputs else zeros[0], parameters)
    dy = np.zeros_like(y)
    dy[0][place] = 1
    dx = layer.input_gradient(dy, saved, layer.parameter_gradients(dy, saved))
    weights = [each[0] for each in (dx if layer.several_inputs else (dx,))]
    operands = [
        _window(name, x, w, w != 0) for name, x, w in zip(names, inputs, weights, strict=True) if (w != 0).any()
    ]
    if not operands:  # every weight is 0: what it reads cannot be told, and does not matter
        operands = [_window(names[0], inputs[0], weights[0], np.ones(inputs[0].shape, bool))]
    b, total = float(y[0][place]), float(sum(each.products.sum() for each in operands))
    steps = {"Σ w·x": total, "b": b}
    if isinstance(layer, BatchNormalization):
        steps = _normalization(layer, float(operands[0].x.flat[0]), parameters, place[0])
    return operands, steps, b + total, _largest(operands)


def _normalization(
    layer: BatchNormalization, x: float, parameters: Mapping[str, Array], channel: int
) -> dict[str, float]:
    names = {"μ": "running_mean", "σ²": "running_variance", "γ": "gamma", "β": "beta"}
    steps = {letter: float(parameters[name][channel]) for letter, name in names.items()}
    return {**steps, "ε": layer.epsilon, "x̂": (x - steps["μ"]) / sqrt(steps["σ²"] + layer.epsilon)}


def _activation(layer: Activation, names: Any, inputs: list[Array], _: Any, place: Place) -> Explained:
    """Y = f(x), and the slope there, which is what the backward pass multiplies by."""
    x = inputs[0][place]
    y = layer.function(np.asarray([x], np.float64))
    slope = float(layer.slope(np.asarray([x], np.float64), y)[0])
    return [_single(names[0], inputs[0], place)], {"f'(x)": slope}, float(y[0]), (names[0], place)


def _parametric(_: ParametricReLU, names: Any, inputs: list[Array], parameters: Any, place: Place) -> Explained:
    x, a = float(inputs[0][place]), float(np.broadcast_to(parameters["a"], inputs[0].shape)[place])
    slope = 1.0 if x > 0 else a
    return [_single(names[0], inputs[0], place)], {"a": a, "slope": slope}, slope * x, (names[0], place)


def _two_values(layer: layers.Arithmetic, names: Any, inputs: list[Array], _: Any, place: Place) -> Explained:
    """Two values joined; an axis of size 1 is repeated. The larger counts as what did most."""
    places = [tuple(min(at, size - 1) for at, size in zip(place, x.shape, strict=True)) for x in inputs]
    values = [np.array([x[at]], np.float64) for x, at in zip(inputs, places, strict=True)]
    y, _saved = layer.forward(values, {})
    operands = [_single(name, x, at) for name, x, at in zip(names, inputs, places, strict=True)]
    most = int(abs(values[1][0]) > abs(values[0][0]))
    return operands, {}, float(y[0]), (names[most], places[most])


def _max_pooling(layer: MaxPooling, names: Any, inputs: list[Array], _: Any, place: Place) -> Explained:
    """The largest of the window, which is that of an average pooling with the same settings."""
    average = AveragePooling(**layer.settings())
    y, of_average = average.forward(inputs[0][None], {})
    dy = np.zeros(y.shape)
    dy[0][place] = 1
    seen = average.input_gradient(dy, of_average, {})[0] != 0
    _, saved = layer.forward(inputs[0][None], {})
    won = layer.input_gradient(dy, saved, {})[0]
    winner = tuple(int(each) for each in np.unravel_index(int(won.argmax()), won.shape))
    return [_window(names[0], inputs[0], None, seen)], {}, float(inputs[0][winner]), (names[0], winner)


def _softmax(layer: Softmax | LogSoftmax, names: Any, inputs: list[Array], _: Any, place: Place) -> Explained:
    """E^x_k / Σ_j e^x_j, or its logarithm, over the classes, at one pixel of maps."""
    column: tuple[Any, ...] = (slice(None), *place[1:])
    x = inputs[0][column].astype(np.float64)
    own, total = exp(x[place[0]] - x.max()), float(np.exp(x - x.max()).sum())
    shape = (len(x), *(1,) * (len(place) - 1))
    operand = Operand(names[0], (0, *place[1:]), inputs[0][column].reshape(shape))
    steps = {"largest x": float(x.max()), "e^(x_k - largest)": own, "Σ e^(x_j - largest)": total}
    y = own / total if isinstance(layer, Softmax) else float(x[place[0]] - x.max()) - log(total)
    return [operand], steps, y, (names[0], place)


def _radial_basis(layer: RadialBasisOutput, names: Any, inputs: list[Array], _: Any, place: Place) -> Explained:
    """Minus the squared distance from the code. The input that did most is the one that differs most."""
    x = inputs[0].astype(np.float64)
    code = np.array([1.0 if ink == "#" else -1.0 for ink in layer.codes[place[0]]])
    apart = (x - code) ** 2
    steps = {"Σ (x - w)²": float(apart.sum())}
    operands = [Operand(names[0], (0,), inputs[0]), Operand("w", (0,), code)]
    return operands, steps, -float(apart.sum()), (names[0], (int(apart.argmax()),))


def _local_response(
    layer: LocalResponseNormalization, names: Any, inputs: list[Array], _: Any, place: Place
) -> Explained:
    channel, row, column = place
    first = max(channel - layer.size // 2, 0)
    window = inputs[0][first : channel + layer.size // 2 + 1, row : row + 1, column : column + 1]
    d = layer.k + layer.alpha * float((window.astype(np.float64) ** 2).sum())
    x = float(inputs[0][place])
    operand = Operand(names[0], (first, row, column), window)
    return [operand], {"x": x, "d": d, "d^-β": d**-layer.beta}, x * d**-layer.beta, (names[0], place)


def _highway(_: HighwayGate, names: Any, inputs: list[Array], __: Any, place: Place) -> Explained:
    h, t, x = (float(each[place]) for each in inputs)
    operands = [_single(name, each, place) for name, each in zip(names, inputs, strict=True)]
    steps = {"H·T": h * t, "x·(1-T)": x * (1 - t)}
    return operands, steps, h * t + x * (1 - t), (names[0] if abs(h * t) >= abs(x * (1 - t)) else names[2], place)


RULES: tuple[tuple[type[Layer], Callable[..., Explained]], ...] = (
    (Activation, _activation),
    (MaxPooling, _max_pooling),
    (Softmax, _softmax),
    (LogSoftmax, _softmax),
    (ParametricReLU, _parametric),
    (layers.Arithmetic, _two_values),
    (RadialBasisOutput, _radial_basis),
    (LocalResponseNormalization, _local_response),
    (HighwayGate, _highway),
)


def _window(name: str, x: Array, w: Array | None, seen: Array) -> Operand:
    """The smallest box of the input that holds all that is seen."""
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(seen))
    return Operand(name, tuple(each.start for each in box), x[box], None if w is None else w[box])


def _single(name: str, x: Array, place: Place) -> Operand:
    return Operand(name, place, x[tuple(slice(each, each + 1) for each in place)])


def _largest(operands: list[Operand]) -> tuple[str, Place]:
    """Where the largest product came from."""
    best = max(operands, key=lambda each: each.products.max())
    return best.source, best.place(int(best.products.argmax()))


def _checked(node: Node, shape: Shape, place: tuple[Any, ...]) -> Place:
    names = ("channel", "row", "column") if len(shape) == 3 else ("unit",)
    wanted = ", ".join(f"{name} 0 to {size - 1}" for name, size in zip(names, shape, strict=False))
    if not shape:
        raise SettingError(f"{node.name} is {node.layer}, which has no values of one image")
    if len(place) != len(shape) or not all(
        isinstance(at, int | np.integer) and 0 <= at < size for at, size in zip(place, shape, strict=True)
    ):
        raise SettingError(f"{node.name} is {text(shape)}: choose {wanted}")
    return tuple(int(at) for at in place)


# --- as text -----------------------------------------------------------------------------------------------------


def _windows(operand: Operand) -> list[str]:
    """Window, kernel and products side by side, channel by channel."""
    (first, top, left), lines = operand.corner, []
    for channel, x in enumerate(operand.x):
        parts = {"x": x}
        if operand.w is not None:
            parts |= {"w": operand.w[channel], "w·x": operand.products[channel]}
        lines.append(f"  {operand.source}[{first + channel}], rows from {top}, columns from {left}")
        lines.append("  " + "   ".join(name.rjust(8 * x.shape[1]) for name in parts))
        for rows in zip(*parts.values(), strict=True):
            lines.append("  " + "   ".join("".join(f"{value:8.3g}" for value in row) for row in rows))
    return lines


def _term(source: str, place: Place, operand: Operand, k: int) -> str:
    x = f"  {source}[{_numbers(place)}] = {operand.x.flat[k]:.6g}"
    return x if operand.w is None else f"{x}  ·  {operand.w.flat[k]:.6g}  =  {operand.products.flat[k]:.6g}"


def _numbers(place: Place) -> str:
    return ", ".join(str(each) for each in place)
