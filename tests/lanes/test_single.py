"""Few images, channels in the lanes: every layer and whole networks against the definition, in memory full of garbage;
the same bits on any thread (promises 4, 5).

Run as a program, this file saves the scores of two networks: `python test_single.py out.npy`.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_kernels import WIRINGS, layouts, vectors

from rot180 import Network, models
from rot180.engines.lanes import jit
from rot180.engines.lanes.program import FEW, LanesEngine
from rot180.engines.lanes.single import plan
from rot180.engines.lanes.single import program as single_program
from rot180.engines.lanes.single.kernels import convolution
from rot180.engines.lanes.single.program import SingleProgram
from rot180.engines.lanes.single.table import can, case_of, choose, pixels_fill_lanes, tile_for
from rot180.engines.lanes.table import DIRECT, F2X2_3X3, F2X2_5X5, F4X4_3X3, Case, Choice, Pass
from rot180.engines.reference import ReferenceEngine
from rot180.errors import SettingError
from rot180.graph import Chain, Graph, Node, auxiliary, branches, chain, highway, residual, sequence
from rot180.layers import (
    Add,
    Affine,
    Arithmetic,
    AveragePooling,
    BatchNormalization,
    ChannelShuffle,
    Concatenate,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    HardSwish,
    Identity,
    LeakyReLU,
    LocallyConnected,
    LocalResponseNormalization,
    LogSoftmax,
    MaxPooling,
    Pad,
    ParametricReLU,
    RadialBasisLoss,
    RadialBasisOutput,
    ReLU,
    Reshape,
    ScaledTanh,
    ScalePixels,
    Sigmoid,
    Softmax,
    SoftmaxCrossEntropy,
    TableConvolution,
    Tanh,
    TrainableSubsampling,
    Transpose,
)
from rot180.layers.radial_basis_output import random_codes
from rot180.layers.table_convolution import LENET_TABLE
from rot180.parameters import Layout


def batch(graph, images, seed=1):
    return np.random.default_rng(seed).standard_normal((images, *graph.input_shape)).astype(np.float32)


def compiled(graph, threads=1):
    return SingleProgram(graph, *layouts(graph), threads)


def halos(program):
    """The columns beside values, which no row may write: views of the arena."""
    for frame in program.plan.buffers().values():
        lines = program._A[frame.offset : frame.offset + frame.height * frame.line].reshape(frame.height, -1)
        yield lines[:, : frame.halo[0] * frame.column]
        yield lines[:, frame.line - frame.halo[1] * frame.column :]


def spoil(program):
    """Fill everything that the rows must write before they read it with NaN: all but the zeros of halos."""
    program._A.fill(np.nan)
    program._S.fill(np.nan)
    for halo in halos(program):
        halo.fill(0)


def check(graph, images=3, tolerance=1e-5):
    """The scores are the definition's; no garbage comes through, and halos stay zeros."""
    program, given, x = compiled(graph), vectors(graph), batch(graph, images)
    definition = ReferenceEngine().compile(graph, *layouts(graph))
    expected = definition.scores(x.astype(np.float64), *(vector.astype(np.float64) for vector in given))
    spoil(program)
    found = program.scores(x, *given)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
    assert not any(halo.any() for halo in halos(program))
    return program


def rows(program):
    return [step.kernel.name.partition("(")[0] for step in program.plan.body]


def classifier(shape, **blocks):
    """A network of these blocks, with something uneven behind."""
    return sequence(shape, **blocks, end=Dense(5), loss=SoftmaxCrossEntropy())


# --- each layer --------------------------------------------------------------------------------------------------

CONVOLUTIONS = [
    Convolution(6, 5, padding=2),
    Convolution(16, 3),
    Convolution(17, 3, padding=1, bias=False),
    Convolution(40, 1),
    Convolution(130, 2),
    Convolution(5, (3, 2), stride=(2, 3), padding=(1, 2), remainder="floor"),
    Convolution(33, (2, 5), stride=(1, 2), padding="same"),
    Convolution(8, 3, dilation=2, padding=3),
    Convolution(8, (2, 3), dilation=(3, 2), padding=((2, 1), (4, 0))),
    Convolution(4, 3, padding=4),
    Convolution(3, (11, 13)),
]


@pytest.mark.parametrize("channels", [1, 3, 5, 16, 17, 40])
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_convolutions(layer, channels):
    check(classifier((channels, 11, 13), layer=layer, relu=ReLU()))
    if layer in CONVOLUTIONS[:3]:  # and where the input has gaps and a halo
        check(classifier((2, 11, 13), front=Convolution(channels, 1), pool=MaxPooling(1), layer=layer))


# Largest error against float64, in units of the largest value, for 96 channels; the direct kernels' is about 1e-6.
WINOGRAD = {F2X2_3X3: 2e-6, F4X4_3X3: 1e-5, F2X2_5X5: 1e-5}


def only(monkeypatch, variant):
    """Take this variant wherever it computes the convolution."""

    def choose(node, case):
        return Choice(node, case.in_pass, variant if can(case, variant) else None, "the test's")

    monkeypatch.setattr(convolution, "choose", choose)
    monkeypatch.setattr(plan, "pixels_fill_lanes", lambda _: False)


@pytest.mark.parametrize("variant", WINOGRAD, ids=str)
@pytest.mark.parametrize(("channels", "filters"), [(1, 5), (3, 16), (17, 40), (40, 17), (32, 130)])
@pytest.mark.parametrize(
    ("shape", "padding"), [((8, 8), 1), ((5, 14), 0), ((7, 9), 2), ((6, 5), 4), ((11, 7), "equal")]
)
def test_winograd(variant, channels, filters, shape, padding, monkeypatch):
    only(monkeypatch, variant)
    layer = Convolution(filters, variant.kernel, padding=padding)
    program = check(classifier((channels, *shape), layer=layer, norm=BatchNormalization(), relu=ReLU()))
    assert "winograd_products" in rows(program)
    block = residual(chain(front=Convolution(channels, 1), conv=Convolution(channels, variant.kernel, padding="equal")))
    check(classifier((channels, *shape), front=Convolution(channels, 1), block=block, relu=ReLU()))


@pytest.mark.parametrize("variant", WINOGRAD, ids=str)
def test_winograd_errors(variant, monkeypatch):
    only(monkeypatch, variant)
    graph = Graph(
        [
            Node("conv", Convolution(96, variant.kernel, padding="equal", bias=False), ("image",)),
            Node("pool", GlobalAveragePooling(), ("conv",)),
            Node("loss", SoftmaxCrossEntropy(), ("pool", "label")),
        ],
        (96, 14, 14),
        "conv",
    )
    check(graph, tolerance=WINOGRAD[variant])


def test_the_choice_of_algorithms():
    """What was measured to be the fastest; nothing for kernels, strides and groups that Winograd does not know."""

    def chosen(channels, filters, size, height, precise=False, **settings):
        case = Case(
            *(Pass.FORWARD, channels, filters, (size, size), settings.get("stride", (1, 1)), (1, 1)),
            *(settings.get("groups", 1), (height, height), (height, height), 1, precise),
        )
        return choose("node", case).algorithm

    assert chosen(64, 64, 3, 56) == chosen(128, 128, 3, 28) == chosen(64, 64, 3, 8) == F4X4_3X3
    assert (
        chosen(256, 256, 3, 8)
        == chosen(256, 256, 3, 14)
        == chosen(512, 512, 3, 7)
        == chosen(64, 64, 3, 56, precise=True)
        == F2X2_3X3
    )
    assert chosen(96, 256, 5, 27) == F2X2_5X5
    assert chosen(512, 512, 3, 4) is chosen(3, 64, 3, 32) is chosen(1, 6, 5, 28) is chosen(6, 16, 5, 10) is DIRECT
    assert chosen(64, 64, 3, 56, stride=(2, 2)) is chosen(64, 64, 3, 56, groups=2) is chosen(64, 64, 7, 56) is DIRECT
    program = compiled(models.resnet_small(20))
    assert {choice.node: choice.algorithm for choice in program.plan.choices}["stage2_1.sum.conv2"] == F4X4_3X3


# --- pixels in the lanes -------------------------------------------------------------------------------------------


def both_ways(graph, monkeypatch):
    """Compiled with pixels and with channels in the lanes: both are right, and not a bit differs."""
    program, x, given = check(graph), batch(graph, 2), vectors(graph)
    assert "first_convolution" in rows(program)
    with monkeypatch.context() as patch:
        patch.setattr(plan, "pixels_fill_lanes", lambda _: False)
        other = check(graph)
    assert "first_convolution" not in rows(other)
    np.testing.assert_array_equal(program.scores(x, *given), other.scores(x, *given))
    return program


FIRST = [
    Convolution(6, 5, padding=2),
    Convolution(6, (2, 3), stride=(3, 1), bias=False, padding=((0, 1), (4, 0)), remainder="floor"),
    Convolution(6, 3, dilation=(2, 3), padding=(3, 7)),
    Convolution(20, (1, 2), padding=3),
]


@pytest.mark.parametrize("pool", [None, MaxPooling(2, remainder="floor")], ids=["whole", "pooled"])
@pytest.mark.parametrize("shape", [(3, 8, 9), (2, 7, 26), (1, 6, 70)], ids=str)
@pytest.mark.parametrize("layer", FIRST, ids=str)
def test_first_convolutions(layer, shape, pool, monkeypatch):
    monkeypatch.setattr(plan, "pixels_fill_lanes", lambda _: True)
    behind = {"pool": pool} if pool else {}
    both_ways(classifier(shape, layer=layer, norm=BatchNormalization(), relu=ReLU(), **behind), monkeypatch)


def test_what_goes_with_first_convolutions(monkeypatch):
    monkeypatch.setattr(plan, "pixels_fill_lanes", lambda _: True)
    first, pool, shape = Convolution(6, 3), MaxPooling(2), (2, 14, 20)

    def pools(**layers):
        return "max_pooling_of_one" in rows(both_ways(classifier(shape, **layers), monkeypatch))

    assert not pools(scale=ScalePixels((-1, -2), (3, 0.5)), first=first, pool=pool, relu=ReLU(), dropout=Dropout())
    assert not pools(first=first, pool=pool, norm=BatchNormalization(), relu=ReLU())
    assert not pools(drop=Dropout(), first=first, same=Identity(), pool=pool, back=Convolution(18, 2, padding=1))
    assert pools(first=first, pool=pool, again=MaxPooling(2, remainder="floor"))  # the second is left
    for other in (MaxPooling((2, 3)), MaxPooling(2, stride=1), MaxPooling(2, padding=1), MaxPooling(3, stride=1)):
        assert pools(first=first, pool=other)
    assert pools(first=first, both=branches(a=chain(pool=pool, flat=Dense(3)), b=Dense(2)))
    both_ways(classifier(shape, first=first, block=residual(chain(conv=Convolution(6, 1)))), monkeypatch)


def test_planes_have_one_reader_and_may_be_pooled_by_the_last_layer(monkeypatch):
    monkeypatch.setattr(plan, "pixels_fill_lanes", lambda _: True)
    nodes = [
        Node("scaled", ScalePixels(-1, 1), ("image",)),
        Node("a", Convolution(5, 3), ("scaled",)),
        Node("b", Convolution(5, 3), ("scaled",)),
        Node("sum", Add(), ("a", "b")),
        Node("pool", MaxPooling(2), ("sum",)),
        Node("loss", SoftmaxCrossEntropy(), ("pool", "label")),
    ]
    two = check(
        Graph(
            [*nodes[:-1], Node("end", Dense(5), ("pool",)), Node("loss", nodes[-1].layer, ("end", "label"))], (3, 8, 20)
        )
    )
    assert "first_convolution" not in rows(two)
    alone = [nodes[1], Node("pool", MaxPooling(2), ("a",)), Node("end", Dense(5), ("pool",))]
    alone = [nodes[0], *alone, Node("loss", SoftmaxCrossEntropy(), ("end", "label"))]
    for output in ("scaled", "a", "pool", "end"):
        program = check(Graph(alone, (3, 8, 20), output))
        assert ("first_convolution" in rows(program)) == (output != "scaled")


def test_what_the_lanes_hold():
    """Pixels where filters are few and rows long."""

    def pixels(shape, layer):
        return pixels_fill_lanes(case_of(layer, shape, precise=False))

    assert pixels((1, 28, 28), Convolution(6, 5, padding=2))
    assert pixels((3, 32, 32), Convolution(8, 3, padding=1))
    assert not pixels((3, 32, 32), Convolution(16, 3, padding=1))
    assert not pixels((3, 224, 224), Convolution(64, 7, stride=2, padding=3, remainder="floor"))
    assert not pixels((1, 28, 28), Convolution(6, 5, stride=(1, 2), padding=2, remainder="floor"))
    assert not pixels((1, 28, 28), Convolution(6, 1))
    assert not pixels((2, 28, 28), Convolution(6, 5, groups=2))
    assert not pixels((1, 10, 10), Convolution(14, 5))
    choice = compiled(models.lenet5()).plan.choices[0]
    assert str(choice) == "C1, forward: direct, pixels in the lanes: 6 filters would leave lanes empty"


@pytest.mark.parametrize(
    ("channels", "filters", "groups"),
    [
        *((40, 40, 40), (16, 16, 16), (17, 17, 17)),
        *((4, 6, 2), (5, 10, 5), (64, 32, 2), (48, 48, 3), (40, 60, 20), (6, 200, 2)),
    ],
)
@pytest.mark.parametrize("more", [{}, {"stride": 2, "dilation": 2}, {"size": (2, 3), "padding": "same", "bias": False}])
def test_groups(channels, filters, groups, more):
    settings = {"size": 3, "padding": 1, "remainder": "floor", **more}
    layer = Convolution(filters, groups=groups, **settings)
    program = check(classifier((channels, 9, 10), layer=layer, norm=BatchNormalization(), relu=ReLU()))
    assert ("depthwise_of_one" in rows(program)) == (channels == filters == groups)


@pytest.mark.parametrize(
    "layer",
    [
        Dense(17),
        Dense(300, bias=False),
        MaxPooling(2, remainder="floor"),
        MaxPooling((3, 2), stride=(2, 1), padding=1, remainder="floor"),
        AveragePooling((2, 3), remainder="floor"),
        AveragePooling(3, stride=2, padding=1, remainder="floor"),
        GlobalAveragePooling(),
        BatchNormalization(),
        ReLU(),
        LeakyReLU(0.3),
        Sigmoid(),
        Tanh(),
        ScaledTanh(),
        Identity(),
        Dropout(0.4),
        Softmax(),
        ScalePixels(-1, 3),
        TrainableSubsampling(2, remainder="floor"),
        TrainableSubsampling((3, 2), stride=(2, 1), padding=1, remainder="floor"),
        LocallyConnected(7, (2, 3), padding=1),
        LocallyConnected(20, 3, stride=2, bias=False, remainder="floor"),
        LocalResponseNormalization(alpha=0.3),
        LocalResponseNormalization(37, alpha=0.1, beta=0.6, k=1),
        HardSwish(),
        LogSoftmax(),
        Pad(((1, 2), (3, 0)), 0.5),
        MaxPooling((3, 2), stride=1, padding=1, dilation=2),
        AveragePooling((2, 3), stride=1, padding=1, dilation=2, counted=0),
        Transpose((2, 0, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 5, 16, 40])
def test_layers_on_maps(layer, channels):
    """Behind the image, behind a convolution with and without a second reader, and in front of another convolution."""
    check(classifier((channels, 7, 9), layer=layer))
    check(classifier((3, 7, 9), front=Convolution(channels, 2), layer=layer))
    check(classifier((3, 7, 9), both=branches(a=chain(layer=layer, flat=Dense(7)), b=Dense(2)), relu=ReLU()))
    if len(layer.output_shape((channels, 7, 9))) == 3:
        check(classifier((channels, 7, 9), layer=layer, back=Convolution(18, 2, padding=1), relu=ReLU()))


def test_values_that_would_be_large_for_sixteen_images(monkeypatch):
    """A batch's halos are then zeroed by rows of their own; an image's stay zero from the start."""
    monkeypatch.setattr("rot180.engines.lanes.plan.LARGE", 1)
    check(inception())


def test_maps_scaled_one_by_one():
    check(classifier((3, 7, 9), front=Convolution(37, 2), layer=ScalePixels(-1, tuple(range(37)))))


@pytest.mark.parametrize(
    "layer",
    [
        *(Affine((20, 1, 1)), Affine((1, 6, 8), shift=False), ParametricReLU((20, 6, 8)), ParametricReLU((1, 1, 1))),
        *(Reshape((8, 6, 20)), Reshape((960,)), ChannelShuffle(4)),
    ],
    ids=str,
)
def test_layers_that_know_their_input(layer):
    check(classifier((3, 7, 9), front=Convolution(20, 2), layer=layer))


@pytest.mark.parametrize("operation", ["subtract", "multiply", "divide"])
def test_arithmetic_of_maps_and_one_number_each(operation):
    """A gate as Hu, Shen and Sun 2018 have it, and one for all maps."""
    for filters, pool in ((20, GlobalAveragePooling()), (1, MaxPooling(1))):
        nodes = [
            Node("front", Convolution(20, 2), ("image",)),
            Node("one", Convolution(filters, 1), ("front",)),
            Node("pool", pool, ("one",)),
            Node("gate", Reshape((20, 1, 1)) if filters == 20 else Identity(), ("pool",)),
            Node("layer", Arithmetic(operation), ("front", "gate")),
            Node("end", Dense(5), ("layer",)),
            Node("loss", SoftmaxCrossEntropy(), ("end", "label")),
        ]
        check(Graph(nodes, (3, 7, 9)), tolerance=1e-4 if operation == "divide" else 1e-5)


@pytest.mark.parametrize(
    "layer", [Dense(17), BatchNormalization(), ReLU(), Sigmoid(), Softmax(), Identity(), Dropout(0.3)], ids=str
)
@pytest.mark.parametrize("size", [1, 16, 37])
def test_layers_on_vectors(layer, size):
    check(classifier((3, 4, 4), front=Dense(size), layer=layer))


@pytest.mark.parametrize("settings", [{"size": 3}, {"size": (2, 3), "stride": 2, "padding": (1, 2), "bias": False}])
@pytest.mark.parametrize("table", [((0,), (2, 0)), LENET_TABLE, (*LENET_TABLE, (1,), (6, 4))], ids=len)
def test_table_convolutions(table, settings):
    layer = TableConvolution(table, **settings, remainder="floor")
    check(classifier((7, 7, 9), layer=layer, relu=ReLU()))
    check(classifier((2, 7, 9), front=Convolution(7, 1), tanh=Tanh(), layer=layer, back=Convolution(18, 2, padding=1)))


@pytest.mark.parametrize("size", [1, 16, 37])
def test_highway_gates(size):
    for kind, settings in ((Dense, {}), (Convolution, {"size": 1})):
        front, h, t = (kind(size, **settings) for _ in range(3))
        check(classifier((2, 3, 4), front=front, block=highway(chain(h=h, tanh=Tanh()), chain(t=t, sigmoid=Sigmoid()))))


@pytest.mark.parametrize(("classes", "length"), [(1, 1), (10, 84), (17, 16), (40, 5)])
def test_radial_basis_outputs(classes, length):
    codes = random_codes(2 * classes + 8, max(length, 6))[:classes]
    layer = RadialBasisOutput(tuple(dict.fromkeys(codes)))
    check(sequence((2, 3, 4), front=Dense(len(codes[0])), layer=layer, loss=RadialBasisLoss()))


def test_heads_on_the_side_are_left_out():
    graph = sequence(
        (2, 3, 4),
        front=Dense(9),
        side=auxiliary(deep=Dense(7), F=Dense(3)),
        relu=ReLU(),
        F=Dense(3),
        loss=SoftmaxCrossEntropy((1.0, 0.5)),
    )
    program = check(graph)
    assert "side.F" not in {step.node for step in program.plan.body}


@pytest.mark.parametrize("sizes", [(1, 2), (16, 32), (5, 12, 40), (15, 17)])
@pytest.mark.parametrize("maps", [True, False])
def test_concatenations(sizes, maps):
    paths = {f"p{k}": Convolution(size, 1) if maps else Dense(size) for k, size in enumerate(sizes)}
    check(classifier((3, 5, 6), both=branches(**paths), relu=ReLU()))


def test_sums():
    """In a convolution's own row, and in rows of their own: three inputs, an input twice, one read by another."""
    front = Node("a", Convolution(18, 3), ("image",)), Node("b", Convolution(18, 3), ("image",))
    ends = Node("end", Dense(5), ("sum",)), Node("loss", SoftmaxCrossEntropy(), ("end", "label"))

    def graph(*nodes):
        return Graph([*front, *nodes, *ends], (2, 6, 7))

    fused = check(graph(Node("add", Add(), ("a", "b")), Node("sum", ReLU(), ("add",))))
    assert rows(fused) == ["read_image", *["convolution_of_one"] * 3]
    assert "add_one" in rows(check(graph(Node("sum", Add(), ("a", "a")))))
    assert "add_one" in rows(check(graph(Node("r", ReLU(), ("b",)), Node("sum", Add(), ("a", "r")))))
    check(graph(Node("sum", Add(), ("b",))))
    check(graph(Node("one", Add(), ("b",)), Node("sum", ReLU(), ("one",))))
    check(graph(Node("c", Convolution(18, 3), ("image",)), Node("sum", Add(), ("a", "b", "c"))))
    check(graph(Node("n", BatchNormalization(), ("b",)), Node("sum", Add(), ("n", "a"))))
    check(graph(Node("s", Add(), ("a", "b")), Node("n", BatchNormalization(), ("s",)), Node("sum", Add(), ("n", "b"))))
    check(graph(Node("d", Dropout(), ("a",)), Node("s", Add(), ("d", "b")), Node("sum", Concatenate(), ("s", "d"))))


def test_the_output_may_be_any_node():
    """What stands behind it is not fused with it; maps come out as maps."""
    nodes = [
        Node("a", Convolution(18, 3), ("image",)),
        Node("n", BatchNormalization(), ("a",)),
        Node("r", ReLU(), ("n",)),
        Node("end", Dense(5), ("r",)),
        Node("loss", SoftmaxCrossEntropy(), ("end", "label")),
    ]
    for output in ("a", "n", "r", "end"):
        check(Graph(nodes, (2, 6, 7), output))


# --- networks ------------------------------------------------------------------------------------------------------


def inception():
    """Branches of every kind, a residual block, a batch normalization between, groups."""
    return sequence(
        (3, 17, 15),
        pixels=ScalePixels((-1, -2.1, 0), (1, 2.2, 1)),
        stem=Convolution(20, 3, stride=2),
        norm0=BatchNormalization(),
        both=branches(
            one=chain(conv=Convolution(7, 1), relu=ReLU()),
            three=chain(conv1=Convolution(24, 1), relu=ReLU(), conv2=Convolution(24, 3, padding=1, groups=24)),
            pool=chain(pool=MaxPooling(3, stride=1, padding=1), conv=Convolution(5, 1)),
        ),
        norm=BatchNormalization(),
        block=residual(Chain({"conv": Convolution(36, 3, padding=1, groups=4), "tanh": Tanh()})),
        relu=ReLU(),
        pool=GlobalAveragePooling(),
        dropout=Dropout(),
        scores=Dense(10),
        loss=SoftmaxCrossEntropy(),
    )


NETWORKS = {
    "lenet-5": models.lenet5,
    "lenet-sigmoid": models.lenet_sigmoid,
    "resnet-20": lambda: models.resnet_small(20),
    "inception": inception,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    check(NETWORKS[name](), images=1)


@pytest.mark.parametrize("name", WIRINGS)
def test_wirings(name):
    """What may be fused and what may not."""
    check(WIRINGS[name])


@pytest.mark.parametrize("images", range(1, 16))
@pytest.mark.parametrize("name", ["lenet-5", "inception"])
def test_every_small_batch(name, images):
    check(NETWORKS[name](), images)


def test_no_images():
    assert compiled(models.lenet5()).scores(batch(models.lenet5(), 0), *vectors(models.lenet5())).shape == (0, 10)


def test_what_a_residual_network_runs():
    """Normalization, sums and ReLU are all in the convolutions' rows."""
    program = compiled(models.resnet_small(20))
    steps = ["winograd_inputs", "winograd_products", "winograd_outputs"]
    assert set(rows(program)) == {"read_image", "convolution_of_one", *steps, "average_pooling_of_one"}
    assert len(rows(program)) == 1 + 5 + 16 * 3 + 1 + 1


def test_images_without_gaps():
    """Convolutions read an image of one channel as it is; maxima need vectors."""
    assert compiled(models.lenet5()).plan.picture("image").pixel == 1
    assert compiled(classifier((3, 6, 6), pool=MaxPooling(2))).plan.picture("image").pixel == 16


def test_tiles():
    """Where registers are many, tiles that run at the peak; never one that does not fit."""
    for width in range(1, 60):
        for columns in range(1, 40):
            tile = tile_for(width, columns)
            assert jit.tile_fits(*tile)
            assert tile[0] <= width
            assert tile[1] <= columns
    if jit.target() is jit.Target.AVX512:
        assert tile_for(56, 4) == (14, 2)
        assert tile_for(28, 1) == (14, 1)


def test_unknown_layers_are_named():
    class Strange(Identity.__mro__[1]):  # type: ignore[misc]
        def function(self, x):
            return x

        def slope(self, x, y):
            return x

    with pytest.raises(SettingError, match="no kernels for Strange"):
        compiled(classifier((3, 4, 4), odd=Strange()))


# --- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_threads_do_not_change_a_bit(name, monkeypatch):
    monkeypatch.setattr(single_program, "WORTH_SHARING", 0)
    graph = NETWORKS[name]()
    x, given = batch(graph, 5), vectors(graph)
    alone, *shared = (compiled(graph, threads).scores(x, *given) for threads in (1, 2, 3, 7))
    for scores in shared:
        np.testing.assert_array_equal(scores, alone)


def test_an_image_does_not_depend_on_the_others():
    graph = inception()
    x, given, program = batch(graph, 6), vectors(graph), compiled(graph)
    together = program.scores(x, *given)
    for n in range(6):
        np.testing.assert_array_equal(program.scores(x[n : n + 1], *given)[0], together[n])


def save_scores(path):
    graphs = [models.lenet5(), inception()]
    np.save(path, np.concatenate([compiled(graph).scores(batch(graph, 2), *vectors(graph)) for graph in graphs]))


@pytest.mark.skipif(jit.target() is not jit.Target.AVX512, reason="nothing to compare with")
def test_instruction_sets_do_not_change_a_bit(tmp_path):
    save_scores(tmp_path / "here.npy")
    there = tmp_path / "there.npy"
    subprocess.run([sys.executable, __file__, str(there)], check=True, env={**os.environ, "ROT180_ISA": "avx2"})
    np.testing.assert_array_equal(np.load(tmp_path / "here.npy"), np.load(there))


# --- parameters that change, and such that do not --------------------------------------------------------------


def test_weights_are_packed_when_they_have_changed():
    """Parameters or statistics, one number among many, at the end too."""
    graph = models.resnet_small(8)
    x, program = batch(graph, 1), compiled(graph)
    parameters, statistics = vectors(graph)
    before = program.scores(x, parameters, statistics)
    np.testing.assert_array_equal(program.scores(x, parameters, statistics), before)
    for node, name in (("scores", "b"), ("stem.norm", "running_mean")):
        named = Layout.of_parameters(graph).named(parameters) | Layout.of_statistics(graph).named(statistics)
        named[f"{node}.{name}"][-1] += 1
        after = program.scores(x, parameters, statistics)
        np.testing.assert_array_equal(after, compiled(graph).scores(x, parameters, statistics))
        assert (after != before).any()
        before = after


def test_network_calls():
    """One image or many: whichever kernels, the scores are the definition's."""
    graph = models.lenet5()
    fast, slow = Network(graph, seed=3), Network(graph, seed=3, engine="reference")
    for images in (1, FEW, FEW + 1, 15, 16, 40):
        x = batch(graph, images) * 40 + 100
        np.testing.assert_allclose(fast(x), slow(x), rtol=1e-5, atol=1e-5 * np.abs(slow(x)).max())
    np.testing.assert_array_equal(fast(x[0]), fast(x[:1]))


@pytest.mark.parametrize("engine", ["lanes", "reference"])
def test_frozen_networks_stay_as_they_are(engine):
    network = Network(models.lenet5(), seed=3, engine=engine)
    frozen = network.frozen(threads=1)
    batches = [batch(network.graph, images) * 40 + 100 for images in (1, 5, 15, 16, 33)]
    for _ in range(3):  # the first call of each kind packs, later ones use what is packed
        for x in batches:
            np.testing.assert_array_equal(frozen(x), Network(network.graph, seed=3, engine=engine)(x))
        network.parameters += 0.01
        assert (network(batches[0]) != frozen(batches[0])).all()
    np.testing.assert_array_equal(frozen(batches[0][0]), frozen(batches[0]))
    np.testing.assert_allclose(frozen.probabilities(batches[1]).sum(axis=1), 1, rtol=1e-6)


def test_frozen_networks_with_normalization():
    network = Network(inception(), seed=3)
    network.statistics[:] = vectors(network.graph)[1]
    frozen, x = network.frozen(), batch(network.graph, 40)
    scores = [network(x[:images]) for images in (2, 40)]
    network.statistics[:] = 7
    np.testing.assert_array_equal(frozen(x[:2]), scores[0])
    np.testing.assert_array_equal(frozen(x), scores[1])


def test_frozen_networks_take_what_networks_take():
    network = Network(models.lenet5())
    frozen = network.frozen()
    with pytest.raises(type(raised_by(network, np.zeros((1, 27, 28)))), match="the network takes"):
        frozen(np.zeros((1, 27, 28)))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 28, 28), np.uint8)
    np.testing.assert_array_equal(frozen(pixels), frozen(pixels.astype(np.float64)))


def raised_by(function, *given):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is
        function(*given)
    return raised.value


def test_many_may_call_at_once(monkeypatch):
    monkeypatch.setattr(single_program, "WORTH_SHARING", 0)
    network = Network(models.resnet_small(8))
    frozen, x = network.frozen(threads=2), batch(network.graph, 24)
    alone = [frozen(x[n : n + 1]) for n in range(12)] + [frozen(x)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(frozen, [*(x[n : n + 1] for n in range(12)), x]))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_program_chooses_by_the_number_of_images(monkeypatch):
    program = LanesEngine(2).compile(models.lenet5(), *layouts(models.lenet5()))
    assert program.few == FEW  # one thread takes an image
    large = models.resnet(18, 10, (3, 32, 32))
    assert LanesEngine(2).compile(large, *layouts(large)).few == 2 * FEW
    few = []
    monkeypatch.setattr(program.single, "scores", lambda images, *_: few.append(len(images)))
    for images in (1, FEW, FEW + 1):
        program.scores(batch(program.graph, images), *vectors(program.graph))
    assert few == [1, FEW]


if __name__ == "__main__":
    save_scores(sys.argv[1])
