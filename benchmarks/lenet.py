"""LeNet-5 training, rot180 beside PyTorch: the same network, images and updates, alternating in one process.

    python benchmarks/lenet.py [--threads 2] [--batch 64] [--rounds 7]

Prints, for each side, the median time of an update and images/s; the arithmetic they share; and the ratio. Both sides
run the forward and backward pass and an SGD update with momentum; PyTorch in the faster of its two layouts.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

UPDATES = 20  # in a round
BACKWARD = 2  # a backward pass costs two forwards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    for library in ("OPENBLAS", "OMP", "MKL"):  # read once, when numpy and torch are loaded
        os.environ[f"{library}_NUM_THREADS"] = str(arguments.threads)

    sides = {"rot180 reference": rot180_updates(arguments.batch)}
    for layout in ("contiguous", "channels_last"):
        sides[f"PyTorch {layout}"] = torch_updates(arguments.batch, arguments.threads, layout)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for updates in sides.values():  # warm up
        updates()
    for _ in range(arguments.rounds):
        for name, updates in sides.items():
            began = time.perf_counter()
            updates()
            times[name].append((time.perf_counter() - began) / UPDATES)

    work = 2 * multiply_adds() * (1 + BACKWARD) * arguments.batch  # a multiply-add is two operations
    print(f"LeNet-5, batch {arguments.batch}, {arguments.threads} threads, median of {arguments.rounds} rounds")
    print(f"work: {work / 1e6:.1f} MFLOP an update (forward, and twice that backward)")
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, seconds in medians.items():
        rate, speed = arguments.batch / seconds, work / seconds / 1e9
        print(f"{name:22} {1e3 * seconds:8.3f} ms an update  {rate:9,.0f} images/s  {speed:6.1f} GFLOP/s")
    best = min(seconds for name, seconds in medians.items() if name.startswith("PyTorch"))
    print(f"ratio to PyTorch's better layout: {best / medians['rot180 reference']:.2f}")


def multiply_adds() -> int:
    import rot180
    from rot180 import models

    return rot180.summarize(models.lenet5()).multiply_adds


def rot180_updates(batch: int) -> Callable[[], None]:
    import rot180
    from rot180 import data, models
    from rot180.training import Trainer

    digits = data.mnist().train.take(slice(batch * UPDATES))
    recipe = rot180.Recipe(epochs=10**6, batch=batch, shift=0, validation=0.0)
    steps = iter(Trainer(rot180.Network(models.lenet5(), 1), digits, recipe))

    def updates() -> None:
        for _ in range(UPDATES):
            next(steps)

    return updates


def torch_updates(batch: int, threads: int, layout: str) -> Callable[[], None]:
    import torch
    from torch import nn

    from rot180 import data

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    network = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    ).to(memory_format=form)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    digits = data.mnist().train.take(slice(batch * UPDATES))
    images, labels = torch.from_numpy(digits.images.copy()), torch.from_numpy(digits.labels.copy())

    def updates() -> None:
        for first in range(0, batch * UPDATES, batch):
            part = slice(first, first + batch)
            x = (images[part].float() * (1.275 / 255) - 0.1).to(memory_format=form)
            loss = nn.functional.cross_entropy(network(x), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return updates


if __name__ == "__main__":
    main()
