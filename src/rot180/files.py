"""Writing files so that a crash at any byte leaves the old one or the new one."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

import numpy as np

from rot180.arrays import Array
from rot180.errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".part"  # how a temporary file's name ends
SAFETENSORS_TYPES = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64"}


def replace_file(path: str | os.PathLike[str], content: bytes | Iterable[bytes | memoryview]) -> None:
    """Put `content`, whole or in parts, at `path`: a temporary file beside it, flushed to the disk, renamed over it.

    Raises RunError, naming the file, where that cannot be done (no such folder, no permission, a full disk);
    the old file is then as it was.
    """
    path = Path(path)
    try:
        temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}{UNFINISHED}"
        try:
            with temporary.open("xb") as file:  # as any new file: readable by whom the umask lets (mkstemp: nobody)
                file.writelines([content] if isinstance(content, bytes) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; choose another place or make room") from error


def flush_folder(folder: Path) -> None:
    """Make a rename in the folder outlast a power cut (systems that cannot open folders do so by themselves)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Lock:
    """Held by one process at a time, until it is collected or the process has ended, however it ended.

    Raises RunError with `sentence` where another process has it. Where a file system has no locks, everybody has it.
    In one process the same lock may be held several times.
    """

    _held: ClassVar[WeakValueDictionary[Path, "_Held"]] = WeakValueDictionary()

    def __init__(self, path: Path, sentence: str) -> None:
        path = path.resolve()
        held = self._held.get(path)
        if held is None:
            held = self._held[path] = _Held(path, sentence)
        self._mine = held


class _Held:
    """An open file with a lock; it goes when the file is closed, as it is when nobody has this object any longer."""

    def __init__(self, path: Path, sentence: str) -> None:
        self._file = path.open("rb")
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise RunError(sentence) from None
        except OSError:  # no locks here
            return

    def __del__(self) -> None:
        self._file.close()


def safetensors(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """A safetensors file of float arrays, in parts that are the arrays' own memory: large ones are not copied.

    Eight bytes: the header's length; the header: JSON, the place of each array; the arrays.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": SAFETENSORS_TYPES[array.dtype],
            "shape": array.shape,
            "data_offsets": (start, end),
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *(_bytes(array) for array in arrays.values())]


def digest(arrays: Mapping[str, Array], *texts: str) -> str:
    """SHA-256 of arrays, with their names and shapes, and of texts: what damage would change."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        found.update(_bytes(arrays[name]))
    for text in texts:
        found.update(f"{len(text)} {text}\n".encode())
    return found.hexdigest()


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
