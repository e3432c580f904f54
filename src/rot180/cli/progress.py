"""Progress of a training: a live bar on a terminal, a line an epoch elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rot180.cli.output import percent
from rot180.training.loop import Step

REFRESH_SECONDS = 0.2
LINE_SECONDS = 10.0  # between lines of what is counted


def shown(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps as they come, shown on stderr."""
    return _bar(steps) if sys.stderr.isatty() else _lines(steps)


def epoch_line(step: Step) -> str:
    """One finished epoch as text."""
    line = f"epoch {step.epoch}/{step.epochs}  loss {step.loss:.4f}  error {percent(step.error)}"
    return f"{line}  validation error {percent(step.validation.error)}" if step.validation else line


def _lines(steps: Iterable[Step]) -> Iterator[Step]:
    began = time.monotonic()
    for step in steps:
        if step.ends_epoch:
            print(f"{epoch_line(step)}  {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        yield step


def _bar(steps: Iterable[Step]) -> Iterator[Step]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=None),
        TextColumn(
            "loss {task.fields[loss]:.4f}  error {task.fields[error]}  {task.fields[speed]}  {task.fields[left]}"
        ),
    )
    with Progress(*columns, console=Console(stderr=True, highlight=False), auto_refresh=False) as progress:
        task = progress.add_task("", total=1.0, epoch="", loss=0.0, error="", speed="", left="")
        began = shown_at = time.monotonic()
        first, images = None, 0
        for step in steps:
            now = time.monotonic()
            first = step.progress if first is None else first
            images = round((step.progress - first) * step.epochs * step.epoch_images)
            if step.ends_epoch:
                progress.console.print(epoch_line(step))
            if step.ends_epoch or now - shown_at > REFRESH_SECONDS:
                shown_at = now
                elapsed, done = now - began, step.progress - first
                progress.update(
                    task,
                    completed=step.progress,
                    epoch=f"{step.epoch}/{step.epochs}",
                    loss=step.loss,
                    error=percent(step.error),
                    speed=f"{images / elapsed:,.0f} images/s" if images else "",
                    left=_left(elapsed * (1 - step.progress) / done) if done > 0 else "",
                )
                progress.refresh()
            yield step


def _left(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s left" if minutes else f"{rest} s left"


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function to tell (done, of so many): a bar on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _counted_lines(what)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True, highlight=False), transient=True) as progress:
        task = progress.add_task(what, total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


def _counted_lines(what: str) -> Callable[[int, int], None]:
    said = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > LINE_SECONDS:
            said = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return tell
