"""Promise 7: what is said of bad files and of bad folders is what the tables of docs/photos.md say."""

import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_folder import fill, picture, png_that_declares

from rot180 import data
from rot180.data import folder as folder_module
from rot180.data.folder import PictureOptions, load_test_folder, read_folder
from rot180.data.pictures import MOST_BYTES
from rot180.errors import DataError

PAGE = (Path(__file__).parent.parent / "docs/photos.md").read_text("utf-8")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("ROT180_CACHE_DIR", str(tmp_path / "cache"))


def table(head):
    """{what: sentence} of the page's table with this head."""
    rows = PAGE.partition(f"| {head} | what is said |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    assert rows
    return dict(re.fullmatch(r"\| (.+?) \| (.+) \|", row).groups() for row in rows)


def same(said, written):
    """Is this what the page says? An ellipsis there stands for words of the decoder's."""
    return re.fullmatch(re.escape(written).replace("…", ".*"), said) is not None


def content(kind):
    file = io.BytesIO()
    picture((90, 90, 90), size=(120, 120)).save(file, kind)
    return file.getvalue()


def test_bad_files(tmp_path, monkeypatch):
    photos = fill(tmp_path / "photos", 3)
    outside = fill(tmp_path / "outside", 1)
    red = photos / "red"
    jpeg, png = content("JPEG"), content("PNG")
    (red / "text.jpg").write_text("words")
    (red / "page.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    (red / "empty.jpg").write_bytes(b"")
    (red / "half.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (red / "head.jpg").write_bytes(jpeg[:30])
    (red / "half.png").write_bytes(png[: len(png) // 2])
    (red / "huge.png").write_bytes(png_that_declares(60_000, 60_000))
    (red / "large.png").write_bytes(png_that_declares(12_000, 12_000))
    (red / "long.bmp").write_bytes(b"BM")
    os.truncate(red / "long.bmp", MOST_BYTES + 1)
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(red / "nan.tiff")
    (red / "closed.png").write_bytes(png)
    access = os.access  # root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed.png" and access(path, mode))
    (red / "nowhere.png").symlink_to("gone.png")
    (red / "circle.png").symlink_to("circle.png")
    (red / "out.png").symlink_to(outside / "red" / "00.png")
    (red / "more").symlink_to(photos / "green")
    (photos / "outside").symlink_to(outside / "red")
    os.mkfifo(red / "pipe.png")
    (red / "notes.txt").write_text("words")
    (red / "phone.heic").write_bytes(b"ftypheic")
    (photos / "stray.png").write_bytes(png)
    (photos / "violet").mkdir()
    Image.new("RGB", (1, 1)).save(red / "one.png")
    (photos / "RED").mkdir()
    (photos / "RED" / "a.png").write_bytes(png)
    told = []
    monkeypatch.setattr(folder_module, "notify", told.append)
    every, _ = read_folder(photos, PictureOptions(size=8))
    said = {each["file"]: each["reason"] for each in every.report["skipped"]}
    known = PictureOptions(8, class_names=("green", "red"))
    test = load_test_folder(photos, known, learned_from=False)
    said |= {each["file"]: each["reason"] for each in test.report["skipped"] if each["file"] == "blue"}
    files = {
        "a text called .jpg": "red/text.jpg",
        "PostScript called .jpg: no interpreter is started": "red/page.jpg",
        "no bytes at all": "red/empty.jpg",
        "a JPEG that breaks off": "red/half.jpg",
        "a JPEG that breaks off in its head": "red/head.jpg",
        "a PNG that breaks off": "red/half.png",
        "a PNG that says it is 60,000 pixels wide and high": "red/huge.png",
        "the same with 12,000": "red/large.png",
        "more than 512 MiB": "red/long.bmp",
        "numbers that are none": "red/nan.tiff",
        "no permission": "red/closed.png",
        "a link to nothing": "red/nowhere.png",
        "a link to itself": "red/circle.png",
        "a link out of the folder": "red/out.png",
        "a link to a folder": "red/more",
        "a class that is a link out of the folder": "outside",
        "a pipe or a device": "red/pipe.png",
        "notes.txt": "red/notes.txt",
        "phone.heic": "red/phone.heic",
        "a picture beside the classes": "stray.png",
        "a class without pictures": "violet",
        "evaluate: a class that the network was not taught": "blue",
    }
    assert said.keys() == set(files.values())
    written = table("a file or a folder below")
    assert written.keys() == files.keys()
    assert {what: said[file] for what, file in files.items() if not same(said[file], written[what])} == {}
    assert "red/one.png" in every.names.tolist(), "one pixel is a picture"
    assert every.class_names == ("RED", "blue", "green", "red")
    assert "RED and red are two classes, though their names differ in capitals alone" in told
    assert "RED and red are two classes, though their names differ in capitals alone" in PAGE


def test_bad_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = Path("PHOTOS")

    def one_class():
        (photos / "red").mkdir(parents=True)
        picture((200, 0, 0)).save(photos / "red" / "a.png")

    def no_picture_readable():
        (photos / "red").mkdir(parents=True)
        (photos / "red" / "a.png").write_bytes(b"")

    cases = {
        "does not exist": lambda: None,
        "is a file": lambda: photos.write_bytes(b"x"),
        "is empty": photos.mkdir,
        "holds pictures, but no sub-folder": lambda: (photos.mkdir(), picture((1, 2, 3)).save(photos / "a.png")),
        "has sub-folders without pictures": lambda: (photos / "red").mkdir(parents=True),
        "has no picture that can be read": no_picture_readable,
        "has one class": one_class,
        "has two pictures of each class": lambda: fill(photos, 2),
        "has train/ alone": lambda: fill(photos / "train", 3),
        "has test/ alone": lambda: fill(photos / "test", 3),
    }
    said = {}
    for what, make in cases.items():
        make()
        with pytest.raises(DataError) as raised:
            data.load("PHOTOS", PictureOptions(size=8))
        said[what] = str(raised.value).replace(str(tmp_path / "PHOTOS"), "PHOTOS")
        if photos.is_dir():
            shutil.rmtree(photos)
        else:
            photos.unlink(missing_ok=True)
    written = table("PHOTOS")
    assert written.keys() == said.keys()
    assert {what: each for what, each in said.items() if not same(each, written[what])} == {}
