"""Pictures that have been decoded, kept in the user's cache folder: the next run maps them and starts at once.

NAME.npy    uint8 (N,C,S,S), mapped into memory and read page by page: it may be larger than memory
NAME.json   what else is known of them, with its own CRC-32 and the .npy's; written last

Both are written beside their place and renamed: a crash leaves nothing that would be taken for whole, and two
processes that decode the same folder write the same bytes. What does not fit together is decoded again.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rot180.arrays import Array
from rot180.errors import DataError, RunError
from rot180.files import UNFINISHED, replace_file

HEADER = 128  # bytes before the first pixel
A_DAY = 24 * 60 * 60  # seconds
AT_ONCE = 1 << 24  # bytes checked or copied together
CACHE_FOLDER = "ROT180_CACHE_DIR"  # the environment variable that names another folder


def cache_folder() -> Path:
    """Where decoded pictures are kept."""
    import platformdirs  # here, as pictures are not what everybody is after

    chosen = os.environ.get(CACHE_FOLDER)
    return (Path(chosen) if chosen else platformdirs.user_cache_path("rot180", appauthor=False)) / "pictures"


def stored(path: Path) -> tuple[Array, dict[str, Any]] | None:
    """The pictures of this name, mapped, and what is known of them; None where they are missing or damaged."""
    try:
        described = json.loads(path.with_suffix(".json").read_text("utf-8"))
        known = described["known"]
        if described["crc"] != [_checksum_of(known), _checksum(path)]:
            return None
        images = _mapped(path)
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(known["labels"]):
            return None
        os.utime(path)
        return images, known
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError):
        return None


def store(path: Path, size: int, images: Iterable[Array], known: Callable[[], dict[str, Any]]) -> None:
    """Keep the images (3,size,size) as they come; all of them grey: with one channel.

    known: asked once all images have come. Raises DataError where the folder cannot be written.
    """
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}{UNFINISHED}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb+") as file:
            count, grey = 0, True
            file.write(_header(0, 3, size))
            for image in images:
                grey = grey and bool((image[0] == image[1]).all() and (image[0] == image[2]).all())
                file.write(np.ascontiguousarray(image).data)
                count += 1
            channels = 1 if grey else 3
            if grey:
                _first_channel_only(file, count, size * size)
            file.seek(0)
            file.write(_header(count, channels, size))
            file.flush()
            os.fsync(file.fileno())
        described = {"known": known(), "crc": [_checksum_of(known()), _checksum(temporary)]}
        temporary.replace(path)
        replace_file(path.with_suffix(".json"), json.dumps(described).encode())
    except (OSError, RunError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"decoded pictures cannot be kept in {path.parent} ({reason}): make room there, or set {CACHE_FOLDER} to "
            "another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _mapped(path: Path) -> Array:
    """Mapped so that it may be written to in memory alone, which nobody does: kernels take it for any other array.

    Where the system would set aside as much memory and has not so much, for reading only.
    """
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError:
        return np.load(path, mmap_mode="r", allow_pickle=False)


def forget_others(path: Path, prefix: str) -> None:
    """Remove what was kept under the same prefix before, and what a process that was killed has left of it.

    Who has it mapped keeps it; what is not a day old may be another process's, still at work.
    """
    with suppress(OSError):
        for other in path.parent.glob(f"{prefix}*"):
            if other.stem != path.stem:
                other.unlink(missing_ok=True)
        for unfinished in path.parent.glob(f".{prefix}*{UNFINISHED}"):
            if unfinished.stat().st_mtime < time.time() - A_DAY:
                unfinished.unlink(missing_ok=True)


def _header(count: int, channels: int, size: int) -> bytes:
    """NumPy's, of a length that does not depend on the number of images."""
    described = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, {channels}, {size}, {size}), }}"
    magic = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    return magic + described.ljust(HEADER - 11).encode() + b"\n"


def _first_channel_only(file: BinaryIO, count: int, pixels: int) -> None:
    """Move the first of each three maps forward, in place."""
    for k in range(count):
        file.seek(HEADER + 3 * k * pixels)
        plane = file.read(pixels)
        file.seek(HEADER + k * pixels)
        file.write(plane)
    file.truncate(HEADER + count * pixels)


def _checksum_of(known: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(known).encode())


def _checksum(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while part := file.read(AT_ONCE):
            crc = zlib.crc32(part, crc)
    return crc
