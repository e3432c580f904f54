"""Dense, locally connected and shared weights: how many parameters, and what few images teach them. (C8)

python docs/experiments/sharing.py
"""

from math import prod

import experiment

import rot180
from rot180.data import Augmentation
from rot180.layers import (
    Convolution,
    Dense,
    Layer,
    LocallyConnected,
    ReLU,
    ScalePixels,
    SoftmaxCrossEntropy,
)
from rot180.optimizers import SGD

LARGE = (1, 1000, 1000)
DOCUMENT: dict[str, Layer] = {  # seed 002's image of a million pixels and its million hidden units, without biases
    "dense, 10⁶ units": Dense(10**6, bias=False),
    "local, 10x10": LocallyConnected(1, 10, padding="same", bias=False),
    "shared, one 10x10 filter": Convolution(1, 10, padding="same", bias=False),
    "shared, 100 filters": Convolution(100, 10, padding="same", bias=False),
}
FILTERS, COUNTS = 2, (100, 1000)
UNITS = FILTERS * 24 * 24
FIRST: dict[str, Layer] = {  # layers of as many units
    "dense": Dense(UNITS),
    "local": LocallyConnected(FILTERS, 5),
    "shared": Convolution(FILTERS, 5),
}
RATE = 0.05


def parameters(layer: Layer, shape: rot180.arrays.Shape) -> int:
    return sum(prod(each) for each in layer.parameter_shapes(shape).values())


def graph(first: Layer) -> rot180.Graph:
    return rot180.sequence(
        (1, 28, 28), pixels=ScalePixels(0, 1), first=first, relu=ReLU(), scores=Dense(10), loss=SoftmaxCrossEntropy()
    )


def main() -> None:
    run = experiment.begin("sharing")
    rows = [[name, f"{parameters(layer, LARGE):,}", "", ""] for name, layer in DOCUMENT.items()]
    counts, seeds, updates = run.choose((COUNTS, 3, 500), ((40, 60), 1, 4))
    for name, first in FIRST.items():
        ends = []
        for count in counts:
            train, test = run.digits(count)
            ends.append([])
            for seed in range(1, seeds + 1):
                network = rot180.Network(graph(first), seed, engine="reference")
                epochs = max(1, updates * 32 // len(train))
                recipe = rot180.Recipe(
                    epochs, batch=32, learning_rate=RATE, optimizer=SGD(0.9, True, 0.0), augmentation=Augmentation(),
                    validation=0.0, seed=seed,
                )  # fmt: skip
                experiment.trained(network, train, recipe)
                ends[-1].append(100 * network.evaluate(test).error)
        rows.append([f"{name}, 28x28 → {UNITS:,} units", f"{parameters(first, (1, 28, 28)):,}",
                     experiment.spread(ends[0], ".1f"), experiment.spread(ends[-1], ".1f")])  # fmt: skip
    columns = ["first layer", "parameters", f"test error, {counts[0]} images, %", f"{counts[-1]} images, %"]
    run.publish(columns, rows)


if __name__ == "__main__":
    main()
