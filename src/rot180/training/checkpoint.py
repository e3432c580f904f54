"""Checkpoints: all that a training needs to go on as if it had never stopped, in one safetensors file."""

import json
from dataclasses import asdict, fields
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from rot180.errors import RunError
from rot180.files import digest, replace_file, safetensors
from rot180.training.loop import Position, Trainer
from rot180.training.stopping import REASONS

FORMAT = "rot180 checkpoint 2"


def save_checkpoint(path: Path, trainer: Trainer, extra: dict[str, Any]) -> None:
    """Write parameters, statistics, the optimiser's memory, the position, and `extra` (plain values).

    A crash leaves the old file or the new one; RunError where it cannot be written.
    """
    texts = {"position": json.dumps(asdict(trainer.position)), "extra": json.dumps(extra)}
    metadata = {"format": FORMAT, "digest": digest(trainer.arrays, *texts.values()), **texts}
    replace_file(path, safetensors(trainer.arrays, metadata))


def load_checkpoint(path: Path, trainer: Trainer) -> dict[str, Any]:
    """Put what `save_checkpoint` wrote into the trainer and its network; return `extra`.

    RunError, naming the file, where it is damaged or another network's; the trainer is then unchanged.
    """
    from safetensors import SafetensorError, safe_open

    into = trainer.arrays
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if metadata.get("format") != FORMAT or shapes != {name: array.shape for name, array in into.items()}:
                raise RunError(f"{path}: not a checkpoint of this network; start the run again")
            arrays = {name: file.get_tensor(name) for name in into}
        if metadata["digest"] != digest(arrays, metadata["position"], metadata["extra"]):
            raise ValueError("it is not what was written: its checksum differs")
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
        and 0 <= position.updates <= position.step
        and 0 <= position.averaged <= position.step
        and 0 <= position.errors <= position.image
        and 0 <= position.best_epoch <= trainer.recipe.epochs
        and position.rate_factor > 0
        and position.stopped_by in ("", *REASONS)
        and all(isfinite(value) for value in asdict(position).values() if isinstance(value, float))
    )
