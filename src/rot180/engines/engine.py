"""What an engine is: it compiles a graph into a program, and a program computes scores and gradients.

The protocol speaks of flat vectors and NCHW arrays only; how a program lays its images out is its own affair.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from rot180.arrays import Array
from rot180.chance import Training
from rot180.data.augmentation import Augmentation
from rot180.graph import Graph
from rot180.optimizers import Optimizer
from rot180.parameters import Layout


class Gradients(NamedTuple):
    """One batch's loss and everything training needs of it."""

    loss: float  # the mean over the images
    scores: Array  # (N, K): the output node's values
    vector: Array  # ∂L/∂parameters, the flat twin of the parameters
    statistics: Array  # the statistics after this batch, flat


class Values(NamedTuple):
    """Every number of one forward and one backward pass, by node."""

    outputs: dict[str, Array]  # y of each node, and of "image" and "label"
    gradients: dict[str, Array]  # ∂L/∂y of each node, and of "image"
    parameter_gradients: dict[str, dict[str, Array]]  # {node: {name: ∂L/∂parameter}}
    statistics: dict[str, dict[str, Array]]  # {node: {name: value after this batch}}


class Batches(NamedTuple):
    """Mini-batches for a program that makes many updates in one call."""

    images: Array  # (n, C, H, W), uint8 or float: all images there are
    labels: Array  # (n,)
    order: Array  # (m,): which image is taken when
    batch: int  # images an update; the last one takes what is left
    augmentation: Augmentation  # of each image, by its index
    seed: int
    epoch: int
    step: int  # the first update's number
    rates: Array  # the learning rate of each update


class Average(NamedTuple):
    """A running average of the parameters, which goes on after each update: a <- a + w (p - a)."""

    vector: Array  # a, flat
    weights: Array  # w of each update; 0: this one is left out


class Results(NamedTuple):
    """What the updates gave: of each image, when its turn came, and of each update that was made."""

    losses: Array  # (m,)
    scores: Array  # (m, K)
    norms: Array  # (updates,): the length of the gradient


class Program(Protocol):
    """A graph made ready to run. Images are (N, C, H, W) of the parameters' dtype, labels (N,)."""

    def scores(self, images: Array, parameters: Array, statistics: Array) -> Array:
        """(N, K): the output node's values in inference."""
        ...

    def frozen(self, parameters: Array, statistics: Array) -> Callable[[Array], Array]:
        """`scores` of images with copies of these, laid out once for as many calls as there will be."""
        ...

    def loss_and_gradients(
        self, images: Array, labels: Array, parameters: Array, statistics: Array, training: Training | None
    ) -> Gradients:
        """The mean loss and its gradient; `training` None: layers behave as in inference."""
        ...

    def values(
        self, images: Array, labels: Array, parameters: Array, statistics: Array, training: Training | None
    ) -> Values:
        """Every value and every gradient."""
        ...


@runtime_checkable
class Trains(Protocol):
    """A program that can make many updates in one call, equal to as many single ones."""

    def trains_with(self, optimizer: Optimizer) -> bool:
        """Does it know this optimiser's rule? If so, it is ready to run."""
        ...

    def train(
        self,
        batches: Batches,
        optimizer: Optimizer,
        parameters: Array,
        statistics: Array,
        memory: Array,
        decayed: Sequence[slice],
        average: Average | None = None,
    ) -> Results:
        """Make the updates; parameters, statistics, the optimiser's memory and the average are written over.

        Stops before the first update that would leave a number that is not finite: the results are then shorter.
        """
        ...


@runtime_checkable
class Varies(Protocol):
    """A program that can vary images as it reads them, as `augmentation.apply` would, and that reads bytes as well."""

    def varied_scores(
        self,
        images: Array,
        order: Array,
        augmentation: Augmentation,
        seed: int,
        epoch: int,
        parameters: Array,
        statistics: Array,
    ) -> Array:
        """(m, K): `scores` of images[order], varied as by that epoch."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A program that can say how it computes."""

    def explain(self, batch: int) -> tuple[list[Any], list[Any]]:
        """How batches of this size are trained: each pass's kernels, and why; and each value's place in memory."""
        ...


class Engine(Protocol):
    """A way to run graphs."""

    def compile(self, graph: Graph, parameters: Layout, statistics: Layout) -> Program:
        """The graph's program for vectors laid out so."""
        ...
