"""What a network is made of. (C2, C3, C8)"""

import math

import pytest

from rot180.errors import SettingError
from rot180.graph import branches, chain, residual, sequence
from rot180.layers import (
    Add,
    AveragePooling,
    BatchNormalization,
    Convolution,
    Dense,
    GlobalAveragePooling,
    LocallyConnected,
    MaxPooling,
    ReLU,
    SoftmaxCrossEntropy,
    TableConvolution,
)
from rot180.models import lenet5, lenet_sigmoid
from rot180.summary import Sharing, balanced_filters, sharing, summarize

LOSS = SoftmaxCrossEntropy()


def rows(graph):
    return {row.name: row for row in summarize(graph).rows}


@pytest.mark.parametrize(
    ("name", "output", "parameters", "connections", "multiply_adds", "field"),
    [  # C1, C5 and F6 are table 1's numbers; C3 has every input map here, so 2,416 instead of 1,516
        ("pixels", (1, 28, 28), 0, 0, 0, 1),
        ("C1", (6, 28, 28), 156, 122_304, 117_600, 5),
        ("S2", (6, 14, 14), 0, 4_704, 0, 6),
        ("C3", (16, 10, 10), 2_416, 241_600, 240_000, 14),
        ("S4", (16, 5, 5), 0, 1_600, 0, 16),
        ("C5", (120,), 48_120, 48_120, 48_000, 28),
        ("F6", (84,), 10_164, 10_164, 10_080, 28),
        ("F7", (10,), 850, 850, 840, 28),
    ],
)
@pytest.mark.parametrize("graph", [lenet5(), lenet_sigmoid()], ids=["lenet5", "sigmoid"])
def test_c3_lenet(graph, name, output, parameters, connections, multiply_adds, field):
    row = rows(graph)[name]
    assert (row.output, row.parameters, row.connections, row.multiply_adds) == (
        output, parameters, connections, multiply_adds,
    )  # fmt: skip
    assert row.receptive_field == (field, field)


def test_c3_lenet_totals():
    summary = summarize(lenet5())
    assert summary.parameters == 61_706
    assert summary.parameter_bytes == 4 * 61_706
    assert summary.multiply_adds == 117_600 + 240_000 + 48_000 + 10_080 + 840
    assert summary.connections == 122_304 + 4_704 + 241_600 + 1_600 + 48_120 + 10_164 + 850
    values = 784 + 2 * 4_704 + 1_176 + 2 * 1_600 + 400 + 2 * 120 + 2 * 84 + 10 + 1
    assert summary.activation_bytes == 4 * values
    assert [row.name for row in summary.rows] == [node.name for node in lenet5()]
    assert summary.rows[1].layer == "Convolution"
    assert summary.rows[-1].inputs == ("F7", "label")


def test_c8_receptive_field_grows_by_the_distance_of_neighbours():
    """Rows: +4·1 (5), +1·1 (6), stride 2: +2·2 (10), dilation 3: +6·2 (22). Columns: 2, 2, 2+2·1, ..."""
    graph = sequence(
        (1, 60, 60),
        a=Convolution(1, (5, 2)),
        b=MaxPooling((2, 1), stride=(2, 1), remainder="floor"),
        c=Convolution(1, 3),
        d=Convolution(1, 3, dilation=(3, 1)),
        e=AveragePooling(1, stride=2, remainder="floor"),
        f=ReLU(),
        g=Convolution(1, 2),
        mean=GlobalAveragePooling(),
        F=Dense(2),
        loss=LOSS,
    )
    fields = {name: row.receptive_field for name, row in rows(graph).items()}
    assert fields == {
        "a": (5, 2), "b": (6, 2), "c": (10, 4), "d": (22, 6), "e": (22, 6), "f": (22, 6), "g": (26, 8),
        "mean": (58, 60), "F": (58, 60), "loss": (0, 0),  # the stride of e passes over two rows
    }  # fmt: skip


def test_c8_a_residual_block_sees_what_its_larger_path_sees():
    graph = sequence(
        (2, 20, 20),
        block=residual(
            chain(a=Convolution(3, 3, padding=1), b=Convolution(3, (3, 1), padding=(1, 0))), chain(c=Convolution(3, 1))
        ),
        next=Convolution(1, 3),
        F=Dense(2),
        loss=LOSS,
    )
    of = rows(graph)
    assert of["block.b"].receptive_field == (5, 3)
    assert of["block.shortcut.c"].receptive_field == (1, 1)
    assert of["block.add"].receptive_field == (5, 3)
    assert of["next"].receptive_field == (7, 5)
    assert of["block.add"].connections == 2 * 3 * 20 * 20
    assert of["block.add"].inputs == ("block.b", "block.shortcut.c")


def test_c8_branches_count_each_path():
    graph = sequence(
        (2, 8, 6),
        mixed=branches(
            one=Convolution(3, 1), three=Convolution(4, 3, padding=1, bias=False), five=Convolution(2, 5, padding=2),
        ),
        F=Dense(2),
        loss=LOSS,
    )  # fmt: skip
    of = rows(graph)
    assert [of[f"mixed.{name}"].parameters for name in ("one", "three", "five")] == [3 * 3, 4 * 18, 2 * 51]
    assert of["mixed.three"].connections == of["mixed.three"].multiply_adds == 4 * 48 * 18
    assert of["mixed.concatenate"].output == (9, 8, 6)
    assert of["mixed.concatenate"].receptive_field == (5, 5)
    assert summarize(graph).parameters == 9 + 72 + 102 + 2 * (9 * 48 + 1)


def test_c8_groups_divide_the_cost_and_statistics_are_no_parameters():
    graph = sequence(
        (4, 6, 6), C=Convolution(8, 3, groups=4), normal=BatchNormalization(), F=Dense(2), loss=LOSS
    )  # fmt: skip
    of = rows(graph)
    assert of["C"].parameters == 8 * (1 * 9 + 1)
    assert of["C"].multiply_adds == 8 * 16 * 9
    assert of["normal"].parameters == 16


def test_c8_a_field_is_never_larger_than_the_image():
    graph = sequence((1, 4, 9), C=Convolution(1, 3, padding=2), D=Convolution(1, 3), F=Dense(2), loss=LOSS)
    assert rows(graph)["D"].receptive_field == (4, 5)
    flat = sequence((7,), F=Dense(2), loss=LOSS)
    assert rows(flat)["F"].parameters == 16


def test_c8_add_counts_each_of_its_inputs():
    assert Add().cost(((2, 3), (2, 3), (2, 3))).connections == 18


# --- what sharing saves -----------------------------------------------------------------------------------------


def test_c8_fully_locally_and_shared():
    """Seed 002: a million units on 1000x1000 pixels."""
    image = (1, 1000, 1000)
    assert sharing(Convolution(1, 10, padding="same"), image) == Sharing(10**6, 10**12, 10**8, 10**2)
    assert sharing(Convolution(100, 10, stride=10), image) == Sharing(10**6, 10**12, 10**8, 10**4)
    assert sharing(LocallyConnected(100, 10, stride=10), image) == Sharing(10**6, 10**12, 10**8, 10**4)


@pytest.mark.parametrize(
    "layer",
    [
        Convolution(6, (3, 2), stride=(2, 1), padding=1, remainder="floor"),
        Convolution(6, 3, groups=2),
        TableConvolution(((0, 2), (1,), (3, 2, 1)), 3),
        LocallyConnected(5, 3, bias=False),
    ],
)
def test_c8_the_weights_are_those_that_the_layers_have(layer):
    shape = (4, 7, 8)
    of = sharing(layer, shape)
    own = math.prod(layer.parameter_shapes(shape)["w"])
    assert own == (of.locally_connected if isinstance(layer, LocallyConnected) else of.shared)
    assert of.fully_connected == math.prod(Dense(of.units).parameter_shapes(shape)["w"])
    if isinstance(layer, Convolution) and layer.groups == 1:
        local = LocallyConnected(layer.filters, layer.size, layer.stride, layer.padding, remainder=layer.remainder)
        assert of.locally_connected == math.prod(local.parameter_shapes(shape)["w"])


def test_c8_balanced_filters_keep_filters_times_places():
    assert balanced_filters(6, (28, 28), (14, 14)) == 24
    assert balanced_filters(10, (5, 4), (7, 3)) == 10
    assert balanced_filters(1, (2, 2), (9, 9)) == 1
    with pytest.raises(SettingError, match="give whole numbers of at least 1"):
        balanced_filters(6, (28, 28), (0, 14))
