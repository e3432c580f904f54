"""All parameters of a network as one flat vector, and how they start.

Each layer sees views of the vector; the gradient is its twin. An optimiser's update, a checkpoint, a comparison
bit for bit or an average over machines is then one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from rot180.arrays import Array, Shape
from rot180.chance import Use, key, normal, uniform
from rot180.errors import SettingError
from rot180.graph import Graph
from rot180.layers import Fan

ALIGNMENT = 16  # floats: every array starts on a cache line


@dataclass(frozen=True)
class Place:
    """Where one named array lies in the flat vector."""

    node: str
    name: str
    offset: int
    shape: Shape

    @property
    def slice(self) -> slice:
        """Its part of the vector."""
        return slice(self.offset, self.offset + prod(self.shape))


def aligned_size(shape: Shape) -> int:
    """How many floats an array takes in the vector, with the zeros behind it."""
    return -(-prod(shape) // ALIGNMENT) * ALIGNMENT


class Layout:
    """The places of arrays in a flat vector; what lies between them (for alignment) stays zero."""

    def __init__(self, shapes: Mapping[str, Mapping[str, Shape]]) -> None:
        """From {node: {name: shape}}."""
        places, end = [], 0
        for node, arrays in shapes.items():
            for name, shape in arrays.items():
                places.append(Place(node, name, end, shape))
                end += aligned_size(shape)
        self.places = tuple(places)
        self.size = end
        self.count = sum(prod(place.shape) for place in places)
        """How many numbers the arrays have, alignment apart."""

    @classmethod
    def of_parameters(cls, graph: Graph) -> "Layout":
        """Of what the network learns."""
        return cls({node.name: node.layer.parameter_shapes(graph.input_shape_of(node)) for node in graph})

    @classmethod
    def of_statistics(cls, graph: Graph) -> "Layout":
        """Of what the network measures while it learns (batch normalization's running means)."""
        return cls({node.name: node.layer.statistic_shapes(graph.input_shape_of(node)) for node in graph})

    def views(self, vector: Array) -> dict[str, dict[str, Array]]:
        """{node: {name: view}}: the vector's parts in their shapes, shared, not copied."""
        views: dict[str, dict[str, Array]] = {}
        for place in self.places:
            views.setdefault(place.node, {})[place.name] = vector[place.slice].reshape(place.shape)
        return views

    def named(self, vector: Array) -> dict[str, Array]:
        """{"node.name": view}."""
        return {f"{place.node}.{place.name}": vector[place.slice].reshape(place.shape) for place in self.places}


# --- how parameters start (D2) -----------------------------------------------------------------------------------


class Initializer(Protocol):
    """Draws an array of weights from the chance at one address, for units with that many connections."""

    def __call__(self, shape: Shape, fan: Fan, chance: Array) -> Array:
        """The weights, as float32 or float64."""
        ...


def _uniform(shape: Shape, limit: float | Array, chance: Array) -> Array:
    return np.asarray((2.0 * uniform(chance, prod(shape)) - 1.0).reshape(shape) * limit)


@dataclass(frozen=True)
class Uniform:
    """Uniform in [-limit, limit]: 0.3 in seed 002, 1e-4 in seed 004."""

    limit: float = 0.3

    def __call__(self, shape: Shape, fan: Fan, chance: Array) -> Array:
        return _uniform(shape, self.limit, chance)


@dataclass(frozen=True)
class Glorot:
    """Uniform, variance 2/(fan_in + fan_out): keeps sigmoid and tanh out of saturation. Glorot and Bengio 2010."""

    def __call__(self, shape: Shape, fan: Fan, chance: Array) -> Array:
        return _uniform(shape, (6 / (fan.inputs + fan.outputs)) ** 0.5, chance)


@dataclass(frozen=True)
class LeCun:
    """Uniform in ±2.4/fan_in, as LeNet-5 started. LeCun et al. 1998, appendix A."""

    def __call__(self, shape: Shape, fan: Fan, chance: Array) -> Array:
        return _uniform(shape, 2.4 / fan.inputs, chance)


@dataclass(frozen=True)
class He:
    """Normal, variance 2/fan_in: keeps the size of a ReLU network's signals from layer to layer. He et al. 2015."""

    def __call__(self, shape: Shape, fan: Fan, chance: Array) -> Array:
        return normal(chance, prod(shape)).reshape(shape) * (2 / fan.inputs) ** 0.5


def undrawn(shape: Shape, fan: Fan, chance: Array) -> Array:  # noqa: ARG001 - what an initializer takes
    """Zeros, and no chance spent: a file's numbers, or another network's, will take their place."""
    return np.zeros(shape, np.float32)


INITIALIZERS: dict[str, Initializer] = {
    "he": He(),
    "glorot": Glorot(),
    "lecun": LeCun(),
    "uniform-0.3": Uniform(0.3),
    "uniform-0.0001": Uniform(1e-4),
}


def initializer(name: str) -> Initializer:
    """One of INITIALIZERS by its name; SettingError for another."""
    if name not in INITIALIZERS:
        raise SettingError(f"there is no initialiser {name!r}: choose one of {', '.join(INITIALIZERS)}")
    return INITIALIZERS[name]


def initial_vector(graph: Graph, layout: Layout, start: Initializer, seed: int, dtype: np.dtype[np.floating]) -> Array:
    """The flat vector before training: weights drawn, each array from its own address, the rest at its constant."""
    vector = np.zeros(layout.size, dtype)
    for index, place in enumerate(layout.places):
        layer = graph[place.node].layer
        if place.name in layer.initial_values:
            vector[place.slice] = layer.initial_values[place.name]
        else:
            chance = key(Use.INITIAL_PARAMETERS, seed, index)
            vector[place.slice] = start(place.shape, layer.fan(place.shape), chance).ravel()
    return vector


def decayed(graph: Graph, layout: Layout) -> tuple[slice, ...]:
    """The parts of the vector that weight decay acts on: drawn weights, not biases and scales."""
    parts: list[slice] = []
    for place in layout.places:
        if place.name in graph[place.node].layer.initial_values:
            continue
        start, stop = place.offset, place.offset + aligned_size(place.shape)
        if parts and parts[-1].stop == start:
            start = parts.pop().start
        parts.append(slice(start, stop))
    return tuple(parts)
