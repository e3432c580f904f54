"""Variations of the training images, each drawn from its own address."""

from dataclasses import dataclass

import numpy as np

from rot180.arrays import Array, Shape, text
from rot180.chance import Use, bits, key
from rot180.convolve import pad, windows
from rot180.errors import SettingError

ROW_WORD, COLUMN_WORD, FLIP_WORD, WORDS = 0, 1, 2, 3  # what each random word of an image decides


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied, afresh in every epoch; the default leaves them as they are.          (D5)

    flip: half of the images are mirrored, left for right.
    shift: then each image is moved by up to so many pixels in each direction, zeros moving in.
    What happens to an image depends on seed, epoch and its position in the data set alone: not on the batch it is in,
    nor on who computes it. Raises SettingError for a value that cannot work.
    """

    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.shift, bool) or not isinstance(self.shift, int) or self.shift < 0:
            raise SettingError(f"shift is {self.shift!r}: choose a whole number of at least 0")
        if not isinstance(self.flip, bool):
            raise SettingError(f"flip is {self.flip!r}: choose true or false")

    def __bool__(self) -> bool:
        """Does it change anything?"""
        return self != AS_THEY_ARE

    def check_fits(self, shape: Shape) -> None:
        """Raise SettingError where images of this shape (C, H, W) would be lost."""
        if self.shift >= max(shape[1:]):
            raise SettingError(f"shift is {self.shift}: images of {text(shape[1:])} would be moved out of sight")

    def apply(self, images: Array, seed: int, epoch: int, indices: Array) -> Array:
        """The images (N,C,H,W) varied; indices (N,): their positions in the data set."""
        if not self:
            return images
        words = bits(key(Use.AUGMENTATION, seed, epoch, indices), WORDS)  # (N, WORDS)
        if self.flip:
            mirrored = words[:, FLIP_WORD] >> np.uint64(63) == 1
            images = np.where(mirrored[:, None, None, None], images[..., ::-1], images)
        most, size = self.shift, images.shape[-2:]
        row, column = (words[:, [ROW_WORD, COLUMN_WORD]] % np.uint64(2 * most + 1)).astype(np.intp).T
        places = windows(pad(images, ((most, most), (most, most))), size)  # (N,C,2·most+1,2·most+1,H,W)
        return np.asarray(places[np.arange(len(images)), :, row, column])


AS_THEY_ARE = Augmentation()
