"""An ONNX model read with suspicion: what it declares is checked before anything is made of it.

Refused by name: data in other files, operators of other domains, functions, control flow, sparse tensors, types other
than numbers. The protobuf itself is parsed by the package onnx, in memory that the file's size bounds; every array that
it declares must be in the file, or be made by folding within `Budget`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.helper import tensor_dtype_to_np_dtype

from rot180.arrays import Array
from rot180.errors import ModelFileError, Rot180Error

DOMAINS = "", "ai.onnx"
CONTROL_FLOW = "If", "Loop", "Scan"
NEWEST_OPSET = 28
MOST_OPERATORS = 20_000
MOST_AXES = 16
LARGEST_FILE = 2**31 - 1  # protobuf's limit
LARGEST_FOLD = 2**28  # values of all arrays together that are computed while a model is read

WHOLE_NUMBERS = [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
TYPES = {getattr(TensorProto, name) for name in ("FLOAT", "DOUBLE", "FLOAT16", "BOOL", *WHOLE_NUMBERS)}
FIELDS: dict[
    int, str
] = {  # where a tensor's numbers are when not in raw_data: see onnx.proto; others are in int32_data
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}


class Operation(NamedTuple):
    """One operator of the model."""

    kind: str
    name: str
    inputs: tuple[str, ...]  # "" where an optional one is left out
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def refuse(self, why: str) -> NoReturn:
        """ModelFileError that names the operator."""
        raise ModelFileError(f"{self}: {why}")

    def __str__(self) -> str:
        return f"operator {self.kind} ({self.name!r})"

    def has(self, index: int) -> bool:
        """Is there an input of this number?"""
        return len(self.inputs) > index and bool(self.inputs[index])

    def whole(self, name: str, default: int | None = None) -> int:
        """An attribute that is a whole number."""
        return int(self._attribute(name, default, int))

    def number(self, name: str, default: float) -> float:
        """An attribute that is a finite number, as people would write the float32 that it is."""
        value = shortest(self._attribute(name, default, (int, float)))
        return value if np.isfinite(value) else self.refuse(f"{name} is {value}")

    def text(self, name: str, default: str) -> str:
        """An attribute that is text."""
        return str(self._attribute(name, default, str))

    def wholes(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """An attribute that is a list of whole numbers."""
        value = self._attribute(name, default, (list, tuple))
        if not all(isinstance(each, int) for each in value):
            self.refuse(f"{name} is {value!r}")
        return tuple(value)

    def _attribute(self, name: str, default: Any, kind: Any) -> Any:
        value = self.attributes.get(name, default)
        if value is None:
            self.refuse(f"the attribute {name} is missing")
        return value if isinstance(value, kind) else self.refuse(f"the attribute {name} is {value!r}")


def shortest(value: float) -> float:
    """The shortest decimal number that is the same float32: 0.1, not 0.10000000149."""
    return float(str(np.float32(value)))


@dataclass
class Budget:
    """How many values may still be computed."""

    left: int = LARGEST_FOLD

    def spend(self, values: int, operation: Operation) -> None:
        """Take so many; ModelFileError where they are too many."""
        self.left -= values
        if self.left < 0:
            operation.refuse(f"it makes the arrays of the model larger than {LARGEST_FOLD:,} values")


@dataclass(frozen=True)
class OnnxModel:
    """What a model is made of."""

    operations: tuple[Operation, ...]  # each after those whose outputs it takes
    constants: Mapping[str, Array]  # initializers
    inputs: Mapping[str, tuple[int | None, ...] | None]  # shapes as declared, None for what is left open
    outputs: tuple[str, ...]
    opset: int
    metadata: Mapping[str, str]


@contextmanager
def suspicion() -> Iterator[None]:
    """Whatever damage makes reading stumble over is a ModelFileError."""
    try:
        yield
    except Rot180Error:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ModelFileError(f"not an ONNX model that rot180 can read ({error})") from error


def read_file(path: Path) -> OnnxModel:
    """The model in a file. Raises ModelFileError where it is missing, too large, damaged or refused."""
    try:
        if not path.is_file():
            raise ModelFileError("there is no such file" if not path.exists() else "this is not a file")
        if path.stat().st_size > LARGEST_FILE:
            raise ModelFileError("it is larger than 2 GiB, and so no ONNX model")
        model = ModelProto.FromString(path.read_bytes())
    except (DecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(f"not an ONNX model ({error})") from error
    except OSError as error:
        raise ModelFileError(f"{error.strerror or error}") from error
    return read_model(model)


def read_model(model: ModelProto) -> OnnxModel:
    """The parts of a model, checked. Raises ModelFileError."""
    graph = model.graph
    if not graph.output:
        raise ModelFileError("not an ONNX model: it has no output")
    opset = _opset(model)
    if len(graph.node) > MOST_OPERATORS:
        raise ModelFileError(f"it has {len(graph.node):,} operators; rot180 takes at most {MOST_OPERATORS:,}")
    if graph.sparse_initializer:
        raise ModelFileError("it has sparse tensors, which rot180 does not read")
    constants = {tensor.name: array_of(tensor) for tensor in graph.initializer}
    inputs = {value.name: _shape_of(value) for value in graph.input if value.name not in constants}
    known = {"", *constants, *inputs}
    operations = []
    for index, node in enumerate(graph.node):
        operation = _operation(node, index)
        for name in operation.inputs:
            if name not in known:
                operation.refuse(f"it takes {name!r}, which nothing before it makes")
        for name in operation.outputs:
            if name and name in known:
                operation.refuse(f"it makes {name!r}, which is there already")
            known.add(name)
        operations.append(operation)
    outputs = tuple(value.name for value in graph.output)
    for name in outputs:
        if name not in known:
            raise ModelFileError(f"nothing makes its output {name!r}")
    metadata = {each.key: each.value for each in model.metadata_props}
    return OnnxModel(tuple(operations), constants, inputs, outputs, opset, metadata)


def _opset(model: ModelProto) -> int:
    if model.functions:
        raise ModelFileError(f"it defines a function ({model.functions[0].name!r}), which rot180 does not read")
    versions = {each.domain: each.version for each in model.opset_import}
    opset = max((versions[domain] for domain in DOMAINS if domain in versions), default=0)
    if not 1 <= opset <= NEWEST_OPSET:
        raise ModelFileError(f"its operators are of version {opset}; rot180 knows 1 to {NEWEST_OPSET}")
    return int(opset)


def _operation(node: NodeProto, index: int) -> Operation:
    name = node.name or next((each for each in node.output if each), f"{node.op_type}{index}")
    operation = Operation(node.op_type, name, tuple(node.input), tuple(node.output), {})
    if node.domain not in DOMAINS:
        operation.refuse(f"its domain is {node.domain!r}; rot180 knows the operators of ONNX itself only")
    if node.op_type in CONTROL_FLOW:
        operation.refuse("rot180 does not read control flow")
    if not node.output or not node.output[0]:
        operation.refuse("it has no output")
    return operation._replace(attributes={each.name: _value(each, operation) for each in node.attribute})


def _value(attribute: AttributeProto, operation: Operation) -> Any:
    match attribute.type:
        case AttributeProto.INT:
            return attribute.i
        case AttributeProto.FLOAT:
            return attribute.f
        case AttributeProto.STRING:
            return attribute.s.decode()
        case AttributeProto.INTS:
            return list(attribute.ints)
        case AttributeProto.FLOATS:
            return list(attribute.floats)
        case AttributeProto.STRINGS:
            return [each.decode() for each in attribute.strings]
        case AttributeProto.TENSOR:
            return array_of(attribute.t)
    return operation.refuse(f"its attribute {attribute.name!r} is of a kind that rot180 does not read")


def array_of(tensor: TensorProto) -> Array:
    """The numbers of a tensor; ModelFileError unless just as many are there as it declares."""
    name = f"the tensor {tensor.name!r}"
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ModelFileError(f"{name} is in another file; rot180 reads models that are in one: save it so")
    if tensor.data_type not in TYPES:
        raise ModelFileError(f"{name} is of a type that rot180 does not read ({tensor.data_type})")
    shape, dtype = tuple(tensor.dims), np.dtype(tensor_dtype_to_np_dtype(tensor.data_type))
    if min(shape, default=0) < 0 or len(shape) > MOST_AXES:
        raise ModelFileError(f"{name} has the shape {shape}")
    if tensor.HasField("raw_data"):
        there, wanted = len(tensor.raw_data), prod(shape) * dtype.itemsize
    else:
        there, wanted = len(getattr(tensor, FIELDS.get(tensor.data_type, "int32_data"))), prod(shape)
    if there != wanted:
        raise ModelFileError(f"{name} declares {shape}, which does not fit the data that it has")
    return np.asarray(numpy_helper.to_array(tensor))


def _shape_of(value: Any) -> tuple[int | None, ...] | None:
    if value.type.WhichOneof("value") not in (None, "tensor_type"):
        raise ModelFileError(f"its input {value.name!r} is not an array")
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
