"""Engines: ways to run a graph. `reference` is the definition."""

from rot180.engines.engine import Engine, Gradients, Program, Values
from rot180.engines.reference import ReferenceEngine
from rot180.errors import SettingError

__all__ = ["ENGINES", "Engine", "Gradients", "Program", "Values", "engine"]

ENGINES: dict[str, type[Engine]] = {"reference": ReferenceEngine}


def engine(name: str) -> Engine:
    """The engine of that name; SettingError for another."""
    if name not in ENGINES:
        raise SettingError(f"there is no engine {name!r}: choose one of {', '.join(ENGINES)}")
    return ENGINES[name]()
