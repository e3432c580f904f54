"""How images come into the lanes: taken in order, varied as data/augmentation.py says, scaled, 16 side by side.

What chance decides of a whole image is drawn before (Augmentation.draw); the noise of an elastic field, a number for
each pixel and direction, is drawn here, for 16 images at a time.
"""

from math import floor
from typing import Any, NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.chance import Use
from rot180.data.augmentation import AS_THEY_ARE, WORDS, Augmentation, gaussian
from rot180.engines.lanes.chance import GAMMA, SIXTEEN_BITS, extend, mix
from rot180.engines.lanes.jit import helper
from rot180.engines.lanes.layout import Maps
from rot180.engines.lanes.simd import LANES, broadcast, fma, load, store, zeros

LAYER = int(Use.LAYER)
FIRST_NOISE = WORDS + 1  # SplitMix64 counts from 1
TWENTY_FOUR_BITS = 2**24 - 1
HALF_OF_THEM = 2.0**-23


class Variation(NamedTuple):
    """How images are varied; arrays go along with the order."""

    acts: int  # 0: not at all
    resamples: int  # 0: pixels only change places
    places: Array  # float64 (m·6,): the affine map from a pixel to where it is read
    cutout: int  # the side of the square that becomes 0
    cuts: Array  # int64 (m·2,): where it begins
    keys: Array  # uint64 (m + LANES,): for the noise
    weights: Array  # float32: the Gaussian that smooths it; none: no elastic field
    alpha: float
    field: Array  # float32 (threads, 3·H·W·LANES): room for it


class Images(NamedTuple):
    """Where images and labels come from, and how they are read."""

    bytes: Array  # uint8, (n·C·H·W,), or empty
    floats: Array  # float32, likewise; one of the two is given
    labels: Array  # int64, (n,)
    order: Array  # int64: which image is taken when
    low: Array  # float32, (C,): a pixel v of channel c becomes low[c] + v · scale[c]
    scale: Array
    variation: Variation
    seed: int
    step: int  # the first update's number, for layers that need chance
    first_image: int  # position in the batch of the first image at hand


def variation(
    augmentation: Augmentation, size: tuple[int, int], seed: int, epoch: int, order: Array, threads: int
) -> Variation:
    """What the augmentation draws for the images (H x W) of this order."""
    draws = augmentation.draw(size, seed, epoch, order if augmentation else order[:0])
    alpha, sigma = augmentation.elastic or (0.0, 0.0)
    weights = gaussian(sigma) if sigma else np.empty(0)
    return Variation(
        acts=int(bool(augmentation)),
        resamples=int(not augmentation.only_moves),
        places=np.ascontiguousarray(draws.places).reshape(-1),
        cutout=augmentation.cutout,
        cuts=draws.cuts.reshape(-1),
        keys=np.append(draws.keys, np.zeros(LANES, np.uint64)),
        weights=weights.astype(np.float32),
        alpha=float(alpha),
        field=np.zeros((threads, 3 * size[0] * size[1] * LANES if sigma else 0), np.float32),
    )


def unvaried() -> Variation:
    """Images as they are."""
    return variation(AS_THEY_ARE, (1, 1), 0, 0, np.empty(0, np.int64), 1)


@helper
def read_group(
    images: Images,
    to: Maps,
    label: int,
    A: Array,
    order: int,
    position: int,
    batch: int,
    step: int,
    thread: int,
) -> None:
    """Lay the 16 images from this position of the batch on into the lanes of a group's maps `to`, and what the losses
    and layers must know of them into the values that begin at `label`.

    `order` is where the batch begins in the order, `batch` its size: lanes behind its end hold zeros and weigh nothing.
    """
    chance = extend(extend(extend(np.uint64(0), LAYER), images.seed), step)
    if len(images.variation.weights) > 0:
        draw_field(images.variation, images.variation.field[thread], to, order + position)
    for n in range(LANES):
        exists = position + n < batch
        turn = order + position + n
        index = images.order[turn] if exists else 0
        A[label + n] = float(images.labels[index]) if exists else 0.0
        A[label + LANES + n] = np.float32(1.0) / np.float32(batch) if exists else 0.0
        for part in range(4):
            A[label + (2 + part) * LANES + n] = float((chance >> np.uint64(48 - 16 * part)) & np.uint64(SIXTEEN_BITS))
        A[label + 6 * LANES + n] = float(images.first_image + position + n)
        if not exists:
            for c in range(to.channels):
                fill(to, c, n, A, 0, to.height, 0, to.width, np.float32(0.0))
        elif images.variation.resamples:
            read_resampled(images, images.variation, images.variation.field[thread], to, n, A, index, turn)
        else:
            read_moved(images, images.variation, to, n, A, index, turn)
        if exists and images.variation.cutout > 0:
            side, top = images.variation.cutout, images.variation.cuts[2 * turn]
            left = images.variation.cuts[2 * turn + 1]
            rows, columns = (max(0, top), min(to.height, top + side)), (max(0, left), min(to.width, left + side))
            for c in range(to.channels):
                fill(to, c, n, A, rows[0], rows[1], columns[0], columns[1], images.low[c])


@helper
def fill(to: Maps, c: int, n: int, A: Array, top: int, bottom: int, left: int, right: int, value: Any) -> None:
    """One value in a rectangle of lane n of a map."""
    for i in range(top, bottom):
        here = to.start + c * to.plane + i * to.line + n
        for j in range(left, right):
            A[here + j * LANES] = value


@helper
def read_moved(images: Images, variation: Variation, to: Maps, n: int, A: Array, index: int, turn: int) -> None:
    """Lane n: the image, mirrored or not, moved by whole pixels."""
    down, right, way = 0, 0, 1
    if variation.acts:
        way = int(variation.places[6 * turn + 4])
        down, right = int(variation.places[6 * turn + 2]), int(variation.places[6 * turn + 5])
    # Columns j that are seen: 0 <= right + way · j < width.
    first = max(0, -right) if way > 0 else max(0, right - to.width + 1)
    last = min(to.width, to.width - right) if way > 0 else min(to.width, right + 1)
    pixels = to.channels * to.height * to.width
    for c in range(to.channels):
        low, scale = images.low[c], images.scale[c]
        for i in range(to.height):
            here = to.start + c * to.plane + i * to.line + n
            seen = 0 <= i + down < to.height
            if not seen or first > 0 or last < to.width:
                for j in range(to.width):
                    A[here + j * LANES] = low
            if seen:
                source = index * pixels + (c * to.height + i + down) * to.width + right
                if len(images.bytes) > 0:
                    for j in range(first, last):
                        A[here + j * LANES] = np.float32(images.bytes[source + way * j]) * scale + low
                else:
                    for j in range(first, last):
                        A[here + j * LANES] = images.floats[source + way * j] * scale + low


@helper
def draw_field(variation: Variation, F: Array, to: Maps, turn: int) -> None:
    """The elastic fields of the 16 images from this turn on, down and right: see data.augmentation.elastic_field.

    F[d·H·W + i·W + j] is a vector of the 16 images' numbers for direction d; the last third of F is room for the sums
    along the rows.
    """
    height, width = to.height, to.width
    size = height * width
    for e in range(size):
        for n in range(LANES):
            word = mix(variation.keys[turn + n] + np.uint64(GAMMA) * np.uint64(FIRST_NOISE + e))
            down, right = (
                np.int64(word >> np.uint64(40)),
                np.int64((word >> np.uint64(16)) & np.uint64(TWENTY_FOUR_BITS)),
            )
            F[e * LANES + n] = np.float32(down) * np.float32(HALF_OF_THEM) - np.float32(1.0)
            F[(size + e) * LANES + n] = np.float32(right) * np.float32(HALF_OF_THEM) - np.float32(1.0)
    reach = len(variation.weights) // 2
    for direction in range(2):
        noise = direction * size
        for i in range(height):
            for j in range(width):
                total = zeros()
                for k in range(max(0, j - reach), min(width, j + reach + 1)):
                    weight = broadcast(variation.weights[k - j + reach])
                    total = fma(weight, load(F, (noise + i * width + k) * LANES), total)
                store(F, (2 * size + i * width + j) * LANES, total)
        for i in range(height):
            for j in range(width):
                total = zeros()
                for k in range(max(0, i - reach), min(height, i + reach + 1)):
                    weight = broadcast(variation.weights[k - i + reach])
                    total = fma(weight, load(F, (2 * size + k * width + j) * LANES), total)
                store(F, (noise + i * width + j) * LANES, total * broadcast(variation.alpha))


@helper
def value(images: Images, place: int) -> Any:
    """The pixel at this place."""
    at = np.uint64(place)  # without a sign: no index from the end to allow for
    return np.float32(images.bytes[at]) if len(images.bytes) > 0 else images.floats[at]


@helper
def pixel(images: Images, to: Maps, start: int, i: int, j: int) -> Any:
    """The pixel (i, j) of the map that starts there; 0 outside."""
    if i < 0 or i >= to.height or j < 0 or j >= to.width:
        return np.float32(0.0)
    return value(images, start + i * to.width + j)


@helper
def read_resampled(
    images: Images, variation: Variation, F: Array, to: Maps, n: int, A: Array, index: int, turn: int
) -> None:
    """Lane n: the image read where the affine map and the field say, bilinearly."""
    size = to.height * to.width
    a = 6 * turn
    ii, ij, i0 = variation.places[a], variation.places[a + 1], variation.places[a + 2]
    ji, jj, j0 = variation.places[a + 3], variation.places[a + 4], variation.places[a + 5]
    for i in range(to.height):
        for j in range(to.width):
            here = to.start + i * to.line + j * LANES + n
            y, x = ii * i + ij * j + i0, ji * i + jj * j + j0
            if len(variation.weights) > 0:
                y += F[(i * to.width + j) * LANES + n]
                x += F[(size + i * to.width + j) * LANES + n]
            if y <= -1.0 or y >= to.height or x <= -1.0 or x >= to.width:
                for c in range(to.channels):
                    A[here + c * to.plane] = images.low[c]
                continue
            row, column = floor(y), floor(x)
            down, right = np.float32(y - row), np.float32(x - column)
            up, left = np.float32(1.0) - down, np.float32(1.0) - right
            inside = 0 <= row < to.height - 1 and 0 <= column < to.width - 1
            for c in range(to.channels):
                start = (index * to.channels + c) * size
                if inside:
                    place = start + row * to.width + column
                    above = left * value(images, place) + right * value(images, place + 1)
                    place += to.width
                    below = left * value(images, place) + right * value(images, place + 1)
                else:
                    above = left * pixel(images, to, start, row, column)
                    above += right * pixel(images, to, start, row, column + 1)
                    below = left * pixel(images, to, start, row + 1, column)
                    below += right * pixel(images, to, start, row + 1, column + 1)
                A[here + c * to.plane] = (up * above + down * below) * images.scale[c] + images.low[c]
