"""An ONNX model as a network of rot180's own layers: it runs on any engine, and can be trained on.

Shapes are worked out as the operators come: each value on the way from the image is a node of the graph and the shape
that one image's value has in ONNX. What depends on constants alone is folded. A softmax at the end is left to the loss;
what only leads to further outputs is left out.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np

from rot180.arrays import Array, Shape, text
from rot180.convolve import Pads
from rot180.errors import ModelFileError, Rot180Error
from rot180.graph import IMAGE, LABEL, Graph, Node, layer_of
from rot180.interchange.onnx_file import Budget, OnnxModel, Operation, shortest
from rot180.interchange.onnx_operators import ARITHMETIC, RESHAPES, TRANSLATORS, Call, Step, affine, plain_padding
from rot180.interchange.onnx_tensors import ALGEBRA, axis_of, compute, reshaped, shape_of
from rot180.interchange.onnx_writer import CLASS_NAMES, LOSS
from rot180.layers import (
    Add,
    Affine,
    Arithmetic,
    AveragePooling,
    BatchNormalization,
    Concatenate,
    Convolution,
    Dense,
    Layer,
    Loss,
    Pad,
    Reshape,
    ScalePixels,
    SoftmaxCrossEntropy,
)

ANY_BATCH = 1009  # stands for a number of images that is left open; a prime, so that shapes that mix it in are noticed
MOST_PARAMETERS = 2**29  # of all layers together
MOST_CLASSES = 2**20
LARGEST_SCALE = 1e6  # that pixels are multiplied by, or shifted
ROUNDING = 1e-6


class Value(NamedTuple):
    """A value on the way from the image to the scores."""

    node: str  # whose output it is
    shape: Shape  # of one image, as ONNX has it; the node may have the same values in another shape


@dataclass
class Made:
    """A node being made."""

    layer: Layer
    inputs: tuple[str, ...]
    arrays: dict[str, Array]


class Translation(NamedTuple):
    """The network that a model describes, and what leads from its scores to the model's outputs."""

    graph: Graph
    arrays: Mapping[str, Mapping[str, Array]]  # {node: {name: array}}: parameters and statistics
    class_names: tuple[str, ...]
    scores: str  # the model's value that the network's scores are
    scores_shape: Shape  # of one image, as ONNX has it
    constants: Mapping[str, Array]  # what was known or has been folded


def translate(model: OnnxModel) -> Translation:
    """The model's network. Raises ModelFileError for what rot180 has no layer for, by the operator's name."""
    return _Reading(model).translate()


@dataclass
class _Reading:
    """A model as far as it is read."""

    model: OnnxModel
    nodes: dict[str, Made] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)  # of the nodes' outputs, one image
    values: dict[str, Value] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)  # of a node: how many of the model's values it is
    batch: int = ANY_BATCH
    budget: Budget = field(default_factory=Budget)

    def translate(self) -> Translation:
        self.constants = dict(self.model.constants)
        self._take_image()
        needed = self._needed(self.model.outputs[0])
        self.readers = Counter(name for operation in needed for name in operation.inputs)
        self.readers[self.model.outputs[0]] += 1
        end = self._softmax_at_the_end(needed)
        for operation in needed:
            if operation is end:
                break
            self._read(operation)
        scores = end.inputs[0] if end else self.model.outputs[0]
        if scores not in self.values:
            raise ModelFileError("its first output does not depend on its input")
        value = self.values[scores]
        graph = self._graph(value)
        arrays = {name: made.arrays for name, made in self.nodes.items()}
        names = _class_names(self.model.metadata, graph.classes)
        return Translation(graph, arrays, names, scores, value.shape, self.constants)

    def _take_image(self) -> None:
        """The one input, and the shape of one image."""
        if len(self.model.inputs) != 1:
            raise ModelFileError(f"it has {len(self.model.inputs)} inputs; rot180's networks take images only")
        ((name, shape),) = self.model.inputs.items()
        if shape is None or len(shape) < 2 or any(size is None or size < 1 for size in shape[1:]):
            open_shape = "of no declared shape" if shape is None else "x".join(str(size or "?") for size in shape)
            raise ModelFileError(
                f"its input {name!r} is {open_shape}: rot180 needs to know all sizes but the number of images"
            )
        self.batch = shape[0] or ANY_BATCH
        self.shapes[IMAGE] = tuple(int(size or 0) for size in shape[1:])
        self.values[name] = Value(IMAGE, self.shapes[IMAGE])

    def _needed(self, output: str) -> list[Operation]:
        """The operators that the output depends on, in their order."""
        wanted, needed = {output}, []
        for operation in reversed(self.model.operations):
            if not wanted.isdisjoint(operation.outputs):
                wanted.update(operation.inputs)
                needed.append(operation)
        return needed[::-1]

    def _softmax_at_the_end(self, needed: Iterable[Operation]) -> Operation | None:
        """The softmax behind which nothing but the shape changes."""
        makers = {name: operation for operation in needed for name in operation.outputs}
        name = self.model.outputs[0]
        while name in makers and makers[name].kind in (*RESHAPES, "Identity"):
            name = makers[name].inputs[0]
        last = makers.get(name)
        return last if last and last.kind in ("Softmax", "LogSoftmax") else None

    # --- one operator ------------------------------------------------------------------------------------------

    def _read(self, operation: Operation) -> None:
        """Fold it, or give its first output a value."""
        known = [self.constants.get(name) for name in operation.inputs]
        if all(name in self.constants or not name for name in operation.inputs):
            if operation.kind not in ALGEBRA:
                operation.refuse("rot180 cannot compute it of constants")
            self.constants[operation.outputs[0]] = compute(operation, known, self.model.opset, self.budget)
            return
        if any(name and name not in self.values and name not in self.constants for name in operation.inputs):
            operation.refuse("it takes an output beside the first, which rot180 does not have")
        try:
            self._translate(operation, known)
            if operation.outputs[0] in self.values:
                self.names[self.values[operation.outputs[0]].node] += 1
        except ModelFileError:
            raise
        except Rot180Error as error:
            operation.refuse(str(error))

    def _translate(self, operation: Operation, known: list[Array | None]) -> None:
        output = operation.outputs[0]
        values = [self.values[name] for name in operation.inputs if name in self.values]
        first = values[0]
        if operation.kind == "Shape":
            self.constants[output] = shape_of(operation, (self.batch, *first.shape))
        elif operation.kind in RESHAPES and operation.inputs[0] in self.values:
            shape = reshaped(operation, (self.batch, *first.shape), known)
            if shape[:1] != (self.batch,):
                operation.refuse("it mixes the images of a batch")
            self.values[output] = Value(first.node, shape[1:])
        elif operation.kind in ARITHMETIC and len(operation.inputs) > 1:
            self.values[output] = self._arithmetic(operation, values, known)
        elif operation.kind == "Concat":
            self.values[output] = self._concatenate(operation, values)
        elif operation.kind == "Sum":
            self.values[output] = first
        elif operation.kind in TRANSLATORS and operation.inputs[0] in self.values and len(values) == 1:
            call = Call(operation, first.shape, known, self.model.opset)
            steps = TRANSLATORS[operation.kind](call)
            self.values[output] = self._placed(operation, first, steps.layers, steps.gives)
        elif operation.kind in TRANSLATORS:
            operation.refuse("rot180 reads it with constants behind its first input only")
        else:
            operation.refuse("rot180 has no layer for it")

    def _placed(self, operation: Operation, value: Value, steps: list[Step], gives: Shape) -> Value:
        """The layers behind a value."""
        node = value.node
        for step in steps:
            flat = isinstance(step.layer, Dense) and prod(self.shapes[node]) == prod(step.takes)  # it reads maps too
            source = node if flat else self._as(node, step.takes)
            node = self._add(operation.name, step.layer, (source,), step.arrays)
        return Value(node, gives)

    def _arithmetic(self, operation: Operation, values: list[Value], known: list[Array | None]) -> Value:
        """Of values of one shape, of values that must be repeated, of a value and constants."""
        constants = [each for each in known if each is not None]
        if len(values) == 1:
            value = values[0]
            for constant in constants:
                call = Call(operation, value.shape, known, self.model.opset)
                (step,), gives = affine(call, constant, constant_first=known[0] is not None)
                value = self._joined(operation, value, step) or self._placed(operation, value, [step], gives)
            return value
        if constants:
            operation.refuse("rot180 does not join several values and constants at once")
        if ARITHMETIC[operation.kind] == "add" and len({value.shape for value in values}) == 1:
            shape = self.shapes[values[0].node]
            inputs = tuple(self._as(value.node, shape) for value in values)
            return Value(self._add(operation.name, Add(), inputs), values[0].shape)
        result, *others = values
        for other in others:
            layer = Arithmetic(ARITHMETIC[operation.kind])
            inputs = tuple(self._as(each.node, each.shape) for each in (result, other))
            gives = layer.output_shape((result.shape, other.shape))
            result = Value(self._add(operation.name, layer, inputs), gives)
        return result

    def _concatenate(self, operation: Operation, values: list[Value]) -> Value:
        if len(values) != len(operation.inputs):
            operation.refuse("rot180 does not join values and constants")
        if axis_of(operation, operation.whole("axis", 1), len(values[0].shape) + 1) != 1:
            operation.refuse("rot180 joins maps only, along axis 1")
        shapes = [value.shape for value in values]
        gives = Concatenate().output_shape(shapes)
        if all(prod(shape[1:]) == 1 for shape in shapes):  # vectors, whatever ONNX calls them
            shapes = [shape[:1] for shape in shapes]
        inputs = tuple(self._as(value.node, shape) for value, shape in zip(values, shapes, strict=True))
        return Value(self._add(operation.name, Concatenate(), inputs), gives)

    def _joined(self, operation: Operation, value: Value, step: Step) -> Value | None:
        """The scaling or shifting as part of the layer before, where nobody else sees that: then it is that layer's.

        Pixels scaled and shifted, all alike or channel by channel: ScalePixels. Batch normalization, scaled and shifted
        map by map: its γ and β. A sum of products, shifted map by map: its bias. Values scaled: the same layer's shift.
        """
        w, b = step.arrays.get("w"), step.arrays.get("b")
        pixels = self._scaled_pixels(value, w, b)
        if pixels and value.node == IMAGE:
            return Value(self._add(operation.name, pixels, (IMAGE,)), value.shape)
        name = next(name for name in operation.inputs if name in self.values)
        if value.node == IMAGE or self.readers[name] > 1 or self.names[value.node] > 1:
            return None
        made, outputs = self.nodes[value.node], self.shapes[value.node][:1]
        if pixels:
            made.layer = pixels
            return Value(self._renamed(value.node, operation.name), value.shape)
        if isinstance(made.layer, Affine) and not made.layer.shift and w is None and b is not None:
            if b.shape == made.layer.shape:
                made.layer, made.arrays["b"] = Affine(b.shape), b
                return Value(self._renamed(value.node, operation.name), value.shape)
            return None
        if value.shape[:1] != outputs or any(each is not None and prod(each.shape[1:]) != 1 for each in (w, b)):
            return None
        if isinstance(made.layer, BatchNormalization):
            if w is not None:
                made.arrays["gamma"] = made.arrays["gamma"] * w.ravel()
                made.arrays["beta"] = made.arrays["beta"] * w.ravel()
            if b is not None:
                made.arrays["beta"] = made.arrays["beta"] + b.ravel()
            self.names[value.node] -= 1
            return value
        if isinstance(made.layer, Convolution | Dense) and not made.layer.bias and w is None and b is not None:
            settings = made.layer.settings() | {"bias": True}
            made.layer = type(made.layer)(**settings)
            made.arrays["b"] = np.broadcast_to(b.ravel(), outputs)
            self.names[value.node] -= 1
            return value
        return None

    def _scaled_pixels(self, value: Value, w: Array | None, b: Array | None) -> ScalePixels | None:
        """The image, or what is scaled pixels already, times w plus b: numbers, or one for each channel.

        None where this is something else, or where low and high would lie too near together for float32.
        """
        layer = ScalePixels(0, 255) if value.node == IMAGE else self.nodes[value.node].layer
        channels = self.shapes[value.node][0]
        shapes = {each.shape for each in (w, b) if each is not None and each.size > 1}
        if not isinstance(layer, ScalePixels) or not shapes <= {(channels, 1, 1)}:
            return None
        times, plus = np.float64(1 if w is None else w).ravel(), np.float64(0 if b is None else b).ravel()
        before, low = layer.by_channel(channels)
        scale, low = before * times, low * times + plus
        if not ((scale > 0) & (scale < LARGEST_SCALE) & (np.abs(low) < LARGEST_SCALE)).all():
            return None
        lows, spans = (tuple(map(shortest, each)) for each in (low, 255 * scale))
        limits = lows, tuple(shortest(each + span) for each, span in zip(lows, spans, strict=True))
        made = ScalePixels(*(limit[0] if len(set(limit)) == 1 else limit for limit in limits))
        return made if np.allclose(made.by_channel(channels)[0], scale, rtol=ROUNDING, atol=0) else None

    # --- nodes -------------------------------------------------------------------------------------------------

    def _as(self, node: str, shape: Shape) -> str:
        """The node's output in this shape."""
        if self.shapes[node] == shape:
            return node
        return self._add(f"{node} as {text(shape)}", Reshape(shape), (node,))

    def _add(
        self, wanted: str, layer: Layer, inputs: tuple[str, ...], arrays: Mapping[str, Array] | None = None
    ) -> str:
        """A node of this name, or one like it; the name."""
        name = self._free(wanted)
        shapes = tuple(self.shapes[each] for each in inputs)
        shape = shapes if layer.several_inputs else shapes[0]
        self.shapes[name] = tuple(layer.output_shape(shape))
        self.nodes[name] = Made(layer, inputs, dict(arrays or {}))
        return name

    def _free(self, wanted: str) -> str:
        number, name = 1, wanted
        while name in self.nodes or name in (IMAGE, LABEL, "loss"):
            number += 1
            name = f"{wanted} {number}"
        return name

    def _renamed(self, node: str, wanted: str) -> str:
        """The node under another name; nobody reads it yet."""
        name = self._free(wanted)
        self.nodes[name], self.shapes[name] = self.nodes.pop(node), self.shapes.pop(node)
        return name

    def _fold_padding(self, scores: str) -> None:
        """Zeros put around maps become the padding of the convolutions and average poolings that read them."""
        for made in self.nodes.values():
            while isinstance(made.layer, Convolution | AveragePooling):
                (name,) = made.inputs
                before = self.nodes.get(name)
                if not (before and isinstance(before.layer, Pad) and before.layer == Pad(before.layer.padding)):
                    break
                made.layer = _padded(made.layer, self.shapes[name], before.layer, self.shapes[before.inputs[0]])
                made.inputs = before.inputs
        for name, made in reversed(list(self.nodes.items())):
            read = name == scores or any(name in other.inputs for other in self.nodes.values())
            if isinstance(made.layer, Pad) and not read:
                del self.nodes[name]

    # --- the end -----------------------------------------------------------------------------------------------

    def _graph(self, value: Value) -> Graph:
        """All nodes, and a loss behind the scores."""
        classes = prod(value.shape)
        if classes > MOST_CLASSES:
            raise ModelFileError(f"its output has {classes:,} values for each image; rot180 takes {MOST_CLASSES:,}")
        scores = self._as(value.node, (classes,))
        if scores == IMAGE:
            raise ModelFileError("it does nothing to its input")
        self._fold_padding(scores)
        nodes = [Node(name, made.layer, made.inputs) for name, made in self.nodes.items()]
        loss = _loss(self.model.metadata)
        graph = Graph([*nodes, Node("loss", loss, (scores, LABEL))], self.shapes[IMAGE])
        parameters = 0
        for node in nodes:
            shape = graph.input_shape_of(node)
            wanted = {**node.layer.parameter_shapes(shape), **node.layer.statistic_shapes(shape)}
            if wanted != {name: array.shape for name, array in self.nodes[node.name].arrays.items()}:
                raise ModelFileError(f"the parameters of {node.name!r} do not fit its input of {text(shape)}")
            parameters += sum(map(prod, wanted.values()))
        if parameters > MOST_PARAMETERS:
            raise ModelFileError(f"it has {parameters:,} parameters; rot180 takes at most {MOST_PARAMETERS:,}")
        return graph


def _padded(layer: Convolution | AveragePooling, padded: Shape, by: Pad, plain: Shape) -> Layer:
    """The layer for plain maps, with the padding that they had in front of it; zeros count as they did."""

    def with_it(pads: Pads) -> Pads:
        (top, bottom), (left, right) = pads
        (above, below), (before, behind) = by.pads(plain)
        return (top + above, bottom + below), (left + before, right + behind)

    settings = layer.settings() | {"padding": plain_padding(with_it(layer.pads(padded)))}
    if isinstance(layer, AveragePooling) and layer.counted is not None:
        settings["counted"] = plain_padding(with_it(layer.counted_pads(padded)))
    return type(layer)(**settings)


def _loss(metadata: Mapping[str, str]) -> Loss:
    """The loss that rot180 wrote into the file; else the usual one."""
    try:
        described = json.loads(metadata[LOSS])
        loss = layer_of(described["layer"], described["settings"])
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, Rot180Error):
        return SoftmaxCrossEntropy()
    return loss if isinstance(loss, Loss) and loss.heads == 1 else SoftmaxCrossEntropy()


def _class_names(metadata: Mapping[str, str], classes: int) -> tuple[str, ...]:
    """The class names in the metadata, where they are such."""
    try:
        names = json.loads(metadata.get(CLASS_NAMES, "[]"))
    except (ValueError, RecursionError):
        return ()
    fit = isinstance(names, list) and len(names) <= classes and all(isinstance(name, str) for name in names)
    return tuple(names) if fit else ()
