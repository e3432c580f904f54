"""Image filters: kernels chosen by people, from before networks learned theirs. (A4, E1)

A kernel is what it looks for: bright where the picture looks like it. All slide as they are, as in networks:
y[i,j] = Σ_uv w[u,v] x[i+u, j+v], the cross-correlation of convolve.py, its window centred on the pixel.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from rot180.arrays import Array, Pair, number, text, whole
from rot180.convolve import correlate_maps, rot180
from rot180.errors import DataError, SettingError, ShapeError

Border: TypeAlias = Literal["zero", "replicate", "reflect", "wrap", "valid"]
Range: TypeAlias = Literal["clip", "absolute", "rescale"]
BORDERS: Final = get_args(Border)
RANGES: Final = get_args(Range)

LARGEST_KERNEL = 501  # values a side
LARGEST_VALUE = 1e30  # of a kernel from a file: no sum over a window of bytes leaves a float32
LARGEST_FILE = 2**22  # bytes of a kernel's file
SMALLEST_SIGMA = 0.1  # of a Gaussian, in pixels: below it only the middle is not 0
LARGEST_INTEGER = 2**24  # a float32 holds every whole number up to here
BAND = 2**20  # values that the windows of one band of rows may take: they stay in the processor's cache
FULL = 255.0  # of a picture's values


# --- kernels -----------------------------------------------------------------------------------------------------


def mean(size: int = 3) -> Array:
    """w[u,v] = 1/(U·V): the mean filter.                                                        (001, eq 10)"""
    return np.full((_side(size), size), 1 / size**2)


def gaussian(size: int = 5, sigma: float = 1.0) -> Array:
    """`gaussian_samples`, divided by their sum: a picture keeps its brightness."""
    samples = gaussian_samples(size, sigma)
    return samples / samples.sum()


def gaussian_samples(size: int = 5, sigma: float = 1.0) -> Array:
    """w[u,v] = exp(-(i² + j²)/2σ²) / 2πσ², with i, j counted from the middle: the template in decimals.

    They sum to nearly 1 where the window holds the whole bell (size ≥ 6σ). Document 001 prints 2πσ below the line
    (eq 12); 003 has the density's 2πσ².
    """
    if number(sigma, "sigma") < SMALLEST_SIGMA:
        raise SettingError(f"sigma is {sigma:g}: give at least {SMALLEST_SIGMA}, in pixels")
    i = np.arange(_side(size)) - (size - 1) / 2
    bell = np.exp(-(i**2) / (2 * sigma**2))
    return np.outer(bell, bell) / (2 * math.pi * sigma**2)


def gaussian_template(size: int = 3, sigma: float = 0.8) -> Array:
    """The template in whole numbers: every value over the top left one, its whole part taken.           (001)

    >>> gaussian_template(3, 0.8)
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])

    Applied, it is divided by its sum. Raises SettingError where the corner is so small against the middle that the
    numbers would not be exact in a float32.
    """
    gaussian_samples(1, sigma)  # for its checks
    i = np.arange(_side(size)) - (size - 1) / 2
    exponents = (i[0] ** 2 - i**2) / (2 * sigma**2)  # of the bell over its corner
    if 2 * exponents.max() >= math.log(LARGEST_INTEGER):
        raise SettingError(
            f"the corner of a Gaussian of size {size} with sigma {sigma:g} is too small to count the others in whole "
            f"numbers up to {LARGEST_INTEGER}: use a larger sigma, a smaller size or the template in decimals"
        )
    ratios = np.exp(np.add.outer(exponents, exponents))
    return np.floor(ratios * (1 + 1e-12))  # a ratio of 2 may have come out a hair below it


def moving_average(size: int = 3) -> Array:
    """[1/K, ..., 1/K] along the rows: the moving average of a signal. (A4, 001)"""
    return np.full((1, _side(size)), 1 / size)


def _side(size: int) -> int:
    if whole(size, "size") > LARGEST_KERNEL:
        raise SettingError(f"size is {size}: give at most {LARGEST_KERNEL}")
    return size


def _fixed(*rows: Sequence[float]) -> Callable[[], Array]:
    return lambda: np.array(rows, float)


@dataclass(frozen=True)
class Named:
    """A kernel of the list: what it shows, and the function that makes it, with its defaults."""

    shows: str
    make: Callable[..., Array]
    takes: tuple[str, ...] = ()


# As documents 001 and 003 print them, signs included; Scharr X with the corner that 003 misprints (-1 for -3).
KERNELS: Final[dict[str, Named]] = {
    "mean": Named("blurs: every neighbour counts the same", mean, ("size",)),
    "gaussian": Named("blurs: near neighbours count more; sums to 1", gaussian, ("size", "sigma")),
    "gaussian-samples": Named("the Gaussian's own values, as they are", gaussian_samples, ("size", "sigma")),
    "gaussian-template": Named("whole numbers, corner 1; divided by their sum", gaussian_template, ("size", "sigma")),
    "sobel-x": Named("brighter to the right: upright edges", _fixed((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))),
    "sobel-y": Named("brighter upwards: level edges", _fixed((1, 2, 1), (0, 0, 0), (-1, -2, -1))),
    "scharr-x": Named("as Sobel, truer for slanting edges", _fixed((-3, 0, 3), (-10, 0, 10), (-3, 0, 3))),
    "scharr-y": Named("brighter downwards: level edges", _fixed((-3, -10, -3), (0, 0, 0), (3, 10, 3))),
    "laplacian": Named("differs from its eight neighbours", _fixed((1, 1, 1), (1, -8, 1), (1, 1, 1))),
    "laplacian-4": Named("x'' + y'': differs from its four neighbours", _fixed((0, 1, 0), (1, -4, 1), (0, 1, 0))),
    "sharpen": Named("the picture minus its Laplacian", _fixed((0, -1, 0), (-1, 5, -1), (0, -1, 0))),
    "edge-vertical": Named("bright at the right of dark", _fixed((-1, -1, 5), (-1, -1, 5), (-1, -1, 5))),
    "edge-horizontal": Named("bright above dark", _fixed((5, 5, 5), (-1, -1, -1), (-1, -1, -1))),
    "line-vertical": Named("an upright line", _fixed((-1, 5, -1), (-1, 5, -1), (-1, 5, -1))),
    "line-horizontal": Named("a level line", _fixed((-1, -1, -1), (5, 5, 5), (-1, -1, -1))),
    "diagonal": Named("a line falling to the right", _fixed((5, -1, -1), (-1, 5, -1), (-1, -1, 5))),
    "antidiagonal": Named("a line rising to the right", _fixed((-1, -1, 5), (-1, 5, -1), (5, -1, -1))),
    "loop": Named("the upper stroke of a 9", _fixed((1, 1, 1), (1, -1, 1), (1, 1, 1))),
    "moving-average": Named("the mean along a row", moving_average, ("size",)),
    "second-difference": Named("x'' along a row", _fixed((1, -2, 1))),
    "decaying-echo": Named("now, 1/2 of before, 1/4 of before that", _fixed((1 / 4, 1 / 2, 1, 0, 0))),
}
MAGNITUDES: Final = {"sobel": ("sobel-x", "sobel-y"), "scharr": ("scharr-x", "scharr-y")}  # √(gx² + gy²)


def kernel(name: str, size: int | None = None, sigma: float | None = None) -> Array:
    """A kernel of KERNELS, float64; `size` and `sigma` for those that take them. Raises SettingError."""
    if name not in KERNELS:
        raise SettingError(f"there is no kernel {name!r}: choose one of {', '.join(KERNELS)}")
    named, given = KERNELS[name], {"size": size, "sigma": sigma}
    asked = {setting: value for setting, value in given.items() if value is not None}
    for setting in asked:
        if setting not in named.takes:
            takers = ", ".join(each for each, other in KERNELS.items() if setting in other.takes)
            raise SettingError(f"the kernel {name} has no {setting}: {takers} have one")
    return named.make(**asked)


def read_kernel(path: str | os.PathLike[str]) -> Array:
    """A kernel from a file: JSON ([[0, 1, 0], ...]), or a row a line, parted by commas, semicolons, spaces or tabs.

    Numbers as 0.5, 1e-3 or 1/9; what follows a # is a remark. Raises DataError, naming file and line.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > LARGEST_FILE:
        raise DataError(f"{path}: more than {LARGEST_FILE} bytes is no kernel")
    try:
        written = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text: give a matrix as CSV, text or JSON") from error
    rows = _json_rows(written, path) if written.lstrip().startswith(("[", "{")) else _text_rows(written)
    widths = {len(row) for _, row in rows}
    if not rows or 0 in widths:
        raise DataError(f"{path}: there are no numbers in it; give a matrix, a row a line")
    for where, row in rows:
        if len(row) != len(rows[0][1]):
            raise DataError(f"{path}, {where}: {len(row)} numbers, but the first row has {len(rows[0][1])}")
    if max(len(rows), *widths) > LARGEST_KERNEL:
        raise DataError(f"{path}: a kernel of {len(rows)}x{max(widths)}; at most {LARGEST_KERNEL} a side")
    return np.array([[_number(value, f"{path}, {where}") for value in row] for where, row in rows])


def _text_rows(written: str) -> list[tuple[str, list[object]]]:
    rows: list[tuple[str, list[object]]] = []
    for index, line in enumerate(written.splitlines(), 1):
        cells = line.partition("#")[0].strip().replace(";", ",")
        if cells:
            row = [cell.strip() for cell in cells.split(",")] if "," in cells else cells.split()
            rows.append((f"line {index}", [*row]))
    return rows


def _json_rows(written: str, path: Path) -> list[tuple[str, list[object]]]:
    try:
        matrix = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not the JSON it seems to be ({error})") from error
    if isinstance(matrix, list) and matrix and not any(isinstance(row, list) for row in matrix):
        matrix = [matrix]  # a signal's kernel is a row
    if not isinstance(matrix, list) or not all(isinstance(row, list) for row in matrix):
        raise DataError(f"{path}: give a list of rows, such as [[0, 1, 0], [1, -4, 1], [0, 1, 0]]")
    return [(f"row {index}", row) for index, row in enumerate(matrix, 1)]


def _number(value: object, where: str) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 40:
            raise ValueError
        above, slash, below = str(value).partition("/")
        parsed = float(above) / (float(below) if slash else 1)
        if not abs(parsed) <= LARGEST_VALUE:  # nor NaN
            raise ValueError
        return parsed
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise DataError(f"{where}: {str(value)[:40]!r} is not a number; write it as 0.5, 1e-3 or 1/9") from error


# --- filtering ---------------------------------------------------------------------------------------------------


def apply(x: Array, w: Array, border: Border = "replicate") -> Array:
    """y[...,i,j] = Σ_uv w[u,v] x[..., i+u-⌊(KH-1)/2⌋, j+v-⌊(KW-1)/2⌋]: every map by itself.      (E1, 003 二)

    x (..., H, W), w (KH, KW) or, along the rows, (KW,) -> float32 (..., H, W). Beyond the border lies: "zero" (as in
    a network), "replicate" the nearest pixel, "reflect" the picture mirrored at its outermost pixels, "wrap" its
    other side; "valid" gives only what needs nothing of that, (..., H-KH+1, W-KW+1).
    A kernel that is a column times a row is applied as one and then the other: KH + KW products a pixel, not KH·KW.
    Raises ShapeError where there is nothing to filter or, for "valid", the kernel does not fit.
    """
    x, w = np.asarray(x), np.atleast_2d(np.asarray(w, np.float64))
    if x.ndim < 2 or w.ndim != 2 or 0 in (*x.shape, *w.shape):
        raise ShapeError(f"give maps (..., H, W) and a kernel (KH, KW), not {text(x.shape)} and {text(w.shape)}")
    if border not in BORDERS:
        raise SettingError(f"border is {border!r}: choose one of {', '.join(BORDERS)}")
    (height, width), (kh, kw) = x.shape[-2:], w.shape
    if border == "valid" and (kh > height or kw > width):
        raise ShapeError(f"a kernel of {kh}x{kw} does not fit into {height}x{width}: use another border or kernel")
    maps = _bordered(np.asarray(x, np.float32).reshape(-1, height, width), (kh, kw), border)
    for part in _factors(w):
        maps = _slide(maps, part.astype(np.float32))
    return maps.reshape(*x.shape[:-2], *maps.shape[-2:])


def convolve(x: Array, w: Array, border: Border = "replicate") -> Array:
    """The true convolution: `apply` with the kernel turned by 180 degrees."""
    return apply(x, rot180(np.atleast_2d(w)), border)


def magnitude(x: Array, name: str = "sobel", border: Border = "replicate") -> Array:
    """√(gx² + gy²) of the two kernels of MAGNITUDES[name]: how strong an edge is, in whatever direction."""
    if name not in MAGNITUDES:
        raise SettingError(f"there is no magnitude {name!r}: choose one of {', '.join(MAGNITUDES)}")
    gx, gy = (apply(x, kernel(each), border) for each in MAGNITUDES[name])
    return np.hypot(gx, gy, out=gx)


def natural_range(w: Array) -> Range:
    """How to show what the kernel makes of a picture.

    Its values sum to 0 (it shows differences, of either sign): "absolute". To at most 1 (the picture grows no
    brighter): "clip". Otherwise "rescale".
    """
    total, rounding = float(w.sum()), 1e-6 * float(np.abs(w).sum())
    if abs(total) <= rounding:
        return "absolute"
    return "clip" if 0 < total <= 1 + rounding else "rescale"


def to_picture(y: Array, rule: Range) -> Array:
    """Values as bytes: "clip" to 0..255, the "absolute" value clipped, or "rescale" the smallest to 0, the largest 255.

    Rounded to the nearest. A map whose values are all equal is rescaled to 0.
    """
    if rule not in RANGES:
        raise SettingError(f"range is {rule!r}: choose one of {', '.join(RANGES)}")
    if rule == "absolute":
        y = np.abs(y)
    elif rule == "rescale":
        low, high = float(y.min()), float(y.max())
        y = (y - low) * (FULL / (high - low) if high > low else 0.0)
    return np.rint(np.clip(y, 0, FULL)).astype(np.uint8)


def _bordered(maps: Array, kernel_size: Pair, border: Border) -> Array:
    """Maps with what the border's rule puts around them."""
    if border == "valid":
        return maps
    around = [(0, 0), *(((k - 1) // 2, k // 2) for k in kernel_size)]
    modes = {"zero": "constant", "replicate": "edge", "reflect": "reflect", "wrap": "wrap"}
    return np.pad(maps, around, mode=modes[border])  # type: ignore[call-overload]


def _factors(w: Array) -> tuple[Array, ...]:
    """(column, row) whose product is w, where that saves products; else w itself."""
    kh, kw = w.shape
    i, j = np.unravel_index(np.abs(w).argmax(), w.shape)
    if kh + kw < kh * kw and w[i, j] != 0:
        column, row = w[:, j : j + 1] / w[i, j], w[i : i + 1]
        if np.abs(column * row - w).max() <= 1e-12 * abs(w[i, j]):
            return column, row
    return (w,)


def _slide(maps: Array, w: Array) -> Array:
    """convolve.py's correlation of every map, a band of rows at a time: all windows at once would not fit memory."""
    (kh, kw), (count, height, width) = w.shape, maps.shape
    out = np.empty((count, height - kh + 1, width - kw + 1), np.float32)
    rows = max(1, BAND // (kh * kw * out.shape[2]))
    for map_, y in zip(maps, out, strict=True):
        for top in range(0, len(y), rows):
            y[top : top + rows] = correlate_maps(map_[None, top : top + rows + kh - 1], w[None, None])[0]
    return out


# --- is this stroke in the picture? --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """Where a stroke was found: the row and column of its window's top left pixel; how well it fits, -1 to 1."""

    row: int
    column: int
    strength: float


def find_stroke(x: Array, w: Array, most: int = 1) -> list[Match]:
    """Whether, where and how strongly the stroke w is in the picture: a matched filter.             (E1, 003 二)

    x (H, W) of values from -1 (paper) to 1 (ink), w (KH, KW), the stroke, of the same. The strength of a window is
    Σ w·x / Σ|w|: 1 where every pixel is what the stroke asks for, -1 where every one is the opposite. Returns the
    `most` strongest windows, none of which overlaps a stronger one, strongest first. Raises ShapeError where the
    stroke is larger than the picture, SettingError where it is all zeros.
    """
    x, w = np.asarray(x), np.asarray(w)
    if x.ndim != 2 or w.ndim != 2:
        raise ShapeError(f"give a grey picture (H, W) and a stroke (KH, KW), not {text(x.shape)} and {text(w.shape)}")
    weight = float(np.abs(w).sum())
    if weight == 0:
        raise SettingError("the stroke is all zeros: it is everywhere")
    strengths, (kh, kw) = apply(x, w / weight, "valid"), w.shape
    matches = []
    for _ in range(min(whole(most, "the number of matches"), strengths.size)):
        row, column = (int(at) for at in np.unravel_index(strengths.argmax(), strengths.shape))
        if strengths[row, column] == -np.inf:
            break
        matches.append(Match(row, column, float(np.clip(strengths[row, column], -1, 1))))
        strengths[max(row - kh + 1, 0) : row + kh, max(column - kw + 1, 0) : column + kw] = -np.inf
    return matches
