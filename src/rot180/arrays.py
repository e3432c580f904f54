"""The types that every file uses, and the few checks on them."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rot180.errors import SettingError

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]  # of one image, without the batch: (C, H, W) or (D,)
Pair: TypeAlias = tuple[int, int]  # vertical, horizontal

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def pair(value: int | Sequence[int], name: str, at_least: int = 1) -> Pair:
    """(V, H) from one number for both directions, or from two. Raises SettingError below `at_least`."""
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(values) != 2 or not all(_is_whole(v) and v >= at_least for v in values):
        raise SettingError(f"{name} is {value!r}: give a whole number of at least {at_least}, or two of them")
    return int(values[0]), int(values[1])


def whole(value: int, name: str, at_least: int = 1) -> int:
    """`value`, if it is a whole number. Raises SettingError below `at_least`."""
    if not _is_whole(value) or value < at_least:
        raise SettingError(f"{name} is {value!r}: give a whole number of at least {at_least}")
    return int(value)


def number(value: float, name: str) -> float:
    """`value`, if it is a number that a float32 can hold. Raises SettingError for NaN, infinity, text."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_FLOAT32:
        raise SettingError(f"{name} is {value!r}: give a number")
    return float(value)


def flag(value: bool, name: str) -> bool:
    """`value`, if it is True or False; SettingError for anything else."""
    if not isinstance(value, bool):
        raise SettingError(f"{name} is {value!r}: give True or False")
    return value


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def one_or_pair(value: int | Sequence[int], name: str, at_least: int = 1) -> int | Pair:
    """The same as `pair`, but one number where both are equal: the form in which settings are kept."""
    vertical, horizontal = pair(value, name, at_least)
    return vertical if vertical == horizontal else (vertical, horizontal)


def text(shape: Sequence[int]) -> str:
    """A shape as people write it: 6x28x28."""
    return "x".join(str(size) for size in shape) if len(shape) else "one number"
