"""A network as an ONNX model: one operator a layer where ONNX has it, a few where it has not.

The model takes images as the network does, of any number at a time, as float32: where the network begins with
ScalePixels, pixels 0..255. It gives "scores" (N,K) and "probabilities" (N,K). What only training needs (heads on the
side, the loss) is left out. The class names are in its metadata.

Every layer has a function here that emits its operators; the last one's output is the layer's.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from rot180.arrays import Array, Shape, pair
from rot180.convolve import Pads
from rot180.errors import SettingError
from rot180.graph import IMAGE, Graph, Node
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
from rot180.layers.activations import AMPLITUDE, STEEPNESS
from rot180.layers.pooling import Pooling
from rot180.version import VERSION

OPSET = 17  # ONNX 1.12 of 2022: old enough for every program in use, new enough for all that is needed
IR_VERSION = 8  # its file format
SCORES, PROBABILITIES, BATCH = "scores", "probabilities", "batch"
CLASS_NAMES, LOSS = "rot180.class_names", "rot180.loss"  # entries of the metadata
LARGEST_FILE = 2**31 - 1  # protobuf's limit


@dataclass
class Writing:
    """The model as far as it is written."""

    arrays: Mapping[str, Mapping[str, Array]]  # {node: {name: array}}: parameters and statistics
    nodes: list[NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)  # a node's output: its name in the model
    taken: set[str] = field(default_factory=lambda: {SCORES, PROBABILITIES})

    def name(self, wanted: str) -> str:
        """A name for a value or an operator: the one wanted, or where it is taken one like it."""
        while wanted in self.taken:
            wanted += "_"
        self.taken.add(wanted)
        return wanted


@dataclass(frozen=True)
class Place:
    """A layer's place in the model: what its operators read, and where they go."""

    writing: Writing
    node: Node
    shape: Any  # of one image's input, or of each

    @property
    def layer(self) -> Any:
        """The layer, which its writer knows the type of."""
        return self.node.layer

    def x(self, index: int = 0) -> str:
        """An input's name."""
        return self.writing.values[self.node.inputs[index]]

    def parameter(self, name: str, array: Array | None = None) -> str:
        """A parameter, or another array in its stead."""
        values = self.writing.arrays[self.node.name][name] if array is None else array
        return self.constant(name, np.asarray(values, np.float32))

    def constant(self, name: str, array: Any) -> str:
        """An array of the model's own; numbers become float32, lists of whole numbers int64."""
        array = np.asarray(array, np.float32) if isinstance(array, float) else np.asarray(array)
        name = self.writing.name(f"{self.node.name}.{name}")
        self.writing.tensors.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def emit(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """An operator; the name of its output."""
        output = self.writing.name(f"{self.node.name}/{operator}")
        self.writing.nodes.append(helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def flat(self) -> str:
        """The input as (N,D)."""
        return self.emit("Flatten", self.x(), axis=1) if len(self.shape) > 1 else self.x()


Writer: TypeAlias = Callable[[Place], None]
WRITERS: dict[type[Layer], Writer] = {}


def writes(*layers: type[Layer]) -> Callable[[Writer], Writer]:
    """Register what writes these layers."""

    def register(writer: Writer) -> Writer:
        WRITERS.update(dict.fromkeys(layers, writer))
        return writer

    return register


class Linear(NamedTuple):
    """What is done to an image before the network sees it: matrix · (x - mean) + offset, x flattened."""

    shape: Shape  # of the images that go in
    mean: Array  # (D,)
    matrix: Array  # (E,D)
    offset: Array  # (E,)


def model(
    graph: Graph,
    arrays: Mapping[str, Mapping[str, Array]],
    class_names: tuple[str, ...],
    preparation: Linear | None = None,
) -> ModelProto:
    """The model of a graph with these parameters and statistics, {node: {name: array}}.

    Raises SettingError for a layer that ONNX cannot say, and for more than 2 GiB.
    """
    size = 4 * sum(array.size for named in arrays.values() for array in named.values())
    size += 4 * (preparation.matrix.size if preparation else 0)
    if size > LARGEST_FILE:
        raise SettingError(f"the network's {size:,} bytes of parameters are more than an ONNX file holds (2 GiB)")
    writing = Writing(arrays)
    writing.values[IMAGE] = writing.name(IMAGE)
    if preparation:
        _prepare(Place(writing, Node("preparation", Identity(), (IMAGE,)), preparation.shape), preparation, graph)
    needed = graph.needed_for(graph.output)
    for node in graph:
        if node.name in needed:
            name = SCORES if node.name == graph.output else writing.name(node.name)
            _write(writing, node, graph.input_shape_of(node), name)
    _write(writing, Node(PROBABILITIES, graph.loss, (graph.output,)), (graph.classes,), PROBABILITIES)
    shape = preparation.shape if preparation else graph.input_shape
    made = helper.make_graph(
        writing.nodes,
        "network",
        [helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, [BATCH, *shape])],
        [
            helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, [BATCH, *graph.shapes[graph.output]]),
            helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [BATCH, graph.classes]),
        ],
        writing.tensors,
    )
    written = helper.make_model(
        made,
        producer_name="rot180",
        producer_version=VERSION,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    loss_text = json.dumps({"layer": type(graph.loss).__name__, "settings": graph.loss.of_output.settings()})
    helper.set_model_props(written, {CLASS_NAMES: json.dumps(class_names), LOSS: loss_text})
    return written


def _write(writing: Writing, node: Node, shape: Any, name: str) -> None:
    """The operators of one node; the last one's output gets the name."""
    if type(node.layer) not in WRITERS:
        raise SettingError(f"node {node.name!r}: {type(node.layer).__name__} cannot be written to ONNX")
    WRITERS[type(node.layer)](Place(writing, node, shape))
    last = writing.nodes[-1]
    last.output[0] = name
    last.name = node.name if node.name not in {other.name for other in writing.nodes} else writing.name(node.name)
    writing.values[node.name] = name


def _prepare(place: Place, linear: Linear, graph: Graph) -> None:
    """Before the first node, which then reads what comes out."""
    centred = place.emit("Sub", place.flat(), place.constant("mean", linear.mean))
    arrays = (place.constant(name, np.asarray(getattr(linear, name), np.float32)) for name in ("matrix", "offset"))
    mapped = place.emit("Gemm", centred, *arrays, transB=1)
    shape = place.constant("shape", [0, *graph.input_shape])  # 0: as many images as come
    place.writing.values[IMAGE] = place.emit("Reshape", mapped, shape)


def _pads(pads: Pads) -> list[int]:
    """((top, bottom), (left, right)) as ONNX orders them: top, left, bottom, right."""
    (top, bottom), (left, right) = pads
    return [top, left, bottom, right]


# --- layers with weights -----------------------------------------------------------------------------------------


@writes(Convolution)
def _convolution(place: Place) -> None:
    layer: Convolution = place.layer
    inputs = [place.x(), place.parameter("w"), *([place.parameter("b")] if layer.bias else [])]
    place.emit("Conv", *inputs, **_of_convolution(layer, place.shape))


def _of_convolution(layer: Convolution, shape: Shape) -> dict[str, Any]:
    return {
        "kernel_shape": pair(layer.size, "size"),
        "strides": pair(layer.stride, "stride"),
        "pads": _pads(layer.pads(shape)),
        "dilations": pair(layer.dilation, "dilation"),
        "group": layer.groups,
    }


@writes(TableConvolution)
def _table_convolution(place: Place) -> None:
    """The convolution that it is, with zeros where there is no link."""
    layer: TableConvolution = place.layer
    w = layer.kernel(place.writing.arrays[place.node.name]["w"], place.shape[0])
    inputs = [place.x(), place.parameter("w", w), *([place.parameter("b")] if layer.bias else [])]
    place.emit("Conv", *inputs, **_of_convolution(layer.whole, place.shape))


@writes(LocallyConnected)
def _locally_connected(place: Place) -> None:
    """Kernels that pick one tap each lay the windows out as maps; these times the weights, and their sum."""
    layer: LocallyConnected = place.layer
    size = pair(layer.size, "size")
    channels, taps = place.shape[0], prod(size)
    pick = np.tile(np.eye(taps, dtype=np.float32), (channels, 1)).reshape(-1, 1, *size)
    settings = _of_convolution(layer.shared, place.shape) | {"group": channels}
    windows = place.emit("Conv", place.x(), place.constant("taps", pick), **settings)  # (N,C·KH·KW,OH,OW)
    windows = place.emit("Unsqueeze", windows, place.constant("filters", [1]))
    w = place.writing.arrays[place.node.name]["w"]  # (OH,OW,F,C,KH,KW)
    by_tap = w.reshape(*w.shape[:3], -1).transpose(2, 3, 0, 1)  # (F,C·KH·KW,OH,OW)
    products = place.emit("Mul", windows, place.parameter("w", by_tap))
    total = place.emit("ReduceSum", products, place.constant("summed", [2]), keepdims=0)
    if layer.bias:
        place.emit("Add", total, place.parameter("b"))


@writes(Dense)
def _dense(place: Place) -> None:
    layer: Dense = place.layer
    inputs = [place.flat(), place.parameter("w"), *([place.parameter("b")] if layer.bias else [])]
    place.emit("Gemm", *inputs, transB=1)


@writes(RadialBasisOutput)
def _radial_basis_output(place: Place) -> None:
    layer: RadialBasisOutput = place.layer
    x = place.emit("Unsqueeze", place.x(), place.constant("codes", [1]))
    difference = place.emit("Sub", x, place.constant("w", layer.w))
    squares = place.emit("Mul", difference, difference)  # (N,K,D)
    place.emit("Neg", place.emit("ReduceSum", squares, place.constant("summed", [2]), keepdims=0))


@writes(BatchNormalization)
def _batch_normalization(place: Place) -> None:
    layer: BatchNormalization = place.layer
    arrays = [place.parameter(name) for name in ("gamma", "beta", "running_mean", "running_variance")]
    place.emit("BatchNormalization", place.x(), *arrays, epsilon=layer.epsilon, momentum=1 - layer.momentum)


# --- pooling -----------------------------------------------------------------------------------------------------


def _of_pooling(layer: Pooling, shape: Shape) -> dict[str, Any]:
    return {
        "kernel_shape": pair(layer.size, "size"),
        "strides": layer.window(shape).stride,
        "pads": _pads(layer.pads(shape)),
        "dilations": pair(layer.dilation, "dilation"),
    }


@writes(MaxPooling)
def _max_pooling(place: Place) -> None:
    layer: MaxPooling = place.layer
    place.emit("MaxPool", place.x(), **_of_pooling(layer, place.shape))


@writes(AveragePooling)
def _average_pooling(place: Place) -> None:
    """Windows that see nothing of the padding, or everything; else the sum, over the number that counts.

    Operators of this version have no dilation: windows with gaps are a convolution of each map for itself.
    """
    layer: AveragePooling = place.layer
    settings = _of_pooling(layer, place.shape)
    counts = layer.counts(place.shape)
    if settings.pop("dilations") != (1, 1):
        channels = place.shape[0]
        kernel = np.full((channels, 1, *pair(layer.size, "size")), 1 / layer.area, np.float32)
        inputs = place.x(), place.constant("share", kernel)
        mean = place.emit("Conv", *inputs, **_of_pooling(layer, place.shape), group=channels)
    else:
        mean = place.emit("AveragePool", place.x(), **settings, count_include_pad=1)
    if layer.counted is not None:
        place.emit("Mul", mean, place.constant("seen over counted", (layer.area / counts).astype(np.float32)))


@writes(TrainableSubsampling)
def _trainable_subsampling(place: Place) -> None:
    """A convolution of each map for itself, whose kernel is the same everywhere."""
    layer: TrainableSubsampling = place.layer
    channels, size = place.shape[0], pair(layer.size, "size")
    w = place.writing.arrays[place.node.name]["w"]
    kernel = np.broadcast_to(w[:, None, None, None], (channels, 1, *size))
    inputs = place.x(), place.parameter("w", kernel), place.parameter("b")
    place.emit("Conv", *inputs, group=channels, **_of_pooling(layer, place.shape))


@writes(GlobalAveragePooling)
def _global_average_pooling(place: Place) -> None:
    place.emit("Flatten", place.emit("GlobalAveragePool", place.x()), axis=1)


# --- entry by entry ----------------------------------------------------------------------------------------------


@writes(ScalePixels)
def _scale_pixels(place: Place) -> None:
    layer: ScalePixels = place.layer
    one = not isinstance(layer.low, tuple) and not isinstance(layer.high, tuple)
    shape = () if one else (place.shape[0], *(1,) * (len(place.shape) - 1))
    scale, low = (each.astype(np.float32).reshape(shape) for each in layer.by_channel(1 if one else place.shape[0]))
    place.emit("Add", place.emit("Mul", place.x(), place.constant("scale", scale)), place.constant("low", low))


@writes(Identity)
def _identity(place: Place) -> None:
    place.emit("Identity", place.x())


@writes(ReLU)
def _relu(place: Place) -> None:
    place.emit("Relu", place.x())


@writes(LeakyReLU)
def _leaky_relu(place: Place) -> None:
    layer: LeakyReLU = place.layer
    place.emit("LeakyRelu", place.x(), alpha=float(layer.negative_slope))


@writes(Sigmoid, Tanh)
def _squashing(place: Place) -> None:
    place.emit(type(place.layer).__name__, place.x())


@writes(ScaledTanh)
def _scaled_tanh(place: Place) -> None:
    bent = place.emit("Tanh", place.emit("Mul", place.x(), place.constant("steepness", STEEPNESS)))
    place.emit("Mul", bent, place.constant("amplitude", AMPLITUDE))


@writes(ELU)
def _elu(place: Place) -> None:
    layer: ELU = place.layer
    place.emit("Selu", place.x(), alpha=float(layer.alpha), gamma=float(layer.scale))


@writes(Softplus, HardSwish, Softmax, LogSoftmax)
def _by_name(place: Place) -> None:
    axis = {"axis": 1} if isinstance(place.layer, Softmax | LogSoftmax) else {}
    place.emit(type(place.layer).__name__, place.x(), **axis)


@writes(Clip)
def _clip(place: Place) -> None:
    layer: Clip = place.layer
    limits = (("low", layer.low), ("high", layer.high))
    place.emit("Clip", place.x(), *("" if at is None else place.constant(name, float(at)) for name, at in limits))


@writes(HardSigmoid)
def _hard_sigmoid(place: Place) -> None:
    place.emit("HardSigmoid", place.x(), alpha=float(place.layer.gain), beta=float(place.layer.offset))


@writes(ParametricReLU)
def _parametric_relu(place: Place) -> None:
    place.emit("PRelu", place.x(), place.parameter("a"))


@writes(Affine)
def _affine(place: Place) -> None:
    layer: Affine = place.layer
    y = place.emit("Mul", place.x(), place.parameter("w")) if layer.scale else place.x()
    if layer.shift:
        place.emit("Add", y, place.parameter("b"))


@writes(Pad)
def _pad(place: Place) -> None:
    layer: Pad = place.layer
    top, left, bottom, right = _pads(layer.pads(place.shape))
    pads = place.constant("pads", [0, 0, top, left, 0, 0, bottom, right])
    if layer.mode != "wrap":
        place.emit("Pad", place.x(), pads, place.constant("value", float(layer.value)), mode=layer.mode)
        return
    _, height, width = place.shape  # operators of this version have no such mode
    rows = place.constant("rows", np.arange(-top, height + bottom) % height)
    columns = place.constant("columns", np.arange(-left, width + right) % width)
    place.emit("Gather", place.emit("Gather", place.x(), rows, axis=2), columns, axis=3)


@writes(Reshape)
def _reshape(place: Place) -> None:
    place.emit("Reshape", place.x(), place.constant("shape", [0, *place.layer.shape]))


@writes(Transpose)
def _transpose(place: Place) -> None:
    place.emit("Transpose", place.x(), perm=[0, *(axis + 1 for axis in place.layer.axes)])


@writes(ChannelShuffle)
def _channel_shuffle(place: Place) -> None:
    """Maps as a table of groups, whose rows become its columns."""
    channels, *size = place.shape
    groups = place.layer.groups
    table = place.emit("Reshape", place.x(), place.constant("groups", [0, groups, channels // groups, *size]))
    turned = place.emit("Transpose", table, perm=[0, 2, 1, 3, 4])
    place.emit("Reshape", turned, place.constant("shape", [0, channels, *size]))


@writes(LocalResponseNormalization)
def _local_response_normalization(place: Place) -> None:
    layer: LocalResponseNormalization = place.layer
    settings = {"alpha": float(layer.alpha * layer.size), "beta": float(layer.beta), "bias": float(layer.k)}
    place.emit("LRN", place.x(), size=layer.size, **settings)


@writes(Dropout)
def _dropout(place: Place) -> None:
    layer: Dropout = place.layer
    place.emit("Dropout", place.x(), place.constant("rate", float(layer.rate)))


# --- several inputs ----------------------------------------------------------------------------------------------


@writes(Add)
def _add(place: Place) -> None:
    place.emit("Sum", *(place.x(index) for index in range(len(place.node.inputs))))


@writes(Arithmetic)
def _arithmetic(place: Place) -> None:
    operators = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div"}
    place.emit(operators[place.layer.operation], place.x(0), place.x(1))


@writes(Concatenate)
def _concatenate(place: Place) -> None:
    place.emit("Concat", *(place.x(index) for index in range(len(place.node.inputs))), axis=1)


@writes(HighwayGate)
def _highway_gate(place: Place) -> None:
    """H ⊙ T + x ⊙ (1 - T), as x + T ⊙ (H - x)."""
    h, t, x = (place.x(index) for index in range(3))
    place.emit("Add", x, place.emit("Mul", t, place.emit("Sub", h, x)))


# --- from scores to probabilities, as the loss reads them --------------------------------------------------------


@writes(SoftmaxCrossEntropy)
def _of_softmax_cross_entropy(place: Place) -> None:
    place.emit("Softmax", place.x(), axis=1)


@writes(RadialBasisLoss)
def _of_radial_basis_loss(place: Place) -> None:
    """One more class, the rubbish, which is cut off again."""
    layer: RadialBasisLoss = place.layer
    if layer.rubbish is None:
        place.emit("Softmax", place.x(), axis=1)
        return
    wider = place.emit(
        "Pad", place.x(), place.constant("pads", [0, 0, 0, 1]), place.constant("rubbish", -float(layer.rubbish))
    )
    shares = place.emit("Softmax", wider, axis=1)
    place.emit("Slice", shares, *(place.constant(name, [at]) for name, at in (("from", 0), ("to", -1), ("axis", 1))))


@writes(SquaredError)
def _of_squared_error(place: Place) -> None:
    """Each score's height above the off-target as a share of all."""
    layer: SquaredError = place.layer
    above = place.emit("Relu", place.emit("Sub", place.x(), place.constant("low", float(layer.off_target))))
    height = place.emit("Add", above, place.constant("tiny", float(np.finfo(np.float32).tiny)))
    place.emit("Div", height, place.emit("ReduceSum", height, place.constant("classes", [1]), keepdims=1))
