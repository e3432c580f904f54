"""Every kernel against its layer's definition, in memory full of garbage; the same bits on any thread (promises 4, 5).

Run as a program, this file saves the gradients of two networks: `python test_kernels.py out.npy`.
"""

import os
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest

import rot180
from rot180 import models
from rot180.chance import Training
from rot180.engines.lanes import jit
from rot180.engines.lanes.check import first_difference
from rot180.engines.lanes.plan import LOWERINGS, lowering_of
from rot180.engines.lanes.program import LanesEngine, Mode
from rot180.engines.lanes.single.plan import SINGLE_LOWERINGS
from rot180.engines.reference import ReferenceEngine
from rot180.gradient_check import EXAMPLES
from rot180.graph import Graph, Node, auxiliary, branches, chain, residual, sequence
from rot180.layers import (
    ELU,
    Add,
    Affine,
    Arithmetic,
    AveragePooling,
    BatchNormalization,
    Clip,
    Concatenate,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    HardSwish,
    Identity,
    LeakyReLU,
    Loss,
    MaxPooling,
    ParametricReLU,
    ReLU,
    ScalePixels,
    Sigmoid,
    Softmax,
    SoftmaxCrossEntropy,
    Softplus,
    SquaredError,
    Tanh,
    Transpose,
)
from rot180.parameters import Layout

BATCHES = 1, 7, 16, 17, 37, 64  # the last lanes empty, none, all but one; several groups
TRAINING = Training(seed=5, step=3)


# --- what a network is given, and what it must answer --------------------------------------------------------------


def layouts(graph):
    return Layout.of_parameters(graph), Layout.of_statistics(graph)


def vectors(graph, seed=0):
    """Parameters and statistics, float32, in sizes that keep the values of a network near 1."""
    rng, found = np.random.default_rng(seed), []
    for layout in layouts(graph):
        vector = np.zeros(layout.size, np.float32)
        for place in layout.places:
            values = rng.standard_normal(place.shape)
            if place.name == "w":
                values *= np.sqrt(2 / prod(place.shape[1:]))
            elif place.name == "gamma":
                values = 1 + 0.3 * values
            elif place.name == "running_variance":
                values = 0.5 + np.abs(values)
            else:
                values *= 0.3
            vector[place.slice] = values.ravel()
        found.append(vector)
    return found


def batch(graph, images, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((images, *graph.input_shape)).astype(np.float32)
    return x, rng.integers(0, graph.shapes[graph.nodes[-1].inputs[0]][0], images)


def halos(prepared):
    """The columns beside values, which depth first no row may write: views of the arena."""
    if prepared.plan.layer_by_layer:  # rows zero them
        return
    for buffer in prepared.plan.buffers().values():
        whole = prepared.A[:, buffer.offset : buffer.offset + buffer.size * prepared.plan.groups]
        lines = whole.reshape(len(whole), -1, buffer.line // 16, 16)
        yield lines[:, :, : buffer.halo[0]]
        yield lines[:, :, lines.shape[2] - buffer.halo[1] :]


def spoil(program, images, training):
    """Fill everything that the rows must write before they read it with NaN: all but the zeros of halos."""
    prepared = program.prepare(Mode(backward=True, training=training is not None), images)
    prepared.A.fill(np.nan)
    prepared.S.fill(np.nan)
    for halo in halos(prepared):
        halo.fill(0)
    return prepared


def check(graph, batches=BATCHES, trainings=(None, TRAINING), tolerance=1e-5):
    """Loss, scores, gradients and statistics are the definition's; no garbage comes through."""
    program = LanesEngine(threads=2).compile(graph, *layouts(graph))
    definition = ReferenceEngine().compile(graph, *layouts(graph))
    given = vectors(graph)
    exactly = [vector.astype(np.float64) for vector in given]
    for images in batches:
        x, labels = batch(graph, images)
        for training in trainings:
            prepared = spoil(program, images, training)
            found = program.loss_and_gradients(x, labels, *given, training)
            expected = definition.loss_and_gradients(x.astype(np.float64), labels, *exactly, training)
            where = f"{images} images, {training}"
            assert not any(halo.any() for halo in halos(prepared)), where
            scores = expected.scores.reshape(images, -1)
            assert found.loss == pytest.approx(expected.loss, rel=1e-5, abs=1e-6), where
            np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5 * np.abs(scores).max(), err_msg=where)
            np.testing.assert_allclose(found.statistics, expected.statistics, rtol=1e-5, atol=1e-6, err_msg=where)
            # a gradient may be 0 by right, a bias before batch normalization: then what others are counts
            least = 0.1 * np.abs(expected.vector).max()
            mine, theirs = (layouts(graph)[0].named(each.vector) for each in (found, expected))
            for name, gradient in theirs.items():
                worst = np.abs(mine[name] - gradient).max() / max(np.abs(gradient).max(), least)
                assert worst < tolerance, f"{name}, {where}: {worst:.1e}"
        scores = definition.scores(x.astype(np.float64), *exactly)
        found = program.scores(x, *given)
        np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-5 * np.abs(scores).max())


def around(layer, shape):
    """A network with the layer in the middle: before it something that learns, behind it something uneven."""
    shapes = shape if layer.several_inputs else (shape,)
    if isinstance(layer, Loss):
        heads = {f"side{n}": auxiliary(side=Dense(*each)) for n, each in enumerate(shapes[1:-1])}
        return sequence((9,), **heads, front=Dense(*shapes[0]), layer=layer)
    nodes = []
    for index, each in enumerate(shapes):
        front = {1: Dense(each[0]), 3: Convolution(each[0], 1)}.get(len(each), Affine(each))
        nodes.append(Node(f"front{index}", front, ("image",)))
    nodes.append(Node("layer", layer, tuple(node.name for node in nodes)))
    nodes.append(Node("back", Dense(5), ("layer",)))
    nodes.append(Node("loss", SoftmaxCrossEntropy(), ("back", "label")))
    return Graph(nodes, shapes[0])


# --- one layer -------------------------------------------------------------------------------------------------------


def test_every_layer_has_kernels():
    """A fast path does not vanish silently. Few images know no loss: their scores come before it."""
    assert not [layer for layer, shape in EXAMPLES if not lowering_of(layer, shape, LOWERINGS)]
    lacking = [layer for layer, shape in EXAMPLES if not lowering_of(layer, shape, SINGLE_LOWERINGS)]
    assert all(isinstance(layer, Loss) for layer in lacking)


def test_numbers_repeated_along_some_axes_of_a_row_have_no_kernels():
    """Of four axes the last three are one row of the lanes' maps."""
    for lowerings in (LOWERINGS, SINGLE_LOWERINGS):
        for layer in (Affine((1, 3, 1, 2)), ParametricReLU((4, 1, 3, 1))):
            assert lowering_of(layer, (4, 3, 3, 2), lowerings) is None
        assert lowering_of(Affine((4, 1, 1, 1)), (4, 3, 3, 2), lowerings)
        assert lowering_of(Arithmetic("add"), ((4, 3, 3, 2), (4, 3, 1, 2)), lowerings) is None
        assert lowering_of(Arithmetic("add"), ((4, 3, 3, 2), (1, 3, 3, 2)), lowerings)


def test_what_float32_cannot_number_is_not_moved_by_a_table():
    for lowerings, most in ((LOWERINGS, 4096), (SINGLE_LOWERINGS, 2896)):
        assert lowering_of(Transpose((1, 0)), (most, most), lowerings)
        assert lowering_of(Transpose((1, 0)), (most, 2 * most), lowerings) is None


@pytest.mark.parametrize(("layer", "shape"), EXAMPLES, ids=[f"{layer}-{shape}" for layer, shape in EXAMPLES])
def test_layers_agree_with_their_definition(layer, shape):
    loses = layer == Arithmetic("divide")  # digits, where it divides by what is almost 0
    check(around(layer, shape), tolerance=1e-4 if loses else 1e-5)


FLOOR = {"remainder": "floor"}
CONVOLUTIONS = (
    (Convolution(1, 1), (1, 1, 1)),
    (Convolution(7, 1), (3, 5, 7)),
    (Convolution(13, 1, stride=2, **FLOOR), (9, 6, 5)),
    (Convolution(6, 1, stride=(1, 3), bias=False, **FLOOR), (11, 3, 8)),
    (Convolution(4, 1, padding=1), (5, 3, 2)),
    (Convolution(6, 1, groups=2), (4, 3, 3)),
    (Convolution(30, 1), (70, 5, 5)),
    (Convolution(5, (7, 1), padding=(3, 0)), (3, 5, 2)),
    (Convolution(7, (1, 7), padding=(0, 6)), (5, 2, 3)),
    (Convolution(3, 2), (2, 4, 5)),
    (Convolution(9, 3, padding=1), (7, 4, 9)),
    (Convolution(8, 3, padding="same", stride=2), (6, 7, 8)),
    (Convolution(6, 4, stride=3, padding=5, **FLOOR), (3, 6, 7)),
    (Convolution(8, 5, stride=2, padding=2, **FLOOR), (4, 8, 8)),
    (Convolution(4, (6, 2), dilation=(1, 4), padding=(7, 3)), (2, 5, 6)),
    (Convolution(6, 7, padding="wide"), (2, 3, 4)),
    (Convolution(4, 2, stride=(5, 4), **FLOOR), (3, 8, 9)),
    (Convolution(6, 3, stride=(1, 3), dilation=(2, 3), padding=(0, 5), groups=3, **FLOOR), (9, 5, 8)),
    (Convolution(6, 3, padding=1, groups=6), (6, 5, 17)),
    (Convolution(3, (5, 3), stride=2, padding=((0, 3), (1, 2)), groups=3, **FLOOR), (3, 7, 8)),
    (Convolution(2, 3, stride=(2, 3), dilation=(2, 2), padding=(4, 3), groups=2, bias=False, **FLOOR), (2, 7, 16)),
    (Convolution(2, (1, 17), padding=(0, 16), groups=2), (2, 2, 3)),
    (Convolution(10, 3, padding=((0, 2), (3, 0)), groups=2, bias=False), (4, 4, 1)),
)


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=[f"{layer}-{shape}" for layer, shape in CONVOLUTIONS])
def test_convolutions_of_all_shapes(layer, shape):
    graph = around(layer, shape)
    if layer.groups == 1 and shape[2] > 1:  # the reader's padding puts zeros beside y, its stride beside dy
        reader = Node("reader", Convolution(2, 3, padding=2, stride=2, remainder="floor"), ("layer",))
        back = [Node("back", Dense(5), ("reader",)), graph.nodes[-1]]
        graph = Graph([*graph.nodes[:-2], reader, *back], shape)
    check(graph, (1, 17, 37), (None,))


WINDOWS = (
    {"size": 2},
    {"size": (1, 3), "stride": (1, 3)},
    {"size": 3, "stride": 1},  # overlap
    {"size": (3, 2), "stride": 2, "padding": 1, **FLOOR},  # hang over the rim
    {"size": 2, "stride": 3, **FLOOR},  # leave gaps, and rows at the end that no window reaches
    {"size": 4, "stride": 3, "padding": "same"},
    {"size": 6},  # all of it
)


@pytest.mark.parametrize("kind", [MaxPooling, AveragePooling])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_pooling_windows(kind, window):
    check(around(kind(**window), (3, 6, 6)), (1, 37))


def test_average_pooling_with_more_padding_than_window():
    check(around(AveragePooling(2, stride=3, padding=4, **FLOOR), (2, 5, 6)), (17,))


@pytest.mark.parametrize(
    "layer", [Sigmoid(), Tanh(), LeakyReLU(-0.5), ReLU(), ELU(), Softplus(), HardSwish(), Clip(-3, 6)], ids=str
)
def test_activations_far_from_zero(layer):
    graph = sequence(
        (2, 3, 3), front=Convolution(2, 1), scale=ScalePixels(0, 1e4), layer=layer, F=Dense(3), loss=SquaredError()
    )
    check(graph, (16,), (None,))


def test_softmax_of_large_scores():
    check(sequence((4,), F=Dense(6), scale=ScalePixels(0, 2e4), layer=Softmax(), loss=SquaredError()), (17,), (None,))


def test_batch_normalization_far_from_zero():
    """Mean and variance are of what lies around the mean: 1000 ± 1 has lost no digits that it had."""
    graph = sequence(
        (2, 4, 4), b=BatchNormalization(), g=GlobalAveragePooling(), F=Dense(3), loss=SoftmaxCrossEntropy()
    )
    x, labels = batch(graph, 37)
    x = x + 1000
    program, definition = (engine.compile(graph, *layouts(graph)) for engine in (LanesEngine(2), ReferenceEngine()))
    given = vectors(graph)
    found = program.loss_and_gradients(x, labels, *given, TRAINING)
    exactly = (vector.astype(np.float64) for vector in given)
    expected = definition.loss_and_gradients(x.astype(np.float64), labels, *exactly, TRAINING)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(found.statistics, expected.statistics, rtol=1e-5)


# --- dropout -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 4, 5), (70,)])
@pytest.mark.parametrize("training", [Training(), Training(7, 10**6), Training(2**40 + 3, 5, first_image=32)])
def test_dropout_draws_the_bits_of_the_definition(shape, training):
    nodes = [
        Node("before", Identity(), ("image",)),  # so that the node's position is not 0
        Node("drop", Dropout(0.3), ("before",)),
        Node("F", Dense(3), ("drop",)),
        Node("loss", SoftmaxCrossEntropy(), ("F", "label")),
    ]
    graph = Graph(nodes, shape, output="drop")
    program, definition = (engine.compile(graph, *layouts(graph)) for engine in (LanesEngine(2), ReferenceEngine()))
    x, labels = batch(graph, 37)
    found, expected = (each.loss_and_gradients(x, labels, *vectors(graph), training) for each in (program, definition))
    np.testing.assert_array_equal(found.scores, expected.scores.reshape(37, -1))
    assert 0.1 < (found.scores == 0).mean() < 0.5


def test_dropout_in_a_network_with_batch_normalization():
    """Layer by layer, several groups to a row, several threads to a group."""
    graph = sequence(
        (2, 5, 6), C1=Convolution(4, 3), drop=Dropout(0.4), b=BatchNormalization(), relu=ReLU(),
        F=Dense(8), drop2=Dropout(0.5), F2=Dense(3), loss=SoftmaxCrossEntropy(),
    )  # fmt: skip
    check(graph)


# --- several readers, dead ends ------------------------------------------------------------------------------------


def small_residual():
    """ResNet's parts: shortcuts with and without a projection, ReLUs behind sums and behind batch normalizations."""

    def body(filters, stride=1):
        return chain(
            conv1=Convolution(filters, 3, padding=1, stride=stride, bias=False, remainder="floor"),
            bn1=BatchNormalization(),
            relu=ReLU(),
            conv2=Convolution(filters, 3, padding=1, bias=False),
            bn2=BatchNormalization(),
        )

    shortcut = chain(conv=Convolution(6, 1, stride=2, bias=False, remainder="floor"), bn=BatchNormalization())
    return sequence(
        (2, 7, 8), scale=ScalePixels(-1, 3), C1=Convolution(4, 3, padding=1), b=BatchNormalization(), r=ReLU(),
        block1=residual(body(4)), r1=ReLU(), block2=residual(body(6, 2), shortcut), r2=ReLU(),
        g=GlobalAveragePooling(), F=Dense(5), loss=SoftmaxCrossEntropy(),
    )  # fmt: skip


def inception():
    return sequence(
        (3, 6, 6),
        C1=Convolution(4, 3, padding=1),
        r=ReLU(),
        mixed=branches(
            a=chain(conv=Convolution(2, 1), r=ReLU()),
            b=chain(reduce=Convolution(3, 1), conv=Convolution(4, 5, padding=2), r=Tanh()),
            c=chain(pool=MaxPooling(3, stride=1, padding=1), conv=Convolution(1, 1)),
            d=AveragePooling(3, stride=1, padding=1),
            e=Identity(),
        ),
        pool=MaxPooling(2),
        F=Dense(5),
        loss=SquaredError(),
    )


def wired(*nodes, shape=(2, 5, 6), output=None):
    """A graph of (name, layer, inputs), ended by a dense layer and a loss."""
    last = nodes[-1][0]
    end = [("F", Dense(4), last), ("loss", SoftmaxCrossEntropy(), "F label")]
    return Graph([Node(name, layer, tuple(inputs.split())) for name, layer, inputs in (*nodes, *end)], shape, output)


C = Convolution(3, 3, padding=1)
WIRINGS = {
    "residual": small_residual(),
    "inception": inception(),
    "a value read by three nodes": wired(
        ("c", C, "image"), ("r", ReLU(), "c"), ("a", C, "r"), ("b", Tanh(), "r"), ("sum", Add(), "r a b")
    ),
    "a ReLU beside other readers": wired(
        ("c", C, "image"), ("r", ReLU(), "c"), ("s", Sigmoid(), "c"), ("sum", Add(), "c r s"), ("r2", ReLU(), "sum")
    ),
    "a value added to itself": wired(("c", C, "image"), ("sum", Add(), "c c"), ("t", Concatenate(), "sum c sum")),
    "a sum of one": wired(("c", C, "image"), ("sum", Add(), "c"), ("r", ReLU(), "sum")),
    "ReLUs one behind the other": wired(
        ("c", C, "image"), ("r", ReLU(), "c"), ("r2", ReLU(), "r"), ("r3", ReLU(), "r2")
    ),
    "a ReLU behind everything": wired(
        *(("c", C, "image"), ("r1", ReLU(), "c"), ("p", MaxPooling((5, 2)), "r1"), ("r2", ReLU(), "p")),
        *(("d", Dense(20), "r2"), ("r3", ReLU(), "d"), ("b", BatchNormalization(), "r3"), ("r4", ReLU(), "b")),
        *(("o", Dropout(0.2), "r4"), ("r5", ReLU(), "o")),
    ),
    "a clip behind everything": wired(
        *(("c", C, "image"), ("l1", Clip(-0.5, 0.8), "c"), ("p", Convolution(4, 1), "l1"), ("l2", Clip(0, 1), "p")),
        *(("d", Convolution(4, 3, padding=1, groups=4, bias=False), "l2"), ("l3", Clip(-0.4), "d")),
        *(("b", BatchNormalization(), "l3"), ("l4", Clip(0, 0.7), "b"), ("sum", Add(), "l2 l4")),
        *(("l5", Clip(high=0.9), "sum"), ("l6", Clip(0.1), "l5"), ("w", Convolution(16, 3, padding=1), "l6")),
        *(("l7", Clip(-0.2, 0.6), "w"), ("f", Dense(20), "l7"), ("l8", Clip(-0.1, 1), "f"), ("one", Add(), "l8")),
        ("l9", Clip(0, 0.5), "one"),
        shape=(2, 9, 10),
    ),
    "a ReLU behind batch normalization beside another reader": wired(
        ("c", C, "image"), ("b", BatchNormalization(), "c"), ("r", ReLU(), "b"), ("sum", Add(), "r b")
    ),
    "the image read twice": wired(
        ("s", ScalePixels(-1, 2), "image"), ("c", C, "s"), ("c2", C, "image"), ("sum", Add(), "c c2")
    ),
    "scaled pixels read twice": wired(
        ("s", ScalePixels(-1, 2), "image"), ("c", C, "s"), ("c2", C, "s"), ("sum", Add(), "c c2")
    ),
    "no parameters at first": wired(
        ("r", ReLU(), "image"),
        ("b", MaxPooling((5, 1)), "r"),
        ("t", Tanh(), "b"),
        ("sum", Add(), "t b"),
        ("u", ReLU(), "sum"),
    ),
    "nodes that do not reach the loss": wired(
        *(
            ("c", C, "image"),
            ("dead", C, "c"),
            ("dead2", BatchNormalization(), "dead"),
            ("r", Tanh(), "c"),
            ("dead3", Dense(3), "r"),
        ),
        ("end", Identity(), "r"),
    ),
    "the output is not what the loss reads": wired(
        ("d", Dense(6), "image"), ("r", ReLU(), "d"), ("e", Dense(3), "r"), ("t", Tanh(), "e"), output="d"
    ),
    "the output is a fused ReLU": wired(("d", Dense(6), "image"), ("r", ReLU(), "d"), output="r"),
    "the output is maps that a padded convolution reads": wired(("c", C, "image"), ("c2", C, "c"), output="c"),
    "an image of two axes": wired(("d", Dense(6), "image"), ("r", ReLU(), "d"), shape=(5, 6)),
}


@pytest.mark.parametrize("name", WIRINGS)
def test_wirings(name):
    check(WIRINGS[name])


# --- the same bits -----------------------------------------------------------------------------------------------


def lenet():
    return models.lenet5()


def gradients(graph, images, threads, training=TRAINING):
    x, labels = batch(graph, images)
    program = LanesEngine(threads).compile(graph, *layouts(graph))
    found = program.loss_and_gradients(x, labels, *vectors(graph), training)
    return np.concatenate([found.vector, found.scores.ravel(), found.statistics, [np.float32(found.loss)]])


def same_bits(one, other):
    return one.tobytes() == other.tobytes()


@pytest.mark.parametrize("graph", [lenet, small_residual])
@pytest.mark.parametrize("images", [37, 200])
def test_the_same_bits_on_any_number_of_threads(graph, images):
    alone = gradients(graph(), images, 1)
    assert np.isfinite(alone).all()
    for threads in (2, 3):
        assert same_bits(gradients(graph(), images, threads), alone)


def results():
    return np.concatenate([gradients(graph, 37, 2) for graph in (lenet(), small_residual())])


def test_avx2_computes_the_same_bits(tmp_path):
    features = jit.binding.get_host_cpu_features()
    if not (features.get("avx2") and features.get("fma")):
        pytest.skip("this processor has no AVX2")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU")}
    environment = clean | {"PYTHONPATH": str(Path(rot180.__file__).parents[1]), "ROT180_ISA": "avx2"}
    path = tmp_path / "out.npy"
    subprocess.run([sys.executable, __file__, str(path)], env=environment, check=True, timeout=300)
    assert same_bits(np.load(path), results())


# --- the kernels as Python -----------------------------------------------------------------------------------------


def every_layer():
    parallel = residual(chain(t=Tanh(), s=Sigmoid()), chain(l=LeakyReLU(), scale=ScalePixels()))
    return sequence(
        (2, 5, 5), c=Convolution(3, 2, padding=1), b=BatchNormalization(), r=ReLU(), d=Dropout(0.4),
        parallel=parallel, both=branches(i=Identity(), m=Softmax()), a=AveragePooling(2), p=MaxPooling(2, stride=1),
        f=Dense(3), r2=ReLU(), loss=SoftmaxCrossEntropy(),
    )  # fmt: skip


@pytest.mark.parametrize("graph", [every_layer(), sequence((17,), f=Dense(3), loss=SquaredError())])
def test_the_kernels_run_as_python_too(graph):
    """The rows of a network, one by one, compiled and on NumPy."""
    x, labels = batch(graph, 3)
    program = LanesEngine(1).compile(graph, *layouts(graph))
    prepared, G = program.begin(x, labels, *vectors(graph), TRAINING)
    compiled = [array.copy() for array in (prepared.P, G, prepared.A[0], prepared.S[0])]
    python = [array.copy() for array in compiled]
    for step in prepared.plan.body:
        step.kernel.run(*compiled, step.row, 0, step.units)
        with np.errstate(over="ignore"):  # chance counts modulo 2^64
            step.kernel.python(*python, step.row, 0, step.units)
        for mine, theirs in zip(compiled, python, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6, err_msg=f"{step.node}: {step.kernel.name}")


@pytest.mark.parametrize("training", [None, TRAINING])
def test_no_value_on_the_way_differs_from_the_definition(training):
    for graph in (every_layer(), small_residual(), lenet()):
        program = LanesEngine(1).compile(graph, *layouts(graph))
        assert first_difference(program, *batch(graph, 9), *vectors(graph), training) is None


if __name__ == "__main__":
    np.save(sys.argv[1], results())
