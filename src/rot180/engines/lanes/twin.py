"""The lane operations, defined: what each one means, on NumPy arrays.

Every function here is its own plain-Python twin. Called from Python it computes with arrays; in a kernel simd.py
compiles the same name to a few instructions, with the same rounding at each step, so that both give the same bits:

    Lanes  16 float32 numbers, one per image                     an array (16,)
    Mask   16 truth values, from comparing lanes                 an array (16,) of bool
    Tile   R x C lanes, held in registers                        an array (R, C, 16)

A kernel is therefore a Python function that can also be stepped through in a debugger. An index counts floats from
the start of an array and may be any number; a load or a store is fastest where it is a multiple of 16. An index outside
the array raises IndexError here; compiled, it is a memory fault.
"""

from typing import Annotated, Any, TypeAlias

import numpy as np

from rot180.arrays import Array

LANES = 16  # images in one vector, whatever the processor: AVX2 and NEON use several registers for one vector

Lanes: TypeAlias = Annotated[Array, "lanes"]
Operand: TypeAlias = Annotated[Array | float, "lanes"]  # a number stands for the same number in every lane
Mask: TypeAlias = Annotated[Array, "mask"]
Tile: TypeAlias = Annotated[Array, "tile"]
Column: TypeAlias = Annotated[Array, "column"]  # a Tile of 16 x 1
Size: TypeAlias = Annotated[int, "size"]  # a number that is known when the kernel is compiled

# --- vectors of 16 -------------------------------------------------------------------------------------------


def load(array: Array, index: int) -> Lanes:
    """array[index .. index+15]."""
    return _vectors(array, np.array(index))


def store(array: Array, index: int, value: Operand) -> None:
    """array[index .. index+15] = value."""
    _assign(array, np.array(index), value)


def prefetch(array: Array, index: int) -> None:
    """Tell the processor that array[index] is needed soon; any index will do, also one outside the array."""


def load_bytes(array: Array, byte: int) -> Lanes:
    """The 16 unsigned bytes that start `byte` bytes into the array, as numbers from 0 to 255."""
    return _within(array.view(np.uint8), byte + np.arange(LANES)).astype(np.float32)


def zeros() -> Lanes:
    """0 in every lane."""
    return np.zeros(LANES, np.float32)


def broadcast(value: float) -> Lanes:
    """The same number in every lane."""
    return np.full(LANES, value, np.float32)


def lane_numbers() -> Lanes:
    """0, 1, ..., 15: `lane_numbers() < images` tells the lanes that hold an image."""
    return np.arange(LANES, dtype=np.float32)


def fma(x: Operand, y: Operand, z: Operand) -> Lanes:
    """x·y + z, rounded once."""
    # The product of two float32 is exact in float64. Its sum with z is not; but rounded to odd, instead of to nearest,
    # it still tells the second rounding, to float32, on which side of the middle it lies.
    with np.errstate(all="ignore"):
        x, y, addend = (np.asarray(operand, np.float32).astype(np.float64) for operand in (x, y, z))
        product = x * y
        total = np.asarray(product + addend)
        error = (product - (total - (total - product))) + (addend - (total - product))
        odd = (total.view(np.int64) & 1).astype(bool)
        towards = np.where(error > 0, np.inf, -np.inf)
        inexact = np.isfinite(total) & (error != 0) & ~odd
        return np.where(inexact, np.nextafter(total, towards), total).astype(np.float32)


def maximum(x: Operand, y: Operand) -> Lanes:
    """The larger one; NaN where either is NaN; x where they are equal."""
    return np.where((np.asarray(y) > x) | np.isnan(y), y, x).astype(np.float32)


def minimum(x: Operand, y: Operand) -> Lanes:
    """The smaller one; NaN where either is NaN; x where they are equal."""
    return np.where((np.asarray(y) < x) | np.isnan(y), y, x).astype(np.float32)


def where(mask: Mask, x: Operand, y: Operand) -> Lanes:
    """In the lanes where the mask is true x, in the others y."""
    return np.where(mask, x, y).astype(np.float32)


def absolute(x: Lanes) -> Lanes:
    """|x|."""
    return np.abs(x)


def square_root(x: Lanes) -> Lanes:
    """√x, NaN below 0."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


def nearest_integer(x: Lanes) -> Lanes:
    """Rounded to a whole number, halves to the even one."""
    return np.rint(x)


def power_of_two(n: Lanes) -> Lanes:
    """2^n for whole numbers n from -126 to 127; without meaning for others."""
    with np.errstate(all="ignore"):
        shifted = (np.asarray(n, np.float32) + np.float32(MAGIC)).view(np.uint32)
        return ((shifted << np.uint32(23)) + np.uint32(ONE_BITS)).view(np.float32)


def binary_exponent(x: Lanes) -> Lanes:
    """The whole number e of x = m·2^e with √½ ≤ m < √2; for normal numbers above 0, without meaning for others."""
    return ((x.view(np.int32) - np.int32(ROOT_HALF_BITS)) >> np.int32(23)).astype(np.float32)


def mantissa(x: Lanes) -> Lanes:
    """The m of x = m·2^e with √½ ≤ m < √2; for normal numbers above 0, without meaning for others."""
    bits = x.view(np.int32) - np.int32(ROOT_HALF_BITS)
    return ((bits & np.int32(0x7FFFFF)) + np.int32(ROOT_HALF_BITS)).view(np.float32)


def horizontal_sum(x: Lanes) -> float:
    """The sum over the 16 lanes, always in this order: halves onto each other, 16 -> 8 -> 4 -> 2 -> 1."""
    return float(halve(x))


MAGIC = 1.5 * 2**23  # adding it to a whole number leaves that number in the float's lowest bits
ONE_BITS = 0x3F800000  # the bits of 1.0
ROOT_HALF_BITS = 0x3F3504F3  # the bits of √½

# --- register tiles --------------------------------------------------------------------------------------------
#
# A tile is a value, as lanes are: every function that changes one returns the new tile.


def tile_zeros(rows: Size, columns: Size) -> Tile:
    """tile[r,c] = 0."""
    return np.zeros((rows, columns, LANES), np.float32)


def tile_load(rows: Size, columns: Size, array: Array, index: int, row_stride: int, column_stride: int) -> Tile:
    """tile[r,c] = the lanes at array[index + r·row_stride + c·column_stride]."""
    return _vectors(array, _places(rows, columns, index, row_stride, column_stride))


def tile_load_bytes(rows: Size, columns: Size, array: Array, byte: int, row_stride: int, column_stride: int) -> Tile:
    """tile[r,c] = load_bytes(array, byte + r·row_stride + c·column_stride)."""
    places = _places(rows, columns, byte, row_stride, column_stride)
    return _within(array.view(np.uint8), places[..., None] + np.arange(LANES)).astype(np.float32)


def tile_rows(rows: Size, columns: Size, array: Array, index: int, stride: int) -> Tile:
    """tile[r,c] = broadcast(array[index + r·stride]): a bias for each row."""
    return np.tile(_within(array, _places(rows, columns, index, stride, 0))[..., None], LANES)


def tile_columns(rows: Size, columns: Size, array: Array, index: int, stride: int) -> Tile:
    """tile[r,c] = the lanes at array[index + c·stride]: a bias for each column, where lanes are channels."""
    return _vectors(array, _places(rows, columns, index, 0, stride))


def tile_store(tile: Tile, array: Array, index: int, row_stride: int, column_stride: int) -> None:
    """The lanes at array[index + r·row_stride + c·column_stride] = tile[r,c]; places must not overlap."""
    _assign(array, _places(*_size(tile), index, row_stride, column_stride), tile)


def tile_add(tile: Tile, array: Array, index: int, row_stride: int, column_stride: int) -> Tile:
    """tile[r,c] + the lanes at array[index + r·row_stride + c·column_stride]."""
    return tile + _vectors(array, _places(*_size(tile), index, row_stride, column_stride))


def tile_maximum(tile: Tile, value: Operand) -> Tile:
    """maximum(tile[r,c], value): ReLU with value 0."""
    return maximum(tile, value)


def tile_minimum(tile: Tile, value: Operand) -> Tile:
    """minimum(tile[r,c], value)."""
    return minimum(tile, value)


def outer(tile: Tile, w: Array, w_index: int, w_stride: int, x: Array, x_index: int, x_stride: int) -> Tile:
    """fma(w[w_index + r·w_stride], the lanes at x[x_index + c·x_stride], tile[r,c]): numbers by vectors.

    R + C loads for R·C multiply-adds: the inner step of every convolution and every dense layer.
    """
    numbers = _within(w, w_index + w_stride * np.arange(tile.shape[0]))
    vectors = _vectors(x, x_index + x_stride * np.arange(tile.shape[1]))
    return fma(numbers[:, None, None], vectors[None], tile)


def outer_lanes(tile: Tile, w: Array, w_index: int, w_stride: int, x: Array, x_index: int, x_stride: int) -> Tile:
    """fma(the lanes at w[w_index + r·w_stride], the lanes at x[x_index + c·x_stride], tile[r,c]): lane by lane.

    Each lane keeps its own sum, of its own image: a weight gradient once tile_sums or tile_add_sums has added them up.
    """
    left = _vectors(w, w_index + w_stride * np.arange(tile.shape[0]))
    right = _vectors(x, x_index + x_stride * np.arange(tile.shape[1]))
    return fma(left[:, None], right[None], tile)


def tile_sums(tile: Column) -> Lanes:
    """Lane r = horizontal_sum(tile[r,0]), to the same bits, of 16 rows at once."""
    return np.asarray(halve(tile[:, 0]))


def tile_add_sums(tile: Tile, array: Array, index: int, row_stride: int, column_stride: int) -> None:
    """array[index + r·row_stride + c·column_stride] += horizontal_sum(tile[r,c]); places must not overlap."""
    places = _places(*_size(tile), index, row_stride, column_stride)
    array[places] = _within(array, places) + halve(tile)


def transpose(tile: Column) -> Column:
    """Rows and lanes exchanged: lane n of row r is lane r of row n."""
    return tile[:, 0].T[:, None].copy()


def halve(x: Array) -> Any:
    """(..., 16) -> (...): the upper half added to the lower one until a single number is left."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        x = x[..., :half] + x[..., half:]
    return x[..., 0]


def _size(tile: Tile) -> tuple[int, int]:
    return tile.shape[0], tile.shape[1]


def _places(rows: int, columns: int, index: int, row_stride: int, column_stride: int) -> Array:
    """(R,C): where each vector of a tile starts."""
    return index + row_stride * np.arange(rows)[:, None] + column_stride * np.arange(columns)


def _within(array: Array, places: Array) -> Array:
    """array[places], where NumPy would count a negative index from the end."""
    if places.min() < 0:
        raise IndexError(f"index {places.min()} is before the array's start")
    return array[places]


def _vectors(array: Array, places: Array) -> Array:
    """The vectors that start there: (...) -> (..., 16)."""
    return _within(array, places[..., None] + np.arange(LANES))


def _assign(array: Array, places: Array, values: Operand) -> None:
    """Store the vectors that start there."""
    everywhere = places[..., None] + np.arange(LANES)
    _within(array, everywhere)
    array[everywhere] = values
