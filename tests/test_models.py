"""The networks of the literature: published counts, map sizes, wiring, and PyTorch as the outside oracle. (C1-C8)"""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as f
from hypothesis import given, settings
from hypothesis import strategies as st

from rot180 import models
from rot180.chance import Training
from rot180.errors import SettingError, ShapeError
from rot180.gradient_check import check_network
from rot180.graph import Graph, Node
from rot180.layers import Convolution, Dense, Dropout, MaxPooling, ReLU, Sigmoid, SoftmaxCrossEntropy
from rot180.network import Network
from rot180.parameters import Layout
from rot180.summary import summarize
from rot180.torch_twin import TorchTwin

DEPTHS = (20, 32, 44, 56, 110)


def rows(graph):
    return {row.name: row for row in summarize(graph).rows}


def outputs(graph, *names):
    return [graph.shapes[name] for name in names]


# --- published counts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lenet-5", 61_706),
        ("lenet-sigmoid", 61_706),
        ("lenet-5-1998", 60_000),  # "60,000 trainable free parameters": section II.B
        ("alexnet", 60_965_224),
        ("alexnet-column", 61_100_840),
        ("googlenet", 13_378_280),  # with both heads
        ("highway-conv-16", 38_730),  # table 1 of the NIPS paper: 39K
        ("highway-conv-32", 151_178),  # 151K
        ("resnet-8", 78_042),  # not in the paper: one block a stage
        ("resnet-20", 272_474),  # table 6: 0.27M
        ("resnet-32", 466_906),  # 0.46M
        ("resnet-44", 661_338),  # 0.66M
        ("resnet-56", 855_770),  # 0.85M
        ("resnet-110", 1_730_714),  # 1.7M
        ("resnet-18", 11_689_512),
        ("resnet-34", 21_797_672),
        ("resnet-50", 25_557_032),
        ("resnet-101", 44_549_160),
        ("resnet-152", 60_192_808),
    ],
)
def test_published_parameters(name, parameters):
    assert summarize(models.build(name)).parameters == parameters


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [  # 10^9 multiply-adds; for ResNets table 1 of the paper, where the shortcuts' convolutions are not counted
        ("resnet-18", 1.8, 1.85),
        ("resnet-34", 3.6, 3.7),
        ("resnet-50", 3.8, 4.12),
        ("resnet-101", 7.6, 7.85),
        ("resnet-152", 11.3, 11.6),
        ("alexnet", 0.72, 0.73),
        ("googlenet", 1.5, 1.6),
    ],
)
def test_published_multiply_adds(name, least, most):
    assert least < summarize(models.build(name)).multiply_adds / 1e9 < most


def test_c6_small_resnets_have_6n_plus_2_layers():
    for depth in DEPTHS:
        graph = models.build(f"resnet-{depth}")
        on_shortcuts = sum(isinstance(n.layer, Convolution) and ".shortcut." in n.name for n in graph)
        assert sum(isinstance(n.layer, Convolution | Dense) for n in graph) - on_shortcuts == depth
        assert outputs(graph, "stem.relu", "stage1_1.relu", "stage2_1.relu", "stage3_1.relu", "pool") == [
            (16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (64,),
        ]  # fmt: skip


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_c6_resnets_have_as_many_layers_and_their_map_sizes(depth):
    graph = models.build(f"resnet-{depth}")
    on_shortcuts = sum(isinstance(n.layer, Convolution) and ".shortcut." in n.name for n in graph)
    assert sum(isinstance(n.layer, Convolution | Dense) for n in graph) - on_shortcuts == depth
    wide = 4 if depth >= 50 else 1
    assert outputs(graph, "stem.relu", "stem.pool") == [(64, 112, 112), (64, 56, 56)]
    assert outputs(graph, *(f"stage{stage}_1.relu" for stage in (1, 2, 3, 4)), "pool") == [
        (64 * wide, 56, 56), (128 * wide, 28, 28), (256 * wide, 14, 14), (512 * wide, 7, 7), (512 * wide,),
    ]  # fmt: skip


def test_the_page_of_networks_is_what_its_script_writes():
    """docs/networks.md: run docs/networks.py again after a change."""
    script = Path(__file__).parent.parent / "docs" / "networks.py"
    assert script.with_suffix(".md").read_text(encoding="utf-8") == runpy.run_path(str(script))["page"]()


# --- LeNet-5 of 1998 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 32, 32)])
def test_c2_lenet5_1998_layer_by_layer(shape):
    graph = models.lenet5_1998(shape=shape)
    of = rows(graph)
    counted = {name: (of[name].output, of[name].parameters, of[name].connections) for name in of}
    assert (
        counted.items()
        >= {
            "C1": ((6, 28, 28), 156, 122_304),
            "S2": ((6, 14, 14), 12, 5_880),
            "C3": ((16, 10, 10), 1_516, 151_600),
            "S4": ((16, 5, 5), 32, 2_000),
            "C5": ((120, 1, 1), 48_120, 48_120),
            "F6": ((84,), 10_164, 10_164),
            "output": ((10,), 0, 840),
        }.items()
    )
    assert summarize(graph).connections == 340_908  # section II.B


def test_c2_c3s_table_is_that_of_the_seed():
    """Figure 11 of seed 001: rows are the maps of S2, an X where a map of C3 sees it."""
    drawn = ["X...XXX..XXXX.XX", "XX...XXX..XXXX.X", "XXX...XXX..X.XXX", ".XXX..XXXX..X.XX", "..XXX..XXXX.XX.X", "...XXX..XXXX.XXX"]  # fmt: skip # noqa: E501
    table = models.lenet5_1998()["C3"].layer.table
    assert ["".join("X" if c in row else "." for row in table) for c in range(6)] == drawn


def test_c2_other_numbers_of_classes_have_codes_too():
    graph = models.lenet5_1998(26)
    assert (graph.classes, len(set(graph["output"].layer.codes))) == (26, 26)


# --- AlexNet and GoogLeNet --------------------------------------------------------------------------------------


def test_c4_alexnets_maps_are_those_of_table_2():
    graph = models.alexnet()
    for half in ("first", "second"):
        names = [f"halves.{half}.{each}" for each in ("conv1", "pool1", "conv2", "pool2")]
        assert outputs(graph, *names) == [(48, 55, 55), (48, 27, 27), (128, 27, 27), (128, 13, 13)]
    assert outputs(graph, "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "fc8") == [
        (384, 13, 13), (384, 13, 13), (256, 13, 13), (256, 6, 6), (4096,), (4096,), (1000,),
    ]  # fmt: skip
    assert [graph[name].layer.groups for name in ("conv3", "conv4", "conv5")] == [1, 2, 2]
    assert graph["pool5"].layer == MaxPooling(3, stride=2, remainder="floor")  # overlapping
    of = rows(graph)
    parameters = [of[n].parameters for n in ("halves.first.conv1", "halves.second.conv2", "conv3", "conv4", "conv5")]
    assert parameters == [17_472, 153_728, 885_120, 663_936, 442_624]


def test_c4_the_halves_meet_at_layer_3_and_nowhere_before():
    """A change in one half changes its own maps alone up to layer 2, all of them at layer 3."""
    network = Network(models.build_small("alexnet"), seed=1, dtype=np.float64)
    image = np.random.default_rng(0).uniform(0, 255, (1, *network.graph.input_shape))
    before = network.trace(image, 1).outputs
    network["halves.first.conv1.w"][...] *= 1.1
    after = network.trace(image, 1).outputs
    half = network.graph.shapes["halves.first.pool2"][0]
    changed = (before["halves.concatenate"] != after["halves.concatenate"]).any(axis=(0, 2, 3))
    assert changed[:half].any()
    assert not changed[half:].any()
    changed = (before["conv3"] != after["conv3"]).any(axis=(0, 2, 3))
    assert changed.all()


def test_c4_layers_4_and_5_keep_the_halves_apart():
    graph = models.build_small("alexnet")
    for name in ("conv4", "conv5"):
        maps = graph.shapes[graph[name].inputs[0]][0]
        assert Network(graph, dtype=np.float64)[f"{name}.w"].shape[1] == maps // 2


def test_c4_the_single_columns_maps():
    graph = models.alexnet_column()
    assert outputs(graph, "conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5") == [
        (64, 55, 55), (64, 27, 27), (192, 27, 27), (192, 13, 13), (384, 13, 13), (256, 13, 13), (256, 13, 13),
        (256, 6, 6),
    ]  # fmt: skip


def test_c5_googlenets_maps_are_those_of_table_1():
    graph = models.googlenet()
    named = {
        "conv1.conv": (64, 112, 112), "pool1": (64, 56, 56), "conv2.conv": (192, 56, 56), "pool2": (192, 28, 28),
        "inception3a.concatenate": (256, 28, 28), "inception3b.concatenate": (480, 28, 28), "pool3": (480, 14, 14),
        "inception4a.concatenate": (512, 14, 14), "inception4b.concatenate": (512, 14, 14),
        "inception4c.concatenate": (512, 14, 14), "inception4d.concatenate": (528, 14, 14),
        "inception4e.concatenate": (832, 14, 14), "pool4": (832, 7, 7), "inception5a.concatenate": (832, 7, 7),
        "inception5b.concatenate": (1024, 7, 7), "pool5": (1024,), "scores": (1000,),
        "head1.pool": (512, 4, 4), "head2.pool": (528, 4, 4), "head1.fc": (1024,), "head2.scores": (1000,),
    }  # fmt: skip
    assert {name: graph.shapes[name] for name in named} == named


def test_c5_the_heads_count_in_training_and_are_absent_from_answers():
    assert summarize(models.googlenet(heads=False)).parameters == 6_998_552
    graph = models.googlenet()
    assert graph.loss == SoftmaxCrossEntropy((1.0, 0.3, 0.3))
    assert graph.nodes[-1].inputs == ("scores", "head1.scores", "head2.scores", "label")
    assert graph.output == "scores"
    assert not any(name.startswith("head") for name in graph.needed_for(graph.output))


def test_c5_answers_do_not_depend_on_the_heads_but_lower_layers_learn_from_them():
    graph = models.build_small("googlenet")
    network = Network(graph, seed=1, dtype=np.float64)
    image = np.random.default_rng(0).uniform(0, 255, (2, *graph.input_shape))
    scores, gradients = network(image), gradient(network, image)
    for name in ("head1.scores.w", "head2.reduce.conv.w", "head2.fc.b"):
        network[name][...] += 0.5
    np.testing.assert_array_equal(network(image), scores)
    changed = gradient(network, image)
    assert (changed["conv1.conv.w"] != gradients["conv1.conv.w"]).any()
    for name in ("inception4e.one.conv.w", "scores.w"):  # above both heads
        np.testing.assert_array_equal(changed[name], gradients[name])


def gradient(network, image):
    return network.layout.named(network.loss_and_gradients(image, np.arange(len(image)), Training(1)).vector)


# --- highway networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [10, 20, 50, 100])
def test_c7_dense_highway_networks(depth):
    graph = models.build(f"highway-{depth}")
    assert summarize(graph).parameters == 785 * 50 + (depth - 1) * 2 * 51 * 50 + 51 * 10
    assert sum(type(node.layer).__name__ == "HighwayGate" for node in graph) == depth - 1


def test_c7_gates_begin_nearly_shut():
    """At first each layer lets most of its input pass: 1 - sigmoid(-2) = 88 %."""
    network = Network(models.highway_dense(5), seed=1, dtype=np.float64)
    np.testing.assert_array_equal(network["highway3.gate.layer.b"], -2)
    for name in network.layout.named(network.parameters):
        if ".gate." in name and name.endswith(".w"):
            network[name][...] = 0
    image = np.random.default_rng(0).uniform(0, 255, (1, 1, 28, 28))
    trace = network.trace(image, 1).outputs
    t = 1 / (1 + np.exp(2))
    expected = trace["highway2.relu"] * t + trace["relu1"] * (1 - t)
    np.testing.assert_allclose(trace["highway2.highway"], expected, rtol=1e-12)


@pytest.mark.parametrize("depth", [4, 5, 6, 10, 17, 20, 32])
def test_c7_convolutional_highways_pool_three_times(depth):
    graph = models.highway_convolutional(depth)
    pools = [node.name for node in graph if isinstance(node.layer, MaxPooling)]
    assert pools == ["pool1", "pool2", "pool3"]
    assert graph.shapes["pool3"] == (16, 3, 3)
    assert sum(type(node.layer).__name__ == "HighwayGate" for node in graph) == depth - 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.highway_dense(1), "depth is 1: give a whole number of at least 2"),
        (lambda: models.highway_convolutional(3), "depth is 3: give a whole number of at least 4"),
        (lambda: models.resnet(19), "there is no ResNet of 19 layers: choose one of 18, 34, 50, 101, 152"),
        (lambda: models.resnet_small(21), r"has 6n\+2 layers"),
        (lambda: models.build("vgg"), "there is no network 'vgg': choose one of lenet-5, .* or write a pattern such"),
    ],
)
def test_what_there_is_not(build, message):
    with pytest.raises(SettingError, match=message):
        build()


# --- the pattern -------------------------------------------------------------------------------------------------

SEEDS = "INPUT -> [[CONV]*N -> POOL?]*M -> [FC]*K"
WITH_RELU = "INPUT -> [[CONV -> RELU]*N -> POOL?]*M -> [FC -> RELU]*K -> FC"


def layers(graph):
    return [(node.name, node.layer) for node in graph][1:-1]


def test_c1_the_seeds_string():
    """Seed 004: its figure, INPUT -> CONV -> POOL -> CONV -> POOL -> FC -> FC, is N=1, M=2, K=2."""
    graph = models.pattern(SEEDS, N=1, M=2, K=2, filters=(3, 5), size=5, units=20)
    assert layers(graph) == [
        ("conv1", Convolution(3, 5, padding="same")), ("relu1", ReLU()), ("pool1", MaxPooling(2, remainder="floor")),
        ("conv2", Convolution(5, 5, padding="same")), ("relu2", ReLU()), ("pool2", MaxPooling(2, remainder="floor")),
        ("fc1", Dense(20)), ("relu3", ReLU()), ("fc2", Dense(10)),
    ]  # fmt: skip
    numbers = "INPUT -> [[CONV]*1 -> POOL]*2 -> [FC]*2"
    flat = "INPUT -> CONV -> POOL -> CONV -> POOL -> FC -> FC"
    for text in (numbers, flat):
        assert models.pattern(text, filters=(3, 5), size=5, units=20).nodes == graph.nodes
    assert str(models.Pattern.read(numbers).expanded()) == flat


def test_c1_the_form_with_activations_written_out():
    graph = models.pattern(WITH_RELU, 7, (3, 9, 8), N=2, M=1, K=1, pool=False, filters=4, units=(6,))
    assert [node.name for node in graph] == [
        "pixels", "conv1", "relu1", "conv2", "relu2", "fc1", "relu3", "fc2", "loss",
    ]  # fmt: skip
    assert (graph.classes, graph.input_shape) == (7, (3, 9, 8))
    linear = models.pattern("INPUT -> CONV -> FC -> TANH -> FC")  # where one is written, none is added
    assert [node.name for node in linear] == ["pixels", "conv1", "fc1", "tanh1", "fc2", "loss"]
    assert models.pattern(SEEDS, N=1, M=1, K=1, activation="SIGMOID")["sigmoid1"].layer == Sigmoid()


def test_c1_numbers_behind_words():
    text = "INPUT(1, 32, 32) -> CONV(6, 5) -> POOL(3, 2) -> CONV -> POOL -> CONV(7) -> FC(120) -> FC(10)"
    assert [layer for _, layer in layers(models.pattern(text)) if layer != ReLU()] == [
        Convolution(6, 5, padding="same"), MaxPooling(3, stride=2, remainder="floor"),
        Convolution(12, 3, padding="same"), MaxPooling(2, remainder="floor"), Convolution(7, 3, padding="same"),
        Dense(120), Dense(10),
    ]  # fmt: skip
    assert models.pattern(text).input_shape == (1, 32, 32)
    assert models.build("input->[conv(2)]*2->fc", 3, (1, 6, 6)).classes == 3


def test_c1_filters_double_behind_each_pooling():
    graph = models.pattern("INPUT -> [[CONV]*2 -> POOL]*3 -> FC", filters=8)
    assert [layer.filters for _, layer in layers(graph) if isinstance(layer, Convolution)] == [8, 8, 16, 16, 32, 32]


def test_c1_each_optional_pooling_has_its_answer():
    graph = models.pattern("INPUT -> [CONV -> POOL?]*3 -> POOL -> FC", pool=(True, False, True))
    assert "".join(node.name[0] for node in graph) == "p" + "crp" + "cr" + "crp" + "p" + "f" + "l"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1, at the end: a pattern begins with INPUT"),
        ("CONV -> FC", "character 1, at 'CONV -> FC': a pattern begins with INPUT"),
        ("INPUT FC", "character 7, at 'FC': expected -> or the end"),
        ("INPUT ->", "character 9, at the end: expected one of INPUT, CONV, POOL, FC, RELU"),
        ("INPUT -> CONVOLUTION -> FC", "character 10, at 'CONVOLUTION -> FC': expected one of"),
        ("INPUT -> CONV -> INPUT -> FC", "character 18, at 'INPUT -> FC': INPUT stands at the beginning, and only th"),
        ("INPUT -> [CONV -> FC", r"character 21, at the end: expected \] or ->"),
        ("INPUT -> [CONV] -> FC", r"character 17, at '-> FC': expected \* and how many times"),
        ("INPUT -> [CONV]* -> FC", "character 18, at '-> FC': expected how many times: a number or a letter"),
        ("INPUT -> [CONV]*NN -> FC", "character 17, at 'NN -> FC': expected how many times"),
        ("INPUT -> CONV] -> FC", "character 14, at '] -> FC': expected -> or the end"),
        ("INPUT -> CONV(3, 3, 1) -> FC", r"character 22, at '\) -> FC': CONV takes filters, size"),
        ("INPUT -> RELU(3) -> FC", r"character 16, at '\) -> FC': RELU takes no numbers"),
        ("INPUT(3) -> FC", r"character 8, at '\) -> FC': INPUT takes channels, height, width"),
        ("INPUT -> CONV(x) -> FC", r"character 15, at 'x\) -> FC': expected a number of at most 9 digits"),
        ("INPUT -> CONV(1234567890) -> FC", "character 15, at .*: expected a number of at most 9 digits"),
        ("INPUT -> CONV? -> FC", r"character 14, at '\? -> FC': only POOL\? may be left out"),
        ("INPUT -> " + "[" * 30, "character 31, .*: brackets are more than 20 deep"),
        ("INPUT -> [CONV]*N -> FC", "says N: how many"),
        ("INPUT -> [[[CONV]*99999]*99999]*9 -> FC", "would have 89,998,200,011 layers: 10,000 at most"),
        ("INPUT -> [CONV]*3 -> POOL", "ends in POOL: end it in FC, which gives the scores"),
        ("INPUT -> [CONV]*3 -> [FC]*0", "ends in CONV: end it in FC"),
        ("INPUT -> FC -> RELU", "ends in RELU: end it in FC"),
        ("INPUT -> FC(3)", "the last FC has an output for each of 10 classes: leave its number out"),
        ("INPUT -> CONV(0) -> FC", "filters is 0: give a whole number of at least 1"),
    ],
)
def test_c1_what_is_wrong_in_a_pattern_is_said_with_its_place(text, message):
    with pytest.raises(SettingError, match=message):
        models.pattern(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"K": 2}, r"has no K"),
        ({"filters": (3, 4)}, "filters lists 2, but the pattern has 1 CONV that take one from it: list 1"),
        ({"units": (3,)}, "units lists 1, but the pattern has 0 FC before the last that take one"),
        ({"pool": (True, True)}, r"pool lists 2, but the pattern has 1 POOL\? that take one"),
        ({"pool": 3}, "pool is 3: give True or False"),
        ({"activation": "STEP"}, "there is no activation 'STEP': choose one of RELU, SIGMOID, TANH"),
    ],
)
def test_c1_wrong_settings(settings, message):
    with pytest.raises(SettingError, match=message):
        models.pattern("INPUT -> CONV -> POOL? -> FC", **settings)
    with pytest.raises(SettingError, match="N is -1"):
        models.pattern(SEEDS, N=-1, M=1, K=1)


def test_c1_what_does_not_fit_is_named():
    with pytest.raises(ShapeError, match="node 'conv1': a convolution takes maps"):
        models.pattern("INPUT -> FC -> RELU -> CONV -> FC")


word = st.builds(
    lambda name, numbers: f"{name}({', '.join(map(str, numbers))})" if numbers else name,
    st.sampled_from(["CONV", "POOL", "CONV", "POOL"]),
    st.lists(st.integers(1, 9), max_size=2),
) | st.sampled_from(["POOL?", "RELU", "SIGMOID", "TANH", "FC", "FC(12)"])
items = st.recursive(
    st.lists(word, min_size=1, max_size=3),
    lambda inner: st.lists(
        st.builds(
            lambda each, times: f"[{' -> '.join(each)}]*{times}",
            inner,
            st.integers(0, 99) | st.sampled_from("NMK"),
        )
        | word,
        min_size=1,
        max_size=3,
    ),
    max_leaves=8,
)


@given(items)
@settings(max_examples=100)
def test_c1_a_pattern_is_written_as_it_was_read(parts):
    """Spaces and case do not matter."""
    text = " -> ".join(["INPUT", *parts])
    assert str(models.Pattern.read(text)) == text
    assert str(models.Pattern.read(text.lower().replace(" ", ""))) == text


# --- gradients, and PyTorch -------------------------------------------------------------------------------------

FAMILIES = (
    "lenet-5", "lenet-sigmoid", "lenet-5-1998", "alexnet", "alexnet-column", "googlenet", "highway-20",
    "highway-conv-32", "resnet-20", "resnet-18", "resnet-50", "INPUT -> [[CONV(3)]*2 -> POOL]*2 -> FC(9) -> FC",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_b9_gradients_of_every_family(name):
    """What rot180 check NAME does."""
    graph = models.build_small(name)
    checks = check_network(graph)
    assert {check.name for check in checks} == {"image", *(place.node for place in Layout.of_parameters(graph).places)}
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize("name", models.MODELS)
def test_small_variants_have_every_kind_of_layer(name):
    """Else they would prove less than they say."""
    whole, small = models.build(name), models.build_small(name)
    assert {type(node.layer) for node in whole} == {type(node.layer) for node in small}
    assert summarize(small).multiply_adds < 3_000_000


def without_chance(graph):
    """The graph with dropout that leaves out nothing."""
    nodes = [Node(n.name, Dropout(0.0) if isinstance(n.layer, Dropout) else n.layer, n.inputs) for n in graph]
    return Graph(nodes, graph.input_shape, graph.output)


def batch(graph, images=3):
    rng = np.random.default_rng(5)
    return rng.uniform(0, 255, (images, *graph.input_shape)), rng.integers(0, graph.classes, images)


def against_torch(network, loss, images, labels, rtol):
    """The loss, and the gradients of all parameters, as PyTorch's automatic differentiation has them.

    loss: a function of PyTorch's parameters by name, made here.
    """
    ours = network.loss_and_gradients(images, labels, Training(1))
    twin = {name: torch.from_numpy(a.copy()).requires_grad_() for name, a in network.layout.named(network.parameters).items()}  # fmt: skip # noqa: E501
    theirs = loss(twin, torch.from_numpy(images.astype(network.dtype)), torch.from_numpy(labels))
    theirs.backward()
    assert ours.loss == pytest.approx(theirs.item(), rel=rtol)
    for name, dw in network.layout.named(ours.vector).items():
        expected = twin[name].grad.numpy()
        np.testing.assert_allclose(dw, expected, rtol=0, atol=rtol * max(np.abs(expected).max(), 1e-12), err_msg=name)


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_against_their_twins_in_pytorch(name):
    """Every layer by PyTorch's own function: loss and all gradients, and the answers."""
    graph = without_chance(models.build_small(name))
    network = Network(graph, seed=2, dtype=np.float64)
    for array in network.layout.named(network.parameters).values():  # biases of 0 put ReLUs at their kinks
        array += 0.02 * np.random.default_rng(array.size).normal(size=array.shape)
    images, labels = batch(graph)
    twin = TorchTwin(network)
    ours = network.loss_and_gradients(images, labels, Training(1))
    loss = twin.loss(torch.from_numpy(images), torch.from_numpy(labels))
    loss.backward()
    assert ours.loss == pytest.approx(loss.item(), rel=1e-10)
    for node, arrays in network.layout.views(ours.vector).items():
        for each, dw in arrays.items():
            expected = twin.parameter(node, each).grad.numpy()
            size = max(np.abs(expected).max(), 1e-6)
            np.testing.assert_allclose(dw, expected, rtol=0, atol=1e-8 * size, err_msg=f"{node}.{each}")
    with torch.no_grad():
        expected = TorchTwin(network).scores(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(network(images), expected, rtol=1e-9, atol=1e-9)


# --- the same networks written in PyTorch, from the papers: their wiring is not ours ----------------------------


def conv(x, p, name, **settings):
    return f.conv2d(x, p[f"{name}.w"], p[f"{name}.b"], **settings)


def linear(x, p, name):
    return f.linear(x.flatten(1), p[f"{name}.w"], p[f"{name}.b"])


def lrn(x):
    return f.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)  # PyTorch divides alpha by the size


def torch_alexnet(p, x, labels):
    x = x * (4 / 255) - 2
    halves = []
    for half in ("first", "second"):
        h = f.relu(conv(x, p, f"halves.{half}.conv1", stride=4, padding=3))
        h = f.max_pool2d(lrn(h), 3, 2)
        h = f.relu(conv(h, p, f"halves.{half}.conv2", padding=2))
        halves.append(f.max_pool2d(lrn(h), 3, 2))
    h = f.relu(conv(torch.cat(halves, 1), p, "conv3", padding=1))
    h = f.relu(conv(h, p, "conv4", padding=1, groups=2))
    h = f.max_pool2d(f.relu(conv(h, p, "conv5", padding=1, groups=2)), 3, 2)
    h = f.relu(linear(h, p, "fc6"))
    h = f.relu(linear(h, p, "fc7"))
    return f.cross_entropy(linear(h, p, "fc8"), labels)


def torch_googlenet(p, x, labels):
    def inception(x, name):
        def rectified(x, part, **settings):
            return f.relu(conv(x, p, f"inception{name}.{part}.conv", **settings))

        one = rectified(x, "one")
        three = rectified(rectified(x, "three.reduce"), "three.conv", padding=1)
        five = rectified(rectified(x, "five.reduce"), "five.conv", padding=2)
        pooled = rectified(f.max_pool2d(x, 3, 1, 1), "pool.project")
        return torch.cat([one, three, five, pooled], 1)

    def head(x, name):
        h = f.relu(conv(f.avg_pool2d(x, 5, 3), p, f"{name}.reduce.conv"))
        return linear(f.relu(linear(h, p, f"{name}.fc")), p, f"{name}.scores")

    def pool(x):
        return f.max_pool2d(x, 3, 2, ceil_mode=True)

    x = x * (4 / 255) - 2
    x = lrn(pool(f.relu(conv(x, p, "conv1.conv", stride=2, padding=3))))
    x = f.relu(conv(f.relu(conv(x, p, "reduce2.conv")), p, "conv2.conv", padding=1))
    x = pool(lrn(x))
    x = inception(pool(inception(inception(x, "3a"), "3b")), "4a")
    side = head(x, "head1")
    x = inception(inception(inception(x, "4b"), "4c"), "4d")
    other_side = head(x, "head2")
    x = f.max_pool2d(inception(x, "4e"), 3, 2, padding=1)  # of 5 here, so that rounding up to 3 pads both ends
    x = inception(inception(x, "5a"), "5b").mean((2, 3))
    losses = [f.cross_entropy(z, labels) for z in (linear(x, p, "scores"), side, other_side)]
    return losses[0] + 0.3 * losses[1] + 0.3 * losses[2]


def torch_lenet5_1998(p, x, labels):
    def squash(x):
        return 1.7159 * torch.tanh(2 / 3 * x)

    def subsample(x, name):
        return 4 * f.avg_pool2d(x, 2) * p[f"{name}.w"][:, None, None] + p[f"{name}.b"][:, None, None]

    graph = models.lenet5_1998()
    x = squash(conv(x * (1.275 / 255) - 0.1, p, "C1", padding=2))
    x = squash(subsample(x, "S2"))
    maps, first = [], 0
    for index, row in enumerate(graph["C3"].layer.table):  # each map from those that it sees, one by one
        kernel = p["C3.w"][first : first + len(row)]
        maps.append(f.conv2d(x[:, list(row)], kernel[None]) + p["C3.b"][index])
        first += len(row)
    x = squash(subsample(squash(torch.cat(maps, 1)), "S4"))
    x = squash(conv(x, p, "C5"))
    x = squash(linear(x, p, "F6"))
    codes = torch.from_numpy(graph["output"].layer.w).to(x.dtype)
    penalties = torch.cdist(x, codes).square()
    chosen = penalties.gather(1, labels[:, None])[:, 0]
    others = torch.log(np.exp(-10.0) + torch.exp(-penalties).sum(1))
    return (chosen + others).mean()


def torch_highway(p, x, labels):
    x = f.relu(linear(x / 255, p, "fc1"))
    for number in range(2, 6):
        h, t = (
            f.relu(linear(x, p, f"highway{number}.layer")),
            torch.sigmoid(linear(x, p, f"highway{number}.gate.layer")),
        )
        x = h * t + x * (1 - t)
    return f.cross_entropy(linear(x, p, "scores"), labels)


def torch_highway_convolutional(p, x, labels):
    """Depth 6: five convolutions, pooled behind the 2nd, the 4th and the last."""
    x = f.relu(conv(x / 255, p, "conv1", padding=1))
    for number in range(2, 6):
        h = f.relu(conv(x, p, f"highway{number}.layer", padding=1))
        t = torch.sigmoid(conv(x, p, f"highway{number}.gate.layer", padding=1))
        x = h * t + x * (1 - t)
        if number in (2, 4, 5):
            x = f.max_pool2d(x, 2)
    return f.cross_entropy(linear(x, p, "scores"), labels)


def torch_resnet(p, x, labels):
    """ResNet-50's blocks, 1, 2, 1 and 1 of them."""

    def normalized(x, conv_name, norm, **settings):
        x = f.conv2d(x, p[f"{conv_name}.w"], **settings)
        return f.batch_norm(x, None, None, p[f"{norm}.gamma"], p[f"{norm}.beta"], training=True, eps=1e-5)

    x = f.relu(normalized(x * (4 / 255) - 2, "stem.conv", "stem.norm", stride=2, padding=3))
    x = f.max_pool2d(x, 3, 2, 1)
    for stage, blocks in enumerate((1, 2, 1, 1), start=1):
        for number in range(1, blocks + 1):
            name, stride = f"stage{stage}_{number}.sum", 2 if stage > 1 and number == 1 else 1
            h = f.relu(normalized(x, f"{name}.conv1", f"{name}.norm1"))
            h = f.relu(normalized(h, f"{name}.conv2", f"{name}.norm2", stride=stride, padding=1))
            h = normalized(h, f"{name}.conv3", f"{name}.norm3")
            if number == 1:
                x = normalized(x, f"{name}.shortcut.conv", f"{name}.shortcut.norm", stride=stride)
            x = f.relu(h + x)
    return f.cross_entropy(linear(x.mean((2, 3)), p, "scores"), labels)


IN_TORCH = {
    "alexnet": torch_alexnet,
    "googlenet": torch_googlenet,
    "lenet-5-1998": torch_lenet5_1998,
    "highway-10": torch_highway,
    "highway-conv-16": torch_highway_convolutional,
    "resnet-50": torch_resnet,
}


@pytest.mark.parametrize("name", IN_TORCH)
def test_networks_written_in_pytorch(name):
    graph = without_chance(models.build_small(name))
    network = Network(graph, seed=3, dtype=np.float64)
    for array in network.layout.named(network.parameters).values():
        array += 0.02 * np.random.default_rng(array.size).normal(size=array.shape)
    against_torch(network, IN_TORCH[name], *batch(graph), rtol=1e-8)
