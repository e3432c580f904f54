"""Checkpoints: all that a training needs to go on as if it had never stopped, in one safetensors file."""

import json
from dataclasses import asdict, fields
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from rot180.errors import RunError
from rot180.files import replace_file
from rot180.training.loop import Position, Trainer

FORMAT = "rot180 checkpoint 1"


def save_checkpoint(path: Path, trainer: Trainer, extra: dict[str, Any]) -> None:
    """Write parameters, statistics, the optimiser's memory, the position, and `extra` (plain values).

    A crash leaves the old file or the new one; RunError where it cannot be written.
    """
    from safetensors.numpy import save

    network = trainer.network
    arrays = {"parameters": network.parameters, "statistics": network.statistics, "memory": trainer.memory}
    metadata = {"format": FORMAT, "position": json.dumps(asdict(trainer.position)), "extra": json.dumps(extra)}
    replace_file(path, save(arrays, metadata))


def load_checkpoint(path: Path, trainer: Trainer) -> dict[str, Any]:
    """Put what `save_checkpoint` wrote into the trainer and its network; return `extra`.

    RunError, naming the file, where it is damaged or another network's; the trainer is then unchanged.
    """
    from safetensors import SafetensorError, safe_open

    network = trainer.network
    into = {"parameters": network.parameters, "statistics": network.statistics, "memory": trainer.memory}
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if metadata.get("format") != FORMAT or shapes != {name: array.shape for name, array in into.items()}:
                raise RunError(f"{path}: not a checkpoint of this network; start the run again")
            arrays = {name: file.get_tensor(name) for name in into}
        stored, extra = json.loads(metadata["position"]), json.loads(metadata["extra"])
        position = Position(**{each.name: each.type(stored[each.name]) for each in fields(Position)})  # type: ignore[operator]
        if not isinstance(extra, dict):
            raise TypeError("extra is not an object")
        if not _is_possible(position, trainer):
            raise ValueError(f"{position} is outside the training")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RunError(f"{path}: the checkpoint is damaged ({error}); start the run again") from error
    if any(array.dtype != into[name].dtype or not np.isfinite(array).all() for name, array in arrays.items()):
        raise RunError(f"{path}: the checkpoint holds numbers that training cannot have left; start the run again")
    for name, array in arrays.items():
        into[name][...] = array
    trainer.position = position
    return extra


def _is_possible(position: Position, trainer: Trainer) -> bool:
    """Can training have stopped there? Elsewhere it would not end."""
    return (
        0 <= position.epoch <= trainer.recipe.epochs
        and 0 <= position.image < len(trainer.data)
        and 0 <= position.attempt < trainer.recipe.sample_updates
        and position.step >= 0
        and 0 <= position.errors <= position.image
        and isfinite(position.loss_sum)
    )
