"""A graph made ready for few images: its weights packed when they have changed, its table run for each image."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.check import check_plan
from rot180.engines.lanes.plan import Step, aligned, rows
from rot180.engines.lanes.single import kernels  # noqa: F401 - registers the lowerings
from rot180.engines.lanes.single.plan import SinglePlan
from rot180.engines.lanes.single.runner import differ, run, run_shared, tickets
from rot180.graph import Graph
from rot180.parameters import Layout

WORTH_SHARING = 50_000_000  # multiply-adds of an image: with fewer, threads wait for each other as long as they save


class SingleProgram:
    """One image after the other, each on all threads. Callers at the same time wait for one another."""

    def __init__(
        self, graph: Graph, parameters: Layout, statistics: Layout, threads: int, precise: bool = False
    ) -> None:
        self.plan = plan = SinglePlan(graph, parameters, statistics, precise)
        check_plan(plan)
        self._pixels, self._classes = prod(graph.input_shape), graph.classes
        self._shape = graph.shapes[graph.output]
        self._flat = len(self._shape) == 1
        self._threads = sharing(graph, threads)
        self._records: list[Array] = []  # what the tables point to
        self._prepare, self._body = self._table(plan.prepare), self._table(plan.body)
        self._output = np.array(plan.picture(graph.output), np.int64)
        self._P, self._A, self._S = plan.memory(), aligned(plan.arena), rows(self._threads, max(plan.scratch, 1))
        self._lock = threading.Lock()
        self._packed = False
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def scores(self, images: Array, parameters: Array | None = None, statistics: Array | None = None) -> Array:
        """(N,K) of images (N,C,H,W). Without parameters: with those of the last call."""
        images = np.ascontiguousarray(images, np.float32).reshape(len(images), self._pixels)
        scores = np.empty((len(images), self._classes), np.float32)
        with self._lock:
            if parameters is not None and statistics is not None:
                self._pack(parameters, statistics)
            self._run(self._body, images, scores)
        return scores if self._flat else scores.reshape(len(images), *self._shape)

    def _pack(self, parameters: Array, statistics: Array) -> None:
        """Lay the weights out, unless they are those of the last call."""
        parameters, statistics = np.asarray(parameters, np.float32), np.asarray(statistics, np.float32)
        places = (0, parameters), (parameters.size, statistics)
        if self._packed and not any(differ(self._P, first, vector) for first, vector in places):
            return
        for first, vector in places:
            self._P[first : first + vector.size] = vector
        self._run(self._prepare, *np.empty((2, 1, 0), np.float32))
        self._packed = True

    def _run(self, table: Array, images: Array, scores: Array) -> None:
        """All rows of the table for all images."""
        if self._threads == 1:  # a call of microseconds: nothing is made for it
            run(table, self._P, images, self._A, self._S, scores, self._output)
            return

        def work(thread: int) -> None:
            run_shared(table, self._P, images, self._A, self._S, scores, self._output, given, thread)

        given = np.zeros(tickets(len(images), len(table)), np.int64)
        if self._process != os.getpid():  # threads do not survive a fork
            self._pool, self._process = ThreadPoolExecutor(self._threads - 1, "rot180"), os.getpid()
        others = [self._pool.submit(work, thread) for thread in range(1, self._threads)] if self._pool else []
        work(0)
        for other in others:
            if not other.cancel():  # where it has not begun, nothing is left to do
                other.result()

    def _table(self, steps: list[Step]) -> Array:
        """The steps as the runner reads them."""
        records = [step.kernel.record(step.row) for step in steps]
        self._records += records
        table = [(s.kernel.address, record.ctypes.data, s.units) for s, record in zip(steps, records, strict=True)]
        return np.array(table, np.int64).reshape(-1, 3)


def sharing(graph: Graph, threads: int) -> int:
    """How many of the threads work on one image: all or one."""
    multiply_adds = sum(node.layer.cost(graph.input_shape_of(node)).multiply_adds for node in graph)
    return threads if multiply_adds >= WORTH_SHARING else 1
