"""Arrays that took long to make, kept in the user's cache folder: the next run maps them and starts at once.

KIND/NAME.npy    (N, ...), mapped into memory and read page by page: it may be larger than memory
KIND/NAME.json   what else is known of them, with its own CRC-32 and the .npy's; written last

Kinds are decoded pictures, and what a frozen part of a network makes of them. Both files are written beside their place
and renamed: a crash leaves nothing that would be taken for whole, and two processes that make the same write the same
bytes. What does not fit together is made again.
"""

import json
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from rot180.arrays import Array, Shape
from rot180.errors import DataError, RunError
from rot180.files import UNFINISHED, replace_file

HEADER = 128  # bytes before the first row
A_DAY = 24 * 60 * 60  # seconds
AT_ONCE = 1 << 24  # bytes checked or copied together
CACHE_FOLDER = "ROT180_CACHE_DIR"  # the environment variable that names another folder


class Rows(Protocol):
    """What is to be kept, a row at a time; asked for its shape and for what is known of it once all have come."""

    shape: Shape  # of a row as it comes
    dtype: type[np.generic]

    def __iter__(self) -> Iterator[Array]: ...

    def known(self) -> dict[str, Any]:
        """What the cache keeps beside the rows."""
        ...

    def compact(self, file: BinaryIO, start: int, count: int) -> Shape:
        """The shape of a row as it shall be kept; where it is another, the file has been changed to it."""
        ...


def cache_folder(kind: str) -> Path:
    """Where arrays of a kind are kept."""
    import platformdirs  # here, as pictures are not what everybody is after

    chosen = os.environ.get(CACHE_FOLDER)
    return (Path(chosen) if chosen else platformdirs.user_cache_path("rot180", appauthor=False)) / kind


def stored(path: Path) -> tuple[Array, dict[str, Any]] | None:
    """The array of this name, mapped, and what is known of it; None where it is missing or damaged."""
    try:
        described = json.loads(path.with_suffix(".json").read_text("utf-8"))
        known = described["known"]
        if described["crc"] != [_checksum_of(known), _checksum(path)]:
            return None
        rows = _mapped(path)
        os.utime(path)
        return rows, known
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError):
        return None


def store(path: Path, rows: Rows) -> tuple[Array, dict[str, Any]]:
    """Keep the rows as they come; what `stored` then gives.

    Raises DataError where the folder cannot be written, or what was written not be read back.
    """
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}{UNFINISHED}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _forget_unfinished(path.parent)
        with temporary.open("xb+") as file:
            count = 0
            file.write(_header(rows.dtype, (0, *rows.shape)))
            for row in rows:
                file.write(np.ascontiguousarray(row, rows.dtype).data)
                count += 1
            shape = rows.compact(file, HEADER, count)
            file.seek(0)
            file.write(_header(rows.dtype, (count, *shape)))  # no fsync: what a power cut tears, the checksum finds
        known = rows.known()
        described = {"known": known, "crc": [_checksum_of(known), _checksum(temporary)]}
        temporary.replace(path)
        replace_file(path.with_suffix(".json"), json.dumps(described).encode())
    except (OSError, RunError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path.parent.name} cannot be kept in {path.parent} ({reason}): make room there, or set {CACHE_FOLDER} to "
            "another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    found = stored(path)
    if found is None:
        raise DataError(f"{path}: what was written cannot be read back; is the disk damaged?")
    return found


def _mapped(path: Path) -> Array:
    """Mapped so that it may be written to in memory alone, which nobody does: kernels take it for any other array.

    Where the system would set aside as much memory and has not so much, for reading only.
    """
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError:
        return np.load(path, mmap_mode="r", allow_pickle=False)


def forget_others(path: Path, prefix: str) -> None:
    """Remove what was kept under the same prefix before; who has it mapped keeps it."""
    with suppress(OSError):
        for other in path.parent.glob(f"{prefix}*"):
            if other.stem != path.stem:
                other.unlink(missing_ok=True)


def _forget_unfinished(folder: Path) -> None:
    """Remove what processes that were killed have left; what is not a day old may be of one that is still at work."""
    for unfinished in folder.glob(f".*{UNFINISHED}"):
        with suppress(OSError):
            if unfinished.stat().st_mtime < time.time() - A_DAY:
                unfinished.unlink(missing_ok=True)


def forget_oldest(path: Path, most: int) -> None:
    """Of this array's folder, remove what was not used for longest until the rest has at most so many bytes."""
    with suppress(OSError):
        others = [each for each in path.parent.glob("*.npy") if each != path]
        room = most - path.stat().st_size
        for other in sorted(others, key=lambda each: each.stat().st_mtime, reverse=True):
            room -= other.stat().st_size
            if room < 0:
                other.with_suffix(".json").unlink(missing_ok=True)
                other.unlink(missing_ok=True)


def _header(dtype: type[np.generic], shape: Shape) -> bytes:
    """NumPy's, of a length that does not depend on the number of rows."""
    described = f"{{'descr': '{np.dtype(dtype).str}', 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    return magic + described.ljust(HEADER - 11).encode() + b"\n"


def _checksum_of(known: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(known).encode())


def _checksum(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while part := file.read(AT_ONCE):
            crc = zlib.crc32(part, crc)
    return crc
