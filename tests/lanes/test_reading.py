"""How the runner reads images into the lanes: as the definition varies them; the same bits on any thread, promise 4."""

import numpy as np
import pytest

from rot180 import Network
from rot180.data import Augmentation
from rot180.engines import Batches
from rot180.engines.lanes.program import LanesEngine
from rot180.graph import chain, residual, sequence
from rot180.layers import BatchNormalization, Dense, ScalePixels, SoftmaxCrossEntropy
from rot180.optimizers import SGD
from rot180.parameters import decayed

MOVES = {
    "shift": Augmentation(shift=2),
    "flip": Augmentation(flip=True),
    "cutout": Augmentation(cutout=3),
    "all": Augmentation(shift=3, flip=True, cutout=2),
}
BENDS = {
    "rotate": Augmentation(rotate=30),
    "scale": Augmentation(scale=0.3),
    "shear": Augmentation(shear=20),
    "elastic": Augmentation(elastic=(6, 1.2)),
    "crop": Augmentation(crop=0.3),
    "all": Augmentation(2, True, 15, 0.2, 10, (8, 2), 0.5, 2),
}
SEED, EPOCH = 3, 5
AS_THEY_ARE = ScalePixels(0, 255)


def read(images, order, augmentation, batch=20, threads=2, normalizes=False, scaling=AS_THEY_ARE):
    """What a network is given: its scores are its pixels, and its learning rate is 0."""
    shape, pixels = images.shape[1:], int(np.prod(images.shape[1:]))
    nothing = {"nothing": residual(chain(norm=BatchNormalization()))} if normalizes else {}
    scores = {"scores": Dense(pixels, bias=False), "loss": SoftmaxCrossEntropy()}
    network = Network(sequence(shape, pixels=scaling, **nothing, **scores))
    for parameters in network.layout.views(network.parameters).values():
        for name, value in parameters.items():
            value[...] = np.eye(pixels) if name == "w" else 0
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


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 8, 6), (1, 3, 12)])
@pytest.mark.parametrize("augmentation", BENDS.values(), ids=BENDS)
def test_resampled_images_are_the_definitions(augmentation, shape, dtype):
    """The elastic field is summed in float32; a place is off by a millionth of a pixel at most."""
    images, order = some_images(shape, dtype), np.random.default_rng(1).permutation(70)
    expected = augmentation.apply(images[order], SEED, EPOCH, order)
    assert (np.abs(expected - images[order]).max(axis=(1, 2, 3)) > 1).sum() > 50
    np.testing.assert_allclose(read(images, order, augmentation), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("augmentation", [MOVES["all"], BENDS["all"]], ids=["moves", "bends"])
def test_each_channel_is_scaled_as_it_is_read(augmentation):
    """What lies outside the image is 0 before it is scaled, in every channel."""
    images, order = some_images((3, 6, 5), np.uint8), np.arange(70)
    scaling = ScalePixels((-2.1, -1, 0), (2.2, 3, 255))
    expected, _ = scaling.forward(augmentation.apply(images, SEED, EPOCH, order).astype(np.float32), {})
    found = read(images, order, augmentation, scaling=scaling)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
    np.testing.assert_array_equal(found[:, 0].min(), np.float32(-2.1))


@pytest.mark.parametrize("augmentation", [MOVES["all"], BENDS["all"]], ids=["moves", "bends"])
def test_neither_threads_nor_batches_change_a_bit(augmentation):
    images, order = some_images((2, 6, 5), np.uint8), np.arange(70)
    once = read(images, order, augmentation)
    for batch, threads in ((20, 1), (33, 3), (70, 2), (1, 2)):
        np.testing.assert_array_equal(read(images, order, augmentation, batch, threads), once)


def test_a_batch_that_goes_layer_by_layer():
    """Where batch normalization needs all groups at once, each thread reads some: the fields are each thread's own."""
    images, order, augmentation = some_images((1, 6, 5), np.uint8), np.arange(70), BENDS["all"]
    expected = augmentation.apply(images[order], SEED, EPOCH, order)
    for threads in (1, 2, 3):
        scores = read(images, order, augmentation, batch=70, threads=threads, normalizes=True)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-3)
