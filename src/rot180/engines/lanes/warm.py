"""The first start, on two processors: while one process compiles a program's kernels from the first on, another
compiles the runner and then kernels from the last back. What one has done the other finds on disk.

Compiling is mostly Python's work, which threads cannot share; so the other is a process of its own, started once, when
nothing has been compiled yet on this machine. Should it fail, the first one simply has more to do.
"""

import atexit
import json
import os
import subprocess
import sys

import numpy as np

from rot180.engines.lanes.jit import BARRIER_COUNTERS, cache_folder
from rot180.engines.lanes.layout import Maps
from rot180.engines.lanes.plan import Plan
from rot180.engines.lanes.reading import Images, unvaried
from rot180.engines.lanes.runner import Memory, Rows, Tables, Updates, run
from rot180.engines.lanes.twin import LANES
from rot180.graph import Graph
from rot180.parameters import Layout


def compile_beside(plan: Plan) -> None:
    """Where nothing is compiled yet and there is a second processor, have another process compile the plan's end."""
    if os.environ.get("ROT180_WARM") or any(cache_folder().iterdir()) or len(os.sched_getaffinity(0)) < 2:
        return
    order = json.dumps([plan.graph.to_json(), plan.backward, plan.training, plan.groups, plan.threads, plan.precise])
    command = [sys.executable, "-m", "rot180.engines.lanes.warm"]
    environment = {**os.environ, "ROT180_WARM": "1"}
    silent = subprocess.DEVNULL
    try:
        other = subprocess.Popen(  # noqa: S603 - ourselves
            command, stdin=subprocess.PIPE, stdout=silent, stderr=silent, env=environment
        )
    except OSError:
        return
    atexit.register(other.wait)
    atexit.register(other.kill)
    if other.stdin:
        other.stdin.write(order.encode())
        other.stdin.close()


def compile_runner() -> None:
    """Compile `run` for the types that programs call it with, by a call that has nothing to do."""
    ints, floats, maps = np.empty(0, np.int64), np.zeros(LANES, np.float32), Maps(0, 0, 0, 0, 0, 0, 0)
    rows, matrix = Rows(ints, ints, ints), np.zeros((1, LANES), np.float32)
    tables = Tables(rows, rows, 1, 1, maps, maps, maps, maps)
    memory = Memory(floats, floats, 1, LANES, matrix, matrix, matrix, floats, floats, floats, ints, 0)
    images = Images(np.empty(0, np.uint8), floats, ints, ints, floats, floats, unvaried(), 0, 0, 0)
    none = np.empty((0, 3), np.int64), 0, np.empty((0, 4), np.int64), floats, 0, ints, floats, floats, np.empty(0)
    updates = Updates(LANES, 0, 0, *none, ints)
    run(tables, memory, images, updates, np.zeros(BARRIER_COUNTERS, np.int64), 0, 1)


def main() -> None:
    """The other process: its order comes on standard input."""
    described, *settings = json.loads(sys.stdin.read())
    graph = Graph.from_json(described)
    compile_runner()
    plan = Plan(graph, Layout.of_parameters(graph), Layout.of_statistics(graph), *settings)
    for step in reversed([*plan.prepare, *plan.body]):
        _ = step.kernel.address


if __name__ == "__main__":
    from rot180.engines.lanes import kernels  # noqa: F401 - registers the lowerings

    main()
