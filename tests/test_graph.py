"""Graphs, their builders, their text, and the flat vector of their parameters."""

import json
import zlib
from math import prod, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rot180.chance import Training
from rot180.data import Dataset
from rot180.errors import GraphError, ModelFileError, SettingError, ShapeError
from rot180.gradient_check import EXAMPLES
from rot180.graph import Graph, Node, auxiliary, branches, chain, highway, residual, sequence
from rot180.layers import (
    Add,
    BatchNormalization,
    Concatenate,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    HighwayGate,
    LocallyConnected,
    Loss,
    MaxPooling,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    TableConvolution,
    TrainableSubsampling,
)
from rot180.models import lenet5
from rot180.network import Network
from rot180.parameters import (
    ALIGNMENT,
    INITIALIZERS,
    Glorot,
    He,
    Layout,
    LeCun,
    Uniform,
    decayed,
    initial_vector,
    initializer,
)
from rot180.summary import summarize

LOSS = SoftmaxCrossEntropy()


def wiring(graph):
    return {node.name: node.inputs for node in graph}


# --- builders --------------------------------------------------------------------------------------------------


def test_sequence_wires_one_after_the_other():
    graph = sequence((1, 8, 8), C=Convolution(2, 3), relu=ReLU(), F=Dense(3), loss=LOSS)
    assert wiring(graph) == {"C": ("image",), "relu": ("C",), "F": ("relu",), "loss": ("F", "label")}
    assert graph.shapes == {
        "image": (1, 8, 8), "label": (), "C": (2, 6, 6), "relu": (2, 6, 6), "F": (3,), "loss": (),
    }  # fmt: skip
    assert (graph.output, graph.classes, graph.loss) == ("F", 3, LOSS)
    assert graph["relu"] == Node("relu", ReLU(), ("C",))


def test_residual_with_an_empty_shortcut_adds_the_input_itself():
    graph = sequence((2, 4, 4), block=residual(chain(a=ReLU(), b=Convolution(2, 3, padding=1))), F=Dense(3), loss=LOSS)
    assert wiring(graph) == {
        "block.a": ("image",), "block.b": ("block.a",), "block.add": ("block.b", "image"),
        "F": ("block.add",), "loss": ("F", "label"),
    }  # fmt: skip
    assert graph["block.add"].layer == Add()


def test_residual_with_a_shortcut_and_nested_blocks():
    inner = residual(chain(c=Convolution(4, 1)))
    graph = sequence(
        (4, 4, 4), start=ReLU(), outer=residual(chain(in_=inner), chain(c=Convolution(4, 1))), F=Dense(3), loss=LOSS
    )
    assert wiring(graph) == {
        "start": ("image",), "outer.in_.c": ("start",), "outer.in_.add": ("outer.in_.c", "start"),
        "outer.shortcut.c": ("start",), "outer.add": ("outer.in_.add", "outer.shortcut.c"),
        "F": ("outer.add",), "loss": ("F", "label"),
    }  # fmt: skip


def test_branches_are_concatenated_in_their_order():
    graph = sequence(
        (2, 4, 4),
        mixed=branches(a=Convolution(3, 1), b=chain(p=MaxPooling(3, 1, 1), c=Convolution(1, 1)), c=chain()),
        F=Dense(3),
        loss=LOSS,
    )
    assert wiring(graph) == {
        "mixed.a": ("image",), "mixed.b.p": ("image",), "mixed.b.c": ("mixed.b.p",),
        "mixed.concatenate": ("mixed.a", "mixed.b.c", "image"), "F": ("mixed.concatenate",), "loss": ("F", "label"),
    }  # fmt: skip
    assert graph["mixed.concatenate"].layer == Concatenate()
    assert graph.shapes["mixed.concatenate"] == (6, 4, 4)


def test_highway_carries_its_input_past_the_body():
    graph = sequence(
        (5,),
        start=Dense(4),
        h1=highway(chain(dense=Dense(4), relu=ReLU()), chain(dense=Dense(4, bias_start=-2), sigmoid=Sigmoid())),
        F=Dense(3),
        loss=LOSS,
    )
    assert wiring(graph) == {
        "start": ("image",), "h1.dense": ("start",), "h1.relu": ("h1.dense",), "h1.gate.dense": ("start",),
        "h1.gate.sigmoid": ("h1.gate.dense",), "h1.highway": ("h1.relu", "h1.gate.sigmoid", "start"),
        "F": ("h1.highway",), "loss": ("F", "label"),
    }  # fmt: skip
    assert graph["h1.highway"].layer == HighwayGate()
    network = Network(graph, dtype=np.float64)
    np.testing.assert_array_equal(network["h1.gate.dense.b"], -2)
    x, outputs = np.ones((1, 5)), network.trace(np.ones((1, 5)), 0).outputs
    assert (outputs["h1.gate.sigmoid"] < 0.95).all()
    t = outputs["h1.gate.sigmoid"]
    np.testing.assert_allclose(outputs["h1.highway"], t * outputs["h1.relu"] + (1 - t) * outputs["start"], rtol=1e-12)
    assert network(x).shape == (1, 3)


TWO_HEADS = {
    "front": Dense(6),
    "side1": auxiliary(pool=ReLU(), scores=Dense(3)),
    "middle": chain(relu=ReLU(), side2=auxiliary(scores=Dense(3))),
    "F": Dense(3),
}


def test_auxiliary_heads_leave_the_chain_as_it_is_and_end_in_the_loss():
    graph = sequence((5,), **TWO_HEADS, loss=SoftmaxCrossEntropy((1.0, 0.3, 0.2)))
    assert wiring(graph) == {
        "front": ("image",), "side1.pool": ("front",), "side1.scores": ("side1.pool",), "middle.relu": ("front",),
        "middle.side2.scores": ("middle.relu",), "F": ("middle.relu",),
        "loss": ("F", "side1.scores", "middle.side2.scores", "label"),
    }  # fmt: skip
    assert (graph.output, graph.classes) == ("F", 3)
    assert Graph.from_json(graph.to_json()).nodes == graph.nodes


@pytest.mark.parametrize("engine", ["reference", "lanes"])
def test_heads_on_the_side_teach_but_do_not_speak(engine):
    """Their loss counts in training; scores, probabilities and evaluation are those of the network without them."""
    graph = sequence((1, 1, 5), **TWO_HEADS, loss=SoftmaxCrossEntropy((1.0, 0.3, 0.2)))
    main = {name: block for name, block in TWO_HEADS.items() if name != "side1"}
    alone = sequence((1, 1, 5), **{**main, "middle": ReLU()}, loss=LOSS)
    taught, plain = Network(graph, 1, engine=engine), Network(alone, 1, engine=engine)
    for name in ("front.w", "F.w"):
        plain[name][...] = taught[name]
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(20, 1, 1, 5)).astype(np.float32), rng.integers(0, 3, 20)
    np.testing.assert_allclose(taught(x), plain(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(taught.probabilities(x), plain.probabilities(x), rtol=1e-5)
    digits = Dataset(x, labels, ("a", "b", "c"))
    assert taught.evaluate(digits).loss == pytest.approx(plain.evaluate(digits).loss, rel=1e-5)
    outputs = taught.trace(x, labels).outputs
    heads = ((1, "F"), (0.3, "side1.scores"), (0.2, "middle.side2.scores"))
    total = sum(weight * LOSS.forward((outputs[head], labels), {})[0] for weight, head in heads)
    assert taught.loss_and_gradients(x, labels).loss == pytest.approx(total, rel=1e-5)
    gradients = taught.layout.named(taught.loss_and_gradients(x, labels).vector)
    assert np.abs(gradients["side1.scores.w"]).max() > 1e-3


def test_a_loss_of_one_head_refuses_more():
    with pytest.raises(
        ShapeError, match="node 'loss': the scores of 3 heads reach a loss of 1: give SoftmaxCrossEntropy"
    ):
        sequence((5,), **TWO_HEADS, loss=LOSS)


def test_output_may_be_another_node_than_the_loss_reads():
    nodes = [Node("F", Dense(3), ("image",)), Node("relu", ReLU(), ("F",)), Node("loss", LOSS, ("relu", "label"))]
    assert Graph(nodes, (5,)).output == "relu"
    network = Network(Graph(nodes, (5,), output="F"), dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(2, 5))
    np.testing.assert_allclose(network(x), x @ network["F.w"].T, rtol=1e-12)


def test_a_graph_that_is_only_a_loss_scores_its_own_input():
    network = Network(sequence((3,), loss=LOSS), dtype=np.float64)
    np.testing.assert_array_equal(network([[1, 2, 3]]), [[1, 2, 3]])
    assert network.loss_and_gradients([[0, 0, 0]], [1]).loss == pytest.approx(np.log(3))


def test_what_does_not_reach_the_loss_has_no_gradient_and_keeps_its_statistics():
    nodes = [
        Node("side", BatchNormalization(), ("image",)), Node("F", Dense(3), ("image",)),
        Node("loss", LOSS, ("F", "label")),
    ]  # fmt: skip
    network = Network(Graph(nodes, (4,)))
    gradients = network.loss_and_gradients(np.ones((2, 4)), np.array([0, 1]), None)
    views = network.layout.views(gradients.vector)
    assert not views["side"]["gamma"].any()
    assert views["F"]["w"].any()
    np.testing.assert_array_equal(gradients.statistics, network.statistics)


def test_what_several_nodes_read_collects_all_their_gradients():
    """relu(z/2) + relu(z/2) = relu(z): the same scores, and from both paths twice the gradient of the halved z."""
    body = [Node("F", Dense(3), ("image",)), Node("a", ReLU(), ("F",))]
    once = Graph([*body, Node("loss", LOSS, ("a", "label"))], (4,))
    both = [Node("b", ReLU(), ("F",)), Node("sum", Add(), ("a", "b")), Node("loss", LOSS, ("sum", "label"))]
    twice = Graph([*body, *both], (4,))
    x, label = np.random.default_rng(0).normal(size=(2, 4)), np.array([0, 2])
    halved = Network(twice, 3, dtype=np.float64)
    single = Network(once, 3, dtype=np.float64)
    halved.parameters /= 2
    g2, g1 = halved.loss_and_gradients(x, label).vector, single.loss_and_gradients(x, label).vector
    np.testing.assert_allclose(g2, 2 * g1, rtol=1e-12)


def test_each_node_draws_its_own_chance():
    """Two dropouts of one network do not leave out the same values; each node's place is its position in the graph."""
    place, x = Training(seed=1, step=2), np.ones((2, 50))
    graph = sequence((50,), a=Dropout(), b=Dropout(), F=Dense(2), loss=LOSS)
    outputs = Network(graph, dtype=np.float64).trace(x, np.array([0, 1]), place).outputs
    first, _ = Dropout().forward(x, {}, place.at_node(0))
    both, _ = Dropout().forward(first, {}, place.at_node(1))
    np.testing.assert_array_equal(outputs["a"], first)
    np.testing.assert_array_equal(outputs["b"], both)
    assert (first != both / 2).any()


# --- wrong wiring ----------------------------------------------------------------------------------------------

F = Node("F", Dense(3), ("image",))
END = Node("loss", LOSS, ("F", "label"))


@pytest.mark.parametrize(
    ("nodes", "shape", "error", "message"),
    [
        ([Node("F", Dense(3), ("C9",)), END], (4,), GraphError, "node 'F' takes 'C9', which is not a node before it"),
        (
            [Node("F", Dense(3), ("loss",)), END],
            (4,),
            GraphError,
            "node 'F' takes 'loss', which is not a node before it",
        ),
        ([F, F, END], (4,), GraphError, "two nodes are called 'F': give each its own name"),
        ([Node("image", Dense(3), ("image",))], (4,), GraphError, "two nodes are called 'image'"),
        ([F], (4,), GraphError, r"a network ends with a loss: add SoftmaxCrossEntropy\(\) as its last node"),
        ([], (4,), GraphError, "a network ends with a loss"),
        ([END, F], (4,), GraphError, "node 'loss' takes 'F', which is not a node before it"),
        ([Node("F", Dense(3), ("image", "image")), END], (4,), GraphError, "node 'F' takes one input, not 2"),
        ([Node("F", Dense(3), ()), END], (4,), GraphError, "node 'F' takes one input, not 0"),
        ([F, END], (), GraphError, r"the input's shape is one number: give \(channels, height, width\)"),
        ([F, END], (1, 0, 4), GraphError, "the input's shape is 1x0x4: give"),
        (
            [F, Node("loss", LOSS, ("F",))],
            (4,),
            ShapeError,
            "node 'loss': a loss takes one score per class and one label, ",
        ),
        (
            [F, Node("loss", LOSS, ("label", "F"))],
            (4,),
            ShapeError,
            "node 'loss': a loss takes one score per class and one label, not one number and 3",
        ),
        (
            [Node("C", Convolution(3, 5), ("image",))],
            (1, 4, 9),
            ShapeError,
            "node 'C': a window of 5 does not fit into 4 with padding 0 and 0",
        ),
        (
            [Node("C", Convolution(3, 2, stride=2), ("image",))],
            (1, 5, 4),
            ShapeError,
            "node 'C': stride 2 does not divide 5",
        ),
        (
            [Node("C", Convolution(3, 3), ("image",)), Node("add", Add(), ("C", "image"))],
            (3, 5, 5),
            ShapeError,
            "node 'add': cannot add 3x3x3 and 3x5x5: the shapes must be equal",
        ),
        (
            [Node("c", Concatenate(), ("image", "label"))],
            (3,),
            ShapeError,
            "node 'c': cannot concatenate 3 and one number: only the number of maps may differ",
        ),
        (
            [Node("F", Dense(2**30), ("image",))],
            (1, 30, 30),
            ShapeError,
            "node 'F' would need more than 2147483648 values: is a size wrong?",
        ),
        (
            [Node("C", Convolution(64, 1, padding=2**13 - 1), ("image",))],
            (1, 1, 1),
            ShapeError,
            "node 'C' would need more than 2147483648 values",
        ),
    ],
)
def test_wrong_wiring_names_the_node(nodes, shape, error, message):
    with pytest.raises(error, match=message):
        Graph(nodes, shape)


@pytest.mark.parametrize("output", ["G", "label", "loss"])
def test_output_must_be_a_node_before_the_loss(output):
    with pytest.raises(GraphError, match=f"the output '{output}' is not a node of the network"):
        Graph([F, END], (4,), output)


def test_an_unknown_node_is_named_with_those_there_are():
    with pytest.raises(GraphError, match="there is no node 'C7'; there are F, loss"):
        Graph([F, END], (4,))["C7"]


# --- as text ---------------------------------------------------------------------------------------------------


def graph_of(layer, shape):
    """The layer among as many dense layers and losses as its shapes ask for."""
    if isinstance(layer, Loss):
        heads = {f"side{n}": auxiliary(F=Dense(*s)) for n, s in enumerate(shape[1:-1])}
        return sequence(shape[0], **heads, loss=layer)
    if layer.several_inputs:
        fronts = [Dense(*s) if len(s) == 1 else Convolution(s[0], 1) for s in shape]
        nodes = [Node(f"C{n}", front, ("image",)) for n, front in enumerate(fronts)]
        nodes.append(Node("layer", layer, tuple(node.name for node in nodes)))
        nodes += [Node("F", Dense(3), ("layer",)), Node("loss", LOSS, ("F", "label"))]
        return Graph(nodes, shape[0])
    return sequence(shape, layer=layer, F=Dense(3), loss=LOSS)


@pytest.mark.parametrize(("layer", "shape"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_json_round_trip(layer, shape):
    graph = graph_of(layer, shape)
    again = Graph.from_json(graph.to_json())
    assert again.nodes == graph.nodes
    assert (again.input_shape, again.output, again.shapes) == (graph.input_shape, graph.output, graph.shapes)
    assert again.to_json() == graph.to_json()


def test_json_holds_only_settings_that_differ_from_their_defaults():
    graph = sequence((4,), B=BatchNormalization(momentum=0.2), D=Dropout(), F=Dense(3, bias=False), loss=LOSS)
    assert json.loads(graph.to_json()) == {
        "input_shape": [4],
        "output": "F",
        "nodes": [
            {"name": "B", "layer": "BatchNormalization", "settings": {"momentum": 0.2}, "inputs": ["image"]},
            {"name": "D", "layer": "Dropout", "settings": {}, "inputs": ["B"]},
            {"name": "F", "layer": "Dense", "settings": {"outputs": 3, "bias": False}, "inputs": ["D"]},
            {"name": "loss", "layer": "SoftmaxCrossEntropy", "settings": {}, "inputs": ["F", "label"]},
        ],
    }


def described(**changes):
    """A small description with one thing changed."""
    node = {"name": "F", "layer": "Dense", "settings": {"outputs": 3}, "inputs": ["image"]}
    loss = {"name": "loss", "layer": "SoftmaxCrossEntropy", "settings": {}, "inputs": ["F", "label"]}
    top = {key: changes.pop(key) for key in ("input_shape", "output", "nodes") if key in changes}
    return json.dumps({"input_shape": [4], "output": "F", "nodes": [{**node, **changes}, loss], **top})


def test_the_small_description_is_right():
    assert Graph.from_json(described()).nodes == Graph([F, END], (4,)).nodes


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "Layer",
        "Loss",
        "Parameters",
        "Cost",
        "Window",
        "layer",
        "__class__",
        "Pooling",
        "",
        None,
        ["Dense"],
    ],
)
def test_names_that_are_no_layer_of_ours_are_refused(name):
    with pytest.raises(ModelFileError, match=r"rot180 has no layer called|the network description is damaged"):
        Graph.from_json(described(layer=name))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", r"the network description is damaged \(JSONDecodeError"),
        ("[]", "the network description is damaged"),
        ("null", "the network description is damaged"),
        ("[" * 100_000, "the network description is damaged"),
        (described(settings=[]), "the network description is damaged"),
        (described(settings=None), "the network description is damaged"),
        (described(settings={"outputs": 3, "colour": 1}), "the network description is damaged"),
        (described(settings={}), "the network description is damaged"),
        (described(settings={"outputs": "3"}), "outputs is '3': give a whole number of at least 1"),
        (described(settings={"outputs": 3.0}), "outputs is 3.0: give a whole number"),
        (described(settings={"outputs": 10**12}), "node 'F' would need more than 2147483648 values"),
        (described(settings={"outputs": 3, "bias": "yes"}), "bias is 'yes': give True or False"),
        (described(inputs=None), "the network description is damaged"),
        (described(inputs=["label"], layer="Concatenate", settings={}), "node 'F': cannot concatenate one number"),
        (described(input_shape=None), "the network description is damaged"),
        (described(input_shape=[float("inf")]), "the network description is damaged"),
        (described(input_shape=[float("nan")]), "the network description is damaged"),
        (described(input_shape=[-4]), "the network description does not make a network: the input's shape is -4"),
        (described(input_shape=[4, 10**10]), "node 'F' would need more than"),
        (described(output="loss"), "the output 'loss' is not a node of the network"),
        (described(output=["F"]), "the network description is damaged"),
        (described(nodes=[]), "a network ends with a loss"),
        (described(nodes=[1]), "the network description is damaged"),
    ],
)
def test_damaged_descriptions(source, message):
    with pytest.raises(ModelFileError, match=message):
        Graph.from_json(source)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from([2**40, 10**30, 2**63]) | st.floats()
    | st.sampled_from(["image", "label", "same", "valid", "wide", "equal", "error", "floor", "F", "Layer", "Add",
                       "Concatenate", "Dense", "MaxPooling", "GlobalAveragePooling", "SoftmaxCrossEntropy"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["size", "stride"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip

RICH = sequence(
    (2, 7, 6),
    C=Convolution(4, 3, padding=1, groups=2, bias=False),
    normal=BatchNormalization(momentum=0.2),
    block=residual(chain(c=Convolution(4, 1), drop=Dropout(0.2))),
    paths=branches(a=Convolution(2, 1), p=MaxPooling(3, 1, 1)),
    pool=GlobalAveragePooling(),
    F=Dense(3),
    loss=LOSS,
).to_json()


def places_in(value, path=()):
    """The path of every value in nested lists and dicts."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places_in(inner, (*path, key))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_hostile_json_raises_only_model_file_error(data):
    """Any value put anywhere: the result is refused, or a graph that can be summarised, laid out, written again."""
    stored = {"top": json.loads(RICH)}
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from([path for path in places_in(stored) if path]))
        inside = stored
        for step in path[:-1]:
            inside = inside[step]
        if data.draw(st.booleans()) and isinstance(inside, dict):
            inside[data.draw(st.sampled_from(["size", "stride", "padding", "bias", "dilation", "output", "rate"]))] = (
                data.draw(anything)
            )
        else:
            inside[path[-1]] = data.draw(anything)
    try:
        graph = Graph.from_json(json.dumps(stored["top"]))
    except ModelFileError:
        return
    assert Graph.from_json(graph.to_json()).nodes == graph.nodes
    assert summarize(graph).parameters == Layout.of_parameters(graph).count
    assert all(isinstance(size, int) and size > 0 for shape in graph.shapes.values() for size in shape)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(RICH) - 1), st.integers(0, 12), st.text(max_size=6))
def test_damaged_text_raises_only_model_file_error(start, length, replacement):
    source = RICH[:start] + replacement + RICH[start + length :]
    try:
        graph = Graph.from_json(source)
    except ModelFileError:
        return
    assert summarize(graph).parameters == Layout.of_parameters(graph).count


# --- the flat vector -------------------------------------------------------------------------------------------


def test_layout_places_every_array_on_a_cache_line():
    layout = Layout({"a": {"w": (3, 5), "b": (3,)}, "c": {"w": (16,), "v": (1, 2, 17)}})
    assert [(p.node, p.name, p.offset, p.shape) for p in layout.places] == [
        ("a", "w", 0, (3, 5)), ("a", "b", 16, (3,)), ("c", "w", 32, (16,)), ("c", "v", 48, (1, 2, 17)),
    ]  # fmt: skip
    assert (layout.size, layout.count) == (96, 68)
    assert all(place.offset % ALIGNMENT == 0 for place in layout.places)
    assert ALIGNMENT * 4 == 64


def test_layout_views_share_memory_and_never_overlap():
    layout = Layout.of_parameters(Graph.from_json(RICH))
    vector = np.zeros(layout.size, np.float32)
    views, named = layout.views(vector), layout.named(vector)
    assert set(named) == {f"{node}.{name}" for node, arrays in views.items() for name in arrays}
    for node, arrays in views.items():
        for name, view in arrays.items():
            assert np.shares_memory(view, vector)
            assert view.base is not None
            view += 1
            np.testing.assert_array_equal(named[f"{node}.{name}"], 1)
    assert vector.max() == 1  # no number belongs to two arrays
    assert vector.sum() == layout.count
    assert layout.count == summarize(Graph.from_json(RICH)).parameters


def test_statistics_have_a_layout_of_their_own():
    layout = Layout.of_statistics(Graph.from_json(RICH))
    assert [(p.node, p.name, p.shape) for p in layout.places] == [
        ("normal", "running_mean", (4,)), ("normal", "running_variance", (4,)),
    ]  # fmt: skip


# --- how parameters start --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(400, 300), (120, 30, 5, 5)])
@pytest.mark.parametrize(
    ("start", "limit", "variance"),
    [
        (Uniform(), lambda i, o: 0.3, None),
        (Uniform(1e-4), lambda i, o: 1e-4, None),
        (LeCun(), lambda i, o: 2.4 / i, None),
        (Glorot(), lambda i, o: sqrt(6 / (i + o)), lambda i, o: 2 / (i + o)),
        (He(), None, lambda i, o: 2 / i),
    ],
    ids=lambda value: type(value).__name__,
)
def test_d2_initialisers(start, limit, variance, shape):
    graph = sequence((3,), F=Dense(2), loss=LOSS)
    layout = Layout({"F": {"w": shape}})
    w = initial_vector(graph, layout, start, 7, np.dtype(np.float64))[: prod(shape)]
    inputs, outputs = prod(shape[1:]), shape[0] * prod(shape[2:])
    assert w.mean() == pytest.approx(0, abs=5 * w.std() / sqrt(w.size))
    if limit:
        most = limit(inputs, outputs)
        assert np.abs(w).max() <= most * (1 + 1e-6)
        assert np.abs(w).max() > 0.999 * most
        assert w.var() == pytest.approx(most**2 / 3, rel=0.02)
    if variance:
        assert w.var() == pytest.approx(variance(inputs, outputs), rel=0.02)


def test_d2_biases_start_at_zero_and_scales_at_one():
    network = Network(Graph.from_json(RICH), seed=3)
    for name in ("F.b", "normal.beta", "normal.running_mean"):
        np.testing.assert_array_equal(network[name], 0)
    for name in ("normal.gamma", "normal.running_variance"):
        np.testing.assert_array_equal(network[name], 1)
    for name in ("C.w", "F.w", "block.c.w"):
        assert np.unique(network[name]).size == network[name].size
    gaps = np.ones(network.layout.size, bool)
    for place in network.layout.places:
        gaps[place.slice] = False
    np.testing.assert_array_equal(network.parameters[gaps], 0)


@pytest.mark.parametrize("layer", [Dense(4, bias_start=-2.5), Convolution(4, 1, bias_start=-2.5)], ids=str)
def test_biases_start_where_the_layer_says(layer):
    network = Network(sequence((3, 1, 1), layer=layer, F=Dense(2), loss=LOSS))
    np.testing.assert_array_equal(network["layer.b"], -2.5)
    assert not network.layout.named(where_decayed(network))["layer.b"].any()
    assert network["layer.w"].std() > 0


def test_d2_each_unit_is_drawn_for_its_own_connections():
    """LeCun's ±2.4/fan_in: of a table's filter as many maps as it sees, of subsampling its window."""
    table = ((0,), tuple(range(16)), (3, 4))
    graph = sequence(
        (16, 12, 12), C=TableConvolution(table, 5), S=TrainableSubsampling(2), L=LocallyConnected(8, 2),
        F=Dense(2), loss=LOSS,
    )  # fmt: skip
    network = Network(graph, 3, start="lecun")
    w = np.abs(network["C.w"]).reshape(19, 25)
    for links, maps in ((w[:1], 1), (w[1:17], 16), (w[17:], 2)):
        assert 0.8 < links.max() / (2.4 / (25 * maps)) <= 1
    assert 0 < np.abs(network["S.w"]).max() <= 2.4 / 4
    assert 0.98 < np.abs(network["L.w"]).max() / (2.4 / 12) <= 1
    fan = TableConvolution(table, 5).fan((19, 5, 5))
    np.testing.assert_array_equal(fan.inputs.ravel(), [25] + [400] * 16 + [50] * 2)
    np.testing.assert_array_equal(fan.outputs.ravel(), 25 * np.array([2] + [2, 1, 1, 2, 2] + [1] * 11 + [2, 2]))


def where_decayed(network):
    """1 where weight decay acts."""
    mask = np.zeros(network.layout.size)
    for part in decayed(network.graph, network.layout):
        mask[part] += 1
    return mask


def test_weight_decay_acts_on_weights_only():
    network = Network(Graph.from_json(RICH))
    named = network.layout.named(where_decayed(network))
    assert {name: (each.min(), each.max()) for name, each in named.items()} == {
        name: (1, 1) if name.endswith(".w") else (0, 0) for name in named
    }
    assert all(part.start % 16 == part.stop % 16 == 0 for part in decayed(network.graph, network.layout))


def test_the_same_seed_gives_the_same_bits():
    same, again, other = (Network(lenet5(), seed=seed).parameters for seed in (1, 1, 2))
    assert same.tobytes() == again.tobytes()
    assert (same[:150] != other[:150]).all()


def test_the_random_stream_is_pinned():
    """The first weights of LeNet-5 from seed 1: a change of the stream would change every published number."""
    uniform = Network(lenet5(), seed=1, start="uniform-0.3").parameters  # no logarithm: exact on any machine
    assert [value.hex() for value in map(float, uniform[:2])] == ["0x1.3036860000000p-2", "-0x1.6cd03c0000000p-3"]
    assert zlib.crc32(uniform.tobytes()) == 2447245308
    he = Network(lenet5(), seed=1).parameters
    np.testing.assert_allclose(he[:4], [-0.266602933, 0.0969305262, 0.0441983529, 0.344628781], rtol=1e-6)


def test_arrays_of_one_shape_are_drawn_apart():
    graph = sequence((4,), a=Dense(4), b=Dense(4), F=Dense(4), loss=LOSS)
    network = Network(graph, seed=1)
    a, b, c = (network[f"{name}.w"] for name in ("a", "b", "F"))
    assert not np.intersect1d(a, b).size
    assert not np.intersect1d(b, c).size


def test_unknown_initialisers_are_refused():
    with pytest.raises(
        SettingError, match="there is no initialiser 'xavier': choose one of he, glorot, lecun, uniform-0"
    ):
        initializer("xavier")
    assert initializer("uniform-0.0001") == Uniform(1e-4)
    assert set(INITIALIZERS) == {"he", "glorot", "lecun", "uniform-0.3", "uniform-0.0001"}
