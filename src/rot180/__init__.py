"""rot180: convolutional networks that read like the textbook.

import rot180
from rot180 import data, models

digits = data.mnist()
network = rot180.Network(models.lenet5(), seed=1)
for step in rot180.train(network, digits.train, rot180.Recipe(epochs=5)):
print(step.epoch, step.loss)
print(network.evaluate(digits.test).error)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from rot180.convolve import convolve, correlate, rot180
from rot180.errors import Rot180Error
from rot180.gradient_check import check_layer, check_network
from rot180.graph import Graph, Node, branches, chain, residual, sequence
from rot180.network import Evaluation, Network, load
from rot180.summary import summarize
from rot180.training import Recipe, Step, train

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "Evaluation",
    "Graph",
    "Network",
    "Node",
    "Recipe",
    "Rot180Error",
    "Step",
    "branches",
    "chain",
    "check_layer",
    "check_network",
    "convolve",
    "correlate",
    "load",
    "residual",
    "rot180",
    "sequence",
    "summarize",
    "train",
]


def __getattr__(name: str) -> "ModuleType":
    """rot180.onnx, which needs the package onnx, is imported when it is asked for."""
    if name == "onnx":
        return import_module("rot180.onnx")
    raise AttributeError(f"module 'rot180' has no attribute {name!r}")
