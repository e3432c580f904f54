"""Pictures from files, made into what a network takes. A file may come from anywhere.

Only formats of an allow-list are opened, none above a pixel limit, and a damaged file is an error with its name.
"""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rot180.arrays import Array, Shape
from rot180.errors import DataError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
MOST_PIXELS = 100_000_000
MOST_BYTES = 1 << 29  # of a file: some decoders read all of it first
RULE_VERSION = 1  # of `fitted`, for what keeps its results
RULE = "shorter side to {size} pixels (bicubic, antialiased), then the middle {size}x{size}; transparency on white"
MOST_DETAIL = 500  # pixels on the long side are enough to see a digit
DIGIT_BOX = 20  # MNIST fits a digit into 20x20 pixels
DIGIT_SIDE = 28  # and lays it into 28x28,
DIGIT_CENTRE = 14  # its centre of mass on this pixel, counted from 0
INK = 0.2  # of the darkest: what counts as a stroke when its bounding box is measured


def read_picture(path: str | os.PathLike[str], side: int | None = None) -> Image.Image:
    """The picture (a GIF's or TIFF's first), upright as its EXIF says, as RGB, RGBA or grey of 8 bits.

    side: the side it will be made to, for which a large JPEG need not be decoded at its full size, only at twice this.
    Raises DataError, naming the file, where it is missing, not one of FORMATS, too large, or damaged.
    """
    path = Path(path)
    try:
        if not 0 < (size := path.stat().st_size) <= MOST_BYTES:
            raise DataError(f"{path}: " + (f"has more than {MOST_BYTES:,} bytes" if size else "the file is empty"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own remarks on size and odd metadata
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise DataError(f"{path}: {picture.width}x{picture.height} is more than {MOST_PIXELS:,} pixels")
                if side:
                    picture.draft(None, (2 * side, 2 * side))
                ImageOps.exif_transpose(picture, in_place=True)
                return _eight_bits(picture)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise DataError(f"{path}: there is no permission to read it") from error
    except UnidentifiedImageError as error:
        raise _unreadable(path, "it is something else, or damaged where it begins") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit: it looks before we can
        raise DataError(f"{path}: declares more than {MOST_PIXELS:,} pixels") from error
    except Exception as error:  # decoders raise anything on damaged files: OSError, SyntaxError, struct.error, ...
        reason = str(error).replace(f"'{path}'", "it") or type(error).__name__
        raise _unreadable(path, reason) from error


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: not a picture that can be read ({reason}); give {', '.join(FORMATS)}")


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode in ("I", "I;16", "I;16B", "I;16L", "F"):  # Pillow would clip 16 bits to 8, not scale them
        values = np.asarray(picture, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds numbers that are NaN or infinite")
        low, high = values.min(), values.max()
        picture = Image.fromarray(np.uint8(np.rint((values - low) * (255 / max(high - low, 1)))))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def grey(picture: Image.Image) -> Array:
    """(H, W) of 0..255. What is transparent shows white behind dark things and black behind light ones."""
    if picture.mode != "RGBA":
        return np.asarray(picture.convert("L"))
    light, opaque = (np.asarray(part, np.float64) for part in (picture.convert("RGB").convert("L"), picture.split()[3]))
    behind = 0.0 if (light * opaque).sum() > 127.5 * opaque.sum() else 255.0
    return np.rint((light * opaque + behind * (255 - opaque)) / 255).astype(np.uint8)


def as_digit(picture: Image.Image) -> Array:
    """A picture of one digit as MNIST would have it: (1, 28, 28), light on dark.

    Any size, dark on light or light on dark: the rim is the background. The ink's bounding box is scaled to 20x20
    pixels, its shape kept, and laid with its centre of mass in the middle of 28x28. LeCun et al. 1998, section III.A;
    that MNIST's middle is pixel 14, not 13.5, is measured: its centres of mass lie between 13.5 and 14.5.
    Raises DataError where there is nothing on the background.
    """
    if max(picture.size) >= 2 * MOST_DETAIL:
        picture = picture.reduce(max(picture.size) // MOST_DETAIL)
    values = grey(picture).astype(np.float64)
    rim = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    background = np.median(rim)
    ink = np.clip(background - values if background > 127.5 else values - background, 0, None)
    if ink.max() < 8:
        raise DataError("the picture shows nothing but its background")
    ink /= ink.max()
    rows, columns = np.flatnonzero((ink > INK).any(axis=1)), np.flatnonzero((ink > INK).any(axis=0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = DIGIT_BOX / max(box.shape)
    size = max(1, round(box.shape[1] * scale)), max(1, round(box.shape[0] * scale))
    small = np.asarray(Image.fromarray(np.float32(box)).resize(size, Image.Resampling.BOX), np.float64)
    small = np.clip(small / small.max(), 0, 1)
    height, width = small.shape
    centre = [(small.sum(axis=1 - axis) @ np.arange(small.shape[axis])) / small.sum() for axis in (0, 1)]
    top, left = (
        int(np.clip(round(DIGIT_CENTRE - c), 0, DIGIT_SIDE - n)) for c, n in zip(centre, (height, width), strict=True)
    )
    digit = np.zeros((1, DIGIT_SIDE, DIGIT_SIDE), np.uint8)
    digit[0, top : top + height, left : left + width] = np.rint(255 * small)
    return digit


def fitted(picture: Image.Image, shape: Shape) -> Array:
    """The picture as (C, H, W) of 0..255, never stretched: see RULE. Grey for one channel, RGB for three."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"a picture has 1 or 3 channels, but the network takes {channels}")
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    scale = min(picture.width / width, picture.height / height)
    wide, tall = min(scale * width, picture.width), min(scale * height, picture.height)
    left, top = (picture.width - wide) / 2, (picture.height - tall) / 2
    box = left, top, min(left + wide, picture.width), min(top + tall, picture.height)
    values = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box))
    return values[None] if channels == 1 else values.transpose(2, 0, 1)
