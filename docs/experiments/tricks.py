"""Momentum, weight decay, whitening and batch normalization, one at a time, on the same small task. (D3, D5, B7)

python docs/experiments/tricks.py
"""

from dataclasses import dataclass, replace

import experiment
import matplotlib.pyplot as plt
import numpy as np

import rot180
from rot180.arrays import Array
from rot180.data import Augmentation, Dataset
from rot180.layers import BatchNormalization, Convolution, Dense, MaxPooling, ReLU, SoftmaxCrossEntropy
from rot180.optimizers import SGD
from rot180.training.schedules import Constant

RATES = 0.3, 0.1, 0.03, 0.01
RIDGES = 0.1, 3.0  # added to the variances that whitening divides by: what hardly varies is mostly noise
WATCHED = 5  # epochs: how fast it learns


@dataclass(frozen=True)
class Variant:
    """What is done about learning."""

    optimizer: SGD
    ridge: float | None = None  # of whitening
    normalized: bool = False


PLAIN = Variant(SGD(momentum=0.0, nesterov=False, weight_decay=0.0))
VARIANTS = {
    "plain": PLAIN,
    "momentum 0.9": replace(PLAIN, optimizer=SGD(0.9, False, 0.0)),
    "weight decay 0.01": replace(PLAIN, optimizer=SGD(0.0, False, 1e-2)),
    **{f"ZCA whitening, ridge {ridge:g}": replace(PLAIN, ridge=ridge) for ridge in RIDGES},
    "batch normalization": replace(PLAIN, normalized=True),
}


def network(normalized: bool, seed: int, engine: str) -> rot180.Network:
    def norm(name: str) -> dict[str, BatchNormalization]:
        return {name: BatchNormalization()} if normalized else {}

    graph = rot180.sequence(
        (1, 28, 28),
        C1=Convolution(8, 5), **norm("norm1"), relu1=ReLU(), pool1=MaxPooling(2),
        C2=Convolution(16, 5), **norm("norm2"), relu2=ReLU(), pool2=MaxPooling(2),
        F3=Dense(40), **norm("norm3"), relu3=ReLU(), scores=Dense(10), loss=SoftmaxCrossEntropy(),
    )  # fmt: skip
    return rot180.Network(graph, seed, engine=engine)


def standardized(sets: list[Dataset]) -> list[Dataset]:
    """Mean 0 and variance 1 over all pixels of the training images."""
    mean, deviation = sets[0].images.mean(), sets[0].images.std()
    return [replace(each, images=((each.images - mean) / deviation).astype(np.float32)) for each in sets]


def whitened(sets: list[Dataset], ridge: float) -> list[Dataset]:
    """ZCA: x <- (x - mean) U (Λ + ridge)^-1/2 Uᵀ, with U, Λ of the training images' covariance."""
    flat = [each.images.reshape(len(each), -1).astype(np.float64) for each in sets]
    mean = flat[0].mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(flat[0] - mean, rowvar=False))
    turn: Array = vectors / np.sqrt(np.maximum(values, 0) + ridge) @ vectors.T
    return [
        replace(each, images=((x - mean) @ turn).astype(np.float32).reshape(each.images.shape))
        for each, x in zip(sets, flat, strict=True)
    ]


def main() -> None:
    run = experiment.begin("tricks")
    plain = standardized(list(run.digits(1000)))
    seeds, epochs, rates = run.choose((5, 20, RATES), (1, 2, (0.1,)))
    inputs = {None: plain, **{ridge: standardized(whitened(plain, ridge)) for ridge in RIDGES}}
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    rows = []
    for colour, (name, variant) in zip(experiment.COLOURS, VARIANTS.items(), strict=True):
        train, test = inputs[variant.ridge]
        results = {}  # by rate: for each seed the losses of all epochs, and the test error
        for rate in rates:
            results[rate] = []
            for seed in range(1, seeds + 1):
                made = network(variant.normalized, seed, run.engine)
                recipe = rot180.Recipe(
                    epochs, batch=32, learning_rate=rate, optimizer=variant.optimizer, schedule=Constant(),
                    augmentation=Augmentation(), validation=0.0, seed=seed,
                )  # fmt: skip
                losses = [float("inf")] * epochs
                try:
                    for step in rot180.train(made, train, recipe):
                        if step.ends_epoch:
                            losses[step.epoch - 1] = step.loss
                    results[rate].append((losses, 100 * made.evaluate(test).error))
                except rot180.errors.DivergenceError:
                    results[rate].append((losses, experiment.GUESSING))
        watched = min(WATCHED, epochs) - 1
        speed = {rate: np.mean([losses[watched] for losses, _ in each]) for rate, each in results.items()}
        ends = {rate: np.mean([error for _, error in each]) for rate, each in results.items()}
        fastest, best = min(speed, key=speed.__getitem__), min(ends, key=ends.__getitem__)
        curves = np.array([losses for losses, _ in results[fastest]])
        left.semilogy(range(1, epochs + 1), curves.mean(axis=0), color=colour, label=name)
        right.errorbar(
            rates, [ends[rate] for rate in rates], [np.std([error for _, error in results[rate]]) for rate in rates],
            fmt="o-", capsize=3, color=colour, label=name,
        )  # fmt: skip
        rows.append([name, f"{fastest:g}", experiment.spread(list(curves[:, watched]), ".3f"), f"{best:g}",
                     experiment.spread([error for _, error in results[best]])])  # fmt: skip
    left.set(xlabel="epoch", ylabel="training loss, best η", ylim=(1e-3, 3))
    right.set(xlabel="learning rate η", ylabel="test error, %", xscale="log", ylim=(8, 30))
    left.legend(fontsize=7)
    columns = ["with", "η, fastest", f"training loss, epoch {WATCHED}", "η, best", "test error, %"]
    run.publish(columns, rows, figure)


if __name__ == "__main__":
    main()
