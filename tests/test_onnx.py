"""ONNX models read and run: the ONNX project's own backend tests (promise 6), round trips, fine-tuning, and models from
anywhere (promise 1).
"""

import unittest
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import rot180
from rot180 import Network, models
from rot180.chance import Training
from rot180.cli import main
from rot180.errors import ModelFileError
from rot180.graph import sequence
from rot180.interchange import onnx_check
from rot180.layers import (
    BatchNormalization,
    ChannelShuffle,
    Convolution,
    Dense,
    Dropout,
    Pad,
    ScalePixels,
    SoftmaxCrossEntropy,
)
from rot180.onnx import Backend

RNG = np.random.default_rng(6)

# --- the ONNX project's backend tests ----------------------------------------------------------------------------

OPERATORS = {
    *("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "LRN", "Dropout"),
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Clip"),
    *("Softmax", "LogSoftmax", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Sum", "Concat", "Flatten", "Reshape"),
    *("Transpose", "Squeeze", "Unsqueeze", "Pad", "Identity", "Constant", "ConstantOfShape", "ReduceMean", "Slice"),
    *("Shape", "Gather"),
}
VOLUMES = "convolution and pooling of volumes: rot180 has maps of one or two dimensions"
CHANCE = "dropout in training: which values fall out is the chance of another generator"
NO_ARRAY = "Identity of a sequence, or of what may be missing: these are no arrays"
LEFT_OUT = {
    **dict.fromkeys(("pool_3d_", "Conv3d", "AvgPool3d", "MaxPool3d"), VOLUMES),
    **{f"test_training_dropout_{which}cpu": CHANCE for which in ("", "default_", "default_mask_", "mask_")},
    **dict.fromkeys(("test_identity_sequence", "test_identity_opt"), NO_ARRAY),
}
"""By a part of the name: why. docs/onnx.md has it too."""
PAGE = (Path(__file__).parent.parent / "docs" / "onnx.md").read_text(encoding="utf-8")

LIGHT = (
    *("alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19"),
    "zfnet512",
)


@pytest.fixture(scope="module")
def suite():
    """{category: {name: (function, the model's operators or None)}}."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases divides by zero here and there
        from onnx.backend.test.loader import load_model_tests
        from onnx.backend.test.runner import Runner

        runner = Runner(Backend, __name__)
        kinds = {
            f"{case.name}_cpu": {node.op_type for node in case.model.graph.node}
            for case in load_model_tests(kind="node")
        }
    return {
        category: {name: (item.func, kinds.get(name)) for name, item in items.items() if name.endswith("_cpu")}
        for category, items in runner._test_items.items()
    }


def run_all(tests):
    """Run them; {outcome: names}."""
    outcomes = {"passed": [], "left out": [], "not compatible": [], "failed": []}
    for name, (function, _) in sorted(tests.items()):
        if any(part in name for part in LEFT_OUT):
            outcomes["left out"].append(name)
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                function(unittest.TestCase())
            outcomes["passed"].append(name)
        except unittest.SkipTest:  # is_compatible says no
            outcomes["not compatible"].append(name)
        except Exception as error:
            outcomes["failed"].append(f"{name}: {error!r}"[:300])
    return outcomes


def check_counts(outcomes, row):
    """Nothing fails, and the page has the counts, where it is of this version of the package."""
    assert not outcomes["failed"]
    counts = [len(outcomes[what]) for what in ("passed", "left out", "not compatible")]
    if f"the package onnx {onnx.__version__})" in PAGE:
        assert f"| {row} | {sum(counts)} | {counts[0]} | {counts[1]} | {counts[2]} |\n" in PAGE


def test_all_node_tests_of_our_operators(suite):
    ours = {name: test for name, test in suite["NodeModel"].items() if test[1] <= OPERATORS}
    outcomes = run_all(ours)
    check_counts(outcomes, "single operators, of those above (`OPERATORS` in the test)")
    assert len(outcomes["passed"]) >= 260


def test_all_models_that_pytorch_wrote(suite):
    """Those of other operators are told apart by is_compatible."""
    outcomes = run_all({**suite["PyTorchConvertedModel"], **suite["PyTorchOperatorModel"]})
    check_counts(outcomes, "models that PyTorch wrote")
    assert len(outcomes["passed"]) >= 91


def test_the_page_has_the_reasons_for_what_is_left_out(suite):
    ours = [name for name, test in suite["NodeModel"].items() if test[1] <= OPERATORS]
    names = [*ours, *suite["PyTorchConvertedModel"], *suite["PyTorchOperatorModel"]]
    counts = Counter(why for name in names for part, why in LEFT_OUT.items() if part in name)
    for why, count in counts.items():
        assert f"| {count} | {why} |\n" in PAGE
    assert f"| whole models, `light_*` | {len(LIGHT)} | {len(LIGHT)} | 0 | 0 |\n" in PAGE


QUICK = "inception_v1", "shufflenet", "squeezenet", "zfnet512", "densenet121"


@pytest.mark.parametrize(
    "name", [each if each in QUICK else pytest.param(each, marks=pytest.mark.long) for each in LIGHT]
)
def test_whole_models(suite, name, tmp_path, monkeypatch):
    monkeypatch.setenv("ONNX_MODELS", str(tmp_path))
    (function,) = (function for test, (function, _) in suite["RealModel"].items() if test.endswith(f"{name}_cpu"))
    function(unittest.TestCase())


# --- our own files -----------------------------------------------------------------------------------------------


def of_small(name):
    network = Network(models.build_small(name), seed=2, engine="reference")
    network.statistics[:] = RNG.uniform(0.5, 2, network.statistics.shape)
    return network


READABLE = [
    "lenet-5",
    "lenet-sigmoid",
    "alexnet",
    "googlenet",
    "highway-10",
    "highway-conv-16",
    "resnet-20",
    "resnet-18",
]


@pytest.mark.parametrize("name", READABLE)
def test_there_and_back(name, tmp_path):
    """The same scores; the same gradients for the same losses, where there are no heads on the side."""
    network = of_small(name)
    network.export_onnx(tmp_path / "m.onnx")
    back = rot180.load(tmp_path / "m.onnx", engine="reference")
    images = RNG.integers(0, 256, (4, *network.graph.input_shape)).astype(np.float32)
    labels = np.array([1, 0, 3, 2])
    assert onnx_check.relative_difference(back(images), network(images)) < 2e-6
    assert back.class_names == network.class_names
    if name != "googlenet":
        assert back.layout.count == network.layout.count
    if name in ("lenet-5", "resnet-20"):
        mine, theirs = (each.loss_and_gradients(images, labels, Training(1)) for each in (network, back))
        assert theirs.loss == pytest.approx(mine.loss, rel=1e-5)
        for place in network.layout.places:
            full = f"{place.node}.{place.name}"
            a = network.layout.named(mine.vector)[full]
            b = back.layout.named(theirs.vector)[full]
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4 * np.abs(a).max())


COME_BACK_AS = {Convolution: {"bias_start": 0.0, "remainder": "floor"}, Dropout: {}}


def test_layers_come_back_as_they_were(tmp_path):
    network = of_small("alexnet")
    network.export_onnx(tmp_path / "m.onnx")
    back = rot180.load(tmp_path / "m.onnx", engine="reference")
    assert [str(node.layer) for node in back.graph if isinstance(node.layer, Convolution | Dropout)] == [
        str(replace(node.layer, **COME_BACK_AS[type(node.layer)]))
        for node in network.graph
        if isinstance(node.layer, Convolution | Dropout)
    ]
    assert isinstance(back.graph.nodes[0].layer, ScalePixels)


def test_fine_tuning_lowers_the_loss(tmp_path):
    of_small("resnet-20").export_onnx(tmp_path / "m.onnx")
    network = rot180.load(tmp_path / "m.onnx", engine="reference")
    images = RNG.integers(0, 256, (16, *network.graph.input_shape)).astype(np.float32)
    labels = RNG.integers(0, 10, 16)
    before = network.loss_and_gradients(images, labels, Training(0)).loss
    statistics = network.statistics.copy()
    for step in range(8):
        result = network.loss_and_gradients(images, labels, Training(0, step))
        network.parameters -= 0.05 * result.vector
        network.statistics[:] = result.statistics
    assert network.loss_and_gradients(images, labels, Training(0)).loss < 0.8 * before
    assert not np.array_equal(network.statistics, statistics)


def test_what_is_loaded_can_be_saved_and_exported_again(tmp_path):
    of_small("googlenet").export_onnx(tmp_path / "m.onnx")
    network = rot180.load(tmp_path / "m.onnx", engine="reference")
    network.save(tmp_path / "m.safetensors")
    network.export_onnx(tmp_path / "again.onnx")
    images = RNG.integers(0, 256, (2, *network.graph.input_shape)).astype(np.float32)
    expected = network(images)
    assert np.array_equal(rot180.load(tmp_path / "m.safetensors", engine="reference")(images), expected)
    again = rot180.load(tmp_path / "again.onnx", engine="reference")
    assert onnx_check.relative_difference(again(images), expected) < 1e-6


def test_the_lanes_engine_runs_what_is_loaded(tmp_path):
    network = of_small("resnet-20")
    network.export_onnx(tmp_path / "m.onnx")
    back = rot180.load(tmp_path / "m.onnx")
    assert back.engine_name == "lanes"
    images = RNG.integers(0, 256, (20, *network.graph.input_shape)).astype(np.float32)
    assert onnx_check.relative_difference(back(images), network(images)) < 1e-5


def test_the_commands_take_a_file(tmp_path, capsys):
    Network(models.lenet5(), seed=1, engine="reference").export_onnx(tmp_path / "m.onnx")
    assert main(["summary", str(tmp_path / "m.onnx"), "--json"]) == 0
    assert '"parameters": 61706' in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "m.onnx")]) == 1
    assert "does not say what it was trained on" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "m.onnx"), str(tmp_path / "again.onnx")]) == 0


# --- models of others --------------------------------------------------------------------------------------------


def model_of(nodes, constants, shape=("N", 3, 6, 5), output="y", opset=17, axes=2):
    """A model of nodes, (operator, inputs, outputs, attributes), with constants by name."""
    made = [
        helper.make_node(kind, list(inputs), list(outputs), **attributes) for kind, inputs, outputs, attributes in nodes
    ]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * axes)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def loaded(model, tmp_path, **settings):
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return rot180.load(path, engine="reference", **settings)


def weights(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def agrees(model, tmp_path):
    """The network, and whether its scores are onnxruntime's."""
    network = loaded(model, tmp_path)
    images = weights(4, *network.graph.input_shape)
    expected = onnx_check.run(model.SerializeToString(), images)[0].reshape(4, -1)
    assert onnx_check.relative_difference(network(images), expected) < 1e-5
    return network


def test_a_squeeze_and_excitation_block(tmp_path):
    """Shapes worked out by the model itself, and maps times one number each."""
    nodes = [
        ("Conv", ["x", "w"], ["c"], {"pads": [1, 1, 1, 1]}),
        ("Add", ["c", "b"], ["a"], {}),
        ("ReduceMean", ["a"], ["m"], {"axes": [2, 3], "keepdims": 0}),
        ("MatMul", ["m", "w1"], ["d"], {}),
        ("HardSigmoid", ["d"], ["h"], {}),
        ("Unsqueeze", ["h", "axes"], ["u"], {}),
        ("Mul", ["a", "u"], ["s"], {}),
        ("Shape", ["s"], ["shape"], {}),
        ("Gather", ["shape", "zero"], ["n"], {}),
        ("Concat", ["n", "rest"], ["flat"], {"axis": 0}),
        ("Reshape", ["s", "flat"], ["y"], {}),
    ]
    constants = {
        "w": weights(4, 3, 3, 3),
        "b": weights(4, 1, 1),
        "w1": weights(4, 4),
        "axes": np.array([2, 3]),
        "zero": np.array([0]),
        "rest": np.array([-1]),
    }
    network = agrees(model_of(nodes, constants), tmp_path)
    assert [type(node.layer).__name__ for node in network.graph] == [
        *("Convolution", "GlobalAveragePooling", "Dense", "HardSigmoid", "Reshape", "Arithmetic", "Reshape"),
        "SoftmaxCrossEntropy",
    ]
    assert network.graph.nodes[0].layer.bias  # the sum behind it


def test_groups_of_maps_exchanged_are_a_channel_shuffle(tmp_path):
    nodes = [
        ("Conv", ["x", "w"], ["c"], {}),
        ("Reshape", ["c", "grouped"], ["g"], {}),
        ("Transpose", ["g"], ["t"], {"perm": [0, 2, 1, 3, 4]}),
        ("Reshape", ["t", "back"], ["r"], {}),
        ("Conv", ["r", "w2"], ["y"], {"group": 2}),
    ]
    constants = {
        "w": weights(6, 3, 1, 1),
        "grouped": np.array([0, 2, 3, 6, 5]),
        "back": np.array([0, 6, 6, 5]),
        "w2": weights(2, 3, 6, 5),
    }
    network = agrees(model_of(nodes, constants), tmp_path)
    assert [node.layer for node in network.graph if isinstance(node.layer, ChannelShuffle)] == [ChannelShuffle(2)]


def test_a_scale_behind_a_batch_normalization_becomes_its_own(tmp_path):
    nodes = [
        ("BatchNormalization", ["x", "g", "b", "m", "v"], ["n"], {}),
        ("Mul", ["n", "s"], ["p"], {}),
        ("Add", ["p", "t"], ["y"], {}),
    ]
    constants = {name: np.abs(weights(3)) for name in "gbmv"} | {"s": weights(3, 1, 1), "t": weights(3, 1, 1)}
    network = agrees(model_of(nodes, constants), tmp_path)
    assert [type(node.layer) for node in network.graph][:1] == [BatchNormalization]
    assert len(network.graph.nodes) == 3  # a reshape and the loss behind it


MEAN = np.array([123.7, 116.3, 103.5], np.float32).reshape(3, 1, 1)
DEVIATION = np.array([58, 57, 59], np.float32).reshape(3, 1, 1)
COLOURS = (-2.1328, -2.0404, -1.7542), (2.2638, 2.4333, 2.5678)


@pytest.mark.parametrize(
    ("operators", "limits"),
    [
        ([("Sub", 127.5), ("Div", 127.5)], (-1, 1)),
        ([("Div", 255), ("Sub", 0.5), ("Mul", 2)], (-1, 1)),
        ([("Sub", MEAN), ("Div", DEVIATION)], COLOURS),
        ([("Mul", 1 / 255), ("Sub", MEAN / 255), ("Div", DEVIATION / 255)], COLOURS),
        ([("Mul", 1 / DEVIATION), ("Add", -1)], (-1, (3.3966, 3.4737, 3.3220))),
    ],
    ids=["shifted, scaled", "thrice", "by channel", "scaled, by channel", "factors by channel"],
)
def test_what_is_done_to_pixels_first_becomes_one_layer(operators, limits, tmp_path):
    nodes = [(kind, [f"v{k}" if k else "x", f"c{k}"], [f"v{k + 1}"], {}) for k, (kind, _) in enumerate(operators)]
    constants = {f"c{k}": np.asarray(each, np.float32) for k, (_, each) in enumerate(operators)} | {
        "w": weights(4, 3, 2, 2)
    }
    network = agrees(model_of([*nodes, ("Conv", [f"v{len(nodes)}", "w"], ["y"], {})], constants), tmp_path)
    pixels, conv, *_ = network.graph
    assert isinstance(conv.layer, Convolution)
    assert isinstance(pixels.layer, ScalePixels)
    for found, expected in zip((pixels.layer.low, pixels.layer.high), limits, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert isinstance(found, tuple) == isinstance(expected, tuple)


@pytest.mark.parametrize(
    "first", [("Sub", ["c", "x"], 255.0), ("Mul", ["x", "c"], weights(3, 6, 5)), ("Add", ["x", "c"], 1e9)], ids=str
)
def test_what_is_no_scaling_of_pixels_stays_a_layer_that_learns(first, tmp_path):
    kind, inputs, constant = first
    model = model_of([(kind, inputs, ["p"], {}), ("Relu", ["p"], ["y"], {})], {"c": np.asarray(constant, np.float32)})
    assert type(agrees(model, tmp_path).graph.nodes[0].layer).__name__ == "Affine"


def test_pixels_scaled_by_channel_come_back(tmp_path):
    scaling = ScalePixels((-2.1, -1, 0), (2.2, 3, 0.5))
    network = Network(sequence((3, 4, 5), pixels=scaling, F=Dense(2), loss=SoftmaxCrossEntropy()), engine="reference")
    network.export_onnx(tmp_path / "m.onnx")
    back = rot180.load(tmp_path / "m.onnx", engine="reference").graph.nodes[0].layer
    np.testing.assert_allclose(back.by_channel(3), scaling.by_channel(3), rtol=1e-6)


def test_what_others_read_is_not_changed(tmp_path):
    """The sum behind the convolution cannot be its bias: the other branch sees it without."""
    nodes = [
        ("Conv", ["x", "w"], ["c"], {}),
        ("Identity", ["c"], ["i"], {}),
        ("Add", ["i", "b"], ["a"], {}),
        ("Mul", ["a", "c"], ["y"], {}),
    ]
    network = agrees(model_of(nodes, {"w": weights(4, 3, 2, 2), "b": weights(4, 1, 1)}), tmp_path)
    assert [type(node.layer).__name__ for node in network.graph][1] == "Affine"


@pytest.mark.parametrize(
    ("kind", "attributes", "extra"),
    [
        ("Elu", {"alpha": 0.7}, {}),
        ("Selu", {}, {}),
        ("Softplus", {}, {}),
        ("HardSwish", {}, {}),
        ("PRelu", {}, {"a": weights(3, 1, 1)}),
        ("Clip", {}, {"low": np.float32(-0.3), "high": np.float32(0.4)}),
        ("Div", {}, {"by": np.abs(weights(3, 1, 1)) + 1}),
        ("Sub", {}, {"less": weights(3, 6, 5)}),
        ("Pad", {"mode": "reflect"}, {"pads": np.array([0, 0, 1, 2, 0, 0, 2, 1])}),
        ("AveragePool", {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "ceil_mode": 1, "strides": [2, 2]}, {}),
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3], "ceil_mode": 1, "strides": [2, 1]}, {}),
        ("LogSoftmax", {"axis": 1}, {}),
        ("Softmax", {"axis": 3}, {}),
        ("Transpose", {"perm": [0, 3, 1, 2]}, {}),
        ("GlobalMaxPool", {}, {}),
        ("LRN", {"size": 3}, {}),
    ],
)
def test_single_operators(kind, attributes, extra, tmp_path):
    """Before an activation, so that a softmax is not the end."""
    nodes = [(kind, ["x", *extra], ["h"], attributes), ("Tanh", ["h"], ["y"], {})]
    agrees(model_of(nodes, extra), tmp_path)


def test_zeros_around_maps_are_the_padding_of_what_reads_them(tmp_path):
    """As PyTorch exports networks that pad one side more than the other; others see the zeros where they are."""

    def layers_behind(kind, extra, attributes, value=0.0, mode="constant", agrees=agrees):
        constants = {"p": np.array([0, 0, 0, 1, 0, 0, 1, 2]), "v": np.float32(value), **extra}
        nodes = [("Pad", ["x", "p", "v"], ["h"], {"mode": mode}), (kind, ["h", *extra], ["y"], attributes)]
        network = agrees(model_of(nodes, constants), tmp_path)
        return [node.layer for node in network.graph][:-1]

    w = {"w": weights(4, 3, 3, 3)}
    assert layers_behind("Conv", w, {"pads": [1, 0, 0, 0]})[0].padding == ((1, 1), (1, 2))
    average = {"kernel_shape": [3, 4]}
    assert layers_behind("AveragePool", {}, average)[0].padding == ((0, 1), (1, 2))
    assert layers_behind("AveragePool", {}, {**average, "pads": [1, 1, 1, 1]})[0].counted == ((0, 1), (1, 2))
    assert isinstance(layers_behind("Conv", w, {}, value=0.5)[0], Pad)
    assert isinstance(layers_behind("Conv", w, {}, mode="edge")[0], Pad)
    assert isinstance(layers_behind("MaxPool", {}, average, agrees=loaded)[0], Pad)  # onnxruntime folds these too
    twice = [("Pad", ["x", "p"], ["h"], {}), ("Pad", ["h", "p"], ["k"], {}), ("Conv", ["k", "w"], ["c"], {})]
    constants = {"p": np.array([0, 0, 0, 1, 0, 0, 1, 2]), **w}
    for reader, pads in (
        ([("Conv", ["h", "w"], ["d"], {"pads": [0, 1, 1, 2]}), ("Sub", ["c", "d"], ["y"], {})], 0),
        ([("GlobalMaxPool", ["h"], ["d"], {}), ("Conv", ["d", "one"], ["e"], {}), ("Sub", ["c", "e"], ["y"], {})], 1),
    ):
        network = agrees(model_of([*twice, *reader], constants | {"one": weights(4, 3, 1, 1)}), tmp_path)
        assert sum(isinstance(node.layer, Pad) for node in network.graph) == pads


def test_a_signal_is_a_row(tmp_path):
    nodes = [
        ("Conv", ["x", "w", "b"], ["c"], {"dilations": [2], "auto_pad": "SAME_LOWER"}),
        ("MaxPool", ["c"], ["m"], {"kernel_shape": [3], "strides": [2]}),
        ("Flatten", ["m"], ["f"], {}),
        ("Gemm", ["f", "d"], ["y"], {"alpha": 0.5}),
    ]
    constants = {"w": weights(4, 2, 4), "b": weights(4), "d": weights(4 * 5, 3)}
    model = model_of(nodes, constants, shape=(None, 2, 11))
    network = loaded(model, tmp_path)
    signals = weights(3, 2, 11)
    answer = onnx.reference.ReferenceEvaluator(model).run(None, {"x": signals})[0]
    np.testing.assert_allclose(network(signals), answer, rtol=1e-4, atol=1e-5)
    nodes[0] = ("Conv", ["x", "w", "b"], ["c"], {"dilations": [2], "pads": [3, 3]})
    agrees(model_of(nodes, constants, shape=(None, 2, 11)), tmp_path)


# --- hostile and damaged files -----------------------------------------------------------------------------------


def refused(model, tmp_path, words):
    path = tmp_path / "bad.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(ModelFileError, match=words) as caught:
        rot180.load(path)
    assert str(path) in str(caught.value)


W = {"w": np.ones((2, 3, 1, 1), np.float32)}
CONV = ("Conv", ["x", "w"], ["y"], {})


def test_data_in_other_files(tmp_path):
    model = model_of([CONV], W)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    refused(model, tmp_path, "the tensor 'w' is in another file")


def test_sizes_that_are_not_there(tmp_path):
    model = model_of([CONV], W)
    model.graph.initializer[0].dims[0] = 2**40
    refused(model, tmp_path, r"the tensor 'w' declares \(1099511627776, 3, 1, 1\), which does not fit the data")
    model.graph.initializer[0].dims[0] = -2
    refused(model, tmp_path, r"the tensor 'w' has the shape \(-2, 3, 1, 1\)")


@pytest.mark.parametrize("shape", [[2**20, 2**20], [2**62, 4], [-1, 3]])
def test_constants_larger_than_the_budget(shape, tmp_path):
    nodes = [("ConstantOfShape", ["s"], ["w"], {}), CONV]
    refused(model_of(nodes, {"s": np.array(shape)}), tmp_path, r"operator ConstantOfShape \('w'\)")


def test_constants_that_grow(tmp_path):
    """Each twice as long as the one before."""
    nodes = [("Concat", [f"c{k}", f"c{k}"], [f"c{k + 1}"], {"axis": 0}) for k in range(40)]
    nodes.append(("Add", ["x", "c40"], ["y"], {}))
    refused(model_of(nodes, {"c0": np.ones(2**10, np.float32)}), tmp_path, "larger than 268,435,456 values")


def test_one_array_for_many_layers(tmp_path):
    nodes = [("MatMul", [f"v{k}" if k else "x", "w"], [f"v{k + 1}"], {}) for k in range(200)]
    model = model_of(
        [("ConstantOfShape", ["s"], ["w"], {}), *nodes], {"s": np.array([2**13, 2**13])}, (1, 2**13), "v200"
    )
    refused(model, tmp_path, "it has 13,421,772,800 parameters")


def test_other_domains(tmp_path):
    model = model_of([("Evil", ["x"], ["y"], {"domain": "com.example"})], {})
    refused(model, tmp_path, r"operator Evil \('y'\): its domain is 'com.example'")


def test_control_flow(tmp_path):
    branch = helper.make_graph([], "b", [], [])
    model = model_of([("If", ["c"], ["y"], {"then_branch": branch, "else_branch": branch})], {"c": np.array(True)})
    refused(model, tmp_path, r"operator If \('y'\): rot180 does not read control flow")


def test_functions(tmp_path):
    model = model_of([CONV], W)
    model.functions.append(helper.make_function("", "F", [], [], [], [helper.make_opsetid("", 17)]))
    refused(model, tmp_path, "it defines a function")


def test_circles(tmp_path):
    refused(
        model_of([("Add", ["x", "b"], ["a"], {}), ("Relu", ["a"], ["b"], {})], {}, output="b"), tmp_path, "'b', which"
    )


@pytest.mark.parametrize(
    ("nodes", "shape", "words"),
    [
        ([("Erf", ["x"], ["y"], {})], (1, 3, 4, 4), r"operator Erf \('y'\): rot180 has no layer for it"),
        ([("Slice", ["x"], ["y"], {"starts": [0], "ends": [1]})], (1, 3, 4, 4), "operator Slice"),
        ([CONV], (1, 3, "H", "W"), "rot180 needs to know all sizes but the number of images"),
        ([CONV], (1, 3, 4, 4, 4), "weights of .* do not fit a value of"),
        ([CONV], (1, 5, 4, 4), "weights of .* do not fit a value of"),
        (
            [("Conv", ["x", "w"], ["y"], {"pads": [10**9] * 4})],
            (1, 3, 4, 4),
            "operator Conv .* would make a map of more",
        ),
        ([("Conv", ["x", "w"], ["y"], {"strides": [0, 1]})], (1, 3, 4, 4), "are too small"),
        ([("Conv", ["x", "w"], ["y"], {"strides": "big"})], (1, 3, 4, 4), "the attribute strides is 'big'"),
        ([("Reshape", ["x"], ["y"], {})], (7, 3, 4, 4), "cannot be read as"),
        ([("Flatten", ["x"], ["y"], {"axis": 0})], ("N", 3, 4, 4), "mixes the images of a batch"),
        ([("Transpose", ["x"], ["y"], {"perm": [1, 0, 2, 3]})], ("N", 3, 4, 4), "of a batch"),
        ([("Identity", ["x"], ["y"], {})], (1, 3, 4, 4), "it does nothing to its input|Reshape"),
        ([("Dropout", ["x"], ["z", "y"], {})], (1, 3, 4, 4), "output"),
    ],
)
def test_what_rot180_has_no_layer_for_is_named(nodes, shape, words, tmp_path):
    constants = W if any("w" in each[1] for each in nodes) else {}
    model = model_of(nodes, constants, shape)
    if nodes[0][0] == "Identity":
        with pytest.raises(ModelFileError):
            rot180.onnx.translate(rot180.onnx.read_model(model_of(nodes, {}, (1, 3))))
        return
    refused(model, tmp_path, words)


def test_files_that_are_none(tmp_path):
    refused(b"", tmp_path, "it has no output")
    refused(b"\xff" * 100, tmp_path, "not an ONNX model")
    with pytest.raises(ModelFileError, match="there is no such file"):
        rot180.load(tmp_path / "missing.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelFileError, match="this is not a file"):
        rot180.load(tmp_path / "folder.onnx")
    assert main(["evaluate", str(tmp_path / "missing.onnx")]) == 1


WHOLE = model_of(
    [
        ("Conv", ["x", "w"], ["c"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["c"], ["r"], {}),
        ("Flatten", ["r"], ["f"], {}),
        ("Gemm", ["f", "d"], ["g"], {}),
        ("Softmax", ["g"], ["y"], {}),
    ],
    {"w": weights(2, 3, 3, 3), "d": weights(60, 4)},
).SerializeToString()


@given(st.integers(0, len(WHOLE) - 1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncated_files(tmp_path, length):
    refused_or_read(WHOLE[:length], tmp_path)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_bytes(tmp_path, changes):
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    refused_or_read(bytes(content), tmp_path)


def refused_or_read(content, tmp_path):
    """Nothing but ModelFileError may come out, or a network that runs."""
    path = tmp_path / "changed.onnx"
    path.write_bytes(content)
    try:
        network = rot180.load(path, engine="reference")
    except ModelFileError as error:
        if str(path) not in str(error):
            raise
        return
    if sum(np.prod(shape, dtype=float) for shape in network.graph.shapes.values()) < 1e7:
        with np.errstate(all="ignore"):
            network(np.zeros((1, *network.graph.input_shape)))


# --- the backend's interface -------------------------------------------------------------------------------------


def test_the_interface():
    model = model_of([("Relu", ["x"], ["y"], {})], {}, (2, 3))
    x = weights(2, 3)
    for inputs in ([x], x, {"x": x}):
        np.testing.assert_array_equal(Backend.run_model(model, inputs)[0], np.maximum(x, 0))
    node = helper.make_node("Add", ["a", "b"], ["c"])
    np.testing.assert_array_equal(Backend.run_node(node, [x, x], opset_version=17)[0], x + x)
    assert Backend.supports_device("CPU")
    assert not Backend.supports_device("CUDA:1")
    assert not Backend.is_compatible(model_of([("Erf", ["x"], ["y"], {})], {}))
    with pytest.raises(ModelFileError, match="the model's input 'x' is missing"):
        Backend.run_model(model, {})
    with pytest.raises(ModelFileError, match="operator Erf"):
        Backend.run_model(model_of([("Erf", ["x"], ["y"], {})], {}), [weights(1, 3, 6, 5)])


def test_networks_go_through_an_engine_and_answer_as_the_model_does():
    model = onnx.load_model_from_string(WHOLE)
    prepared = Backend.prepare(model)
    assert prepared.network is not None
    images = weights(3, 3, 6, 5)
    np.testing.assert_allclose(prepared.run([images])[0], onnx_check.run(WHOLE, images)[0], rtol=1e-5, atol=1e-7)
    assert isinstance(prepared.network.graph.nodes[-2].layer, Dense)


def test_onnx_is_an_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("rot180.interchange.find_spec", lambda name: None)
    with pytest.raises(rot180.Rot180Error, match=r"pip install 'rot180\[onnx\]'"):
        rot180.load(tmp_path / "m.onnx")
    assert Path(rot180.onnx.__file__).name == "onnx.py"
    with pytest.raises(AttributeError):
        _ = rot180.nothing
