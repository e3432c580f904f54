"""ONNX operators one by one on arrays: rot180's layers where an operator is one, NumPy's algebra elsewhere.

For the backend, whose models may be a single operator on values of any shape. Networks are read as graphs instead.
"""

from collections.abc import Iterable, MutableMapping

import numpy as np

from rot180.arrays import Array
from rot180.errors import ModelFileError, Rot180Error
from rot180.interchange.onnx_file import Budget, Operation
from rot180.interchange.onnx_operators import TRANSLATORS, Call, Steps, windows
from rot180.interchange.onnx_tensors import ALGEBRA, Inputs, compute
from rot180.layers import BatchNormalization, MaxPooling

OF_IMAGES = {
    *("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
    *("BatchNormalization", "LRN", "Gemm"),
}
"""Operators whose first axis is that of the images; to the others all axes are the same."""


def knows(operation: Operation) -> bool:
    """Can it be run, as far as its kind tells?"""
    return operation.kind in ALGEBRA or operation.kind in TRANSLATORS


def interpret(
    operations: Iterable[Operation], values: MutableMapping[str, Array], opset: int, budget: Budget | None = None
) -> None:
    """Run the operators in their order; `values` gets their outputs. Raises ModelFileError."""
    budget = budget or Budget()
    for operation in operations:
        outputs = apply(operation, [values[name] if name else None for name in operation.inputs], opset, budget)
        wanted = [name for name in operation.outputs if name]
        if len(wanted) > len(outputs):
            operation.refuse("rot180 does not compute its further outputs")
        values.update(zip(operation.outputs, outputs, strict=False))


def apply(operation: Operation, inputs: Inputs, opset: int, budget: Budget) -> tuple[Array, ...]:
    """One operator's outputs."""
    try:
        if operation.kind == "BatchNormalization" and operation.whole("training_mode", 0):
            return _normalized_in_training(operation, inputs)
        if operation.kind == "MaxPool" and len(operation.outputs) > 1:
            return _pooled_with_places(operation, inputs, opset)
        if operation.kind == "Gemm":
            return (_general_product(operation, inputs, opset),)
        if operation.kind in ALGEBRA:
            return (compute(operation, inputs, opset, budget),)
        if operation.kind not in TRANSLATORS:
            operation.refuse("rot180 does not have it")
        y = _through_layers(operation, inputs, opset)
        return (y, np.ones(y.shape, bool)) if operation.kind == "Dropout" else (y,)
    except ModelFileError:
        raise
    except (Rot180Error, ValueError, IndexError, TypeError, ArithmeticError) as error:
        return operation.refuse(str(error))


def _through_layers(operation: Operation, inputs: Inputs, opset: int) -> Array:
    """The layers that the operator is, in the type that came or, for whole and half numbers, in a wider one."""
    x = _data(inputs)
    if not x.ndim:
        return _through_layers(operation, [x.reshape(1), *inputs[1:]], opset).reshape(())
    images = operation.kind in OF_IMAGES
    batch = x if images else x[None]
    steps = TRANSLATORS[operation.kind](Call(operation, batch.shape[1:], inputs, opset, images))
    y = run(steps, batch.astype(_float_of(x.dtype)))
    return (y if images else y[0]).astype(x.dtype)


def run(steps: Steps, x: Array) -> Array:
    """A batch through layers, in inference."""
    images = len(x)
    for layer, takes, arrays in steps.layers:
        layer.output_shape(takes)  # does it fit?
        parameters = {name: array.astype(x.dtype) for name, array in arrays.items()}
        x, _ = layer.forward(x.reshape(images, *takes), parameters)
    return x.reshape(images, *steps.gives)


def _float_of(dtype: "np.dtype[np.generic]") -> type[np.floating]:
    """What layers compute in for values of this type: whole numbers below 2^53 stay exact."""
    return np.float32 if dtype in (np.float16, np.float32) else np.float64


def _data(inputs: Inputs) -> Array:
    return np.asarray(inputs[0])


def _general_product(operation: Operation, inputs: Inputs, opset: int) -> Array:
    """Gemm with everything: its first matrix transposed, a bias for each image."""
    x, attributes = _data(inputs), dict(operation.attributes)
    if attributes.pop("transA", 0):
        x = x.T
    bias = inputs[2] if len(inputs) > 2 else None
    if bias is None or bias.ndim < 2 or len(bias) == 1:
        return _through_layers(operation._replace(attributes=attributes), [x, *inputs[1:]], opset)
    product = operation._replace(attributes=attributes, inputs=operation.inputs[:2])
    return _through_layers(product, [x, inputs[1]], opset) + bias * bias.dtype.type(operation.number("beta", 1.0))


def _normalized_in_training(operation: Operation, inputs: Inputs) -> tuple[Array, ...]:
    """Normalized by the batch's own statistics; ONNX moves the running variance towards the biased one."""
    x, gamma, beta, *running = (np.asarray(each) for each in inputs)
    axes = (0, *range(2, x.ndim))
    mean, variance = x.mean(axis=axes), x.var(axis=axes)
    layer = BatchNormalization(operation.number("epsilon", 1e-5))
    y, _ = layer.forward(x, {"gamma": gamma, "beta": beta, "running_mean": mean, "running_variance": variance})
    kept = operation.number("momentum", 0.9)
    moved = (kept * old + (1 - kept) * new for old, new in zip(running, (mean, variance), strict=True))
    return y.astype(x.dtype), *(each.astype(x.dtype) for each in moved)


def _pooled_with_places(operation: Operation, inputs: Inputs, opset: int) -> tuple[Array, ...]:
    """Max pooling, and where in x each maximum stands; storage_order 1 counts the columns first."""
    x = _data(inputs)
    steps = TRANSLATORS["MaxPool"](Call(operation, x.shape[1:], inputs, opset))
    shape = windows(Call(operation, x.shape[1:], inputs, opset), operation.wholes("kernel_shape"))
    layer = steps.layers[0].layer
    assert isinstance(layer, MaxPooling)  # noqa: S101 - MaxPool is no other
    y, saved = layer.forward(x.reshape(len(x), *shape.takes).astype(_float_of(x.dtype)), {})
    u, v = np.divmod(saved.winner, shape.size[1])
    rows = np.arange(y.shape[2])[:, None] * shape.stride[0] + u * shape.dilation[0] - shape.pads[0][0]
    columns = np.arange(y.shape[3]) * shape.stride[1] + v * shape.dilation[1] - shape.pads[1][0]
    _, height, width = shape.takes
    by_columns = operation.whole("storage_order", 0)
    places = rows + columns * height if by_columns else rows * width + columns
    first = np.arange(len(x) * y.shape[1]).reshape(len(x), -1, 1, 1) * height * width
    result = len(x), *steps.gives
    return y.reshape(result).astype(x.dtype), (first + places).reshape(result)
