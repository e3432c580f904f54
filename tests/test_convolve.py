"""The operation itself: convolve.py against the seeds' numbers, its own laws, NumPy and PyTorch. (A1-A6)"""

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rot180.convolve import (
    convolution_matrix,
    convolve,
    correlate,
    correlate_maps,
    decaying_echo,
    expand,
    moving_average,
    output_size,
    pad,
    resolve_padding,
    rot180,
    second_difference,
)
from rot180.errors import SettingError, ShapeError
from rot180.layers import Convolution

IMAGE = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]])
KERNEL = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]])

sizes = st.integers(1, 9)
kernels = st.integers(1, 4)
strides = st.integers(1, 3)
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=40, deadline=None)


def whole(seed, *shapes):
    """Arrays of small whole numbers in float64: sums and products are exact."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-5, 6, shape).astype(float) for shape in shapes]


# --- literal arrays ------------------------------------------------------------------------------------------


def test_worked_example_1_stride_1():
    np.testing.assert_array_equal(correlate(IMAGE, KERNEL), [[4, 3, 4], [2, 4, 3], [2, 3, 4]])


def test_worked_example_1_stride_2():
    np.testing.assert_array_equal(correlate(IMAGE, KERNEL, stride=2), [[4, 4], [2, 4]])


def test_a1_convolution_flips_correlation_does_not():
    x = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    w = np.array([[1, 10], [100, 1000]])
    np.testing.assert_array_equal(correlate(x, w), [[5421, 6532], [8754, 9865]])  # 1 + 20 + 400 + 5000, ...
    np.testing.assert_array_equal(convolve(x, w), [[1245, 2356], [4578, 5689]])  # 1000 + 200 + 40 + 5, ...
    np.testing.assert_array_equal(correlate([1, 2, 3, 4], [1, 0, -1]), [-2, -2])
    np.testing.assert_array_equal(convolve([1, 2, 3, 4], [1, 0, -1]), [2, 2])


def test_a1_rot180_turns_the_last_two_axes():
    np.testing.assert_array_equal(rot180(np.array([[1, 2, 3], [4, 5, 6]])), [[6, 5, 4], [3, 2, 1]])
    np.testing.assert_array_equal(rot180(np.array([1, 2, 3])), [3, 2, 1])
    np.testing.assert_array_equal(rot180(np.array([[[1, 2]], [[3, 4]]])), [[[2, 1]], [[4, 3]]])


@pytest.mark.parametrize(
    ("name", "image", "kernel", "stride", "dilation", "pads", "output"),
    [  # A2, with M = 5 (vertical) and 6 (horizontal)
        ("narrow", (5, 6), (3, 2), (1, 1), (1, 1), ((0, 0), (0, 0)), (3, 5)),  # M - K + 1
        ("wide", (5, 6), (3, 2), (1, 1), (1, 1), ((2, 2), (1, 1)), (7, 7)),  # M + K - 1
        ("equal", (5, 6), (3, 5), (1, 1), (1, 1), ((1, 1), (2, 2)), (5, 6)),  # M
        ("valid", (5, 6), (2, 3), (2, 2), (1, 1), ((0, 0), (0, 0)), (2, 2)),  # ceil((M - K + 1)/S)
        ("same", (5, 6), (2, 4), (1, 1), (1, 1), ((0, 1), (1, 2)), (5, 6)),  # the odd one at the end
        ("same", (5, 6), (3, 3), (2, 2), (1, 1), ((1, 1), (0, 1)), (3, 3)),  # ceil(M/S)
        ("same", (5, 6), (1, 1), (3, 3), (1, 1), ((0, 0), (0, 0)), (2, 2)),  # nothing to pad, never negative
        ("same", (5, 6), (3, 2), (1, 1), (2, 3), ((2, 2), (1, 2)), (5, 6)),  # with dilation
        (2, (5, 6), (3, 3), (1, 1), (1, 1), ((2, 2), (2, 2)), (7, 8)),
        ((1, 0), (5, 6), (3, 3), (1, 1), (1, 1), ((1, 1), (0, 0)), (5, 4)),
        (((0, 3), (2, 1)), (5, 6), (2, 3), (1, 1), (1, 1), ((0, 3), (2, 1)), (7, 7)),
    ],
)
def test_a2_paddings(name, image, kernel, stride, dilation, pads, output):
    assert resolve_padding(name, image, kernel, stride, dilation) == pads
    y = correlate(np.zeros(image), np.zeros(kernel), name, stride, dilation, remainder="error")
    assert y.shape == output


def test_a2_size_rule_and_its_remainder():
    assert output_size(32, 5) == 28
    assert output_size(227, 11, 4) == 55
    assert output_size(5, 3, 2, (1, 1)) == 3
    assert output_size(8, 3, 2, (1, 1), remainder="floor") == 4
    assert output_size(9, 3, dilation=3) == 3
    message = r"stride 2 does not divide 8 \+ 1 \+ 1 - 3 = 7: the last 1 rows or columns would be lost"
    with pytest.raises(ShapeError, match=message + '; choose remainder="floor" to accept that, or another padding'):
        output_size(8, 3, 2, (1, 1))


def test_pad_and_expand_literal():
    x = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(pad(x, ((1, 0), (0, 2))), [[0, 0, 0, 0], [1, 2, 0, 0], [3, 4, 0, 0]])
    np.testing.assert_array_equal(pad(x, ((-1, 1), (1, -1)), 9), [[9, 3], [9, 9]])  # negative: cut off
    np.testing.assert_array_equal(pad(x, ((0, -1), (-1, 0))), [[2]])
    np.testing.assert_array_equal(expand(x, (2, 3)), [[1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 0, 4]])


def test_a4_signals():
    np.testing.assert_array_equal(decaying_echo(np.array([8.0, 0, 0, 4, 0])), [8, 4, 2, 4, 2])
    np.testing.assert_array_equal(decaying_echo(np.array([1, 1, 1]), [1, 10, 100]), [1, 11, 111])
    np.testing.assert_allclose(moving_average(np.array([3.0, 6, 9, 3, 0]), 3), [6, 6, 4], rtol=1e-15)
    np.testing.assert_array_equal(second_difference(np.array([0, 1, 4, 9, 16])), [2, 2, 2])
    np.testing.assert_array_equal(second_difference(np.array([3, 1, 2], np.uint8)), [3])


def test_a5_channels_are_summed():
    x = np.stack([np.full((2, 2), value) for value in (1, 10, 100)])
    w = np.arange(1, 7).reshape(2, 3, 1, 1)
    np.testing.assert_array_equal(correlate_maps(x, w), [[[321] * 2] * 2, [[654] * 2] * 2])


def test_a5_two_filters_on_three_maps():
    """7x7x3 as 004 draws it: 5x5x3 and its ring of zeros; two 3x3x3 filters, stride 2 -> 3x3x2, 56 parameters."""
    layer = Convolution(2, 3, stride=2, padding=1)
    assert pad(np.zeros((3, 5, 5)), layer.pads((3, 5, 5))).shape == (3, 7, 7)
    assert layer.output_shape((3, 5, 5)) == Convolution(2, 3, stride=2).output_shape((3, 7, 7)) == (2, 3, 3)
    assert sum(np.prod(shape) for shape in layer.parameter_shapes((3, 5, 5)).values()) == (3 * 3 * 3 + 1) * 2 == 56


def test_a6_matrix_literal():
    """A 2x2 kernel on a 3x3 image: four rows of the same four weights, moved along."""
    a, b, c, d = 1, 2, 3, 4
    matrix = [
        [a, b, 0, c, d, 0, 0, 0, 0],
        [0, a, b, 0, c, d, 0, 0, 0],
        [0, 0, 0, a, b, 0, c, d, 0],
        [0, 0, 0, 0, a, b, 0, c, d],
    ]
    np.testing.assert_array_equal(convolution_matrix(np.array([[[[a, b], [c, d]]]]), (1, 3, 3)), matrix)


# --- laws ----------------------------------------------------------------------------------------------------


@quick
@given(sizes, sizes, kernels, kernels, seeds)
def test_a1_correlation_is_convolution_with_the_turned_kernel(m, n, u, v, seed):
    x, w = whole(seed, (m + u, n + v), (u, v))
    np.testing.assert_array_equal(correlate(x, w), convolve(x, rot180(w)))


@quick
@given(st.integers(1, 12), st.integers(1, 12), seeds)
def test_a1_signals_against_numpy(m, k, seed):
    x, w = whole(seed, m, k)
    np.testing.assert_array_equal(convolve(x, w, "wide"), np.convolve(x, w, "full"))
    np.testing.assert_array_equal(correlate(x, w, "wide"), np.correlate(x, w, "full"))
    if m >= k:
        np.testing.assert_array_equal(convolve(x, w), np.convolve(x, w, "valid"))
        np.testing.assert_array_equal(correlate(x, w), np.correlate(x, w, "valid"))


@quick
@given(st.integers(1, 40), kernels, strides, strides)
def test_a2_valid_and_same_follow_the_ceil_formulas(m, k, stride, dilation):
    extent = dilation * (k - 1) + 1
    x, w = np.zeros(m), np.zeros(k)
    assert correlate(x, w, "same", stride, dilation).shape == (ceil(m / stride),)
    if extent <= m:
        assert correlate(x, w, "valid", stride, dilation).shape == (ceil((m - extent + 1) / stride),)
    if extent % 2:
        assert correlate(x, w, "equal", dilation=dilation).shape == (m,)


@quick
@given(st.integers(1, 30), kernels, strides, st.integers(0, 5), st.integers(0, 5), strides)
def test_a2_floor_loses_fewer_positions_than_a_stride(m, k, stride, before, after, dilation):
    room = m + before + after - (dilation * (k - 1) + 1)
    arguments = m, k, stride, (before, after), dilation
    if room < 0:
        with pytest.raises(ShapeError, match="does not fit into"):
            output_size(*arguments, "floor")
        return
    outputs = output_size(*arguments, "floor")
    assert 0 <= room - (outputs - 1) * stride < stride
    if room % stride == 0:
        assert output_size(*arguments) == outputs
    else:
        with pytest.raises(ShapeError, match=f"the last {room % stride} rows or columns would be lost"):
            output_size(*arguments)


@quick
@given(sizes, sizes, sizes, sizes, seeds)
def test_a3_wide_convolution_commutes(m, n, u, v, seed):
    """Eq 22, whichever of the two is the larger."""
    x, w = whole(seed, (m, n), (u, v))
    np.testing.assert_array_equal(convolve(x, w, "wide"), convolve(w, x, "wide"))
    np.testing.assert_array_equal(correlate(x, rot180(w), "wide"), correlate(w, rot180(x), "wide"))


@quick
@given(sizes, sizes, kernels, kernels, seeds)
def test_a3_both_derivatives_against_finite_differences(m, n, u, v, seed):
    """Eq 27: ∂f/∂W = ∂f/∂Y ⊗ X; eq 31: ∂f/∂X = rot180(W) wide-⊗ ∂f/∂Y. f(Y) = Σ Y²/2: differences are exact."""
    x, w = whole(seed, (m + u - 1, n + v - 1), (u, v))
    y = correlate(x, w)

    def f():
        return (correlate(x, w) ** 2).sum() / 2

    for array, gradient in ((w, correlate(x, y)), (x, correlate(y, rot180(w), "wide"))):
        assert gradient.shape == array.shape
        for place in np.ndindex(array.shape):
            array[place] += 1
            above = f()
            array[place] -= 2
            assert gradient[place] == (above - f()) / 2
            array[place] += 1


@quick
@given(sizes, sizes, kernels, strides, st.integers(0, 3), st.integers(1, 2), seeds)
def test_a6_matrix_times_image_is_the_convolution(h, width, k, stride, padding, dilation, seed):
    extent = dilation * (k - 1) + 1
    shape = 2, h + extent, width + extent
    x, w = whole(seed, shape, (3, 2, k, k))
    matrix = convolution_matrix(w, shape, stride, padding, dilation)
    pads = ((padding, padding), (padding, padding))
    y = correlate_maps(x, w, (stride, stride), pads, (dilation, dilation))
    np.testing.assert_array_equal(matrix @ x.ravel(), y.ravel())


@quick
@given(sizes, sizes, kernels, kernels, strides)
def test_a6_matrix_is_sparse_and_shares_its_weights(h, width, kh, kw, stride):
    shape, w = (2, h + kh, width + kw), np.arange(1.0, 3 * 2 * kh * kw + 1).reshape(3, 2, kh, kw)
    matrix = convolution_matrix(w, shape, stride)
    np.testing.assert_array_equal(np.count_nonzero(matrix, axis=1), 2 * kh * kw)  # a dense layer's: all
    assert np.unique(matrix[matrix != 0]).tolist() == w.ravel().tolist()  # a dense layer's: one for each entry
    for f, rows in enumerate(np.split(matrix, 3)):
        np.testing.assert_array_equal([row[row != 0] for row in rows], [w[f].ravel()] * len(rows))


# --- PyTorch -------------------------------------------------------------------------------------------------


@quick
@given(sizes, kernels, strides, st.integers(0, 5), strides, seeds)
def test_signals_against_torch(m, k, stride, padding, dilation, seed):
    torch = pytest.importorskip("torch")
    x, w = whole(seed, m + dilation * k, k)
    ours = correlate(x, w, padding, stride, dilation, remainder="floor")
    theirs = torch.conv1d(torch.tensor(x)[None, None], torch.tensor(w)[None, None], None, stride, padding, dilation)
    np.testing.assert_array_equal(ours, theirs[0, 0].numpy())


@quick
@given(st.tuples(sizes, sizes), st.tuples(kernels, kernels), st.tuples(strides, strides), seeds, st.booleans())
def test_images_against_torch(image, kernel, stride, seed, flipped):
    torch = pytest.importorskip("torch")
    x, w = whole(seed, (image[0] + 4, image[1] + 4), kernel)
    ours = (convolve if flipped else correlate)(x, w, (2, 1), stride, remainder="floor")
    turned = torch.tensor(rot180(w).copy() if flipped else w)
    theirs = torch.conv2d(torch.tensor(x)[None, None], turned[None, None], None, stride, (2, 1))
    np.testing.assert_array_equal(ours, theirs[0, 0].numpy())


@quick
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3),
    st.tuples(kernels, kernels), st.tuples(strides, strides), st.tuples(strides, strides), seeds,
)  # fmt: skip
def test_correlate_maps_with_groups_and_dilation_against_torch(n, groups, c, f, kernel, stride, dilation, seed):
    torch = pytest.importorskip("torch")
    x, w = whole(seed, (n, groups, c, 11, 10), (groups, f, c, *kernel))
    ours = correlate_maps(x, w, stride, ((2, 2), (1, 1)), dilation)
    assert ours.shape[:3] == (n, groups, f)
    theirs = torch.conv2d(
        torch.tensor(x).flatten(1, 2), torch.tensor(w).flatten(0, 1), None, stride, (2, 1), dilation, groups
    )
    np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs.numpy())


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: output_size(4, 3, padding=(0, 0), dilation=2),
            ShapeError,
            "a window of 5 does not fit into 4 with padding 0 and 0: use a larger input, a smaller window or more",
        ),
        (lambda: output_size(5, 3, remainder="ceil"), SettingError, 'remainder is \'ceil\': choose "floor" or "error"'),
        (
            lambda: correlate(IMAGE, KERNEL[0]),
            ShapeError,
            "correlate takes a signal and a kernel, both 1-D or both 2-D and not empty, not 5x5 and 3",
        ),
        (lambda: correlate([], [1]), ShapeError, "both 1-D or both 2-D and not empty, not 0 and 1"),
        (lambda: correlate(3, 4), ShapeError, "not one number and one number"),
        (lambda: correlate([1, 2, 3], [1, 1], stride=2), ShapeError, r"stride 2 does not divide 3 \+ 0 \+ 0 - 2 = 1"),
        (lambda: correlate([1, 2], [1], stride=0), SettingError, r"stride is \(1, 0\): give a whole number of at l"),
        (
            lambda: correlate(IMAGE, KERNEL, stride=0),
            SettingError,
            "stride is 0: give a whole number of at least 1, or",
        ),
        (lambda: correlate(IMAGE, KERNEL, stride=1.5), SettingError, "stride is 1.5: give a whole number of at least"),
        (lambda: correlate(IMAGE, KERNEL, dilation=True), SettingError, "dilation is True: give a whole number"),
        (
            lambda: correlate(IMAGE, KERNEL, -1),
            SettingError,
            "padding is -1: give a whole number of at least 0, or two",
        ),
        (lambda: correlate(IMAGE, KERNEL, ((0, -1), 0)), SettingError, r"padding is \(0, -1\): give a whole number"),
        (lambda: correlate([1, 2], [1], (0, -1)), SettingError, r"padding is \(0, -1\): give a whole number of at le"),
        (
            lambda: correlate(IMAGE, KERNEL, "full"),
            SettingError,
            r"padding is 'full': give a number, \(vertical, horizontal\), or one of \('narrow', 'wide', 'equal', 'va",
        ),
        (lambda: correlate(IMAGE, KERNEL, (1, 2, 3)), SettingError, r"padding is \(1, 2, 3\): give a number, "),
        (lambda: correlate(IMAGE, KERNEL, 0.5), SettingError, r"padding is 0.5: give a number, \(vertical, horizontal"),
        (lambda: correlate(IMAGE, KERNEL, None), SettingError, r"padding is None: give a number, \(vertical, horizon"),
        (
            lambda: correlate(IMAGE, np.ones((2, 3)), "equal"),
            SettingError,
            'equal-width padding needs an odd kernel, not 2: use "same" instead',
        ),
        (
            lambda: convolution_matrix(np.ones((1, 2, 3, 3)), (3, 5, 5)),
            ShapeError,
            r"a kernel of 1x2x3x3 does not fit maps of 3x5x5: give \(F,C,KH,KW\) and \(C,H,W\)",
        ),
        (lambda: convolution_matrix(np.ones((1, 1, 3, 3)), (1, 5, 2)), ShapeError, "a window of 3 does not fit into 2"),
        (lambda: moving_average(np.ones(3), 0), SettingError, "the length is 0: give a whole number of at least 1"),
        (lambda: moving_average(np.ones(3), 4), ShapeError, "a window of 4 does not fit into 3"),
        (lambda: second_difference(np.ones(2)), ShapeError, "a window of 3 does not fit into 2"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_padding_that_no_memory_could_hold_is_refused():
    """Promise 1: a file's network may ask for anything."""
    with pytest.raises(SettingError, match=r"padding 1000000000 would make a map of more than 268435456 pixels"):
        Convolution(1, 3, stride=10**9, padding=10**9).output_shape((1, 8, 8))
