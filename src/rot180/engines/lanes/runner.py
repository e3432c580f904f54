"""The compiled runner: walks a program's table, on any number of threads, for any number of updates in one call.

    for each update:
        prepare      weights are laid out for the kernels                               shared out among the threads
        body         depth first:  each thread takes groups of 16 images, one after the other, through all rows
                     layer by layer: all threads share the units of a row, then go on to the next together
        update       the parameters move against the gradient (see optimizers.py)       shared out among the threads

Depth first, a group's values stay in the thread's cache. The gradient is summed in slots: the groups of a slot in their
order, then the slots in theirs, and which groups make a slot depends on the batch alone. Layer by layer, each unit of
work sums what it sums in one order. So the bits are the same for any number of threads.
"""

from typing import Any, NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.chance import Use
from rot180.data.augmentation import COLUMN_WORD, FLIP_WORD, ROW_WORD
from rot180.engines.lanes.chance import GAMMA, SIXTEEN_BITS, extend, mix
from rot180.engines.lanes.jit import atomic_add, atomic_load, barrier, call, entry, helper
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.simd import LANES, fma, horizontal_sum, load, store, zeros

AUGMENTATION, LAYER = int(Use.AUGMENTATION), int(Use.LAYER)
ROW_COUNT, COLUMN_COUNT, FLIP_COUNT = ROW_WORD + 1, COLUMN_WORD + 1, FLIP_WORD + 1  # SplitMix64 counts from 1


class Images(NamedTuple):
    """Where images and labels come from, and how they are read."""

    bytes: Array  # uint8, (n·C·H·W,), or empty
    floats: Array  # float32, likewise; one of the two is given
    labels: Array  # int64, (n,)
    order: Array  # int64: which image is taken when
    low: float  # a pixel v becomes low + v · scale
    scale: float
    shift: int  # how images are varied, as data.augmentation.Augmentation does
    flip: int
    seed: int
    epoch: int
    step: int  # the first update's number, for layers that need chance
    first_image: int  # position in the batch of the first image at hand


class Rows(NamedTuple):
    """Rows to run in this order."""

    addresses: Array  # of the kernels
    records: Array  # addresses of what each kernel reads its offsets and sizes from
    units: Array  # how many units of work


class Tables(NamedTuple):
    """The program."""

    prepare: Rows  # before each update, in any order
    body: Rows
    depth_first: int
    groups: int  # that the arena holds at a time
    image: Maps
    label: Maps
    scores: Maps
    loss: Maps


class Memory(NamedTuple):
    """What the program works on. One row a thread or a slot where it says so."""

    P: Array  # parameters, statistics, packed weights
    G: Array  # (slots · gradient_size,)
    slots: int
    gradient_size: int  # a multiple of LANES
    A: Array  # depth first (threads, size), else (1, size)
    S: Array  # (threads, size)
    scores: Array  # (images of the call, classes)
    losses: Array  # (images of the call,)
    statistics: Array  # those in P
    kept: Array  # as they were before the update
    backward: int


class Updates(NamedTuple):
    """Which batches, and how the parameters move after each."""

    batch: int
    first: int  # position in `order` of the first batch
    last: int  # position behind the last: the last batch may be short
    pieces: Array  # int64 (n, 3): the parameters' vectors in parts: from, to, whether weight decay acts
    rule: int  # the address of the optimiser's kernel; 0: no update, only the gradient
    records: Array  # int64 (updates, 4): addresses of its records, [2 · storing + whether weight decay acts]
    slots: Array  # float32: the optimiser's memory
    averaging: int  # the address of the average's kernel
    weights: Array  # int64 (updates,): addresses of its records, 0 where an update is not averaged
    average: Array  # float32
    squares: Array  # float32 (n,): the sum of the gradient's squares in each piece
    norms: Array  # float64 (updates,): the gradient's length, of updates that were made
    state: Array  # int64: [FAILED] how many threads met a number that is not finite, [MADE] how many updates were made


FAILED, MADE = 0, 1


@helper
def read_group(
    images: Images, tables: Tables, A: Array, group: int, order: int, position: int, batch: int, step: int
) -> None:
    """Lay the 16 images from this position of the batch on into the lanes of a group.

    `order` is where the batch begins in the order, `batch` its size: lanes behind its end hold zeros and weigh nothing.
    """
    to = tables.image
    pixels = to.channels * to.height * to.width
    label = tables.label.start + group * tables.label.group
    chance = extend(extend(extend(np.uint64(0), LAYER), images.seed), step)
    for n in range(LANES):
        place = to.start + group * to.group + n
        exists = position + n < batch
        index = images.order[order + position + n] if exists else 0
        A[label + n] = float(images.labels[index]) if exists else 0.0
        A[label + LANES + n] = np.float32(1.0) / np.float32(batch) if exists else 0.0
        for part in range(4):
            A[label + (2 + part) * LANES + n] = float((chance >> np.uint64(48 - 16 * part)) & np.uint64(SIXTEEN_BITS))
        A[label + 6 * LANES + n] = float(images.first_image + position + n)
        down: Any = np.int64(0)
        right: Any = np.int64(0)
        mirrored = False
        if exists and (images.shift > 0 or images.flip):
            state = extend(extend(extend(extend(np.uint64(0), AUGMENTATION), images.seed), images.epoch), index)
            span = np.uint64(2 * images.shift + 1)
            down = np.int64(mix(state + np.uint64(GAMMA) * np.uint64(ROW_COUNT)) % span) - images.shift
            right = np.int64(mix(state + np.uint64(GAMMA) * np.uint64(COLUMN_COUNT)) % span) - images.shift
            mirrored = bool(images.flip) and mix(state + np.uint64(GAMMA) * np.uint64(FLIP_COUNT)) >> np.uint64(63) == 1
        first, last = max(0, -right), min(to.width, to.width - right)  # columns that stay in sight
        low, scale = np.float32(images.low), np.float32(images.scale)
        for c in range(to.channels):
            for i in range(to.height):
                here = place + c * to.plane + i * to.line
                from_row = i + down
                seen = exists and 0 <= from_row < to.height
                blank = low if exists else np.float32(0.0)
                if not seen or first > 0 or last < to.width:
                    for j in range(to.width):
                        A[here + j * LANES] = blank
                if seen:
                    source = index * pixels + (c * to.height + from_row) * to.width
                    source, way = (source + to.width - 1 - right, -1) if mirrored else (source + right, 1)
                    if len(images.bytes) > 0:
                        for j in range(first, last):
                            A[here + j * LANES] = np.float32(images.bytes[source + way * j]) * scale + low
                    else:
                        for j in range(first, last):
                            A[here + j * LANES] = images.floats[source + way * j] * scale + low


@helper
def write_group(tables: Tables, memory: Memory, A: Array, group: int, position: int, count: int) -> None:
    """Scores and losses of a group, from the lanes to the images' places in the results."""
    scores, k = of_group(tables.scores, group), 0
    for c in range(scores.channels):
        for i in range(scores.height):
            for j in range(scores.width):
                place = at(scores, c, i, j)
                for n in range(count):
                    memory.scores[position + n, k] = A[place + n]
                k += 1
    if memory.backward:
        for n in range(count):
            memory.losses[position + n] = A[tables.loss.start + group * tables.loss.group + n]


@helper
def share(count: int, thread: int, threads: int) -> tuple[int, int]:
    """A thread's part of 0..count."""
    return count * thread // threads, count * (thread + 1) // threads


@helper
def run_together(rows: Rows, memory: Memory, A: Array, S: Array, thread: int, threads: int, counters: Array) -> None:
    """All rows, each shared out among the threads, which wait for one another after each."""
    for k in range(len(rows.addresses)):
        first, last = share(rows.units[k], thread, threads)
        if first < last:
            call(rows.addresses[k], memory.P, memory.G, A, S, rows.records[k], first, last)
        barrier(counters, threads)


@helper
def zero_gradients(memory: Memory, thread: int, threads: int) -> None:
    """All slots to zero."""
    first, last = share(memory.slots * memory.gradient_size // LANES, thread, threads)
    for k in range(first, last):
        store(memory.G, k * LANES, zeros())


@helper
def sum_slots(memory: Memory, first: int, last: int) -> float:
    """Sum vectors first to last of all slots into the first; the sum of their squares."""
    squares = zeros()
    for k in range(first * LANES, last * LANES, LANES):
        gradient = load(memory.G, k)
        for slot in range(1, memory.slots):
            gradient += load(memory.G, slot * memory.gradient_size + k)
        store(memory.G, k, gradient)
        squares = fma(gradient, gradient, squares)
    return horizontal_sum(squares)


@helper
def keep_statistics(memory: Memory, thread: int, back: bool) -> None:
    """The first thread notes the statistics before an update, or puts them back."""
    if thread == 0:
        for k in range(len(memory.kept)):
            if back:
                memory.statistics[k] = memory.kept[k]
            else:
                memory.kept[k] = memory.statistics[k]


@helper
def all_finite(numbers: Array, first: int, last: int) -> bool:
    """Is each of numbers[first .. last-1] finite?"""
    wrong = np.float32(0.0)
    for n in range(first, last):
        wrong += numbers[n] - numbers[n]
    return wrong == np.float32(0.0)


@helper
def update_parameters(
    memory: Memory,
    updates: Updates,
    S: Array,
    number: int,
    start: int,
    batch: int,
    counters: Array,
    thread: int,
    threads: int,
) -> bool:
    """The gradient summed up; where there is a rule, and all it leads to is finite, one step of it. Is it made?"""
    begin, end = share(len(updates.pieces), thread, threads)
    store(S, 0, zeros())
    for k in range(begin, end):
        first, last, decayed = updates.pieces[k, 0], updates.pieces[k, 1], updates.pieces[k, 2]
        updates.squares[k] = sum_slots(memory, first, last)
        if updates.rule != 0:
            call(updates.rule, memory.P, memory.G, updates.slots, S, updates.records[number, decayed], first, last)
    if updates.rule == 0:
        return True
    finite = horizontal_sum(load(S, 0)) == 0.0
    if thread == 0 and finite:
        finite = all_finite(memory.losses, start, start + batch)
        finite = finite and all_finite(memory.statistics, 0, len(memory.statistics))
    if not finite:
        atomic_add(updates.state, FAILED, 1)
    barrier(counters, threads)
    if atomic_load(updates.state, FAILED) > 0:
        return False
    for k in range(begin, end):
        first, last, decayed = updates.pieces[k, 0], updates.pieces[k, 1], updates.pieces[k, 2]
        call(updates.rule, memory.P, memory.G, updates.slots, S, updates.records[number, 2 + decayed], first, last)
        if updates.weights[number] != 0:
            call(updates.averaging, memory.P, memory.G, updates.average, S, updates.weights[number], first, last)
    if thread == 0:
        total = 0.0
        for k in range(len(updates.squares)):
            total += updates.squares[k]
        updates.norms[number] = np.sqrt(total)
        updates.state[MADE] = number + 1
    return True


@entry
def run(
    tables: Tables, memory: Memory, images: Images, updates: Updates, counters: Array, thread: int, threads: int
) -> None:
    """One thread's part of the updates. All threads call this with the same arguments but for `thread`."""
    slots = memory.slots
    S = memory.S[thread]
    position, number = updates.first, 0
    while position < updates.last:
        batch = min(updates.batch, updates.last - position)
        groups = (batch + LANES - 1) // LANES
        start = position - updates.first
        for k in range(len(tables.prepare.addresses)):
            first, last = share(tables.prepare.units[k], thread, threads)
            if first < last:
                call(tables.prepare.addresses[k], memory.P, memory.G, S, S, tables.prepare.records[k], first, last)
        if memory.backward:
            zero_gradients(memory, thread, threads)
            keep_statistics(memory, thread, back=False)
        barrier(counters, threads)
        if tables.depth_first:
            A = memory.A[thread]
            for slot in range(thread, slots, threads):
                begin, end = share(groups, slot, slots)
                G = memory.G[slot * memory.gradient_size :]
                for group in range(begin, end):
                    first = group * LANES
                    read_group(images, tables, A, 0, position, first, batch, images.step + number)
                    for k in range(len(tables.body.addresses)):
                        call(
                            tables.body.addresses[k], memory.P, G, A, S, tables.body.records[k], 0, tables.body.units[k]
                        )
                    write_group(tables, memory, A, 0, start + first, min(LANES, batch - first))
        else:
            A = memory.A[0]
            begin, end = share(tables.groups, thread, threads)
            for group in range(begin, end):
                read_group(images, tables, A, group, position, group * LANES, batch, images.step + number)
            barrier(counters, threads)
            run_together(tables.body, memory, A, S, thread, threads, counters)
            for group in range(begin, end):
                first = group * LANES
                write_group(tables, memory, A, group, start + first, max(0, min(LANES, batch - first)))
        barrier(counters, threads)
        if memory.backward:
            if not update_parameters(memory, updates, S, number, start, batch, counters, thread, threads):
                keep_statistics(memory, thread, back=True)
                break
            barrier(counters, threads)
        position += batch
        number += 1
