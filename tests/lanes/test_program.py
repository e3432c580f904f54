"""The lanes engine as a whole: training in compiled code is training, on any number of threads, interrupted or not."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rot180 import models
from rot180.chance import Training
from rot180.data import Dataset, mnist
from rot180.engines.lanes.check import UnsoundPlanError, check_plan, first_difference
from rot180.engines.lanes.program import LanesEngine, Mode
from rot180.errors import DivergenceError, SettingError
from rot180.graph import chain, residual, sequence
from rot180.layers import (
    BatchNormalization,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    MaxPooling,
    ReLU,
    ScalePixels,
    SoftmaxCrossEntropy,
)
from rot180.network import Network
from rot180.training import Recipe, Trainer, loop
from rot180.training.checkpoint import load_checkpoint, save_checkpoint

RECIPE = Recipe(epochs=2, batch=37, learning_rate=0.02, validation=0.0, seed=3)


def normalized():
    """With batch statistics (layer by layer), chance, and two readers of one value."""
    return sequence(
        (1, 28, 28),
        pixels=ScalePixels(-0.1, 1.175),
        conv=Convolution(5, 5, stride=2, bias=False, remainder="floor"),
        norm=BatchNormalization(),
        relu=ReLU(),
        block=residual(chain(conv=Convolution(5, 3, padding=1), norm=BatchNormalization())),
        pool=MaxPooling(2),
        drop=Dropout(0.2),
        scores=Dense(10),
        loss=SoftmaxCrossEntropy(),
    )


NETWORKS = {"lenet-5": models.lenet5, "normalized": normalized}
DIGITS = mnist().train.take(slice(0, 400))


def trained(graph, *, threads=2, recipe=RECIPE, data=DIGITS, engine="lanes"):
    network = Network(graph(), seed=1, engine=engine, threads=threads)
    steps = list(Trainer(network, data, recipe))
    return network, steps


def bits(network):
    return network.parameters.tobytes() + network.statistics.tobytes()


@pytest.mark.parametrize("graph", NETWORKS.values(), ids=NETWORKS)
class TestTraining:
    def test_many_updates_in_a_call_are_the_definitions(self, graph):
        """Against the reference engine, update by update: the same batches, shifts, masks and rule."""
        one = replace(RECIPE, epochs=1)
        fast, fast_steps = trained(graph, recipe=one)
        slow, slow_steps = trained(graph, recipe=one, engine="reference")
        assert fast_steps[-1].step == slow_steps[-1].step == 11
        assert fast_steps[-1].loss == pytest.approx(slow_steps[-1].loss, rel=1e-4)
        assert fast_steps[-1].error == pytest.approx(slow_steps[-1].error, abs=2 / 400)
        difference = np.abs(fast.parameters - slow.parameters).max()
        assert difference < 2e-4 * np.abs(slow.parameters).max()
        np.testing.assert_allclose(fast.statistics, slow.statistics, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_the_same_bits_on_any_number_of_threads(self, graph, threads):
        """Promise 4."""
        assert bits(trained(graph, threads=threads)[0]) == bits(trained(graph, threads=2)[0])

    def test_the_same_bits_and_records_however_many_updates_make_a_call(self, graph, monkeypatch):
        together, steps = trained(graph)
        monkeypatch.setattr(loop, "RECORD_SECONDS", 0.0)
        apart, more_steps = trained(graph)
        assert bits(together) == bits(apart)
        assert len(more_steps) == 22 > len(steps)
        ends = [[s for s in each if s.ends_epoch] for each in (steps, more_steps)]
        assert [(s.epoch, s.step, s.loss, s.error) for s in ends[0]] == [
            (s.epoch, s.step, s.loss, s.error) for s in ends[1]
        ]

    def test_resumed_equals_uninterrupted(self, graph, tmp_path, monkeypatch):
        """Promise 3, in the middle of an epoch."""
        monkeypatch.setattr(loop, "RECORD_SECONDS", 0.0)
        first = Trainer(Network(graph(), seed=1), DIGITS, RECIPE)
        for step in first:
            if step.step == 7:
                break
        save_checkpoint(tmp_path / "c", first, {})
        second = Trainer(Network(graph(), seed=99), DIGITS, RECIPE)
        load_checkpoint(tmp_path / "c", second)
        for _ in second:
            pass
        assert bits(second.network) == bits(trained(graph)[0])

    def test_one_image_an_update(self, graph):
        few = DIGITS.take(slice(0, 20))
        network, steps = trained(graph, recipe=replace(RECIPE, mode="stochastic", epochs=1), data=few)
        assert steps[-1].step == 20
        assert np.isfinite(network.parameters).all()

    def test_an_update_that_goes_wrong_is_named_and_undone(self, graph):
        """Promise 8: found among many updates of one call, the parameters as they were before it."""
        network = Network(graph(), seed=1)
        trainer = Trainer(network, DIGITS, replace(RECIPE, learning_rate=1e12))
        with pytest.raises(DivergenceError, match=r"in epoch 1, update \d+: .* nothing was changed by this update"):
            list(trainer)
        assert np.isfinite(network.parameters).all()
        assert trainer.position.step >= 1

    def test_every_value_agrees_with_the_definition(self, graph):
        network = Network(graph(), seed=1)
        program, images = network.program, DIGITS.images[:11].astype(np.float32)
        operands = (images, DIGITS.labels[:11], network.parameters, network.statistics)
        assert first_difference(program, *operands) is None
        assert first_difference(program, *operands, Training(1, 5)) is None


def lenet_program():
    network = Network(models.lenet5(), seed=1)
    return network, LanesEngine(1).compile(network.graph, network.layout, network.statistics_layout)


def test_a_wrong_row_is_found_and_named():
    network, program = lenet_program()
    body = program.prepare(Mode(backward=True, training=False), 16).plan.body
    index = next(k for k, step in enumerate(body) if step.kernel.name.startswith("max_pooling_forward"))
    body[index].row = body[index].row._replace(window=body[index].row.window._replace(width=1))
    images = DIGITS.images[:16].astype(np.float32)
    found = first_difference(program, images, DIGITS.labels[:16], network.parameters, network.statistics)
    assert found is not None
    assert (found.node, found.what, found.kernels) == ("S2", "output", ("max_pooling_forward",))
    assert "the output of 'S2', computed by max_pooling_forward, is off by" in str(found)


def test_unsound_plans_are_refused():
    """Kernels trust their rows, so nobody may hand them one that reaches elsewhere."""
    _, program = lenet_program()
    plan = program.prepare(Mode(backward=True, training=True), 16).plan
    check_plan(plan)
    buffer = plan.buffers()["S4"]
    kept = buffer.offset
    buffer.offset = plan.buffers()["C5"].offset
    with pytest.raises(UnsoundPlanError):
        check_plan(plan)
    buffer.offset = kept
    step = next(step for step in plan.body if step.node == "S2")
    step.row = step.row._replace(x=step.row.x._replace(height=step.row.x.height + 1))
    with pytest.raises(UnsoundPlanError, match=r"S2, max_pooling_forward.*: row\.x is not inside one value's memory"):
        check_plan(plan)


def test_memory_is_shared_by_values_that_never_meet():
    """LeNet-5's arena is smaller than all its values together (most of it is the image and C1, which live long)."""
    _, program = lenet_program()
    plan = program.prepare(Mode(backward=True, training=True), 16).plan
    assert plan.arena < 0.85 * sum(buffer.size for buffer in plan.buffers().values())


def test_bad_settings_are_sentences():
    with pytest.raises(SettingError, match=r"threads is 0: choose at least 1"):
        Network(models.lenet5(), threads=0)
    with pytest.raises(SettingError, match=r"the engine 'lanes' computes in float32, not float64: leave it out"):
        Network(models.lenet5(), dtype=np.float64, engine="lanes")
    assert Network(models.lenet5(), dtype=np.float64).engine_name == "reference"
    assert Network(models.lenet5()).engine_name == "lanes"


def test_images_of_floats_are_read_like_bytes():
    floats = Dataset(DIGITS.images.astype(np.float64), DIGITS.labels, DIGITS.class_names)
    few = replace(RECIPE, epochs=1)
    assert bits(trained(models.lenet5, recipe=few)[0]) == bits(trained(models.lenet5, recipe=few, data=floats)[0])


def test_global_pooling_of_a_bare_convolution():
    """No bias, no ReLU, no dense layer: the loss reads the pooled maps."""
    graph = sequence((1, 28, 28), conv=Convolution(10, 3), pool=GlobalAveragePooling(), loss=SoftmaxCrossEntropy())
    network = Network(graph, seed=1)
    images = DIGITS.images[:5].astype(np.float32)
    operands = (images, DIGITS.labels[:5], network.parameters, network.statistics)
    assert first_difference(network.program, *operands) is None


def test_a_network_explains_what_runs_and_why():
    uses = Network(models.resnet_small(20)).explain(batch=32)
    found = {(use.node, str(use.in_pass)): use for use in uses}
    inner = found["stage2_2.sum.conv1", "forward"]
    assert inner.kernels[0].startswith("winograd")
    assert "1 of 4 multiplications" in inner.reason
    assert found["stem.conv", "forward"].kernels[0].startswith("convolution_forward")
    assert {node for node, _ in found} >= {"stem.norm", "pool", "scores", "loss"}
    with pytest.raises(SettingError, match=r"the engine 'reference' runs the layers as they stand"):
        Network(models.lenet5(), engine="reference").explain()


COUNT_OTHERS = """
import subprocess
started = []
class Counted(subprocess.Popen):
    def __init__(self, *arguments, **options):
        started.append(arguments)
        super().__init__(*arguments, **options)
subprocess.Popen = Counted
import numpy as np
from rot180 import models
from rot180.network import Network
network = Network(models.lenet5())
images = np.zeros((20, 1, 28, 28), np.float32)
for _ in range(2):  # two plans, each of which has kernels to compile
    network.loss_and_gradients(images, np.zeros(20, np.int64))
    network(images)
print(len(started))
"""


def test_the_first_start_asks_one_other_process_and_later_ones_none(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    wanted = 1 if len(os.sched_getaffinity(0)) > 1 else 0
    for expected in (wanted, 0):
        command = [sys.executable, "-c", COUNT_OTHERS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        assert int(done.stdout) == expected
