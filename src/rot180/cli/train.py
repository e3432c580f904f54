"""train a network: on the embedded MNIST, on a folder of pictures, on IDX files or on CIFAR-10

Everything the run leaves lies in one folder: the trained weights, the results, a report as a web page, the log,
and a checkpoint from which --resume goes on after an interruption, a crash or a power cut, to the same bits.

  rot180 train                                   LeNet-5 on MNIST, a few minutes
  rot180 train --epochs 2 --seed 7 --out runs/quick
  rot180 train PHOTOS                            PHOTOS holds a sub-folder of pictures for each class, or train/ and
                                                 val/ or test/ with these: docs/photos.md
  rot180 train FOLDER                            FOLDER holds train-images-idx3-ubyte[.gz] and the three others,
                                                 or data_batch_1.bin to data_batch_5.bin and test_batch.bin
  rot180 train cifar-10-batches-bin --network resnet-20 --flip --shift 4 --epochs 60
  rot180 train --optimizer adamw --patience 3 --average exponential
  rot180 train --network 'INPUT -> [[CONV -> RELU]*2 -> POOL]*2 -> FC(100) -> RELU -> FC'
  rot180 train --recipe recipes/lenet-5-1998.json --seed 2
  rot180 train PHOTOS --start efficientnet.onnx --pixels=-1..1    only a new head learns: docs/transfer.md
  rot180 train PHOTOS --start runs/resnet-20-1 --freeze-below stage3_1.sum.conv1
  rot180 train --resume runs/quick

A recipe file has settings by the names of run.json; what is given beside it goes first: docs/recipes.md
Ways of training, with their equations: docs/training.md
"""

import argparse
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Self

from rot180 import models
from rot180.cli.begin import begin, resume
from rot180.cli.output import percent, print_json
from rot180.data.balance import NOISE, WAYS
from rot180.engines import DEFAULT_ENGINE, ENGINES
from rot180.errors import Rot180Error, SettingError
from rot180.notices import notify
from rot180.optimizers import OPTIMIZERS, SGD
from rot180.parameters import INITIALIZERS
from rot180.training.averaging import AVERAGES
from rot180.training.recipe import MODES, SHORT_MODES, Recipe
from rot180.training.run import Run
from rot180.training.schedules import SCHEDULES
from rot180.training.stopping import EPOCHS
from rot180.training.suggestion import VARIANTS
from rot180.transfer import PIXELS

RUNS = Path("runs")
NETWORK_FOR = {(1, 28, 28): "lenet-5", (3, 32, 32): "resnet-20"}  # (C, H, W) of an image
SIGNALLED = 128  # and the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    recipe = Recipe()
    sgd = SGD()
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="mnist (the default, embedded), a folder of pictures or of IDX files",
    )
    parser.add_argument(
        "--network",
        type=_network,
        metavar="NETWORK",
        help=f"{', '.join(models.MODELS)}; or a pattern (default: what suits the images)",
    )
    _configure_start(parser.add_argument_group("beginning with a trained network"))
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="train as this file says, or a run's run.json")
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run's folder (default: a new one under runs/)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with the run in this folder")
    parser.add_argument("--epochs", type=int, metavar="N", help=f"times through the images (default: {recipe.epochs})")
    parser.add_argument("--seed", type=int, metavar="N", help=f"of every chance (default: {recipe.seed})")
    parser.add_argument(
        "--mode",
        type=_one_of((*MODES, *SHORT_MODES)),
        metavar="MODE",
        help="when to update: mini-batch (default), stochastic (ST), whole-batch (BT), sample-by-sample (EET)",
    )
    parser.add_argument("--batch", type=int, metavar="N", help=f"images an update (default: {recipe.batch})")
    parser.add_argument("--sample-loss", type=float, metavar="X", help="EET: an image's turn ends below this loss")
    parser.add_argument("--sample-updates", type=int, metavar="N", help="EET: or after so many updates")
    parser.add_argument(
        "--optimizer", type=_one_of(OPTIMIZERS), metavar="NAME", help=f"{', '.join(OPTIMIZERS)} (default: SGD)"
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="X",
        help=f"at its highest (default: {_by_optimizer('usual_rate')})",
    )
    parser.add_argument("--schedule", choices=SCHEDULES, help="how the learning rate goes (default: cosine)")
    parser.add_argument("--momentum", type=float, metavar="X", help=f"of SGD (default: {sgd.momentum})")
    parser.add_argument("--nesterov", action=argparse.BooleanOptionalAction, help="SGD: look ahead (default)")
    parser.add_argument("--beta1", type=float, metavar="X", help="of Adam and AdamW (default: 0.9)")
    parser.add_argument("--beta2", type=float, metavar="X", help="of Adam and AdamW (default: 0.999)")
    parser.add_argument("--weight-decay", type=float, metavar="X", help=f"(default: {_by_optimizer('weight_decay')})")
    parser.add_argument(
        "--average", choices=("none", *AVERAGES), help="test and save the parameters' average (default: none)"
    )
    parser.add_argument("--stop-loss", type=float, metavar="X", help="end when an epoch's training loss is at most X")
    parser.add_argument("--stop-error", type=float, metavar="X", help="the same of its training error, a share")
    parser.add_argument("--stop-gradient", type=float, metavar="X", help="the same of the gradient's length")
    parser.add_argument(
        "--patience", type=int, metavar="N", help="end N epochs after the best validation loss, with it"
    )
    parser.add_argument("--max-updates", type=int, metavar="N", help="end after N updates")
    parser.add_argument("--max-seconds", type=float, metavar="X", help="end after X seconds of training")
    _configure_augmentation(parser.add_argument_group("how training images are varied, afresh in every epoch"))
    parser.add_argument(
        "--prepare",
        metavar="HOW",
        help="standardize (zero mean, unit variance), denoise (3x3 median), pca:K (K principal components), zca",
    )
    parser.add_argument("--size", type=int, metavar="N", help="pictures are made NxN (default: by their number)")
    parser.add_argument("--balance", choices=WAYS, help="as many training images of each class")
    parser.add_argument("--noise", type=float, metavar="X", help=f"of the copies that balance (default: {NOISE:g})")
    parser.add_argument("--label-smoothing", type=float, metavar="X", help="share of the target for all classes (0)")
    parser.add_argument("--validation", type=float, metavar="X", help="share of images held out (default: 1/12)")
    parser.add_argument("--initializer", choices=INITIALIZERS, help="how weights start (default: he)")
    parser.add_argument("--images", type=int, metavar="N", help="learn from the first N images only")
    parser.add_argument("--engine", choices=ENGINES, help=f"what computes (default: {DEFAULT_ENGINE})")
    parser.add_argument("--threads", type=int, metavar="N", help="processors to use (default: all this process may)")
    parser.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="write event files for TensorBoard there")


def _configure_start(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--start", metavar="NETWORK", help="a run's folder, or a file (.safetensors, .onnx)")
    group.add_argument(
        "--new-head",
        action=argparse.BooleanOptionalAction,
        help="make its last layer anew (default: where the classes' names are others)",
    )
    group.add_argument(
        "--pixels",
        choices=PIXELS,
        help="what it was fed, where it takes no pixels 0..255 (default: imagenet for colours, else 0..1)",
    )
    group.add_argument(
        "--freeze-below",
        metavar="NODE",
        help="leave as it is what this node is computed from; head: all but a new head (default with one); "
        "image: nothing (default without). rot180 summary names the nodes",
    )
    group.add_argument(
        "--variants",
        type=int,
        metavar="N",
        help=f"of each image, varied as below, that pass through the frozen part (default: {VARIANTS} for pictures)",
    )


def _configure_augmentation(group: argparse._ArgumentGroup) -> None:
    default = Recipe().augmentation
    group.add_argument("--shift", type=int, metavar="N", help=f"by up to N pixels (default: {default.shift})")
    group.add_argument(
        "--flip", action=argparse.BooleanOptionalAction, help="half of them mirrored, left for right (default: no)"
    )
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
    current = _resumed(arguments) if arguments.resume else begin(arguments)
    from rot180.cli.progress import shown

    steps = iter(current)
    if arguments.tensorboard:
        from rot180.training.tensorboard import recorded

        steps = recorded(steps, arguments.tensorboard)
    with _graceful_stop(current) as asked:
        for _ in shown(steps):
            pass
    if not current.finished:
        print(f"rot180: stopped; go on with: rot180 train --resume {current.folder}", file=sys.stderr)
        if arguments.json:
            print_json({"stopped": True, "run": str(current.folder), "updates": current.trainer.position.step})
        return SIGNALLED + asked.signal
    results = {"run": str(current.folder), **current.finish()}
    _report(current, arguments.threads)
    if arguments.json:
        print_json(results)
    else:
        reason = "" if results["stopped_by"] == EPOCHS else f" (stopped by: {results['stopped_by'].replace('_', ' ')})"
        print(
            f"test error {percent(results['test_error'])} ({results['test_errors']} of {results['test_images']:,}) "
            f"after {results['epochs']} epochs, {results['train_seconds']:.1f} s of training{reason}\n{current.folder}"
        )
    return 0


def _report(current: Run, threads: int | None) -> None:
    """Write the run's report; the run is done, whether that goes well or not."""
    from rot180.explain import write_report

    try:
        write_report(current.folder, current.loaded, threads)
    except Rot180Error as error:
        notify(f"there is no report: {error}; rot180 report {current.folder} writes it")


def _network(text: str) -> str:
    """The name or pattern of a network, if there is such a one."""
    try:
        if models.is_pattern(text):
            models.Pattern.read(text).expanded()
        else:
            models.build(text)
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _resumed(arguments: argparse.Namespace) -> Run:
    fixed = [
        "DATA" if name == "data" else f"--{name.replace('_', '-')}"
        for name, value in vars(arguments).items()
        if value is not None and name not in ("resume", "json", "run", "threads", "tensorboard")
    ]
    if fixed:
        raise SettingError(f"--resume takes every setting from the run; leave out {', '.join(fixed)}")
    return resume(arguments.resume, arguments.threads)


def _by_optimizer(setting: str) -> str:
    return ", ".join(f"{name} {getattr(kind(), setting):g}" for name, kind in OPTIMIZERS.items())


def _one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Reads one of the names, in capitals or not."""
    known = {name.lower(): name for name in names}

    def read(text: str) -> str:
        if text.lower() not in known:
            raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(known.values())})")
        return known[text.lower()]

    return read


class _graceful_stop:  # noqa: N801 - reads as a verb where it is used
    """The first Ctrl-C (or SIGTERM) ends the run after its current update, with a checkpoint; a second one at once."""

    def __init__(self, current: Run) -> None:
        self._run = current
        self.signal: int = signal.SIGINT

    def __enter__(self) -> Self:
        self._before = {each: signal.signal(each, self._handle) for each in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        self._run.stop()
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
