"""Every layer: the seeds' numbers, PyTorch, and the contract that all layers keep, promise 5. (B1, B3-B8)"""

from math import prod

import numpy as np
import pytest

from rot180.chance import Training
from rot180.errors import SettingError, ShapeError
from rot180.gradient_check import EXAMPLES
from rot180.layers import (
    Add,
    AveragePooling,
    BatchNormalization,
    Concatenate,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    Identity,
    LeakyReLU,
    Loss,
    MaxPooling,
    ReLU,
    ScalePixels,
    Sigmoid,
    Softmax,
    SoftmaxCrossEntropy,
    SquaredError,
    Tanh,
)
from rot180.torch_twin import torch_layer

TRAINING = Training(seed=5, step=3, node=2)


def inputs(layer, shape, images=3, dtype=np.float64, seed=0):
    """x and parameters for the layer: normal numbers, labels where a shape is ()."""
    rng = np.random.default_rng(seed)
    shapes = shape if layer.several_inputs else (shape,)
    x = [rng.normal(size=(images, *s)).astype(dtype) if s else rng.integers(0, shapes[0][0], images) for s in shapes]
    arrays = {**layer.parameter_shapes(shape), **layer.statistic_shapes(shape)}
    parameters = {name: rng.uniform(0.5, 2, each).astype(dtype) for name, each in arrays.items()}
    return tuple(x) if layer.several_inputs else x[0], parameters


def passes(layer, x, parameters, training=None, dy=None):
    """y, dx, gradients, and the new statistics of one walk through all passes; dy None: normal numbers."""
    y, saved = layer.forward(x, parameters, training)
    if dy is None:
        dy = np.asarray(np.random.default_rng(1).normal(size=y.shape), y.dtype)
    gradients = layer.parameter_gradients(dy, saved)
    return y, layer.input_gradient(dy, saved, gradients), gradients, layer.new_statistics(saved)


def run(layer, x, dy=None, **parameters):
    """y and dx of one image of one map, given as (H, W) or (D,)."""
    x = np.asarray(x, float)
    one = x[None, None] if x.ndim == 2 else x[None]
    dy = None if dy is None else np.asarray(dy, float).reshape(1, *((1,) if x.ndim == 2 else ()), *np.shape(dy))
    y, dx, *_ = passes(layer, one, {name: np.asarray(value, float) for name, value in parameters.items()}, dy=dy)
    return y.squeeze((0, 1) if y.ndim == 4 else 0), dx.squeeze((0, 1) if dx.ndim == 4 else 0)


# --- the worked examples ---------------------------------------------------------------------------------------


def test_worked_example_2_average_pooling():
    """000, CNN-1: the Kronecker product with a block of ones, over 4."""
    y, dx = run(AveragePooling(2), np.arange(16).reshape(4, 4), [[2, 4], [6, 8]])
    np.testing.assert_array_equal(y, [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_array_equal(dx, [[0.5, 0.5, 1, 1], [0.5, 0.5, 1, 1], [1.5, 1.5, 2, 2], [1.5, 1.5, 2, 2]])


def test_worked_example_2_max_pooling():
    """000, CNN-1: maxima at (0,0), (1,3), (3,1), (2,2)."""
    x = [[9, 1, 2, 3], [1, 2, 4, 8], [0, 1, 7, 5], [2, 6, 5, 0]]
    y, dx = run(MaxPooling(2), x, [[2, 4], [6, 8]])
    np.testing.assert_array_equal(y, [[9, 8], [6, 7]])
    np.testing.assert_array_equal(dx, [[2, 0, 0, 0], [0, 0, 0, 4], [0, 0, 8, 0], [0, 6, 0, 0]])


def test_worked_example_3_nine_deltas():
    """000, CNN-2 and CNN-3 written out: 3x3 input, 2x2 kernel, and σ'(z) of the layer before."""
    z = np.array([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6], [-0.7, 0.8, 0.9]])
    w00, w01, w10, w11 = 2.0, -3.0, 5.0, 7.0
    d00, d01, d10, d11 = 0.5, -1.0, 2.0, 4.0
    layer, delta = Convolution(1, 2), np.array([[[[d00, d01], [d10, d11]]]])
    a, saved_sigmoid = Sigmoid().forward(z[None, None], {})
    _, da, gradients, _ = passes(layer, a, {"w": np.array([[[[w00, w01], [w10, w11]]]]), "b": np.zeros(1)}, dy=delta)
    nine = [
        [d00 * w00, d00 * w01 + d01 * w00, d01 * w01],
        [d00 * w10 + d10 * w00, d00 * w11 + d01 * w10 + d10 * w01 + d11 * w00, d01 * w11 + d11 * w01],
        [d10 * w10, d10 * w11 + d11 * w10, d11 * w11],
    ]
    np.testing.assert_array_equal(da[0, 0], nine)
    slope = np.exp(-z) / (1 + np.exp(-z)) ** 2
    dz = Sigmoid().input_gradient(da, saved_sigmoid, {})
    np.testing.assert_allclose(dz[0, 0], nine * slope, rtol=1e-14)
    s = a[0, 0]
    dw = [
        [d00 * s[u, v] + d01 * s[u, v + 1] + d10 * s[u + 1, v] + d11 * s[u + 1, v + 1] for v in (0, 1)] for u in (0, 1)
    ]
    np.testing.assert_allclose(gradients["w"][0, 0], dw, rtol=1e-14)
    assert gradients["b"] == [d00 + d01 + d10 + d11]  # CNN-4


def test_worked_example_4_softmax_and_its_losses():
    y, _ = run(Softmax(), [1, 2, 4])
    np.testing.assert_allclose(y, [0.04201, 0.11420, 0.84379], atol=5e-6)
    for probability, loss in ((0.9503, 0.0509), (0.9, 0.1054), (0.8, 0.2231), (1.0, 0.0)):
        with np.errstate(divide="ignore"):
            z = np.log(np.array([[probability, 1 - probability]]))
        value, _ = SoftmaxCrossEntropy().forward((np.maximum(z, -1e3), np.array([0])), {})
        assert value == pytest.approx(loss, abs=1e-4)  # the document cuts .05098 to .0509


def test_worked_example_4_gradient_is_output_minus_target():
    """B6: (o - t)/N."""
    z, labels = np.log(np.array([[0.9503, 0.0473, 0.0024], [0.2, 0.3, 0.5]])), np.array([0, 1])
    _, (dz, nothing), _, _ = passes(SoftmaxCrossEntropy(), (z, labels), {}, dy=np.ones(()))
    np.testing.assert_allclose(dz, [[-0.02485, 0.02365, 0.0012], [0.1, -0.35, 0.25]], rtol=1e-12)
    assert nothing is None


INIT_TEST_X = np.array([
    [[0, 1, 1, 0, 2], [2, 2, 2, 2, 1], [1, 0, 0, 2, 0], [0, 1, 1, 0, 0], [1, 2, 0, 0, 2]],
    [[1, 0, 2, 2, 0], [0, 0, 0, 2, 0], [1, 2, 1, 2, 1], [1, 0, 0, 0, 0], [1, 2, 1, 1, 1]],
    [[2, 1, 2, 0, 0], [1, 0, 0, 1, 0], [0, 2, 1, 0, 1], [0, 1, 2, 2, 2], [2, 1, 0, 0, 1]],
], float)[None]  # fmt: skip
INIT_TEST_W = np.array([
    [[[-1, 1, 0], [0, 1, 0], [0, 1, 1]], [[-1, -1, 0], [0, 0, 0], [0, -1, 0]], [[0, 0, -1], [0, 1, 0], [1, -1, -1]]],
    [[[1, 1, -1], [-1, -1, 1], [0, -1, 1]], [[0, 1, 0], [-1, 0, -1], [-1, 1, 0]], [[-1, 0, 0], [-1, 0, 1], [-1, 0, 0]]],
], float)  # fmt: skip
INIT_TEST_B = np.array([1.0, 0.0])


def test_worked_example_5_forward():
    """004 init_test: 3x5x5, two 3x3x3 filters, stride 2, padding 1; the second bias is the document's default, 0."""
    y, _ = Convolution(2, 3, stride=2, padding=1).forward(INIT_TEST_X, {"w": INIT_TEST_W, "b": INIT_TEST_B})
    # y[0,0,0]: row 0 of map 1: 0·1 + 1·0; below it 2·1 + 2·1; map 2: -0; map 3: 2·1 - 1·1 - 0·1; bias 1
    np.testing.assert_array_equal(y[0], [[[6, 7, 5], [3, -1, -1], [2, -1, 4]], [[2, -5, -8], [1, -4, -4], [0, -5, -5]]])


def test_worked_example_5_gradients():
    """With a sensitivity map of ones dw[c,u,v] is the sum of the pixels that the tap meets; both filters agree."""
    layer, p = Convolution(2, 3, stride=2, padding=1), {"w": INIT_TEST_W, "b": INIT_TEST_B}
    _, dx, gradients, _ = passes(layer, INIT_TEST_X, p, dy=np.ones((1, 2, 3, 3)))
    dw = [[[5, 6, 5], [5, 7, 5], [5, 6, 5]], [[2, 1, 2], [9, 9, 9], [2, 1, 2]], [[4, 5, 4], [4, 9, 4], [4, 5, 4]]]
    np.testing.assert_array_equal(gradients["w"], [dw, dw])
    np.testing.assert_array_equal(gradients["b"], [9, 9])
    np.testing.assert_array_equal(dx[0, 0], [[0] * 5, [2, 1, 2, 1, 2], [0] * 5, [2, 1, 2, 1, 2], [0] * 5])
    np.testing.assert_array_equal(dx[0, 1], [[0, -2, 0, -2, 0]] * 5)
    odd, even = [1, 0, 1, 0, 1], [-1, -3, -1, -3, -1]
    np.testing.assert_array_equal(dx[0, 2], [odd, even, odd, even, odd])


def test_worked_example_5_gradient_check_weight_by_weight():
    """004 gradient_check: every weight, epsilon 10e-4, error = the sum of the outputs."""
    layer, epsilon = Convolution(2, 3, stride=2, padding=1), 10e-4
    w, b = INIT_TEST_W.copy(), INIT_TEST_B.copy()
    _, _, gradients, _ = passes(layer, INIT_TEST_X, {"w": w, "b": b}, dy=np.ones((1, 2, 3, 3)))
    checked = 0
    for name, array in (("w", w), ("b", b)):
        for place in np.ndindex(array.shape):
            errors = []
            for change in (epsilon, -2 * epsilon):
                array[place] += change
                errors.append(layer.forward(INIT_TEST_X, {"w": w, "b": b})[0].sum())
            array[place] += epsilon
            assert (errors[0] - errors[1]) / (2 * epsilon) == pytest.approx(gradients[name][place], abs=1e-9)
            checked += 1
    assert checked == 56


def test_worked_example_6_sizes():
    """002: 96x96, 400 features of 8x8 -> 89² each, 3,168,400 in all."""
    shape = Convolution(400, 8).output_shape((1, 96, 96))
    assert shape == (400, 89, 89)
    assert shape[1] * shape[2] == 7_921
    assert prod(shape) == 3_168_400


def test_worked_example_7_weights():
    """002: a 1000x1000 image and 10^6 hidden units: 10^12 dense, 10^8 local (as connections), 10^2 and 10^4 shared."""
    image = (1, 1000, 1000)
    assert prod(Dense(10**6).parameter_shapes(image)["w"]) == 10**12
    assert prod(Convolution(1, 10).parameter_shapes(image)["w"]) == 10**2
    assert prod(Convolution(100, 10).parameter_shapes(image)["w"]) == 10**4
    assert Convolution(1, 10, padding="same").cost(image).multiply_adds == 10**8


# --- small literal answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "y", "slope"),
    [  # at -2, 0, 1
        (Identity(), [-2, 0, 1], [1, 1, 1]),
        (ReLU(), [0, 0, 1], [0, 0, 1]),
        (LeakyReLU(), [-0.2, 0, 1], [0.1, 0.1, 1]),
        (LeakyReLU(0.5), [-1, 0, 1], [0.5, 0.5, 1]),
        (Sigmoid(), [0.11920292202211755, 0.5, 0.7310585786300049], [0.10499358540350662, 0.25, 0.19661193324148185]),
        (Tanh(), [-0.9640275800758169, 0, 0.7615941559557649], [0.07065082485316443, 1, 0.41997434161402614]),
        (ScalePixels(0, 510), [-4, 0, 2], [2, 2, 2]),
        (ScalePixels(-1, 1), [-1 - 4 / 255, -1, -1 + 2 / 255], [2 / 255] * 3),
    ],
)
def test_b5_entry_by_entry(layer, y, slope):
    ours, dx = run(layer, [-2, 0, 1], [1, 1, 1])
    np.testing.assert_allclose(ours, y, rtol=1e-14)
    np.testing.assert_allclose(dx, slope, rtol=1e-14)


def test_d5_pixels_scaled_channel_by_channel():
    x = np.array([[[[0.0, 255]], [[51, 102]]]])  # one image, two channels of 1x2
    layer = ScalePixels((-1, 0), (1, 5))
    y, saved = layer.forward(x, {})
    np.testing.assert_allclose(y, [[[[-1, 1]], [[1, 2]]]], rtol=1e-14)
    dx = layer.input_gradient(np.ones_like(x), saved, {})
    np.testing.assert_allclose(dx, [[[[2 / 255] * 2], [[5 / 255] * 2]]], rtol=1e-14)
    np.testing.assert_array_equal(ScalePixels(-1, (1, 5)).by_channel(2), [[2 / 255, 6 / 255], [-1, -1]])


def test_a_layer_prints_its_numbers_to_six_digits():
    layer = ScalePixels((-2.1179039301310043, 0.0), 1.5)
    assert str(layer) == "ScalePixels(low=(-2.1179, 0.0), high=1.5)"
    assert str(Dropout(0.4000000059604645)) == "Dropout(rate=0.4)"
    assert str(Convolution(4, (3, 2), padding=((1, 0), (2, 2)))) == (
        "Convolution(filters=4, size=(3, 2), padding=((1, 0), (2, 2)))"
    )


def test_b5_sigmoid_and_softmax_do_not_overflow():
    y, _ = run(Sigmoid(), [-1e4, 1e4])
    np.testing.assert_array_equal(y, [0, 1])
    y, _ = run(Softmax(), [1e4, 1e4, -1e4])
    np.testing.assert_array_equal(y, [0.5, 0.5, 0])
    loss, _ = SoftmaxCrossEntropy().forward((np.array([[1e4, -1e4]]), np.array([1])), {})
    assert loss == 2e4


def test_b3_max_pooling_ties_go_to_the_first():
    y, dx = run(MaxPooling(2), np.ones((2, 4)), [[3, 5]])
    np.testing.assert_array_equal(y, [[1, 1]])
    np.testing.assert_array_equal(dx, [[3, 0, 5, 0], [0, 0, 0, 0]])


def test_b3_overlapping_windows_add_up():
    _, dx = run(MaxPooling(2, stride=1), [[0, 1, 0], [0, 9, 0], [0, 0, 0]], [[1, 10], [100, 1000]])
    np.testing.assert_array_equal(dx, [[0, 0, 0], [0, 1111, 0], [0, 0, 0]])
    _, dx = run(AveragePooling(2, stride=1), np.zeros((2, 3)), [[4, 8]])
    np.testing.assert_array_equal(dx, [[1, 3, 2], [1, 3, 2]])


def test_b3_padding_counts_as_zero_in_the_mean_and_never_wins_the_maximum():
    y, dx = run(AveragePooling(2, padding=1), [[4, 8], [12, 16]], [[4, 8], [12, 16]])
    np.testing.assert_array_equal(y, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(dx, [[1, 2], [3, 4]])
    y, dx = run(MaxPooling(2, padding=1), [[-4, -8], [-12, -16]], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(y, [[-4, -8], [-12, -16]])
    np.testing.assert_array_equal(dx, [[1, 2], [3, 4]])


def test_b3_rows_left_over_by_the_stride_have_no_gradient():
    for layer in (AveragePooling(2, remainder="floor"), MaxPooling(2, remainder="floor")):
        y, dx = run(layer, np.ones((3, 5)), [[4, 4]])
        assert y.shape == (1, 2)
        assert dx.shape == (3, 5)
        assert not dx[2].any()
        assert not dx[:, 4].any()
        assert dx.sum() == 8


def test_b3_global_average_pooling():
    y, saved = GlobalAveragePooling().forward(np.arange(12.0).reshape(1, 2, 2, 3), {})
    np.testing.assert_array_equal(y, [[2.5, 8.5]])
    dx = GlobalAveragePooling().input_gradient(np.array([[6.0, 12.0]]), saved, {})
    np.testing.assert_array_equal(dx, [[[[1] * 3] * 2, [[2] * 3] * 2]])


def test_b4_dense():
    """BP-2, BP-3, BP-4 on two images; maps are read in the order c, i, j."""
    x, w = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 10], [2, 20], [3, 30]])
    y, dx, gradients, _ = passes(
        Dense(3), x, {"w": w, "b": np.array([0.0, 100, 200])}, dy=np.array([[1.0, 0, 0], [0, 1, 2]])
    )
    np.testing.assert_array_equal(y, [[21, 142, 263], [43, 186, 329]])
    np.testing.assert_array_equal(dx, [[1, 10], [8, 80]])
    np.testing.assert_array_equal(gradients["w"], [[1, 2], [3, 4], [6, 8]])
    np.testing.assert_array_equal(gradients["b"], [1, 1, 2])
    y, dx, _, _ = passes(Dense(1, bias=False), np.arange(6.0).reshape(1, 1, 2, 3), {"w": 10.0 ** np.arange(6)[None]})
    assert y == [[543210]]
    assert dx.shape == (1, 1, 2, 3)


def test_b4_a_dense_layer_on_maps_is_a_convolution_with_a_kernel_as_large_as_the_map():
    x, p = inputs(Dense(5), (3, 4, 2))
    dense = passes(Dense(5), x, p, dy=np.ones((3, 5)))
    maps = passes(Convolution(5, (4, 2)), x, {**p, "w": p["w"].reshape(5, 3, 4, 2)}, dy=np.ones((3, 5, 1, 1)))
    np.testing.assert_allclose(dense[0], maps[0][:, :, 0, 0], rtol=1e-13)
    np.testing.assert_allclose(dense[1], maps[1], rtol=1e-13)
    np.testing.assert_allclose(dense[2]["w"], maps[2]["w"].reshape(5, -1), rtol=1e-13)


@pytest.mark.parametrize(
    ("off_target", "loss", "dy"), [(0, 0.77 / 4, [[0.1, -0.4, 0.15]]), (-1, 3.77 / 4, [[0.6, -0.4, 0.65]])]
)
def test_b6_squared_error(off_target, loss, dy):
    """Two images, the second as it should be; the mean of half the squares, and (y - t)/N."""
    y = np.array([[0.2, 0.2, 0.3], [off_target, 1, off_target]])
    value, (gradient, nothing), _, _ = passes(SquaredError(off_target), (y, np.array([1, 1])), {}, dy=np.ones(()))
    assert value == pytest.approx(loss)
    np.testing.assert_allclose(gradient, [*dy, [0, 0, 0]], rtol=1e-12)
    assert nothing is None


def test_losses_turn_scores_into_probabilities():
    for loss in (SoftmaxCrossEntropy(), SquaredError(), SquaredError(-1)):
        o = loss.probabilities(np.array([[0.1, 0.9, -0.5], [-3.0, -3.0, -3.0]]))
        np.testing.assert_allclose(o.sum(axis=1), 1)
        assert o[0].argmax() == 1
        assert (o >= 0).all()
    np.testing.assert_allclose(
        SquaredError(-1).probabilities(np.array([[0.0, -1, 1]])), [[1 / 3, 0, 2 / 3]], atol=1e-12
    )


def test_b7_batch_normalization_literal():
    """Mean 2 and variance 1 of one channel; the running values move a tenth of the way, to the unbiased variance."""
    layer, x = BatchNormalization(epsilon=1e-12), np.array([[1.0], [3.0]])
    p = {"gamma": np.array([5.0]), "beta": np.array([7.0]), "running_mean": np.array([1.0]),
         "running_variance": np.array([4.0])}  # fmt: skip
    y, dx, gradients, statistics = passes(layer, x, p, TRAINING, dy=np.array([[1.0], [2.0]]))
    np.testing.assert_allclose(y, [[2], [12]])
    np.testing.assert_allclose(gradients["gamma"], [1])
    np.testing.assert_allclose(gradients["beta"], [3])
    np.testing.assert_allclose(dx, [[0], [0]], atol=1e-10)  # two values normalize to -1 and 1, whatever they are
    np.testing.assert_allclose(statistics["running_mean"], [1.1])
    np.testing.assert_allclose(statistics["running_variance"], [0.9 * 4 + 0.1 * 2])
    y, dx, _, statistics = passes(layer, x, p, dy=np.array([[1.0], [2.0]]))
    np.testing.assert_allclose(y, [[7], [12]])
    np.testing.assert_allclose(dx, [[2.5], [5]])
    assert statistics == {}


def test_b7_batch_normalization_of_a_single_value_stays_finite():
    x, p = inputs(BatchNormalization(), (2,), images=1)
    y, dx, _, statistics = passes(BatchNormalization(), x, p, TRAINING)
    np.testing.assert_array_equal(y[0], p["beta"])
    np.testing.assert_allclose(dx, 0, atol=1e-12)
    assert all(np.isfinite(each).all() for each in statistics.values())


def test_b7_dropout_in_inference_is_the_identity():
    x, _ = inputs(Dropout(0.9), (2, 3, 4))
    y, dx, _, _ = passes(Dropout(0.9), x, {}, None, dy=x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, x)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.75])
def test_b7_dropout_keeps_the_right_share_and_the_mean(rate):
    ones = np.ones((100, 1000), np.float32)
    y, dx, _, _ = passes(Dropout(rate), ones, {}, TRAINING, dy=ones)
    assert set(np.unique(y)) <= {np.float32(0), np.float32(1 / (1 - rate))}
    assert np.mean(y != 0) == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / y.size) ** 0.5)
    np.testing.assert_array_equal(dx, y)


def test_b7_dropout_draws_the_same_bits_whole_or_in_parts():
    x = np.ones((10, 3, 4))
    whole, _ = Dropout().forward(x, {}, TRAINING)
    for cut in (1, 5, 9):
        first, _ = Dropout().forward(x[:cut], {}, TRAINING)
        last, _ = Dropout().forward(x[cut:], {}, Training(5, 3, 2, first_image=cut))
        np.testing.assert_array_equal(np.concatenate([first, last]), whole)
    for other in (Training(6, 3, 2), Training(5, 4, 2), Training(5, 3, 1)):
        assert (Dropout().forward(x, {}, other)[0] != whole).any()


def test_b8_add_and_concatenate():
    a, b = np.array([[1.0, 2]]), np.array([[10.0, 20]])
    y, dx, _, _ = passes(Add(), (a, b, b), {}, dy=a)
    np.testing.assert_array_equal(y, [[21, 42]])
    np.testing.assert_array_equal(dx, (a, a, a))
    y, dx, _, _ = passes(Concatenate(), (a, b[:, :1]), {}, dy=np.array([[7.0, 8, 9]]))
    np.testing.assert_array_equal(y, [[1, 2, 10]])
    np.testing.assert_array_equal(dx[0], [[7, 8]])
    np.testing.assert_array_equal(dx[1], [[9]])


# --- the contract ----------------------------------------------------------------------------------------------


def examples(accept=lambda layer: True):
    """Each of EXAMPLES whose layer is accepted."""
    chosen = [(layer, shape) for layer, shape in EXAMPLES if accept(layer)]
    names = [f"{n}-{type(layer).__name__}" for n, (layer, _) in enumerate(chosen)]
    return pytest.mark.parametrize(("layer", "shape"), chosen, ids=names)


all_examples = examples()
both_modes = pytest.mark.parametrize("training", [None, TRAINING], ids=["inference", "training"])


def arrays_in(value):
    """Every array in a NamedTuple, tuple or dict."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from arrays_in(each)


@all_examples
@both_modes
def test_no_pass_writes_to_an_argument(layer, shape, training):
    x, parameters = inputs(layer, shape)

    def locked(*values):
        for array in arrays_in(values):
            array.setflags(write=False)
        return [array.copy() for array in arrays_in(values)], list(arrays_in(values))

    before = [locked(x, parameters)]
    y, saved = layer.forward(x, parameters, training)
    dy = np.asarray(np.random.default_rng(1).normal(size=y.shape))
    before.append(locked(y, saved, dy))
    gradients = layer.parameter_gradients(dy, saved)
    before.append(locked(gradients))
    layer.input_gradient(dy, saved, gradients)
    layer.new_statistics(saved)
    for copies, arrays in before:
        for copy, array in zip(copies, arrays, strict=True):
            np.testing.assert_array_equal(copy, array)


@all_examples
@both_modes
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_passes_keep_shapes_and_dtype(layer, shape, training, dtype):
    x, parameters = inputs(layer, shape, dtype=dtype)
    y, dx, gradients, statistics = passes(layer, x, parameters, training)
    assert y.shape == (() if isinstance(layer, Loss) else (3, *layer.output_shape(shape)))
    assert {name: each.shape for name, each in gradients.items()} == layer.parameter_shapes(shape)
    assert {name: each.shape for name, each in statistics.items()} == (
        layer.statistic_shapes(shape) if training else {}
    )
    for each, gradient in zip(*((x, dx) if layer.several_inputs else ((x,), (dx,))), strict=True):
        assert (gradient is None) == (each.dtype.kind == "i")
        assert gradient is None or gradient.shape == each.shape
    assert {each.dtype for each in arrays_in((y, dx, gradients, statistics))} == {np.dtype(dtype)}


@all_examples
@both_modes
def test_each_image_alone_gives_what_the_batch_gives(layer, shape, training):
    if isinstance(layer, BatchNormalization):  # in training its images see each other
        training = None
    x, parameters = inputs(layer, shape, images=4)
    whole, *_ = passes(layer, x, parameters, training)
    alone = []
    for n in range(4):
        one = tuple(each[n : n + 1] for each in x) if layer.several_inputs else x[n : n + 1]
        place = training and Training(training.seed, training.step, training.node, first_image=n)
        alone.append(passes(layer, one, parameters, place)[0])
    if isinstance(layer, Loss):
        np.testing.assert_allclose(whole, np.mean(alone), rtol=1e-12)
    else:
        np.testing.assert_allclose(whole, np.concatenate(alone), rtol=1e-12, atol=1e-14)


@examples(lambda layer: isinstance(layer, Convolution | Dense | BatchNormalization))
def test_gradients_of_a_batch_are_the_sums_over_its_images(layer, shape):
    x, parameters = inputs(layer, shape, images=3)
    dy = np.random.default_rng(2).normal(size=(3, *layer.output_shape(shape)))
    _, _, whole, _ = passes(layer, x, parameters, dy=dy)
    alone = [passes(layer, x[n : n + 1], parameters, dy=dy[n : n + 1])[2] for n in range(3)]
    assert whole
    for name, gradient in whole.items():
        np.testing.assert_allclose(gradient, sum(each[name] for each in alone), rtol=1e-11, atol=1e-13)


@all_examples
def test_settings_are_frozen_and_compare_by_value(layer, shape):
    again = type(layer)(**vars(layer))
    assert again == layer
    assert hash(again) == hash(layer)
    with pytest.raises(AttributeError, match=r"cannot assign|frozen"):
        layer.anything = 1


# --- PyTorch ---------------------------------------------------------------------------------------------------


def compare_with_torch(layer, shape, theirs, images=3, training=None, seed=0):
    """Forward and backward in float64. theirs(torch, x, parameters) -> y, x one tensor or several."""
    torch = pytest.importorskip("torch")
    x, parameters = inputs(layer, shape, images, seed=seed)
    y, dx, gradients, _ = passes(layer, x, parameters, training)
    tx = [torch.tensor(each, requires_grad=each.dtype.kind == "f") for each in (x if layer.several_inputs else (x,))]
    tp = {name: torch.tensor(each, requires_grad=name in gradients) for name, each in parameters.items()}
    ty = theirs(torch, tx if layer.several_inputs else tx[0], tp)
    ty.backward(torch.tensor(np.random.default_rng(1).normal(size=y.shape)))
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-11, atol=1e-12)
    for ours, each in zip(dx if layer.several_inputs else (dx,), tx, strict=True):
        if ours is not None:
            np.testing.assert_allclose(ours, each.grad.numpy(), rtol=1e-11, atol=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, tp[name].grad.numpy(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("settings", "shape", "pads"),
    [  # pads as torch pads: left, right, top, bottom
        ({"filters": 4, "size": (3, 2)}, (3, 7, 6), (0, 0, 0, 0)),
        ({"filters": 4, "size": 3, "stride": 2, "padding": 1}, (2, 8, 6), (1, 1, 1, 1)),
        ({"filters": 3, "size": 1, "stride": 3}, (2, 8, 6), (0, 0, 0, 0)),  # pixels that no window sees
        ({"filters": 3, "size": (1, 5), "stride": (4, 1)}, (2, 9, 6), (0, 0, 0, 0)),
        ({"filters": 2, "size": 5, "stride": (2, 3)}, (1, 10, 12), (0, 0, 0, 0)),
        ({"filters": 2, "size": (2, 3), "stride": (3, 2), "padding": ((4, 3), (5, 2))}, (2, 5, 9), (5, 2, 4, 3)),
        ({"filters": 2, "size": 2, "padding": 4}, (3, 1, 2), (4, 4, 4, 4)),
        ({"filters": 6, "size": 3, "padding": (2, 1), "dilation": (2, 3), "groups": 2}, (4, 7, 9), (1, 1, 2, 2)),
        ({"filters": 4, "size": 3, "groups": 4, "stride": 2}, (4, 6, 7), (0, 0, 0, 0)),
        ({"filters": 8, "size": (3, 1), "groups": 4, "stride": 3, "dilation": 2, "padding": 3},
         (4, 8, 5), (3, 3, 3, 3)),
        ({"filters": 3, "size": 3, "padding": "same", "stride": 2}, (2, 6, 9), (1, 1, 0, 1)),
        ({"filters": 4, "size": (5, 4), "padding": "same", "stride": 2, "groups": 2, "bias": False},
         (4, 9, 6), (1, 1, 2, 2)),
        ({"filters": 3, "size": (2, 4), "padding": "same"}, (2, 5, 4), (1, 2, 0, 1)),
        ({"filters": 3, "size": (4, 2), "padding": "wide"}, (2, 3, 5), (1, 1, 3, 3)),
        ({"filters": 3, "size": (3, 5), "padding": "equal"}, (2, 3, 5), (2, 2, 1, 1)),
        ({"filters": 3, "size": (5, 7)}, (2, 5, 7), (0, 0, 0, 0)),  # one output
    ],
)  # fmt: skip
@pytest.mark.parametrize("images", [1, 3])
def test_b1_convolution_against_torch(settings, shape, pads, images):
    layer = Convolution(**{"remainder": "floor", **settings})

    def theirs(torch, x, p):
        x = torch.nn.functional.pad(x, pads)
        return torch.conv2d(x, p["w"], p.get("b"), layer.stride, 0, layer.dilation, layer.groups)

    compare_with_torch(layer, shape, theirs, images)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "shape"),
    [
        (2, 2, 0, (3, 4, 6)),
        (2, 2, 0, (3, 5, 7)),
        (3, 2, 0, (2, 7, 8)),  # overlapping, as in AlexNet
        ((3, 2), (2, 1), 1, (2, 6, 7)),
        ((2, 4), (3, 5), (1, 2), (1, 9, 11)),  # gaps between the windows
        (3, 1, 1, (2, 1, 4)),
        (1, 2, 0, (2, 3, 4)),
    ],
)
def test_b3_pooling_against_torch(size, stride, padding, shape):
    settings = (size, stride, padding, "floor")
    compare_with_torch(
        MaxPooling(*settings), shape, lambda torch, x, p: torch.nn.functional.max_pool2d(x, size, stride, padding)
    )
    compare_with_torch(
        AveragePooling(*settings), shape, lambda torch, x, p: torch.nn.functional.avg_pool2d(x, size, stride, padding)
    )


@all_examples
@both_modes
def test_every_layer_against_torch(layer, shape, training):
    if isinstance(layer, Dropout):  # in training its chance is another
        training = None

    def theirs(torch, x, p):
        return torch_layer(layer, x if layer.several_inputs else [x], p, bool(training))

    compare_with_torch(layer, shape, theirs, training=training)


@pytest.mark.parametrize("shape", [(3, 4, 5), (6,)])
@pytest.mark.parametrize("training", [None, TRAINING], ids=["inference", "training"])
@pytest.mark.parametrize("momentum", [0.1, 0.4])
def test_b7_batch_normalization_against_torch(shape, training, momentum):
    layer, seen = BatchNormalization(epsilon=1e-3, momentum=momentum), {}

    def theirs(torch, x, p):
        seen.update(running_mean=p["running_mean"].clone(), running_variance=p["running_variance"].clone())
        return torch.nn.functional.batch_norm(
            x, seen["running_mean"], seen["running_variance"], p["gamma"], p["beta"], bool(training), momentum, 1e-3
        )

    compare_with_torch(layer, shape, theirs, training=training)
    x, parameters = inputs(layer, shape)
    *_, statistics = passes(layer, x, parameters, training)
    assert bool(statistics) == bool(training)
    for name, value in statistics.items():
        np.testing.assert_allclose(value, seen[name].numpy(), rtol=1e-12)


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Convolution(4, 3).output_shape((5,)),
            ShapeError,
            r"a convolution takes maps \(channels, height, width",
        ),
        (
            lambda: Convolution(4, 3).output_shape((1, 2, 5)),
            ShapeError,
            "a window of 3 does not fit into 2 with padding",
        ),
        (lambda: Convolution(4, 3, stride=2).output_shape((1, 6, 5)), ShapeError, r"stride 2 does not divide 6 \+ 0"),
        (
            lambda: Convolution(4, 3, groups=2).output_shape((3, 5, 5)),
            ShapeError,
            "3 channels cannot be shared out among 2",
        ),
        (lambda: Convolution(4, 3, groups=3), SettingError, "4 filters cannot be shared out among 3 groups"),
        (lambda: Convolution(0, 3), SettingError, "filters is 0: give a whole number of at least 1"),
        (lambda: Convolution(2.0, 3), SettingError, "filters is 2.0: give a whole number of at least 1"),
        (lambda: Convolution(2, 3, groups="2"), SettingError, "groups is '2': give a whole number of at least 1"),
        (lambda: Convolution(2, 0), SettingError, "the kernel's size is 0: give a whole number of at least 1, or two"),
        (lambda: Convolution(2, (3, 3, 3)), SettingError, r"the kernel's size is \(3, 3, 3\): give a whole number"),
        (lambda: Convolution(2, 3, dilation=0), SettingError, "dilation is 0: give a whole number of at least 1"),
        (
            lambda: Convolution(2, 3, remainder="round").output_shape((1, 5, 5)),
            SettingError,
            "remainder is 'round': choose",
        ),
        (
            lambda: Convolution(1, 1).forward(np.ones((1, 2, 3, 3)), {"w": np.ones((1, 3, 1, 1)), "b": np.ones(1)}),
            ShapeError,
            "a kernel of 1x3x1x1 in 1 groups does not fit 2 channels",
        ),
        (lambda: Dense(0), SettingError, "outputs is 0: give a whole number of at least 1"),
        (lambda: Dense(2.5), SettingError, "outputs is 2.5: give a whole number of at least 1"),
        (
            lambda: Dense(2).forward(np.ones((1, 3, 2)), {"w": np.ones((2, 5)), "b": np.ones(2)}),
            ShapeError,
            "weights for 5 inputs do not fit an input of 3x2",
        ),
        (
            lambda: MaxPooling(2).output_shape((4,)),
            ShapeError,
            r"pooling takes maps \(channels, height, width\), not 4",
        ),
        (lambda: MaxPooling(2).output_shape((1, 5, 4)), ShapeError, "stride 2 does not divide 5"),
        (lambda: MaxPooling(0), SettingError, "the window's size is 0: give a whole number of at least 1"),
        (lambda: AveragePooling(2, stride=0), SettingError, "stride is 0: give a whole number of at least 1"),
        (
            lambda: MaxPooling(2, stride=1, padding=((0, 1), (0, 2))).output_shape((1, 4, 4)),
            ShapeError,
            "padding 2 leaves nothing to see for a window of 2: pad less",
        ),
        (lambda: GlobalAveragePooling().output_shape((4,)), ShapeError, "global pooling takes maps"),
        (
            lambda: BatchNormalization(0),
            SettingError,
            "batch normalization needs epsilon > 0 and 0 < momentum <= 1, not 0",
        ),
        (lambda: BatchNormalization(momentum=1.5), SettingError, "not 1e-05 and 1.5"),
        (lambda: Dropout(1), SettingError, "dropout's rate is 1: choose a share of values from 0 to below 1"),
        (lambda: Dropout(-0.1), SettingError, "dropout's rate is -0.1"),
        (lambda: Dropout(float("nan")), SettingError, "dropout's rate is nan: give a number"),
        (lambda: LeakyReLU("steep"), SettingError, "negative_slope is 'steep': give a number"),
        (lambda: ScalePixels(1, 1), SettingError, "pixels cannot be scaled to 1..1: low must be below high"),
        (lambda: ScalePixels(0, float("inf")), SettingError, "high is inf: give a number"),
        (
            lambda: ScalePixels((0, 2), (1, 2)),
            SettingError,
            "cannot be scaled to .0, 2....1, 2.: low must be below high",
        ),
        (lambda: ScalePixels((0, 0), (1, 1, 1)), SettingError, "low has 2 numbers and high 3: give both one for each"),
        (lambda: ScalePixels(0, ()), SettingError, "high is empty: give a number, or one for each channel"),
        (lambda: ScalePixels(0, (1, "2")), SettingError, "high of channel 1 is '2': give a number"),
        (
            lambda: ScalePixels(0, (1, 2)).output_shape((3, 4, 4)),
            ShapeError,
            "high has 2 numbers for an input of 3x4x4: give one, or 3",
        ),
        (lambda: SquaredError(0.5), SettingError, r"off_target is 0.5: choose 0 \(behind a sigmoid\) or -1"),
        (
            lambda: SoftmaxCrossEntropy().output_shape(((2, 3, 3), ())),
            ShapeError,
            "a loss takes one score per class and one label, not 2x3x3 and one number: end the network with a dense or",
        ),
        (lambda: SoftmaxCrossEntropy().output_shape(((3,),)), ShapeError, "one score per class and one label, not 3:"),
        (lambda: Add().output_shape(((1, 2), (2, 1))), ShapeError, "cannot add 1x2 and 2x1: the shapes must be equal"),
        (
            lambda: Concatenate().output_shape(((1, 2, 2), (1, 2, 3))),
            ShapeError,
            "cannot concatenate 1x2x2 and 1x2x3: only the number of maps may differ",
        ),
        (lambda: Concatenate().output_shape(((), ())), ShapeError, "cannot concatenate one number and one number"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
