"""The lanes engine: plans a graph once for each size of batch, and runs it on threads of its own."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.chance import Training
from rot180.data.augmentation import Augmentation
from rot180.data.mapped_rows import MappedRows
from rot180.engines.engine import Average, Batches, Gradients, Results, Values
from rot180.engines.lanes import kernels  # noqa: F401 - registers the lowerings
from rot180.engines.lanes.check import check_plan
from rot180.engines.lanes.explain import KernelUse, MemoryUse, kernel_uses, memory_uses
from rot180.engines.lanes.jit import BARRIER_COUNTERS
from rot180.engines.lanes.optimizers import UPDATES, AverageRow, pieces, records
from rot180.engines.lanes.optimizers import average as average_kernel
from rot180.engines.lanes.plan import LOWERINGS, Plan, Step, lowering_of, rows, trains_layer_by_layer
from rot180.engines.lanes.reading import Images, Variation, unvaried, variation
from rot180.engines.lanes.runner import FAILED, MADE, TAKEN, Memory, Rows, Tables, Updates, run
from rot180.engines.lanes.single.plan import SINGLE_LOWERINGS
from rot180.engines.lanes.single.program import SingleProgram, sharing
from rot180.engines.lanes.twin import LANES
from rot180.engines.lanes.warm import compile_beside
from rot180.engines.reference import ReferenceEngine
from rot180.errors import SettingError
from rot180.graph import IMAGE, LABEL, Graph, Node
from rot180.layers import Layer
from rot180.optimizers import Optimizer
from rot180.parameters import Layout

FEW = 8  # images take as long one by one as 16 side by side: LeNet-5; ResNet-20 and 18 on one thread 13
SLOTS = 8  # partial sums of a gradient, depth first: as many threads can share a batch


class Mode(NamedTuple):
    """What a program is for: see Plan."""

    backward: bool
    training: bool


INFERENCE = Mode(backward=False, training=False)
NO_ROWS = Rows(*np.empty((3, 0), np.int64))
NO_FLOATS = np.empty(0, np.float32)


class Lowered(NamedTuple):
    """A plan with its tables."""

    plan: Plan
    tables: Tables
    records: list[Array]  # what the tables point to


class Prepared(NamedTuple):
    """The same with memory, ready to run."""

    plan: Plan
    tables: Tables
    records: list[Array]
    P: Array
    A: Array
    S: Array


class LanesProgram:
    """A graph on the lanes engine. Traces come from the definition, which keeps every value."""

    def __init__(
        self, graph: Graph, parameters: Layout, statistics: Layout, threads: int, precise: bool = False
    ) -> None:
        self.graph, self.parameters, self.statistics = graph, parameters, statistics
        self.threads, self.precise = threads, precise
        self._definition = ReferenceEngine().compile(graph, parameters, statistics)
        self._lowered: dict[tuple[Mode, int], Lowered] = {}
        self._last: tuple[tuple[Mode, int], Prepared] | None = None
        self._gradients: tuple[tuple[int, int], Array] | None = None
        self._counters = np.zeros(BARRIER_COUNTERS, np.int64)
        self._pieces = pieces((), parameters.size)
        self._layer_by_layer = trains_layer_by_layer(graph)
        single = all(has_kernels(graph, node, SINGLE_LOWERINGS) for node in graph if node is not graph.nodes[-1])
        self.few = FEW * sharing(graph, threads) if single else 0
        """Up to so many images go one by one, each with its channels in the lanes, rather than 16 side by side."""

    def scores(self, images: Array, parameters: Array, statistics: Array) -> Array:
        """(N, K): the output node's values in inference."""
        if len(images) <= self.few:
            return self.single.scores(images, parameters, statistics)
        prepared = self.prepare(INFERENCE, len(images))
        self._set(prepared, parameters, statistics)
        return self._scores(prepared, images)

    def varied_scores(
        self,
        images: Array,
        order: Array,
        augmentation: Augmentation,
        seed: int,
        epoch: int,
        parameters: Array,
        statistics: Array,
    ) -> Array:
        """(m, K): `scores` of images[order], varied as by that epoch."""
        prepared = self.prepare(INFERENCE, len(order))
        self._set(prepared, parameters, statistics)
        varied = variation(augmentation, images.shape[2:], seed, epoch, order, self.threads)
        return self._scores(prepared, images, order, varied, seed)

    def frozen(self, parameters: Array, statistics: Array) -> Callable[[Array], Array]:
        """`scores` with these for ever: their weights are laid out once."""
        return FrozenProgram(self, parameters, statistics)

    @cached_property
    def single(self) -> SingleProgram:
        """The program for few images."""
        return SingleProgram(self.graph, self.parameters, self.statistics, self.threads, self.precise)

    def loss_and_gradients(
        self, images: Array, labels: Array, parameters: Array, statistics: Array, training: Training | None
    ) -> Gradients:
        """The mean loss and its gradient; `training` None: layers behave as in inference."""
        prepared = self.prepare(Mode(backward=True, training=training is not None), len(images))
        results, gradient = self._run(prepared, images, labels, parameters, statistics, training or Training())
        loss = float(results.losses.mean(dtype=np.float64))
        return Gradients(loss, results.scores, gradient, self._measured(prepared).copy())

    def values(
        self, images: Array, labels: Array, parameters: Array, statistics: Array, training: Training | None
    ) -> Values:
        """Every value and every gradient, from the definition."""
        return self._definition.values(images, labels, parameters, statistics, training)

    def explain(self, batch: int) -> tuple[list[KernelUse], list[MemoryUse]]:
        """Which kernels train a batch of this size, and why; and where every value lies."""
        plan = self.prepare(Mode(backward=True, training=True), batch).plan
        return kernel_uses(plan), memory_uses(plan)

    # --- many updates in one call -----------------------------------------------------------------------------

    def trains_with(self, optimizer: Optimizer) -> bool:
        """Those of optimizers.UPDATES."""
        return type(optimizer) in UPDATES and bool(UPDATES[type(optimizer)][0].address)

    def train(
        self,
        batches: Batches,
        optimizer: Optimizer,
        parameters: Array,
        statistics: Array,
        memory: Array,
        decayed: Sequence[slice],
        average: Average | None = None,
    ) -> Results:
        """Make the updates; a short last batch by a plan of its own where the plan depends on the size."""
        if not self.trains_with(optimizer):
            raise SettingError(f"the lanes engine has no compiled update for {optimizer}")
        count, whole = len(batches.order), len(batches.order) // batches.batch * batches.batch
        rules = records(optimizer, batches.rates, batches.step + 1, memory.shape[1])
        addresses = rules.ctypes.data + rules.itemsize * np.arange(rules.size).reshape(rules.shape)
        weights = average.weights if average else np.zeros(len(batches.rates))
        averages = average_kernel.record(*(AverageRow(float(weight)) for weight in weights))
        averaged = np.where(weights != 0, averages.ctypes.data + averages.itemsize * np.arange(len(weights)), 0)
        parts = pieces(decayed, self.parameters.size)
        results = []
        varied = variation(
            batches.augmentation,
            batches.images.shape[2:],
            batches.seed,
            batches.epoch,
            batches.order,
            self.threads,
        )
        for first, last in ((0, whole), (whole, count)) if self._layer_by_layer else ((0, count),):
            if first == last:
                continue
            size = min(batches.batch, last - first)
            prepared = self.prepare(Mode(backward=True, training=True), size)
            self._set(prepared, parameters, statistics)
            number = first // batches.batch
            source = _source(
                prepared.plan,
                *(batches.images, batches.labels, batches.order, batches.seed, batches.step + number),
                varied=varied,
            )
            updates = _gradient_only(size, first, last, parts)._replace(
                rule=UPDATES[type(optimizer)][0].address,
                records=addresses[number:],
                slots=memory.reshape(-1),
                averaging=average_kernel.address if average else 0,
                weights=averaged[number:],
                average=average.vector if average else NO_FLOATS,
                norms=np.zeros(len(batches.rates) - number),
            )
            results.append(self._call(prepared, self.gradients(prepared, size), source, updates))
            parameters[:] = prepared.P[: self.parameters.size]
            statistics[:] = self._measured(prepared)
            if updates.state[FAILED]:
                break
        return Results(*(np.concatenate(each) for each in zip(*results, strict=True)))

    # --- one row at a time ------------------------------------------------------------------------------------

    def begin(
        self, images: Array, labels: Array, parameters: Array, statistics: Array, training: Training | None
    ) -> tuple[Prepared, Array]:
        """Up to 16 images laid into the lanes and the weights packed, no row of the body run; and zeroed gradients.

        For check.first_difference, which runs the rows itself.
        """
        prepared = self.prepare(Mode(backward=True, training=training is not None), len(images))
        tables = prepared.tables._replace(body=NO_ROWS)
        self._run(prepared._replace(tables=tables), images, labels, parameters, statistics, training or Training())
        return prepared, self.gradients(prepared, len(images))[0]

    # --- running ----------------------------------------------------------------------------------------------

    def prepare(self, mode: Mode, images: int) -> Prepared:
        """The plan for so many images at a time, made once, with memory: only the plan that ran last has some."""
        layer_by_layer = mode.training and self._layer_by_layer
        groups = -(-images // LANES) if layer_by_layer else 1
        if self._last and self._last[0] == (mode, groups):
            return self._last[1]
        self._last = self._gradients = None  # what the other plan had is free before this one asks
        if (mode, groups) not in self._lowered:
            threads = self.threads if layer_by_layer else 1
            plan = Plan(
                self.graph,
                self.parameters,
                self.statistics,
                mode.backward,
                mode.training,
                groups,
                threads,
                self.precise,
            )
            compile_beside(plan)
            (prepare, kept), (body, also_kept) = _rows(plan.prepare), _rows(plan.body)
            check_plan(plan)
            tables = Tables(
                prepare=prepare,
                body=body,
                depth_first=int(not layer_by_layer),
                groups=groups,
                image=plan.maps(IMAGE),
                label=plan.maps(LABEL),
                scores=plan.maps(self.graph.output),
                loss=plan.maps(self.graph.nodes[-1].name if mode.backward else self.graph.output),
            )
            self._lowered[mode, groups] = Lowered(plan, tables, kept + also_kept)
        lowered = self._lowered[mode, groups]
        prepared = Prepared(
            *lowered,
            P=lowered.plan.memory(),
            A=rows(1 if layer_by_layer else self.threads, lowered.plan.arena),
            S=rows(self.threads, max(lowered.plan.scratch, LANES)),
        )
        self._last = (mode, groups), prepared
        return prepared

    def _scores(
        self,
        prepared: Prepared,
        images: Array,
        order: Array | None = None,
        varied: Variation | None = None,
        seed: int = 0,
    ) -> Array:
        """With the parameters that were set last."""
        order = np.arange(len(images)) if order is None else order
        source = _source(prepared.plan, images, np.zeros(len(images), np.int64), order, seed, 0, varied=varied)
        results, _ = self._once(prepared, source)
        return results.scores.reshape(len(order), *self.graph.shapes[self.graph.output])

    def _run(
        self, prepared: Prepared, images: Array, labels: Array, parameters: Array, statistics: Array, training: Training
    ) -> tuple[Results, Array]:
        """One batch without an update; its gradient too."""
        self._set(prepared, parameters, statistics)
        order = np.arange(len(images))
        source = _source(prepared.plan, images, labels, order, training.seed, training.step, training.first_image)
        return self._once(prepared, source)

    def _once(self, prepared: Prepared, source: Images) -> tuple[Results, Array]:
        """The same with the parameters that were set last."""
        count = len(source.order)
        gradients = self.gradients(prepared, count)
        updates = _gradient_only(count, 0, count, self._pieces)
        return self._call(prepared, gradients, source, updates), gradients[0, : self.parameters.size].copy()

    def _set(self, prepared: Prepared, parameters: Array, statistics: Array) -> None:
        size = self.parameters.size
        prepared.P[:size] = parameters
        prepared.P[size : size + self.statistics.size] = statistics

    def _measured(self, prepared: Prepared) -> Array:
        return prepared.P[self.parameters.size : self.parameters.size + self.statistics.size]

    def gradients(self, prepared: Prepared, batch: int) -> Array:
        """Room for the gradient, which the runner zeroes: a row for each slot of a batch of this size."""
        slots = min(SLOTS, -(-batch // LANES)) if prepared.tables.depth_first else 1
        shape = slots, self.parameters.size if prepared.plan.backward else 1
        if self._gradients is None or self._gradients[0] != shape:  # new memory may cost more than an update
            self._gradients = shape, rows(*shape)
        return self._gradients[1]

    def _call(self, prepared: Prepared, gradients: Array, source: Images, updates: Updates) -> Results:
        """Let the runner make the updates, on all threads."""
        count = updates.last - updates.first
        results = Results(np.empty(count, np.float32), np.empty((count, self.graph.classes), np.float32), updates.norms)
        memory = Memory(
            P=prepared.P,
            G=gradients.reshape(-1),
            slots=gradients.shape[0],
            gradient_size=gradients.shape[1],
            A=prepared.A,
            S=prepared.S,
            scores=results.scores,
            losses=results.losses,
            statistics=self._measured(prepared),
            kept=np.empty(self.statistics.size, np.float32),
            given=np.zeros(TAKEN + len(prepared.plan.body) * self.threads, np.int64),
            backward=int(prepared.plan.backward),
        )
        self._on_threads(
            lambda thread, threads: run(prepared.tables, memory, source, updates, self._counters, thread, threads),
            min(self.threads, memory.slots) if prepared.tables.depth_first else self.threads,
        )
        if updates.rule:
            made = int(updates.state[MADE])
            images = min(made * updates.batch, count)
            return Results(results.losses[:images], results.scores[:images], results.norms[:made])
        return results

    def _on_threads(self, work: Callable[[int, int], None], threads: int) -> None:
        """Run the work on so many threads, this one among them; an error in one is raised here."""
        errors: list[BaseException] = []

        def guarded(thread: int) -> None:
            try:
                work(thread, threads)
            except BaseException as error:
                errors.append(error)

        others = [threading.Thread(target=guarded, args=(k,)) for k in range(1, threads)]
        for other in others:
            other.start()
        guarded(0)
        for other in others:
            other.join()
        if errors:
            raise errors[0]


class FrozenProgram:
    """A program's scores with parameters of its own. Callers at the same time wait for one another."""

    def __init__(self, program: LanesProgram, parameters: Array, statistics: Array) -> None:
        self._program = LanesProgram(
            program.graph, program.parameters, program.statistics, program.threads, program.precise
        )
        self._vectors = parameters.copy(), statistics.copy()
        self._few = self._program.single if program.few else None
        if self._few:
            self._few.scores(np.empty((0, *program.graph.input_shape)), *self._vectors)
        self._many: Prepared | None = None
        self._lock = threading.Lock()

    def __call__(self, images: Array) -> Array:
        """(N, K): the output node's values."""
        if self._few and len(images) <= self._program.few:
            return self._few.scores(images)
        with self._lock:
            if self._many is None:  # the first call packs the weights
                scores = self._program.scores(images, *self._vectors)
                packed = self._program.prepare(INFERENCE, len(images))
                self._many = packed._replace(tables=packed.tables._replace(prepare=NO_ROWS))
                return scores
            return self._program._scores(self._many, images)


class LanesEngine:
    """16 images side by side; kernels compiled once, a table for each network.

    threads: None for as many as the process may use. precise: no algorithm that rounds more than the definition.
    """

    def __init__(self, threads: int | None = None, precise: bool = False) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self.precise = precise

    def compile(self, graph: Graph, parameters: Layout, statistics: Layout) -> LanesProgram:
        """The graph's program for vectors laid out so."""
        return LanesProgram(graph, parameters, statistics, self.threads, self.precise)


def without_kernels(graph: Graph) -> Node | None:
    """The first node whose layer has none."""
    return next((node for node in graph if not has_kernels(graph, node, LOWERINGS)), None)


def has_kernels(graph: Graph, node: Node, lowerings: Mapping[type[Layer], Any]) -> bool:
    """Can the node be lowered by one of these?"""
    return lowering_of(node.layer, graph.input_shape_of(node), lowerings) is not None


def _rows(steps: list[Step]) -> tuple[Rows, list[Array]]:
    """The steps as the runner reads them, and the records, which must live as long."""
    records = [step.kernel.record(step.row) for step in steps]
    addresses = [step.kernel.address for step in steps]
    units = [step.units for step in steps]
    places = [record.ctypes.data for record in records]
    return Rows(*(np.array(column, np.int64) for column in (addresses, places, units))), records


def _gradient_only(batch: int, first: int, last: int, parts: Array) -> Updates:
    """No optimiser: the gradient of each batch, summed up."""
    return Updates(
        batch,
        first,
        last,
        parts,
        rule=0,
        records=np.empty((0, 4), np.int64),
        slots=NO_FLOATS,
        averaging=0,
        weights=np.empty(0, np.int64),
        average=NO_FLOATS,
        squares=np.empty(len(parts), np.float32),
        norms=np.empty(0),
        state=np.zeros(2, np.int64),
    )


def _source(
    plan: Plan,
    images: Array | MappedRows,
    labels: Array,
    order: Array,
    seed: int,
    step: int,
    first_image: int = 0,
    varied: Variation | None = None,
) -> Images:
    """Images for the runner: bytes as they are, other numbers as float32. Rows of a mapped file stay in the file."""
    if isinstance(images, MappedRows):
        labels_of_rows = np.zeros(len(images.base), np.int64)
        labels_of_rows[images.rows] = labels
        labels, order = labels_of_rows, images.rows[order]
        images = images.base
    none, as_bytes = np.empty(0), images.dtype == np.uint8
    scale, low = plan.pixels.by_channel(plan.maps(IMAGE).channels)
    return Images(
        bytes=np.ascontiguousarray(images if as_bytes else none, np.uint8).reshape(-1),
        floats=np.ascontiguousarray(none if as_bytes else images, np.float32).reshape(-1),
        labels=np.ascontiguousarray(labels, np.int64),
        order=np.ascontiguousarray(order, np.int64),
        low=low.astype(np.float32),
        scale=scale.astype(np.float32),
        variation=varied or unvaried(),
        seed=seed,
        step=step,
        first_image=first_image,
    )
