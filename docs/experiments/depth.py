"""Plain, residual and highway networks of growing depth, on the same task. (B8, C6, C7)

python docs/experiments/depth.py
"""

import experiment
import matplotlib.pyplot as plt
import numpy as np

import rot180
from rot180.chance import Training
from rot180.data import Augmentation
from rot180.layers import BatchNormalization, Dense, ReLU, ScalePixels, Sigmoid, SoftmaxCrossEntropy
from rot180.optimizers import SGD
from rot180.training.schedules import Constant

WIDTH = 32
KINDS = "plain", "plain, normalized", "residual, normalized", "highway"
DEPTHS = 2, 10, 30
RATES = 0.1, 0.02, 0.004
CARRY = -4.0  # the gates' bias at the start: mostly shut


def block(kind: str) -> rot180.graph.Block:
    """One hidden layer of the kind."""
    body = rot180.chain(F=Dense(WIDTH), relu=ReLU())
    normalized = rot180.chain(F=Dense(WIDTH, bias=False), norm=BatchNormalization(), relu=ReLU())
    before = rot180.chain(norm=BatchNormalization(), relu=ReLU(), F=Dense(WIDTH, bias=False))
    gate = rot180.chain(F=Dense(WIDTH, bias_start=CARRY), sigmoid=Sigmoid())
    return {
        "plain": body,
        "plain, normalized": normalized,
        "residual, normalized": rot180.residual(before),
        "highway": rot180.graph.highway(body, gate),
    }[kind]


def network(kind: str, depth: int, seed: int) -> rot180.Network:
    hidden = {f"H{k}": block(kind) for k in range(1, depth + 1)}
    graph = rot180.sequence(
        (1, 28, 28), pixels=ScalePixels(0, 1), F0=Dense(WIDTH), relu0=ReLU(), **hidden, scores=Dense(10),
        loss=SoftmaxCrossEntropy(),
    )  # fmt: skip
    return rot180.Network(graph, seed, start="he", engine="reference")  # small layers: the definition is quick enough


def main() -> None:
    run = experiment.begin("depth")
    train, test = run.digits(2000)
    depths, rates, seeds, epochs = run.choose((DEPTHS, RATES, 3, 6), ((2, 3), (0.03,), 1, 1))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    rows = []
    for kind in KINDS:
        losses, errors, ratios = [], [], []
        for depth in depths:
            tried = []
            fresh = network(kind, depth, 1)
            trace = fresh.trace(train.images[:200], train.labels[:200], Training(seed=1, step=0))
            ratios.append(experiment.rms(trace.gradients["relu0"]) / experiment.rms(trace.gradients[last(fresh)]))
            for rate in rates:
                ends = []
                for seed in range(1, seeds + 1):
                    made = network(kind, depth, seed)
                    recipe = rot180.Recipe(
                        epochs, batch=32, learning_rate=rate, optimizer=SGD(0.9, True, 0.0), schedule=Constant(),
                        augmentation=Augmentation(), validation=0.0, seed=seed,
                    )  # fmt: skip
                    loss = experiment.trained(made, train, recipe)
                    finite = np.isfinite(loss)
                    ends.append((loss, 100 * made.evaluate(test).error if finite else experiment.GUESSING))
                tried.append((np.mean([loss for loss, _ in ends]), rate, ends))
            _, rate, ends = min(tried, key=lambda each: each[0])
            losses.append([loss for loss, _ in ends])
            errors.append([error for _, error in ends])
            rows.append([f"{kind}: {depth}", f"{ratios[-1]:.2g}", f"{rate:g}", experiment.spread(losses[-1], ".3f"),
                         experiment.spread(errors[-1], ".1f")])  # fmt: skip
        left.errorbar(depths, np.mean(losses, axis=1), np.std(losses, axis=1), fmt="o-", capsize=3, label=kind)
        right.errorbar(depths, np.mean(errors, axis=1), np.std(errors, axis=1), fmt="o-", capsize=3, label=kind)
    left.set(xlabel="hidden layers", ylabel="training loss", ylim=(0, None))
    right.set(xlabel="hidden layers", ylabel="test error, %", ylim=(0, None))
    left.legend()
    columns = ["network, hidden layers", "gradient, first / last", "best η", "training loss", "test error, %"]
    run.publish(columns, rows, figure)


def last(made: rot180.Network) -> str:
    """The node that feeds the scores."""
    return made.graph["scores"].inputs[0]


if __name__ == "__main__":
    main()
