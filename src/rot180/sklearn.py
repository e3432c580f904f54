"""A classifier for scikit-learn: in its pipelines, grid searches and cross-validations.

from rot180.sklearn import CNNClassifier
CNNClassifier(epochs=5).fit(images, labels).predict(others)

Needs scikit-learn: pip install 'rot180[sklearn]'. This file alone imports it.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from rot180 import models
from rot180.arrays import Array, Shape, text
from rot180.data import Augmentation, Dataset, balance
from rot180.data.preparation import standardized
from rot180.errors import DataError, ModelFileError, SettingError, ShapeError
from rot180.graph import Block, Graph, sequence
from rot180.layers import Convolution, Dense, MaxPooling, ReLU, ScalePixels, SoftmaxCrossEntropy
from rot180.network import Network, load
from rot180.training import Recipe, Trainer

LEAST_UPDATES = 300  # of a training whose epochs nobody has chosen: few images are shown more often
PREDICTED = 64  # images at a time, always: an image's answer does not depend on how many others there are
SMALLEST_POOLED = 8  # pixels: the default network halves maps that are at least so large
FILTERS, MOST_FILTERS, UNITS = 16, 64, 64  # of the default network


class CNNClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A convolutional network as an estimator.

    X: images (N,H,W) or (N,C,H,W), or flat (N,D), which `shape` (C,H,W) or (H,W) makes images of; without, a flat X is
    D features. Numbers of any scale: but for a network given as a Graph, they are scaled to zero mean and unit
    variance over all training pixels. Features that differ in scale want a StandardScaler before. y: any labels.

    network: a name or pattern as `rot180 train --network` takes it, or a Graph for these images and classes; without,
        a small network of convolutions, or of two dense layers for features.
    recipe: a Recipe for what is not said here; without, Recipe's defaults, no augmentation, no images held out.
    epochs, batch, learning_rate: the recipe's where they are None; of a recipe not given, the epochs are at least as
        many as make 300 updates.
    class_weight: "balanced" fills rarer classes up with noisy copies of their images (data.balance), or None.
    random_state: of parameters, order and everything else by chance; a whole number is the seed of `rot180 train`.
    engine, threads: as for Network. verbose: a line for each epoch.

    Fitted: classes_ (K,), network_ (the Network), image_shape_, n_features_in_ (C·H·W), loss_curve_ (one an epoch).
    Errors are ValueErrors. A pickle holds the network as the bytes of its safetensors file, checked when it is read;
    but pickle itself runs what a file says: open none from strangers, and give away `network_.save(path)` instead.
    """

    def __init__(
        self,
        network: str | Graph | None = None,
        *,
        shape: Shape | None = None,
        recipe: Recipe | None = None,
        epochs: int | None = None,
        batch: int | None = None,
        learning_rate: float | None = None,
        class_weight: str | None = None,
        random_state: Any = None,
        engine: str | None = None,
        threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.network = network
        self.shape = shape
        self.recipe = recipe
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.class_weight = class_weight
        self.random_state = random_state
        self.engine = engine
        self.threads = threads
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Train a new network on the images and their labels."""
        if self.class_weight not in (None, "balanced"):
            raise SettingError(f"class_weight is {self.class_weight!r}: choose 'balanced' or None")
        X, given = _rows(X)
        X, y = validate_data(self, X, y)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(f"y holds one class only, {self.classes_[0]!r}: give images of at least two")
        self.image_shape_ = self._image_shape(given)
        images = _numbers(X).reshape(-1, *self.image_shape_)
        dataset = Dataset(images, labels, tuple(str(each) for each in self.classes_), "X")
        seed = self._seed()
        if self.class_weight:
            dataset, _ = balance(dataset, "duplicate", seed, noise=0.02 * float(images.std()))
        self.network_ = Network(
            self._graph(dataset), seed, engine=self.engine, threads=self.threads, class_names=dataset.class_names
        )
        self.loss_curve_ = []
        for step in Trainer(self.network_, dataset, self._recipe(len(dataset), seed)):
            if step.ends_epoch:
                self.loss_curve_.append(step.loss)
                if self.verbose:
                    from rot180.cli.progress import epoch_line

                    print(epoch_line(step), file=sys.stderr)
        return self

    def predict_proba(self, X: Any) -> Array:
        """(N, K): how sure the network is of each of classes_, in float64."""
        check_is_fitted(self)
        X, given = _rows(X)
        X = validate_data(self, X, reset=False)
        if given is not None and _with_channels(given) != self.image_shape_:
            raise ShapeError(f"images are {text(given)}, but the classifier was fitted to {text(self.image_shape_)}")
        images = _numbers(X).reshape(-1, *self.image_shape_)
        scores = np.empty((len(images), self.network_.graph.classes))
        batch = np.zeros((PREDICTED, *self.image_shape_), np.float32)
        for first in range(0, len(images), PREDICTED):
            part = images[first : first + PREDICTED]
            batch[: len(part)] = part
            scores[first : first + PREDICTED] = self.network_(batch)[: len(part)]
        return self.network_.graph.loss.probabilities(scores)[:, : len(self.classes_)]

    def predict(self, X: Any) -> Array:
        """(N,): the label that the network is surest of."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    # --- what the settings mean --------------------------------------------------------------------------------

    def _image_shape(self, given: Shape | None) -> Shape:
        """(C,H,W) of an image; features are a row of one channel."""
        values = self.n_features_in_
        asked = () if self.shape is None else tuple(self.shape)
        wanted = _with_channels(asked) if asked else None
        if wanted is not None and np.prod(wanted) != values:
            raise ShapeError(f"shape {text(asked)} does not hold the {values} values of an image of X")
        if given is None:
            return wanted or (1, 1, values)
        found = _with_channels(given)
        if found != (wanted or found):
            raise ShapeError(f"images of X are {text(given)}, but shape says {text(asked)}")
        if found[0] > 4 >= found[2]:  # as Pillow and matplotlib have them
            raise ShapeError(f"images of X are {text(given)}: put the channels first, X.transpose(0, 3, 1, 2)")
        return found

    def _graph(self, dataset: Dataset) -> Graph:
        if isinstance(self.network, Graph):
            return self.network
        classes = len(dataset.class_names)
        if self.network is None:
            graph = default_network(dataset.shape, classes)
        else:
            graph = models.build(self.network, classes, dataset.shape)
        first, *others = graph.nodes
        if not isinstance(first.layer, ScalePixels) or dataset.images.min() == dataset.images.max():
            return graph
        scaled = replace(first, layer=ScalePixels(*standardized(dataset)))
        return Graph([scaled, *others], graph.input_shape, graph.output)

    def _recipe(self, images: int, seed: int) -> Recipe:
        base = self.recipe or Recipe(augmentation=Augmentation(), validation=0)
        asked = {"epochs": self.epochs, "batch": self.batch, "learning_rate": self.learning_rate}
        changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        for name in changes.keys() & {"epochs", "batch"}:  # a grid's whole numbers are NumPy's
            changes[name] = int(changes[name]) if isinstance(changes[name], Integral) else changes[name]
        recipe = replace(base, **changes, seed=seed)
        if self.recipe is None and self.epochs is None:
            updates = ceil(images / recipe.batch)
            recipe = replace(recipe, epochs=max(recipe.epochs, ceil(LEAST_UPDATES / updates)))
        return recipe

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    # --- scikit-learn's conventions ----------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Networks, graphs and recipes as they are written to files: bytes and JSON, no objects of ours."""
        state = dict(super().__getstate__())
        if isinstance(self.network, Graph):
            state["network"] = {"graph": self.network.to_json()}
        if self.recipe is not None:
            state["recipe"] = self.recipe.to_json()
        if "network_" in state:
            state["network_"] = self.network_.to_bytes()
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """ModelFileError or RunError where what was pickled is damaged."""
        state = dict(state)
        if isinstance(state["network"], dict):
            state["network"] = Graph.from_json(state["network"]["graph"])
        if state["recipe"] is not None:
            state["recipe"] = Recipe.from_json(state["recipe"])
        if "network_" in state:
            state["network_"] = _network(state["network_"], state["engine"], state["threads"])
        super().__setstate__(state)


def default_network(shape: Shape, classes: int) -> Graph:
    """[CONV -> RELU -> POOL]*M -> FC -> RELU -> FC with 3x3 kernels, M until maps are smaller than 8 pixels.

    16 filters, and twice as many after each pooling, up to 64; 64 units. A row of features has M = 0.
    """
    blocks: dict[str, Block] = {"pixels": ScalePixels()}
    side, filters, number = min(shape[1:]), FILTERS, 1
    while side >= SMALLEST_POOLED:
        blocks[f"C{number}"] = Convolution(min(filters, MOST_FILTERS), 3, padding="same")
        blocks[f"relu{number}"] = ReLU()
        blocks[f"P{number}"] = MaxPooling(2, remainder="floor")
        side, filters, number = side // 2, 2 * filters, number + 1
    blocks |= {f"F{number}": Dense(UNITS), f"relu{number}": ReLU(), f"F{number + 1}": Dense(classes)}
    return sequence(shape, **blocks, loss=SoftmaxCrossEntropy())


def _rows(X: Any) -> tuple[Any, Shape | None]:
    """Images as rows, for scikit-learn's checks, and what they were; what has rows already stays as it is."""
    array = X if hasattr(X, "ndim") else np.asarray(X)
    return (array.reshape(len(array), -1), tuple(array.shape[1:])) if array.ndim > 2 else (X, None)


def _with_channels(shape: Shape) -> Shape:
    if len(shape) not in (2, 3):
        raise ShapeError(f"an image of shape {text(shape)}: give (height, width) or (channels, height, width)")
    return shape if len(shape) == 3 else (1, *shape)


def _numbers(X: Array) -> Array:
    """Bytes as they are, all else as the engines take it."""
    if X.dtype == np.uint8:
        return X
    with np.errstate(over="ignore"):  # Dataset names the image that is now infinite
        return X.astype(np.float32)


def _network(content: object, engine: str | None, threads: int | None) -> Network:
    """The network whose file holds these bytes."""
    if not isinstance(content, bytes):
        raise ModelFileError(f"the pickled classifier's network is {type(content).__name__}, not a file's bytes")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        path.write_bytes(content)
        try:
            return load(path, engine, threads)
        except ModelFileError as error:
            raise ModelFileError(str(error).replace(str(path), "the pickled classifier")) from error
