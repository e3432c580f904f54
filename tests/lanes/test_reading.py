"""How the runner reads images into the lanes: as the definition varies them."""

import numpy as np
import pytest

from rot180 import Network
from rot180.data import Augmentation
from rot180.engines import Batches
from rot180.engines.lanes.program import LanesEngine
from rot180.graph import sequence
from rot180.layers import Dense, ScalePixels, SoftmaxCrossEntropy
from rot180.optimizers import SGD
from rot180.parameters import decayed

MOVES = {"shift": Augmentation(shift=2), "flip": Augmentation(flip=True), "both": Augmentation(shift=3, flip=True)}
SEED, EPOCH = 3, 5


def read(images, order, augmentation, batch=20, threads=2):
    """What a network is given: its scores are its pixels, and its learning rate is 0."""
    shape, pixels = images.shape[1:], int(np.prod(images.shape[1:]))
    network = Network(
        sequence(shape, pixels=ScalePixels(0, 255), scores=Dense(pixels, bias=False), loss=SoftmaxCrossEntropy())
    )
    network.layout.views(network.parameters)["scores"]["w"][:] = np.eye(pixels)
    program = LanesEngine(threads).compile(network.graph, network.layout, network.statistics_layout)
    batches = Batches(
        images=images,
        labels=np.zeros(len(images), np.int64),
        order=order,
        batch=batch,
        augmentation=augmentation,
        seed=SEED,
        epoch=EPOCH,
        step=0,
        rates=np.zeros(-(-len(order) // batch)),
    )
    memory = np.zeros((1, network.layout.size), np.float32)
    mask = decayed(network.graph, network.layout)
    results = program.train(batches, SGD(), network.parameters, network.statistics, memory, mask)
    return results.scores.reshape(-1, *shape)


def some_images(shape, dtype, count=70):
    return np.random.default_rng(2).integers(1, 256, (count, *shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 5, 4)])
@pytest.mark.parametrize("augmentation", MOVES.values(), ids=MOVES)
def test_moved_images_are_the_definitions_to_the_bit(augmentation, shape, dtype):
    images, order = some_images(shape, dtype), np.random.default_rng(1).permutation(70)
    expected = augmentation.apply(images[order], SEED, EPOCH, order)
    assert (expected != images[order]).any(axis=(1, 2, 3)).sum() > 20
    np.testing.assert_array_equal(read(images, order, augmentation), expected)


@pytest.mark.parametrize("augmentation", MOVES.values(), ids=MOVES)
def test_neither_threads_nor_batches_change_a_bit(augmentation):
    images, order = some_images((2, 6, 5), np.uint8), np.arange(70)
    once = read(images, order, augmentation)
    for batch, threads in ((20, 1), (33, 3), (70, 2), (1, 2)):
        np.testing.assert_array_equal(read(images, order, augmentation, batch, threads), once)
