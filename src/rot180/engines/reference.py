"""The reference engine: walks the graph forward and back. The mathematics is the layers'.

NumPy's matrix products run on one thread: with more, their sums and so the last bits would depend on how many.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from rot180.arrays import Array
from rot180.chance import Training
from rot180.engines.engine import Gradients, Values
from rot180.graph import IMAGE, LABEL, Graph, Node
from rot180.layers import Clip, ReLU
from rot180.parameters import Layout

LIBRARIES = ThreadpoolController()
Function = TypeVar("Function", bound=Callable[..., Any])
Rule = Callable[[Array, Array], Array]
"""What a ReLU, with a ceiling or not, hands back, from dy and its slope f'(x): (dy, slope) -> dx.

Its gradient is dy ⊙ slope.
"""


def one_thread(function: Function) -> Function:
    """The function, with NumPy's matrix products on one thread."""
    wrapped: Function = LIBRARIES.wrap(limits=1, user_api="blas")(function)
    return wrapped


class ReferenceProgram:
    """A graph and where its parameters lie; nothing to compile."""

    def __init__(self, graph: Graph, parameters: Layout, statistics: Layout) -> None:
        self._graph = graph
        self._parameters = parameters
        self._statistics = statistics
        self._learning = _nodes_between_parameters_and_loss(graph, parameters)

    @one_thread
    def scores(self, images: Array, parameters: Array, statistics: Array) -> Array:
        """(N, K): the output node's values in inference."""
        views = self._views(parameters, statistics)
        outputs, needed = {IMAGE: images}, self._graph.needed_for(self._graph.output)
        for node in self._graph:
            if node.name in needed:
                outputs[node.name], _ = node.layer.forward(_input(node, outputs), views[node.name])
        return outputs[self._graph.output]

    def frozen(self, parameters: Array, statistics: Array) -> Callable[[Array], Array]:
        """`scores` of images with copies of these."""
        parameters, statistics = parameters.copy(), statistics.copy()
        return lambda images: self.scores(images, parameters, statistics)

    def loss_and_gradients(
        self, images: Array, labels: Array, parameters: Array, statistics: Array, training: Training | None
    ) -> Gradients:
        """The mean loss and its gradient; the input's own gradient is not computed."""
        values = self._run(images, labels, parameters, statistics, training, self._learning)
        gradient = np.zeros_like(parameters)
        for node, arrays in self._parameters.views(gradient).items():
            if node in values.parameter_gradients:  # else it does not reach the loss: zero
                for name, view in arrays.items():
                    view[...] = values.parameter_gradients[node][name]
        measured = statistics.copy()
        for node, arrays in self._statistics.views(measured).items():
            for name, value in values.statistics.get(node, {}).items():
                arrays[name][...] = value
        loss = float(values.outputs[self._graph.nodes[-1].name])
        return Gradients(loss, values.outputs[self._graph.output], gradient, measured)

    def values(
        self, images: Array, labels: Array, parameters: Array, statistics: Array, training: Training | None
    ) -> Values:
        """Every value and every gradient, the input's too."""
        return self._run(images, labels, parameters, statistics, training, {IMAGE, *(n.name for n in self._graph)})

    @one_thread
    def loss(
        self, images: Array, labels: Array, parameters: Array, statistics: Array, training: Training | None
    ) -> float:
        """The mean loss alone, without a backward pass: for finite differences."""
        outputs, _ = self._forward(images, labels, parameters, statistics, training)
        return float(outputs[self._graph.nodes[-1].name])

    @one_thread
    def score_gradients(
        self,
        images: Array,
        parameters: Array,
        statistics: Array,
        start: Callable[[Array], Array],
        relu: Rule | None = None,
    ) -> Values:
        """Every value of inference, and every gradient, the input's too, when ∂/∂scores is start(scores).

        relu: what ReLUs hand back in place of their gradient.
        """
        views, needed = self._views(parameters, statistics), self._graph.needed_for(self._graph.output)
        outputs: dict[str, Array] = {IMAGE: images}
        saved: dict[str, Any] = {}
        for node in self._graph:
            if node.name in needed:
                outputs[node.name], saved[node.name] = node.layer.forward(_input(node, outputs), views[node.name])
        scores = outputs[self._graph.output]
        values = Values(outputs, {self._graph.output: start(scores).reshape(scores.shape)}, {}, {})
        self._backward(values, saved, needed, relu)
        return values

    @one_thread
    def _run(
        self,
        images: Array,
        labels: Array,
        parameters: Array,
        statistics: Array,
        training: Training | None,
        wanted: set[str],
    ) -> Values:
        """Forward, then backward as far as the outputs whose gradient is wanted."""
        outputs, saved = self._forward(images, labels, parameters, statistics, training)
        values = Values(outputs, {}, {}, {})
        loss = self._graph.nodes[-1].name
        values.gradients[loss] = np.ones_like(outputs[loss])
        self._backward(values, saved, wanted)
        return values

    def _backward(self, values: Values, saved: dict[str, Any], wanted: set[str], relu: Rule | None = None) -> None:
        """From the gradients that are there, back to the outputs whose gradient is wanted; all into `values`."""
        for node in reversed(self._graph.nodes):
            if node.name not in values.gradients:  # nothing that reaches the end reads it
                continue
            dy, layer = values.gradients[node.name], node.layer
            gradients = layer.parameter_gradients(dy, saved[node.name])
            values.parameter_gradients[node.name] = gradients
            values.statistics[node.name] = layer.new_statistics(saved[node.name])
            if wanted.isdisjoint(node.inputs):
                continue
            here = saved.pop(node.name)
            if relu and (isinstance(layer, ReLU) or (isinstance(layer, Clip) and layer.low == 0)):
                dx: Any = relu(dy, layer.slope(here.x, here.y))
            else:
                dx = layer.input_gradient(dy, here, gradients)
            for name, part in zip(node.inputs, dx if layer.several_inputs else (dx,), strict=True):
                if part is not None and name in wanted:  # what several nodes read collects all their gradients
                    earlier = values.gradients.get(name)
                    values.gradients[name] = part if earlier is None else earlier + part

    def _forward(
        self, images: Array, labels: Array, parameters: Array, statistics: Array, training: Training | None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Every node's output, and what its backward pass needs."""
        views = self._views(parameters, statistics)
        outputs: dict[str, Array] = {IMAGE: images, LABEL: labels}
        saved: dict[str, Any] = {}
        for index, node in enumerate(self._graph):
            here = training and training.at_node(index)
            outputs[node.name], saved[node.name] = node.layer.forward(_input(node, outputs), views[node.name], here)
        return outputs, saved

    def _views(self, parameters: Array, statistics: Array) -> dict[str, dict[str, Array]]:
        learned, measured = self._parameters.views(parameters), self._statistics.views(statistics)
        return {node.name: {**learned.get(node.name, {}), **measured.get(node.name, {})} for node in self._graph}


class ReferenceEngine:
    """Compiles nothing: the definition, run as it stands."""

    def compile(self, graph: Graph, parameters: Layout, statistics: Layout) -> ReferenceProgram:
        """The graph's program for vectors laid out so."""
        return ReferenceProgram(graph, parameters, statistics)


def _input(node: Node, outputs: dict[str, Array]) -> Any:
    """What the node's layer takes as x."""
    return tuple(outputs[name] for name in node.inputs) if node.layer.several_inputs else outputs[node.inputs[0]]


def _nodes_between_parameters_and_loss(graph: Graph, parameters: Layout) -> set[str]:
    """The nodes that have learned something, or read a node that has: only their dy is needed for training."""
    learning = {place.node for place in parameters.places}
    for node in graph:
        if not learning.isdisjoint(node.inputs):
            learning.add(node.name)
    return learning
