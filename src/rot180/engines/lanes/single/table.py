"""What is chosen for one image: the register tile, what lies in the lanes, and whether a convolution goes by Winograd's
algorithm.

All are counted in multiply-adds of a vector, and in what takes as long: the least is taken. The constants were fitted
to times measured on one Zen 5 core with AVX-512, for the convolutions of ResNet-18 (32x32 and 224x224) and ResNet-20.
"""

from math import prod

from rot180.arrays import Shape, pair
from rot180.engines.lanes.jit import tile_fits
from rot180.engines.lanes.single.layout import vectors
from rot180.engines.lanes.table import DIRECT, F2X2_3X3, F2X2_5X5, F4X4_3X3, Algorithm, Case, Choice, Pass, Variant
from rot180.layers import Convolution

# --- register tiles --------------------------------------------------------------------------------------------

ROWS = 14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1
COLUMNS = 8, 6, 4, 3, 2, 1


def tile_for(pixels: int, filter_vectors: int) -> tuple[int, int]:
    """(rows, columns) for so many pixels by vectors of filters: the tile that takes the least time."""
    sizes = [(r, c) for r in ROWS for c in COLUMNS if r <= pixels and c <= filter_vectors and tile_fits(r, c)]

    def cost(tile: tuple[int, int]) -> int:
        r, c = tile
        steps = -(-pixels // r) * -(-filter_vectors // c)
        return steps * (max(r * c, r + c, 8) + 1)  # multiply-adds, or loads, or the wait for the last sum; and the loop

    return min(sizes, key=cost)


# --- algorithms --------------------------------------------------------------------------------------------------

VARIANTS = F4X4_3X3, F2X2_3X3, F2X2_5X5
TRANSFORM = 16  # multiply-adds that the transform of a tile takes as long as, for each tap and vector of channels
CACHED = 2**18  # weights: up to so many stay in the nearer caches
READ = {True: 3, False: 15}  # multiply-adds that a vector of weights takes to arrive, from the nearer caches or not
GAIN = 0.9  # of the direct kernels' work, at most: less gained would not be worth the rounding


def case_of(layer: Convolution, shape: Shape, precise: bool) -> Case:
    """What a choice depends on, for inputs of this shape."""
    _, *outputs = layer.output_shape(shape)
    return Case(
        in_pass=Pass.FORWARD,
        channels=shape[0],
        filters=layer.filters,
        kernel=pair(layer.size, "size"),
        stride=pair(layer.stride, "stride"),
        dilation=pair(layer.dilation, "dilation"),
        groups=layer.groups,
        inputs=(shape[1], shape[2]),
        outputs=(outputs[0], outputs[1]),
        image_groups=1,
        precise=precise,
    )


def work(case: Case, algorithm: Algorithm) -> int:
    """What the algorithm has to do."""
    filter_vectors = vectors(case.filters)
    points, pixels, transforms = prod(case.kernel), prod(case.outputs), 0
    if isinstance(algorithm, Variant):
        points, pixels = algorithm.taps**2, prod(-(-size // algorithm.size) for size in case.outputs)
        transforms = pixels * TRANSFORM * (vectors(case.channels) + filter_vectors)
    weights = points * case.channels * case.filters
    return points * ((pixels + READ[weights <= CACHED]) * case.channels * filter_vectors + transforms)


def can(case: Case, variant: Variant) -> bool:
    """Does Winograd's variant compute this convolution, as precisely as it must be? Six taps lose a digit."""
    fits = case.kernel == (variant.kernel,) * 2 and case.stride == case.dilation == (1, 1) and case.groups == 1
    return fits and not (case.precise and variant.taps == 6)


def choose(node: str, case: Case) -> Choice:
    """The algorithm of least work."""
    direct = work(case, DIRECT)
    least = {v: work(case, v) for v in VARIANTS if can(case, v) and work(case, v) <= GAIN * direct}
    algorithm = min(least, key=lambda variant: least[variant]) if least else DIRECT
    amount = work(case, algorithm) / direct
    return Choice(node, case.in_pass, algorithm, f"{amount:.2f} of the direct kernels' work" if least else "least work")


# --- what lies in the lanes ------------------------------------------------------------------------------------

MOVE = 1  # multiply-adds that an output takes as long as, to leave its own lane and lie beside its pixel's others


def pixels_fill_lanes(case: Case) -> bool:
    """Does a convolution of the image, by whichever algorithm, have less to do with pixels in the lanes?

    So it is with few filters, where channels would leave lanes empty. Neighbours in a row must read neighbours.
    """
    steps = prod(case.kernel) * case.channels * case.outputs[0]
    with_pixels = case.filters * (steps * vectors(case.outputs[1]) + MOVE * prod(case.outputs))
    with_filters = min(
        work(case, each) for each in (DIRECT, *VARIANTS) if not isinstance(each, Variant) or can(case, each)
    )
    return case.stride[1] == case.groups == 1 and with_pixels <= GAIN * with_filters


def pixels_chosen(node: str, case: Case) -> Choice:
    """What is to be said of it."""
    return Choice(node, case.in_pass, DIRECT, f"pixels in the lanes: {case.filters} filters would leave lanes empty")
