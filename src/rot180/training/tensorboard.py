"""Event files for TensorBoard: a listener on the stream of steps.

Needs the package tensorboardX: pip install 'rot180[tensorboard]'.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Any

from rot180.errors import RunError, SettingError
from rot180.training.loop import Step


def recorded(steps: Iterable[Step], folder: str | os.PathLike[str]) -> Iterator[Step]:
    """The steps as they come, each written into an event file in the folder under its update's number.

    record/loss, error, learning_rate     of each Step: means over its epoch so far
    epoch/loss, error, learning_rate      at the end of each epoch; also validation_loss, validation_error

    Of a resumed training, what lies in the folder from its first update on is superseded. Numbers that are not finite
    are left out. SettingError where the package is missing, RunError where the folder cannot be written.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise SettingError("TensorBoard's files need tensorboardX: pip install 'rot180[tensorboard]'") from error
    return _recorded(steps, os.fspath(folder))


def _recorded(steps: Iterable[Step], folder: str) -> Iterator[Step]:
    file = None
    try:
        for step in steps:
            with _named(folder):
                file = file or EventFile(folder, step.step)
                file.write(step)
            yield step
    finally:
        if file:
            with _named(folder):
                file.close()


@contextmanager
def _named(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write TensorBoard's files to {folder}: {error.strerror or error}") from error


class EventFile:
    """One file of events, written as they happen.

    tensorboardX's own SummaryWriter leaves writing to a thread, which a full disk ends, and then waits for it for ever.
    """

    def __init__(self, folder: str, first: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        self._writer = EventsWriter(os.path.join(folder, "rot180"), f".{first}")  # noqa: PTH118 - as it wants it
        self._write(first, session_log=SessionLog(status=SessionLog.START))  # what is there from `first` on is void
        self._writer.flush()

    def write(self, step: Step) -> None:
        """The step's numbers; they are on the disk when an epoch ends."""
        from tensorboardX.summary import scalar

        for name, value in scalars(step).items():
            if isfinite(value):
                self._write(step.step, summary=scalar(name, value))
        if step.ends_epoch or step.stopped_by:
            self._writer.flush()

    def close(self) -> None:
        """Flush and close it."""
        self._writer.close()

    def _write(self, step: int, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=time.time(), step=step, **what))


def scalars(step: Step) -> dict[str, float]:
    """What is written of a step, by the names that TensorBoard shows."""
    values = {"loss": step.loss, "error": step.error, "learning_rate": step.learning_rate}
    of_record = {f"record/{name}": value for name, value in values.items()}
    if not (step.ends_epoch or step.stopped_by):
        return of_record
    if step.validation:
        values |= {"validation_loss": step.validation.loss, "validation_error": step.validation.error}
    return of_record | {f"epoch/{name}": value for name, value in values.items()}
