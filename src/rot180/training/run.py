"""A run: a training with a folder, which survives a crash at any moment.

run.json                 network, recipe, data and its digest, versions: what would be needed to do it again
log.jsonl                one record an epoch
checkpoint.safetensors   to go on from
preparation.safetensors  what is done to every image first, where something is
start.safetensors        the network before the first update, where it was not drawn by chance alone
weights.safetensors      the trained network                    } written last, when all is done
results.json             test error, times                      }
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rot180.arrays import whole
from rot180.chance import Training
from rot180.data.augmentation import Augmentation
from rot180.data.balance import NOISE
from rot180.data.dataset import Sets, content_digest
from rot180.data.folder import PictureOptions, Progress
from rot180.data.preparation import Preparation, load_preparation
from rot180.engines import Trains
from rot180.errors import DivergenceError, RunError
from rot180.files import UNFINISHED, Lock, replace_file
from rot180.graph import IMAGE, Graph
from rot180.network import EVALUATION_BATCH, Evaluation, Network, load
from rot180.training.checkpoint import load_checkpoint, save_checkpoint
from rot180.training.features import features
from rot180.training.loop import Step, Trainer
from rot180.training.material import material
from rot180.training.recipe import Recipe
from rot180.transfer import Parts
from rot180.version import VERSION

CHECKPOINT_SECONDS = 10.0
PREPARATION = "preparation.safetensors"
START = "start.safetensors"


@dataclass(frozen=True)
class Settings:
    """What run.json says: everything that decides the outcome, beside the data itself."""

    data: str
    network: str
    graph: Graph
    recipe: Recipe
    initializer: str
    engine: str
    images: int | None  # train on the first so many only
    data_digest: str = ""
    prepare: str | None = None  # data.preparation, fitted to the training images
    balance: str | None = None  # data.balance, of the training images
    noise: float = NOISE  # of balancing's copies
    start: str | None = None  # the network's file or run that this one began with
    new_head: bool | None = None  # was its head drawn anew?
    pixels: str | None = None  # how they were scaled for it: one of transfer.PIXELS
    freeze_below: str | None = None  # the first node that learns: transfer.Parts; below "image" nothing lies
    variants: int | None = None  # of each image, for a frozen part

    def used(self, sets: Sets) -> Sets:
        """Those of the images that the run is to use."""
        return Sets(sets.train.take(slice(self.images)), sets.test) if self.images else sets

    @property
    def pictures(self) -> PictureOptions:
        """How the data was read, where it is a folder of pictures."""
        return PictureOptions.fitting(self.graph.input_shape)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "data": self.data,
            "data_digest": self.data_digest,
            "images": self.images,
            "prepare": self.prepare,
            "balance": self.balance,
            "noise": self.noise,
            "start": self.start,
            "new_head": self.new_head,
            "pixels": self.pixels,
            "freeze_below": self.freeze_below,
            "variants": self.variants,
            "network": self.network,
            "graph": json.loads(self.graph.to_json()),
            "initializer": self.initializer,
            "engine": self.engine,
            "recipe": self.recipe.to_json(),
            "versions": {"rot180": VERSION, "numpy": np.__version__, "python": platform.python_version()},
        }


def read_settings(folder: Path) -> Settings:
    """What run.json says. RunError, naming the file, where it is missing or damaged."""
    path = folder / "run.json"
    try:
        stored = json.loads(path.read_text("utf-8"))
        images = stored["images"]
        return Settings(
            data=str(stored["data"]),
            network=str(stored["network"]),
            graph=Graph.from_json(json.dumps(stored["graph"])),
            recipe=Recipe.from_json(stored["recipe"]),
            initializer=str(stored["initializer"]),
            engine=str(stored["engine"]),
            images=None if images is None else int(images),
            data_digest=str(stored["data_digest"]),
            prepare=_text(stored["prepare"]),
            balance=_text(stored["balance"]),
            noise=float(stored["noise"]),
            start=_text(stored["start"]),
            new_head=None if stored["new_head"] is None else bool(stored["new_head"]),
            pixels=_text(stored["pixels"]),
            freeze_below=_text(stored["freeze_below"]),
            variants=None if stored["variants"] is None else whole(stored["variants"], "variants"),
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{folder} is not a run: it has no run.json") from error
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError, RunError) as error:
        raise RunError(f"{path}: damaged ({error}); start the run again") from error


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


class Run:
    """A training and its folder. Iterating trains, keeps the folder up to date and yields each Step."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        sets: Sets,
        *,
        start: Network | None = None,
        resume: bool = False,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Make the folder, or with `resume` go on from its checkpoint.

        start: the network before its first update (see transfer.start); without, it is drawn by the seed.
        progress: told as images pass through a frozen part.
        Raises RunError where the folder holds a run already, cannot be made, or the data is not the run's.
        """
        self.folder = folder
        self.loaded = sets  # as they came
        digest = data_digest(settings.used(sets))
        if resume and settings.data_digest != digest:
            raise RunError(f"{folder}: {settings.data} is no longer the data that the run began with; start a new run")
        self.settings = replace(settings, data_digest=digest)
        recipe = settings.recipe
        stored = resume and settings.prepare and (folder / PREPARATION).exists()
        self.material = material(
            settings.used(sets),
            recipe=recipe,
            balanced=settings.balance,
            noise=settings.noise,
            prepare=settings.prepare,
            preparation=load_preparation(folder / PREPARATION) if stored else None,
        )
        if resume and settings.start:
            start = load(folder / START, settings.engine, threads)
            if start.graph.to_json() != settings.graph.to_json():
                raise RunError(f"{folder / START}: not the network that run.json describes; start the run again")
        self.network = start or Network(
            settings.graph,
            recipe.seed,
            start=settings.initializer,
            engine=settings.engine,
            threads=threads,
            class_names=sets.train.class_names,
        )
        self.parts: Parts | None = None
        trained, train, validation = self.network, self.material.train, self.material.validation
        if settings.freeze_below not in (None, IMAGE):
            self.parts = Parts(self.network, settings.freeze_below)
            trained = self.parts.upper
            train = features(self.parts, train, recipe.augmentation, settings.variants or 1, recipe.seed, progress)
            validation = validation and features(self.parts, validation, progress=progress)
            self.parts.release()
            recipe = replace(recipe, augmentation=Augmentation())
        self.trainer = Trainer(trained, train, recipe, validation)
        self._log_length = 0
        self._stop = False
        if resume:
            self._take()
        else:
            self._create()
        if resume and self._checkpoint.exists():
            extra = load_checkpoint(self._checkpoint, self.trainer)
            try:
                self._log_length = int(extra["log_length"])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise RunError(
                    f"{self._checkpoint}: the checkpoint is damaged ({error!r}); start the run again"
                ) from error
        self._clear_crash()

    @classmethod
    def resume(cls, folder: Path, sets: Sets, threads: int | None = None) -> "Run":
        """The run in the folder, as its last checkpoint left it."""
        return cls(folder, read_settings(folder), sets, resume=True, threads=threads)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def seconds(self) -> float:
        """Time spent on updates and validation, over all resumptions; compiling kernels is not counted."""
        return self.trainer.position.seconds

    @property
    def finished(self) -> bool:
        """Has training ended?"""
        return self.trainer.finished

    def stop(self) -> None:
        """End the iteration after the update that is being made; for signal handlers."""
        self._stop = True

    def __iter__(self) -> Iterator[Step]:
        self._warm_up()
        saved = time.monotonic()
        for step in self.trainer:
            if step.ends_epoch or step.stopped_by:
                self._log(step)
            if step.ends_epoch or step.stopped_by or time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
            yield step
            if self._stop:  # asked for during the update, or by whoever took the step
                self.save()
                return

    def _warm_up(self) -> None:
        """Have the engine compile what it will need, before the clock starts; the numbers are thrown away."""
        recipe, network = self.settings.recipe, self.trainer.network
        few = self.trainer.data.take(slice(recipe.batch if recipe.mode == "mini-batch" else 1))
        with np.errstate(all="ignore"):
            network.loss_and_gradients(few.images, few.labels, Training())
            network.evaluate(self.trainer.data.take(slice(EVALUATION_BATCH)))
        if isinstance(network.program, Trains):
            network.program.trains_with(recipe.optimizer)

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self._checkpoint, self.trainer, {"log_length": self._log_length})

    def finish(self) -> dict[str, Any]:
        """Measure on the test set, once; write the network and the results; return them."""
        trainer = self.trainer
        trainer.settle()
        if self.parts:
            self.parts.join()
        with np.errstate(all="ignore"):  # what is not finite is named
            test = self.network.evaluate(self.material.test)
            validation = trainer.network.evaluate(trainer.validation) if trainer.validation else None
        if not np.isfinite(test.loss):
            raise DivergenceError(
                f"the loss on the test images is {test.loss:.4g}: the last updates made the parameters too large. "
                f"Train again with a smaller learning rate than {self.settings.recipe.learning_rate:g}"
            )
        at = trainer.position
        images = at.epoch * len(trainer.data) + at.image
        results = {
            "network": self.settings.network,
            "data": self.settings.data,
            "parameters": self.network.layout.count,
            "learning_parameters": trainer.network.layout.count,
            "start": self.settings.start,
            "freeze_below": self.settings.freeze_below,
            "seed": self.settings.recipe.seed,
            "epochs": at.epoch,
            "updates": at.step,
            "stopped_by": at.stopped_by,
            "best_epoch": at.best_epoch or None,
            "train_images": len(self.material.train),
            "prepare": self.settings.prepare,
            "balance": self.material.balance and self.material.balance.to_json(),
            "train_seconds": round(self.seconds, 3),
            "images_per_second": round(images / self.seconds, 1) if self.seconds else None,
            "validation_error": validation and validation.error,
            "test_images": test.images,
            "test_errors": test.errors,
            "test_error": test.error,
            "test_loss": test.loss,
            "class_names": list(self.network.class_names),
            "confusion": test.confusion.tolist(),
            "data_report": self.loaded.train.report,
        }
        self.network.save(self.folder / "weights.safetensors")
        replace_file(self.folder / "results.json", _lines(results))
        return results

    # --- the folder ----------------------------------------------------------------------------------------------

    def _create(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            occupied = (self.folder / "run.json").exists()
        except OSError as error:
            raise RunError(
                f"cannot make the run folder {self.folder}: {error.strerror}; choose another --out"
            ) from error
        if occupied:
            raise RunError(
                f"{self.folder} holds a run already: choose another --out, or go on with --resume {self.folder}"
            )
        if self.material.preparation:
            self.material.preparation.save(self.folder / PREPARATION)
        if self.settings.start:
            self.network.save(self.folder / START)
        replace_file(self.folder / "run.json", _lines(self.settings.to_json()))
        self._take()
        self.save()

    def _take(self) -> None:
        """Keep other processes out of the folder."""
        sentence = f"{self.folder}: another process is at work on this run; wait for its end, or stop it"
        self._lock = Lock(self.folder / "run.json", sentence)

    def _clear_crash(self) -> None:
        """Files half written go; the log goes back to the checkpoint: what came after it will be written again."""
        for unfinished in self.folder.glob(f".*{UNFINISHED}"):
            unfinished.unlink(missing_ok=True)
        path = self.folder / "log.jsonl"
        try:
            with path.open("ab") as log:
                log.truncate(min(self._log_length, log.tell()))
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from error

    def _log(self, step: Step) -> None:
        record = {
            "epoch": step.epoch,
            "step": step.step,
            "loss": step.loss,
            "error": step.error,
            "gradient_norm": step.gradient_norm,
            "learning_rate": step.learning_rate,
            "validation_loss": step.validation.loss if step.validation and np.isfinite(step.validation.loss) else None,
            "validation_error": step.validation and step.validation.error,
            "seconds": round(self.seconds, 3),
        }
        path = self.folder / "log.jsonl"
        try:
            with path.open("ab") as log:
                log.write(json.dumps(record).encode() + b"\n")
                log.flush()
                os.fsync(log.fileno())
                self._log_length = log.tell()
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from error


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records of log.jsonl; a last line that a crash tore is left out.

    RunError, naming the file, where it is missing or damaged.
    """
    path = folder / "log.jsonl"
    try:
        records = [json.loads(line) for line in path.read_text("utf-8", errors="replace").split("\n")[:-1]]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("a line is not a record")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{folder} is not a run: it has no log.jsonl") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: damaged ({error})") from error
    return records


def load_run(folder: str | os.PathLike[str], threads: int | None = None) -> tuple[Settings, Network]:
    """A finished run's settings and trained network, from its folder."""
    folder = Path(folder)
    settings = read_settings(folder)
    weights = folder / "weights.safetensors"
    if not weights.exists():
        raise RunError(f"{folder}: the run is not finished; go on with rot180 train --resume {folder}")
    return settings, load(weights, settings.engine, threads)


def load_run_preparation(folder: str | os.PathLike[str]) -> Preparation | None:
    """What the run does to every image before its network sees it; None for nothing."""
    folder = Path(folder)
    return load_preparation(folder / PREPARATION) if read_settings(folder).prepare else None


def describe(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as plain values."""
    return {
        "images": evaluation.images,
        "errors": evaluation.errors,
        "error": evaluation.error,
        "loss": evaluation.loss,
        "confusion": evaluation.confusion.tolist(),
        "recall": [None if np.isnan(share) else share for share in evaluation.recall.tolist()],
        "precision": [None if np.isnan(share) else share for share in evaluation.precision.tolist()],
    }


def data_digest(sets: Sets) -> str:
    """What tells these images and labels from others."""
    return hashlib.sha256("".join(content_digest(each) for each in sets).encode()).hexdigest()


def _lines(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode() + b"\n"
