"""Training: recipes, the loop, checkpoints, runs."""

from rot180.optimizers import SGD, Adam, AdamW
from rot180.training.averaging import ExponentialAverage, StochasticWeightAverage
from rot180.training.loop import Step, Trainer, train
from rot180.training.recipe import Recipe
from rot180.training.run import Run, load_run
from rot180.training.schedules import Adaptive, Constant, Cosine, Exponential, OneCycle, Steps
from rot180.training.stopping import Stopping

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Adaptive",
    "Constant",
    "Cosine",
    "Exponential",
    "ExponentialAverage",
    "OneCycle",
    "Recipe",
    "Run",
    "Step",
    "Steps",
    "StochasticWeightAverage",
    "Stopping",
    "Trainer",
    "load_run",
    "train",
]
