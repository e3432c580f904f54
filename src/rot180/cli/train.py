"""train a network: on the embedded MNIST, on IDX files or on CIFAR-10

Everything the run leaves lies in one folder: the trained weights, the results, the log, and a checkpoint from which
--resume goes on after an interruption, a crash or a power cut, to the same bits.

  rot180 train                                   LeNet-5 on MNIST, a few minutes
  rot180 train --epochs 2 --seed 7 --out runs/quick
  rot180 train FOLDER                            FOLDER holds train-images-idx3-ubyte[.gz] and the three others,
                                                 or data_batch_1.bin to data_batch_5.bin and test_batch.bin
  rot180 train cifar-10-batches-bin --network resnet-20 --flip --shift 4 --epochs 60
  rot180 train --resume runs/quick
"""

import argparse
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

from rot180 import models
from rot180.arrays import text
from rot180.cli.output import percent, print_json
from rot180.data.augmentation import Augmentation
from rot180.data.dataset import Dataset
from rot180.engines import DEFAULT_ENGINE, ENGINES
from rot180.errors import DataError, SettingError
from rot180.optimizers import SGD
from rot180.parameters import INITIALIZERS
from rot180.training.recipe import MODES, Recipe
from rot180.training.run import Run, Settings, read_settings
from rot180.training.schedules import SCHEDULES

RUNS = Path("runs")
STOPPED = 130
NETWORK_FOR = {(1, 28, 28): "lenet-5", (3, 32, 32): "resnet-20"}  # (C, H, W) of an image


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    recipe = Recipe()
    sgd = SGD()
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="mnist (the default, embedded) or a folder of IDX or CIFAR-10 files"
    )
    parser.add_argument("--network", choices=models.MODELS, help="the network (default: what suits the images)")
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run's folder (default: a new one under runs/)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with the run in this folder")
    parser.add_argument("--epochs", type=int, metavar="N", help=f"times through the images (default: {recipe.epochs})")
    parser.add_argument("--seed", type=int, metavar="N", help=f"of every chance (default: {recipe.seed})")
    parser.add_argument("--mode", choices=MODES, help=f"when to update (default: {recipe.mode})")
    parser.add_argument("--batch", type=int, metavar="N", help=f"images an update (default: {recipe.batch})")
    parser.add_argument(
        "--learning-rate", type=float, metavar="X", help=f"at its highest (default: {recipe.learning_rate})"
    )
    parser.add_argument("--schedule", choices=SCHEDULES, help="how the learning rate falls (default: cosine)")
    parser.add_argument("--momentum", type=float, metavar="X", help=f"(default: {sgd.momentum})")
    parser.add_argument("--weight-decay", type=float, metavar="X", help=f"(default: {sgd.weight_decay})")
    _configure_augmentation(parser.add_argument_group("how training images are varied, afresh in every epoch"))
    parser.add_argument("--validation", type=float, metavar="X", help="share of images held out (default: 1/12)")
    parser.add_argument("--initializer", choices=INITIALIZERS, help="how weights start (default: he)")
    parser.add_argument("--images", type=int, metavar="N", help="learn from the first N images only")
    parser.add_argument("--engine", choices=ENGINES, help=f"what computes (default: {DEFAULT_ENGINE})")
    parser.add_argument("--threads", type=int, metavar="N", help="processors to use (default: all this process may)")


def _configure_augmentation(group: argparse._ArgumentGroup) -> None:
    default = Recipe().augmentation
    group.add_argument("--shift", type=int, metavar="N", help=f"by up to N pixels (default: {default.shift})")
    group.add_argument("--flip", action="store_true", default=None, help="half of them mirrored, left for right")
    group.add_argument("--rotate", type=float, metavar="X", help="by up to X degrees")
    group.add_argument("--scale", type=float, metavar="X", help="larger or smaller by up to this share, such as 0.1")
    group.add_argument("--shear", type=float, metavar="X", help="by up to X degrees")
    group.add_argument(
        "--elastic", type=float, nargs=2, metavar=("ALPHA", "SIGMA"), help="elastic distortion; 34 4 suits digits"
    )
    group.add_argument(
        "--crop", type=float, metavar="X", help="a window of at least this share, stretched to the whole"
    )
    group.add_argument("--cutout", type=int, metavar="N", help="a square of N pixels becomes 0")


def run(arguments: argparse.Namespace) -> int:
    """Train, test, report."""
    current = _resumed(arguments) if arguments.resume else _new(arguments)
    from rot180.cli.progress import shown

    with _graceful_stop(current):
        for _ in shown(current):
            pass
    if not current.finished:
        print(f"rot180: stopped; go on with: rot180 train --resume {current.folder}", file=sys.stderr)
        if arguments.json:
            print_json({"stopped": True, "run": str(current.folder), "updates": current.trainer.position.step})
        return STOPPED
    results = {"run": str(current.folder), **current.finish()}
    if arguments.json:
        print_json(results)
    else:
        print(
            f"test error {percent(results['test_error'])} ({results['test_errors']} of {results['test_images']:,}) "
            f"after {results['epochs']} epochs, {results['train_seconds']:.1f} s of training\n{current.folder}"
        )
    return 0


def _new(arguments: argparse.Namespace) -> Run:
    from rot180 import data

    source = arguments.data or "mnist"
    sets = data.load(source)
    network = arguments.network or _network_for(sets.train)
    graph = models.build(network, len(sets.train.class_names))
    if arguments.images is not None and not 1 <= arguments.images <= len(sets.train):
        raise SettingError(f"--images is {arguments.images}: choose from 1 to {len(sets.train)}")
    settings = Settings(
        data=source if source == data.EMBEDDED else str(Path(source).resolve()),
        network=network,
        graph=graph,
        recipe=_recipe(arguments),
        initializer=arguments.initializer or "he",
        engine=arguments.engine or DEFAULT_ENGINE,
        images=arguments.images,
    )
    return Run(
        arguments.out or _free_folder(f"{network}-{Path(source).resolve().name}"),
        settings,
        sets,
        threads=arguments.threads,
    )


def _network_for(dataset: Dataset) -> str:
    if dataset.shape not in NETWORK_FOR:
        raise SettingError(f"{dataset.name}: images are {text(dataset.shape)}; choose a --network that takes them")
    return NETWORK_FOR[dataset.shape]


def _resumed(arguments: argparse.Namespace) -> Run:
    from rot180 import data

    fixed = [
        "DATA" if name == "data" else f"--{name.replace('_', '-')}"
        for name, value in vars(arguments).items()
        if value is not None and name not in ("resume", "json", "run", "threads")
    ]
    if fixed:
        raise SettingError(f"--resume takes every setting from the run; leave out {', '.join(fixed)}")
    settings = read_settings(arguments.resume)
    try:
        sets = data.load(settings.data)
    except DataError as error:
        raise DataError(f"the run's data cannot be loaded: {error}") from error
    return Run(arguments.resume, settings, sets, resume=True, threads=arguments.threads)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    """The default recipe with what was asked for."""

    def given(**names: str) -> dict[str, Any]:
        values = {field: getattr(arguments, argument) for field, argument in names.items()}
        return {field: value for field, value in values.items() if value is not None}

    simple = ("epochs", "seed", "mode", "batch", "learning_rate", "validation")
    recipe = Recipe(
        augmentation=replace(Recipe().augmentation, **given(**{each.name: each.name for each in fields(Augmentation)})),
        optimizer=SGD(**given(momentum="momentum", weight_decay="weight_decay")),
        **given(**{n: n for n in simple}),
    )
    return replace(recipe, schedule=SCHEDULES[arguments.schedule]()) if arguments.schedule else recipe


def _free_folder(name: str) -> Path:
    """runs/NAME-1, or the next number that is free."""
    number = 1
    while (RUNS / f"{name}-{number}").exists():
        number += 1
    return RUNS / f"{name}-{number}"


class _graceful_stop:  # noqa: N801 - reads as a verb where it is used
    """The first Ctrl-C (or SIGTERM) ends the run after its current update, with a checkpoint; a second one at once."""

    def __init__(self, current: Run) -> None:
        self._run = current

    def __enter__(self) -> None:
        self._before = {each: signal.signal(each, self._handle) for each in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self._run.stop()
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
