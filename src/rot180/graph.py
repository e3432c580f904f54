"""A network as a graph: named nodes in the order they run, each shape known before anything runs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from rot180 import layers
from rot180.arrays import Shape, text
from rot180.errors import GraphError, ModelFileError, Rot180Error, ShapeError
from rot180.layers import Add, Concatenate, HighwayGate, Layer, Loss

IMAGE = "image"  # the graph's two inputs
LABEL = "label"
LARGEST_LAYER = 2**31  # values of one image or one parameter: more is a mistake, or a hostile file


@dataclass(frozen=True)
class Node:
    """One layer at its place: what it is called and whose outputs it takes."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]


class Graph:
    """Nodes in an order in which each comes after its inputs; the last is the loss.

    input_shape: (C,H,W) of one image. output: the node whose values are the scores (default: the loss's input).
    Raises GraphError for wrong wiring and ShapeError, naming the node, where shapes do not fit.
    """

    def __init__(self, nodes: list[Node], input_shape: Shape, output: str | None = None) -> None:
        self.nodes = tuple(nodes)
        self.input_shape = tuple(input_shape)
        if not self.input_shape or any(size < 1 for size in self.input_shape):
            raise GraphError(f"the input's shape is {text(self.input_shape)}: give (channels, height, width)")
        self.shapes: dict[str, Shape] = {IMAGE: self.input_shape, LABEL: ()}
        """One image's output shape of every node, and of the two inputs."""
        for node in self.nodes:
            self._add_shape(node)
        if not self.nodes or not isinstance(self.nodes[-1].layer, Loss):
            raise GraphError("a network ends with a loss: add SoftmaxCrossEntropy() as its last node")
        self.output = output or self.nodes[-1].inputs[0]
        if self.output not in self.shapes or self.output in (LABEL, self.nodes[-1].name):
            raise GraphError(f"the output {self.output!r} is not a node of the network")
        self.classes = prod(self.shapes[self.output])

    def _add_shape(self, node: Node) -> None:
        if node.name in self.shapes:
            raise GraphError(f"two nodes are called {node.name!r}: give each its own name")
        unknown = [name for name in node.inputs if name not in self.shapes]
        if unknown:
            raise GraphError(f"node {node.name!r} takes {unknown[0]!r}, which is not a node before it")
        if not node.layer.several_inputs and len(node.inputs) != 1:
            raise GraphError(f"node {node.name!r} takes one input, not {len(node.inputs)}")
        try:
            shape = self.input_shape_of(node)
            self.shapes[node.name] = tuple(node.layer.output_shape(shape))
            made = [self.shapes[node.name], *node.layer.parameter_shapes(shape).values()]
        except Rot180Error as error:
            raise type(error)(f"node {node.name!r}: {error}") from error
        if any(prod(each) > LARGEST_LAYER for each in made):
            raise ShapeError(f"node {node.name!r} would need more than {LARGEST_LAYER} values: is a size wrong?")

    def input_shape_of(self, node: Node) -> Any:
        """What the node's layer takes as `shape`: one shape, or one of each input."""
        shapes = tuple(self.shapes[name] for name in node.inputs)
        return shapes if node.layer.several_inputs else shapes[0]

    def needed_for(self, *names: str) -> set[str]:
        """These values and all that they are computed from: what inference runs, say, for the output."""
        needed = set(names)
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return needed

    @property
    def loss(self) -> Loss:
        """The last node's layer."""
        layer = self.nodes[-1].layer
        assert isinstance(layer, Loss)  # noqa: S101 - checked when the graph was made
        return layer

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise GraphError(f"there is no node {name!r}; there are {', '.join(node.name for node in self.nodes)}")

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def _repr_html_(self) -> str:
        """The nodes as a table, for notebooks."""
        from rot180 import notebook

        rows = [
            (
                node.name,
                node.layer,
                ", ".join(node.inputs),
                text(self.shapes[node.name]),
                f"{sum(map(prod, node.layer.parameter_shapes(self.input_shape_of(node)).values())):,}",
            )
            for node in self.nodes
        ]
        title = f"{len(self.nodes)} nodes, for images {text(self.input_shape)}, {self.classes} classes"
        return notebook.paragraph(title) + notebook.table(("node", "layer", "of", "output", "parameters"), rows, left=3)

    # --- as text ---------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The graph as JSON: layers by name, with the settings that differ from their defaults."""
        nodes = [
            {
                "name": node.name,
                "layer": type(node.layer).__name__,
                "settings": node.layer.settings(),
                "inputs": list(node.inputs),
            }
            for node in self.nodes
        ]
        return json.dumps({"input_shape": self.input_shape, "output": self.output, "nodes": nodes})

    @classmethod
    def from_json(cls, source: str) -> "Graph":
        """The graph that `to_json` wrote. Only rot180's own layers are made; nothing else is looked up by name.

        Raises ModelFileError for anything else.
        """
        try:
            stored = json.loads(source)
            nodes = [
                Node(str(each["name"]), layer_of(each["layer"], each["settings"]), tuple(map(str, each["inputs"])))
                for each in stored["nodes"]
            ]
            return cls(nodes, tuple(int(size) for size in stored["input_shape"]), stored["output"])
        except Rot180Error as error:
            raise ModelFileError(f"the network description does not make a network: {error}") from error
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise ModelFileError(f"the network description is damaged ({error!r})") from error


def layer_of(name: str, settings: Mapping[str, Any]) -> Layer:
    """The layer of that name with these settings; ModelFileError where there is none such."""
    known = getattr(layers, name) if name in layers.__all__ else None
    if not (isinstance(known, type) and issubclass(known, Layer)):
        raise ModelFileError(f"rot180 has no layer called {name!r}")
    return known(**{key: _tuples(value) for key, value in settings.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


# --- builders --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    """Blocks one after the other."""

    blocks: Mapping[str, "Block"]


@dataclass(frozen=True)
class Residual:
    """y = body(x) + shortcut(x); an empty shortcut is x itself."""

    body: Chain
    shortcut: Chain


@dataclass(frozen=True)
class Branches:
    """Paths side by side from one input, their maps concatenated."""

    paths: Mapping[str, "Block"]


@dataclass(frozen=True)
class Highway:
    """y = body(x) ⊙ gate(x) + x ⊙ (1 - gate(x))."""

    body: Chain
    gate: Chain


@dataclass(frozen=True)
class Auxiliary:
    """A head on the side: its scores go to the loss, and x goes on."""

    head: Chain


Block: TypeAlias = Layer | Chain | Residual | Branches | Highway | Auxiliary


def chain(**blocks: Block) -> Chain:
    """Blocks one after the other, by name: conv=Convolution(16, 3), relu=ReLU()."""
    return Chain(blocks)


def residual(body: Chain, shortcut: Chain | None = None) -> Residual:
    """body(x) + x, or body(x) + shortcut(x) where the shapes must change.                                  (B8)"""
    return Residual(body, shortcut or Chain({}))


def branches(**paths: Block) -> Branches:
    """The paths' outputs, concatenated by channel (Inception).                                            (B8)"""
    return Branches(paths)


def highway(body: Chain, gate: Chain) -> Highway:
    """body(x) ⊙ gate(x) + x ⊙ (1 - gate(x)).                                                              (B8)

    The gate ends in a Sigmoid; the layer before it has a bias_start below 0, so that at first most of x is carried.
    """
    return Highway(body, gate)


def auxiliary(**blocks: Block) -> Auxiliary:
    """A chain from here to scores of its own, for a loss with several heads; what comes next sees what it saw. (C5)

    The loss takes the heads in their order behind the network's output: SoftmaxCrossEntropy(weights=(1, 0.3, 0.3)).
    """
    return Auxiliary(Chain(blocks))


def sequence(input_shape: Shape, /, **blocks: Block) -> Graph:
    """The graph of blocks one after the other; the last must be a loss.

    The parts of a block are named after it: block1=residual(chain(conv=...)) makes "block1.conv" and "block1.add".

    >>> sequence((1, 8, 8), F1=layers.Dense(3), loss=layers.SoftmaxCrossEntropy()).classes
    3
    """
    wiring = _Wiring([], [])
    wiring.add("", Chain(blocks), IMAGE)
    return Graph(wiring.nodes, input_shape)


@dataclass(frozen=True)
class _Wiring:
    """The nodes made so far, and the ends of the heads on the side."""

    nodes: list[Node]
    heads: list[str]

    def add(self, name: str, block: Block, source: str) -> str:
        """Append the block's nodes, fed by `source`; return the name of the one that holds its output."""
        prefix = f"{name}." if name else ""
        match block:
            case Chain(blocks):
                for each, inner in blocks.items():
                    source = self.add(prefix + each, inner, source)
                return source
            case Auxiliary(head):
                self.heads.append(self.add(name, head, source))
                return source
            case Residual(body, shortcut):
                ends = [self.add(name, body, source), self.add(prefix + "shortcut", shortcut, source)]
                self.nodes.append(Node(prefix + "add", Add(), tuple(ends)))
            case Highway(body, gate):
                ends = [self.add(name, body, source), self.add(prefix + "gate", gate, source), source]
                self.nodes.append(Node(prefix + "highway", HighwayGate(), tuple(ends)))
            case Branches(paths):
                ends = [self.add(prefix + each, path, source) for each, path in paths.items()]
                self.nodes.append(Node(prefix + "concatenate", Concatenate(), tuple(ends)))
            case Loss():
                self.nodes.append(Node(name, block, (source, *self.heads, LABEL)))
            case Layer():
                self.nodes.append(Node(name, block, (source,)))
        return self.nodes[-1].name
