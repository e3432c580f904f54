"""Promise 2: a crash or a full disk at any byte leaves the old file or the new one; a failed save raises."""

import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time

import pytest

from rot180 import files
from rot180.errors import RunError
from rot180.files import replace_file

OLD, NEW = b"old content", b"new"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file(tmp_path):
    replace_file(tmp_path / "a.bin", b"\0\1\xff")
    assert (tmp_path / "a.bin").read_bytes() == b"\0\1\xff"
    assert names(tmp_path) == ["a.bin"]


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(OLD)
    replace_file(str(path), NEW)
    assert path.read_bytes() == NEW
    replace_file(path, b"")
    assert path.read_bytes() == b""
    assert names(tmp_path) == ["a.bin"]


def test_who_holds_the_old_file_open_keeps_it(tmp_path):
    """Replaced, not overwritten: a reader never sees half of each."""
    path = tmp_path / "a.bin"
    path.write_bytes(OLD)
    with path.open("rb") as reader:
        replace_file(path, NEW)
        assert reader.read() == OLD


def test_a_name_without_a_folder_means_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replace_file("a.bin", NEW)
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="needs a umask")
def test_others_may_read_the_file_where_the_umask_lets_them(tmp_path):
    before = os.umask(0o022)
    try:
        replace_file(tmp_path / "a.bin", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o644


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match=rf"^cannot write {tmp_path}/no/a: No such file or directory; choose another pl"):
        replace_file(tmp_path / "no" / "a", NEW)
    assert names(tmp_path) == []


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(RunError, match=rf"^cannot write {tmp_path}/file/a: Not a directory; choose another place or m"):
        replace_file(tmp_path / "file" / "a", NEW)
    assert (tmp_path / "file").read_bytes() == OLD


def test_a_file_that_is_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(RunError, match=rf"^cannot write {tmp_path}/a: Is a directory"):
        replace_file(tmp_path / "a", NEW)
    assert names(tmp_path) == ["a"]


def test_a_folder_that_may_not_be_written(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "a").write_bytes(OLD)
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere (root)")
        with pytest.raises(RunError, match=rf"^cannot write {folder}/a: Permission denied"):
            replace_file(folder / "a", NEW)
    finally:
        folder.chmod(0o700)
    assert (folder / "a").read_bytes() == OLD


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_an_error_at_any_step_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
    path = tmp_path / "a"
    path.write_bytes(OLD)

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(*{"fsync": (files.os, "fsync"), "replace": (files.Path, "replace")}[broken], fail)
    with pytest.raises(RunError, match=rf"^cannot write {path}: Input/output error; choose another place or make room"):
        replace_file(path, NEW)
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["a"]


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(OLD)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, NEW)
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["a"]


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    """fsync of the file, rename, fsync of the folder: in this order, or a power cut leaves an empty file."""
    done = []
    fsync, replace = os.fsync, files.Path.replace
    monkeypatch.setattr(
        files.os, "fsync", lambda fd: (done.append("dir" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), fsync(fd))
    )
    monkeypatch.setattr(files.Path, "replace", lambda self, to: (done.append("rename"), replace(self, to)))
    replace_file(tmp_path / "a", NEW)
    assert done == ["file", "rename", "dir"]


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
from rot180.files import replace_file
from rot180.errors import RunError
try:
    replace_file(sys.argv[1], b"n" * int(sys.argv[2]))
except RunError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("size", [50_001, 60_000, 1_000_000])
def test_no_room_for_the_new_file(tmp_path, size):
    """A limit on the size of files does what a full disk does: write fails half way."""
    path = tmp_path / "a"
    path.write_bytes(OLD)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path, str(size)], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == f"cannot write {path}: File too large; choose another place or make room\n"
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="needs RLIMIT_FSIZE")
def test_just_room_for_the_new_file(tmp_path):
    subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path / "a", "50000"], check=True)
    assert (tmp_path / "a").read_bytes() == b"n" * 50_000


WRITER = textwrap.dedent("""
    import sys
    from rot180.files import replace_file
    contents = b"a" * 300_000, b"b" * 200_000
    print("ready", flush=True)
    while True:
        for content in contents:
            replace_file(sys.argv[1], content)
""")


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_killed_at_any_moment_the_file_is_whole(tmp_path):
    path, chance = tmp_path / "a", random.Random(1)
    path.write_bytes(OLD)
    seen = set()
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(chance.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
        content = path.read_bytes()
        assert content in (OLD, b"a" * 300_000, b"b" * 200_000)
        seen.add(content[:1])
    assert seen >= {b"a", b"b"}
    assert all(name == "a" or name.endswith(files.UNFINISHED) for name in names(tmp_path))
