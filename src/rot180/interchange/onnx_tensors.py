"""The operators that are no layer but algebra of arrays, in NumPy: to fold constants, and for the backend.

Exporters compute shapes with them: Shape, Gather, Concat, Reshape. What may make large arrays of small ones asks the
budget first.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from rot180.arrays import Array, Shape
from rot180.errors import ModelFileError
from rot180.interchange.onnx_file import MOST_AXES, TYPES, Budget, Operation

Inputs: TypeAlias = Sequence[Array | None]
Function: TypeAlias = Callable[[Operation, Inputs, int, Budget], Array]


def compute(operation: Operation, inputs: Inputs, opset: int, budget: Budget) -> Array:
    """The operator's first output. Raises ModelFileError, naming it, where its inputs do not fit it."""
    try:
        with np.errstate(all="ignore"):
            return np.asarray(ALGEBRA[operation.kind](operation, inputs, opset, budget))
    except ModelFileError:
        raise
    except (ValueError, IndexError, TypeError, OverflowError, AttributeError) as error:
        return operation.refuse(f"its inputs do not fit ({error})")


def numbers(operation: Operation, inputs: Inputs, index: int, attribute: str) -> tuple[int, ...] | None:
    """Whole numbers that newer operators take as an input and older ones have as an attribute; None without."""
    if len(inputs) > index and inputs[index] is not None:
        return tuple(int(each) for each in np.ravel(np.asarray(inputs[index])))
    return operation.wholes(attribute) if attribute in operation.attributes else None


def axis_of(operation: Operation, axis: int, axes: int) -> int:
    """The axis counted from the front; ModelFileError where there is none such."""
    if not -axes <= axis < axes:
        operation.refuse(f"there is no axis {axis} of {axes}")
    return axis % axes if axes else 0


def reshaped(operation: Operation, shape: Shape, inputs: Inputs) -> Shape:
    """The shape that a value of this shape has behind Flatten, Reshape, Squeeze or Unsqueeze."""
    match operation.kind:
        case "Flatten":
            axis = operation.whole("axis", 1)
            if not -len(shape) <= axis <= len(shape):
                operation.refuse(f"there is no axis {axis} of {len(shape)}")
            return prod(shape[:axis]), prod(shape[axis:])
        case "Squeeze":
            axes = numbers(operation, inputs, 1, "axes")
            gone = (
                {axis for axis, size in enumerate(shape) if size == 1}
                if axes is None
                else {axis_of(operation, axis, len(shape)) for axis in axes}
            )
            if any(shape[axis] != 1 for axis in gone):
                operation.refuse(f"an axis of {shape} to leave out has not size 1")
            return tuple(size for axis, size in enumerate(shape) if axis not in gone)
        case "Unsqueeze":
            axes = numbers(operation, inputs, 1, "axes") or ()
            rank = len(shape) + len(axes)
            new = {axis_of(operation, axis, rank) for axis in axes}
            if rank > MOST_AXES or len(new) != len(axes):
                operation.refuse(f"{shape} cannot get the axes {axes}")
            old = iter(shape)
            return tuple(1 if axis in new else next(old) for axis in range(rank))
    wanted = numbers(operation, inputs, 1, "shape") or ()
    if len(wanted) > MOST_AXES or min(wanted, default=0) < -1 or wanted.count(-1) > 1:
        operation.refuse(f"{shape} cannot be read as {wanted}")
    if not operation.whole("allowzero", 0):
        wanted = tuple(shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(wanted))
    known = prod(size for size in wanted if size != -1)
    if -1 in wanted and known:
        wanted = tuple(prod(shape) // known if size == -1 else size for size in wanted)
    if prod(wanted) != prod(shape) or -1 in wanted:
        operation.refuse(f"{shape} cannot be read as {wanted}")
    return wanted


def _reshape(operation: Operation, inputs: Inputs, _opset: int, budget: Budget) -> Array:
    (x, *_), shape = inputs, reshaped(operation, np.shape(_first(inputs)), inputs)
    if not np.asarray(x).flags.c_contiguous:
        budget.spend(np.size(_first(inputs)), operation)  # it is copied
    return _first(inputs).reshape(shape)


def _transpose(operation: Operation, inputs: Inputs, _opset: int, _budget: Budget) -> Array:
    x = _first(inputs)
    return x.transpose(operation.wholes("perm", tuple(reversed(range(x.ndim)))))


def _constant(operation: Operation, _inputs: Inputs, _opset: int, _budget: Budget) -> Array:
    types = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
    for name, value in operation.attributes.items():
        if name == "value" and isinstance(value, np.ndarray):
            return value
        if name in types:
            return np.asarray(value, types[name])
    return operation.refuse("its value is missing, or of a kind that rot180 does not read")


def _constant_of_shape(operation: Operation, inputs: Inputs, _opset: int, budget: Budget) -> Array:
    shape = tuple(int(size) for size in np.ravel(_first(inputs)))
    if min(shape, default=0) < 0 or len(shape) > MOST_AXES:
        operation.refuse(f"its shape is {shape}")
    budget.spend(prod(shape), operation)
    value = np.asarray(operation.attributes.get("value", np.zeros(1, np.float32)))
    return np.broadcast_to(value.reshape(1)[0], shape)


def _shape(operation: Operation, inputs: Inputs, _opset: int, _budget: Budget) -> Array:
    return shape_of(operation, np.shape(_first(inputs)))


def shape_of(operation: Operation, shape: Shape) -> Array:
    """What Shape says of a value of this shape."""
    return np.array(shape[operation.whole("start", 0) : operation.whole("end", len(shape))], np.int64)


def _gather(operation: Operation, inputs: Inputs, _opset: int, budget: Budget) -> Array:
    x, indices = _first(inputs), np.asarray(inputs[1])
    axis = axis_of(operation, operation.whole("axis", 0), x.ndim)
    budget.spend(indices.size * x.size // max(x.shape[axis], 1), operation)
    return np.take(x, indices, axis)


def _slice(operation: Operation, inputs: Inputs, _opset: int, _budget: Budget) -> Array:
    x = _first(inputs)
    starts, ends = (numbers(operation, inputs, k + 1, name) or () for k, name in enumerate(("starts", "ends")))
    axes, steps = numbers(operation, inputs, 3, "axes"), numbers(operation, inputs, 4, "steps")
    where = [slice(None)] * x.ndim
    of_axes = zip(axes or range(len(starts)), starts, ends, steps or (1,) * len(starts), strict=True)
    for axis, start, end, step in of_axes:
        size = x.shape[axis]
        if step < 0 and end < -size:  # before the first
            where[axis] = slice(start, None, step)
        else:
            where[axis] = slice(start, end, step)
    return x[tuple(where)]


def _concat(operation: Operation, inputs: Inputs, _opset: int, budget: Budget) -> Array:
    arrays = [np.asarray(each) for each in inputs]
    budget.spend(sum(each.size for each in arrays), operation)
    return np.concatenate(arrays, axis=operation.whole("axis", 1))


def _expand(operation: Operation, inputs: Inputs, _opset: int, budget: Budget) -> Array:
    x, sizes = _first(inputs), tuple(int(size) for size in np.ravel(np.asarray(inputs[1])))
    if min(sizes, default=0) < 0 or len(sizes) > MOST_AXES:
        operation.refuse(f"its shape is {sizes}")
    shape = np.broadcast_shapes(x.shape, sizes)
    budget.spend(prod(shape), operation)
    return np.broadcast_to(x, shape)


def pads_of(operation: Operation, inputs: Inputs, axes: int) -> tuple[list[tuple[int, int]], float, str]:
    """Pad's numbers for each axis, its value and its mode."""
    both = numbers(operation, inputs, 1, "pads") or operation.wholes("paddings", ())
    padded = numbers(operation, inputs, 3, "axes") or tuple(range(axes))
    if len(both) != 2 * len(padded):
        operation.refuse(f"it has {len(both)} numbers for {len(padded)} axes")
    pads = [(0, 0)] * axes
    for axis, before, behind in zip(padded, both, both[len(padded) :], strict=False):
        pads[axis_of(operation, axis, axes)] = before, behind
    given = inputs[2] if len(inputs) > 2 else None
    value = operation.number("value", 0.0) if given is None else float(np.ravel(given)[0])
    return pads, value, operation.text("mode", "constant")


def _pad(operation: Operation, inputs: Inputs, _opset: int, budget: Budget) -> Array:
    x = _first(inputs)
    pads, value, mode = pads_of(operation, inputs, x.ndim)
    if mode not in ("constant", "edge", "reflect", "wrap"):
        operation.refuse(f"its mode is {mode!r}")
    cut = tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(pads, x.shape, strict=True))
    pads = [(max(a, 0), max(b, 0)) for a, b in pads]
    budget.spend(prod(size + a + b for (a, b), size in zip(pads, x.shape, strict=True)), operation)
    settings: dict[str, Any] = {"constant_values": value} if mode == "constant" else {}
    return np.pad(x[cut], pads, mode=mode, **settings)  # type: ignore[call-overload]


def _cast(operation: Operation, inputs: Inputs, _opset: int, budget: Budget) -> Array:
    to = operation.whole("to", TensorProto.FLOAT)
    if to not in TYPES:
        operation.refuse(f"it casts to a type that rot180 does not read ({to})")
    budget.spend(_first(inputs).size, operation)
    return _first(inputs).astype(tensor_dtype_to_np_dtype(to))


def _matrix_product(operation: Operation, inputs: Inputs, _opset: int, budget: Budget) -> Array:
    a, b = np.asarray(inputs[0]), np.asarray(inputs[1])
    budget.spend(prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])) * a.size * b.size, operation)  # the work
    return np.asarray(a @ b)


def _reduced(function: Callable[..., Array]) -> Function:
    def reduced(operation: Operation, inputs: Inputs, _opset: int, _budget: Budget) -> Array:
        x = _first(inputs)
        axes = numbers(operation, inputs, 1, "axes")
        if not axes and operation.whole("noop_with_empty_axes", 0):
            return x
        keepdims = bool(operation.whole("keepdims", 1))
        return np.asarray(function(x, axis=axes or None, keepdims=keepdims)).astype(x.dtype)

    return reduced


def _entry_by_entry(function: Callable[[Array], Array]) -> Function:
    def applied(operation: Operation, inputs: Inputs, _opset: int, budget: Budget) -> Array:
        budget.spend(_first(inputs).size, operation)
        return np.asarray(function(_first(inputs))).astype(_first(inputs).dtype)

    return applied


def _folded(function: Callable[[Array, Array], Array]) -> Function:
    def folded(operation: Operation, inputs: Inputs, _opset: int, budget: Budget) -> Array:
        result, *others = aligned(operation, [np.asarray(each) for each in inputs])
        for other in others:
            budget.spend(prod(np.broadcast_shapes(result.shape, other.shape)), operation)
            result = np.asarray(function(result, other)).astype(result.dtype)
        return result

    return folded


def aligned(operation: Operation, inputs: list[Array]) -> list[Array]:
    """As they are; before version 7 the second input's axes may stand anywhere: `axis` says where they begin."""
    if not operation.whole("broadcast", 0) or "axis" not in operation.attributes or len(inputs) != 2:
        return inputs
    a, b = inputs
    behind = a.ndim - axis_of(operation, operation.whole("axis"), a.ndim) - b.ndim
    return [a, b.reshape(*b.shape, *(1,) * max(behind, 0))]


def divide(a: Array, b: Array) -> Array:
    """Of whole numbers the part before the point, as C has it."""
    if np.result_type(a, b).kind == "f":
        return np.asarray(a / b)
    quotient = np.abs(a) // np.maximum(np.abs(b), 1)
    return np.asarray(quotient * np.sign(a) * np.sign(b))


def _first(inputs: Inputs) -> Array:
    return np.asarray(inputs[0])


ALGEBRA: dict[str, Function] = {
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Identity": lambda _operation, inputs, _opset, _budget: _first(inputs),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Shape": _shape,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Expand": _expand,
    "Pad": _pad,
    "Cast": _cast,
    "MatMul": _matrix_product,
    "Add": _folded(np.add),
    "Sum": _folded(np.add),
    "Sub": _folded(np.subtract),
    "Mul": _folded(np.multiply),
    "Div": _folded(divide),
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    "ReduceMean": _reduced(np.mean),
    "ReduceSum": _reduced(np.sum),
    "ReduceMax": _reduced(np.max),
    "ReduceProd": _reduced(np.prod),
    "Neg": _entry_by_entry(np.negative),
    "Abs": _entry_by_entry(np.abs),
    "Sqrt": _entry_by_entry(np.sqrt),
    "Exp": _entry_by_entry(np.exp),
    "Log": _entry_by_entry(np.log),
}
