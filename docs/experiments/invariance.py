"""Does pooling make features indifferent to small shifts? (E3)

python docs/experiments/invariance.py
"""

import experiment
import matplotlib.pyplot as plt
import numpy as np

import rot180
from rot180.arrays import Array
from rot180.convolve import pad
from rot180.data import Augmentation, Dataset
from rot180.layers import AveragePooling, Convolution, Dense, Layer, MaxPooling, ReLU, ScalePixels, SoftmaxCrossEntropy
from rot180.optimizers import SGD

SHIFTS = range(5)  # pixels to the right: MNIST's digits have a margin of four
KINDS: dict[str, Layer] = {
    "max pooling": MaxPooling(2),
    "average pooling": AveragePooling(2),
    "strided convolution": Convolution(8, 2, stride=2),
}


def network(down: Layer, seed: int, engine: str) -> rot180.Network:
    """Two convolutions, each halved by `down`."""
    graph = rot180.sequence(
        (1, 28, 28), pixels=ScalePixels(0, 1),
        C1=Convolution(8, 5, padding=2), relu1=ReLU(), down1=down,
        C2=Convolution(8, 5, padding=2), relu2=ReLU(), down2=down,
        scores=Dense(10), loss=SoftmaxCrossEntropy(),
    )  # fmt: skip
    return rot180.Network(graph, seed, engine=engine)


def shifted(images: Array, by: int) -> Array:
    """Moved to the right; background moves in."""
    return pad(images, ((0, 0), (by, -by)))


def change(features: Array, moved: Array) -> float:
    """How far features move when the image does: 1 is as far as another digit's features are."""
    others = np.roll(features, 1, axis=0)
    return experiment.rms(moved - features) / experiment.rms(others - features)


def main() -> None:
    run = experiment.begin("invariance")
    train, test = run.digits(10_000)
    seeds, epochs, shifts, told = run.choose((3, 3, SHIFTS, (0, 1, 2, 4)), (1, 1, range(2), (0, 1)))
    sample = test.take(slice(500))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    rows, stages = [], ("relu1", "down1", "down2")
    for name, down in KINDS.items():
        errors, changes = [], []
        for seed in range(1, seeds + 1):
            made = network(down, seed, run.engine)
            recipe = rot180.Recipe(
                epochs, batch=32, learning_rate=0.02, optimizer=SGD(0.9, True, 0.0), augmentation=Augmentation(),
                validation=0.0, seed=seed,
            )  # fmt: skip
            experiment.trained(made, train, recipe)
            seen = [made.trace(shifted(sample.images, by), sample.labels).outputs for by in shifts]
            changes.append([[change(seen[0][stage], each[stage]) for each in seen] for stage in stages])
            moved = [Dataset(shifted(test.images, by), test.labels, test.class_names) for by in shifts]
            errors.append([100 * made.evaluate(each).error for each in moved])
        mean = np.mean(changes, axis=0)  # (stage, shift)
        left.plot(shifts, mean[1], "o-", label=f"{name}, once")
        right.errorbar(shifts, np.mean(errors, axis=0), np.std(errors, axis=0), fmt="o-", capsize=3, label=name)
        columns_of_errors = np.transpose(errors)[list(told)]
        rows.append([name, *(f"{each:.2f}" for each in mean[:, 1]),
                     *(experiment.spread(each, ".1f") for each in columns_of_errors)])  # fmt: skip
    left.plot(shifts, mean[0], "k:", label="before (last network)")
    left.set(xlabel="shift, pixels", ylabel="change (1: another digit)", xticks=shifts)
    right.set(xlabel="shift, pixels", ylabel="test error, %", xticks=shifts)
    left.legend()
    right.legend()
    columns = [
        "halved by", "change for 1 pixel: after C1", "after halving", "after halving twice",
        *(f"test error, %, shift {by}" for by in told),
    ]  # fmt: skip
    run.publish(columns, rows, figure)


if __name__ == "__main__":
    main()
