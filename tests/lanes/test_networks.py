"""The networks of the literature on the lanes engine: training steps and answers agree with the definition's."""

import numpy as np
import pytest

from rot180 import models
from rot180.chance import Training
from rot180.network import Network

FAMILIES = (
    "lenet-sigmoid", "lenet-5-1998", "alexnet", "alexnet-column", "googlenet", "highway-20", "highway-conv-32",
    "resnet-20", "resnet-18", "resnet-50", "INPUT -> [[CONV(3)]*2 -> POOL]*2 -> FC(9) -> FC",
)  # fmt: skip
IMAGES = 19  # a group of 16 and a few


WITHOUT_NORMALIZATION = FAMILIES[:7]


@pytest.mark.parametrize("name", WITHOUT_NORMALIZATION)
def test_large_networks_agree_layer_by_layer(name, monkeypatch):
    """As their full sizes train, whose values are too many to go depth first."""
    monkeypatch.setattr("rot180.engines.lanes.plan.LARGE", 1)
    test_training_agrees_with_the_definition(name)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_agrees_with_the_definition(name):
    """Dropout included: both engines draw the same masks. The definition is taken in float64, from the same weights."""
    graph = models.build_small(name)
    lanes, definition = Network(graph, seed=4, engine="lanes"), Network(graph, seed=4, dtype=np.float64)
    spread = 0.02 * np.random.default_rng(1).normal(size=lanes.parameters.size)  # biases of 0 put ReLUs at their kinks
    lanes.parameters += np.float32(lanes.parameters != 0) * np.float32(spread)
    for array in lanes.layout.named(lanes.parameters).values():
        array += np.float32(0.02) * (array == 0)
    definition.parameters[:] = lanes.parameters
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (IMAGES, *graph.input_shape)).astype(np.float32)
    labels = rng.integers(0, graph.classes, IMAGES)
    ours = lanes.loss_and_gradients(images, labels, Training(1))
    expected = definition.loss_and_gradients(images, labels, Training(1))
    assert ours.loss == pytest.approx(expected.loss, rel=1e-5)
    size = np.linalg.norm(expected.vector)
    theirs = definition.layout.named(expected.vector)
    for each, dw in lanes.layout.named(ours.vector).items():
        # a value next to a ReLU's kink or of two equal maxima may fall to the other side
        error = np.linalg.norm(dw - theirs[each])
        assert error < 1e-3 * np.linalg.norm(theirs[each]) + 1e-5 * size, each
    np.testing.assert_allclose(lanes(images), definition(images), rtol=1e-4, atol=1e-4)
