"""Writes the tables of docs/onnx.md: what is written, what is read, what is refused and in which words.

python docs/onnx_tables.py
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, helper, numpy_helper

from rot180 import Graph, Network, Node
from rot180.arrays import Array
from rot180.errors import ModelFileError
from rot180.gradient_check import EXAMPLES
from rot180.graph import IMAGE, LABEL
from rot180.interchange import onnx_writer
from rot180.interchange.onnx_file import read_model
from rot180.interchange.onnx_operators import ARITHMETIC, RESHAPES, TRANSLATORS
from rot180.interchange.onnx_reader import translate
from rot180.interchange.onnx_tensors import ALGEBRA
from rot180.layers import Arithmetic, Dense, Identity, Layer, Loss, ReLU, ScalePixels, SoftmaxCrossEntropy

PAGE = Path(__file__).with_name("onnx.md")
Nodes = list[tuple[str, str, str, dict[str, Any]]]  # operator, inputs, output, attributes


def model(nodes: Nodes, constants: Mapping[str, Any], shape: tuple[int | str, ...]) -> ModelProto:
    """From the image x, with constants by name, to the last operator's output."""
    made = [helper.make_node(kind, inputs.split(), [output], **more) for kind, inputs, output, more in nodes]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, [None])
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(made, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ones(*shape: int) -> Array:
    """Weights."""
    return np.ones(shape, np.float32)


def layers_of(graph: Graph) -> list[str]:
    """The names of its layers, without what stands around an example."""
    return [type(node.layer).__name__ for node in graph if node.name not in ("out", "loss")]


# --- written -----------------------------------------------------------------------------------------------------


def around(layer: Layer, shape: Any) -> Graph:
    """A network with the layer in it: behind the images, in front of a dense layer; a loss at its end."""
    if isinstance(layer, Loss):
        heads = [Node(f"head{k}", Dense(shape[0][0]), (IMAGE,)) for k in range(layer.heads)]
        return Graph([*heads, Node("loss", layer, (*(node.name for node in heads), LABEL))], (6,))
    shapes = shape if layer.several_inputs else (shape,)
    front = Identity() if isinstance(layer, ScalePixels) else ReLU()
    inputs = [Node(f"in{k}", front, (IMAGE,)) for k in range(len(shapes))]
    nodes = [*inputs, Node("layer", layer, tuple(node.name for node in inputs)), Node("out", Dense(3), ("layer",))]
    return Graph([*nodes, Node("loss", SoftmaxCrossEntropy(), ("out", LABEL))], shapes[0])


def written() -> Iterable[tuple[str, str, str]]:
    """(layer, its operators, the layers that they are read as): every way that EXAMPLES show."""
    ways: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for layer, shape in EXAMPLES:
        if isinstance(layer, Arithmetic) and len(set(shape)) > 1:
            continue
        shapes = (shape[0],) * len(shape) if layer.several_inputs and not isinstance(layer, Loss) else shape
        network = Network(around(layer, shapes), engine="reference")
        arrays: dict[str, dict[str, Array]] = {}
        for layout, vector in (
            (network.layout, network.parameters),
            (network.statistics_layout, network.statistics),
        ):
            for node, named in layout.views(vector).items():
                arrays.setdefault(node, {}).update(named)
        made = onnx_writer.model(network.graph, arrays, ())
        loss = isinstance(layer, Loss)
        mine = [each for each in made.graph.node if each.name.startswith("probabilities" if loss else "layer")]
        operators, back = ways.setdefault(type(layer).__name__, ({}, {}))
        operators[", ".join(f"`{each.op_type}`" for each in mine)] = None
        back[read_back(made, loss)] = None
    for name, (operators, back) in ways.items():
        yield f"`{name}`", "; or ".join(operators), "; or ".join(back)


def read_back(made: ModelProto, loss: bool) -> str:
    """The layers that the example's operators become."""
    try:
        graph = translate(read_model(made)).graph
    except ModelFileError:
        return "not read"
    if loss:
        return f"`{type(graph.loss).__name__}`"
    names = [type(node.layer).__name__ for node in graph if not node.name.startswith("in")][:-2]
    return ", ".join(f"`{name}`" for name in names) or "nothing"


# --- read --------------------------------------------------------------------------------------------------------

MAPS = "N", 4, 6, 5
READ: dict[str, tuple[tuple[int | str, ...], tuple[Any, ...], dict[str, Any]]] = {
    # operator: the image's shape, constants, attributes
    "Conv": (MAPS, (ones(2, 4, 3, 3),), {}),
    "MaxPool": (MAPS, (), {"kernel_shape": [2, 2]}),
    "AveragePool": (MAPS, (), {"kernel_shape": [2, 2]}),
    "GlobalAveragePool": (MAPS, (), {}),
    "GlobalMaxPool": (MAPS, (), {}),
    "ReduceMean": (MAPS, (), {"axes": [2, 3]}),
    "Gemm": (("N", 4), (ones(4, 2), ones(2)), {}),
    "MatMul": (("N", 4), (ones(4, 2),), {}),
    "BatchNormalization": (MAPS, (ones(4),) * 4, {}),
    "LRN": (MAPS, (), {"size": 3}),
    "PRelu": (MAPS, (ones(4, 1, 1),), {}),
    **dict.fromkeys(("Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish"), (MAPS, (), {})),
    **dict.fromkeys(("Tanh", "Softplus"), (MAPS, (), {})),
    "Clip": (MAPS, (np.float32(0), np.float32(6)), {}),
    **dict.fromkeys(("Softmax", "LogSoftmax"), (MAPS, (), {"axis": 1})),
    "Dropout": (MAPS, (np.float32(0.3),), {}),
    "Pad": (MAPS, ([0, 0, 1, 1, 0, 0, 1, 1],), {}),
    "Transpose": (MAPS, (), {"perm": [0, 1, 3, 2]}),
    "Identity": (MAPS, (), {}),
    "Cast": (MAPS, (), {"to": TensorProto.FLOAT}),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), (MAPS, (ones(4, 6, 5),), {})),
    "Concat": (MAPS, (), {"axis": 1}),
    "Flatten": (MAPS, (), {}),
    "Reshape": (MAPS, ([0, 120],), {}),
    "Squeeze": (("N", 4, 1, 1), ([2, 3],), {}),
    "Unsqueeze": (("N", 4), ([2],), {}),
    "Shape": (MAPS, (), {}),
}
REMARKS = {
    "Conv": "1-D (a map of one row) and 2-D; groups, dilations, any pads, `auto_pad`; constant weights",
    "MaxPool": "1-D and 2-D; dilations, pads, `auto_pad`, `ceil_mode`; where the maxima are: the backend only",
    "AveragePool": "as `MaxPool`; `count_include_pad`",
    "GlobalMaxPool": "a window as large as the map",
    "ReduceMean": "over all rows and columns",
    "Gemm": "constant weights and bias; `alpha`, `beta`, `transB`",
    "MatMul": "of a vector an image and a constant matrix",
    "BatchNormalization": "running statistics; `training_mode`: the backend only",
    "PRelu": "a constant slope",
    "Clip": "constant limits",
    "Softmax": "at the end it is left to the loss",
    "LogSoftmax": "at the end it is left to the loss",
    "Dropout": "its mask: the backend only",
    "Pad": "rows and columns; constant, reflect, edge, wrap",
    "Transpose": "not of the axis of images; two groups of maps exchanged are a `ChannelShuffle`",
    "Cast": "to floating point",
    "Add": "of two values of one shape `Add`, of other shapes `Arithmetic`; of a value and a constant `Affine`",
    "Sub": "of two values `Arithmetic`",
    "Mul": "of two values `Arithmetic`",
    "Div": "of two values `Arithmetic`; no constant by a value",
    "Sum": "as `Add`, of any number",
    "Concat": "of values, along the maps",
    "Flatten": "not across images",
    "Reshape": "not across images",
    "Shape": "all sizes are known",
}


def read() -> Iterable[tuple[str, str, str]]:
    """(operator, the layers that it becomes, limits)."""
    known = {*TRANSLATORS, *ARITHMETIC, *RESHAPES, "Concat", "Shape"}
    if known != READ.keys():
        raise SystemExit(f"READ lacks, or has too many: {sorted(known ^ READ.keys())}")
    for kind, (shape, constants, attributes) in READ.items():
        remark = REMARKS.get(kind, "")
        named = {f"c{k}": each for k, each in enumerate(constants)}
        inputs = " ".join(["x", "x"] if kind == "Concat" else ["x", *named])
        if kind == "Shape":
            yield f"`{kind}`", "a constant", remark
            continue
        nodes: Nodes = [(kind, inputs, "m", attributes), ("Sigmoid", "m", "y", {})]
        graph = translate(read_model(model(nodes, named, shape))).graph
        names = [name for name in layers_of(graph)[:-1] if name != "Reshape"]  # the sigmoid, and what makes scores
        if kind == "Sigmoid":
            names = names[:1]
        elif names[-1:] == ["Sigmoid"]:
            names = names[:-1]
        yield f"`{kind}`", ", ".join(f"`{name}`" for name in names) or "nothing", remark


def folded() -> str:
    """What is computed where it depends on constants alone."""
    return ", ".join(f"`{kind}`" for kind in sorted(ALGEBRA))


# --- refused -----------------------------------------------------------------------------------------------------

CONV: Nodes = [("Conv", "x w", "y", {})]
W = {"w": ones(2, 3, 1, 1)}
SMALL = "N", 3, 4, 4


def hostile() -> Iterable[tuple[str, ModelProto | bytes]]:
    """What is tried, and the model."""
    yield "bytes that are no protobuf", b"\xff" * 100
    outside = model(CONV, W, SMALL)
    tensor = outside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    yield "weights in another file", outside
    promised = model(CONV, W, SMALL)
    promised.graph.initializer[0].dims[0] = 2**40
    yield "a tensor larger than the file", promised
    grown: Nodes = [("ConstantOfShape", "s", "w", {}), *CONV]
    yield "constants that are made larger than memory", model(grown, {"s": np.array([2**20, 2**20])}, SMALL)
    yield "a map larger than memory", model([("Conv", "x w", "y", {"pads": [10**9] * 4})], W, SMALL)
    yield "an operator of another domain", model([("Gelu", "x", "y", {"domain": "com.microsoft"})], {}, SMALL)
    branch = helper.make_graph([], "b", [], [])
    both = {"then_branch": branch, "else_branch": branch}
    yield "control flow", model([("If", "c", "y", both)], {"c": np.array(True)}, SMALL)
    defines = model(CONV, W, SMALL)
    defines.functions.append(helper.make_function("", "F", [], [], [], [helper.make_opsetid("", 17)]))
    yield "functions of its own", defines
    yield "an operator without a layer", model([("Erf", "x", "y", {})], {}, SMALL)
    yield "a convolution of volumes", model(CONV, {"w": ones(2, 3, 1, 1, 1)}, ("N", 3, 4, 4, 4))
    yield "weights that are computed from the image", model([("Conv", "x x", "y", {})], {}, SMALL)
    yield "sizes left open", model(CONV, W, ("N", 3, "H", "W"))
    yield "images mixed with one another", model([("Flatten", "x", "y", {"axis": 0})], {}, SMALL)
    circle: Nodes = [("Add", "x b", "a", {}), ("Relu", "a", "b", {})]
    yield "a circle", model(circle, {}, SMALL)
    newer = model(CONV, W, SMALL)
    newer.opset_import[0].version = 99
    yield "operators of a version to come", newer


def refused() -> Iterable[tuple[str, str]]:
    """(what, the sentence)."""
    for what, content in hostile():
        try:
            translate(read_model(content if isinstance(content, ModelProto) else ModelProto.FromString(content)))
        except ModelFileError as error:
            yield what, str(error)
        except DecodeError:  # which read_file words so
            yield what, "not an ONNX model (and what protobuf says of it)"


# --- the page ----------------------------------------------------------------------------------------------------


def tables() -> dict[str, str]:
    """The places of the page, and what belongs there."""

    def table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
        lines = [head, "|" + "---|" * (head.count("|") - 1), *(f"| {' | '.join(row)} |" for row in rows)]
        return "\n".join(line.replace("|  |", "| |") for line in lines)

    return {
        "written": table("| layer | operators | read back as |", written()),
        "read": table("| operator | becomes | |", read()),
        "folded": folded(),
        "refused": table("| what | the sentence, behind the file's name |", refused()),
    }


def filled(page: str) -> str:
    """The page with its tables as they are now."""
    for name, content in tables().items():
        begin, end = f"<!-- table of {name} -->\n", f"<!-- end of {name} -->"
        page, found = re.subn(
            f"({begin}).*?({end})", lambda m, new=content: f"{m[1]}{new}\n{m[2]}", page, flags=re.DOTALL
        )
        if not found:
            raise SystemExit(f"{PAGE} has no place for {name}")
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
