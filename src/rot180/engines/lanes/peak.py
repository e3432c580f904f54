"""What the processor can do: multiply-adds on registers, with operands from the nearest cache."""

import threading
import time
from typing import NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.jit import TILES, Kernel, call, entry, kernel, target
from rot180.engines.lanes.simd import LANES, outer, tile_store, tile_zeros

ROWS, COLUMNS = TILES[target()][0]
REPEATS = 1_000_000


class Row(NamedTuple):
    """How often."""

    repeats: int


@kernel(Row)
def multiply_adds(P: Array, G: Array, A: Array, S: Array, row: Row, first: int, last: int) -> None:  # noqa: ARG001
    """One tile, the same operands again and again."""
    total = tile_zeros(ROWS, COLUMNS)
    for _ in range(row.repeats):
        total = outer(total, P, 0, 1, A, 0, LANES)
    tile_store(total, S, 0, COLUMNS * LANES, LANES)


@entry
def _run(address: int, P: Array, A: Array, S: Array, record: int) -> None:
    call(address, P, P, A, S, record, 0, 1)


def peak_speed(threads: int, rounds: int = 5) -> float:
    """Floating-point operations a second on so many threads: the best of several rounds."""
    work: Kernel[Row] = multiply_adds
    record = work.record(Row(REPEATS))
    P, A = np.zeros(64, np.float32), np.zeros(COLUMNS * LANES, np.float32)
    results = np.zeros((threads, ROWS * COLUMNS * LANES), np.float32)

    def one(thread: int) -> None:
        _run(work.address, P, A, results[thread], record.ctypes.data)

    one(0)  # compiled
    best = 0.0
    for _ in range(rounds):
        began = time.perf_counter()
        others = [threading.Thread(target=one, args=(thread,)) for thread in range(1, threads)]
        for other in others:
            other.start()
        one(0)
        for other in others:
            other.join()
        best = max(best, 2.0 * ROWS * COLUMNS * LANES * REPEATS * threads / (time.perf_counter() - began))
    return best
