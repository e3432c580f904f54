"""From a graph to a program's table: which kernels run on what, in which order, and where every value lies.

Each layer's kernel file says how it is lowered: `forward` and `backward` emit rows, and ask for the places of the
values they read and write. A plan lowers a graph several times. First it only listens: what is read when, and with
what halo, until nothing new is asked for. Then each value gets its place, two that are never alive together may share
one, and the last time the rows come out with the places in them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Protocol

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel
from rot180.engines.lanes.layout import Maps, as_maps
from rot180.engines.lanes.limits import LIMITING, Limits, limits_of
from rot180.engines.lanes.table import Choice
from rot180.engines.lanes.twin import LANES
from rot180.errors import SettingError
from rot180.graph import IMAGE, LABEL, Graph, Node
from rot180.layers import Add, Layer, ScalePixels
from rot180.parameters import ALIGNMENT, Layout

EXACT = 2**24  # float32 holds all whole numbers up to here
AGAIN = ", again"  # a value that is computed anew for the backward pass, not kept
LARGE = 1 << 24  # numbers of all values of a group: from here on memory matters more than a little work
LABEL_CHANNELS = 7
"""What the label's maps hold for each lane: the label's number; the image's weight, 1/N, or 0 where there is no image;
the chance of this update, its 64 bits in four numbers of 16, the highest first; the image's position in the batch."""


class Lowering(Protocol):
    """How a layer becomes rows. A kernel file has one, registered by `lowers`."""

    def forward(self, site: "Site") -> None:
        """Emit the rows that compute y from x."""

    def backward(self, site: "Site") -> None:
        """Emit the rows that add parameter gradients, and those that compute dx from dy where it is wanted."""

    # takes(layer, shape) -> bool, where there are settings, or shapes of the input, without kernels


LOWERINGS: dict[type[Layer], Lowering] = {}


def lowers(*layers: type[Layer]) -> Callable[[type[Lowering]], type[Lowering]]:
    """Register a lowering for these layers."""

    def register(lowering: type[Lowering]) -> type[Lowering]:
        LOWERINGS.update(dict.fromkeys(layers, lowering()))
        return lowering

    return register


def lowering_of(layer: Layer, shape: Any, lowerings: Mapping[type[Layer], Any]) -> Any:
    """What lowers the layer for inputs of this shape; None where nothing does, or what does has no kernels for it."""
    lowering = lowerings.get(type(layer))
    return lowering if getattr(lowering, "takes", lambda *_: True)(layer, shape) else None


@dataclass
class Step:
    """One row of the table: a kernel, its record, and how many units of work it has."""

    kernel: Kernel[Any]
    row: Any
    units: int
    node: str
    backward: bool = False


@dataclass
class Buffer:
    """A value's memory: what is asked of it, when it is alive, and where it came to lie."""

    channels: int
    height: int
    width: int
    halo: tuple[int, int] = (0, 0)  # zero columns to the left and to the right
    born: int = 10**9  # the first moment of use
    dies: int = -1  # the last
    offset: int = 0

    @property
    def column(self) -> int:
        """Floats from a column to the next."""
        return LANES

    @property
    def line(self) -> int:
        """Floats from a row to the next."""
        return (sum(self.halo) + self.width) * self.column

    @property
    def size(self) -> int:
        """Floats for one group."""
        return self.channels * self.height * self.line

    @property
    def form(self) -> tuple[int, ...]:
        """What decides where its halo lies."""
        return self.size, self.channels, self.height, self.width, self.line, *self.halo

    def meets(self, other: "Buffer") -> bool:
        """Are both alive at some moment?"""
        return self.born <= other.dies and other.born <= self.dies

    def maps(self) -> Maps:
        """As kernels see it."""
        plane = self.height * self.line
        start = self.offset + self.halo[0] * self.column
        return Maps(start, self.size, plane, self.line, self.channels, self.height, self.width)


@dataclass
class Plan:
    """A graph lowered for `groups` groups of 16 images at a time.

    backward: with a backward pass. training: layers behave as in training (batch normalization, dropout), not as in
    inference. With one group the program goes depth first, one group after the other through the whole network, unless
    it `trains_layer_by_layer`: then all groups pass a layer before the next.
    """

    graph: Graph
    parameters: Layout
    statistics: Layout
    backward: bool
    training: bool
    groups: int
    threads: int = 1  # that will share the work: rows are cut accordingly, in ways that change no sum's order
    precise: bool = False  # no algorithm that rounds more than the direct kernels do
    choices: list[Choice] = field(default_factory=list)  # which kernels were taken where there are several, and why
    prepare: list[Step] = field(default_factory=list)
    body: list[Step] = field(default_factory=list)
    constants: dict[int, Array] = field(default_factory=dict)  # numbers that lie in P for ever, by their place
    packed: int = 0  # floats behind the parameters and statistics, for weights laid out anew before each update
    scratch: int = 0  # floats that each thread needs for itself
    arena: int = 0  # floats for all values

    def __post_init__(self) -> None:
        self.layer_by_layer = self.training and trains_layer_by_layer(self.graph)
        self._by_name = {node.name: node for node in self.graph}
        self._readers = self._count_readers()
        self._aliases = self._find_aliases()
        self._aliases |= self._find_shared_gradients()
        self._needed = self._find_needed()
        self._wanted = self._find_wanted()
        self._buffers: dict[str, Buffer] = {}
        known, asked = None, dict[str, tuple[int, int]]()
        while asked != known:  # a halo may make another layer copy, and ask for memory to copy to
            self._lower()
            known, asked = asked, {name: buffer.halo for name, buffer in self._buffers.items()}
        self._place()
        self._lower()

    @cached_property
    def zeroes_halos(self) -> bool:
        """Is each halo zeroed when its value is about to be made, so that any two values may share memory?"""
        return self.layer_by_layer or has_large_values(self.graph)

    # --- what lies where --------------------------------------------------------------------------------------

    def maps(self, name: str) -> Maps:
        """Where a value lies: a node's output, "image" or "label"."""
        return self._buffer(name).maps()

    def memory(self) -> Array:
        """P: room for parameters, statistics and packed weights, and the constants in their places."""
        P = aligned(self.packed)
        for start, values in self.constants.items():
            P[start : start + values.size] = values
        return P

    def buffers(self) -> dict[str, Buffer]:
        """All memory by name, for tables and tests: a gradient is called "d NODE"."""
        return self._buffers

    def _buffer(self, name: str) -> Buffer:
        while name in self._aliases:
            name = self._aliases[name]
        if name not in self._buffers:
            plain = name.removeprefix("d ").removesuffix(AGAIN)
            channels, height, width = self._size(plain)
            self._buffers[name] = self._new_buffer(LABEL_CHANNELS if plain == LABEL else channels, height, width)
        return self._buffers[name]

    def _size(self, name: str) -> tuple[int, int, int]:
        """(C, H, W) of the memory that a value takes."""
        return as_maps(self.graph.shapes[name])

    def _new_buffer(self, channels: int, height: int, width: int) -> Buffer:
        return Buffer(channels, height, width)

    def _use(self, buffer: Buffer) -> Buffer:
        buffer.born, buffer.dies = min(buffer.born, self._now), max(buffer.dies, self._now)
        return buffer

    def _place(self) -> None:
        """Largest first, each at the lowest offset free while it lives.

        Else a halo is zero from the start, and nothing else may ever be written there: such memory is shared only with
        values of the same form.
        """
        placed: list[Buffer] = []
        for buffer in sorted(self._buffers.values(), key=lambda each: -each.size):
            taken = {each.offset for each in placed if each.meets(buffer)}
            kept = any(buffer.halo) and not self.zeroes_halos
            twins = [each for each in placed if kept and each.form == buffer.form]
            free = [each.offset for each in twins if each.offset not in taken]
            buffer.offset = free[0] if free else self._gap(buffer, placed)
            placed.append(buffer)
            self.arena = max(self.arena, buffer.offset + buffer.size * self.groups)

    def _gap(self, buffer: Buffer, placed: list[Buffer]) -> int:
        """The lowest offset where the buffer meets nobody and touches no halo that must stay zero."""
        end = 0
        for other in sorted(placed, key=lambda each: each.offset):
            kept = (any(other.halo) or any(buffer.halo)) and not self.zeroes_halos
            if not (other.meets(buffer) or kept):
                continue
            if end + buffer.size * self.groups <= other.offset:
                break
            end = max(end, other.offset + other.size * self.groups)
        return end

    # --- lowering ---------------------------------------------------------------------------------------------

    def _lower(self) -> None:
        self.prepare, self.body, self.choices = [], [], []
        self.packed = self.parameters.size + self.statistics.size
        self.scratch, self.constants = 0, {}
        self._rooms: dict[tuple[str, str], int] = {}  # what `packed` has given by name
        self._now, self.going_back = 0, False
        self._given: set[str] = set()  # gradients that a reader has already written
        self._made_again: set[str] = set()
        for name in (IMAGE, LABEL):
            self._use(self._buffer(name))
        self._begin()
        for node in self.graph:
            self._next_moment(node)
            if node.name in self._needed and not self.is_fused(node.name):
                self._forward(node)
        self.going_back = True
        if self.backward:
            for node in reversed(self.graph.nodes):
                self._next_moment(node)
                if "d " + node.name in self._given or node is self.graph.nodes[-1]:
                    self._reader = node.name
                    self._lowering(node).backward(Site(self, node))
        self._now += 1
        self._use(self._buffer(self.graph.output))
        if self.backward:
            self._use(self._buffer(self.graph.nodes[-1].name))

    def _next_moment(self, node: Node) -> None:
        """Count on, and zero the halos of the values that will be written now."""
        self._now += 1
        if not self.zeroes_halos:
            return
        from rot180.engines.lanes.kernels import halo

        for buffer in self._buffers.values():
            if any(buffer.halo) and max(buffer.born, 1) == self._now:
                Site(self, node).emit(halo.zero_halo, halo.Row(buffer.maps(), *buffer.halo), buffer.channels)

    def _begin(self) -> None:
        """Emit what comes before the first node."""

    def _forward(self, node: Node) -> None:
        self._lowering(node).forward(Site(self, node))

    def _lowering(self, node: Node) -> Lowering:
        lowering: Lowering | None = lowering_of(node.layer, self.graph.input_shape_of(node), LOWERINGS)
        if lowering is None:
            raise self._no_kernels(node)
        return lowering

    def _no_kernels(self, node: Node) -> SettingError:
        return SettingError(
            f"the lanes engine has no kernels for {type(node.layer).__name__} (node {node.name!r}); "
            'use the engine "reference"'
        )

    def _count_readers(self) -> dict[str, int]:
        readers = dict.fromkeys(self.graph.shapes, 0)
        for node in self.graph:
            for name in node.inputs:
                readers[name] += 1
        return readers

    def _find_aliases(self) -> dict[str, str]:
        """Nodes that the one before computes: a ReLU or clip behind what applies it, pixels scaled as they are read."""
        aliases: dict[str, str] = {}
        for node in self.graph:
            source = node.inputs[0]
            if self._readers[source] != 1:
                continue
            scaled = isinstance(node.layer, ScalePixels) and source == IMAGE
            kind = type(self._by_name[source].layer) if source in self._by_name else None
            limited = isinstance(node.layer, LIMITING) and getattr(LOWERINGS.get(kind), "applies_limits", False)  # type: ignore[arg-type]
            if scaled or (limited and source != self.graph.output):
                aliases[node.name] = aliases.get(source, source)
                aliases["d " + node.name] = "d " + aliases[node.name]
        return aliases

    def _find_shared_gradients(self) -> dict[str, str]:
        """The gradients of a sum's inputs, which are the sum's own: nothing is copied where nobody is in the way.

        Of the inputs, the last one is asked for its gradient first. All but the first must only read it: no other
        reader may add to it, nothing mask it in place. What other readers of the first add comes after all have read.
        """
        shared: dict[str, str] = {}
        position = {node.name: number for number, node in enumerate(self.graph)}
        for node in self.graph:
            if not isinstance(node.layer, Add):
                continue
            sources = {self._aliases.get(name, name) for name in node.inputs}
            inputs = sorted(sources, key=lambda name: position.get(name, -1))
            first, others = self.shown_by(inputs[0]), inputs[1:]
            readers = [position[reader.name] for reader in self.graph if first in reader.inputs and reader is not node]
            safe = len(inputs) == len(node.inputs) and inputs[0] in position
            safe &= not readers or not others or max(readers) < position[others[0]]
            for name in others:
                reads_only = self.limiter_of(name) is None or self.applies_limits_gradient(name)
                safe &= reads_only and self._readers[self.shown_by(name)] == 1
            if safe:
                shared |= {"d " + name: "d " + node.name for name in inputs}
        return shared

    def _find_needed(self) -> set[str]:
        """The values that go into the scores or, for a backward pass, into the loss."""
        return self.graph.needed_for(self.graph.output, *((self.graph.nodes[-1].name,) if self.backward else ()))

    def _find_wanted(self) -> set[str]:
        """The values whose gradient training needs: those that parameters have gone into."""
        wanted = {place.node for place in self.parameters.places}
        for node in self.graph:
            if not wanted.isdisjoint(node.inputs):
                wanted.add(node.name)
        return wanted

    def again(self, name: str) -> str:
        """What a backward pass reads instead of this value: itself, or the same computed anew just before it is read.

        A layer that `recomputes` costs less to run again than its values would take of the memory.
        """
        source = self._aliases.get(name, name)
        if not (self.layer_by_layer and source in self._by_name):
            return name
        lowering = self._lowering(self._by_name[source])
        if not getattr(lowering, "recomputes", False):
            return name
        if source not in self._made_again:
            self._made_again.add(source)
            start = len(self.body)
            site = Site(self, self._by_name[source])
            lowering.recompute(site, self._use(self._buffer(source + AGAIN)).maps())  # type: ignore[attr-defined]
            for step in self.body[start:]:
                step.node = self._reader
        return source + AGAIN

    def is_fused(self, name: str) -> bool:
        """Is the node computed by the one before it?"""
        return name in self._aliases

    def is_computed_by(self, name: str) -> str:
        """The node whose rows compute this one: itself, or the one that it is fused with."""
        return self._aliases.get(name, name)

    def limiter_of(self, name: str) -> Layer | None:
        """The ReLU or clip that the node applies to what it computes."""
        layers = (self.graph[fused].layer for fused, source in self._real_aliases() if source == name)
        return next((layer for layer in layers if isinstance(layer, LIMITING)), None)

    def applies_limits_gradient(self, name: str) -> bool:
        """Does the node also apply the gradient of what limits it, wherever it reads dy?"""
        limited = self.limiter_of(name) is not None
        return limited and getattr(self._lowering(self.graph[name]), "applies_limits_gradient", False)

    def shown_by(self, name: str) -> str:
        """The node whose output a node's memory holds once its rows have run: itself, or what is fused with it."""
        return next((fused for fused, source in reversed(self._real_aliases()) if source == name), name)

    def _real_aliases(self) -> list[tuple[str, str]]:
        return [(name, source) for name, source in self._aliases.items() if not name.startswith("d ")]

    @property
    def pixels(self) -> ScalePixels:
        """How pixels are scaled as they are read."""
        for name, source in self._real_aliases():
            layer = self.graph[name].layer
            if source == IMAGE and isinstance(layer, ScalePixels):
                return layer
        return ScalePixels(0, 255)


class Position:
    """A node at its place in a plan: its parameters, its room, its rows."""

    def __init__(self, plan: Plan, node: Node) -> None:
        self.plan = plan
        self.node = node
        self.layer: Any = node.layer
        self.groups = plan.groups
        self.training = plan.training

    # --- parameters -------------------------------------------------------------------------------------------

    def parameter(self, name: str) -> int:
        """Where a parameter begins in P, and its gradient in G; a statistic in P."""
        for layout, base in ((self.plan.parameters, 0), (self.plan.statistics, self.plan.parameters.size)):
            for place in layout.places:
                if (place.node, place.name) == (self.node.name, name):
                    return base + place.offset
        raise KeyError(name)

    def packed(self, size: int, name: str = "") -> int:
        """Room in P for `size` floats that a prepare row fills; zeros where none does. By name, the same again."""
        start = self.plan._rooms.get((self.node.name, name), self.plan.packed)
        if start == self.plan.packed:
            self.plan.packed += -(-size // ALIGNMENT) * ALIGNMENT
            if name:
                self.plan._rooms[self.node.name, name] = start
        return start

    def constants(self, name: str, values: Array) -> int:
        """Room in P that holds these numbers for ever; whole ones up to EXACT are kept as they are."""
        start = self.packed(values.size, name)
        self.plan.constants[start] = values.ravel()
        return start

    def scratch(self, size: int) -> None:
        """Have at least `size` floats in S."""
        self.plan.scratch = max(self.plan.scratch, size)

    @property
    def limiter(self) -> Layer | None:
        """The ReLU or clip behind the node that it is to apply."""
        return self.plan.limiter_of(self.node.name)

    @property
    def limits(self) -> Limits:
        """What it makes of y."""
        return limits_of(self.limiter)

    # --- rows -------------------------------------------------------------------------------------------------

    def prepare(self, kernel: Kernel[Any], row: Any, units: int) -> None:
        """A row that runs once before each update, when the parameters have changed."""
        self.plan.prepare.append(Step(kernel, row, units, self.node.name))

    def emit(self, kernel: Kernel[Any], row: Any, units: int) -> None:
        """A row of `units` units for each group: the kernel numbers them group by group."""
        self.emit_across(kernel, row, units * self.groups)

    def emit_across(self, kernel: Kernel[Any], row: Any, units: int) -> None:
        """A row whose every unit goes through all groups: sums over images."""
        self.plan.body.append(Step(kernel, row, units, self.node.name, self.plan.going_back))


class Site(Position):
    """What a lowering may ask for: a node's position and its values, images in the lanes."""

    # --- values -----------------------------------------------------------------------------------------------

    def x(self, index: int = 0, halo: tuple[int, int] = (0, 0)) -> Maps:
        """An input's values, with at least so many zero columns on either side."""
        name = self.node.inputs[index]
        return self._maps(self.plan.again(name) if self.plan.going_back else name, halo)

    def channels_of(self, index: int) -> int:
        """How many maps an input has."""
        return as_maps(self.plan.graph.shapes[self.node.inputs[index]])[0]

    def label(self) -> Maps:
        """The labels, the images' weights, the chance: see LABEL_CHANNELS."""
        return self._maps(LABEL)

    def y(self) -> Maps:
        """The output's values."""
        return self._maps(self.node.name)

    def dy(self, halo: tuple[int, int] = (0, 0)) -> Maps:
        """∂L/∂y."""
        return self._maps("d " + self.node.name, halo)

    def wants_dx(self, index: int = 0) -> bool:
        """Does anybody need ∂L/∂x of this input?"""
        return self.node.inputs[index] in self.plan._wanted

    def write_dx(self, write: Callable[[Maps], None], index: int = 0) -> None:
        """Have `write` emit the rows that write ∂L/∂x of an input to the maps it is given.

        Where another reader of the input has written before, they go beside it and are added.
        """
        source = self.node.inputs[index]
        name = "d " + self.plan._aliases.get(source, source)
        if name not in self.plan._given:
            write(self._maps(name))
        else:
            from rot180.engines.lanes.kernels.combine import accumulate

            whole = self._maps(name)
            beside = self.keep(f"d {source} by {self.node.name} {index}", whole.channels, whole.height, whole.width)
            write(beside)
            accumulate(self, beside, whole)
        self.plan._given |= {name, "d " + source}

    def hand_on_gradient(self) -> None:
        """Say that dy, changed in place, is the gradient of the node that this one is fused with."""
        self.plan._given.add("d " + self.node.inputs[0])

    def pass_gradient_on(self, index: int) -> bool:
        """Say that dy is ∂L/∂x of this input as it is, if the plan has them share memory."""
        source = self.node.inputs[index]
        name = "d " + self.plan.is_computed_by(source)
        if self.plan._aliases.get(name) != "d " + self.node.name:
            return False
        self.plan._given |= {name, "d " + source}
        return True

    def weights(
        self, name: str, kernel: Kernel[Any], row: Callable[[int, int], Any], units: int, size: int
    ) -> tuple[int, int]:
        """Have `kernel` lay weights out anew: (place, 1 where that is in A, 0 in P). `row` makes its row of the two.

        Depth first that is done once for all groups, before the update. Layer by layer it is done just before they are
        used, in memory that other values need at other times.
        """
        in_arena = int(self.plan.layer_by_layer)
        if in_arena:
            place = self.keep(name, -(-size // (LANES * self.groups))).start
            self.emit_across(kernel, row(place, in_arena), units)
        else:
            place = self.packed(size)
            self.prepare(kernel, row(place, in_arena), units)
        return place, in_arena

    def keep(self, name: str, channels: int, height: int = 1, width: int = 1) -> Maps:
        """Memory of the node's own, by name: what forward keeps for backward, or a row for the next."""
        name = f"{self.node.name}: {name}"
        buffer = self.plan._buffers.setdefault(name, Buffer(channels, height, width))
        return self.plan._use(buffer).maps()

    def _maps(self, name: str, halo: tuple[int, int] = (0, 0)) -> Maps:
        buffer = self.plan._use(self.plan._buffer(name))
        buffer.halo = max(buffer.halo[0], halo[0]), max(buffer.halo[1], halo[1])
        return buffer.maps()


def trains_layer_by_layer(graph: Graph) -> bool:
    """Do all groups of a training batch pass a layer before the next?

    Where a layer needs statistics over the whole batch; and where a group's values would not stay in a thread's cache
    until the backward pass wants them: then threads better share each layer's work, however few groups there are.
    """
    return bool(Layout.of_statistics(graph).places) or has_large_values(graph)


def has_large_values(graph: Graph) -> bool:
    """Are all values of 16 images too many for caches to matter?"""
    return LANES * sum(map(prod, graph.shapes.values())) >= LARGE


def aligned(size: int) -> Array:
    """Zeros, float32, starting on a cache line."""
    memory = np.zeros(size + LANES, np.float32)
    skip = -memory.ctypes.data // 4 % LANES
    return memory[skip : skip + size]


def rows(count: int, size: int) -> Array:
    """(count, size) of zeros, each row on a cache line."""
    size = -(-size // LANES) * LANES
    return aligned(count * size).reshape(count, size)
