"""The compiled runner: walks a program's table, on any number of threads, for any number of updates in one call.

    for each update:
        prepare      weights are laid out for the kernels                               shared out among the threads
        body         depth first:  each thread takes groups of 16 images, one after the other, through all rows
                     layer by layer: all threads share the units of a row, and begin the next when it is done
        update       the parameters move against the gradient (see optimizers.py)       shared out among the threads

Depth first, a group's values stay in the thread's cache. The gradient is summed in slots: the groups of a slot in their
order, then the slots in theirs, and which groups make a slot depends on the batch alone. Layer by layer, each unit of
work sums what it sums in one order. So the bits are the same for any number of threads.
"""

from typing import NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.jit import atomic_add, atomic_load, barrier, call, entry, helper
from rot180.engines.lanes.layout import Maps, at, of_group
from rot180.engines.lanes.reading import Images, read_group
from rot180.engines.lanes.simd import LANES, fma, horizontal_sum, load, store, zeros
from rot180.engines.lanes.single.runner import wait_for


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
    given: Array  # int64, zeros: [DONE] shares that are done, from [TAKEN] on, for each row, which shares are taken
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


DONE, TAKEN = 0, 8  # in `given`: where shares that are done are counted, and where the marks of those taken begin


@helper
def run_together(rows: Rows, memory: Memory, A: Array, S: Array, thread: int, threads: int) -> None:
    """All rows, each in as many shares as there are threads; it begins when all shares of the one before are done.

    A thread takes its own share first, whose numbers may still be in its cache, then what nobody has begun: one that
    the operating system keeps from running holds up nobody. Who computes a unit does not change it.
    """
    given = memory.given
    before = 0
    for k in range(len(rows.addresses)):
        units = rows.units[k]
        shares = min(units, threads)
        wait_for(given, before)
        for offset in range(threads):
            mine = (thread + offset) % threads
            if mine < shares and atomic_add(given, TAKEN + k * threads + mine, 1) == 0:
                first, last = share(units, mine, shares)
                call(rows.addresses[k], memory.P, memory.G, A, S, rows.records[k], first, last)
                atomic_add(given, DONE, 1)
        before += shares
    wait_for(given, before)


@helper
def give_back(memory: Memory, thread: int) -> None:
    """When all threads have run all rows, the first marks their shares as neither taken nor done, for the next run."""
    if thread == 0:
        for k in range(len(memory.given)):
            memory.given[k] = 0


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
                    step = images.step + number
                    read_group(images, tables.image, tables.label.start, A, position, first, batch, step, thread)
                    for k in range(len(tables.body.addresses)):
                        call(
                            tables.body.addresses[k], memory.P, G, A, S, tables.body.records[k], 0, tables.body.units[k]
                        )
                    write_group(tables, memory, A, 0, start + first, min(LANES, batch - first))
        else:
            A = memory.A[0]
            begin, end = share(tables.groups, thread, threads)
            for group in range(begin, end):
                to, label, step = of_group(tables.image, group), of_group(tables.label, group), images.step + number
                read_group(images, to, label.start, A, position, group * LANES, batch, step, thread)
            barrier(counters, threads)
            run_together(tables.body, memory, A, S, thread, threads)
            for group in range(begin, end):
                first = group * LANES
                write_group(tables, memory, A, group, start + first, max(0, min(LANES, batch - first)))
        barrier(counters, threads)
        give_back(memory, thread)
        if memory.backward:
            if not update_parameters(memory, updates, S, number, start, batch, counters, thread, threads):
                keep_statistics(memory, thread, back=True)
                break
            barrier(counters, threads)
        position += batch
        number += 1
