"""Which layers an ONNX operator is: the table that the reader and the backend share.

A translator takes the operator, the shape of one image's value, and the constants behind it. It gives the layers, in
their order, with their parameters. ONNX keeps axes of size 1 that rot180 drops (1x1 maps behind a global pooling), so
each layer says as what shape it takes its input; the values are the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np
from onnx import TensorProto

from rot180.arrays import Array, Pair, Shape
from rot180.convolve import Pads
from rot180.interchange.onnx_file import Operation, shortest
from rot180.interchange.onnx_tensors import axis_of, numbers, pads_of
from rot180.layers import (
    ELU,
    Affine,
    AveragePooling,
    BatchNormalization,
    ChannelShuffle,
    Clip,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    HardSigmoid,
    HardSwish,
    Layer,
    LeakyReLU,
    LocalResponseNormalization,
    LogSoftmax,
    MaxPooling,
    Pad,
    ParametricReLU,
    ReLU,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    Transpose,
)
from rot180.layers.activations import SELU_ALPHA, SELU_SCALE


class Step(NamedTuple):
    """A layer with its parameters and statistics, and the shape of one image's input as it takes it."""

    layer: Layer
    takes: Shape
    arrays: dict[str, Array]


class Steps(NamedTuple):
    """Layers one after the other, and the shape of one image's output as ONNX sees it."""

    layers: list[Step]
    gives: Shape


@dataclass(frozen=True)
class Call:
    """An operator applied to a value."""

    operation: Operation
    x: Shape  # of one image's value
    constants: Sequence[Array | None]  # the operator's inputs; None for x and for what is left out
    opset: int
    images: bool = True  # does the value have an axis of images before those of x?

    def axis(self, axis: int) -> int:
        """An axis as ONNX counts it, as an axis of x."""
        axis = axis_of(self.operation, axis, len(self.x) + self.images) - self.images
        return axis if axis >= 0 else self.operation.refuse("it works across the images of a batch")

    def constant(self, index: int) -> Array:
        """An input that must be known."""
        value = self.constants[index] if self.operation.has(index) else None
        return self.operation.refuse(f"its input {index} is no constant") if value is None else value

    def optional(self, index: int) -> Array | None:
        """An input that may be left out, but must be known."""
        return self.constant(index) if self.operation.has(index) else None

    def single(self, layer: Layer, arrays: dict[str, Array] | None = None) -> Steps:
        """One layer, which keeps the shape."""
        return Steps([Step(layer, self.x, arrays or {})], self.x)


Translator: TypeAlias = Callable[[Call], Steps]


def broadcast(call: Call, array: Array) -> Array:
    """A constant with as many axes as x, each of its size or of 1."""
    axis = call.operation.attributes.get("axis") if call.operation.attributes.get("broadcast") else None
    if axis is not None:  # before version 7
        behind = len(call.x) - call.axis(call.operation.whole("axis")) - array.ndim
        array = array.reshape(*array.shape, *(1,) * max(behind, 0))
    if array.ndim == len(call.x) + 1 and array.shape[0] == 1 and call.images:
        array = array[0]
    shape = (1,) * (len(call.x) - array.ndim) + array.shape
    if len(shape) != len(call.x) or any(size not in (1, of_x) for size, of_x in zip(shape, call.x, strict=True)):
        call.operation.refuse(f"a constant of {array.shape} does not fit a value of {call.x}")
    return array.reshape(shape)


# --- windows -----------------------------------------------------------------------------------------------------


class Windows(NamedTuple):
    """How windows move over maps, always of two dimensions: a signal is a map of one row."""

    takes: Shape
    size: Pair
    stride: Pair
    dilation: Pair
    pads: Pads  # as declared
    added: Pads  # and what rounding the size up adds at the end

    @property
    def padding(self) -> Pads:
        """All of it."""
        (t, b), (le, r) = self.pads
        (_, below), (_, right) = self.added
        return (t, b + below), (le, r + right)

    def gives(self, filters: int, axes: int) -> Shape:
        """The shape that comes out, with as many axes as x has."""
        places = (
            (size + sum(pads) - dilation * (taps - 1) - 1) // stride + 1
            for size, pads, dilation, taps, stride in zip(
                self.takes[1:], self.padding, self.dilation, self.size, self.stride, strict=True
            )
        )
        return filters, *list(places)[-(axes - 1) :]


def windows(call: Call, kernel: Sequence[int]) -> Windows:
    """The settings that convolutions and pooling share."""
    operation, axes = call.operation, len(call.x) - 1
    if axes not in (1, 2) or len(kernel) != axes:
        operation.refuse(f"windows of {len(kernel)} dimensions on values of {call.x}; rot180 has maps of one or two")
    ones = (1,) * axes
    strides, dilations = operation.wholes("strides", ones), operation.wholes("dilations", ones)
    pads = operation.wholes("pads", (0,) * (2 * axes))
    if len(strides) != axes or len(dilations) != axes or len(pads) != 2 * axes:
        operation.refuse(f"strides {strides}, dilations {dilations} and pads {pads} do not fit a window of {kernel}")
    if min(*strides, *dilations, *kernel) < 1 or min(pads) < 0:
        operation.refuse(f"strides {strides}, dilations {dilations}, pads {pads} or window {kernel} are too small")
    automatic, up = operation.text("auto_pad", "NOTSET"), operation.whole("ceil_mode", 0)
    sides, added = [], []
    for axis in range(axes):
        size, stride, extent = call.x[1 + axis], strides[axis], dilations[axis] * (kernel[axis] - 1) + 1
        before, behind, more = pads[axis], pads[axes + axis], 0
        if automatic.startswith("SAME"):
            both = max((-(-size // stride) - 1) * stride + extent - size, 0)
            before = both - both // 2 if automatic == "SAME_LOWER" else both // 2
            behind = both - before
        elif automatic == "VALID":
            before = behind = 0
        room = size + before + behind - extent
        places = -(-room // stride) + 1
        if up and (places - 1) * stride < size + before:  # no window begins behind the map
            more = max((places - 1) * stride - room, 0)
        sides.append((before, behind))
        added.append((0, more))

    def two(values: Sequence[int]) -> Pair:
        return (1, values[0]) if axes == 1 else (values[0], values[1])

    def both_ways(values: list[Pair]) -> Pads:
        return ((0, 0), values[0]) if axes == 1 else (values[0], values[1])

    takes = call.x if axes == 2 else (call.x[0], 1, call.x[1])
    return Windows(takes, two(kernel), two(strides), two(dilations), both_ways(sides), both_ways(added))


def _convolution(call: Call) -> Steps:
    w, b = call.constant(1), call.optional(2)
    if w.ndim < 3 or w.ndim - 1 != len(call.x):
        call.operation.refuse(f"weights of {w.shape} do not fit a value of {call.x}")
    shape, groups = windows(call, w.shape[2:]), call.operation.whole("group", 1)
    if groups < 1 or len(w) % groups or w.shape[1] * groups != call.x[0] or (b is not None and b.shape != w.shape[:1]):
        call.operation.refuse(f"weights of {w.shape} in {groups} groups do not fit a value of {call.x}")
    layer = Convolution(
        len(w),
        shape.size,
        shape.stride,
        plain_padding(shape.padding),
        shape.dilation,
        groups,
        bias=b is not None,
        remainder="floor",
    )
    arrays = {"w": w.reshape(len(w), -1, *shape.size), **({} if b is None else {"b": b})}
    return Steps([Step(layer, shape.takes, arrays)], shape.gives(len(w), len(call.x)))


def plain_padding(pads: Pads) -> int | Pads:
    """One number where all four are the same."""
    return pads[0][0] if len({*pads[0], *pads[1]}) == 1 else pads


def _max_pooling(call: Call) -> Steps:
    shape = windows(call, call.operation.wholes("kernel_shape"))
    layer = MaxPooling(shape.size, shape.stride, plain_padding(shape.padding), "floor", shape.dilation)
    return Steps([Step(layer, shape.takes, {})], shape.gives(call.x[0], len(call.x)))


def _average_pooling(call: Call) -> Steps:
    """Padding counts where the operator says so; what rounding the size up adds never does."""
    shape = windows(call, call.operation.wholes("kernel_shape"))
    counted = shape.pads if call.operation.whole("count_include_pad", 0) else ((0, 0), (0, 0))
    all_counts = counted == shape.padding
    layer = AveragePooling(
        shape.size,
        shape.stride,
        plain_padding(shape.padding),
        "floor",
        shape.dilation,
        counted=None if all_counts else plain_padding(counted),
    )
    return Steps([Step(layer, shape.takes, {})], shape.gives(call.x[0], len(call.x)))


def _whole_maps(call: Call) -> tuple[Shape, Shape]:
    """(C, H, W) of the whole maps, and the shape with an axis of size 1 for each of theirs."""
    if len(call.x) < 2:
        call.operation.refuse(f"a value of {call.x} has no maps")
    height, width = (call.x[1], prod(call.x[2:])) if len(call.x) > 2 else (1, call.x[1])
    return (call.x[0], height, width), (call.x[0], *(1,) * (len(call.x) - 1))


def _global_average_pooling(call: Call) -> Steps:
    takes, gives = _whole_maps(call)
    return Steps([Step(GlobalAveragePooling(), takes, {})], gives)


def _global_max_pooling(call: Call) -> Steps:
    """A window as large as the map."""
    takes, gives = _whole_maps(call)
    return Steps([Step(MaxPooling((takes[1], takes[2])), takes, {})], gives)


def _mean(call: Call) -> Steps:
    """Over the rows and columns: global average pooling."""
    axes = numbers(call.operation, call.constants, 1, "axes") or ()
    if sorted(call.axis(axis) for axis in axes) != list(range(1, len(call.x))):
        call.operation.refuse("rot180 has means over whole maps only")
    takes, gives = _whole_maps(call)
    keep = call.operation.whole("keepdims", 1)
    return Steps([Step(GlobalAveragePooling(), takes, {})], gives if keep else gives[:1])


# --- weights -----------------------------------------------------------------------------------------------------


def _dense(call: Call) -> Steps:
    operation = call.operation
    if operation.whole("transA", 0):
        operation.refuse("it takes its first matrix transposed")
    w = call.constant(1)
    w = w if operation.whole("transB", 0) else w.T
    alpha, beta, c = operation.number("alpha", 1.0), operation.number("beta", 1.0), call.optional(2)
    arrays = {"w": w if alpha == 1 else w * w.dtype.type(alpha)}
    if c is not None:
        if c.size not in (1, len(w)) or c.shape[-1:] not in ((), (1,), (len(w),)):
            operation.refuse(f"a bias of {c.shape} is not one for each output")
        arrays["b"] = np.broadcast_to(c.ravel() if beta == 1 else c.ravel() * c.dtype.type(beta), (len(w),))
    return _product(call, arrays)


def _matrix_product(call: Call) -> Steps:
    return _product(call, {"w": call.constant(1).T})


def _product(call: Call, arrays: dict[str, Array]) -> Steps:
    w = arrays["w"]
    if w.ndim != 2 or w.shape[1:] != call.x:
        call.operation.refuse(f"a matrix of {w.shape[::-1]} does not fit a value of {call.x}")
    return Steps([Step(Dense(len(w), bias="b" in arrays), call.x, arrays)], (len(w),))


def _batch_normalization(call: Call) -> Steps:
    operation = call.operation
    if operation.whole("training_mode", 0) or not operation.whole("spatial", 1):
        operation.refuse("it is in training, or normalizes each pixel by itself; rot180 reads neither")
    names = ("gamma", "beta", "running_mean", "running_variance")
    arrays = {name: call.constant(index) for index, name in enumerate(names, start=1)}
    if any(array.shape != call.x[:1] for array in arrays.values()):
        operation.refuse(f"its parameters do not fit a value of {call.x}")
    momentum = shortest(1 - operation.number("momentum", 0.9))
    momentum = momentum if 0 < momentum <= 1 else BatchNormalization.momentum
    return call.single(BatchNormalization(operation.number("epsilon", 1e-5), momentum), arrays)


def _parametric_relu(call: Call) -> Steps:
    a = call.constant(1)
    if call.opset < 7 and a.ndim == 1:  # then a list had a slope for each map
        a = a.reshape(-1, *(1,) * (len(call.x) + call.images - 2))
    a = broadcast(call, a)
    return call.single(ParametricReLU(a.shape), {"a": a})


def affine(call: Call, constant: Array, constant_first: bool) -> Steps:
    """Add, Sub, Mul or Div of a value and a constant."""
    c = broadcast(call, constant)
    match call.operation.kind:
        case "Mul":
            arrays = {"w": c}
        case "Div" if not constant_first:
            arrays = {"w": 1 / c}
        case "Add" | "Sum":
            arrays = {"b": c}
        case "Sub":
            arrays = {"w": np.full(c.shape, -1, c.dtype), "b": c} if constant_first else {"b": -c}
        case _:
            call.operation.refuse("rot180 does not divide constants by values")
    return call.single(Affine(c.shape, scale="w" in arrays, shift="b" in arrays), arrays)


# --- entry by entry ----------------------------------------------------------------------------------------------


def _activation(make: Callable[[Operation], Layer]) -> Translator:
    return lambda call: call.single(make(call.operation))


def _clip(call: Call) -> Steps:
    limits = []
    for index, name in enumerate(("min", "max"), start=1):
        value = call.optional(index)
        limit = call.operation.attributes.get(name) if value is None else np.ravel(value)[0]
        known = isinstance(limit, int | float | np.number) and abs(float(limit)) < float(np.finfo(np.float32).max)
        limits.append(shortest(float(limit)) if known else None)  # type: ignore[arg-type]
    return call.single(Clip(*limits))


def _softmax(call: Call) -> Steps:
    """Before version 13 the axes from `axis` on were one."""
    layer = Softmax() if call.operation.kind == "Softmax" else LogSoftmax()
    axis = call.axis(call.operation.whole("axis", -1 if call.opset >= 13 else 1))
    if call.opset < 13:
        before, classes, behind = prod(call.x[:axis]), prod(call.x[axis:]), 1
    else:
        before, classes, behind = prod(call.x[:axis]), call.x[axis], prod(call.x[axis + 1 :])
    if before == 1:
        return Steps([Step(layer, (classes,) if behind == 1 else (classes, 1, behind), {})], call.x)
    return Steps(  # the layer works along the first axis
        [
            Step(Transpose((1, 0, 2)), (before, classes, behind), {}),
            Step(layer, (classes, before, behind), {}),
            Step(Transpose((1, 0, 2)), (classes, before, behind), {}),
        ],
        call.x,
    )


def _local_response_normalization(call: Call) -> Steps:
    operation = call.operation
    size = operation.whole("size")
    settings = {"beta": operation.number("beta", 0.75), "k": operation.number("bias", 1.0)}
    alpha = operation.number("alpha", 1e-4) / max(size, 1)
    return call.single(LocalResponseNormalization(size, alpha, **settings))


def _dropout(call: Call) -> Steps:
    rate, training = call.optional(1), call.optional(2)
    rate = call.operation.number("ratio", 0.5) if rate is None else float(np.ravel(rate)[0])  # type: ignore[assignment]
    trains = training is not None and bool(np.ravel(training)[0])
    if (trains or call.operation.whole("is_test", 1) == 0) and rate != 0:
        call.operation.refuse("it is in training; its chance is another generator's")
    return call.single(Dropout(float(rate) if 0 <= float(rate) < 1 else 0.5))  # type: ignore[arg-type]


def _pad(call: Call) -> Steps:
    """Around the rows and columns only."""
    operation, axes = call.operation, len(call.x) + call.images
    pads, value, mode = pads_of(operation, call.constants, axes)
    around = len(call.x) - 1
    if around not in (1, 2) or any(sum(map(abs, sides)) for sides in pads[: axes - around]):
        operation.refuse("rot180 pads rows and columns only")
    sides = pads[axes - around :]
    padding = ((0, 0), sides[0]) if around == 1 else (sides[0], sides[1])
    takes = (call.x[0], 1, call.x[1]) if around == 1 else call.x
    layer = Pad(padding, value, mode)  # type: ignore[arg-type]
    gives = call.x[0], *(size + sum(of_axis) for size, of_axis in zip(call.x[1:], sides, strict=True))
    return Steps([Step(layer, takes, {})], gives)


def _cast(call: Call) -> Steps:
    if call.operation.whole("to", TensorProto.FLOAT) not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        call.operation.refuse("rot180 computes in floating point only")
    return Steps([], call.x)


def _transpose(call: Call) -> Steps:
    """Where only axes of size 1 move, nothing happens; two exchanged groups of maps are a shuffle of channels."""
    axes = call.operation.wholes("perm", tuple(reversed(range(len(call.x) + call.images))))
    if sorted(axes) != list(range(len(call.x) + call.images)) or (call.images and axes[0] != 0):
        call.operation.refuse(f"rot180 does not exchange the axes {axes} of a batch")
    axes = tuple(axis - call.images for axis in axes[call.images :])
    gives = tuple(call.x[axis] for axis in axes)
    moving = [axis for axis in axes if call.x[axis] > 1]
    if moving == sorted(moving):
        return Steps([], gives)
    if axes == (1, 0, 2, 3):
        return Steps([Step(ChannelShuffle(call.x[0]), (call.x[0] * call.x[1], *call.x[2:]), {})], gives)
    return Steps([Step(Transpose(axes), call.x, {})], gives)


TRANSLATORS: dict[str, Translator] = {
    "Conv": _convolution,
    "MaxPool": _max_pooling,
    "AveragePool": _average_pooling,
    "GlobalAveragePool": _global_average_pooling,
    "GlobalMaxPool": _global_max_pooling,
    "ReduceMean": _mean,
    "Gemm": _dense,
    "MatMul": _matrix_product,
    "BatchNormalization": _batch_normalization,
    "LRN": _local_response_normalization,
    "PRelu": _parametric_relu,
    "Relu": _activation(lambda _: ReLU()),
    "LeakyRelu": _activation(lambda operation: LeakyReLU(operation.number("alpha", 0.01))),
    "Elu": _activation(lambda operation: ELU(operation.number("alpha", 1.0))),
    "Selu": _activation(lambda o: ELU(o.number("alpha", SELU_ALPHA), o.number("gamma", SELU_SCALE))),
    "Sigmoid": _activation(lambda _: Sigmoid()),
    "HardSigmoid": _activation(lambda o: HardSigmoid(o.number("alpha", 0.2), o.number("beta", 0.5))),
    "HardSwish": _activation(lambda _: HardSwish()),
    "Tanh": _activation(lambda _: Tanh()),
    "Softplus": _activation(lambda _: Softplus()),
    "Clip": _clip,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Dropout": _dropout,
    "Pad": _pad,
    "Transpose": _transpose,
    "Identity": lambda call: Steps([], call.x),
    "Cast": _cast,
}
"""Operators of one value and constants."""

RESHAPES = "Flatten", "Reshape", "Squeeze", "Unsqueeze"
ARITHMETIC = {"Add": "add", "Sum": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide"}
