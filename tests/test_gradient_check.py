"""The gradient check passes every layer (promise 5) and catches what is wrong. (B9)"""

from dataclasses import dataclass, replace
from inspect import isabstract

import numpy as np
import pytest

from rot180 import layers
from rot180.gradient_check import ADJOINT_TOLERANCE, EXAMPLES, check_all, check_layer, check_network
from rot180.graph import branches, chain, residual, sequence
from rot180.layers import (
    AveragePooling,
    BatchNormalization,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    Layer,
    LeakyReLU,
    MaxPooling,
    ReLU,
    ScalePixels,
    SoftmaxCrossEntropy,
)
from rot180.models import lenet5, lenet_sigmoid


@pytest.mark.parametrize("seed", range(6))
def test_every_layer_passes(seed):
    checks = check_all(seed)
    assert len(checks) == len(EXAMPLES)
    for check, (layer, _) in zip(checks, EXAMPLES, strict=True):
        assert check.directional < 1e-6, check
        assert (check.adjoint is not None) == layer.linear, check
        assert check.adjoint is None or check.adjoint < 1e-12, check
        assert check.passed


def test_every_exported_layer_is_among_the_examples():
    exported = {getattr(layers, name) for name in layers.__all__}
    concrete = {
        each for each in exported if isinstance(each, type) and issubclass(each, Layer) and not isabstract(each)
    }
    assert len(concrete) >= 16
    assert concrete == {type(layer) for layer, _ in EXAMPLES}


def test_the_same_seed_gives_the_same_errors_and_another_seed_others():
    assert check_all(3) == check_all(3)
    assert check_all(3) != check_all(4)


# --- wrong layers: a right one inside, one thing wrong ------------------------------------------------------------


STRIDED = Convolution(3, (3, 2), stride=(2, 1), remainder="floor")


@dataclass(frozen=True)
class Wrong(Layer):
    """Passes everything on to `right`, except for what a subclass spoils."""

    right: Layer = STRIDED

    def output_shape(self, shape):
        return self.right.output_shape(shape)

    def parameter_shapes(self, shape):
        return self.right.parameter_shapes(shape)

    def forward(self, x, parameters, training=None):
        return self.right.forward(x, parameters, training)

    def parameter_gradients(self, dy, saved):
        return self.right.parameter_gradients(dy, saved)

    def input_gradient(self, dy, saved, gradients):
        return self.right.input_gradient(dy, saved, gradients)


class Unspoiled(Wrong):
    pass


class LinearUnspoiled(Wrong):
    linear = True


class KernelNotTurned(Wrong):
    def input_gradient(self, dy, saved, gradients):
        return self.right.input_gradient(dy, saved._replace(w=saved.w[..., ::-1, ::-1]), gradients)


class WrongScale(Wrong):
    def input_gradient(self, dy, saved, gradients):
        return 1.00001 * self.right.input_gradient(dy, saved, gradients)


class OffByOneRow(Wrong):
    def input_gradient(self, dy, saved, gradients):
        return np.roll(self.right.input_gradient(dy, saved, gradients), 1, axis=2)


class LinearOffByOneRow(OffByOneRow):
    linear = True


class OneRowTooFew(Wrong):
    def input_gradient(self, dy, saved, gradients):
        return self.right.input_gradient(dy, saved, gradients)[:, :, :-1]


class NoInputGradient(Wrong):
    def input_gradient(self, dy, saved, gradients):
        return None


class WrongWeights(Wrong):
    def parameter_gradients(self, dy, saved):
        return {**self.right.parameter_gradients(dy, saved), "w": self.right.parameter_gradients(dy, saved)["w"] * 2}


class NaNWeights(Wrong):
    def parameter_gradients(self, dy, saved):
        return {"w": np.full(saved.w.shape, np.nan), "b": dy.sum(axis=(0, 2, 3))}


class NaNInput(Wrong):
    def input_gradient(self, dy, saved, gradients):
        return np.full(saved.x.shape, np.nan)


class BiasForgotten(Wrong):
    def parameter_gradients(self, dy, saved):
        return {"w": self.right.parameter_gradients(dy, saved)["w"]}


class BiasOfOtherShape(Wrong):
    def parameter_gradients(self, dy, saved):
        gradients = self.right.parameter_gradients(dy, saved)
        return {**gradients, "b": gradients["b"][None]}


class WrongInTrainingOnly(Wrong):
    right = Dropout(0.5)

    def input_gradient(self, dy, saved, gradients):
        return dy  # as if nothing had been left out


class BatchMeanIgnored(Wrong):
    """The classical mistake: μ and σ² taken for constants."""

    right = BatchNormalization()

    def statistic_shapes(self, shape):
        return self.right.statistic_shapes(shape)

    def input_gradient(self, dy, saved, gradients):
        return self.right.input_gradient(dy, saved._replace(batch=None), gradients)


WRONG = [
    KernelNotTurned, WrongScale, OffByOneRow, LinearOffByOneRow, OneRowTooFew, NoInputGradient, WrongWeights,
    NaNWeights, NaNInput, BiasForgotten, BiasOfOtherShape, WrongInTrainingOnly, BatchMeanIgnored,
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("seed", range(3))
def test_check_layer_catches(wrong, seed):
    layer = wrong(wrong.right)
    assert not check_layer(layer, (2, 8, 5), seed).passed


@pytest.mark.parametrize("right", [Unspoiled, LinearUnspoiled])
def test_check_layer_passes_the_same_layer_unspoiled(right):
    check = check_layer(right(), (2, 8, 5))
    assert check.passed
    assert (check.adjoint is not None) == right.linear


def test_the_adjoint_test_alone_would_catch_a_shifted_row():
    check = check_layer(LinearOffByOneRow(), (2, 8, 5))
    assert check.adjoint > 1000 * ADJOINT_TOLERANCE


def test_nan_never_passes():
    check = check_layer(Convolution(2, 2), (1, 4, 4))
    assert check.passed
    assert not replace(check, directional=np.nan).passed
    assert not replace(check, adjoint=np.nan).passed
    assert not replace(check, directional=2e-6).passed
    assert not replace(check, adjoint=2e-12).passed


# --- networks --------------------------------------------------------------------------------------------------


def small_network(**replaced):
    """A residual block, branches, batch normalization, dropout, overlapping pooling, and a ring of 'same' padding."""
    parts = {
        "pixels": ScalePixels(-1, 1),
        "stem": Convolution(4, (3, 2), stride=2, padding="same", bias=False),
        "normal": BatchNormalization(),
        "relu": LeakyReLU(),
        "block": residual(
            chain(conv=Convolution(4, 3, padding=1), normal=BatchNormalization(), relu=ReLU(), drop=Dropout(0.3)),
        ),
        "wider": residual(
            chain(conv=Convolution(6, 3, padding=1, groups=2)), chain(conv=Convolution(6, 1, bias=False))
        ),
        "paths": branches(
            one=Convolution(2, 1), pool=chain(pool=MaxPooling(3, 1, 1), conv=Convolution(3, 1)),
            mean=AveragePooling(3, 1, 1),
        ),
        "drop": Dropout(0.2),
        "pool": GlobalAveragePooling(),
        "F": Dense(5),
        "loss": SoftmaxCrossEntropy(),
    }  # fmt: skip
    return sequence((2, 9, 6), **{**parts, **replaced})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("graph", [lenet5(), lenet_sigmoid(4), small_network()], ids=["lenet5", "sigmoid", "small"])
def test_check_network_passes(graph, seed):
    checks = check_network(graph, seed)
    learning = [node.name for node in graph if node.layer.parameter_shapes(graph.input_shape_of(node))]
    assert [check.name for check in checks] == ["image", *learning]
    assert all(check.passed for check in checks), checks


def test_check_network_catches_a_wrong_layer_and_what_lies_before_it():
    graph = small_network(wider=residual(chain(conv=OffByOneRow(Convolution(4, 3, padding=1)))))
    failed = {check.name for check in check_network(graph) if not check.passed}
    assert failed == {"image", "stem", "normal", "block.conv", "block.normal"}


def test_check_network_names_the_node_whose_parameters_are_wrong():
    graph = small_network(F=WrongWeights(Dense(5)))
    assert [check.name for check in check_network(graph) if not check.passed] == ["F"]
    graph = small_network(F=BiasForgotten(Dense(5)))
    assert [check.name for check in check_network(graph) if not check.passed] == ["F"]
