"""LeNet-5's output layer: how far the last hidden layer is from the code of each class, a small picture of it."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape, text
from rot180.chance import Training, Use, bits, key
from rot180.errors import SettingError, ShapeError
from rot180.layers.layer import Cost, Layer, Parameters

INK, PAPER = "#", "."  # +1 and -1

DIGITS = """
    ..###..  ...##..  .####..  .####..  ....##.  ######.  ..####.  #######  ..###..  ..###..
    .#####.  ..###..  ######.  ######.  ...###.  ######.  .#####.  #######  .#####.  .#####.
    ##...##  .####..  ##..##.  #...##.  ..####.  ##.....  ##.....  .....##  ##...##  ##...##
    ##...##  ...##..  ....##.  ....##.  .##.##.  ##.....  ##.....  .....##  ##...##  ##...##
    ##...##  ...##..  ....##.  ..###..  .##.##.  #####..  ##.###.  ....##.  .##.##.  ##...##
    ##...##  ...##..  ...##..  ..####.  ##..##.  ######.  ######.  ....##.  ..###..  .######
    ##...##  ...##..  ..##...  .....##  ##..##.  ....###  ##...##  ...##..  .##.##.  ..##.##
    ##...##  ...##..  ..##...  .....##  #######  .....##  ##...##  ...##..  ##...##  .....##
    ##...##  ...##..  .##....  .....##  #######  .....##  ##...##  ..##...  ##...##  .....##
    ##...##  ...##..  ##.....  #....##  ....##.  #....##  ##...##  ..##...  ##...##  .....##
    .#####.  .######  #######  ######.  ....##.  ######.  .#####.  .##....  .#####.  .#####.
    ..###..  .######  #######  .####..  ....##.  .####..  ..###..  .##....  ..###..  .####..
"""


def codes_in(drawing: str) -> tuple[str, ...]:
    """Pictures drawn side by side, blanks between them, as one code each: their rows one after the other."""
    rows = (line.split() for line in drawing.strip().splitlines())
    return tuple("".join(picture) for picture in zip(*rows, strict=True))


def random_codes(classes: int, length: int, seed: int = 0) -> tuple[str, ...]:
    """Codes for classes that nobody has drawn: each entry +1 or -1 by chance, as LeCun et al. 1998 also suggest."""
    ink = bits(key(Use.CODES, seed, np.arange(classes)), length) >> np.uint64(63)
    return tuple("".join(INK if each else PAPER for each in row) for row in ink)


DIGIT_CODES = codes_in(DIGITS)
"""0 to 9 as pictures of 7x12 pixels: 84 numbers each, one for each unit of LeNet-5's F6."""


class Saved(NamedTuple):
    x: Array  # (N,D)


@final
@dataclass(frozen=True)
class RadialBasisOutput(Layer):
    """y[n,k] = -Σ_d (x[n,d] - w[k,d])²                                                                     (B6, C2)

    x (N,D) -> y (N,K): minus the penalty of each class, so that the largest score wins as everywhere; no parameters;
    the same in training and inference. w, the codes, are +1 ("#") and -1 ("."), chosen by hand and fixed: what looks
    alike has codes that are alike, and an input far from all codes is recognised as no digit at all. Backward:
    dx[d] = -2 Σ_k dy[k] (x[d] - w[k,d]). Use RadialBasisLoss behind it.
    Raises ShapeError where x is not as long as a code. LeCun et al. 1998, section II.B and figure 3.
    """

    codes: tuple[str, ...] = DIGIT_CODES

    def __post_init__(self) -> None:
        if not (isinstance(self.codes, tuple) and self.codes and all(map(_is_code, self.codes))):
            raise SettingError(f"codes are texts of {INK!r} (+1) and {PAPER!r} (-1), one for each class")
        if len(set(map(len, self.codes))) > 1 or len(set(self.codes)) < len(self.codes):
            raise SettingError("codes are of one length and all different: two of these are not")

    @property
    def w(self) -> Array:
        """(K,D): the codes as numbers, float32."""
        return np.array([[1 if each == INK else -1 for each in code] for code in self.codes], np.float32)

    def output_shape(self, shape: Shape) -> Shape:
        if tuple(shape) != (len(self.codes[0]),):
            raise ShapeError(f"codes of {len(self.codes[0])} numbers cannot be compared with an input of {text(shape)}")
        return (len(self.codes),)

    def cost(self, shape: Shape) -> Cost:
        values = len(self.codes) * len(self.codes[0])
        return Cost(connections=values, multiply_adds=values)

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        difference = x[:, None] - self.w.astype(x.dtype)  # (N,1,D) - (K,D) -> (N,K,D)
        return -(difference**2).sum(axis=2), Saved(x)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        towards = dy @ self.w.astype(dy.dtype)  # (N,K) @ (K,D) -> (N,D)
        return 2 * (towards - dy.sum(axis=1, keepdims=True) * saved.x)


def _is_code(code: object) -> bool:
    return isinstance(code, str) and bool(code) and set(code) <= {INK, PAPER}
