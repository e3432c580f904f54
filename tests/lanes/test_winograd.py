"""Winograd's kernels against the definition, in memory full of garbage; and which kernels the table chooses."""

from fractions import Fraction

import numpy as np
import pytest

from rot180.arrays import pair
from rot180.chance import Training
from rot180.engines.lanes import table
from rot180.engines.lanes.kernels.winograd_transforms import (
    SCALES_OF_FOUR,
    SCALES_OF_SIX,
    evaluate,
    gather,
    interpolate,
    matrices,
    scaled,
)
from rot180.engines.lanes.kernels.winograd_weight_gradient import slots_and_shares
from rot180.engines.lanes.plan import Plan, aligned
from rot180.engines.lanes.program import LanesEngine
from rot180.engines.lanes.table import (
    DEPTHWISE,
    DIRECT,
    F2X2_3X3,
    F2X2_5X5,
    F4X4_3X3,
    POINTWISE,
    Case,
    Pass,
    Rule,
    choose,
)
from rot180.engines.reference import ReferenceEngine
from rot180.graph import sequence
from rot180.layers import BatchNormalization, Convolution, Dense, ReLU, SoftmaxCrossEntropy
from rot180.models import lenet5, resnet, resnet_small
from rot180.parameters import Layout

VARIANTS = F4X4_3X3, F2X2_3X3, F2X2_5X5
VARIANT = pytest.mark.parametrize("variant", VARIANTS, ids=str)

TOLERANCE = {  # of y, dx and dw, in units of the largest value
    F4X4_3X3: (1e-5, 1e-5, 1e-5),
    F2X2_3X3: (1e-6, 1e-6, 2e-6),
    F2X2_5X5: (1e-5, 1e-5, 4e-5),
}

SHAPES = [  # channels, height, width, filters, padding, groups of images
    (1, 5, 5, 1, 0, 1),
    (3, 5, 9, 8, 2, 2),
    (6, 13, 11, 16, 0, 1),
    (16, 8, 8, 17, 1, 3),
    (17, 3, 13, 6, 2, 1),
    (40, 7, 6, 33, 3, 2),
    (8, 1, 1, 40, 2, 3),
    (2, 2, 12, 9, 4, 1),
    (9, 12, 2, 24, 4, 2),
    (8, 10, 9, 1, 1, 1),
]


# --- the transforms ------------------------------------------------------------------------------------------------


@VARIANT
def test_the_matrices_give_a_correlation(variant):
    """y = Aᵀ[(G g) ⊙ (Bᵀ d)], exactly: in fractions."""
    a, b, g = (
        [[Fraction(x).limit_denominator(100) for x in row] for row in matrix.tolist()] for matrix in matrices(*variant)
    )
    rng = np.random.default_rng(0)
    inputs, weights = ([int(x) for x in rng.integers(-9, 10, count)] for count in (variant.taps, variant.kernel))
    taps = range(variant.taps)
    products = [
        sum(g[k][u] * weights[u] for u in range(variant.kernel)) * sum(b[n][k] * inputs[n] for n in taps) for k in taps
    ]
    found = [sum(a[k][i] * products[k] for k in taps) for i in range(variant.size)]
    assert found == np.correlate(inputs, weights).tolist()


@VARIANT
def test_the_transforms_multiply_by_the_matrices(variant):
    a, b, g = matrices(*variant)
    taps = variant.taps
    scales = np.array(SCALES_OF_FOUR if taps == 4 else SCALES_OF_SIX)
    line = np.random.default_rng(0).integers(-8, 9, (6, 16)).astype(np.float32)
    given = tuple(line)
    np.testing.assert_array_equal(interpolate(taps, given)[:taps], b.T @ line[:taps])
    for matrix, count in ((a, variant.size), (g / scales[:, None], variant.kernel)):
        np.testing.assert_allclose(evaluate(taps, count, given)[:taps], matrix @ line[:count], atol=1e-5)
        np.testing.assert_allclose(gather(taps, count, given)[:count], matrix.T @ line[:taps], atol=1e-5)
    np.testing.assert_allclose(scaled(taps, given)[:taps], scales[:, None] * line[:taps], rtol=1e-6)


# --- the kernels ---------------------------------------------------------------------------------------------------


@pytest.fixture
def force(monkeypatch):
    """Have all passes of the 5x5 and 3x3 convolutions run on one algorithm, whether it pays or not."""

    def to(variant):
        def fits(case):
            return variant is not DIRECT and case.kernel == (variant.kernel,) * 2

        monkeypatch.setattr(table, "TABLE", [Rule(variant, fits, "forced"), table.TABLE[-1]])

    return to


class Bench:
    """A convolution in a plan, run row by row in memory full of NaN."""

    def __init__(self, variant, shape, bias=True, relu=False, threads=1, seed=0):
        channels, height, width, filters, padding, self.groups = shape
        layer = Convolution(filters, variant.kernel, padding=padding, bias=bias)
        graph = sequence(
            (channels, height, width),
            front=Convolution(channels, 1),
            layer=layer,
            **({"relu": ReLU()} if relu else {}),
            back=Dense(2),
            loss=SoftmaxCrossEntropy(),
        )
        layouts = Layout.of_parameters(graph), Layout.of_statistics(graph)
        self.plan = Plan(graph, *layouts, backward=True, training=True, groups=self.groups, threads=threads)
        rng = np.random.default_rng(seed)
        self.x = rng.standard_normal((16 * self.groups, channels, height, width)).astype(np.float32)
        self.dy = rng.standard_normal((16 * self.groups, *graph.shapes["layer"])).astype(np.float32)
        self.P, self.G = aligned(self.plan.packed), aligned(self.plan.parameters.size)
        self.P[self.plan.parameters.size :] = 0
        self.P[: self.plan.parameters.size] = rng.standard_normal(self.plan.parameters.size) / 4
        self.A = aligned(self.plan.arena)
        self.A.fill(np.nan)
        for line, (left, right) in self.halos():
            line[:, :left], line[:, line.shape[1] - right :] = 0, 0

    def halos(self):
        for buffer in self.plan.buffers().values():
            whole = self.A[buffer.offset : buffer.offset + buffer.size * self.groups]
            yield whole.reshape(-1, buffer.line // 16, 16), buffer.halo

    def lanes(self, name):
        """(N,C,H,W) of a value: a view of the arena."""
        maps = self.plan.maps(name)
        size = self.groups, maps.channels, maps.height, maps.width, 16
        strides = tuple(4 * step for step in (maps.group, maps.plane, maps.line, 16, 1))
        return np.lib.stride_tricks.as_strided(self.A[maps.start :], size, strides).transpose(0, 4, 1, 2, 3)

    def run(self, steps, parts=1):
        """Each row's units in so many parts, every one with scratch of its own."""
        for step in steps:
            for part in range(parts):
                S = np.full(max(16, self.plan.scratch), np.nan, np.float32)
                first, last = (step.units * k // parts for k in (part, part + 1))
                step.kernel.run(self.P, self.G, self.A, S, step.row, first, last)

    def all_passes(self, parts=1):
        """y, dx, dw."""
        size = self.lanes("layer").shape
        body = [step for step in self.plan.body if step.node == "layer"]
        self.lanes("front")[:] = self.x.reshape(self.lanes("front").shape)
        self.run([step for step in self.plan.prepare if step.node == "layer"], parts)
        self.run([step for step in body if not step.backward], parts)
        y = self.lanes("layer").reshape(self.dy.shape)
        self.lanes("d layer")[:] = self.dy.reshape(size)
        self.run([step for step in body if step.backward and "relu" not in step.kernel.name], parts)
        assert not any(
            line[:, :left].any() or line[:, line.shape[1] - right :].any() for line, (left, right) in self.halos()
        ), "a halo was written"
        return y, self.lanes("d front").reshape(self.x.shape), self.plan.parameters.named(self.G)["layer.w"]

    def expected(self):
        """The same by the definition, in float64."""
        named = self.plan.parameters.named(self.P[: self.plan.parameters.size].astype(np.float64))
        parameters = {name: named[f"layer.{name}"] for name in ("w", "b") if f"layer.{name}" in named}
        layer, dy = self.plan.graph["layer"].layer, self.dy.astype(np.float64)
        y, saved = layer.forward(self.x.astype(np.float64), parameters)
        gradients = layer.parameter_gradients(dy, saved)
        return y, layer.input_gradient(dy, saved, gradients), gradients["w"]


def error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@VARIANT
def test_three_passes_on_awkward_shapes(variant, force, record_property):
    """Sizes from 1 to 13 that leave remainders, padding from 0 to beyond the kernel, 1 to 40 maps, 1 to 3 groups."""
    force(variant)
    worst = np.zeros(3)
    for number, shape in enumerate(SHAPES):
        bench = Bench(variant, shape, bias=number % 3 != 2)
        assert [choice.algorithm for choice in bench.plan.choices if choice.node == "layer"] == [variant] * 3
        errors = [error(*pair) for pair in zip(bench.all_passes(), bench.expected(), strict=True)]
        assert np.all(np.array(errors) <= TOLERANCE[variant]), f"{shape}: {errors}"
        worst = np.maximum(worst, errors)
    record_property("errors of y, dx, dw", worst.tolist())


@VARIANT
def test_relu_is_applied_as_values_are_stored(variant, force):
    force(variant)
    bench = Bench(variant, (6, 7, 9, 8, 1, 2), relu=True)
    y, *_ = bench.all_passes()
    assert error(y, np.maximum(bench.expected()[0], 0)) <= TOLERANCE[variant][0]
    assert y.min() == 0


@VARIANT
@pytest.mark.parametrize("shape", [(8, 9, 9, 64, 1, 3), (16, 4, 5, 16, 2, 2)], ids=str)
def test_the_same_bits_for_any_number_of_threads(variant, shape, force):
    """Whatever the plan cuts rows into, and whoever runs which part."""
    force(variant)
    once, *others = (
        Bench(variant, shape, threads=threads).all_passes(parts) for threads, parts in ((1, 1), (2, 2), (8, 5))
    )
    for other in others:
        for mine, theirs in zip(once, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_slots_and_shares():
    """Many filters are shared out, few have their tiles in slots; the number of threads changes shares only."""

    class Site:
        def __init__(self, groups, threads):
            self.groups, self.plan = groups, self
            self.threads = threads

    for filters, slots in ((16, 4), (32, 4), (64, 2), (128, 1), (512, 1)):
        for threads in (1, 2, 7, 64):
            found = slots_and_shares(Site(4, threads), filters)
            assert found[0] == slots
            assert found[0] * found[1] >= min(threads, 4)
    assert slots_and_shares(Site(1, 1), 512) == (1, 8)


# --- networks ------------------------------------------------------------------------------------------------------


def network(norm):
    body = {"c2": Convolution(16, 3, padding=1), "r2": ReLU(), "c3": Convolution(24, 3), "c4": Convolution(16, 5)}
    norms = {"norm": BatchNormalization()} if norm else {}
    return sequence(
        (2, 14, 13), c1=Convolution(16, 3, padding=1), **norms, **body, d=Dense(5), loss=SoftmaxCrossEntropy()
    )


@pytest.mark.parametrize("norm", [False, True], ids=["depth first", "layer by layer"])
def test_batches_of_any_size_and_threads(norm):
    """A network that the table gives Winograd's kernels: the definition's gradients, and the same bits on 1 to 3."""
    graph = network(norm)
    layouts = Layout.of_parameters(graph), Layout.of_statistics(graph)
    rng = np.random.default_rng(2)
    parameters = (rng.standard_normal(layouts[0].size) / 8).astype(np.float32)
    statistics = np.abs(rng.standard_normal(layouts[1].size)).astype(np.float32)
    programs = [LanesEngine(threads).compile(graph, *layouts) for threads in (1, 2, 3)]
    definition = ReferenceEngine().compile(graph, *layouts)
    for images in (1, 16, 37):
        x, labels = rng.standard_normal((images, 2, 14, 13)).astype(np.float32), rng.integers(0, 5, images)
        found = [each.loss_and_gradients(x, labels, parameters, statistics, Training()) for each in programs]
        exact = (x.astype(np.float64), labels, parameters.astype(np.float64), statistics.astype(np.float64))
        expected = definition.loss_and_gradients(*exact, Training())
        assert found[0].loss == pytest.approx(expected.loss, rel=1e-5)
        assert error(found[0].vector, expected.vector) < 1e-4
        for other in found[1:]:
            np.testing.assert_array_equal(found[0].vector, other.vector)


# --- which kernel runs -----------------------------------------------------------------------------------------------

CASE = Case(Pass.FORWARD, 64, 64, (3, 3), (1, 1), (1, 1), 1, (16, 16), (16, 16), 4, precise=False)


def choices(graph, groups=1, precise=False):
    """{(node, pass): algorithm} of a plan for training."""
    layouts = Layout.of_parameters(graph), Layout.of_statistics(graph)
    plan = Plan(graph, *layouts, backward=True, training=True, groups=groups, precise=precise)
    assert all(choice.reason for choice in plan.choices)
    return {(choice.node, choice.in_pass): choice.algorithm for choice in plan.choices}


def test_lenet5():
    """Few maps: what Winograd would save is not worth rounding and compiling."""
    assert set(choices(lenet5()).values()) == {DIRECT}


def may_be_winograd(graph, name):
    """A 3x3 convolution of stride 1 that is not the first, with the image's 3 channels."""
    layer = graph[name].layer
    ordinary = pair(layer.size, "size") == (3, 3) and pair(layer.stride, "stride") == (1, 1)
    return ordinary and graph.input_shape_of(graph[name])[0] > 3


def plain(graph, name):
    """What takes the others: shortcuts have kernels of one tap."""
    return POINTWISE if pair(graph[name].layer.size, "size") == (1, 1) else DIRECT


def test_resnet_20():
    """All that may be are F(4x4,3x3), in all three passes."""
    graph = resnet_small(20)
    found = choices(graph, groups=8)
    assert all(
        algorithm is (F4X4_3X3 if may_be_winograd(graph, node) else plain(graph, node))
        for (node, _), algorithm in found.items()
    )
    assert sum(algorithm is F4X4_3X3 for algorithm in found.values()) == 3 * 16


@pytest.mark.parametrize("groups", [2, 4])
def test_resnet_18(groups):
    """The same; but with 32 images and maps of 4x4, F(4x4,3x3)'s transformed weights are used too seldom to pay."""
    graph = resnet(18, 10, (3, 32, 32))
    for (node, in_pass), algorithm in choices(graph, groups=groups).items():
        if not may_be_winograd(graph, node):
            assert algorithm is plain(graph, node), node
        elif groups == 2 and graph.input_shape_of(graph[node])[0] == 512 and in_pass is not Pass.WEIGHT_GRADIENT:
            assert algorithm is F2X2_3X3, node
        else:
            assert algorithm is F4X4_3X3, node


def test_filters_that_see_one_channel_each():
    """And what only comes near: two channels to a group, two filters to a channel, one channel in all."""
    depthwise = CASE._replace(groups=64)
    for in_pass in Pass:
        for kernel, stride, dilation in (((3, 3), (1, 1), (1, 1)), ((5, 5), (2, 2), (1, 1)), ((1, 7), (1, 3), (2, 2))):
            case = depthwise._replace(in_pass=in_pass, kernel=kernel, stride=stride, dilation=dilation)
            assert choose("conv", case).algorithm is DEPTHWISE
    assert choose("conv", depthwise._replace(groups=32)).algorithm is DIRECT
    assert choose("conv", depthwise._replace(filters=128)).algorithm is DIRECT
    assert choose("conv", CASE._replace(channels=1, filters=1)).algorithm is DIRECT


def test_precise_plans_have_no_six_taps():
    for graph in (lenet5(), resnet_small(20)):
        assert set(choices(graph, groups=2, precise=True).values()) <= {DIRECT, POINTWISE, F2X2_3X3}


@pytest.mark.parametrize(
    "other",
    [{"stride": (2, 2)}, {"dilation": (1, 2)}, {"groups": 2}, {"kernel": (3, 1)}, {"kernel": (7, 7)}, {"channels": 1}],
    ids=str,
)
def test_direct_kernels_take_the_rest(other):
    assert choose("conv", CASE).algorithm is F4X4_3X3
    choice = choose("conv", CASE._replace(**other))
    assert str(choice) == "conv, forward: direct, nothing else has less to do"
