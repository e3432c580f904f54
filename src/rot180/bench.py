"""Speed, measured beside PyTorch: the same graph, parameters, images and updates, alternating in one process.

Each work is done by rot180 and by PyTorch in both of its memory layouts, in turn, several rounds; what counts is the
median, and the ratio is to PyTorch's faster layout. Both sides get the same number of threads. PyTorch's images are
floating point already and lie in its own layout; rot180's are bytes, read in the time that is measured.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from rot180 import models
from rot180.arrays import Array
from rot180.data.augmentation import AS_THEY_ARE
from rot180.engines import Batches, Trains
from rot180.errors import SettingError
from rot180.graph import Graph, sequence
from rot180.layers import (
    Convolution,
    Dense,
    MaxPooling,
    ReLU,
    ScalePixels,
    SoftmaxCrossEntropy,
)
from rot180.network import Network
from rot180.optimizers import SGD
from rot180.parameters import decayed
from rot180.summary import summarize
from rot180.torch_twin import TorchTwin, import_torch

ROUND_SECONDS = 0.5  # how long one side works before it is the other's turn
REST = 0.3  # seconds between: threads of OpenMP wait that long for more work, and keep the processors busy
LAYOUTS = "contiguous", "channels_last"
LEARNING_RATE = 0.001


@dataclass(frozen=True)
class Work:
    """Something to be done by both sides."""

    name: str
    graph: Callable[[], Graph]
    batch: int
    training: bool
    target: float  # the ratio that the project wants to reach
    long: bool = False  # minutes by itself: only where it is asked for


def two_convolutions() -> Graph:
    """1-32-64 maps, 3x3, a dense layer of 128: PyTorch's own MNIST example without its dropout."""
    return sequence(
        (1, 28, 28),
        pixels=ScalePixels(),
        conv1=Convolution(32, 3),
        relu1=ReLU(),
        conv2=Convolution(64, 3),
        relu2=ReLU(),
        pool=MaxPooling(2),
        dense=Dense(128),
        relu3=ReLU(),
        scores=Dense(10),
        loss=SoftmaxCrossEntropy(),
    )


WORKS = (
    Work("lenet-5 training, batch 64", models.lenet5, 64, training=True, target=5.0),
    Work("lenet-5 training, batch 256", models.lenet5, 256, training=True, target=4.0),
    Work("lenet-5 training, batch 1", models.lenet5, 1, training=True, target=3.0),
    Work("two convolutions training, batch 64", two_convolutions, 64, training=True, target=1.6),
    Work("resnet-20 training, batch 128", lambda: models.resnet_small(20), 128, training=True, target=1.6),
    Work("resnet-18 (32x32) training, batch 64", lambda: models.resnet(18, 10, (3, 32, 32)), 64, True, 1.9),
    Work("lenet-5 inference, batch 1", models.lenet5, 1, training=False, target=6.0),
    Work("resnet-18 (224x224) inference, batch 1", lambda: models.resnet(18), 1, training=False, target=1.1),
    *(
        Work(f"{name} (224x224) training, batch {batch}", partial(models.build, name), batch, True, 1.0, long=True)
        for name in ("alexnet", "googlenet", "resnet-18", "resnet-50")
        for batch in (16, 32)
    ),
)


class Measurement(NamedTuple):
    """What came out: medians, and what they mean."""

    work: str
    threads: int
    operations: (
        float  # floating-point, of one batch: twice the multiply-adds, and a backward pass counts as two forward
    )
    seconds: dict[str, float]  # of one batch, by side
    ratio: float  # PyTorch's better layout to rot180
    target: float

    def speed(self, side: str) -> float:
        """Operations a second."""
        return self.operations / self.seconds[side]


def measure(work: Work, threads: int, rounds: int) -> Measurement:
    """Do the work in turns. Raises Rot180Error where PyTorch is not installed."""
    torch = import_torch()
    torch.set_num_threads(threads)
    network = Network(work.graph(), seed=1, threads=threads)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (work.batch, *network.graph.input_shape), dtype=np.uint8)
    labels = rng.integers(0, network.graph.classes, work.batch)
    sides: dict[str, Callable[[int], None]] = {"rot180": rot180_side(network, images, labels, work.training, threads)}
    for layout in LAYOUTS:
        sides[f"PyTorch {layout}"] = torch_side(network, images, labels, work.training, layout)
    repeats = {name: _calibrate(side) for name, side in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            time.sleep(REST)
            began = time.perf_counter()
            side(repeats[name])
            times[name].append((time.perf_counter() - began) / repeats[name])
    seconds = {name: statistics.median(each) for name, each in times.items()}
    operations = 2.0 * summarize(network.graph).multiply_adds * work.batch * (3 if work.training else 1)
    best = min(seconds[f"PyTorch {layout}"] for layout in LAYOUTS)
    return Measurement(work.name, threads, operations, seconds, best / seconds["rot180"], work.target)


def find(names: list[str]) -> list[Work]:
    """The works whose names hold one of these words; all but the long ones without words.

    SettingError where a word is in no name.
    """
    for name in names:
        if not any(name in work.name for work in WORKS):
            raise SettingError(f"no work is called {name!r}: there are {'; '.join(work.name for work in WORKS)}")
    if not names:
        return [work for work in WORKS if not work.long]
    return [work for work in WORKS if any(name in work.name for name in names)]


def _calibrate(side: Callable[[int], None]) -> int:
    """How many repeats fill a round; warms up on the way."""
    side(1)
    repeats = 1
    while True:
        began = time.perf_counter()
        side(repeats)
        seconds = time.perf_counter() - began
        if seconds > ROUND_SECONDS / 4:
            return max(1, round(repeats * ROUND_SECONDS / seconds))
        repeats *= 2


def rot180_side(network: Network, images: Array, labels: Array, training: bool, threads: int) -> Callable[[int], None]:
    """A function that makes rot180 do the work so many times."""
    batch = len(images)
    if not training:
        frozen = network.frozen(threads)

        def infer(repeats: int) -> None:
            for _ in range(repeats):
                frozen(images)

        return infer
    program = network.program
    if not isinstance(program, Trains):
        raise SettingError(f"the engine {network.engine_name} does not make many updates in one call")
    memory, parts = np.zeros((1, network.layout.size), np.float32), decayed(network.graph, network.layout)

    def train(repeats: int) -> None:
        order, rates = np.tile(np.arange(batch), repeats), np.full(repeats, LEARNING_RATE)
        batches = Batches(images, labels, order, batch, AS_THEY_ARE, seed=1, epoch=0, step=0, rates=rates)
        program.train(batches, SGD(), network.parameters, network.statistics, memory, parts)

    return train


def torch_side(network: Network, images: Array, labels: Array, training: bool, layout: str) -> Callable[[int], None]:
    """A function that makes PyTorch do the work so many times, in one of LAYOUTS."""
    torch = import_torch()
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    twin = TorchTwin(network, form)
    x = torch.from_numpy(images.astype(np.float32)).contiguous(memory_format=form)
    t = torch.from_numpy(labels.astype(np.int64))
    if not training:

        def infer(repeats: int) -> None:
            with torch.inference_mode():
                for _ in range(repeats):
                    twin.scores(x)

        return infer
    rule = SGD()
    optimizer = torch.optim.SGD(
        twin.learned(), lr=LEARNING_RATE, momentum=rule.momentum, nesterov=True, weight_decay=rule.weight_decay
    )

    def train(repeats: int) -> None:
        for _ in range(repeats):
            optimizer.zero_grad()
            twin.loss(x, t).backward()
            optimizer.step()

    return train


def lines(measurement: Measurement, peak: float) -> Iterator[str]:
    """The measurement as text, with its arithmetic."""
    yield f"{measurement.work}, {measurement.threads} threads: {measurement.operations / 1e9:.3f} GFLOP a batch"
    for side, seconds in measurement.seconds.items():
        speed = measurement.speed(side)
        yield f"  {side:22} {1e3 * seconds:10.3f} ms  {speed / 1e9:7.1f} GFLOP/s  {100 * speed / peak:5.1f} % of peak"
    yield f"  ratio {measurement.ratio:.2f} (wanted: {measurement.target})"
