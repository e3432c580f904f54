"""The lane operations, compiled: what a kernel imports.

twin.py says what each operation means; here stands, for each, how it becomes LLVM instructions. A vector is LLVM's
<16 x float> whatever the processor has, and a tile an array of vectors that LLVM takes apart into registers: neither
needs memory of its own, as long as `tile_fits`.

No instruction here may be reordered or fused (no "fast math"): product and sum are rounded once where `fma` or `outer`
is written and twice elsewhere, and sums over lanes have one order. So AVX2, AVX-512 and the twin give the same bits.

exp, log, tanh and sigmoid are written with the operations: each is its own twin.
"""

# Numba and llvmlite have no types:
# mypy: disable-error-code="attr-defined, import-untyped, misc, no-untyped-call, untyped-decorator"

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.core.typing import signature as typed
from numba.extending import (
    lower_builtin,
    lower_cast,
    models,
    register_model,
    type_callable,
)

from rot180.engines.lanes import twin
from rot180.engines.lanes.jit import PARAMETERS, RESULTS, Site, helper, operation
from rot180.engines.lanes.twin import (
    LANES,
    Column,
    Lanes,
    Mask,
    Operand,
    Size,
    Tile,
    absolute,
    binary_exponent,
    broadcast,
    fma,
    horizontal_sum,
    lane_numbers,
    load,
    load_bytes,
    mantissa,
    maximum,
    minimum,
    nearest_integer,
    outer,
    outer_lanes,
    power_of_two,
    prefetch,
    square_root,
    store,
    tile_add,
    tile_add_sums,
    tile_columns,
    tile_load,
    tile_load_bytes,
    tile_maximum,
    tile_minimum,
    tile_rows,
    tile_store,
    tile_sums,
    tile_zeros,
    transpose,
    where,
    zeros,
)

__all__ = [
    "LANES",
    "Column",
    "Lanes",
    "Mask",
    "Operand",
    "Size",
    "Tile",
    "absolute",
    "binary_exponent",
    "broadcast",
    "exp",
    "fma",
    "horizontal_sum",
    "lane_numbers",
    "load",
    "load_bytes",
    "log",
    "mantissa",
    "maximum",
    "minimum",
    "nearest_integer",
    "outer",
    "outer_lanes",
    "power_of_two",
    "prefetch",
    "sigmoid",
    "square_root",
    "store",
    "tanh",
    "tile_add",
    "tile_add_sums",
    "tile_columns",
    "tile_load",
    "tile_load_bytes",
    "tile_maximum",
    "tile_minimum",
    "tile_rows",
    "tile_store",
    "tile_sums",
    "tile_zeros",
    "transpose",
    "where",
    "zeros",
]

# --- types -----------------------------------------------------------------------------------------------------

FLOAT, INT8, INT32, INT64 = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
VECTOR, BITS, TRUTHS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT32, LANES), ir.VectorType(ir.IntType(1), LANES)
ZERO = ir.Constant(VECTOR, None)
UNDEFINED = ir.Constant(VECTOR, ir.Undefined)


class RegisterType(types.Type):
    """A Numba type whose values are LLVM's of one type: a Mask's vector of bits, and the types below."""

    def __init__(self, name: str, llvm: ir.Type) -> None:
        super().__init__(name)
        self.llvm = llvm


class LanesType(RegisterType):
    """Numba's type of Lanes; where they are expected, a number will do."""

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """Only as an argument: a variable cannot be first a number, then lanes."""
        return Conversion.unsafe if isinstance(other, types.Number) else None


class TileType(RegisterType):
    """Numba's type of a Tile: its vectors, row by row."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__(f"Tile({rows}, {columns})", ir.ArrayType(VECTOR, rows * columns))
        self.rows = rows
        self.columns = columns

    def places(self) -> Iterator[tuple[int, int, int]]:
        """(position, row, column) of each vector."""
        return ((r * self.columns + c, r, c) for r in range(self.rows) for c in range(self.columns))


LANES_TYPE, MASK_TYPE, COLUMN_TYPE = LanesType("Lanes", VECTOR), RegisterType("Mask", TRUTHS), TileType(LANES, 1)


class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: RegisterType) -> None:
        super().__init__(manager, kind, kind.llvm)


for numba_type in (RegisterType, LanesType, TileType):
    register_model(numba_type)(_Model)


def _only(wanted: RegisterType) -> Callable[[Any], Any]:
    return lambda given: given if given == wanted else None


PARAMETERS |= {
    Lanes: _only(LANES_TYPE),
    Operand: lambda given: LANES_TYPE if isinstance(given, types.Number) or given == LANES_TYPE else None,
    Mask: _only(MASK_TYPE),
    Tile: lambda given: given if isinstance(given, TileType) else None,
    Column: _only(COLUMN_TYPE),
    Size: lambda given: given if isinstance(given, types.IntegerLiteral) else None,
}


def _tile_type(arguments: Sequence[Any]) -> TileType:
    """A new tile has the size that its first two arguments give; another, that of the tile it is made from."""
    first, second = arguments[:2]
    return first if isinstance(first, TileType) else TileType(first.literal_value, second.literal_value)


RESULTS |= {
    Lanes: lambda _: LANES_TYPE,
    Mask: lambda _: MASK_TYPE,
    Tile: _tile_type,
    Column: lambda _: COLUMN_TYPE,
}

# --- the instructions that the emitters share ----------------------------------------------------------------------


def _constant(kind: ir.Type, value: float) -> ir.Constant:
    """The same number in every lane."""
    return ir.Constant(kind, [value] * LANES)


def _intrinsic(site: Site, name: str, *operands: Any) -> Any:
    """LLVM's operation of that name: vectors to vector."""
    kind = ir.FunctionType(VECTOR, [operand.type for operand in operands])
    return site.builder.call(cgutils.get_or_insert_function(site.builder.module, kind, f"llvm.{name}.v16f32"), operands)


def _shuffle(site: Site, x: Any, y: Any, order: Sequence[int]) -> Any:
    """The lanes of x (0 to 15) and y (16 to 31) in this order."""
    lanes = ir.Constant(ir.VectorType(INT32, len(order)), list(order))
    return site.builder.shuffle_vector(x, y, lanes)


def _splat(site: Site, number: Any) -> Any:
    return _shuffle(site, site.builder.insert_element(UNDEFINED, number, INT32(0)), UNDEFINED, [0] * LANES)


def _step(site: Site, index: Any, *strides: tuple[int, Any]) -> Any:
    """The index plus Σ count·stride."""
    for count, stride in strides:
        if count:
            index = site.builder.add(index, site.builder.mul(stride, INT64(count)))
    return index


def _get(site: Site, array: Any, index: Any) -> Any:
    """array[index], one number."""
    return site.builder.load(site.builder.gep(array, [index]))


def _load(site: Site, array: Any, index: Any) -> Any:
    vector = site.builder.load(site.builder.bitcast(site.builder.gep(array, [index]), VECTOR.as_pointer()))
    vector.align = 4  # as fast as an aligned one where the address is aligned, and correct where it is not
    return vector


def _store(site: Site, array: Any, index: Any, vector: Any) -> None:
    pointer = site.builder.bitcast(site.builder.gep(array, [index]), VECTOR.as_pointer())
    site.builder.store(vector, pointer).align = 4


def _load_bytes(site: Site, array: Any, byte: Any) -> Any:
    kind = ir.VectorType(INT8, LANES)
    start = site.builder.gep(site.builder.bitcast(array, INT8.as_pointer()), [byte])
    vector = site.builder.load(site.builder.bitcast(start, kind.as_pointer()))
    vector.align = 1
    return site.builder.uitofp(vector, VECTOR)


def _halve(site: Site, vector: Any) -> Any:
    """twin.halve."""
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        lower = _shuffle(site, vector, vector, range(lanes))
        vector = site.builder.fadd(lower, _shuffle(site, vector, vector, range(lanes, 2 * lanes)))
    return site.builder.extract_element(vector, INT32(0))


def _exchange(distance: int) -> tuple[list[int], list[int]]:
    """Two shuffles of x and y that keep the lanes without the bit `distance` of x, and those with it of y, in place.

    The first fills x's other lanes from y, the second y's from x: where 2 x 2 blocks are transposed, and where the
    halves of two vectors are to be added at once.
    """
    lanes = range(LANES)
    from_x = [LANES + lane - distance if lane & distance else lane for lane in lanes]
    from_y = [LANES + lane if lane & distance else lane + distance for lane in lanes]
    return from_x, from_y


def _larger(site: Site, ordering: str, x: Any, y: Any) -> Any:
    """The maximum (">") or minimum ("<"): one instruction, and two more for NaN unless y is a constant."""
    y_is_nan = site.builder.fcmp_unordered("uno", y, y)
    return site.builder.select(y_is_nan, y, site.builder.select(site.builder.fcmp_ordered(ordering, y, x), y, x))


# --- vectors of 16 ---------------------------------------------------------------------------------------------------

operation(load)(_load)
operation(store)(_store)
operation(load_bytes)(_load_bytes)
operation(broadcast)(_splat)
operation(zeros)(lambda _: ZERO)
operation(lane_numbers)(lambda _: ir.Constant(VECTOR, [float(lane) for lane in range(LANES)]))
operation(fma)(lambda site, x, y, z: _intrinsic(site, "fma", x, y, z))
operation(maximum)(lambda site, x, y: _larger(site, ">", x, y))
operation(minimum)(lambda site, x, y: _larger(site, "<", x, y))
operation(where)(lambda site, mask, x, y: site.builder.select(mask, x, y))
operation(absolute)(lambda site, x: _intrinsic(site, "fabs", x))
operation(square_root)(lambda site, x: _intrinsic(site, "sqrt", x))
operation(nearest_integer)(lambda site, x: _intrinsic(site, "rint", x))
operation(horizontal_sum)(_halve)


@operation(prefetch)
def _prefetch(site: Site, array: Any, index: Any) -> None:
    pointer = site.builder.bitcast(site.builder.gep(array, [index]), INT8.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, INT32, INT32, INT32])
    function = cgutils.get_or_insert_function(site.builder.module, kind, "llvm.prefetch.p0")
    to_read, into_all_caches, data = INT32(0), INT32(3), INT32(1)
    site.builder.call(function, [pointer, to_read, into_all_caches, data])


@operation(power_of_two)
def _power_of_two(site: Site, n: Any) -> Any:
    build = site.builder
    whole = build.bitcast(build.fadd(n, _constant(VECTOR, twin.MAGIC)), BITS)
    return build.bitcast(build.add(build.shl(whole, _constant(BITS, 23)), _constant(BITS, twin.ONE_BITS)), VECTOR)


@operation(binary_exponent)
def _binary_exponent(site: Site, x: Any) -> Any:
    build = site.builder
    distance = build.sub(build.bitcast(x, BITS), _constant(BITS, twin.ROOT_HALF_BITS))
    return build.sitofp(build.ashr(distance, _constant(BITS, 23)), VECTOR)


@operation(mantissa)
def _mantissa(site: Site, x: Any) -> Any:
    build, root_half = site.builder, _constant(BITS, twin.ROOT_HALF_BITS)
    fraction = build.and_(build.sub(build.bitcast(x, BITS), root_half), _constant(BITS, 0x7FFFFF))
    return build.bitcast(build.add(fraction, root_half), VECTOR)


# --- operators: lanes with lanes or numbers, masks with masks --------------------------------------------------


@lower_cast(types.Number, LanesType)
def _number_to_lanes(context: Any, builder: Any, given: Any, wanted: Any, value: Any) -> Any:
    number = context.cast(builder, value, given, types.float32)
    return _splat(Site(context, builder, wanted, [given]), number)


def _operator(
    symbols: Sequence[Callable[..., Any]], kind: RegisterType, result: RegisterType, emit: Callable[..., Any]
) -> None:
    """Compile a binary operator where one side is of this kind; a number on the other side becomes lanes."""

    def typer(x: Any, y: Any) -> Any:
        others = [side for side in (x, y) if side != kind]
        numbers = kind == LANES_TYPE and all(isinstance(side, types.Number) for side in others)
        return typed(result, kind, kind) if len(others) < 2 and (numbers or not others) else None

    for symbol in symbols:
        type_callable(symbol)(lambda _: typer)
        lower_builtin(symbol, kind, kind)(lambda _context, builder, _signature, values: emit(builder, *values))


def _comparison(sign: str) -> Callable[..., Any]:
    return lambda builder, x, y: builder.fcmp_ordered(sign, x, y)


_operator([operator.add, operator.iadd], LANES_TYPE, LANES_TYPE, lambda builder, x, y: builder.fadd(x, y))
_operator([operator.sub, operator.isub], LANES_TYPE, LANES_TYPE, lambda builder, x, y: builder.fsub(x, y))
_operator([operator.mul, operator.imul], LANES_TYPE, LANES_TYPE, lambda builder, x, y: builder.fmul(x, y))
_operator([operator.truediv, operator.itruediv], LANES_TYPE, LANES_TYPE, lambda builder, x, y: builder.fdiv(x, y))
_operator([operator.lt], LANES_TYPE, MASK_TYPE, _comparison("<"))
_operator([operator.le], LANES_TYPE, MASK_TYPE, _comparison("<="))
_operator([operator.gt], LANES_TYPE, MASK_TYPE, _comparison(">"))
_operator([operator.ge], LANES_TYPE, MASK_TYPE, _comparison(">="))
_operator([operator.eq], LANES_TYPE, MASK_TYPE, _comparison("=="))
_operator([operator.ne], LANES_TYPE, MASK_TYPE, lambda builder, x, y: builder.fcmp_unordered("!=", x, y))
_operator([operator.and_, operator.iand], MASK_TYPE, MASK_TYPE, lambda builder, x, y: builder.and_(x, y))
_operator([operator.or_, operator.ior], MASK_TYPE, MASK_TYPE, lambda builder, x, y: builder.or_(x, y))

for symbol, kind in ((operator.neg, LANES_TYPE), (operator.invert, MASK_TYPE)):
    type_callable(symbol)(lambda _, kind=kind: lambda x: kind if x == kind else None)
lower_builtin(operator.neg, LANES_TYPE)(lambda _context, builder, _signature, values: builder.fneg(values[0]))
lower_builtin(operator.invert, MASK_TYPE)(lambda _context, builder, _signature, values: builder.not_(values[0]))

# --- register tiles ------------------------------------------------------------------------------------------------


def _tile(site: Site, kind: TileType, vectors: Iterable[Any]) -> Any:
    """The tile of these vectors."""
    tile = ir.Constant(kind.llvm, ir.Undefined)
    for position, vector in enumerate(vectors):
        tile = site.builder.insert_value(tile, vector, position)
    return tile


def _vectors(site: Site, kind: TileType, tile: Any) -> list[Any]:
    """The vectors of this tile."""
    return [site.builder.extract_value(tile, position) for position, _, _ in kind.places()]


@operation(tile_zeros)
def _tile_zeros(site: Site, _rows: Any, _columns: Any) -> Any:
    return ir.Constant(site.result.llvm, None)


@operation(tile_load)
def _tile_load(
    site: Site, _rows: Any, _columns: Any, array: Any, index: Any, row_stride: Any, column_stride: Any
) -> Any:
    places = (_step(site, index, (r, row_stride), (c, column_stride)) for _, r, c in site.result.places())
    return _tile(site, site.result, (_load(site, array, place) for place in places))


@operation(tile_load_bytes)
def _tile_load_bytes(
    site: Site, _rows: Any, _columns: Any, array: Any, byte: Any, row_stride: Any, column_stride: Any
) -> Any:
    places = (_step(site, byte, (r, row_stride), (c, column_stride)) for _, r, c in site.result.places())
    return _tile(site, site.result, (_load_bytes(site, array, place) for place in places))


@operation(tile_rows)
def _tile_rows(site: Site, _rows: Any, _columns: Any, array: Any, index: Any, stride: Any) -> Any:
    kind = site.result
    numbers = [_splat(site, _get(site, array, _step(site, index, (r, stride)))) for r in range(kind.rows)]
    return _tile(site, kind, (numbers[r] for _, r, _ in kind.places()))


@operation(tile_columns)
def _tile_columns(site: Site, _rows: Any, _columns: Any, array: Any, index: Any, stride: Any) -> Any:
    kind = site.result
    vectors = [_load(site, array, _step(site, index, (c, stride))) for c in range(kind.columns)]
    return _tile(site, kind, (vectors[c] for _, _, c in kind.places()))


@operation(tile_store)
def _tile_store(site: Site, tile: Any, array: Any, index: Any, row_stride: Any, column_stride: Any) -> None:
    kind = site.arguments[0]
    for vector, (_, r, c) in zip(_vectors(site, kind, tile), kind.places(), strict=True):
        _store(site, array, _step(site, index, (r, row_stride), (c, column_stride)), vector)


@operation(tile_add)
def _tile_add(site: Site, tile: Any, array: Any, index: Any, row_stride: Any, column_stride: Any) -> Any:
    kind = site.result
    places = (_step(site, index, (r, row_stride), (c, column_stride)) for _, r, c in kind.places())
    pairs = zip(_vectors(site, kind, tile), places, strict=True)
    return _tile(site, kind, (site.builder.fadd(vector, _load(site, array, place)) for vector, place in pairs))


@operation(tile_maximum)
def _tile_maximum(site: Site, tile: Any, value: Any) -> Any:
    return _tile(site, site.result, (_larger(site, ">", x, value) for x in _vectors(site, site.result, tile)))


@operation(tile_minimum)
def _tile_minimum(site: Site, tile: Any, value: Any) -> Any:
    return _tile(site, site.result, (_larger(site, "<", x, value) for x in _vectors(site, site.result, tile)))


def _multiply_add(site: Site, tile: Any, left: Callable[[int], Any], right: Callable[[int], Any]) -> Any:
    """tile[r,c] + left(r)·right(c).

    The columns are kept in registers; each row's factor is loaded only where it is used. All of them in front would
    leave LLVM with more vectors than there are registers.
    """
    columns = [right(c) for c in range(site.result.columns)]
    totals, sums = iter(_vectors(site, site.result, tile)), []
    for r in range(site.result.rows):
        factor = left(r)
        sums += [_intrinsic(site, "fma", factor, column, next(totals)) for column in columns]
    return _tile(site, site.result, sums)


@operation(outer)
def _outer(site: Site, tile: Any, w: Any, w_index: Any, w_stride: Any, x: Any, x_index: Any, x_stride: Any) -> Any:
    def number(r: int) -> Any:
        return _splat(site, _get(site, w, _step(site, w_index, (r, w_stride))))

    return _multiply_add(site, tile, number, lambda c: _load(site, x, _step(site, x_index, (c, x_stride))))


@operation(outer_lanes)
def _outer_lanes(
    site: Site, tile: Any, w: Any, w_index: Any, w_stride: Any, x: Any, x_index: Any, x_stride: Any
) -> Any:
    def vector(r: int) -> Any:
        return _load(site, w, _step(site, w_index, (r, w_stride)))

    return _multiply_add(site, tile, vector, lambda c: _load(site, x, _step(site, x_index, (c, x_stride))))


@operation(tile_sums)
def _tile_sums(site: Site, tile: Any) -> Any:
    """_halve for 16 vectors at once: each step adds the halves of two vectors and leaves the sums in one."""
    vectors, distance = _vectors(site, COLUMN_TYPE, tile), LANES
    while distance > 1:
        distance //= 2
        from_x, from_y = _exchange(distance)
        pairs = zip(vectors[:distance], vectors[distance:], strict=True)
        vectors = [site.builder.fadd(_shuffle(site, x, y, from_x), _shuffle(site, x, y, from_y)) for x, y in pairs]
    return vectors[0]


@operation(tile_add_sums)
def _tile_add_sums(site: Site, tile: Any, array: Any, index: Any, row_stride: Any, column_stride: Any) -> None:
    kind = site.arguments[0]
    for vector, (_, r, c) in zip(_vectors(site, kind, tile), kind.places(), strict=True):
        place = site.builder.gep(array, [_step(site, index, (r, row_stride), (c, column_stride))])
        site.builder.store(site.builder.fadd(site.builder.load(place), _halve(site, vector)), place)


@operation(transpose)
def _transpose(site: Site, tile: Any) -> Any:
    """2 x 2 blocks of 8 x 8, then of 4 x 4, 2 x 2 and 1: 64 shuffles."""
    vectors, distance = _vectors(site, COLUMN_TYPE, tile), LANES
    while distance > 1:
        distance //= 2
        from_x, from_y = _exchange(distance)
        for upper in range(LANES):
            if not upper & distance:
                x, y = vectors[upper], vectors[upper + distance]
                vectors[upper] = _shuffle(site, x, y, from_x)
                vectors[upper + distance] = _shuffle(site, x, y, from_y)
    return _tile(site, COLUMN_TYPE, vectors)


# --- functions -----------------------------------------------------------------------------------------------------
#
# The polynomials interpolate at Chebyshev's nodes of their interval; the highest power's coefficient comes first.
# ln 2 is split so that its upper part times a whole number of up to 9 bits is exact.

LOG2_E, LN2_UPPER, LN2_LOWER = 1.44269504, 0.693359375, -2.12194440e-4
EXP = (1.3926250394e-3, 8.3632329479e-3, 4.1666552424e-2, 1.6666576266e-1, 0.5)
LOG = (
    *(6.9716118276e-2, -1.1479733884e-1, 1.1685419828e-1, -1.2425687164e-1, 1.4249058068e-1),
    *(-1.6667802632e-1, 2.0000715554e-1, -2.4999997020e-1, 3.3333331347e-1),
)
TANH = (-6.0967141762e-3, 2.0997179672e-2, -5.3850907832e-2, 1.3332769275e-1, -3.3333328366e-1)
SMALLEST_NORMAL = 2.0**-126


@helper
def polynomial(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    """Horner's rule."""
    value = broadcast(coefficients[0])
    for coefficient in coefficients[1:]:
        value = fma(value, x, coefficient)
    return value


@helper
def exp(x: Lanes) -> Lanes:
    """e^x to 1.1 ulp: x = n·ln 2 + r with |r| ≤ ln 2 / 2, so e^x = 2^n·e^r."""
    x = minimum(maximum(x, -104.0), 89.0)  # beyond lie 0 and infinity
    n = nearest_integer(x * LOG2_E)
    r = fma(n, -LN2_LOWER, fma(n, -LN2_UPPER, x))
    power = fma(r * r, polynomial(r, EXP), r) + 1.0
    half = nearest_integer(n * 0.5)  # two factors: one alone does not reach the subnormal numbers
    return power * power_of_two(half) * power_of_two(n - half)


@helper
def log(x: Lanes) -> Lanes:
    """The natural logarithm to 1 ulp: x = m·2^e, so ln x = e·ln 2 + ln m. -∞ at 0, NaN below."""
    subnormal = x < SMALLEST_NORMAL
    normal = where(subnormal, x * 2.0**23, x)
    e = binary_exponent(normal) - where(subnormal, 23.0, 0.0)
    f = mantissa(normal) - 1.0
    square = f * f
    tail = fma(square, -0.5, fma(e, LN2_LOWER, f * square * polynomial(f, LOG)))
    value = fma(e, LN2_UPPER, f + tail)
    value = where(x == np.inf, x, value)
    return where(x > 0.0, value, where(x == 0.0, -np.inf, np.nan))


@helper
def tanh(x: Lanes) -> Lanes:
    """The hyperbolic tangent to 2 ulp: x + x³·P(x²) near 0, else ±(1 - 2/(e^2|x| + 1))."""
    magnitude, square = absolute(x), x * x
    near = fma(x * square, polynomial(square, TANH), x)
    far = 1.0 - 2.0 / (exp(magnitude * 2.0) + 1.0)
    return where(magnitude < 0.625, near, where(x < 0.0, -far, far))


@helper
def sigmoid(x: Lanes) -> Lanes:
    """1/(1 + e^-x) to 3 ulp; 0 below -89, where it would be subnormal."""
    return 1.0 / (exp(-x) + 1.0)
