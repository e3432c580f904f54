"""Doing the same to many things on all processors, in order and never far ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 8  # results a thread that nobody has asked for yet


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Callable[[], Result]]]:
    """Each item and a call that gives function(item), or raises what it raised.

    For functions that spend their time outside the interpreter's lock, as Pillow does. At most AHEAD results a thread
    are kept, however many items there are; whoever leaves off early has the rest cancelled.
    """
    from concurrent.futures import ThreadPoolExecutor

    threads = processors()
    pool = ThreadPoolExecutor(threads, "rot180")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > AHEAD * threads:
                first, future = waiting.popleft()
                yield first, future.result
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def processors() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
