"""Which kernels a convolution runs on, in each of its passes: a list read from the top, the first rule that holds.

The list ends in the direct kernels, which take any convolution. Winograd's are taken where they have less to do,
counted in multiply-adds. Of each tile they transform C channels and F filters, C + F maps, each at a cost of some
multiply-adds a tap, and then do C·F multiply-adds a tap. `TRANSFORM` and `FINISH` are such costs, fitted to times
measured on one Zen 5 core with AVX-512, for convolutions of LeNet-5, ResNet-20, ResNet-18 and AlexNet and smaller ones.
"""

from collections.abc import Callable
from enum import StrEnum
from math import prod
from typing import NamedTuple


class Pass(StrEnum):
    """One of the three computations of a layer."""

    FORWARD = "forward"
    WEIGHT_GRADIENT = "weight gradient"
    INPUT_GRADIENT = "input gradient"


class Variant(NamedTuple):
    """Winograd's F(m x m, r x r): tiles of m x m outputs, kernels of r x r."""

    size: int
    kernel: int

    @property
    def taps(self) -> int:
        """The points at which polynomials are evaluated, for each dimension."""
        return self.size + self.kernel - 1

    def __str__(self) -> str:
        m, r = self
        return f"Winograd F({m}x{m},{r}x{r})"


F4X4_3X3, F2X2_3X3, F2X2_5X5 = Variant(4, 3), Variant(2, 3), Variant(2, 5)


class Plain(StrEnum):
    """Kernels that compute the definition's sums as they stand."""

    DIRECT = "direct"
    POINTWISE = "pointwise"
    DEPTHWISE = "depthwise"


DIRECT, POINTWISE, DEPTHWISE = Plain.DIRECT, Plain.POINTWISE, Plain.DEPTHWISE
Algorithm = Variant | Plain


class Case(NamedTuple):
    """What a choice depends on."""

    in_pass: Pass
    channels: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int  # of the convolution
    inputs: tuple[int, int]  # (H, W)
    outputs: tuple[int, int]  # (OH, OW)
    image_groups: int  # groups of 16 images at a time
    precise: bool  # nothing that rounds more than direct kernels do


class Rule(NamedTuple):
    """Take the algorithm where the condition holds."""

    algorithm: Algorithm
    holds: Callable[[Case], bool]
    reason: str


class Choice(NamedTuple):
    """What was taken for a pass of a node, and why."""

    node: str
    in_pass: Pass
    algorithm: Algorithm
    reason: str

    def __str__(self) -> str:
        return f"{self.node}, {self.in_pass}: {self.algorithm}, {self.reason}"


TRANSFORM = {F4X4_3X3: 8, F2X2_3X3: 6, F2X2_5X5: 6}
"""What the transform of one map of a tile costs, in multiply-adds a tap; in weight gradients half as much again."""
FINISH = 1.3  # the way from the weight gradient's sums back to one weight, in multiply-adds a tap
GAIN = 0.8  # of the direct kernels' multiply-adds, at most: less gained is not worth rounding and compiling
LARGE = 2**22  # transformed weights: so many do not stay in the cache, and are read anew for every few tiles
TILES_FOR_LARGE = 4  # at a time: fewer do not pay for that


def tiles(case: Case, variant: Variant) -> int:
    """Tiles of one group's result."""
    result = case.inputs if case.in_pass is Pass.INPUT_GRADIENT else case.outputs
    return prod(-(-size // variant.size) for size in result)


def direct_work(case: Case) -> float:
    """Multiply-adds of the direct kernels for one group, for each lane."""
    return prod(case.outputs) * prod(case.kernel) * case.channels * case.filters


def winograd_work(case: Case, variant: Variant) -> float:
    """The same of Winograd's kernels."""
    channels, filters, transform = case.channels, case.filters, float(TRANSFORM[variant])
    once = 0.0
    if case.in_pass is Pass.WEIGHT_GRADIENT:
        filters, transform = -(-filters // 16) * 16, 1.5 * transform  # in the lanes, 16 at a time
        once = FINISH * channels * filters / case.image_groups
    return variant.taps**2 * (tiles(case, variant) * (channels * filters + transform * (channels + filters)) + once)


def pays(variant: Variant) -> Callable[[Case], bool]:
    """Whether the variant can do the case, and with less work than the direct kernels."""

    def holds(case: Case) -> bool:
        fits = case.kernel == (variant.kernel,) * 2 and case.stride == case.dilation == (1, 1) and case.groups == 1
        return fits and winograd_work(case, variant) <= GAIN * direct_work(case)

    return holds


def pays_and_may_round(variant: Variant) -> Callable[[Case], bool]:
    """The same, unless the case is to be precise: for six taps, which lose a digit."""
    return lambda case: not case.precise and pays(variant)(case)


def large_tiles_pay(case: Case) -> bool:
    """Whether F(4x4,3x3) is better than direct, and than F(2x2,3x3)."""
    few = case.in_pass is not Pass.WEIGHT_GRADIENT and case.image_groups * tiles(case, F4X4_3X3) < TILES_FOR_LARGE
    if few and F4X4_3X3.taps**2 * case.channels * case.filters >= LARGE:
        return False
    less = winograd_work(case, F4X4_3X3) < winograd_work(case, F2X2_3X3)
    return less and pays_and_may_round(F4X4_3X3)(case)


def is_pointwise(case: Case) -> bool:
    """Whether outputs are inputs' pixels, one each: padding would add some."""
    fits = case.kernel == (1, 1) and case.groups == 1
    return fits and case.outputs == tuple(-(-size // step) for size, step in zip(case.inputs, case.stride, strict=True))


def is_depthwise(case: Case) -> bool:
    """Whether each filter sees one channel and each channel goes into one filter."""
    return case.groups == case.channels == case.filters > 1


TABLE = [
    Rule(POINTWISE, is_pointwise, "one tap: a product of matrices, a few pixels of all channels at a time"),
    Rule(F4X4_3X3, large_tiles_pay, "1 of 4 multiplications, with maps and pixels enough to pay for the transforms"),
    Rule(F2X2_3X3, pays(F2X2_3X3), "4 of 9 multiplications; larger tiles would round too much or not be faster"),
    Rule(F2X2_5X5, pays_and_may_round(F2X2_5X5), "9 of 25 multiplications, and they pay for the transforms"),
    Rule(DEPTHWISE, is_depthwise, "one channel to a filter: little to do for every value, which is asked for early"),
    Rule(DIRECT, lambda _: True, "nothing else has less to do"),
]


def choose(node: str, case: Case) -> Choice:
    """The first rule that holds."""
    rule = next(rule for rule in TABLE if rule.holds(case))
    return Choice(node, case.in_pass, rule.algorithm, rule.reason)
