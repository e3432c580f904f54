"""From a graph to the table that takes one image through it: plan.py's method, with channels in the lanes.

In inference more can be fused than in training. A convolution or dense layer computes with it what comes behind, as
far as nobody else reads what lies between:

    convolution -> batch normalization    its weights and bias are scaled and shifted once, when they are packed
                -> add                    the other input is added before the result is stored
                -> ReLU or clip
                -> dropout, identity      nothing
                -> max pooling            in windows of 2x2 behind a convolution of the image with few filters

and dropout and identity cost nothing behind any layer that is not read by others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from rot180.engines.lanes.limits import LIMITING
from rot180.engines.lanes.plan import Buffer, Plan, Position, Step, lowering_of
from rot180.engines.lanes.single.image import Row, read_image
from rot180.engines.lanes.single.layout import Picture, vectors
from rot180.engines.lanes.single.table import case_of, pixels_fill_lanes
from rot180.engines.lanes.twin import LANES
from rot180.graph import IMAGE, LABEL, Graph, Node
from rot180.layers import (
    Add,
    BatchNormalization,
    Clip,
    Convolution,
    Dense,
    Dropout,
    Identity,
    Layer,
    MaxPooling,
    ReLU,
    ScalePixels,
)
from rot180.parameters import Layout


class SingleLowering(Protocol):
    """How a layer becomes rows. A kernel file has one, registered by `lowers`."""

    def forward(self, site: "SingleSite") -> None:
        """Emit the rows that compute the target from the sources."""


SINGLE_LOWERINGS: dict[type[Layer], SingleLowering] = {}


def lowers(*layers: type[Layer]) -> Callable[[type[SingleLowering]], type[SingleLowering]]:
    """Register a lowering for these layers."""

    def register(lowering: type[SingleLowering]) -> type[SingleLowering]:
        SINGLE_LOWERINGS.update(dict.fromkeys(layers, lowering()))
        return lowering

    return register


@dataclass
class Frame(Buffer):
    """A value's memory, channels in the lanes."""

    in_vectors: bool = False
    """Does anybody read or write vectors of 16 channels? The image, of which convolutions read numbers, has no gaps."""

    @property
    def column(self) -> int:
        """Floats from a pixel to the next."""
        return vectors(self.channels) * LANES if self.in_vectors else self.channels

    @property
    def size(self) -> int:
        """Floats, such that what follows begins with a whole vector."""
        return vectors(self.height * self.line) * LANES

    def picture(self) -> Picture:
        """As kernels see it."""
        start = self.offset + self.halo[0] * self.column
        return Picture(start, self.line, self.column, self.channels, self.height, self.width)


MULTIPLIES = Convolution, Dense
APPLIES_LIMITS = Convolution, Dense, BatchNormalization, Add
DOES_NOTHING = Dropout, Identity


class SinglePlan(Plan):
    """A graph lowered for one image, in inference."""

    def __init__(self, graph: Graph, parameters: Layout, statistics: Layout, precise: bool = False) -> None:
        super().__init__(graph, parameters, statistics, backward=False, training=False, groups=1, precise=precise)

    @cached_property
    def zeroes_halos(self) -> bool:
        """No: what one image's values take is little."""
        return False

    def picture(self, name: str) -> Picture:
        """Where a value lies: a node's output, or "image"."""
        return self._frame(name).picture()

    def fused(self, name: str, kind: type[Layer]) -> Node | None:
        """The layer of this kind that a node computes besides its own."""
        nodes = (self.graph[fused] for fused, source in self._aliases.items() if source == name)
        return next((node for node in nodes if isinstance(node.layer, kind)), None)

    def _frame(self, name: str) -> Frame:
        frame = self._buffer(name)
        assert isinstance(frame, Frame)  # noqa: S101 - _new_buffer makes no other
        return frame

    def _new_buffer(self, channels: int, height: int, width: int) -> Buffer:
        return Frame(channels, height, width)

    def _size(self, name: str) -> tuple[int, int, int]:
        """What is kept of a node that is pooled at once: the result. Planes one below another are one map."""
        pooled = self.fused(name, MaxPooling)
        channels, height, width = super()._size(pooled.name if pooled else name)
        if name == IMAGE and any(self.takes_planes(node, self._aliases) for node in self.graph):
            return 1, channels * height, width
        return channels, height, width

    def takes_planes(self, node: Node, aliases: dict[str, str]) -> bool:
        """Is the node the only reader of the image, and one that fills the lanes with pixels?"""
        (source, *_), layer = node.inputs, node.layer
        alone = aliases.get(source, source) == IMAGE and self._readers[source] == 1 and source != self.graph.output
        if not alone or not isinstance(layer, Convolution):
            return False
        return pixels_fill_lanes(case_of(layer, self.graph.input_shape_of(node), self.precise))

    def _begin(self) -> None:
        image, pixels = self.picture(IMAGE), self.pixels
        channels, height, _ = super()._size(IMAGE)
        plane = 1 if image.channels == channels else height * image.line
        site = Position(self, Node(IMAGE, pixels, ()))
        w, b = (site.constants(*each) for each in zip(("scale", "low"), pixels.by_channel(channels), strict=True))
        self.body.append(Step(read_image, Row(image, channels, height, plane, w, b), height, IMAGE))

    def _forward(self, node: Node) -> None:
        lowering = lowering_of(node.layer, self.graph.input_shape_of(node), SINGLE_LOWERINGS)
        if lowering is None:
            raise self._no_kernels(node)
        lowering.forward(SingleSite(self, node))

    def _find_aliases(self) -> dict[str, str]:
        """Each node that another one computes with its own, which may itself be computed so."""
        aliases: dict[str, str] = {}
        for node in self.graph:
            for source in node.inputs:
                root = aliases.get(source, source)
                if self._readers[source] == 1 and source != self.graph.output and self._joins(node, root, aliases):
                    aliases[node.name] = root
                    break
        return aliases

    def _joins(self, node: Node, root: str, aliases: dict[str, str]) -> bool:
        """Can the root, with what it computes already, compute this node too?"""
        layers: dict[str, Layer] = {each.name: each.layer for each in self.graph}
        done = {type(layers[name]) for name, by in aliases.items() if by == root} - set(DOES_NOTHING)
        match node.layer:
            case Dropout() | Identity():
                return root != LABEL
            case ScalePixels():
                return root == IMAGE and not done
            case BatchNormalization():
                return isinstance(layers.get(root), MULTIPLIES) and not done
            case Add():
                order = list(self.graph.shapes)
                last = max(order.index(aliases.get(name, name)) for name in node.inputs)
                joins = isinstance(layers.get(root), MULTIPLIES) and done <= {BatchNormalization}
                joins = joins and not self.takes_planes(self.graph[root], aliases)
                return joins and len(node.inputs) == 2 and order[last] == root
            case MaxPooling():
                joins = isinstance(layers.get(root), Convolution) and MaxPooling not in done
                return joins and self.takes_planes(self.graph[root], aliases) and self._halves(node)
            case ReLU() | Clip():
                return isinstance(layers.get(root), APPLIES_LIMITS) and done.isdisjoint(LIMITING)
        return False

    def _halves(self, node: Node) -> bool:
        """Does the node pool windows of 2x2, side by side?"""
        assert isinstance(node.layer, MaxPooling)  # noqa: S101 - it is asked of no other
        shape = self.graph.input_shape_of(node)
        return node.layer.window(shape) == ((2, 2), (2, 2)) and node.layer.pads(shape) == ((0, 0), (0, 0))


class SingleSite(Position):
    """What a lowering may ask for: a node's position and its values, channels in the lanes."""

    plan: SinglePlan

    def source(self, index: int = 0, halo: tuple[int, int] = (0, 0), in_vectors: bool = True) -> Picture:
        """An input's values, with at least so many zero columns on either side."""
        return self._picture(self.node.inputs[index], halo, in_vectors)

    def target(self) -> Picture:
        """The output's values."""
        return self._picture(self.node.name)

    @property
    def reads_planes(self) -> bool:
        """Does the image lie in planes, for this node?"""
        return self.plan.takes_planes(self.node, self.plan._aliases)

    def added(self) -> Picture | None:
        """The values to add to the output: the other input of the sum behind it."""
        add = self.plan.fused(self.node.name, Add)
        if add is None:
            return None
        others = [name for name in add.inputs if self.plan.is_computed_by(name) != self.node.name]
        return self._picture(others[0])

    def normalization(self) -> "SingleSite | None":
        """The batch normalization whose scale and shift go into the weights."""
        node = self.plan.fused(self.node.name, BatchNormalization)
        return None if node is None else SingleSite(self.plan, node)

    def room(self, name: str, channels: int, height: int, width: int) -> Picture:
        """Memory of the node's own, from one row to the next."""
        frame = self.plan._buffers.setdefault(
            f"{self.node.name}: {name}", Frame(channels, height, width, in_vectors=True)
        )
        assert isinstance(frame, Frame)  # noqa: S101 - this is how it was made
        self.plan._use(frame)
        return frame.picture()

    def _picture(self, name: str, halo: tuple[int, int] = (0, 0), in_vectors: bool = True) -> Picture:
        frame = self.plan._frame(name)
        self.plan._use(frame)
        frame.halo = max(frame.halo[0], halo[0]), max(frame.halo[1], halo[1])
        frame.in_vectors |= in_vectors
        return frame.picture()
