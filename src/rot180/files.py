"""Writing files so that a crash at any byte leaves the old one or the new one."""

import os
import secrets
from pathlib import Path

from rot180.errors import RunError

UNFINISHED = ".part"  # how a temporary file's name ends


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` at `path`: a temporary file beside it, flushed to the disk, then renamed over it.

    Raises RunError, naming the file, where that cannot be done (no such folder, no permission, a full disk);
    the old file is then as it was.
    """
    path = Path(path)
    try:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}"
        try:
            with temporary.open("xb") as file:  # as any new file: readable by whom the umask lets (mkstemp: nobody)
                file.write(content)
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
