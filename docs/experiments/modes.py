"""Sample by sample, whole batch, stochastic, mini-batch: loss per update, per image, per second. (D1)

python docs/experiments/modes.py
"""

import time
from dataclasses import replace

import experiment
import matplotlib.pyplot as plt
import numpy as np

import rot180
from rot180.data import Augmentation, Dataset
from rot180.layers import Dense, ReLU, ScalePixels, SoftmaxCrossEntropy
from rot180.optimizers import SGD
from rot180.training.schedules import Constant

MODES = {"sample-by-sample": "EET", "whole-batch": "BT", "stochastic": "ST", "mini-batch": "mini-batch"}
RATES = {"whole-batch": (1.0, 0.3), "mini-batch": (0.3, 0.1), "stochastic": (0.03, 0.01),
         "sample-by-sample": (0.03, 0.01)}  # fmt: skip
WRONG = 0.2  # the share of labels that are wrong in the second task


def network(seed: int) -> rot180.Network:
    graph = rot180.sequence(
        (1, 28, 28), pixels=ScalePixels(0, 1), F1=Dense(30), relu=ReLU(), F2=Dense(10), loss=SoftmaxCrossEntropy()
    )
    return rot180.Network(graph, seed, engine="reference")  # every update is a record of its own


def mislabelled(train: Dataset) -> Dataset:
    """Every fifth label replaced by the next class."""
    labels = train.labels.copy()
    labels[:: round(1 / WRONG)] = (labels[:: round(1 / WRONG)] + 1) % 10
    return replace(train, labels=labels)


def curve(mode: str, rate: float, train: Dataset, probe: Dataset, budget: int, seed: int):
    """(updates, images, seconds, loss on all training images) at growing distances, until `budget` images are seen."""
    made = network(seed)
    recipe = rot180.Recipe(
        epochs=budget, mode=mode, batch=32, learning_rate=rate, optimizer=SGD(0.0, False, 0.0), schedule=Constant(),
        augmentation=Augmentation(), validation=0.0, seed=seed,
    )  # fmt: skip
    an_update = {"whole-batch": len(train), "mini-batch": 32}.get(mode, 1)
    points, spent, mark, began = [(0, 0, 0.0, made.evaluate(train).loss)], 0.0, 1.0, time.perf_counter()
    for step in rot180.train(made, train, recipe):
        if step.step >= mark or step.step * an_update >= budget:
            seconds = time.perf_counter() - began - spent
            points.append((step.step, step.step * an_update, seconds, made.evaluate(train).loss))
            spent = time.perf_counter() - began - seconds
            mark = step.step * 1.3
        if step.step * an_update >= budget:
            break
    return np.array(points), 100 * made.evaluate(probe).error


def main() -> None:
    run = experiment.begin("modes")
    train, test = run.digits(640)
    seeds, epochs = run.choose((3, 15), (1, 1))
    budget = epochs * len(train)
    figure, panels = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
    rows = []
    for mode, short in MODES.items():
        tried = []
        for rate in run.choose(RATES[mode], RATES[mode][:1]):
            results = [curve(mode, rate, train, test, budget, seed) for seed in range(1, seeds + 1)]
            tried.append((np.mean([points[-1, 3] for points, _ in results]), rate, results))
        _, rate, results = min(tried, key=lambda each: each[0])
        noisy = [curve(mode, rate, mislabelled(train), test, budget, seed)[1] for seed in range(1, seeds + 1)]
        first = results[0][0]
        for panel, column in zip(panels, (0, 1, 2), strict=True):
            panel.plot(first[1:, column], first[1:, 3], ".-", label=short)
        losses, errors = [points[-1, 3] for points, _ in results], [error for _, error in results]
        rows.append([short, f"{rate:g}", f"{int(first[-1, 0]):,}", experiment.spread(losses, ".3f"),
                     experiment.spread(errors, ".1f"), experiment.spread(noisy, ".1f")])  # fmt: skip
    for panel, label in zip(panels, ("updates", "images", "seconds"), strict=True):
        panel.set(xlabel=label, xscale="log", yscale="log")
    panels[0].set_ylabel("training loss")
    panels[0].legend()
    columns = ["mode", "best η", "updates", "training loss", "test error, %", "test error, 20 % wrong labels, %"]
    run.publish(columns, rows, figure)


if __name__ == "__main__":
    main()
