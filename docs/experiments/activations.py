"""What ReLU buys: how many units are active, how large the gradient is at each depth, what training costs. (D6)

python docs/experiments/activations.py
"""

import time

import experiment
import matplotlib.pyplot as plt
import numpy as np

import rot180
from rot180.data import Augmentation, Dataset
from rot180.layers import Dense, Layer, ReLU, ScalePixels, Sigmoid, SoftmaxCrossEntropy, Tanh
from rot180.optimizers import SGD
from rot180.training.schedules import Constant

DEPTH, WIDTH = 8, 100
KINDS = {"ReLU": (ReLU(), "he"), "tanh": (Tanh(), "glorot"), "sigmoid": (Sigmoid(), "glorot")}
RATES = 0.3, 0.1, 0.03, 0.01
MIDDLE = {"ReLU": 0.0, "tanh": 0.0, "sigmoid": 0.5}  # f(0): a unit is active where it gives more


def deep(activation: Layer, depth: int) -> rot180.Graph:
    hidden = {}
    for k in range(1, depth + 1):
        hidden |= {f"F{k}": Dense(WIDTH), f"a{k}": activation}
    return rot180.sequence(
        (1, 28, 28), pixels=ScalePixels(0, 1), **hidden, scores=Dense(10), loss=SoftmaxCrossEntropy()
    )


def by_depth(network: rot180.Network, test: Dataset, depth: int, middle: float) -> tuple[list[float], list[float]]:
    """For each hidden layer the share of active units, and the size of the gradient at what enters the activation."""
    trace = network.trace(test.images[:500], test.labels[:500])
    active = [float((trace.outputs[f"a{k}"] > middle).mean()) for k in range(1, depth + 1)]
    return active, [experiment.rms(trace.gradients[f"F{k}"]) for k in range(1, depth + 1)]


def main() -> None:
    run = experiment.begin("activations")
    train, test = run.digits(10_000)
    depth, epochs, seeds = run.choose((DEPTH, 4, 3), (3, 1, 1))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    layers = range(1, depth + 1)
    rows, seconds = [], {name: [] for name in KINDS}
    for colour, (name, (activation, start)) in zip(experiment.COLOURS, KINDS.items(), strict=False):
        errors, active_by_rate = {}, {}
        for rate in run.choose(RATES, RATES[:1]):
            for seed in range(1, seeds + 1):
                network = rot180.Network(deep(activation, depth), seed, start=start, engine=run.engine)
                if rate == RATES[0] and seed == 1:
                    active_first, gradient_first = by_depth(network, test, depth, MIDDLE[name])
                recipe = rot180.Recipe(
                    epochs, batch=32, learning_rate=rate, optimizer=SGD(0.0, False, 0.0), schedule=Constant(),
                    augmentation=Augmentation(), validation=0.0, seed=seed,
                )  # fmt: skip
                finite = np.isfinite(experiment.trained(network, train, recipe))
                error = 100 * network.evaluate(test).error if finite else experiment.GUESSING
                errors.setdefault(rate, []).append(error)
                if seed == 1:
                    active_by_rate[rate], _ = by_depth(network, test, depth, MIDDLE[name])
        best = min(errors, key=lambda rate: np.mean(errors[rate]))
        active = active_by_rate[best]
        ratio = gradient_first[0] / gradient_first[-1]
        rows.append([name, f"{100 * np.mean(active_first):.0f} %", f"{100 * np.mean(active):.0f} %", f"{ratio:.2g}",
                     f"{best:g}", experiment.spread(errors[best])])  # fmt: skip
        left.semilogy(layers, gradient_first, "o-", color=colour, label=name)
        right.plot(layers, [100 * share for share in active_first], "o--", color=colour, alpha=0.5)
        right.plot(layers, [100 * share for share in active], "o-", color=colour, label=name)
    networks = {name: rot180.Network(deep(each, depth), 1, engine="reference") for name, (each, _) in KINDS.items()}
    for _ in range(run.choose(40, 2)):  # alternating: what else the machine does falls on all alike
        for name, network in networks.items():
            began = time.perf_counter()
            network.loss_and_gradients(train.images[:500], train.labels[:500])
            seconds[name].append(time.perf_counter() - began)
    for row in rows:
        row.append(f"{min(seconds[row[0]]) / min(seconds['ReLU']):.2f}")
    left.set(xlabel="hidden layer", ylabel="gradient (RMS), before training", xticks=layers)
    right.set(xlabel="hidden layer", ylabel="active units, % (dashed: before)", xticks=layers, ylim=(0, 105))
    left.legend()
    columns = [
        "activation", "active, before", "active, after", "gradient, layer 1 / layer 8", "best η", "test error, %",
        "time, ReLU = 1",
    ]  # fmt: skip
    run.publish(columns, rows, figure)


if __name__ == "__main__":
    main()
