"""Networks as ONNX models: what onnxruntime makes of them (promise 6)."""

import json

import numpy as np
import onnx
import pytest

from rot180 import Graph, Network, Node, models, sequence
from rot180.cli import main
from rot180.data.dataset import Dataset
from rot180.data.preparation import Preparation, fit
from rot180.errors import ModelFileError, SettingError
from rot180.gradient_check import EXAMPLES
from rot180.graph import IMAGE, LABEL
from rot180.interchange import onnx_check, onnx_writer
from rot180.layers import Dense, Identity, Layer, Loss, ReLU, SoftmaxCrossEntropy

RNG = np.random.default_rng(5)
TOLERANCE = 1e-5  # of the largest score


def network_of(graph, seed=1):
    """The network with statistics that differ from map to map."""
    network = Network(graph, seed, engine="reference")
    network.statistics[:] = RNG.uniform(0.5, 2, network.statistics.shape)
    return network


def quick_start(shape, fan, chance):
    """He's initialisation, from a generator that is quicker where there are sixty million weights."""
    return RNG.standard_normal(shape, np.float32) * np.float32((2 / fan.inputs) ** 0.5)


def exported(network, tmp_path):
    """The model's content."""
    network.export_onnx(tmp_path / "model.onnx")
    return (tmp_path / "model.onnx").read_bytes()


def around(layer, shape):
    """A network that has the layer between dense ones, or at its end."""
    if isinstance(layer, Loss):
        heads = [Node(f"head{k}", Dense(shape[0][0]), (IMAGE,)) for k in range(layer.heads)]
        return Graph([*heads, Node("loss", layer, (*(node.name for node in heads), LABEL))], (6,))
    shapes = shape if layer.several_inputs else (shape,)
    split, nodes = [], []
    for k, each in enumerate(shapes):  # different inputs of one shape each
        nodes.append(Node(f"input{k}", Identity() if each == shapes[0] else Dense(1), (IMAGE,)))
        split.append(f"input{k}")
    nodes += [
        Node("layer", layer, tuple(split)),
        Node("out", Dense(3), ("layer",)),
        Node("loss", SoftmaxCrossEntropy(), ("out", LABEL)),
    ]
    return Graph(nodes, shapes[0])


@pytest.mark.parametrize(("layer", "shape"), EXAMPLES, ids=lambda value: str(value).replace(" ", ""))
def test_every_layer(layer, shape, tmp_path):
    """Behind it a dense layer, which no difference escapes; joined maps are joined with themselves."""
    if layer.several_inputs and not isinstance(layer, Loss):
        shape = tuple(shape[0] for _ in shape)
    network = network_of(around(layer, shape))
    content = exported(network, tmp_path)
    images = RNG.uniform(0, 1, (5, *network.graph.input_shape)).astype(np.float32)
    scores, probabilities = onnx_check.run(content, images)
    assert onnx_check.relative_difference(scores, network(images)) < TOLERANCE
    np.testing.assert_allclose(probabilities, network.probabilities(images), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [*sorted(models.SMALL), "lenet-5", "lenet-5-1998", "lenet-sigmoid"])
def test_every_network_of_the_catalogue_small(name, tmp_path):
    network = network_of(models.build_small(name))
    content = exported(network, tmp_path)
    images = RNG.integers(0, 256, (2, *network.graph.input_shape)).astype(np.uint8)
    scores, probabilities = onnx_check.run(content, images)
    assert onnx_check.relative_difference(scores, network(images)) < TOLERANCE
    np.testing.assert_allclose(probabilities, network.probabilities(images), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet-18", "googlenet", pytest.param("alexnet", marks=pytest.mark.long)])
def test_networks_as_they_are(name, tmp_path):
    network = Network(models.build(name), start=quick_start, engine="reference")
    content = exported(network, tmp_path)
    images = RNG.integers(0, 256, (1, *network.graph.input_shape)).astype(np.uint8)
    assert onnx_check.relative_difference(onnx_check.run(content, images)[0], network(images)) < TOLERANCE


def test_what_is_in_the_file(tmp_path):
    names = tuple(f"digit {k}" for k in range(10))
    network = Network(models.lenet5(), seed=1, engine="reference", class_names=names)
    model = onnx.load_model_from_string(exported(network, tmp_path))
    assert [node.op_type for node in model.graph.node][:4] == ["Mul", "Add", "Conv", "Relu"]  # pixels scaled inside
    assert [node.name for node in model.graph.node][1:4] == ["pixels", "C1", "relu1"]
    assert [value.name for value in model.graph.output] == ["scores", "probabilities"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert json.loads({each.key: each.value for each in model.metadata_props}["rot180.class_names"]) == list(names)
    assert model.opset_import[0].version == 17


def test_heads_on_the_side_are_left_out(tmp_path):
    network = network_of(models.build_small("googlenet"))
    model = onnx.load_model_from_string(exported(network, tmp_path))
    assert any("head1" in node.name for node in network.graph)
    assert not any("head1" in node.name for node in model.graph.node)


def test_a_node_may_be_called_as_an_output_is(tmp_path):
    nodes = [
        Node("scores", Dense(4), (IMAGE,)),
        Node("probabilities", ReLU(), ("scores",)),
        Node("end", Dense(3), ("probabilities",)),
        Node("loss", SoftmaxCrossEntropy(), ("end", LABEL)),
    ]
    network = network_of(Graph(nodes, (2, 3, 3)))
    images = RNG.uniform(0, 1, (2, 2, 3, 3)).astype(np.float32)
    scores, _ = onnx_check.run(exported(network, tmp_path), images)
    assert onnx_check.relative_difference(scores, network(images)) < TOLERANCE


@pytest.mark.parametrize("kind", ["pca:3", "zca", "pca-whiten"])
def test_the_preparation_of_images_goes_inside(kind, tmp_path):
    images = RNG.integers(0, 256, (40, 1, 5, 4)).astype(np.float32)
    prepared = fit(kind, Dataset(images, np.zeros(40, np.int64), ("one",)))
    graph = sequence(prepared.output_shape, scores=Dense(3), loss=SoftmaxCrossEntropy())
    network = Network(graph, seed=1, engine="reference")
    network.export_onnx(tmp_path / "m.onnx", prepared)
    found = onnx_check.run((tmp_path / "m.onnx").read_bytes(), images)[0]
    assert onnx_check.relative_difference(found, network(prepared.apply(images))) < TOLERANCE


def test_a_preparation_that_is_not_linear_is_refused(tmp_path):
    prepared = Preparation("denoise", (1, 28, 28))
    with pytest.raises(SettingError, match="no operator for the preparation 'denoise'"):
        Network(models.lenet5(), engine="reference").export_onnx(tmp_path / "m.onnx", prepared)


def test_an_export_that_disagrees_is_not_written(tmp_path, monkeypatch):
    def wrong(place):
        place.emit("Abs", place.x())

    monkeypatch.setitem(onnx_writer.WRITERS, ReLU, wrong)
    path = tmp_path / "model.onnx"
    with pytest.raises(ModelFileError, match=r"model.onnx: not written, since onnxruntime finds other scores"):
        Network(models.lenet5(), seed=1, engine="reference").export_onnx(path)
    assert not path.exists()


def test_a_layer_without_a_writer_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(onnx_writer.WRITERS, ReLU)
    with pytest.raises(SettingError, match=r"node 'relu1': ReLU cannot be written to ONNX"):
        Network(models.lenet5(), engine="reference").export_onnx(tmp_path / "model.onnx")


def test_every_layer_has_a_writer():
    below = {each for parent in Layer.__subclasses__() for each in _final(parent)}
    layers = {each for each in below if each.__module__.startswith("rot180.")}
    assert layers == set(onnx_writer.WRITERS)


def _final(layer):
    below = {each for sub in layer.__subclasses__() for each in _final(sub)}
    return below or {layer}


def test_the_command(tmp_path, capsys):
    network = Network(models.lenet5(), seed=1, engine="reference")
    network.save(tmp_path / "net.safetensors")
    assert main(["export", str(tmp_path / "net.safetensors"), str(tmp_path / "m.onnx"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["classes"] == 10
    assert result["bytes"] == (tmp_path / "m.onnx").stat().st_size
    assert main(["export", str(tmp_path / "missing"), str(tmp_path / "m.onnx")]) == 1
    assert main(["export", str(tmp_path / "net.safetensors"), str(tmp_path / "no" / "m.onnx")]) == 1
    assert "cannot write" in capsys.readouterr().err
