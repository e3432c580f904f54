"""Engines: ways to run a graph. `reference` is the definition, `lanes` the fast one."""

from collections.abc import Callable
from functools import partial

from rot180.engines.engine import (
    Average,
    Batches,
    Engine,
    Explains,
    Gradients,
    Program,
    Results,
    Trains,
    Values,
    Varies,
)
from rot180.engines.reference import ReferenceEngine
from rot180.errors import SettingError
from rot180.graph import Graph
from rot180.notices import notify

__all__ = [
    "DEFAULT_ENGINE",
    "ENGINES",
    "Average",
    "Batches",
    "Engine",
    "Explains",
    "Gradients",
    "Program",
    "Results",
    "Trains",
    "Values",
    "Varies",
    "engine",
    "fastest_for",
]


def _reference(_threads: int | None) -> Engine:
    """NumPy has its own threads; OPENBLAS_NUM_THREADS sets how many."""
    return ReferenceEngine()


def _lanes(threads: int | None, precise: bool = False) -> Engine:
    from rot180.engines.lanes.program import LanesEngine  # brings in the compiler: only who needs it pays for it

    return LanesEngine(threads, precise)


ENGINES: dict[str, Callable[[int | None], Engine]] = {
    "lanes": _lanes,
    "lanes-precise": partial(_lanes, precise=True),  # rounds no more than the definition does
    "reference": _reference,
}
DEFAULT_ENGINE = "lanes"


def engine(name: str, threads: int | None = None) -> Engine:
    """The engine of that name, with so many threads (None: as many as the process may use).

    Raises SettingError for a name that is not in ENGINES, and for less than one thread.
    """
    if name not in ENGINES:
        raise SettingError(f"there is no engine {name!r}: choose one of {', '.join(ENGINES)}")
    if threads is not None and threads < 1:
        raise SettingError(f"threads is {threads}: choose at least 1")
    return ENGINES[name](threads)


def fastest_for(graph: Graph) -> str:
    """The name of the fastest engine that has all of the graph's layers; a notice where that is the definition."""
    from rot180.engines.lanes.program import without_kernels

    node = without_kernels(graph)
    if node is None:
        return DEFAULT_ENGINE
    notify(f"the lanes engine has no kernels for {node.layer} (node {node.name!r}): the definition runs, more slowly")
    return "reference"
