"""Explanations: maps agree with captum's on the same network; every number's arithmetic is the network's own."""

import html
import json
from math import prod

import numpy as np
import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop, LayerGradCam, Occlusion, Saliency
from PIL import Image
from test_report import HOSTILE, Page, finished

from rot180 import Graph, Network, Node, chain, layers, residual, sequence
from rot180.chance import Training
from rot180.cli import main
from rot180.errors import GraphError, SettingError
from rot180.explain import (
    deconvnet,
    explain_image,
    feature_maps,
    grad_cam,
    guided_backpropagation,
    image_page,
    occlusion,
    saliency,
)
from rot180.graph import IMAGE, LABEL
from rot180.layers import (
    Add,
    AveragePooling,
    BatchNormalization,
    Clip,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    LocallyConnected,
    LocalResponseNormalization,
    LogSoftmax,
    MaxPooling,
    ParametricReLU,
    RadialBasisLoss,
    RadialBasisOutput,
    ReLU,
    ScaledTanh,
    ScalePixels,
    Sigmoid,
    Softmax,
    SoftmaxCrossEntropy,
    SquaredError,
    TableConvolution,
    TrainableSubsampling,
)
from rot180.torch_twin import TorchTwin, torch_layer

PLAIN = sequence(
    (2, 9, 8),
    pixels=ScalePixels(-1, 1),
    C1=Convolution(4, 3, padding=1),
    relu1=ReLU(),
    S2=MaxPooling(2, remainder="floor"),
    C3=Convolution(5, (2, 3)),
    relu3=ReLU(),
    F4=Dense(6),
    relu4=ReLU(),
    F5=Dense(3),
    loss=SoftmaxCrossEntropy(),
)
DEEP = sequence(
    (3, 8, 8),
    C1=Convolution(4, 3, padding=1, bias=False),
    bn1=BatchNormalization(),
    relu1=ReLU(),
    block=residual(chain(conv=Convolution(6, 3, 2, "same"), relu=ReLU()), chain(conv=Convolution(6, 1, 2, "same"))),
    relu2=ReLU(),
    gap=GlobalAveragePooling(),
    drop=Dropout(0.4),
    F3=Dense(4),
    loss=SoftmaxCrossEntropy(),
)
GRAPHS = {"plain": PLAIN, "deep": DEEP}


def network_of(graph, seed=3):
    """In float64, with statistics that are not 0 and 1."""
    network = Network(graph, seed, dtype=np.float64)
    network.parameters += np.random.default_rng(seed).normal(0, 0.1, network.parameters.shape)
    network.statistics[:] = np.random.default_rng(seed).uniform(0.2, 1.5, network.statistics.shape)
    return network


def image_for(network, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, network.graph.input_shape)


class Module(torch.nn.Module):
    """The network as captum wants it: a module for every node that may be hooked."""

    def __init__(self, network):
        super().__init__()
        self.graph, self.twin = network.graph, TorchTwin(network)
        self.nodes = torch.nn.ModuleDict(
            {
                _key(node.name): torch.nn.ReLU() if isinstance(node.layer, ReLU) else torch.nn.Identity()
                for node in network.graph
            }
        )

    def forward(self, images):
        outputs, needed = {IMAGE: images}, self.graph.needed_for(self.graph.output)
        for node in self.graph:
            if node.name in needed:
                x = [outputs[name] for name in node.inputs]
                parameters = self.twin._values.get(node.name, {})
                y = x[0] if isinstance(node.layer, ReLU) else torch_layer(node.layer, x, parameters, training=False)
                outputs[node.name] = self.nodes[_key(node.name)](y)
        return outputs[self.graph.output]


def _key(name):
    return name.replace(".", "_")


@pytest.fixture(params=GRAPHS, scope="module")
def pair(request):
    """A network, its module, and an image as both take it."""
    network = network_of(GRAPHS[request.param])
    image = image_for(network)
    return network, Module(network), image, torch.tensor(image[None], requires_grad=True)


def close(mine, theirs, tolerance=1e-9):
    theirs = theirs.detach().numpy()
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())


# --- against captum ----------------------------------------------------------------------------------------------


def test_the_module_is_the_network(pair):
    network, module, image, x = pair
    close(network(image), module(x))


@pytest.mark.parametrize("label", [0, 2])
def test_saliency_is_captums(pair, label):
    network, module, image, x = pair
    close(saliency(network, image, label), Saliency(module).attribute(x, target=label, abs=False)[0])


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("label", [0, 2])
def test_guided_backpropagation_is_captums(pair, label):
    network, module, image, x = pair
    close(guided_backpropagation(network, image, label), GuidedBackprop(module).attribute(x, target=label)[0])


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("label", [0, 2])
def test_deconvnet_is_captums(pair, label):
    network, module, image, x = pair
    close(deconvnet(network, image, label), Deconvolution(module).attribute(x, target=label)[0])


@pytest.mark.parametrize("label", [0, 1, 2])
def test_grad_cam_is_captums(pair, label):
    network, module, image, x = pair
    for node in network.graph:
        if isinstance(node.layer, Convolution | ReLU | Add) and len(network.graph.shapes[node.name]) == 3:
            theirs = LayerGradCam(module, module.nodes[_key(node.name)])
            theirs = theirs.attribute(x, target=label, relu_attributions=True)[0, 0]
            theirs = theirs.detach().numpy()
            mine = grad_cam(network, image, label, node.name)
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("size", "stride"), [((3, 2), (2, 1)), ((4, 4), (3, 3)), ((1, 1), (1, 1)), ((8, 8), (5, 5))])
def test_occlusion_is_captums(pair, size, stride):
    network, module, image, x = pair
    channels = len(image)
    cover = image.mean(axis=(1, 2))
    baselines = torch.tensor(np.broadcast_to(cover[:, None, None], image.shape)[None].copy())
    theirs = Occlusion(module).attribute(
        x.detach(), (channels, *size), (channels, *stride), baselines, target=1, perturbations_per_eval=4
    )[0]
    for channel in theirs:  # all alike
        close(occlusion(network, image, 1, size, stride), channel, 1e-6)  # captum sums in float32


def test_occlusion_with_another_cover(pair):
    network, module, image, x = pair
    theirs = Occlusion(module).attribute(x.detach(), (len(image), 3, 3), (len(image), 2, 2), 7.0, target=1)[0]
    close(occlusion(network, image, 1, 3, 2, fill=7.0), theirs[0], 1e-6)


def test_without_a_label_the_winner_is_explained(pair):
    network, _, image, _ = pair
    winner = int(network(image)[0].argmax())
    for method in (saliency, deconvnet, guided_backpropagation, grad_cam, occlusion):
        np.testing.assert_array_equal(method(network, image), method(network, image, winner))


@pytest.mark.parametrize("method", [deconvnet, guided_backpropagation])
def test_a_relu_with_a_ceiling_is_a_relu(method):
    """ReLU6, where nothing reaches 6."""
    images = np.random.default_rng(2).uniform(0, 1, (1, 6, 6))
    maps = []
    for rectifier in (ReLU(), Clip(0, 6), Clip(-1, 6)):
        layers = {"c": Convolution(4, 3), "r": rectifier, "F": Dense(3), "loss": SoftmaxCrossEntropy()}
        network = Network(sequence((1, 6, 6), **layers), seed=1, dtype=np.float64)
        maps.append(method(network, images, 1))
    np.testing.assert_array_equal(maps[0], maps[1])
    assert (maps[0] != maps[2]).any()


# --- by definition -----------------------------------------------------------------------------------------------


def test_feature_maps_are_the_traces(pair):
    network, _, image, _ = pair
    maps, trace = feature_maps(network, image), network.trace(image, 0).outputs
    assert list(maps) == [node.name for node in network.graph][:-1]
    for name, values in maps.items():
        np.testing.assert_array_equal(values, trace[name][0])


def test_score_gradients_of_a_batch():
    network = network_of(PLAIN)
    images = np.stack([image_for(network, seed) for seed in range(3)])
    together = network.score_gradients(images, np.array([2, 0, 1])).gradients[IMAGE]
    for image, label, gradient in zip(images, (2, 0, 1), together, strict=True):
        np.testing.assert_allclose(saliency(network, image, label), gradient, rtol=1e-12)
    with pytest.raises(Exception, match="classes from 0 to 2"):
        network.score_gradients(images, np.array([2, 0, 3]))


def test_the_lanes_network_is_explained_as_well():
    image = image_for(network_of(PLAIN)).astype(np.float32)
    fast, slow = Network(PLAIN, 3), Network(PLAIN, 3, engine="reference")
    for method in (saliency, deconvnet, guided_backpropagation, grad_cam):
        np.testing.assert_array_equal(method(fast, image), method(slow, image))
    np.testing.assert_allclose(occlusion(fast, image), occlusion(slow, image), atol=1e-4)


def test_grad_cam_takes_the_last_maps_unless_told():
    network = network_of(PLAIN)
    image = image_for(network)
    np.testing.assert_array_equal(grad_cam(network, image), grad_cam(network, image, node="relu3"))
    with pytest.raises(SettingError, match="F4 has none larger"):
        grad_cam(network, image, node="F4")
    flat = Network(sequence((1, 1, 4), F1=Dense(2), loss=SoftmaxCrossEntropy()), engine="reference")
    with pytest.raises(SettingError, match="the network has none"):
        grad_cam(flat, np.ones((1, 1, 4)))


def test_occlusion_refuses_what_cannot_be():
    network = network_of(PLAIN)
    with pytest.raises(SettingError, match="no class 3"):
        occlusion(network, image_for(network), 3)
    with pytest.raises(SettingError, match="size"):
        occlusion(network, image_for(network), 0, -1)


# --- the arithmetic ----------------------------------------------------------------------------------------------


def traced(graph, seed=3):
    network = network_of(graph, seed)
    return network, network.trace(image_for(network), 0)


def every_place(shape):
    return [tuple(int(each) for each in place) for place in np.ndindex(*shape)]


def explained(trace, node, place):
    names = ("channel", "row", "column") if len(place) == 3 else ("unit",)
    return trace.explain(node, **dict(zip(names, place, strict=True)))


ODD = sequence(
    (3, 9, 9),
    pixels=ScalePixels(-1, 1),
    table=TableConvolution(((0, 1), (2,), (0, 1, 2)), 3, padding=1),
    tanh=ScaledTanh(),
    sub=TrainableSubsampling(3),
    local=LocallyConnected(4, 2),
    lrn=LocalResponseNormalization(3, alpha=0.5),
    average=AveragePooling(2, 1, padding=1),
    dilated=Convolution(4, 2, dilation=2, groups=2, bias=False),
    sigmoid=Sigmoid(),
    codes=Dense(84),
    score=RadialBasisOutput(),
    loss=RadialBasisLoss(),
)
NEWER = sequence(
    (3, 6, 6),
    pooled=MaxPooling(2, 1, dilation=2),
    slope=ParametricReLU((3, 1, 1)),
    C2=Convolution(2, 3),
    log=LogSoftmax(),
    gap=GlobalAveragePooling(),
    loss=SoftmaxCrossEntropy(),
)
GATED = Graph(
    [
        Node("squeeze", AveragePooling(4), (IMAGE,)),
        Node("gate", Sigmoid(), ("squeeze",)),
        *(Node(name, layers.Arithmetic(name), (IMAGE, "gate")) for name in ("add", "subtract", "multiply", "divide")),
        Node("all", layers.Concatenate(), ("add", "subtract", "multiply", "divide")),
        Node("F", Dense(3), ("all",)),
        Node("loss", SoftmaxCrossEntropy(), ("F", LABEL)),
    ],
    (2, 4, 4),
)
SOFT = sequence((2, 3, 3), C1=Convolution(3, 3), soft=Softmax(), F=Dense(2), loss=SquaredError())


@pytest.mark.parametrize("graph", [PLAIN, DEEP, ODD, SOFT, NEWER, GATED])
def test_every_number_is_recomputed_from_its_operands(graph):
    _, trace = traced(graph)
    for node in graph.nodes[:-1]:
        places = every_place(graph.shapes[node.name])
        for place in places[:: max(1, len(places) // 9)]:
            found = explained(trace, node.name, place)
            assert found.value == trace.outputs[node.name][0][place]
            assert found.computed == pytest.approx(found.value, rel=1e-10, abs=1e-12)
            for operand in found.operands:
                if operand.source == "w":
                    continue
                box = tuple(slice(c, c + n) for c, n in zip(operand.corner, operand.x.shape, strict=True))
                np.testing.assert_array_equal(operand.x, trace.outputs[operand.source][0][box])
            source, at = found.strongest
            assert np.isfinite(trace.outputs[source][0][at])
            assert json.loads(json.dumps(found.to_json()))["value"] == found.value
            assert node.name in str(found)


def test_a_convolution_is_window_times_kernel():
    network, trace = traced(PLAIN)
    found = trace.explain("C1", channel=2, row=3, column=4)
    (operand,) = found.operands
    assert (operand.source, operand.corner) == ("pixels", (0, 2, 3))
    np.testing.assert_array_equal(operand.w, network["C1.w"][2])
    np.testing.assert_array_equal(operand.x, trace.outputs["pixels"][0, :, 2:5, 3:6])
    assert found.steps["b"] == network["C1.b"][2]
    assert found.computed == pytest.approx((operand.x * operand.w).sum() + network["C1.b"][2], rel=1e-14)
    assert found.equation == "y[n,f,i,j] = b[f] + Σ_cuv w[f,c,u,v] · x[n, c, i·S + u·D - P, j·S + v·D - P]"
    corner = trace.explain("C1", channel=2, row=0, column=0).operands[0]  # padding is not there
    np.testing.assert_array_equal(corner.w, network["C1.w"][2, :, 1:, 1:])
    assert corner.corner == (0, 0, 0)


WRITTEN = """\
C1[0, 1, 0] = 29    Convolution(filters=1, size=2)
  y[n,f,i,j] = b[f] + Σ_cuv w[f,c,u,v] · x[n, c, i·S + u·D - P, j·S + v·D - P]

  image[0], rows from 1, columns from 0
                 x                  w                w·x
         3       4          1      -2          3      -8
         6       7        0.5       4          3      28

  Σ w·x = 26
  b = 3
  y = 29"""


def test_the_written_arithmetic_of_a_convolution():
    graph = sequence((1, 3, 3), C1=Convolution(1, 2), F=Dense(2), loss=SoftmaxCrossEntropy())
    network = Network(graph, dtype=np.float64)
    network["C1.w"][...] = [[[[1, -2], [0.5, 4]]]]
    network["C1.b"][...] = 3
    trace = network.trace(np.arange(9.0).reshape(1, 3, 3), 0)
    assert str(trace.explain("C1", channel=0, row=1, column=0)) == WRITTEN


def test_a_dense_unit_is_all_inputs_times_its_weights():
    network, trace = traced(PLAIN)
    found = trace.explain("F5", unit=1)
    (operand,) = found.operands
    np.testing.assert_array_equal(operand.w, network["F5.w"][1])
    np.testing.assert_array_equal(operand.x, trace.outputs["relu4"][0])
    terms = found.largest_terms(3)
    products = network["F5.w"][1] * trace.outputs["relu4"][0]
    order = np.argsort(-np.abs(products), kind="stable")[:3]
    assert [term[1] for term in terms] == [(int(k),) for k in order]
    assert [term[4] for term in terms] == products[order].tolist()
    assert found.strongest == ("relu4", (int(products.argmax()),))


def test_max_pooling_names_its_winner():
    _, trace = traced(PLAIN)
    maps = trace.outputs["relu1"][0]
    found = trace.explain("S2", channel=1, row=2, column=3)
    np.testing.assert_array_equal(found.operands[0].x, maps[1:2, 4:6, 6:8])
    assert found.operands[0].corner == (1, 4, 6)
    assert maps[found.strongest[1]] == maps[1, 4:6, 6:8].max() == found.value


def test_batch_normalization_shows_its_statistics():
    network, trace = traced(DEEP)
    found = trace.explain("bn1", channel=3, row=2, column=5)
    x = trace.outputs["C1"][0, 3, 2, 5]
    mean, variance = (network[f"bn1.running_{name}"][3] for name in ("mean", "variance"))
    assert found.steps["x̂"] == pytest.approx((x - mean) / np.sqrt(variance + 1e-5), rel=1e-12)
    assert found.steps["γ"] == network["bn1.gamma"][3]
    assert found.value == pytest.approx(found.steps["γ"] * found.steps["x̂"] + found.steps["β"], rel=1e-12)


def test_activations_show_their_slope():
    _, trace = traced(ODD)
    found = trace.explain("tanh", channel=1, row=2, column=2)
    y = found.value
    assert found.steps["f'(x)"] == pytest.approx(2 / 3 * (1.7159 - y * y / 1.7159), rel=1e-9)


@pytest.mark.parametrize(
    ("node", "place", "message"),
    [
        ("C1", {}, "C1 is 4x9x8: choose channel 0 to 3, row 0 to 8, column 0 to 7"),
        ("C1", {"channel": 4, "row": 0, "column": 0}, "channel 0 to 3"),
        ("C1", {"channel": -1, "row": 0, "column": 0}, "channel 0 to 3"),
        ("C1", {"unit": 1}, "channel 0 to 3"),
        ("F5", {"unit": 3}, "unit 0 to 2"),
        ("F5", {"unit": 0, "image": 1}, "for image 1"),
        ("loss", {"unit": 0}, "no values of one image"),
        ("C9", {"unit": 0}, "there is no node 'C9'"),
    ],
)
def test_a_place_that_is_not_there(node, place, message):
    _, trace = traced(PLAIN)
    with pytest.raises((SettingError, GraphError), match=message):
        trace.explain(node, **place)


def test_what_training_does_is_not_explained_as_inference():
    network = network_of(DEEP)
    trace = network.trace(image_for(network), 0, Training(seed=1))
    for node in ("bn1", "drop"):
        with pytest.raises(SettingError, match="trace without training"):
            explained(trace, node, (0, 0, 0)[: len(network.graph.shapes[node])])


def test_a_trace_keeps_the_parameters_it_was_made_with():
    network, trace = traced(PLAIN)
    before = str(trace.explain("C1", channel=0, row=0, column=0))
    network.parameters[:] = 0
    assert str(trace.explain("C1", channel=0, row=0, column=0)) == before


def test_the_path_leads_from_the_score_to_a_pixel():
    for graph in (PLAIN, DEEP, ODD, SOFT, NEWER, GATED):
        network = network_of(graph)
        found = explain_image(network, image_for(network))
        assert found.path[0].node == graph.output
        assert found.path[0].value == network(image_for(network)).reshape(-1).max()
        for each, after in zip(found.path, found.path[1:], strict=False):
            assert each.strongest == (after.node, after.place)
        assert found.path[-1].strongest[0] == IMAGE


# --- the page and the command ------------------------------------------------------------------------------------


def test_the_page_of_an_image():
    network = Network(PLAIN, 3, engine="reference", class_names=("a & b", HOSTILE, "c"))
    found = explain_image(network, image_for(network))
    content = image_page(network, found, "<b>name</b>.png").decode()
    page = Page(content)
    assert page.open == []
    assert "<script" not in content
    assert "<b>name" not in content
    assert html.escape("<b>name</b>.png") in content
    assert len(page.pictures) == 1 + 5 + len(PLAIN.nodes) - 1
    assert all(picture.startswith("data:image/png;base64,") for picture in page.pictures)
    for each in found.path:
        assert f"{each.node}[{', '.join(map(str, each.place))}] =" in page.text


@pytest.mark.parametrize("graph", [DEEP, ODD, SOFT], ids=["deep", "odd", "soft"])
def test_pages_of_other_networks(graph):
    network = network_of(graph)
    assert Page(image_page(network, explain_image(network, image_for(network), 1), "x").decode()).open == []


def test_every_layer_can_be_explained_or_says_why_not():
    """No layer that is linear, and none of the others, is forgotten."""
    from rot180.arithmetic import LINEAR_IN_INFERENCE, RULES

    ruled = tuple(kind for kind, _ in RULES)
    for name in layers.__all__:
        kind = getattr(layers, name)
        if isinstance(kind, type) and issubclass(kind, layers.Layer) and kind is not layers.Layer:
            known = kind.linear or issubclass(kind, ruled) or kind in LINEAR_IN_INFERENCE
            assert known or issubclass(kind, layers.Loss), name


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run on three blobs, with images prepared, and a picture."""
    from test_report import blobs

    from rot180.data import Sets

    folder = tmp_path_factory.mktemp("explain")
    sets = Sets(blobs(), blobs(21, 6))
    finished(folder / "run", sets, prepare="pca:5")
    Image.fromarray(sets.test.images[0, 0]).save(folder / "four.png")
    return folder, sets


def test_the_command(digits, capsys, monkeypatch):
    folder, sets = digits
    monkeypatch.chdir(folder)
    assert main(["explain", "run", "four.png"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\nfour-explained.html\n")
    text = Page((folder / "four-explained.html").read_text("utf-8")).text
    assert "before preparation" in text
    assert out.partition(" (")[0] in text
    assert main(["explain", "run", "four.png", "--class", "кот", "--out", "other.html", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["explained"] == "кот"
    assert printed["page"] == "other.html"
    assert sum(printed["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    from rot180.training import load_run
    from rot180.training.run import load_run_preparation

    network = load_run("run")[1]
    image = load_run_preparation("run").apply(sets.test.images[:1])[0]
    np.testing.assert_allclose(printed["maps"]["saliency"], saliency(network, image, 2), rtol=1e-4, atol=1e-7)
    assert printed["arithmetic"][0]["node"] == "F2"
    assert prod(np.shape(printed["maps"]["occlusion"])) == 16


def test_the_command_refuses(digits, capsys):
    folder, _ = digits
    assert main(["explain", str(folder / "run"), str(folder / "four.png"), "--class", "dog"]) == 1
    assert "there is no class 'dog': choose one of" in capsys.readouterr().err
    assert main(["explain", str(folder / "run"), str(folder / "none.png")]) == 1
    assert "there is no such file" in capsys.readouterr().err
