"""The kernels of the papers' layers on shapes that EXAMPLES do not have, alone and together, in both ways to run."""

import numpy as np
import pytest
from test_kernels import TRAINING, around, batch, check, layouts, vectors

from rot180 import Network
from rot180.engines.lanes.program import LanesEngine
from rot180.graph import Graph, Node, auxiliary, chain, highway, sequence
from rot180.layers import (
    BatchNormalization,
    Convolution,
    Dense,
    LocallyConnected,
    LocalResponseNormalization,
    MaxPooling,
    RadialBasisLoss,
    RadialBasisOutput,
    ReLU,
    ScaledTanh,
    ScalePixels,
    Sigmoid,
    SoftmaxCrossEntropy,
    SquaredError,
    TableConvolution,
    TrainableSubsampling,
)
from rot180.layers.table_convolution import LENET_TABLE

FLOOR = {"remainder": "floor"}
BATCHES = 1, 17, 37


def beside_zeros(graph, shape):
    """The same, with a reader whose padding puts zeros beside y, and whose stride puts zeros beside dy."""
    reader = Node("reader", Convolution(2, 3, padding=2, stride=2, **FLOOR), ("layer",))
    return Graph([*graph.nodes[:-2], reader, Node("back", Dense(5), ("reader",)), graph.nodes[-1]], shape)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (TableConvolution(LENET_TABLE, 5), (6, 9, 14)),
        (TableConvolution(LENET_TABLE, 3, padding=1), (8, 4, 37)),  # tiles side by side; maps that nobody sees
        (TableConvolution(((1, 0), (0,), (1,)), (2, 7), stride=(3, 2), padding=(1, 6), **FLOOR), (2, 6, 9)),
        (TableConvolution(((2,), (2,), (0, 2)), (3, 1), stride=4, bias=False, **FLOOR), (3, 7, 6)),
    ],
    ids=str,
)
def test_tables(layer, shape):
    check(beside_zeros(around(layer, shape), shape), BATCHES, (None,))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (LocallyConnected(15, 3, padding=1), (2, 4, 5)),
        (LocallyConnected(2, (2, 6), stride=(3, 2), padding=(1, 5), **FLOOR), (15, 6, 7)),
        (LocallyConnected(7, 2, stride=3, bias=False, **FLOOR), (3, 6, 7)),  # rows and columns that no window sees
    ],
    ids=str,
)
def test_local_windows(layer, shape):
    check(beside_zeros(around(layer, shape), shape), BATCHES, (None,))


@pytest.mark.parametrize("channels", [1, 3, 12])
@pytest.mark.parametrize(
    "layer",
    [
        LocalResponseNormalization(),
        LocalResponseNormalization(1, alpha=0.5),
        LocalResponseNormalization(9, alpha=0.2, beta=0.5, k=0.1),
        LocalResponseNormalization(alpha=0.1, beta=0),
    ],
    ids=str,
)
def test_local_responses(layer, channels):
    shape = (channels, 3, 4)
    check(beside_zeros(around(layer, shape), shape), BATCHES, (None,))


def test_local_responses_of_large_values():
    graph = sequence(
        (2, 3, 3),
        front=Convolution(7, 1),
        scale=ScalePixels(0, 1e5),
        layer=LocalResponseNormalization(),
        F=Dense(3),
        loss=SquaredError(),
    )
    check(graph, (16,), (None,))


WINDOWS = {"size": 3, "stride": 1}, {"size": (3, 2), "stride": 2, "padding": 1, **FLOOR}, {"size": 2, "stride": 3}


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_subsampling_windows(window):
    check(around(TrainableSubsampling(**{**FLOOR, **window}), (3, 6, 7)), BATCHES, (None,))


def test_scaled_tanh_far_from_zero():
    graph = sequence(
        (2, 3, 3),
        front=Convolution(2, 1),
        scale=ScalePixels(0, 1e4),
        layer=ScaledTanh(),
        F=Dense(3),
        loss=SquaredError(),
    )
    check(graph, (16,), (None,))


@pytest.mark.parametrize("rubbish", [10.0, None, -3.0])
def test_radial_basis_far_from_and_on_the_codes(rubbish):
    for scale in (1, 1000):
        graph = sequence(
            (9,), front=Dense(84), scale=ScalePixels(0, scale), F7=RadialBasisOutput(), loss=RadialBasisLoss(rubbish)
        )
        check(graph, BATCHES, (None,))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_heads_of_large_scores(smoothing):
    """A head that another layer reads as well, one that gets the image itself, and one that weighs nothing."""
    heads = SoftmaxCrossEntropy((0.5, 2.0, 0.3, 0.0), smoothing=smoothing)
    graph = sequence(
        (6,),
        side0=auxiliary(),
        F=Dense(6),
        scale=ScalePixels(0, 2e4),
        side1=auxiliary(),
        relu=ReLU(),
        side2=auxiliary(tanh=ScaledTanh()),
        end=Dense(6),
        loss=heads,
    )
    check(graph, BATCHES, (None,))


def lenet_1998():
    """LeNet-5 as it was, smaller."""
    return sequence(
        (1, 20, 20),
        C1=Convolution(6, 5),
        S2=TrainableSubsampling(2),
        tanh2=ScaledTanh(),
        C3=TableConvolution(LENET_TABLE, 3),
        S4=TrainableSubsampling(2),
        tanh4=ScaledTanh(),
        F6=Dense(84),
        tanh6=ScaledTanh(),
        F7=RadialBasisOutput(),
        loss=RadialBasisLoss(),
    )


def everything(batch_normalization):
    """With batch normalization all images go through a layer before the next; without, 16 at a time through all."""
    norm = {"norm": BatchNormalization()} if batch_normalization else {}
    return sequence(
        (3, 9, 10),
        conv=Convolution(7, 3, padding=1),
        **norm,
        relu=ReLU(),
        lrn=LocalResponseNormalization(alpha=0.2),
        pool=MaxPooling(3, 2, **FLOOR),
        table=TableConvolution(((0, 1, 2), (4, 6), (3,), (6, 5, 0)), 2, padding=1),
        side=auxiliary(F=Dense(5)),
        sub=TrainableSubsampling(2, **FLOOR),
        tanh=ScaledTanh(),
        local=LocallyConnected(6, 2, padding=1),
        gate=highway(chain(h=Convolution(6, 1), relu=ReLU()), chain(t=Convolution(6, 1, bias_start=-1), s=Sigmoid())),
        F=Dense(5),
        loss=SoftmaxCrossEntropy((1.0, 0.3), smoothing=0.1),
    )


NETWORKS = {
    "LeNet-5 of 1998": lenet_1998,
    "depth first": lambda: everything(batch_normalization=False),
    "layer by layer": lambda: everything(batch_normalization=True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    """1 - tanh² loses digits where units are saturated, as LeNet's are here: NumPy's float32 is off by 3e-6 itself."""
    check(NETWORKS[name](), (5, 37), tolerance=3e-5 if name == "LeNet-5 of 1998" else 1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_bits_for_any_number_of_threads(name):
    graph = NETWORKS[name]()
    x, labels = batch(graph, 53)
    found = []
    for threads in (1, 2, 3):
        program = LanesEngine(threads).compile(graph, *layouts(graph))
        found.append(program.loss_and_gradients(x, labels, *vectors(graph), TRAINING))
    for other in found[1:]:
        assert other.loss == found[0].loss
        assert other.vector.tobytes() == found[0].vector.tobytes()
        assert other.scores.tobytes() == found[0].scores.tobytes()


def test_explain_shows_them():
    uses = {(use.node, use.in_pass): use.kernels for use in Network(NETWORKS["layer by layer"]()).explain(32)}
    kernels = {key: tuple(name.partition("(")[0] for name in names) for key, names in uses.items()}
    expected = {
        "lrn": ("local_response_forward", None, "local_response_backward"),
        "table": ("table_forward", "table_weight_gradient", "table_input_gradient"),
        "sub": ("subsampling_forward", "subsampling_parameter_gradients", "subsampling_backward"),
        "local": ("local_forward", "local_weight_gradient", "local_input_gradient"),
        "gate.highway": ("highway_forward", None, "highway_backward"),
        "loss": ("cross_entropy_forward", None, "cross_entropy_backward"),
    }
    for node, names in expected.items():
        for in_pass, name in zip(("forward", "weight gradient", "input gradient"), names, strict=True):
            assert (name in kernels.get((node, in_pass), ())) == (name is not None), (node, in_pass)


def test_a_table_may_be_large():
    """More links than a byte could count."""
    rng = np.random.default_rng(0)
    table = tuple(tuple(map(int, rng.choice(40, rng.integers(1, 30), replace=False))) for _ in range(24))
    check(around(TableConvolution(table, 1), (40, 2, 3)), (17,), (None,))
