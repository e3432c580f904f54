"""The layers of LeNet-5, AlexNet, GoogLeNet and highway networks: their papers' numbers, PyTorch, refusals.

Catalogue rows B1-B3 and B5-B8. The contract that all layers keep is tested in test_layers.py, their gradients in
test_gradient_check.py.
"""

from math import prod

import numpy as np
import pytest
from test_layers import compare_with_torch, inputs, passes, run

from rot180.errors import SettingError, ShapeError
from rot180.graph import auxiliary, sequence
from rot180.layers import (
    AveragePooling,
    Convolution,
    Dense,
    HighwayGate,
    LocallyConnected,
    LocalResponseNormalization,
    RadialBasisLoss,
    RadialBasisOutput,
    ScaledTanh,
    SoftmaxCrossEntropy,
    SquaredError,
    TableConvolution,
    TrainableSubsampling,
)
from rot180.layers.radial_basis_output import DIGIT_CODES, codes_in, random_codes
from rot180.layers.table_convolution import LENET_TABLE


def size(layer, shape):
    """Parameters and connections, as LeCun et al. 1998 give them."""
    return sum(map(prod, layer.parameter_shapes(shape).values())), layer.cost(shape).connections


# --- the papers' numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "output", "parameters", "connections"),
    [
        (Convolution(6, 5), (1, 32, 32), (6, 28, 28), 156, 122_304),
        (TrainableSubsampling(2), (6, 28, 28), (6, 14, 14), 12, 5_880),
        (TableConvolution(LENET_TABLE, 5), (6, 14, 14), (16, 10, 10), 1_516, 151_600),
        (TrainableSubsampling(2), (16, 10, 10), (16, 5, 5), 32, 2_000),
        (Convolution(120, 5), (16, 5, 5), (120, 1, 1), 48_120, 48_120),
        (Dense(84), (120, 1, 1), (84,), 10_164, 10_164),
        (RadialBasisOutput(), (84,), (10,), 0, 840),
    ],
    ids=["C1", "S2", "C3", "S4", "C5", "F6", "output"],
)
def test_c2_lenet5_1998(layer, shape, output, parameters, connections):
    assert layer.output_shape(shape) == output
    assert size(layer, shape) == (parameters, connections)


def test_c2_lenet5_1998_in_all():
    """Section II.B: 340,908 connections, 60,000 trainable parameters; they are the rows above, summed."""
    assert 156 + 12 + 1_516 + 32 + 48_120 + 10_164 == 60_000
    assert 122_304 + 5_880 + 151_600 + 2_000 + 48_120 + 10_164 + 840 == 340_908


def test_c2_table_one():
    """Table I: which maps of S2 (rows) each map of C3 (columns) sees."""
    rows = [["X" if c in seen else "." for seen in LENET_TABLE] for c in range(6)]
    assert ["".join(row) for row in rows] == [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]


def test_worked_example_7_local_weights():
    """002: a million units that see 10x10 pixels each: 10^8 weights of their own, and 10^8 connections."""
    image = (1, 1000, 1000)
    local = LocallyConnected(1, 10, padding="same", bias=False)
    assert size(local, image) == (10**8, 10**8)
    assert size(Dense(10**6, bias=False), image)[0] == 10**12
    assert size(Convolution(1, 10, padding="same", bias=False), image) == (10**2, 10**8)
    with_bias = LocallyConnected(3, 10, padding="same")
    assert with_bias.parameter_shapes(image)["b"] == (3, 1000, 1000)
    assert size(with_bias, image)[0] == 3 * 10**8 + 3 * 10**6


# --- small literal answers ---------------------------------------------------------------------------------------


def test_b1_table_convolution_literal():
    """1x1 kernels: a filter of maps 2 and 0, in this order, and one of map 1."""
    x = np.array([1.0, 10, 100]).reshape(1, 3, 1, 1)
    p = {"w": np.array([2.0, 3, 5]).reshape(3, 1, 1), "b": np.array([0.5, 0.25])}
    y, dx, gradients, _ = passes(TableConvolution(((2, 0), (1,)), 1), x, p, dy=np.array([1.0, 7]).reshape(1, 2, 1, 1))
    np.testing.assert_array_equal(y.ravel(), [203.5, 50.25])
    np.testing.assert_array_equal(dx.ravel(), [3, 35, 2])
    np.testing.assert_array_equal(gradients["w"].ravel(), [100, 1, 70])
    np.testing.assert_array_equal(gradients["b"], [1, 7])


def test_b1_a_full_table_is_a_convolution():
    table, settings = ((0, 1, 2),) * 4, {"size": (3, 2), "stride": 2, "padding": 1, "remainder": "floor"}
    x, p = inputs(TableConvolution(table, **settings), (3, 6, 7))
    whole = {**p, "w": p["w"].reshape(4, 3, 3, 2)}
    ours, theirs = passes(TableConvolution(table, **settings), x, p), passes(Convolution(4, **settings), x, whole)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_array_equal(ours[2]["w"].ravel(), theirs[2]["w"].ravel())


def test_b2_locally_connected_literal():
    """A window of two pixels at two places, each with weights and a bias of its own."""
    x = np.array([1.0, 2, 3]).reshape(1, 1, 1, 3)
    p = {"w": np.array([[10.0, 100], [5, 7]]).reshape(1, 2, 1, 1, 1, 2), "b": np.array([[[0.5, 0.25]]])}
    dy = np.array([1.0, -1]).reshape(1, 1, 1, 2)
    y, dx, gradients, _ = passes(LocallyConnected(1, (1, 2)), x, p, dy=dy)
    np.testing.assert_array_equal(y.ravel(), [210.5, 31.25])
    np.testing.assert_array_equal(dx.ravel(), [10, 95, -7])
    np.testing.assert_array_equal(gradients["w"].ravel(), [1, 2, -2, -3])
    np.testing.assert_array_equal(gradients["b"].ravel(), [1, -1])


@pytest.mark.parametrize("padding", [0, 1, "same"])
def test_b2_with_the_same_weights_everywhere_it_is_a_convolution(padding):
    local, shared = (kind(3, (3, 2), padding=padding) for kind in (LocallyConnected, Convolution))
    x, p = inputs(shared, (2, 5, 6))
    _, height, width = local.output_shape((2, 5, 6))
    everywhere = {
        "w": np.broadcast_to(p["w"], (height, width, *p["w"].shape)),
        "b": np.broadcast_to(p["b"][:, None, None], (3, height, width)),
    }
    dy = np.random.default_rng(0).normal(size=(3, 3, height, width))
    ours, theirs = passes(local, x, everywhere, dy=dy), passes(shared, x, p, dy=dy)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12)
    np.testing.assert_allclose(ours[2]["w"].sum(axis=(0, 1)), theirs[2]["w"], rtol=1e-12)
    np.testing.assert_allclose(ours[2]["b"].sum(axis=(1, 2)), theirs[2]["b"], rtol=1e-12)


def test_b3_trainable_subsampling_literal():
    y, dx = run(TrainableSubsampling(2), np.arange(8).reshape(2, 4), [[10, 20]], w=[0.5], b=[3])
    np.testing.assert_array_equal(y, [[5 + 3, 9 + 3]])
    np.testing.assert_array_equal(dx, [[5, 5, 10, 10]] * 2)
    x, p = np.arange(8.0).reshape(1, 1, 2, 4), {"w": np.array([0.5]), "b": np.array([3.0])}
    _, _, gradients, _ = passes(TrainableSubsampling(2), x, p, dy=np.array([[[[10.0, 20]]]]))
    assert gradients == {"w": 10 * 10 + 20 * 18, "b": 30}


def test_b3_with_the_weight_of_a_mean_it_is_average_pooling():
    settings = {"size": (3, 2), "stride": (2, 1), "padding": 1, "remainder": "floor"}
    x, _ = inputs(AveragePooling(**settings), (2, 6, 7))
    dy = np.random.default_rng(0).normal(size=(3, 2, 3, 8))
    ours = passes(TrainableSubsampling(**settings), x, {"w": np.full(2, 1 / 6), "b": np.zeros(2)}, dy=dy)
    theirs = passes(AveragePooling(**settings), x, {}, dy=dy)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12, atol=1e-15)


def test_b5_scaled_tanh_is_one_at_one():
    y, dx = run(ScaledTanh(), [-1, 0, 1, 100], [1, 1, 1, 1])
    np.testing.assert_allclose(y, [-1, 0, 1, 1.7159], atol=1e-5)
    np.testing.assert_allclose(dx, [0.755, 1.14393, 0.755, 0], atol=1e-3)


def test_b6_the_digits_codes_are_pictures():
    """The 3 and the 7, row by row; and no two digits nearer than 12 of 84 pixels."""
    assert len(DIGIT_CODES) == 10
    assert all(len(code) == 7 * 12 for code in DIGIT_CODES)
    seven = [DIGIT_CODES[7][7 * i : 7 * i + 7] for i in range(12)]
    assert seven[0] == "#######"
    assert seven[-1] == ".##...."
    w = RadialBasisOutput().w
    assert w.shape == (10, 84)
    assert set(np.unique(w)) == {-1, 1}
    apart = (w[:, None] != w).sum(axis=2) + 84 * np.eye(10, dtype=int)
    assert apart.min() == 12
    assert codes_in("## .#\n.. ##") == ("##..", ".###")


def test_b6_radial_basis_output_literal():
    """Minus the squared distances from (1, -1) and (-1, -1); the gradient points at the codes."""
    layer, x = RadialBasisOutput(("#.", "..")), np.array([[0.5, 1.0]])
    y, dx, _, _ = passes(layer, x, {}, dy=np.array([[1.0, 0]]))
    np.testing.assert_array_equal(y, [[-(0.25 + 4), -(2.25 + 4)]])
    np.testing.assert_array_equal(dx, [[1, -4]])
    y, dx, _, _ = passes(RadialBasisOutput(), RadialBasisOutput().w.astype(float), {}, dy=np.eye(10))
    np.testing.assert_array_equal(y.argmax(axis=1), np.arange(10))
    np.testing.assert_array_equal(np.diag(y), 0)
    np.testing.assert_array_equal(dx, 0)


def test_b6_random_codes_are_the_same_again_and_half_ink():
    codes = random_codes(62, 84)
    assert codes == random_codes(62, 84)
    assert codes[:26] == random_codes(26, 84)
    assert codes != random_codes(62, 84, seed=1)
    assert 0.45 < np.mean([code.count("#") for code in codes]) / 84 < 0.55
    assert RadialBasisOutput(codes).output_shape((84,)) == (62,)


def test_b6_radial_basis_loss_literal():
    """Penalties 1 and 3 and the label 1: 3 by equation 8; by equation 9 also log(e^-j + e^-1 + e^-3)."""
    scores, label = np.array([[-1.0, -3.0]]), np.array([1])
    value, (ds, nothing), _, _ = passes(RadialBasisLoss(None), (scores, label), {}, dy=np.ones(()))
    assert value == 3
    np.testing.assert_array_equal(ds, [[0, -1]])
    assert nothing is None
    total = np.exp([-2.0, -1, -3]).sum()
    value, (ds, _), _, _ = passes(RadialBasisLoss(2.0), (scores, label), {}, dy=np.ones(()))
    assert value == pytest.approx(3 + np.log(total))
    np.testing.assert_allclose(ds, [[np.exp(-1) / total, np.exp(-3) / total - 1]])
    np.testing.assert_allclose(
        RadialBasisLoss(2.0).probabilities(scores), [[np.exp(-1) / total, np.exp(-3) / total]], rtol=1e-12
    )
    assert RadialBasisLoss(None).probabilities(scores).sum() == pytest.approx(1)


def test_b6_what_is_far_from_all_codes_is_no_digit():
    loss, far = RadialBasisLoss(10.0), np.full((1, 10), -1e4, np.float32)
    assert loss.probabilities(far).sum() == 0
    value, (ds, _), _, _ = passes(loss, (far, np.array([3])), {}, dy=np.ones(()))
    assert value == pytest.approx(1e4 - 10)
    np.testing.assert_array_equal(ds, -np.eye(10)[3:4])


def test_b6_label_smoothing_literal():
    """A tenth spread over two classes: .95 of the right one's -log o and .05 of the other's."""
    z, labels = np.log(np.array([[0.8, 0.2]])), np.array([0])
    value, (dz, _), _, _ = passes(SoftmaxCrossEntropy(smoothing=0.1), (z, labels), {}, dy=np.ones(()))
    assert value == pytest.approx(-0.95 * np.log(0.8) - 0.05 * np.log(0.2))
    np.testing.assert_allclose(dz, [[0.8 - 0.95, 0.2 - 0.05]])


def test_b6_heads_are_weighed_and_the_first_is_the_output():
    rng = np.random.default_rng(0)
    heads, labels = [rng.normal(size=(4, 3)) for _ in range(3)], np.array([0, 2, 1, 1])
    loss, plain = SoftmaxCrossEntropy((2.0, 0.3, 0.0), smoothing=0.2), SoftmaxCrossEntropy(smoothing=0.2)
    value, gradients, _, _ = passes(loss, (*heads, labels), {}, dy=np.ones(()))
    each = [passes(plain, (z, labels), {}, dy=np.ones(())) for z in heads]
    assert value == pytest.approx(2 * each[0][0] + 0.3 * each[1][0])
    for weight, gradient, (_, (dz, _), _, _) in zip(loss.weights, gradients, each, strict=False):
        np.testing.assert_allclose(gradient, weight * dz, rtol=1e-12)
    assert gradients[3] is None
    assert loss.of_output == plain
    assert RadialBasisLoss(3.0).of_output == RadialBasisLoss(3.0)


def test_b7_local_response_normalization_literal():
    """k = 1, α = 1, β = 1, three maps: each divided by 1 + the squares of itself and its neighbours."""
    x = np.array([1.0, 2, 3, 4]).reshape(1, 4, 1, 1)
    y, _, _, _ = passes(LocalResponseNormalization(3, alpha=1, beta=1, k=1), x, {})
    np.testing.assert_allclose(y.ravel(), [1 / 6, 2 / 15, 3 / 30, 4 / 26], rtol=1e-14)
    y, dx, _, _ = passes(LocalResponseNormalization(alpha=0, beta=2, k=2), x, {}, dy=x)
    np.testing.assert_array_equal(y, x / 4)
    np.testing.assert_array_equal(dx, x / 4)


def test_b8_highway_gate_literal():
    h, t, x = np.array([[1.0, 2, 3]]), np.array([[0.0, 1, 0.25]]), np.array([[10.0, 20, 30]])
    y, gradients, _, _ = passes(HighwayGate(), (h, t, x), {}, dy=np.array([[1.0, 2, 4]]))
    np.testing.assert_array_equal(y, [[10, 2, 0.75 + 22.5]])
    np.testing.assert_array_equal(gradients[0], [[0, 2, 1]])
    np.testing.assert_array_equal(gradients[1], [[1 - 10, 2 * (2 - 20), 4 * (3 - 30)]])
    np.testing.assert_array_equal(gradients[2], [[1, 0, 3]])


# --- PyTorch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"size": 5}, (6, 8, 7)),
        ({"size": (3, 2), "stride": (2, 1), "padding": (1, 0)}, (6, 7, 6)),
        ({"size": 3, "stride": 2, "bias": False}, (7, 8, 6)),  # a map that nobody sees
    ],
)
@pytest.mark.parametrize("images", [1, 3])
def test_b1_table_convolution_against_torch(settings, shape, images):
    layer = TableConvolution(LENET_TABLE, **settings, remainder="floor")

    def theirs(torch, x, p):
        link, maps = 0, []
        for f, seen in enumerate(LENET_TABLE):
            w = p["w"][link : link + len(seen)][None]
            b = p["b"][f : f + 1] if layer.bias else None
            maps.append(torch.conv2d(x[:, list(seen)], w, b, layer.stride, layer.padding))
            link += len(seen)
        return torch.cat(maps, 1)

    compare_with_torch(layer, shape, theirs, images)


@pytest.mark.parametrize(
    "settings",
    [{"size": (3, 2)}, {"size": 3, "stride": (2, 3), "padding": (2, 1)}, {"size": 1, "stride": 2, "bias": False}],
)
@pytest.mark.parametrize("images", [1, 4])
def test_b2_locally_connected_against_torch(settings, images):
    layer = LocallyConnected(4, **settings, remainder="floor")
    _, height, width = layer.output_shape((3, 6, 7))

    def theirs(torch, x, p):
        columns = torch.nn.functional.unfold(x, layer.size, padding=layer.padding, stride=layer.stride)
        w = p["w"].reshape(height * width, 4, -1)  # (OH·OW,F,C·KH·KW) with (N,C·KH·KW,OH·OW)
        y = torch.einsum("pfk,nkp->nfp", w, columns).reshape(-1, 4, height, width)
        return y + p["b"] if layer.bias else y

    compare_with_torch(layer, (3, 6, 7), theirs, images)


@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), ((3, 2), (2, 1), 1), (3, 2, 0)])
def test_b3_trainable_subsampling_against_torch(window, stride, padding):
    def theirs(torch, x, p):
        total = torch.nn.functional.avg_pool2d(x, window, stride, padding, divisor_override=1)
        return p["w"][:, None, None] * total + p["b"][:, None, None]

    compare_with_torch(TrainableSubsampling(window, stride, padding, "floor"), (3, 6, 7), theirs)


@pytest.mark.parametrize(("size", "alpha", "beta", "k"), [(5, 1e-4, 0.75, 2), (3, 0.5, 0.75, 1), (7, 0.2, 0.5, 0.5)])
@pytest.mark.parametrize("channels", [1, 2, 5, 11])
def test_b7_local_response_normalization_against_torch(size, alpha, beta, k, channels):
    """PyTorch divides α by the size, AlexNet's paper does not."""
    compare_with_torch(
        LocalResponseNormalization(size, alpha, beta, k),
        (channels, 3, 4),
        lambda torch, x, p: torch.nn.functional.local_response_norm(x, size, alpha * size, beta, k),
    )


@pytest.mark.parametrize(
    ("layer", "shape", "theirs"),
    [
        (ScaledTanh(), (2, 3, 4), lambda torch, x, p: 1.7159 * torch.tanh(x * (2 / 3))),
        (HighwayGate(), ((2, 3), (2, 3), (2, 3)), lambda torch, x, p: x[0] * x[1] + x[2] * (1 - x[1])),
        (
            RadialBasisOutput(random_codes(4, 7)),
            (7,),
            lambda torch, x, p: (
                -(torch.cdist(x, torch.tensor(RadialBasisOutput(random_codes(4, 7)).w.astype(float))) ** 2)
            ),
        ),
        (
            SoftmaxCrossEntropy((1.0, 0.3, 0.5), smoothing=0.1),
            ((5,), (5,), (5,), ()),
            lambda torch, x, p: sum(
                weight * torch.nn.functional.cross_entropy(z, x[3], label_smoothing=0.1)
                for weight, z in zip((1, 0.3, 0.5), x[:3], strict=True)
            ),
        ),
        (
            RadialBasisLoss(0.5),
            ((5,), ()),
            lambda torch, x, p: torch.nn.functional.cross_entropy(
                torch.nn.functional.pad(x[0], (0, 1), value=-0.5), x[1]
            ),
        ),
        (RadialBasisLoss(None), ((5,), ()), lambda torch, x, p: -x[0].gather(1, x[1][:, None]).mean()),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "forward") else "",
)
@pytest.mark.parametrize("images", [1, 4])
def test_other_layers_against_torch(layer, shape, theirs, images):
    compare_with_torch(layer, shape, theirs, images)


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TableConvolution((), 3), SettingError, "a table of connections has a tuple for each filter"),
        (lambda: TableConvolution(((0,), ()), 3), SettingError, "the maps it sees, each named once"),
        (lambda: TableConvolution(((0, 1, 0),), 3), SettingError, "the maps it sees, each named once"),
        (lambda: TableConvolution(((-1,),), 3), SettingError, "a table of connections has"),
        (lambda: TableConvolution((("a",),), 3), SettingError, "a table of connections has"),
        (lambda: TableConvolution(3, 3), SettingError, "a table of connections has"),
        (lambda: TableConvolution(((0,),), 0), SettingError, "the kernel's size is 0"),
        (lambda: TableConvolution(((0,),), 3, bias=1), SettingError, "bias is 1: give True or False"),
        (
            lambda: TableConvolution(((0, 3),), 3).output_shape((3, 5, 5)),
            ShapeError,
            "the table names map 3, but there are only maps 0 to 2",
        ),
        (lambda: TableConvolution(((0,),), 3).output_shape((3,)), ShapeError, "a convolution takes maps"),
        (
            lambda: TableConvolution(((0,),), 1).forward(np.ones((1, 2, 3, 3)), {"w": np.ones((3, 1, 1))}),
            ShapeError,
            "weights of 3x1x1 do not fit a table of 1 links",
        ),
        (lambda: LocallyConnected(0, 3), SettingError, "filters is 0: give a whole number of at least 1"),
        (lambda: LocallyConnected(2, 3, bias="no"), SettingError, "bias is 'no': give True or False"),
        (lambda: LocallyConnected(2, 3).output_shape((1, 2, 5)), ShapeError, "a window of 3 does not fit into 2"),
        (
            lambda: LocallyConnected(1, 1).forward(np.ones((1, 2, 3, 3)), {"w": np.ones((3, 3, 1, 1, 1, 1))}),
            ShapeError,
            "weights of 3x3x1x1x1x1 do not fit maps of 2x3x3",
        ),
        (lambda: TrainableSubsampling(2).output_shape((1, 5, 4)), ShapeError, "stride 2 does not divide 5"),
        (lambda: LocalResponseNormalization(4), SettingError, "size is 4: as many maps before as behind make it odd"),
        (lambda: LocalResponseNormalization(k=0), SettingError, "needs alpha >= 0, beta >= 0 and k > 0, not 0.0001"),
        (lambda: LocalResponseNormalization(alpha=-1), SettingError, "not -1, 0.75 and 2.0"),
        (lambda: LocalResponseNormalization(beta="x"), SettingError, "beta is 'x': give a number"),
        (
            lambda: LocalResponseNormalization().output_shape((4,)),
            ShapeError,
            "local response normalization takes maps",
        ),
        (
            lambda: HighwayGate().output_shape(((2, 3), (2, 3))),
            ShapeError,
            "a highway gate takes the transform, the gate and the input, all of one shape, not 2x3 and 2x3",
        ),
        (lambda: HighwayGate().output_shape(((2,), (2,), (3,))), ShapeError, "all of one shape, not 2 and 2 and 3"),
        (lambda: RadialBasisOutput(()), SettingError, "codes are texts of '#'"),
        (lambda: RadialBasisOutput(("#x",)), SettingError, "codes are texts of '#'"),
        (lambda: RadialBasisOutput(("",)), SettingError, "codes are texts of '#'"),
        (lambda: RadialBasisOutput((1, 2)), SettingError, "codes are texts of '#'"),
        (lambda: RadialBasisOutput(("##", "#")), SettingError, "codes are of one length and all different"),
        (lambda: RadialBasisOutput(("##", "##")), SettingError, "codes are of one length and all different"),
        (
            lambda: RadialBasisOutput().output_shape((120,)),
            ShapeError,
            "codes of 84 numbers cannot be compared with an input of 120",
        ),
        (lambda: RadialBasisLoss("much"), SettingError, "rubbish is 'much': give a number"),
        (lambda: SoftmaxCrossEntropy(()), SettingError, r"weights are \(\): give a tuple with a number for each head"),
        (lambda: SoftmaxCrossEntropy(1.0), SettingError, "weights are 1.0: give a tuple"),
        (lambda: SoftmaxCrossEntropy((1, -1)), SettingError, r"weights are \(1, -1\): none may be below 0"),
        (lambda: SoftmaxCrossEntropy((0, 1)), SettingError, "and the first not 0"),
        (lambda: SoftmaxCrossEntropy((1, "a")), SettingError, "a head's weight is 'a': give a number"),
        (lambda: SoftmaxCrossEntropy(smoothing=1), SettingError, "smoothing is 1: choose a share from 0 to below 1"),
        (
            lambda: SoftmaxCrossEntropy((1, 0.3)).output_shape(((3,), ())),
            ShapeError,
            "the scores of 1 heads reach a loss of 2: give SoftmaxCrossEntropy a weight for each",
        ),
        (
            lambda: SquaredError().output_shape(((3,), (3,), ())),
            ShapeError,
            "the scores of 2 heads reach a loss of 1: give SoftmaxCrossEntropy a weight for each",
        ),
        (
            lambda: sequence((4,), side=auxiliary(F=Dense(2)), F=Dense(3), loss=SoftmaxCrossEntropy((1, 0.3))),
            ShapeError,
            "node 'loss': a loss takes one score per class and one label, not 3 and 2 and one number",
        ),
        (lambda: Dense(3, bias_start="low"), SettingError, "bias_start is 'low': give a number"),
        (lambda: Convolution(3, 1, bias_start=float("nan")), SettingError, "bias_start is nan: give a number"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
