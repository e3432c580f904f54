"""Training: recipes, the loop, checkpoints, runs."""

from rot180.optimizers import SGD
from rot180.training.loop import Step, Trainer, train
from rot180.training.recipe import Recipe
from rot180.training.run import Run, load_run
from rot180.training.schedules import Constant, Cosine, Exponential, Steps

__all__ = ["SGD", "Constant", "Cosine", "Exponential", "Recipe", "Run", "Step", "Steps", "Trainer", "load_run", "train"]
