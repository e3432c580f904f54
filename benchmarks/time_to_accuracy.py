"""How long LeNet-5 takes to 99 % and to 99.4 % of MNIST's test digits: the shortest training that gets there.

    python benchmarks/time_to_accuracy.py [--threads 2] [--seeds 3] [--epochs 1 2 3 4 6 8 10 12]

A recipe's learning rate falls with its length, so each number of epochs is a training of its own, on all 60,000 digits.
Kernels are compiled before the clock starts; loading the data is not counted either.
"""

import argparse
import statistics
import time

from rot180 import data, models
from rot180.network import Network
from rot180.training import Recipe, Trainer

GOALS = 0.99, 0.994


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 3, 4, 6, 8, 10, 12])
    arguments = parser.parse_args()

    digits = data.mnist()
    list(Trainer(Network(models.lenet5(), threads=arguments.threads), digits.train.take(slice(64)), Recipe(epochs=1)))
    reached: dict[float, tuple[int, float]] = {}
    for epochs in arguments.epochs:
        seconds, accuracies = [], []
        for seed in range(1, arguments.seeds + 1):
            network = Network(models.lenet5(), seed, threads=arguments.threads)
            trainer = Trainer(network, digits.train, Recipe(epochs=epochs, seed=seed, validation=0.0))
            began = time.perf_counter()
            for _ in trainer:
                pass
            seconds.append(time.perf_counter() - began)
            accuracies.append(1 - network.evaluate(digits.test).error)
        took, accuracy = statistics.median(seconds), statistics.mean(accuracies)
        each = ", ".join(f"{100 * a:.2f}" for a in accuracies)
        print(f"{epochs:3} epochs  {took:6.2f} s  {100 * accuracy:.2f} % (seeds: {each})", flush=True)
        for goal in GOALS:
            if accuracy >= goal:
                reached.setdefault(goal, (epochs, took))
    for goal, (epochs, took) in reached.items():
        print(f"{100 * goal:g} % in {took:.2f} s ({epochs} epochs, {arguments.threads} threads)")


if __name__ == "__main__":
    main()
