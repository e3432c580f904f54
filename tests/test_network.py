"""A network: what it computes, and its file. PyTorch is the outside oracle; promise 1 (files from anywhere)."""

import json
import re
import struct
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as safetensors_bytes
from torch.nn import functional as F

from rot180 import Network, branches, chain, models, residual, sequence
from rot180 import network as network_module
from rot180.chance import Training
from rot180.data import Dataset
from rot180.errors import DataError, ModelFileError, SettingError, ShapeError
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
    SquaredError,
    Tanh,
)

reference = partial(Network, engine="reference")  # the definition; other engines are compared with it
load = partial(network_module.load, engine="reference")
RNG = np.random.default_rng(1)
IMAGES = RNG.integers(0, 256, (5, 1, 28, 28)).astype(np.float64)
LABELS = np.array([3, 0, 9, 9, 1])


def tiny(**options):
    """Two inputs, two classes, no hidden layer: small enough to compute by hand."""
    network = reference(sequence((1, 1, 2), F1=Dense(2), loss=SoftmaxCrossEntropy()), dtype=np.float64, **options)
    network["F1.w"][...] = [[1, 2], [3, 4]]
    network["F1.b"][...] = [0.5, -0.5]
    return network


def normalized(dtype=np.float32, **options):
    """A small network with statistics."""
    graph = sequence(
        (2, 6, 6),
        pixels=ScalePixels(),
        C1=Convolution(3, 3),
        bn=BatchNormalization(),
        relu=ReLU(),
        pool=MaxPooling(2),
        drop=Dropout(0.25),
        F2=Dense(4),
        loss=SoftmaxCrossEntropy(),
    )
    return reference(graph, seed=4, dtype=dtype, **options)


# --- literal values ----------------------------------------------------------------------------------------------


def test_scores_probabilities_and_loss_by_hand():
    """z = Wx + b = (1·1 + 2·0 + .5, 3·1 + 4·0 - .5) = (1.5, 2.5);  o = 1/(1 + e), e/(1 + e);  L = -log o[label]."""
    network, x = tiny(), np.array([[[[1.0, 0.0]]]])
    np.testing.assert_allclose(network(x), [[1.5, 2.5]], rtol=1e-15)
    o0 = 1 / (1 + np.e)
    np.testing.assert_allclose(network.probabilities(x), [[o0, 1 - o0]], rtol=1e-14)
    loss, scores, vector, statistics = network.loss_and_gradients(x, np.array([0]))
    assert loss == pytest.approx(-np.log(o0), rel=1e-14)
    assert loss == pytest.approx(1.3132616875, rel=1e-9)
    np.testing.assert_array_equal(scores, network(x))
    named = network.layout.named(vector)  # dz = o - t = (o0 - 1, 1 - o0);  dw = dz xᵀ, db = dz
    d = 0.7310585786300049
    np.testing.assert_allclose(named["F1.w"], [[-d, 0], [d, 0]], rtol=1e-14)
    np.testing.assert_allclose(named["F1.b"], [-d, d], rtol=1e-14)
    assert statistics.shape == (0,)


def test_evaluation_by_hand():
    """Images (1,0) and (0,1) have scores (1.5, 2.5) and (2.5, 3.5): both are called class 1."""
    data = Dataset(np.array([[[[1.0, 0.0]]], [[[0.0, 1.0]]], [[[1.0, 0.0]]]]), np.array([0, 1, 1]), ("no", "yes"))
    result = tiny().evaluate(data)
    assert (result.images, result.errors) == (3, 1)
    assert result.error == pytest.approx(1 / 3)
    np.testing.assert_array_equal(result.confusion, [[0, 1], [0, 2]])
    assert result.loss == pytest.approx((np.log(1 + np.e) + 2 * np.log(1 + 1 / np.e)) / 3)


def test_evaluation_in_batches_counts_every_image_once(monkeypatch):
    network = reference(models.lenet5(), seed=1)
    data = Dataset(IMAGES.astype(np.uint8), LABELS, tuple("0123456789"))
    whole = network.evaluate(data)
    monkeypatch.setattr("rot180.network.EVALUATION_BATCH", 2)
    parts = network.evaluate(data)
    np.testing.assert_array_equal(parts.confusion, whole.confusion)
    assert parts.errors == whole.errors
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    np.testing.assert_array_equal(whole.confusion.sum(axis=1), np.bincount(LABELS, minlength=10))


# --- shapes, one image, views ------------------------------------------------------------------------------------


def test_lenet_gives_ten_scores_an_image_in_float32():
    network = reference(models.lenet5(), seed=1)
    scores = network(IMAGES)
    assert scores.shape == (5, 10)
    assert scores.dtype == np.float32
    probabilities = network.probabilities(IMAGES)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert probabilities.min() >= 0


def test_pixels_may_be_bytes():
    network = reference(models.lenet5(), seed=1)
    np.testing.assert_array_equal(network(IMAGES.astype(np.uint8)), network(IMAGES))


def test_one_image_needs_no_batch_axis():
    network = reference(models.lenet5(), seed=1)
    np.testing.assert_array_equal(network(IMAGES[2]), network(IMAGES[2:3]))
    one, batch = network.trace(IMAGES[2], 9), network.trace(IMAGES[2:3], np.array([9]))
    assert one.outputs.keys() == batch.outputs.keys()
    for name in one.outputs:
        np.testing.assert_array_equal(one.outputs[name], batch.outputs[name])


def test_the_same_seed_gives_the_same_parameters_and_another_seed_others():
    first, again, other = (reference(models.lenet5(), seed=seed).parameters for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_parameter_by_name_is_a_view_that_writes_through():
    network = reference(models.lenet5(), seed=1)
    before = network(IMAGES)
    view = network["F7.b"]
    assert view.shape == (10,)
    assert np.shares_memory(view, network.parameters)
    view[4] += 7
    place = next(place for place in network.layout.places if (place.node, place.name) == ("F7", "b"))
    assert network.parameters[place.offset + 4] == 7
    np.testing.assert_allclose(network(IMAGES) - before, np.eye(10)[[4] * 5] * 7, atol=1e-5)


def test_statistics_are_named_too():
    network = normalized()
    np.testing.assert_array_equal(network["bn.running_variance"], np.ones(3))
    assert np.shares_memory(network["bn.running_mean"], network.statistics)


def test_an_unknown_name_lists_the_known_ones():
    text = re.escape("the network has no parameter 'F1'; it has F1.w, F1.b")
    with pytest.raises(SettingError, match=f"^{text}$"):
        tiny()["F1"]


@pytest.mark.parametrize("training", [None, Training(seed=3, step=7)])
def test_the_trace_says_what_loss_and_gradients_says(training):
    network = normalized(np.float64)
    x, labels = RNG.uniform(0, 255, (5, 2, 6, 6)), np.array([0, 1, 2, 3, 3])
    gradients = network.loss_and_gradients(x, labels, training)
    trace = network.trace(x, labels, training)
    assert trace.outputs["loss"] == gradients.loss
    np.testing.assert_array_equal(trace.outputs["F2"], gradients.scores)
    for place in network.layout.places:
        view = network.layout.named(gradients.vector)[f"{place.node}.{place.name}"]
        np.testing.assert_array_equal(trace.parameter_gradients[place.node][place.name], view)
    if training is None:
        np.testing.assert_array_equal(gradients.statistics, network.statistics)
        np.testing.assert_array_equal(gradients.scores, network(x))
    else:
        measured = network.statistics_layout.named(gradients.statistics)
        np.testing.assert_array_equal(measured["bn.running_mean"], trace.statistics["bn"]["running_mean"])
        assert (measured["bn.running_mean"] != 0).all()
        assert (trace.outputs["drop"] == 0).mean() > (trace.outputs["pool"] == 0).mean()


def test_the_trace_has_every_node_and_every_gradient_in_its_outputs_shape():
    network = reference(models.lenet5(), seed=1)
    trace = network.trace(IMAGES, LABELS)
    nodes = [node.name for node in network.graph]
    assert set(trace.outputs) == {"image", "label", *nodes}
    assert set(trace.gradients) == {"image", *nodes}
    for name, dy in trace.gradients.items():
        assert dy.shape == trace.outputs[name].shape, name
        assert dy.dtype == np.float32, name
    assert trace.outputs["C1"].shape == (5, 6, 28, 28)
    assert trace.gradients["loss"] == 1


def test_the_images_gradient_is_the_finite_difference():
    network = reference(models.lenet_sigmoid(), seed=1, start="uniform-0.3", dtype=np.float64)
    dx, h = network.trace(IMAGES, LABELS).gradients["image"], 0.1
    for n, i, j in [(0, 0, 0), (1, 14, 14), (4, 27, 27), (2, 5, 20)]:
        above, below = IMAGES.copy(), IMAGES.copy()
        above[n, 0, i, j] += h
        below[n, 0, i, j] -= h
        slope = (network.loss_and_gradients(above, LABELS).loss - network.loss_and_gradients(below, LABELS).loss) / (
            2 * h
        )
        assert dx[n, 0, i, j] == pytest.approx(slope, rel=1e-4)
        assert abs(slope) > 1e-10


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 27), (2, 1, 27, 28), (1, 1, 1, 28, 28), (3, 3, 28, 28), ()])
def test_images_of_another_shape_are_refused(shape):
    network = reference(models.lenet5(), seed=1)
    with pytest.raises(ShapeError, match=r"^images are .*, but the network takes \(images, 1x28x28\)$"):
        network(np.zeros(shape))


def test_the_text_for_images_of_another_shape():
    with pytest.raises(ShapeError, match=r"^images are 5x1x28x27, but the network takes \(images, 1x28x28\)$"):
        reference(models.lenet5(), seed=1)(np.zeros((5, 1, 28, 27)))


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([1, 2, 3, 4], r"^labels are int64 of shape \(4,\): give one whole number per image$"),
        ([1.0, 2, 3, 4, 5], r"^labels are float64 of shape \(5,\): give one whole number per image$"),
        ([[1], [2], [3], [4], [5]], r"^labels are int64 of shape \(5, 1\): give one whole number per image$"),
        ([0, 1, 2, 3, 10], r"^labels reach from 0 to 10; classes from 0 to 9$"),
        ([0, 1, 2, 3, -1], r"^labels reach from -1 to 3; classes from 0 to 9$"),
    ],
)
def test_wrong_labels_are_refused(labels, text):
    network = reference(models.lenet5(), seed=1)
    for call in (network.loss_and_gradients, network.trace):
        with pytest.raises(DataError, match=text):
            call(IMAGES, np.array(labels))


def test_data_that_does_not_fit_is_not_evaluated():
    network, zeros = tiny(), np.zeros
    with pytest.raises(DataError, match=r"^little: images are 1x2x2, but the network takes 1x1x2; choose another"):
        network.evaluate(Dataset(zeros((1, 1, 2, 2)), zeros(1, int), ("a", "b"), "little"))
    with pytest.raises(DataError, match=r"^many: there are 3 classes, but the network tells only 2 apart$"):
        network.evaluate(Dataset(zeros((1, 1, 1, 2)), zeros(1, int), ("a", "b", "c"), "many"))
    with pytest.raises(DataError, match=r"^none: there are no images to evaluate$"):
        network.evaluate(Dataset(zeros((0, 1, 1, 2)), zeros(0, int), ("a", "b"), "none"))


def test_names_of_classes():
    assert tiny().class_names == ("0", "1")
    assert tiny(class_names=("no", "yes")).class_names == ("no", "yes")
    assert tiny(class_names=("no",)).class_names == ("no", "1")  # one name for each score, whatever the data has
    with pytest.raises(SettingError, match=r"^3 class names for a network of 2 classes$"):
        tiny(class_names=("a", "b", "c"))


def test_unknown_engines_and_initialisers():
    with pytest.raises(SettingError, match=r"^there is no engine 'abacus': choose one of lanes, lanes-precise, ref"):
        Network(tiny().graph, engine="abacus")
    with pytest.raises(SettingError, match=r"^there is no initialiser 'zero': choose one of he, glorot, lecun, "):
        tiny(start="zero")


# --- PyTorch -----------------------------------------------------------------------------------------------------


def in_torch(network):
    """The network's parameters as PyTorch tensors that ask for gradients."""
    named = network.layout.named(network.parameters)
    return {name: torch.tensor(array, requires_grad=True) for name, array in named.items()}


def assert_same(network, x, labels, scores, p):
    """Scores, loss, and the gradient of every parameter and of the image agree with PyTorch's to 1e-10."""
    torch_loss = F.cross_entropy(scores, torch.tensor(labels))
    torch_loss.backward()
    trace = network.trace(x.detach().numpy(), labels)
    gradients = network.loss_and_gradients(x.detach().numpy(), labels)
    np.testing.assert_allclose(network(x.detach().numpy()), scores.detach().numpy(), rtol=1e-10, atol=1e-10)
    assert gradients.loss == pytest.approx(torch_loss.item(), rel=1e-10)
    mine = network.layout.named(gradients.vector)
    assert mine.keys() == p.keys()
    for name, tensor in p.items():
        assert np.abs(mine[name]).max() > 1e-9, name
        np.testing.assert_allclose(mine[name], tensor.grad.numpy(), rtol=1e-10, atol=1e-10, err_msg=name)
    np.testing.assert_allclose(trace.gradients["image"], x.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_lenet_is_pytorchs_lenet():
    network = reference(models.lenet5(), seed=1, dtype=np.float64)
    network.parameters += 0.01 * RNG.standard_normal(network.layout.size)  # biases that are not zero
    p, x = in_torch(network), torch.tensor(IMAGES, requires_grad=True)
    y = x * (1.275 / 255) - 0.1
    y = F.max_pool2d(F.relu(F.conv2d(y, p["C1.w"], p["C1.b"], padding=2)), 2)
    y = F.max_pool2d(F.relu(F.conv2d(y, p["C3.w"], p["C3.b"])), 2).flatten(1)
    y = F.relu(F.linear(y, p["C5.w"], p["C5.b"]))
    y = F.relu(F.linear(y, p["F6.w"], p["F6.b"]))
    assert_same(network, x, LABELS, F.linear(y, p["F7.w"], p["F7.b"]), p)


def test_lenet_with_sigmoids_is_pytorchs():
    network = reference(models.lenet_sigmoid(), seed=1, start="glorot", dtype=np.float64)
    p, x = in_torch(network), torch.tensor(IMAGES, requires_grad=True)
    y = x * (1.275 / 255) - 0.1
    y = F.avg_pool2d(torch.sigmoid(F.conv2d(y, p["C1.w"], p["C1.b"], padding=2)), 2)
    y = F.avg_pool2d(torch.sigmoid(F.conv2d(y, p["C3.w"], p["C3.b"])), 2).flatten(1)
    y = torch.sigmoid(F.linear(y, p["C5.w"], p["C5.b"]))
    y = torch.sigmoid(F.linear(y, p["F6.w"], p["F6.b"]))
    assert_same(network, x, LABELS, F.linear(y, p["F7.w"], p["F7.b"]), p)


def test_residual_blocks_and_branches_are_pytorchs():
    """The stem's output is read by three nodes, the image by two: gradients must add up."""
    graph = sequence(
        (3, 9, 7),
        fork=branches(
            plain=Convolution(2, 3, padding=1), wide=chain(conv=Convolution(3, 5, padding=2, bias=False), tanh=Tanh())
        ),
        block=residual(
            chain(
                a=Convolution(4, 3, padding=1, stride=2, remainder="floor"), tanh=Tanh(), b=Convolution(6, 1, groups=2)
            ),
            chain(project=Convolution(6, 1, stride=2, remainder="floor")),
        ),
        same=residual(chain(c=Convolution(6, 3, padding=1), relu=ReLU())),
        pool=GlobalAveragePooling(),
        F=Dense(4),
        loss=SoftmaxCrossEntropy(),
    )
    network = reference(graph, seed=2, dtype=np.float64)
    p = in_torch(network)
    x = torch.tensor(RNG.standard_normal((5, 3, 9, 7)), requires_grad=True)
    fork = torch.cat(
        [
            F.conv2d(x, p["fork.plain.w"], p["fork.plain.b"], padding=1),
            torch.tanh(F.conv2d(x, p["fork.wide.conv.w"], padding=2)),
        ],
        1,
    )
    body = torch.tanh(F.conv2d(fork, p["block.a.w"], p["block.a.b"], padding=1, stride=2))
    body = F.conv2d(body, p["block.b.w"], p["block.b.b"], groups=2)
    y = body + F.conv2d(fork, p["block.shortcut.project.w"], p["block.shortcut.project.b"], stride=2)
    y = y + F.relu(F.conv2d(y, p["same.c.w"], p["same.c.b"], padding=1))
    assert_same(network, x, np.array([0, 3, 1, 2, 2]), F.linear(y.mean((2, 3)), p["F.w"], p["F.b"]), p)


# --- the file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saved_network_comes_back_bit_for_bit(tmp_path, dtype):
    network = normalized(dtype, class_names=("ape", "bee", "äffchen", "日本"))
    network.statistics[:] = RNG.uniform(0.5, 2, network.statistics.size)
    network.parameters[3] = np.finfo(dtype).tiny / 4  # a subnormal
    network.save(tmp_path / "n.safetensors")
    again = load(tmp_path / "n.safetensors")
    assert again.class_names == ("ape", "bee", "äffchen", "日本")
    assert again.graph.to_json() == network.graph.to_json()
    assert again.dtype == dtype
    assert again.parameters.tobytes() == network.parameters.tobytes()
    for name in ("bn.running_mean", "bn.running_variance"):
        assert again[name].tobytes() == network[name].tobytes()
    x = RNG.uniform(0, 255, (3, 2, 6, 6))
    np.testing.assert_array_equal(again(x), network(x))
    assert again.to_bytes() == network.to_bytes()


def test_numbers_that_are_not_finite_are_kept(tmp_path):
    """Loading judges the file, not the training: a network of NaNs was saved by somebody and can be examined."""
    network = tiny()
    network["F1.b"][...] = [np.nan, -np.inf]
    network.save(tmp_path / "n")
    np.testing.assert_array_equal(load(tmp_path / "n")["F1.b"], [np.nan, -np.inf])


def test_other_programs_read_the_file():
    """safetensors: 8 bytes of header length, JSON, numbers."""
    content = tiny().to_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    assert header["F1.w"]["shape"] == [2, 2]
    assert header["F1.w"]["dtype"] == "F64"
    described = json.loads(header["__metadata__"]["rot180"])
    assert described["format"] == "rot180 network 1"
    assert described["classes"] == ["0", "1"]
    assert [node["name"] for node in described["graph"]["nodes"]] == ["F1", "loss"]


def test_the_same_network_makes_the_same_bytes():
    """safetensors writes several metadata entries in an order that changes from save to save: hence only one."""
    assert {tiny().to_bytes() for _ in range(20)} == {tiny().to_bytes()}


def test_a_missing_file_a_folder_and_an_unknown_engine(tmp_path):
    with pytest.raises(ModelFileError, match=f"^{tmp_path}/none: there is no such file$"):
        load(tmp_path / "none")
    with pytest.raises(ModelFileError, match=f"^{tmp_path}: not a network that rot180 saved"):
        load(tmp_path)
    tiny().save(tmp_path / "good")
    with pytest.raises(SettingError, match=r"^there is no engine 'abacus'"):  # not the file's fault
        network_module.load(tmp_path / "good", "abacus")


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\0" * 100, b"GIF89a", b"\x80\x04K\x01.", b"{}" * 50])
def test_what_is_not_safetensors_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"^{tmp_path}/x: not a network that rot180 saved \("):
        load(tmp_path / "x")


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    content = normalized().to_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    cuts = {0, 1, 7, 8, 9, header - 1, header, header + 1, len(content) - 1, *range(0, len(content), 37)}
    for cut in sorted(cuts):
        (tmp_path / "cut").write_bytes(content[:cut])
        with pytest.raises(ModelFileError, match=rf"^{tmp_path}/cut: "):
            load(tmp_path / "cut")


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_make_a_clear_error_or_a_network_of_the_same_shapes(tmp_path, data):
    network = normalized()
    content = bytearray(network.to_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    places = st.one_of(st.integers(0, header - 1), st.integers(0, len(content) - 1))  # most where it hurts
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    (tmp_path / "x").write_bytes(content)
    try:
        damaged = load(tmp_path / "x")
    except ModelFileError as error:
        assert str(error).startswith(f"{tmp_path}/x: ")  # noqa: PT017
    else:
        assert len(damaged.class_names) == damaged.graph.classes
        assert damaged.parameters.size == network.parameters.size


def file_of(arrays, graph="", classes='["0", "1"]'):
    """A file like ours, from JSON that need not be right."""
    described = f'{{"format": "rot180 network 1", "classes": {classes}, "graph": {graph}}}' if graph else "{}"
    return safetensors_bytes(arrays, {"rot180": described})


def arrays_of(network):
    return {**network.layout.named(network.parameters), **network.statistics_layout.named(network.statistics)}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"F1.w": np.zeros((2, 3))}, "array 'F1.w' is not what the network in the file describes"),
        ({"F1.w": np.zeros(4)}, "array 'F1.w' is not what the network in the file describes"),
        ({"F9.w": np.zeros(4)}, "array 'F9.w' is not what the network in the file describes"),
        ({"F1.b": None}, "array 'F1.b' is not what the network in the file describes"),
        ({"F1.b": np.zeros(2, np.int64)}, "its numbers are F64, I64, not all F32 or all F64"),
        ({"F1.b": np.zeros(2, np.float32)}, "its numbers are F32, F64, not all F32 or all F64"),
    ],
)
def test_arrays_that_do_not_fit_the_graph_are_refused(tmp_path, change, text):
    network = tiny()
    arrays = {name: array for name, array in {**arrays_of(network), **change}.items() if array is not None}
    (tmp_path / "x").write_bytes(file_of(arrays, graph=network.graph.to_json()))
    with pytest.raises(ModelFileError, match=re.escape(f"{tmp_path}/x: {text}")):
        load(tmp_path / "x")


def test_another_programs_safetensors_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(safetensors_bytes({"a": np.zeros(3)}, {"format": "pt"}))
    with pytest.raises(ModelFileError, match=rf"^{tmp_path}/x: safetensors, but not a network that rot180 saved$"):
        load(tmp_path / "x")
    (tmp_path / "x").write_bytes(safetensors_bytes({"a": np.zeros(3)}))
    with pytest.raises(ModelFileError, match=r"but not a network that rot180 saved$"):
        load(tmp_path / "x")


GRAPH = tiny().graph.to_json()


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({}, "safetensors, but not a network that rot180 saved"),
        ({"graph": "{"}, "not a network that rot180 saved"),
        ({"graph": "[]"}, "the network description is damaged"),
        ({"graph": "null"}, "the network description is damaged"),
        ({"graph": "[" * 100_000}, "not a network that rot180 saved"),
        ({"graph": "[" * 900 + "]" * 900}, "the network description is damaged"),
        ({"graph": GRAPH.replace("Dense", "Popen")}, "rot180 has no layer called 'Popen'"),
        ({"graph": GRAPH.replace("Dense", "Layer")}, "the network description is damaged"),
        ({"graph": GRAPH.replace("Dense", "__class__")}, "rot180 has no layer called '__class__'"),
        ({"graph": GRAPH.replace('"input_shape": [1, 1, 2]', '"input_shape": [1, 1, 0]')}, "the input's shape is"),
        ({"graph": GRAPH, "classes": "7"}, "not a network that rot180 saved"),
        ({"graph": GRAPH, "classes": "[" * 100_000}, "not a network that rot180 saved"),
        ({"graph": GRAPH, "classes": '["a", "b", "c"]'}, "3 class names for a network of 2 classes"),
    ],
)
def test_descriptions_that_make_no_network_are_refused(tmp_path, metadata, text):
    (tmp_path / "x").write_bytes(file_of(arrays_of(tiny()), **metadata))
    with pytest.raises(ModelFileError, match=f"^{tmp_path}/x: .*{re.escape(text)}"):
        load(tmp_path / "x")


@pytest.mark.parametrize(
    "graph",
    [
        GRAPH.replace('"outputs": 2', '"outputs": 1000000000'),
        GRAPH.replace("[1, 1, 2]", "[1, 30000, 30000]"),
        GRAPH.replace("[1, 1, 2]", "[1000000000000, 1000000000000, 1000000000000]"),
        GRAPH.replace('"outputs": 2', '"outputs": 1e300'),
    ],
)
def test_a_description_of_a_huge_network_allocates_nothing(tmp_path, graph):
    assert graph != GRAPH
    (tmp_path / "x").write_bytes(file_of(arrays_of(tiny()), graph=graph))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=f"^{tmp_path}/x: "):
            load(tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_loss_on_targets_has_probabilities_too():
    network = reference(sequence((1, 1, 2), F1=Dense(2), loss=SquaredError(-1)), dtype=np.float64)
    network["F1.w"][...] = np.eye(2)
    np.testing.assert_allclose(network.probabilities(np.array([[[[1.0, 0.0]]]])), [[2 / 3, 1 / 3]])


@pytest.mark.parametrize("engine", ["reference", "lanes"])
@pytest.mark.parametrize("count", [1, 19])
def test_bytes_are_the_numbers_they_stand_for(engine, count):
    """To the last bit, wherever images go in; a view that is not contiguous too."""
    network = Network(models.lenet5(), seed=2, engine=engine)
    as_bytes = np.random.default_rng(1).integers(0, 256, (2 * count, 1, 28, 28)).astype(np.uint8)[::2]
    numbers, labels = as_bytes.astype(np.float32), np.arange(count) % 10
    np.testing.assert_array_equal(network(as_bytes), network(numbers))
    one, other = (network.loss_and_gradients(images, labels) for images in (as_bytes, numbers))
    np.testing.assert_array_equal(one.vector, other.vector)
    one, other = (network.trace(images, labels).outputs["C1"] for images in (as_bytes, numbers))
    np.testing.assert_array_equal(one, other)


def test_images_that_may_not_be_written_to():
    """As arrays from files are; the compiled runner takes no such ones."""
    images = IMAGES.astype(np.float32)
    expected = Network(models.lenet5(), seed=1)(images)
    images.setflags(write=False)
    np.testing.assert_array_equal(Network(models.lenet5(), seed=1)(images), expected)
