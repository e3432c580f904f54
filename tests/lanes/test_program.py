"""The lanes engine as a whole: training in compiled code is training, on any number of threads, interrupted or not."""

import os
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest

from rot180 import models
from rot180.chance import Training
from rot180.data import Dataset, mnist
from rot180.engines.lanes.check import UnsoundPlanError, check_plan, first_difference
from rot180.engines.lanes.optimizers import UPDATES, AdamRow, SGDRow, adam, pieces, records, sgd
from rot180.engines.lanes.plan import AGAIN, Plan
from rot180.engines.lanes.program import LanesEngine, Mode
from rot180.errors import DivergenceError, SettingError
from rot180.graph import Graph, Node, chain, residual, sequence
from rot180.layers import (
    Add,
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
from rot180.training import SGD, Adam, AdamW, ExponentialAverage, Recipe, Stopping, Trainer, loop
from rot180.training.checkpoint import load_checkpoint, save_checkpoint

OPTIMIZERS = SGD(), SGD(0.5, nesterov=False), Adam(epsilon=1e-3, weight_decay=0.01), AdamW(epsilon=1e-3)
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


def sums():
    """Sums whose gradient their inputs may share, and sums where somebody is in the way."""
    nodes = [
        Node("stem", Convolution(5, 3, stride=3, remainder="floor"), ("image",)),
        Node("norm", BatchNormalization(), ("stem",)),
        Node("relu", ReLU(), ("norm",)),
        Node("a", Convolution(5, 3, padding=1), ("relu",)),
        Node("a.norm", BatchNormalization(), ("a",)),
        Node("shared", Add(), ("a.norm", "relu")),
        Node("shared.relu", ReLU(), ("shared",)),
        Node("b", Convolution(5, 1), ("shared.relu",)),
        Node("b.relu", ReLU(), ("b",)),
        Node("masked", Add(), ("b.relu", "shared.relu")),  # b's ReLU changes its gradient in place
        Node("twice", Add(), ("masked", "masked")),
        Node("c", Convolution(5, 1), ("twice",)),
        Node("late", Convolution(5, 1), ("twice",)),  # adds to twice's gradient before c has read the sum's
        Node("between", Add(), ("twice", "c", "late")),
        Node("d", Convolution(5, 1), ("between",)),
        Node("after", Convolution(5, 1), ("between",)),
        Node("e", Add(), ("d", "between")),
        Node("both", Add(), ("e", "after")),
        Node("scores", Dense(10), ("both",)),
        Node("loss", SoftmaxCrossEntropy(), ("scores", "label")),
    ]
    return Graph(nodes, (1, 28, 28))


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

    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda rule: type(rule).__name__)
    def test_compiled_optimisers_are_the_definitions(self, graph, optimizer):
        """The same five updates by the compiled rule, and from the same gradients by optimizers.py."""
        recipe = replace(RECIPE, optimizer=optimizer, learning_rate=0.003, stopping=Stopping(updates=5))
        recipe = replace(recipe, averaging=ExponentialAverage(0.7))
        compiled, defined = (Trainer(Network(graph(), seed=1), DIGITS, recipe) for _ in range(2))
        defined._advance = defined._advance_by_one
        last = [list(each)[-1] for each in (compiled, defined)]
        assert last[0].step == last[1].step == 5
        assert last[0].gradient_norm == pytest.approx(last[1].gradient_norm, rel=1e-4)
        for name, array in compiled.arrays.items():
            other = defined.arrays[name]
            assert not array.size or np.abs(array - other).max() <= 1e-4 * np.abs(other).max(), name

    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda rule: type(rule).__name__)
    def test_their_bits_depend_neither_on_threads_nor_on_interruptions(self, graph, optimizer, tmp_path, monkeypatch):
        """Promises 3 and 4."""
        recipe = replace(RECIPE, optimizer=optimizer, learning_rate=0.003, epochs=1, averaging=ExponentialAverage(0.7))
        expected, _ = trained(graph, threads=1, recipe=recipe)
        monkeypatch.setattr(loop, "RECORD_SECONDS", 0.0)
        first = Trainer(Network(graph(), seed=1, threads=2), DIGITS, recipe)
        next(iter(first))
        save_checkpoint(tmp_path / "c", first, {})
        second = Trainer(Network(graph(), seed=99, threads=2), DIGITS, recipe)
        load_checkpoint(tmp_path / "c", second)
        list(second)
        assert bits(second.network) == bits(expected)

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
        assert np.isfinite(network.statistics).all()
        assert np.isfinite(trainer.memory).all()
        made = trainer.position.step
        assert made >= 1
        shorter = replace(RECIPE, learning_rate=1e12, stopping=Stopping(updates=made))
        again = Trainer(Network(graph(), seed=1), DIGITS, shorter)
        list(again)
        assert bits(again.network) == bits(network)  # what the updates before had left
        assert again.memory.tobytes() == trainer.memory.tobytes()

    def test_every_value_agrees_with_the_definition(self, graph):
        network = Network(graph(), seed=1)
        program, images = network.program, DIGITS.images[:11].astype(np.float32)
        operands = (images, DIGITS.labels[:11], network.parameters, network.statistics)
        assert first_difference(program, *operands) is None
        assert first_difference(program, *operands, Training(1, 5)) is None


ROW_TYPES = {sgd: SGDRow, adam: AdamRow}


@pytest.mark.parametrize("rule", [*OPTIMIZERS, Adam(), AdamW()], ids=str)
def test_a_compiled_rule_is_its_definition(rule):
    """On vectors of its own: three updates, part of the vector decayed; first without storing."""
    size, decayed, chance = 400, (slice(0, 16), slice(64, 336)), np.random.default_rng(1)
    p = chance.standard_normal(size).astype(np.float32)
    expected, memory = p.copy(), np.zeros((2, rule.slots, size), np.float32)
    kernel = UPDATES[type(rule)][0]
    for step in range(1, 4):
        g, rate = chance.standard_normal(size).astype(np.float32), 0.1 / step
        rule.update(expected, g, memory[1], rate, decayed, step)
        table, S = records(rule, np.array([rate]), step, size), np.zeros(16, np.float32)
        for storing in (0, 1):
            before = p.copy(), memory[0].copy()
            for first, last, decays in pieces(decayed, size):
                record = table[0, 2 * storing + decays].item()
                kernel.run(p, g, memory[0].reshape(-1), S, ROW_TYPES[kernel](*record), first, last)
            assert storing or (p.tobytes(), memory[0].tobytes()) == tuple(each.tobytes() for each in before)
        assert not S.any()
        np.testing.assert_allclose(p, expected, rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(memory[0], memory[1], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("rule", [SGD(), Adam()], ids=str)
@pytest.mark.parametrize("place", ["p", "g", "memory"])
def test_a_rule_that_would_leave_what_is_not_finite_says_so(rule, place):
    kernel, size = UPDATES[type(rule)][0], 32
    given = {"p": np.ones(size, np.float32), "g": np.ones(size, np.float32)}
    given["memory"] = np.ones(rule.slots * size, np.float32)
    given[place][19] = np.inf
    S = np.zeros(16, np.float32)
    row = ROW_TYPES[kernel](*records(rule, np.array([0.1]), 1, size)[0, 0].item())
    kernel.run(given["p"], given["g"], given["memory"], S, row, 0, 2)
    assert np.isnan(S).any()


def test_pieces_cover_the_vector_once():
    for decayed, size in (((), 16), ((slice(0, 16),), 16), ((slice(16, 48), slice(4096, 10000)), 20000)):
        mask = np.zeros(size)
        for part in decayed:
            mask[part] = 1
        found = pieces(decayed, size)
        assert [tuple(found[:-1, 1]), 0, -(-size // 16)] == [tuple(found[1:, 0]), found[0, 0], found[-1, 1]]
        for first, last, decays in found:
            assert (mask[first * 16 : last * 16] == decays).all()
            assert 0 < last - first <= 128


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


def test_only_the_plan_that_ran_last_has_memory():
    """Training and evaluation in turn take as much as the larger of the two."""
    network, program = lenet_program()
    images, labels = DIGITS.images[:40].astype(np.float32), DIGITS.labels[:40]
    operands = network.parameters, network.statistics
    first = program.loss_and_gradients(images, labels, *operands, None), program.scores(images, *operands)
    arena = weakref.ref(program.prepare(Mode(backward=True, training=False), 40).A)
    assert arena() is not None
    second = program.scores(images, *operands)
    assert arena() is None
    np.testing.assert_array_equal(first[1], second)
    again = program.loss_and_gradients(images, labels, *operands, None)
    np.testing.assert_array_equal(first[0].vector, again.vector)


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


def test_sums_share_their_gradient_where_nobody_is_in_the_way():
    network = Network(sums(), seed=1)
    operands = (DIGITS.images[:37], DIGITS.labels[:37])
    found = network.loss_and_gradients(*operands, Training())
    expected = Network(sums(), seed=1, engine="reference").loss_and_gradients(*operands, Training())
    np.testing.assert_allclose(found.vector, expected.vector, rtol=1e-4, atol=1e-5 * np.abs(expected.vector).max())
    plan = network.program.prepare(Mode(backward=True, training=True), 37).plan
    own = {name.removeprefix("d ") for name in plan.buffers() if name.startswith("d ")}
    assert {"shared", "b", "masked", "twice", "c", "late", "between"} <= own  # have memory of their own
    assert not {"a.norm", "norm"} & own
    copies = [step.node for step in plan.body if step.kernel.name == "copy_maps" and step.backward]
    assert "shared" not in copies
    assert {"masked", "twice"} <= set(copies)


def test_layer_by_layer_a_normalized_value_is_made_again_instead_of_kept():
    graph = models.resnet(18, 10, (3, 32, 32))
    network = Network(graph, seed=1, engine="reference")
    plan = Plan(graph, network.layout, network.statistics_layout, backward=True, training=True, groups=4)
    check_plan(plan)
    assert sum(name.endswith(AGAIN) for name in plan.buffers()) == 9  # all that a convolution reads
    kept = sum(np.prod(graph.shapes[node.name]) for node in graph if isinstance(node.layer, Convolution | Add))
    assert plan.arena < 1.25 * 64 * kept  # with halos, gradients and weights laid out anew
    assert plan.packed < 1.01 * network.layout.size


def test_a_network_explains_what_runs_and_why():
    uses = Network(models.resnet_small(20)).explain(batch=32)
    found = {(use.node, str(use.in_pass)): use for use in uses}
    inner = found["stage2_2.sum.conv1", "forward"]
    assert inner.kernels[-1].startswith("winograd(")
    assert "1 of 4 multiplications" in inner.reason
    assert found["stem.conv", "forward"].kernels[-1].startswith("convolution_forward")
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
