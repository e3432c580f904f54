"""Where a training update's time goes: every row of a network's program, timed by itself on one thread.

    python benchmarks/rows.py NETWORK [--batch 64] [--top 25]

NETWORK is one that `rot180 summary` knows, words of a work of `rot180 bench`, or an ONNX model's file. A row's speed is
its node's multiply-adds (a share for each of its rows of one kernel) over its time; rows that move data have none.
Depth first, the rows are those of one group of 16 images.
"""

import argparse
import time
from collections import Counter

import numpy as np

from rot180 import bench, models
from rot180.chance import Training
from rot180.engines.lanes.jit import call
from rot180.engines.lanes.program import LanesEngine, LanesProgram, Mode
from rot180.network import Network, load
from rot180.summary import summarize

ROUNDS, LEAST_SECONDS = 5, 0.002


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--top", type=int, default=25)
    arguments = parser.parse_args()

    network = find(arguments.network)
    program: LanesProgram = LanesEngine(1).compile(network.graph, network.layout, network.statistics_layout)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (arguments.batch, *network.graph.input_shape)).astype(np.float32)
    labels = rng.integers(0, network.graph.classes, arguments.batch)
    program.loss_and_gradients(images, labels, network.parameters, network.statistics, Training())

    mode = Mode(backward=True, training=True)
    prepared = program.prepare(mode, arguments.batch)
    gradients = program.gradients(prepared, arguments.batch)[0]
    images_a_row = arguments.batch if prepared.plan.groups > 1 else min(arguments.batch, 16)
    work = {row.name: 2.0 * row.multiply_adds * images_a_row for row in summarize(network.graph).rows}
    shares = Counter((step.node, step.kernel.python.__name__) for step in prepared.plan.body)
    timed = []
    for section, rows in ((prepared.plan.prepare, prepared.tables.prepare), (prepared.plan.body, prepared.tables.body)):
        for step, address, record in zip(section, rows.addresses, rows.records, strict=True):
            operands = (prepared.P, gradients, prepared.A[0], prepared.S[0])
            seconds = least(lambda: call(int(address), *operands, int(record), 0, step.units))  # noqa: B023
            speed = work[step.node] / shares.get((step.node, step.kernel.python.__name__), 1) / seconds
            timed.append((seconds, step.node, step.kernel.name, step.units, speed))
    total = sum(seconds for seconds, *_ in timed)
    print(f"{arguments.network}: {len(timed)} rows for {images_a_row} images, {1e3 * total:.3f} ms on one thread")
    kinds: Counter[str] = Counter()
    for seconds, _, kernel, *_ in timed:
        kinds[kernel.partition("(")[0]] += seconds
    for kernel, seconds in kinds.most_common():
        print(f"  {100 * seconds / total:5.1f} %  {kernel}")
    print()
    for seconds, node, kernel, units, speed in sorted(timed, reverse=True)[: arguments.top]:
        rate = f"{speed / 1e9:7.1f} GFLOP/s" if work[node] else " " * 15
        print(f"{1e6 * seconds:10.1f} us  {rate}  {node:24} {kernel}, {units} units")


def find(name: str) -> Network:
    """The network of this name."""
    if name.endswith(".onnx"):
        return load(name, engine="reference")
    graph = models.build(name) if name in models.MODELS else bench.find([name])[0].graph()
    return Network(graph, 1, engine="reference")


def least(function: object) -> float:
    """The shortest of several rounds, each long enough to be timed."""
    repeats, best = 1, float("inf")
    while True:
        began = time.perf_counter()
        for _ in range(repeats):
            function()  # type: ignore[operator]
        seconds = time.perf_counter() - began
        if seconds > LEAST_SECONDS:
            break
        repeats *= 2
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(repeats):
            function()  # type: ignore[operator]
        best = min(best, (time.perf_counter() - began) / repeats)
    return best


if __name__ == "__main__":
    main()
