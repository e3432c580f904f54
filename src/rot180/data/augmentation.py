"""Variations of the training images, each drawn from its own address.                                          (D5)

An image is varied by reading it elsewhere: the pixel at output position p is the source image at

    q(p) = flip shift (centre + rotate shear scale (crop(p) - centre)) + elastic(p)

between four pixels, bilinearly; outside the image every pixel is 0. Then a square is cut out. What happens to an image
depends on seed, epoch and its position in the data set alone: not on the batch it is in, nor on who computes it.
"""

from dataclasses import dataclass, fields
from math import ceil, log, pi
from typing import NamedTuple

import numpy as np

from rot180.arrays import Array, Shape, flag, number, text, whole
from rot180.chance import Use, bits, key
from rot180.errors import SettingError

# What each random word of an image decides; from WORDS on, one for each pixel of the elastic field.
ROW, COLUMN, FLIP, ROTATE, SCALE, SHEAR, AREA, ASPECT, TOP, LEFT, CUT_ROW, CUT_COLUMN, WORDS = range(13)
WIDEST_ASPECT = 4 / 3  # of a crop, either way: Szegedy et al. 2015
DEVIATIONS = 3  # of a Gaussian: what lies farther out is left out


class Draws(NamedTuple):
    """What was drawn for N images."""

    places: Array  # (N, 2, 3) float64: the affine part of q, row and column, of the position (i, j, 1)
    cuts: Array  # (N, 2) int64: the row and column where the square that is cut out begins
    keys: Array  # (N,) uint64: of each image's stream


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied, afresh in every epoch; the default leaves them as they are.

    flip: half of the images are mirrored, left for right.
    shift: up to so many whole pixels in each direction.
    rotate, shear: up to so many degrees either way. scale: larger or smaller by up to this share.
    elastic: (alpha, sigma): noise in -1..1 at every pixel, smoothed by a Gaussian of deviation sigma, times alpha, is
        the way to where the pixel comes from. Simard, Steinkraus and Platt 2003; (34, 4) for 28x28 digits.
    crop: a window of at least this share of the area, of aspect 3:4 to 4:3, is stretched to the whole. Szegedy et al.
        2015. (The pad-and-crop that CIFAR networks are trained with is `shift`.)
    cutout: a square of so many pixels becomes 0, its centre anywhere in the image. DeVries and Taylor 2017.
    Raises SettingError for a value that cannot work.
    """

    shift: int = 0
    flip: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: tuple[float, float] | None = None
    crop: float = 1.0
    cutout: int = 0

    def __post_init__(self) -> None:
        whole(self.shift, "shift", at_least=0)
        whole(self.cutout, "cutout", at_least=0)
        flag(self.flip, "flip")
        for name, least, most in (("rotate", 0, 180), ("shear", 0, 60), ("scale", 0, 0.9), ("crop", 0.01, 1)):
            if not least <= number(getattr(self, name), name) <= most:
                raise SettingError(f"{name} is {getattr(self, name)}: choose a number from {least} to {most}")
        if self.elastic is not None:
            if not isinstance(self.elastic, tuple | list) or len(self.elastic) != 2:
                raise SettingError(f"elastic is {self.elastic!r}: give two numbers, alpha and sigma, such as 34 4")
            alpha, sigma = (number(value, "elastic") for value in self.elastic)
            if alpha < 0 or not 0.1 <= sigma <= 100:
                raise SettingError(
                    f"elastic is {alpha:g}, {sigma:g}: alpha is at least 0, sigma from 0.1 to 100 pixels"
                )
            object.__setattr__(self, "elastic", (alpha, sigma))

    def __bool__(self) -> bool:
        """Does it change anything?"""
        return self != AS_THEY_ARE

    @property
    def only_moves(self) -> bool:
        """Do pixels stay what they are, and only change places?"""
        exact = ("shift", "flip", "cutout")
        return all(each.name in exact or getattr(self, each.name) == each.default for each in fields(self))

    def check_fits(self, shape: Shape) -> None:
        """Raise SettingError where nothing of images of this shape (C, H, W) might be left."""
        if self.shift >= max(shape[1:]):
            raise SettingError(f"shift is {self.shift}: images of {text(shape[1:])} would be moved out of sight")
        if self.cutout >= 2 * min(shape[1:]):
            raise SettingError(f"cutout is {self.cutout}: nothing would be left of images of {text(shape[1:])}")

    def apply(self, images: Array, seed: int, epoch: int, indices: Array) -> Array:
        """The images (N,C,H,W) varied; indices (N,): their positions in the data set.

        Of the images' dtype where pixels only move, else floating.
        """
        if not self:
            return images
        height, width = images.shape[-2:]
        draws = self.draw((height, width), seed, epoch, indices)
        i, j = np.indices((height, width), np.float64)
        place = draws.places[..., None, None]
        q = place[:, :, 0] * i + place[:, :, 1] * j + place[:, :, 2]  # (N, 2, H, W)
        if self.elastic:
            q += elastic_field(draws.keys, (height, width), *self.elastic)
        varied = bilinear(images, q)
        if self.cutout:
            top, left = draws.cuts.T[..., None, None]  # (N, 1, 1) each
            inside = (top <= i) & (i < top + self.cutout) & (left <= j) & (j < left + self.cutout)  # (N, H, W)
            varied *= ~inside[:, None]
        return varied.astype(images.dtype if self.only_moves else np.result_type(images.dtype, np.float32))

    def draw(self, size: tuple[int, int], seed: int, epoch: int, indices: Array) -> Draws:
        """What chance decides for these images of H x W."""
        keys = key(Use.AUGMENTATION, seed, epoch, indices)
        words = bits(keys, WORDS)  # (N, WORDS)

        def uniform(word: int, low: float, high: float) -> Array:
            return low + (high - low) * ((words[:, word] >> np.uint64(11)).astype(np.float64) * 2.0**-53)

        def below(count: int, word: int) -> Array:
            return (words[:, word] % np.uint64(count)).astype(np.int64)

        (height, width), count, one = size, len(keys), np.ones(len(keys))
        mirrored = (words[:, FLIP] >> np.uint64(63)).astype(bool) & self.flip
        down, right = (below(2 * self.shift + 1, word) - self.shift for word in (ROW, COLUMN))
        flip = _affine(one, 0, 0, np.where(mirrored, -1.0, 1.0), 0, np.where(mirrored, width - 1, 0))
        places = flip @ _affine(one, 0, 0, one, down, right)
        if self.rotate or self.scale or self.shear:
            angle = uniform(ROTATE, -self.rotate, self.rotate) * (pi / 180)
            slope = np.tan(uniform(SHEAR, -self.shear, self.shear) * (pi / 180))
            smaller = 1 / uniform(SCALE, 1 - self.scale, 1 + self.scale)
            centre = (height - 1) / 2, (width - 1) / 2
            turn = _affine(np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle), *centre)
            places = (
                places
                @ turn
                @ _affine(smaller, 0, slope * smaller, smaller, 0, 0)
                @ _affine(one, 0, 0, one, *(-c for c in centre))
            )
        if self.crop < 1:
            side = np.sqrt(uniform(AREA, self.crop, 1))
            stretch = np.exp(uniform(ASPECT, -0.5, 0.5) * log(WIDEST_ASPECT))  # of the width; the height's is 1/stretch
            tall, wide = np.minimum(1, side / stretch), np.minimum(1, side * stretch)
            top = uniform(TOP, 0, 1) * (1 - tall) * height
            left = uniform(LEFT, 0, 1) * (1 - wide) * width
            places = places @ _affine(tall, 0, 0, wide, top + (tall - 1) / 2, left + (wide - 1) / 2)
        cuts = np.stack([below(height, CUT_ROW), below(width, CUT_COLUMN)], axis=1) - self.cutout // 2
        return Draws(np.broadcast_to(places, (count, 3, 3))[:, :2], cuts, keys)


AS_THEY_ARE = Augmentation()


def _affine(ii: Array, ij: Array | float, ji: Array | float, jj: Array, i: Array | float, j: Array | float) -> Array:
    """(N,3,3): [[ii, ij, i], [ji, jj, j], [0, 0, 1]]."""
    matrix = np.zeros((len(ii), 3, 3))
    for row, values in enumerate(((ii, ij, i), (ji, jj, j), (0, 0, 1))):
        for column, value in enumerate(values):
            matrix[:, row, column] = value
    return matrix


def gaussian(sigma: float) -> Array:
    """The weights of a Gaussian at the whole numbers up to DEVIATIONS · sigma either way; their sum is 1."""
    reach = ceil(DEVIATIONS * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return weights / weights.sum()


def elastic_field(keys: Array, size: tuple[int, int], alpha: float, sigma: float) -> Array:
    """(N,2,H,W): how far from each pixel, down and right, another is read. Outside the image the noise is 0."""
    words = bits(keys, WORDS + size[0] * size[1])[:, WORDS:].reshape(-1, *size)
    parts = np.stack([words >> np.uint64(40), (words >> np.uint64(16)) & np.uint64(0xFFFFFF)], axis=1)
    noise = parts.astype(np.float64) * 2.0**-23 - 1  # 24 bits in -1..1
    weights = gaussian(sigma)
    reach = len(weights) // 2
    smooth_down, smooth_right = (
        np.array([[weights[k - i + reach] if abs(k - i) <= reach else 0.0 for k in range(n)] for i in range(n)])
        for n in size
    )
    return alpha * (smooth_down @ noise @ smooth_right.T)


def bilinear(images: Array, q: Array) -> Array:
    """(N,C,H,W) read at q (N,2,H,W), row and column, between the four pixels around; 0 outside. As float64."""
    height, width = images.shape[-2:]
    corner = np.floor(q)
    (down, right), (row, column) = (q - corner).transpose(1, 0, 2, 3), corner.astype(np.int64).transpose(1, 0, 2, 3)
    n = np.arange(len(images))[:, None, None]
    value = np.zeros(images.shape)
    for i, j, weight in (
        (row, column, (1 - down) * (1 - right)),
        (row, column + 1, (1 - down) * right),
        (row + 1, column, down * (1 - right)),
        (row + 1, column + 1, down * right),
    ):
        seen = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        pixels = images[n, :, np.clip(i, 0, height - 1), np.clip(j, 0, width - 1)]  # (N,H,W,C)
        value += (weight * seen)[:, None] * pixels.transpose(0, 3, 1, 2)
    return value
