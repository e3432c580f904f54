"""The compiled runners: they take images through the table, one after the other.

On several threads a row's units are handed out in as many shares as there are threads, to whichever asks first: one
that the operating system keeps from running holds up nobody, and who computes a unit does not change it. A row begins
when all shares of the one before are done.
"""

from rot180.arrays import Array
from rot180.engines.lanes.jit import atomic_add, atomic_load, call, entry, helper, pause, yield_processor
from rot180.engines.lanes.simd import LANES, horizontal_sum, load, where, zeros

SPINS = 1000  # some 50 microseconds; then the processor is offered to others


def tickets(images: int, rows: int) -> int:
    """How many counters, zeros at first, a run on several threads needs."""
    return 1 + images * (rows + 1)


@helper
def wait_for(given: Array, shares: int) -> None:
    """Until so many shares are done."""
    spins = 0
    while atomic_load(given, 0) < shares:
        spins += 1
        if spins < SPINS:
            pause()
        else:
            yield_processor()


@helper
def hand_out(A: Array, output: Array, scores: Array) -> None:
    """The output's values, from the arena to the scores (K) of an image. output: the fields of its Picture."""
    start, line, pixel, _channels, height, width = output
    for k in range(len(scores)):
        c, i, j = k // (height * width), k // width % height, k % width
        scores[k] = A[start + i * line + j * pixel + c]


@entry
def run(table: Array, P: Array, images: Array, A: Array, S: Array, scores: Array, output: Array) -> None:
    """All rows, for all images, on one thread. Numbers of a row: the kernel's address, its record's, its units.

    table (rows,3), images (n,C·H·W), S (1,size), scores (n,K).
    """
    for n in range(images.shape[0]):
        for k in range(table.shape[0]):
            call(table[k, 0], P, images[n], A, S[0], table[k, 1], 0, table[k, 2])
        hand_out(A, output, scores[n])


@entry
def run_shared(
    table: Array, P: Array, images: Array, A: Array, S: Array, scores: Array, output: Array, given: Array, thread: int
) -> None:
    """The same, one thread's part; S (threads,size).

    given: [0] counts the shares that are done, the rest, for each row of each image, the shares that are taken.
    """
    rows, threads = table.shape[0], S.shape[0]
    before = 0  # shares of the rows that went before
    for n in range(images.shape[0]):
        for k in range(rows):
            wait_for(given, before)
            shares = min(table[k, 2], threads)
            before += shares
            share = atomic_add(given, 1 + n * (rows + 1) + k, 1)
            while share < shares:
                first, last = table[k, 2] * share // shares, table[k, 2] * (share + 1) // shares
                call(table[k, 0], P, images[n], A, S[thread], table[k, 1], first, last)
                atomic_add(given, 0, 1)
                share = atomic_add(given, 1 + n * (rows + 1) + k, 1)
        wait_for(given, before)
        before += 1
        if atomic_add(given, 1 + n * (rows + 1) + rows, 1) == 0:
            hand_out(A, output, scores[n])
            atomic_add(given, 0, 1)


CHUNK = 256 * LANES  # numbers compared before looking whether one was different


@entry
def differ(P: Array, first: int, vector: Array) -> bool:
    """Is a number of the vector another than in P, where the vector begins at `first`? A NaN is."""
    size = len(vector)
    for start in range(0, size, CHUNK):
        different = zeros()
        end = min(start + CHUNK, size)
        whole = start + (end - start) // LANES * LANES
        for k in range(start, whole, LANES):
            different = where(load(P, first + k) == load(vector, k), different, 1.0)
        if horizontal_sum(different) > 0.0:
            return True
        for k in range(whole, end):
            if P[first + k] != vector[k]:
                return True
    return False
