"""Training: when it updates (D1), what an update is (D3), and that nothing depends on where it was interrupted."""

import json
import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from rot180 import Network, Recipe, models, sequence, train
from rot180.data import Augmentation, Dataset, split
from rot180.errors import DataError, DivergenceError, RunError, SettingError
from rot180.layers import (
    BatchNormalization,
    Convolution,
    Dense,
    Dropout,
    ReLU,
    ScalePixels,
    SoftmaxCrossEntropy,
    Tanh,
)
from rot180.training import (
    SGD,
    Adam,
    AdamW,
    Adaptive,
    Constant,
    Cosine,
    Exponential,
    ExponentialAverage,
    OneCycle,
    Steps,
    StochasticWeightAverage,
    Stopping,
    Trainer,
    loop,
)
from rot180.training.checkpoint import load_checkpoint, save_checkpoint
from rot180.training.loop import Position
from rot180.training.recipe import MODES

NONE = Augmentation()
PLAIN = Recipe(
    epochs=2,
    batch=4,
    learning_rate=0.1,
    optimizer=SGD(momentum=0, weight_decay=0),
    schedule=Constant(),
    augmentation=NONE,
    validation=0,
)


def blobs(count=10, name="blobs"):
    """Images of 4x4 whose first pixel is their number, in three classes that can be told apart."""
    chance = np.random.default_rng(5)
    labels = np.arange(count) % 3
    images = chance.uniform(0, 60, (count, 1, 4, 4))
    images[np.arange(count), 0, 1 + labels, 2] += 190
    images[:, 0, 0, 0] = np.arange(count)
    return Dataset(np.round(images), labels, ("a", "b", "c"), name)


def small(seed=1, dtype=np.float64):
    graph = sequence((1, 4, 4), pixels=ScalePixels(), F1=Dense(5), tanh=Tanh(), F2=Dense(3), loss=SoftmaxCrossEntropy())
    return Network(graph, seed, engine="reference", dtype=dtype)


def eventful(seed=1):
    """With everything that remembers or draws: batch normalization and dropout."""
    graph = sequence(
        (1, 4, 4),
        pixels=ScalePixels(),
        C1=Convolution(3, 3),
        bn=BatchNormalization(),
        relu=ReLU(),
        drop=Dropout(0.3),
        F2=Dense(3),
        loss=SoftmaxCrossEntropy(),
    )
    return Network(graph, seed, engine="reference")


@pytest.fixture
def watched(monkeypatch):
    """Every call of loss_and_gradients: the numbers of its images, and its loss."""
    calls = []
    original = Network.loss_and_gradients

    def spy(self, images, labels, training=None):
        result = original(self, images, labels, training)
        calls.append((images[:, 0, 0, 0].astype(int).tolist(), result.loss))
        return result

    monkeypatch.setattr(Network, "loss_and_gradients", spy)
    return calls


# --- the optimiser -----------------------------------------------------------------------------------------------

GRADIENTS = np.array([[0.5, -1, 2], [1, 0, -1]])
SECOND_ADAM_STEP = 0.145 / 0.19 / math.sqrt(0.00124975 / 0.001999)  # m = 0.9 · 0.05 + 0.1, v = 0.999 · 0.00025 + 0.001


@pytest.mark.parametrize(
    ("optimizer", "first", "second"),
    [
        (SGD(0, False, 0), [0.95, 2.1, 2.8], [0.85, 2.1, 2.9]),  # p - 0.1 g
        (SGD(0.5, False, 0), [0.95, 2.1, 2.8], [0.825, 2.15, 2.8]),  # v = 0.5 v + g = (1.25, -0.5, 0)
        (SGD(0.5, True, 0), [0.925, 2.15, 2.7], [0.7625, 2.175, 2.8]),  # g + 0.5 v
        (SGD(0, True, 0), [0.95, 2.1, 2.8], [0.85, 2.1, 2.9]),
        (SGD(0, False, 0.1), [0.94, 2.08, 2.8], [0.8306, 2.0592, 2.9]),  # g + 0.1 p, the third is a bias
    ],
)
def test_two_steps_by_hand(optimizer, first, second):
    p, memory = np.array([1.0, 2.0, 3.0]), np.zeros((optimizer.slots, 3))
    for step, (gradient, expected) in enumerate(zip(GRADIENTS, (first, second), strict=True), 1):
        before = gradient.copy()
        optimizer.update(p, gradient, memory, 0.1, (slice(0, 2),), step)
        np.testing.assert_allclose(p, expected, rtol=1e-14)
        np.testing.assert_array_equal(gradient, before)


@pytest.mark.parametrize(("momentum", "nesterov", "decay"), [(0, False, 0), (0.9, False, 0), (0.9, True, 0.05)])
def test_sgd_is_pytorchs(momentum, nesterov, decay):
    chance = np.random.default_rng(2)
    p = chance.standard_normal(20)
    theirs = torch.tensor(p.copy(), requires_grad=True)
    torch_sgd = torch.optim.SGD([theirs], lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    mine, memory = SGD(momentum, nesterov, decay), np.zeros((1, 20))
    for step in range(10):
        gradient, rate = chance.standard_normal(20), 0.1 / (1 + step)
        torch_sgd.param_groups[0]["lr"] = rate
        theirs.grad = torch.tensor(gradient)
        torch_sgd.step()
        mine.update(p, gradient, memory, rate, (slice(0, 20),), step + 1)
        np.testing.assert_allclose(p, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("optimizer", "first", "second"),
    [
        # m = 0.1 g, v = 0.001 g², both hats undo that: the first step is 0.1 sign(g)
        (
            Adam(0.9, 0.999, 1e-30),
            [0.9, 2.1, 2.9],
            [0.9 - 0.1 * 0.145 / 0.19 / math.sqrt(0.00124975 / 0.001999), None, None],
        ),
        (Adam(0, 0, 1.0), [1 - 0.1 * 0.5 / 1.5, 2.05, 3 - 0.1 * 2 / 3], [None, 2.05, 3 - 0.2 / 3 + 0.05]),
        (Adam(0, 0, 1.0, weight_decay=0.5), [0.95, 2.0, 3 - 0.2 / 3], [None, None, None]),  # g + p/2 = (1, 0, 2)
        (AdamW(0, 0, 1.0, weight_decay=0.5), [0.95 - 0.1 / 3, 1.95, 3 - 0.2 / 3], [None, None, None]),
    ],
)
def test_two_steps_of_adam_by_hand(optimizer, first, second):
    p, memory = np.array([1.0, 2.0, 3.0]), np.zeros((optimizer.slots, 3))
    for step, (gradient, expected) in enumerate(zip(GRADIENTS, (first, second), strict=True), 1):
        optimizer.update(p, gradient, memory, 0.1, (slice(0, 2),), step)
        for found, number in zip(p, expected, strict=True):
            assert number is None or found == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("decay", [0, 0.05])
def test_adam_is_pytorchs(kind, decay):
    chance = np.random.default_rng(2)
    p = chance.standard_normal(20)
    theirs = torch.tensor(p.copy(), requires_grad=True)
    settings = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": decay}
    torch_adam = getattr(torch.optim, kind.__name__)([theirs], lr=0.1, **settings)
    mine, memory = kind(0.8, 0.95, 1e-6, decay), np.zeros((2, 20))
    for step in range(10):
        gradient, rate = chance.standard_normal(20), 0.1 / (1 + step)
        torch_adam.param_groups[0]["lr"] = rate
        theirs.grad = torch.tensor(gradient)
        torch_adam.step()
        mine.update(p, gradient, memory, rate, (slice(0, 20),), step + 1)
        np.testing.assert_allclose(p, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_weight_decay_pulls_weights_only(monkeypatch):
    network = eventful()
    network.parameters[:] = 1
    monkeypatch.setattr(
        Network,
        "loss_and_gradients",
        lambda self, images, labels, training=None: loop.Gradients(
            1.0, np.zeros((len(labels), 3)), np.zeros_like(self.parameters), self.statistics
        ),
    )
    next(iter(Trainer(network, blobs(), replace(PLAIN, optimizer=SGD(0, weight_decay=0.5)))))
    for place in network.layout.places:
        expected = 0.95 if place.name == "w" else 1  # 1 - 0.1 · 0.5 · 1
        np.testing.assert_allclose(network[f"{place.node}.{place.name}"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SGD(momentum=1), "momentum is 1: choose a number from 0 to below 1"),
        (lambda: SGD(momentum=-0.1), "momentum is -0.1: choose a number from 0 to below 1"),
        (lambda: SGD(momentum=math.nan), "momentum is nan: choose a number from 0 to below 1"),
        (lambda: SGD(weight_decay=-1), "weight decay is -1: choose a number from 0, such as 0.0005"),
        (lambda: SGD(weight_decay=math.inf), "weight decay is inf: choose a number from 0, such as 0.0005"),
        (lambda: Adam(beta1=1), "beta1 is 1: choose a number from 0 to below 1"),
        (lambda: AdamW(beta2=-1), "beta2 is -1: choose a number from 0 to below 1"),
        (lambda: Adam(epsilon=0), "epsilon is 0: choose a number above 0, such as 1e-8"),
        (lambda: AdamW(weight_decay=math.nan), "weight decay is nan: choose a number from 0, such as 0.0005"),
        (lambda: ExponentialAverage(1), "the average's decay is 1: choose a number from 0 to below 1"),
        (lambda: StochasticWeightAverage(1), "the average's start is 1: choose a share of the training, below 1"),
        (lambda: Stopping(updates=0), "stopping after updates 0: choose a whole number of at least 1"),
        (lambda: Stopping(patience=1.5), "stopping after patience 1.5: choose a whole number of at least 1"),
        (lambda: Stopping(loss=-1), "stopping at loss -1: choose a number from 0"),
        (lambda: Stopping(seconds=math.nan), "stopping at seconds nan: choose a number from 0"),
        (lambda: OneCycle(rise=0), "the rise is 0: choose a share of the training between 0 and 1"),
        (lambda: OneCycle(last=2), "a one-cycle schedule begins and ends at factors in (0, 1], not OneCycle("),
        (lambda: Adaptive(shrink=2), "an adaptive rate grows and tolerates by 1 or more, shrinks by 1 or less, not Ad"),
        (lambda: Cosine(1), "warmup is 1: choose a share of the training from 0 to below 1"),
        (lambda: Exponential(0), "an exponential schedule ends at a factor in (0, 1], not 0"),
        (lambda: Steps(2), "a step schedule needs a factor in (0, 1] and places in (0, 1), not Steps(factor=2, "),
        (lambda: Steps(at=(0.5, 1)), "a step schedule needs a factor in (0, 1] and places in (0, 1), not Steps("),
        (lambda: Recipe(mode="batch"), "there is no training mode 'batch': choose one of mini-batch, stochastic, wh"),
        (lambda: Recipe(epochs=0), "epochs is 0: choose a whole number of at least 1"),
        (lambda: Recipe(epochs=2.0), "epochs is 2.0: choose a whole number of at least 1"),
        (lambda: Recipe(batch=True), "batch is True: choose a whole number of at least 1"),
        (lambda: Augmentation(shift=-1), "shift is -1: give a whole number of at least 0"),
        (lambda: Recipe(seed=-1), "seed is -1: choose a whole number of at least 0"),
        (lambda: Recipe(seed=2**63), "seed is 9223372036854775808: choose a whole number of at most 92233720368547758"),
        (lambda: Recipe(sample_updates=0), "sample_updates is 0: choose a whole number of at least 1"),
        (lambda: Recipe(sample_loss=math.nan), "sample_loss is nan: choose a number from 0, such as 0.1"),
        (lambda: Recipe(learning_rate=0), "the learning rate is 0: choose a number above 0, such as 0.05"),
        (lambda: Recipe(learning_rate=math.nan), "the learning rate is nan: choose a number above 0, such as 0.05"),
        (lambda: Recipe(validation=1), "validation is 1: choose a share of the images from 0 to below 1"),
    ],
)
def test_bad_settings_are_refused(make, text):
    with pytest.raises(SettingError, match=f"^{re.escape(text)}"):
        make()


# --- schedules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "start", "half", "end"),
    [
        (Constant(), 1, 1, 1),
        (Steps(), 1, 0.1, 0.01),
        (Steps(0.5, (0.2, 0.3, 0.9)), 1, 0.25, 0.125),
        (Exponential(0.01), 1, 0.1, 0.01),
        (Cosine(0), 1, 0.5, 0),
        (Cosine(0.1), 0, 0.5, 0),
        (OneCycle(0.5, 0.1, 0.001), 0.1, 1, 0.001),
        (Adaptive(), 1, 1, 1),
    ],
)
def test_schedules(schedule, start, half, end):
    assert schedule(0.0) == pytest.approx(start)
    assert schedule(0.5) == pytest.approx(half)
    assert schedule(1.0) == pytest.approx(end, abs=1e-15)


def test_the_cosines_warm_up_is_linear():
    assert Cosine(0.1)(0.05) == pytest.approx(0.5 * (1 + math.cos(0.05 * math.pi)) / 2)
    assert Cosine(0.1)(0.1) == pytest.approx((1 + math.cos(0.1 * math.pi)) / 2)


def test_one_cycle_is_pytorchs():
    """PyTorch's goes through the steps; its peak lies at step rise · steps - 1, its end at steps - 1."""
    parameter = torch.zeros(1, requires_grad=True)
    sgd = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=1.0, total_steps=101, pct_start=0.31, cycle_momentum=False)
    peak = 0.31 * 101 - 1
    for step in range(101):
        assert OneCycle(rise=peak / 100)(step / 100) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        sgd.step()
        if step < 100:
            theirs.step()


@pytest.mark.parametrize(
    ("loss", "before", "factor"), [(0.9, 1.0, 2), (1.0, 1.0, 1), (1.2, 1.0, 1), (1.3, 1.0, 0.5), (0.0, 0.1, 2)]
)
def test_the_adaptive_rate_grows_while_the_loss_falls_and_shrinks_when_it_rises(loss, before, factor):
    assert Adaptive(grow=2, shrink=0.5, tolerance=1.25).change(loss, before) == factor


def test_the_adaptive_rate_in_training():
    recipe = replace(PLAIN, mode="BT", epochs=40, learning_rate=2.0, schedule=Adaptive(1.5, 0.5, 1.0))
    steps = list(train(small(), blobs(30), recipe))
    rates, losses = [step.learning_rate for step in steps], [step.loss for step in steps]
    assert rates[:2] == [2.0, 2.0]  # after the first epoch there is nothing to compare with
    for k in range(1, 39):
        assert rates[k + 1] == pytest.approx(rates[k] * (1.5 if losses[k] < losses[k - 1] else 0.5), rel=1e-12)
    assert {later > earlier for earlier, later in pairwise(rates[1:])} == {True, False}
    assert losses[-1] < 0.5 * losses[0]


def test_the_rate_follows_the_share_of_the_training_that_is_done():
    """2 epochs of 10 images in batches of 4: the middles of its updates are at 2, 6, 9, 12, 16, 19 of 20 images."""
    steps = list(train(small(), blobs(), replace(PLAIN, schedule=Exponential(0.01))))
    assert [step.learning_rate for step in steps] == pytest.approx(
        [0.1 * 0.01 ** (seen / 20) for seen in (2, 6, 9, 12, 16, 19)]
    )


# --- modes (D1) --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "images"),
    [
        ("mini-batch", [4, 8, 10]),  # the last batch is short
        ("stochastic", list(range(1, 11))),
        ("whole-batch", [10]),
    ],
)
def test_updates_of_an_epoch(watched, mode, images):
    steps = list(train(small(), blobs(), replace(PLAIN, mode=mode)))
    assert [step.images for step in steps] == 2 * images
    assert [step.epoch for step in steps] == [1] * len(images) + [2] * len(images)
    assert [step.step for step in steps] == list(range(1, 2 * len(images) + 1))
    assert [step.ends_epoch for step in steps] == 2 * [*[False] * (len(images) - 1), True]
    assert steps[-1].progress == 1
    orders = [[n for numbers, _ in part for n in numbers] for part in (watched[: len(images)], watched[len(images) :])]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))  # each image once an epoch
    if mode != "whole-batch":
        assert list(range(10)) != orders[0] != orders[1]  # in a new order
    losses = [loss * len(numbers) for numbers, loss in watched[: len(images)]]
    assert [step.loss for step in steps[: len(images)]] == pytest.approx(
        [sum(losses[: k + 1]) / seen for k, seen in enumerate(images)]
    )


def test_the_first_update_is_one_step_against_the_gradient_of_its_batch():
    network, data = small(), blobs()
    before = network.parameters.copy()
    order = loop.permutation(10, loop.Use.SHUFFLE, PLAIN.seed, 0)[:4]
    gradient = network.loss_and_gradients(data.images[order], data.labels[order]).vector
    next(train(network, data, PLAIN))
    np.testing.assert_allclose(network.parameters, before - 0.1 * gradient, rtol=1e-13)


@pytest.mark.parametrize("at_once", [1, 3, 5, 10, 1000])
def test_a_whole_batch_steps_against_the_mean_over_all_images(monkeypatch, watched, at_once):
    monkeypatch.setattr(loop, "IMAGES_AT_ONCE", at_once)
    network, data = small(), blobs()
    before = network.parameters.copy()
    whole = network.loss_and_gradients(data.images, data.labels)
    errors = (whole.scores.argmax(axis=1) != data.labels).mean()
    watched.clear()
    step = next(train(network, data, replace(PLAIN, mode="whole-batch")))
    np.testing.assert_allclose(network.parameters, before - 0.1 * whole.vector, rtol=1e-12, atol=1e-15)
    assert step.loss == pytest.approx(whole.loss, rel=1e-12)
    assert step.error == pytest.approx(errors)
    assert len(watched) == -(-10 // min(at_once, 10))


@pytest.mark.parametrize(
    ("mode", "addresses"),
    [
        ("mini-batch", [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]),  # (update, first image of the part)
        ("whole-batch", [(0, 0), (0, 4), (0, 8), (1, 0), (1, 4), (1, 8)]),
    ],
)
def test_where_dropout_draws_from(monkeypatch, mode, addresses):
    """Another mask each update, and each image its own, in however many parts a batch is computed."""
    seen = []
    original = Network.loss_and_gradients

    def spy(self, images, labels, training=None):
        seen.append((training.seed, training.step, training.first_image))
        return original(self, images, labels, training)

    monkeypatch.setattr(Network, "loss_and_gradients", spy)
    monkeypatch.setattr(loop, "IMAGES_AT_ONCE", 4)
    list(train(small(), blobs(), replace(PLAIN, mode=mode, seed=3)))
    assert seen == [(3, *address) for address in addresses]


def test_sample_by_sample_stays_with_an_image_until_its_loss_is_small(watched):
    recipe = replace(PLAIN, epochs=3, mode="sample-by-sample", learning_rate=0.3, sample_loss=0.4, sample_updates=3)
    steps = list(train(small(), blobs(), recipe))
    turns = []  # (image, its losses one after the other)
    for (number,), loss in watched:
        if not turns or turns[-1][0] != number:
            turns.append((number, []))
        turns[-1][1].append(loss)
    assert len(turns) == 30
    for _, losses in turns:
        assert all(loss >= 0.4 for loss in losses[:-1])
        assert losses[-1] < 0.4 or len(losses) == 3
    assert {len(losses) for _, losses in turns} == {1, 2, 3}
    assert {losses[-1] < 0.4 for _, losses in turns if len(losses) == 3} == {True, False}  # some were given up
    assert steps[-1].step == len(steps) == len(watched)
    assert sum(step.ends_epoch for step in steps) == 3
    assert all(len({n for n, _ in turns[k : k + 10]}) == 10 for k in (0, 10, 20))


def test_the_seeds_names_of_the_modes():
    names = {"ST": "stochastic", "BT": "whole-batch", "EET": "sample-by-sample", "mini-batch": "mini-batch"}
    assert {name: Recipe(mode=name).mode for name in names} == names


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_learns(mode):
    network, data = small(), blobs(30)
    steps = list(train(network, data, replace(PLAIN, mode=mode, epochs=60 if mode == "whole-batch" else 8)))
    assert steps[-1].loss < 0.8 * next(step for step in steps if step.ends_epoch).loss
    assert network.evaluate(data).error <= 0.1


# --- the stream --------------------------------------------------------------------------------------------------

VARIED = Recipe(
    epochs=3,
    batch=4,
    learning_rate=0.1,
    augmentation=Augmentation(shift=1, flip=True),
    validation=0.2,
    seed=7,
    sample_loss=0.7,
    sample_updates=3,
)


def history(steps):
    """The records as plain values."""
    return [
        (step.epoch, step.step, step.images, step.loss, step.error, step.learning_rate)
        + (() if step.validation is None else (step.validation.loss, step.validation.confusion.tolist()))
        for step in steps
    ]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    runs = {}
    for name, seed in (("first", 7), ("again", 7), ("other", 8)):
        network = eventful()
        records = history(train(network, blobs(30), replace(VARIED, seed=seed)))
        runs[name] = records, network.parameters.tobytes(), network.statistics.tobytes()
    assert runs["first"] == runs["again"]
    assert all(one != other for one, other in zip(runs["first"], runs["other"], strict=True))


def test_training_leaves_the_data_alone():
    data = blobs(30)
    before = data.images.copy()
    list(train(eventful(), data, VARIED))
    np.testing.assert_array_equal(data.images, before)


def test_validation_after_each_epoch():
    network = small()
    for step in train(network, blobs(30), replace(VARIED, mode="sample-by-sample")):
        assert (step.validation is not None) == step.ends_epoch
        if step.validation:
            assert step.validation.images == 6
    again = small()
    held = split(blobs(30), [0.8, 0.2], 7)[1]
    steps = list(train(again, blobs(30), replace(VARIED, validation=0), held))  # own images: nothing is held out
    assert steps[0].epoch_images == 30
    assert steps[-1].validation.loss == again.evaluate(held).loss


def test_held_out_images_are_never_learned_from(watched):
    trainer = Trainer(small(), blobs(30), replace(VARIED, augmentation=NONE))
    held = set(trainer.validation.images[:, 0, 0, 0].astype(int))
    list(trainer)
    learned = {number for numbers, _ in watched for number in numbers}
    assert len(held) == 6
    assert learned == set(range(30)) - held
    np.testing.assert_array_equal(np.bincount(trainer.validation.labels), [2, 2, 2])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stop", [0, 1, 5, 7])
def test_resumed_equals_uninterrupted(tmp_path, mode, stop):
    """Promise 3, in any mode, in the middle of an epoch, into a network that started elsewhere."""
    recipe = replace(VARIED, mode=mode, epochs=9 if mode == "whole-batch" else 2)
    whole = eventful()
    trainer = Trainer(whole, blobs(30), recipe)
    expected = history(trainer)

    first = Trainer(eventful(), blobs(30), recipe)
    stream = iter(first)
    records = history(next(stream) for _ in range(stop))
    save_checkpoint(tmp_path / "c", first, {"note": [1, "two"]})
    for _ in range(2):  # what happens after the checkpoint must not matter
        next(stream)

    second = Trainer(eventful(seed=99), blobs(30), recipe)
    assert load_checkpoint(tmp_path / "c", second) == {"note": [1, "two"]}
    records += history(second)
    assert records == expected
    assert second.network.parameters.tobytes() == whole.parameters.tobytes()
    assert second.network.statistics.tobytes() == whole.statistics.tobytes()
    assert second.memory.tobytes() == trainer.memory.tobytes()
    assert second.position == trainer.position


REMEMBERING = {
    "momentum": {"optimizer": SGD(0.9)},
    "adam": {"optimizer": Adam(weight_decay=0.01), "learning_rate": 0.01},
    "adamw": {"optimizer": AdamW(), "learning_rate": 0.01, "schedule": OneCycle()},
    "adaptive": {"schedule": Adaptive(1.5, 0.5, 1.0)},
    "exponential": {"averaging": ExponentialAverage(0.9)},
    "stochastic-weight": {"averaging": StochasticWeightAverage(0.3), "schedule": Steps()},
    "patience": {"stopping": Stopping(patience=2), "learning_rate": 1.0},
    "all": {
        "optimizer": AdamW(),
        "schedule": Adaptive(1.5, 0.5, 1.0),
        "averaging": ExponentialAverage(0.5),
        "stopping": Stopping(patience=2, updates=27),
        "learning_rate": 0.3,
    },
}


@pytest.mark.parametrize("changes", REMEMBERING.values(), ids=REMEMBERING)
@pytest.mark.parametrize("stop", [3, 17])
def test_whatever_remembers_is_resumed_to_the_same_bits(tmp_path, changes, stop):
    """Promise 3, with each optimiser, schedule and average; epochs have 6 updates."""
    recipe = replace(VARIED, epochs=6, **changes)
    whole = Trainer(eventful(), blobs(30), recipe)
    expected = history(whole)
    first = Trainer(eventful(), blobs(30), recipe)
    stream = iter(first)
    records = history(next(stream) for _ in range(stop))
    save_checkpoint(tmp_path / "c", first, {})
    second = Trainer(eventful(seed=99), blobs(30), recipe)
    load_checkpoint(tmp_path / "c", second)
    assert records + history(second) == expected
    assert {n: a.tobytes() for n, a in second.arrays.items()} == {n: a.tobytes() for n, a in whole.arrays.items()}
    assert second.position == whole.position
    save_checkpoint(tmp_path / "end", second, {})  # and once more, when all is over: nothing is settled twice
    third = Trainer(eventful(seed=99), blobs(30), recipe)
    load_checkpoint(tmp_path / "end", third)
    assert list(third) == []
    assert third.network.parameters.tobytes() == whole.network.parameters.tobytes()


def test_a_stream_that_is_left_can_be_taken_up():
    """Stop reading, iterate again: the trainer goes on where it was."""
    expected = history(train(eventful(), blobs(30), VARIED))
    trainer, records = Trainer(eventful(), blobs(30), VARIED), []
    while trainer.position.epoch < VARIED.epochs:
        for step in trainer:
            records += history([step])
            if step.step % 4 == 0:
                break
    assert records == expected
    assert list(trainer) == []


# --- stop criteria (D4) ------------------------------------------------------------------------------------------


def stopped(stopping, recipe=None, network=None, count=30):
    trainer = Trainer(network or small(), blobs(count), replace(recipe or PLAIN, epochs=50, stopping=stopping))
    steps = list(trainer)
    assert [step.stopped_by for step in steps[:-1]] == [""] * (len(steps) - 1)
    assert trainer.finished
    assert trainer.position.stopped_by == steps[-1].stopped_by
    return steps, trainer


@pytest.mark.parametrize(
    ("name", "bound", "value"),
    [
        ("loss", 0.3, lambda step: step.loss),
        ("error", 0.1, lambda step: step.error),
        ("gradient_norm", 0.6, lambda step: step.gradient_norm),
    ],
)
def test_training_stops_after_the_first_epoch_that_meets_a_criterion(name, bound, value):
    steps, _ = stopped(Stopping(**{name: bound}))
    ends = [step for step in steps if step.ends_epoch]
    assert steps[-1].stopped_by == name
    assert value(ends[-1]) <= bound
    assert all(value(step) > bound for step in ends[:-1])
    assert 2 < len(ends) < 50


def test_the_gradients_norm_is_that_of_the_whole_batch(watched):
    network, data = small(), blobs()
    gradient = network.loss_and_gradients(data.images, data.labels).vector
    step = next(train(network, data, replace(PLAIN, mode="BT")))
    assert step.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-12)


def test_the_gradients_norm_of_an_epoch_is_the_root_mean_square(monkeypatch):
    norms, original = [], Network.loss_and_gradients

    def spy(self, images, labels, training=None):
        result = original(self, images, labels, training)
        norms.append(np.linalg.norm(result.vector))
        return result

    monkeypatch.setattr(Network, "loss_and_gradients", spy)
    steps = list(train(small(), blobs(), PLAIN))
    assert steps[1].gradient_norm == pytest.approx(np.sqrt(np.mean(np.square(norms[:2]))))
    assert steps[-1].gradient_norm == pytest.approx(np.sqrt(np.mean(np.square(norms[3:]))))


@pytest.mark.parametrize("updates", [1, 7, 8, 16])
def test_training_stops_after_so_many_updates(updates):
    recipe = replace(PLAIN, validation=0.2)
    steps, trainer = stopped(Stopping(updates=updates), recipe)  # 6 an epoch
    assert steps[-1].step == len(steps) == updates
    assert steps[-1].stopped_by == "updates"
    assert steps[-1].validation.loss == trainer.network.evaluate(trainer.validation).loss  # also within an epoch


def test_training_stops_when_its_time_is_over(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))
    steps, trainer = stopped(Stopping(seconds=4.5))
    assert steps[-1].stopped_by == "seconds"
    assert len(steps) == 3  # looked at after 1, 2 + 1 and 4 + 1 seconds
    assert trainer.position.seconds == 6


def test_patience_ends_with_the_best_parameters():
    """Labels at random: the validation loss soon rises, while the training loss goes on falling."""
    data = replace(blobs(30), labels=np.random.default_rng(1).integers(0, 3, 30))
    recipe = replace(PLAIN, epochs=50, learning_rate=0.5, validation=0.3, stopping=Stopping(patience=3))
    trainer = Trainer(small(), data, recipe)
    losses = [step.validation.loss for step in trainer if step.ends_epoch]
    best = int(np.argmin(losses)) + 1
    assert trainer.position.stopped_by == "patience"
    assert trainer.position.best_epoch == best == len(losses) - 3
    assert trainer.network.evaluate(trainer.validation).loss == losses[best - 1]


def test_the_best_is_kept_where_something_else_stops():
    data = replace(blobs(30), labels=np.random.default_rng(1).integers(0, 3, 30))
    recipe = replace(PLAIN, epochs=12, learning_rate=0.5, validation=0.3, stopping=Stopping(patience=100))
    trainer = Trainer(small(), data, recipe)
    losses = [step.validation.loss for step in trainer if step.ends_epoch]
    assert trainer.position.stopped_by == "epochs"
    assert trainer.network.evaluate(trainer.validation).loss == min(losses) < losses[-1]


def test_criteria_combine_and_the_first_stops():
    steps, _ = stopped(Stopping(loss=0.3, updates=9, seconds=1e6))
    assert (len(steps), steps[-1].stopped_by) == (9, "updates")
    steps, _ = stopped(Stopping(loss=1e6, error=1.0, updates=9))
    assert (len(steps), steps[-1].stopped_by) == (8, "loss")


def test_without_a_criterion_the_epochs_stop():
    steps = list(train(small(), blobs(), PLAIN))
    assert (len(steps), steps[-1].stopped_by) == (6, "epochs")


def test_patience_needs_images_to_validate_on():
    recipe = replace(PLAIN, stopping=Stopping(patience=2))
    with pytest.raises(SettingError, match=r"^patience looks at the validation loss: hold images out, with a valid"):
        Trainer(small(), blobs(), recipe)
    Trainer(small(), blobs(), recipe, validation=blobs(9))


# --- averages ------------------------------------------------------------------------------------------------------


def parameters_after_updates(network, recipe, data):
    """Without an average."""
    states, ends = [], []
    for step in train(network, data, replace(recipe, averaging=None)):
        states.append(network.parameters.copy())
        ends.append(step.ends_epoch)
    return states, ends


def test_the_exponential_average():
    recipe = replace(PLAIN, averaging=ExponentialAverage(0.75))
    states, _ = parameters_after_updates(small(), recipe, blobs())
    expected = states[0]
    for number, state in enumerate(states[1:], 2):
        weight = max(0.25, 1 / number)
        expected = (1 - weight) * expected + weight * state
    network = small()
    list(train(network, blobs(), recipe))
    np.testing.assert_allclose(network.parameters, expected, rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_the_stochastic_weight_average_is_the_mean_of_the_last_epochs(mode):
    recipe = replace(PLAIN, epochs=6, mode=mode, averaging=StochasticWeightAverage(0.5))
    states, ends = parameters_after_updates(small(), recipe, blobs())
    last = [state for state, end in zip(states, ends, strict=True) if end][3:]
    assert len(last) == 3
    network = small()
    list(train(network, blobs(), recipe))
    np.testing.assert_allclose(network.parameters, np.mean(last, axis=0), rtol=1e-12)


def test_an_average_is_what_is_validated_and_training_goes_on_without_it():
    recipe = replace(VARIED, averaging=ExponentialAverage(0.9))
    plain, _ = parameters_after_updates(eventful(), recipe, blobs(30))
    network = eventful()
    trainer = Trainer(network, blobs(30), recipe)
    for count, step in enumerate(trainer):
        np.testing.assert_array_equal(network.parameters, plain[count])
        if step.validation:
            with trainer.averaged():
                assert network.evaluate(trainer.validation).loss == step.validation.loss
            assert network.evaluate(trainer.validation).loss != step.validation.loss
    assert network.evaluate(trainer.validation).loss == step.validation.loss
    assert (network.parameters != plain[-1]).any()


def test_an_averages_statistics_are_its_own():
    """Measured anew: in the end they do not depend on what training had measured."""
    recipe = replace(VARIED, epochs=1, augmentation=Augmentation(), averaging=ExponentialAverage(0.9))
    network = eventful()
    trainer = Trainer(network, blobs(300), recipe)
    list(trainer)
    activations = network.trace(trainer.data.images, trainer.data.labels).outputs["C1"]
    running = network["bn.running_mean"]
    np.testing.assert_allclose(running, activations.mean(axis=(0, 2, 3)), rtol=0.1, atol=0.02)


def test_an_average_without_anything_in_it_changes_nothing():
    recipe = replace(PLAIN, averaging=StochasticWeightAverage(0.9), stopping=Stopping(updates=2))
    network, other = small(), small()
    list(train(network, blobs(), recipe))
    list(train(other, blobs(), replace(recipe, averaging=None)))
    np.testing.assert_array_equal(network.parameters, other.parameters)


# --- checkpoints -------------------------------------------------------------------------------------------------


def saved(tmp_path, position=None):
    trainer = Trainer(small(), blobs(), PLAIN)
    trainer.position = position or trainer.position
    save_checkpoint(tmp_path / "c", trainer, {"seconds": 1.5})
    return tmp_path / "c"


@pytest.mark.parametrize(
    "position",
    [
        Position(epoch=3),
        Position(epoch=-1),
        Position(image=10),
        Position(image=-4),
        Position(attempt=10),
        Position(attempt=-1),
        Position(step=-1),
        Position(image=4, errors=5),
        Position(loss_sum=math.nan),
        Position(loss_sum=math.inf),
        Position(step=3, updates=4),
        Position(step=3, averaged=4),
        Position(rate_factor=0.0),
        Position(best_epoch=3),
        Position(best_loss=math.nan),
        Position(stopped_by="boredom"),
        Position(seconds=math.inf),
    ],
    ids=str,
)
def test_a_position_outside_the_training_is_refused(tmp_path, position):
    """Some of them would have trained for ever."""
    path = saved(tmp_path, position)
    with pytest.raises(RunError, match=rf"^{path}: the checkpoint is damaged \(Position\(.* is outside the training\)"):
        load_checkpoint(path, Trainer(small(), blobs(), PLAIN))


def test_numbers_that_are_not_finite_are_refused_and_nothing_is_changed(tmp_path):
    trainer = Trainer(small(), blobs(), PLAIN)
    trainer.network.parameters[2] = np.nan
    save_checkpoint(tmp_path / "c", trainer, {})
    fresh = Trainer(small(), blobs(), PLAIN)
    before = fresh.network.parameters.tobytes()
    with pytest.raises(RunError, match=rf"^{tmp_path}/c: the checkpoint holds numbers that training cannot have left;"):
        load_checkpoint(tmp_path / "c", fresh)
    assert fresh.network.parameters.tobytes() == before


def test_a_checkpoint_of_another_network_or_none_is_refused(tmp_path):
    path = saved(tmp_path)
    with pytest.raises(RunError, match=f"^{path}: not a checkpoint of this network; start the run again$"):
        load_checkpoint(path, Trainer(eventful(), blobs(), PLAIN))
    with pytest.raises(RunError, match=f"^{path}: the checkpoint holds numbers that training cannot have left;"):
        load_checkpoint(path, Trainer(small(dtype=np.float32), blobs(), PLAIN))
    small().save(tmp_path / "weights")
    with pytest.raises(RunError, match=f"^{tmp_path}/weights: not a checkpoint of this network; start the run again$"):
        load_checkpoint(tmp_path / "weights", Trainer(small(), blobs(), PLAIN))
    with pytest.raises(RunError, match=rf"^{tmp_path}/none: the checkpoint is damaged \("):
        load_checkpoint(tmp_path / "none", Trainer(small(), blobs(), PLAIN))


def test_a_checkpoint_cut_off_or_flipped_is_refused_or_whole(tmp_path):
    path = saved(tmp_path)
    content, chance = path.read_bytes(), np.random.default_rng(3)
    header = 8 + int.from_bytes(content[:8], "little")
    for cut in range(0, len(content), 53):
        path.write_bytes(content[:cut])
        with pytest.raises(RunError, match=f"^{path}: "):
            load_checkpoint(path, Trainer(small(), blobs(), PLAIN))
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[chance.integers(header)] = chance.integers(256)
        path.write_bytes(damaged)
        trainer = Trainer(small(), blobs(), PLAIN)
        try:
            assert isinstance(load_checkpoint(path, trainer), dict)
        except RunError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            refused += 1
    assert refused > 200


# --- recipes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        PLAIN,
        Recipe(
            3,
            "whole-batch",
            5,
            0.25,
            SGD(0.5, False, 0.25),
            Steps(0.5, (0.25, 0.5)),
            VARIED.augmentation,
            0.125,
            2**63 - 1,
            0.5,
            7,
        ),
        Recipe(schedule=Exponential(0.5)),
        Recipe(schedule=Cosine(0.25)),
        Recipe(optimizer=Adam(0.5), schedule=OneCycle(0.5)),
        Recipe(optimizer=AdamW(weight_decay=0.5), schedule=Adaptive(1.5), averaging=ExponentialAverage(0.5)),
        Recipe(averaging=StochasticWeightAverage(0.5), stopping=Stopping(0.1, 0.2, 0.3, 4, 5, 6.5)),
        Recipe(augmentation=Augmentation(2, True, 15, 0.2, 10, (8, 2), 0.5, 2)),
    ],
)
def test_a_recipe_comes_back_from_json(recipe):
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": "3"},
        {"mode": []},
        {"learning_rate": "fast"},
        {"learning_rate": None},
        {"validation": [1]},
        {"sample_loss": "low"},
        {"optimizer": {"name": "Adagrad"}},
        {"optimizer": {"name": ["SGD"]}},
        {"optimizer": {"momentum": 0.9}},
        {"optimizer": {"name": "SGD", "speed": 3}},
        {"optimizer": {"name": "SGD", "momentum": "high"}},
        {"optimizer": "SGD"},
        {"schedule": None},
        {"schedule": {"name": "steps", "at": 3}},
        {"schedule": {"name": "steps", "at": ["a"]}},
        {"averaging": {"name": "none"}},
        {"averaging": 3},
        {"stopping": None},
        {"stopping": {"loss": "low"}},
        {"stopping": {"whim": 3}},
    ],
    ids=str,
)
def test_a_damaged_recipe_is_refused(change):
    stored = {**Recipe().to_json(), **change}
    with pytest.raises(RunError, match=r"^the stored recipe is damaged \("):
        Recipe.from_json(stored)


def test_a_recipe_with_a_field_missing_is_refused():
    stored = Recipe().to_json()
    del stored["batch"]
    with pytest.raises(RunError, match=r"^the stored recipe is damaged \(KeyError\('batch'\)\)$"):
        Recipe.from_json(stored)


def test_an_optimiser_of_ones_own_trains_but_cannot_be_stored():
    class Backwards:
        slots = 0

        def update(self, parameters, gradient, memory, rate, decayed, step):
            assert memory.shape == (0, parameters.size)
            parameters += rate * gradient

    recipe = replace(PLAIN, optimizer=Backwards())
    losses = [step.loss for step in train(small(), blobs(), recipe) if step.ends_epoch]
    assert losses[1] > losses[0]
    with pytest.raises(SettingError, match=r"cannot be stored: register its class in OPTIMIZERS, SCHEDULES or AV"):
        recipe.to_json()


# --- what stops it -----------------------------------------------------------------------------------------------


def test_a_learning_rate_far_too_high_is_told_with_epoch_update_and_node():
    """Promise 8. One update spoils the parameters, the next finds out and is not made."""
    network, recipe = Network(models.lenet5(), seed=1, engine="reference"), replace(PLAIN, learning_rate=1e6)
    chance = np.random.default_rng(1)
    data = Dataset(chance.integers(0, 256, (40, 1, 28, 28)).astype(np.uint8), np.arange(40) % 10, tuple("0123456789"))
    steps = iter(Trainer(network, data, recipe))
    states = [network.parameters.copy()]

    def go_on():
        for _ in steps:
            states.append(network.parameters.copy())

    text = (
        r"^the loss is \S+ in epoch 1, update (\d+): the (output|gradient) of '(\w+)' is the first that is not "
        r"finite; nothing was changed by this update\. Try a smaller learning rate than 1e\+06, or look for extreme"
        r" values in the data$"
    )
    with pytest.raises(DivergenceError, match=text) as caught:
        go_on()
    update, _, node = re.match(text, str(caught.value)).groups()
    assert int(update) == len(states)
    assert node in [each.name for each in network.graph]
    assert np.isfinite(network.parameters).all()
    np.testing.assert_array_equal(network.parameters, states[-1])


def test_an_update_to_infinity_is_not_made():
    """The gradient is finite, but not the parameters that it leads to: without a next update nobody would notice."""
    network = small(dtype=np.float32)
    before = network.parameters.copy()
    trainer = Trainer(network, blobs(), replace(PLAIN, epochs=1, batch=10, learning_rate=1e300))
    text = r"^the loss is \S+ in epoch 1, update 1: the parameters it leads to are not finite; nothing was changed by"
    with pytest.raises(DivergenceError, match=text):
        list(trainer)
    np.testing.assert_array_equal(network.parameters, before)
    assert not trainer.memory.any()
    assert trainer.position == Position()


def test_the_node_that_overflows_is_named():
    network = small(dtype=np.float32)
    network["F2.w"][...] = 1e38
    network["F2.b"][1] = -np.inf
    with pytest.raises(DivergenceError, match=r"the output of 'F2' is the first that is not finite"):
        next(train(network, blobs(), PLAIN))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_data_with_a_number_that_is_not_finite_is_refused_with_the_images_number(number):
    images = blobs().images.copy()
    images[7, 0, 2, 1] = images[9, 0, 0, 0] = number
    with pytest.raises(DataError, match=r"^holey: image 7 holds a number that is NaN or infinite$"):
        Dataset(images, blobs().labels, ("a", "b", "c"), "holey")


def test_a_network_for_other_images_or_classes_is_refused():
    with pytest.raises(
        DataError, match=r"^blobs: images are 1x4x4, but the network takes 1x28x28; choose another netw"
    ):
        Trainer(Network(models.lenet5()), blobs())
    data = replace(blobs(), class_names=tuple("abcd"))
    with pytest.raises(DataError, match=r"^blobs: there are 4 classes, but the network tells only 3 apart$"):
        train(small(), data)


def test_no_images_are_refused():
    with pytest.raises(DataError, match=r"^blobs: there are no images to train on$"):
        Trainer(small(), blobs().take(slice(0)), PLAIN)


def test_a_shift_out_of_the_picture_is_refused():
    with pytest.raises(SettingError, match=r"^shift is 4: images of 4x4 would be moved out of sight$"):
        Trainer(small(), blobs(), replace(PLAIN, augmentation=Augmentation(shift=4)))
    list(train(small(), blobs(), replace(PLAIN, augmentation=Augmentation(shift=3), epochs=1)))
