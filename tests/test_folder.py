"""Folders of pictures: any format and mode, one bad file never stops a run and is always named (promise 7)."""

import csv
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rot180 import data
from rot180.cli import main
from rot180.data import array_cache
from rot180.data.augmentation import Augmentation
from rot180.data.balance import balance
from rot180.data.dataset import Dataset
from rot180.data.folder import PictureOptions, load_folder, load_test_folder, read_folder
from rot180.data.mapped_rows import MappedRows
from rot180.data.pictures import fitted, read_picture
from rot180.errors import DataError, SettingError
from rot180.models import build
from rot180.network import Network
from rot180.training.loop import Trainer
from rot180.training.recipe import Recipe
from rot180.training.suggestion import suggest, suggest_transfer

SMALL = PictureOptions(size=8)
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("ROT180_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pictures"


def picture(colour, seed=0, size=(20, 16)):
    noise = np.random.default_rng(seed).integers(-25, 25, (size[1], size[0], 3))
    return Image.fromarray(np.clip(noise + np.array(colour), 0, 255).astype(np.uint8))


def fill(folder, count=8, **counts):
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for k in range(counts.get(name, count)):
            picture(colour, k).save(folder / name / f"{k:02}.png")
    return folder


@pytest.fixture
def photos(tmp_path):
    return fill(tmp_path / "photos")


def reasons(dataset):
    return {each["file"]: each["reason"] for each in dataset.report["skipped"]}


# --- what is found -----------------------------------------------------------------------------------------------


def test_a_split_where_there_is_none(photos):
    train, test = load_folder(photos, SMALL)
    assert train.class_names == ("blue", "green", "red")
    assert np.bincount(train.labels).tolist() == [6, 6, 6]
    assert np.bincount(test.labels).tolist() == [2, 2, 2]
    assert train.labels[:6].tolist() == [0, 1, 2, 0, 1, 2], "the first few have some of each"
    both = {each.images[k].tobytes() for each in (train, test) for k in range(len(each))}
    assert len(both) == 24
    for dataset in (train, test):
        strongest = np.array([2, 1, 0])[dataset.labels]
        np.testing.assert_array_equal(np.asarray(dataset.images).mean(axis=(2, 3)).argmax(axis=1), strongest)
    assert train.report["classes"]["red"] == {"train": 6, "test": 2}


@pytest.mark.parametrize(("parts", "tested"), [(("train", "val"), "val"), (("Train", "TEST", "valid"), "TEST")])
def test_parts_by_folders(tmp_path, parts, tested):
    for part, count in zip(parts, (5, 2, 3), strict=False):
        fill(tmp_path / "all" / part, count)
    train, test = load_folder(tmp_path / "all", SMALL)
    of_train = fill(tmp_path / "t", 5 if len(parts) == 2 else 5 + parts.index("valid") + 1)
    assert len(test) == 3 * 2
    assert len(train) == 3 * (5 if len(parts) == 2 else 8)
    assert train.report["split"].startswith(f"by folders: {tested.lower()} is for testing")
    assert of_train.exists()


def test_only_train_has_nothing_to_test_on(tmp_path):
    fill(tmp_path / "all" / "train", 3)
    with pytest.raises(DataError, match="there are no pictures to test on"):
        load_folder(tmp_path / "all", SMALL)


def test_classes_that_the_network_does_not_know(photos):
    (photos / "red" / "notes.txt").write_text("words")
    options = SMALL._replace(class_names=("green", "violet"))
    test = load_test_folder(photos, options, learned_from=False)
    assert np.bincount(test.labels).tolist() == [8]
    assert reasons(test)["red"] == "a class that the network does not know; it knows green, violet"
    many = tuple(f"kind {k}" for k in range(12))
    expected = (
        r"none of its classes \(blue, green, red\) is one that the network knows \(kind 0, .*, kind 9 and 2 more\)$"
    )
    with pytest.raises(DataError, match=expected):
        load_test_folder(photos, SMALL._replace(class_names=many), learned_from=False)


def test_a_folder_with_a_test_part_alone(tmp_path):
    fill(tmp_path / "all" / "test", 2)
    assert len(load_test_folder(tmp_path / "all", SMALL, learned_from=False)) == 6
    with pytest.raises(DataError, match="there are no pictures to train on; put some into train/CLASS"):
        load_folder(tmp_path / "all", SMALL)
    fill(tmp_path / "classes" / "test" / "more", 1)  # beside another folder it is a class
    fill(tmp_path / "classes" / "rest" / "more", 1)
    assert read_folder(tmp_path / "classes", SMALL)[0].class_names == ("rest", "test")


def test_permission_given_later_is_noticed(photos, monkeypatch):
    closed = photos / "red" / "00.png"
    with monkeypatch.context() as without:
        without.setattr(os, "access", lambda path, _: Path(path) != closed)
        assert reasons(read_folder(photos, SMALL)[0]) == {"red/00.png": "there is no permission to read it"}
    assert reasons(read_folder(photos, SMALL)[0]) == {}


def test_names(tmp_path, photos):
    """Case, Unicode, hidden files, empty folders, folders below."""
    (photos / "Äpfel").mkdir()
    for k in range(4):
        picture((120, 120, 20), k).convert("RGB").save(photos / "Äpfel" / f"bild {k}.JPG", "JPEG")
    (photos / "A\u0308pfel").mkdir(exist_ok=True)  # the same name, written otherwise: the same class
    picture((120, 120, 20), 9).save(photos / "A\u0308pfel" / "z.Png", "PNG")
    (photos / "empty").mkdir()
    (photos / ".hidden").mkdir()
    picture((0, 0, 0)).save(photos / ".hidden" / "x.png")
    (photos / "red" / ".DS_Store").write_bytes(b"x")
    (photos / "red" / "more" / "still").mkdir(parents=True)
    picture(COLOURS["red"], 77).save(photos / "red" / "more" / "still" / "deep.webp", lossless=True)
    (photos / "red" / "notes.txt").write_text("words")
    picture((0, 0, 0)).save(photos / "stray.png")
    every, _ = read_folder(photos, SMALL)
    assert every.class_names == ("blue", "green", "red", "Äpfel")
    assert np.bincount(every.labels).tolist() == [8, 8, 9, 5]
    assert reasons(every) == {
        "empty": "there is no picture in it",
        "red/notes.txt": "no picture by its name",
        "stray.png": "it lies in no class's folder",
    }


def test_names_of_files_go_with_their_pictures(photos):
    (photos / "green" / "03.png").write_bytes(b"torn")
    for _ in range(2):  # decoded, and from the cache
        for each in load_folder(photos, SMALL):
            assert each.names is not None
            kinds = [name.partition("/")[0] for name in each.names]
            assert kinds == [each.class_names[label] for label in each.labels]
            for k in range(len(each)):
                expected = fitted(read_picture(photos / each.name_of(k), 8), (3, 8, 8))
                np.testing.assert_array_equal(each.images[k], expected)
    half = load_folder(photos, SMALL).train.take(slice(3))
    balanced, _ = balance(half.take(np.array([0, 1, 2, 0])), "duplicate")
    assert len(balanced) == len(balanced.names) == 6
    assert balanced.names[:4].tolist() == [*half.names, half.names[0]]
    assert [name.partition("/")[0] for name in balanced.names] == [half.class_names[k] for k in balanced.labels]


def test_links(tmp_path, photos):
    outside = fill(tmp_path / "outside", 2)
    (photos / "red" / "in.png").symlink_to(photos / "red" / "00.png")
    (photos / "red" / "out.png").symlink_to(outside / "red" / "00.png")
    (photos / "red" / "gone.png").symlink_to(photos / "nowhere.png")
    (photos / "purple").symlink_to(outside / "red")
    (photos / "green" / "loop").symlink_to(photos)
    os.mkfifo(photos / "blue" / "pipe.png")
    every, _ = read_folder(photos, SMALL)
    assert np.bincount(every.labels).tolist() == [8, 8, 9]
    assert reasons(every) == {
        "red/out.png": "a link that leads out of the folder",
        "red/gone.png": "a link that leads nowhere",
        "purple": "a link that leads out of the folder",
        "green/loop": "a link to a folder",
        "blue/pipe.png": "no plain file",
    }


def test_nothing_to_learn_from(tmp_path):
    (tmp_path / "none" / "red").mkdir(parents=True)
    with pytest.raises(DataError, match="no sub-folder holds a picture; put CLASS"):
        data.load(tmp_path / "none")
    (tmp_path / "none" / "red" / "x.jpg").write_text("words")
    with pytest.raises(DataError, match=r"of 1 pictures none could be used; the first: red/x.jpg: not a picture"):
        data.load(tmp_path / "none")
    picture((1, 2, 3)).save(tmp_path / "none" / "red" / "y.png")
    with pytest.raises(DataError, match="there is one class, red; two are needed"):
        data.load(tmp_path / "none")


@pytest.mark.parametrize("size", [7, 513, 0, -1])
def test_sizes_that_cannot_be(photos, size):
    if size:
        with pytest.raises(SettingError, match=f"^size is {size}"):
            load_folder(photos, PictureOptions(size))
    else:
        assert load_folder(photos, PictureOptions(size)).train.shape == (3, 64, 64)


# --- every mode and format ---------------------------------------------------------------------------------------

MODES = {
    "rgb.jpg": ("RGB", {}),
    "cmyk.jpg": ("CMYK", {}),
    "grey.jpg": ("L", {}),
    "ycc.tiff": ("YCbCr", {}),
    "palette.png": ("P", {}),
    "palette.gif": ("P", {}),
    "alpha.png": ("RGBA", {}),
    "grey-alpha.png": ("LA", {}),
    "bilevel.png": ("1", {}),
    "bilevel.tif": ("1", {}),
    "deep.png": ("I;16", {}),
    "deep.tiff": ("I;16", {}),
    "long.tiff": ("I", {}),
    "float.tiff": ("F", {}),
    "rgb.bmp": ("RGB", {}),
    "palette.bmp": ("P", {}),
    "rgb.webp": ("RGB", {"lossless": True}),
    "alpha.webp": ("RGBA", {"lossless": True}),
    "lzw.tiff": ("RGB", {"compression": "tiff_lzw"}),
    "cmyk.tiff": ("CMYK", {}),
    "interlaced.gif": ("L", {"interlace": 1}),
    "progressive.jpeg": ("RGB", {"progressive": True}),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_and_format(tmp_path, name):
    """The left half dark, the right half light, whatever they are kept in."""
    mode, options = MODES[name]
    values = np.zeros((16, 20), np.uint8)
    values[:, 10:] = 255
    grey = Image.fromarray(values)
    if mode in ("I;16", "I", "F"):
        made = Image.fromarray((values.astype(np.int64) * 257).astype({"I;16": "u2", "I": "i4", "F": "f4"}[mode]))
    else:
        made = grey.convert("RGB").convert(mode) if mode not in ("LA", "1") else grey.convert(mode)
    made.save(tmp_path / name, **options)
    pixels = fitted(read_picture(tmp_path / name, 8), (3, 8, 8)).astype(int)
    assert pixels.shape == (3, 8, 8)
    assert pixels[:, :, :3].max() < 60
    assert pixels[:, :, 5:].min() > 195


def test_transparency_shows_white(tmp_path):
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(fitted(read_picture(tmp_path / "clear.png"), (3, 8, 8)), 255)
    see_through = Image.new("P", (10, 10), 0)
    see_through.putpalette([200, 0, 0])
    see_through.save(tmp_path / "clear.gif", transparency=0)
    np.testing.assert_array_equal(fitted(read_picture(tmp_path / "clear.gif"), (3, 8, 8)), 255)


def test_the_first_picture_of_an_animation(tmp_path):
    first, *others = (Image.new("RGB", (12, 12), colour) for colour in ("#ff0000", "#00ff00", "#0000ff"))
    first.save(tmp_path / "moving.gif", save_all=True, append_images=others)
    np.testing.assert_array_equal(
        fitted(read_picture(tmp_path / "moving.gif"), (3, 8, 8))[:, 4, 4], np.array([255, 0, 0])
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_by_pixels(tmp_path, orientation):
    """Orientation k, undone: the upright picture has its top left corner red and its top right corner green."""
    upright = Image.new("RGB", (32, 32), "black")
    upright.paste((255, 0, 0), (0, 0, 16, 16))
    upright.paste((0, 255, 0), (16, 0, 32, 16))
    turned = {  # what a camera has to store so that the tag makes it upright
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "x.jpg", exif=exif, quality=95, subsampling=0)
    pixels = fitted(read_picture(tmp_path / "x.jpg", 8), (3, 8, 8)).astype(int)
    assert pixels[:, 1, 1] == pytest.approx([255, 0, 0], abs=12)
    assert pixels[:, 1, 6] == pytest.approx([0, 255, 0], abs=12)
    assert pixels[:, 6, 3].max() < 12


def test_the_rule_keeps_the_shape_and_takes_the_middle():
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 255  # the middle square
    np.testing.assert_array_equal(fitted(Image.fromarray(wide), (3, 10, 10)), 255)
    np.testing.assert_array_equal(fitted(Image.fromarray(wide.transpose(1, 0, 2).copy()), (1, 10, 10)), 255)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (7, 3), (333, 331)])
def test_odd_sizes(size):
    pixels = fitted(Image.new("RGB", size, (10, 20, 30)), (3, 64, 64))
    np.testing.assert_array_equal(pixels[:, 5, 60], [10, 20, 30])
    assert pixels.shape == (3, 64, 64)


def test_a_large_jpeg_is_not_decoded_in_full(tmp_path):
    image = picture((90, 120, 60), size=(40, 30)).resize((1600, 1200), Image.Resampling.BICUBIC)
    image.save(tmp_path / "large.jpg", quality=95)
    part = read_picture(tmp_path / "large.jpg", 32)
    assert part.size == (200, 150)
    whole = read_picture(tmp_path / "large.jpg")
    assert whole.size == (1600, 1200)
    difference = fitted(part, (3, 32, 32)).astype(int) - fitted(whole, (3, 32, 32))
    assert np.abs(difference).mean() < 1.5


def test_grey_pictures_have_one_channel(tmp_path):
    for name in ("dark", "light"):
        (tmp_path / "grey" / name).mkdir(parents=True)
        for k in range(4):
            value = 20 + k if name == "dark" else 220 + k
            Image.new("L" if k % 2 else "RGB", (9, 9), value if k % 2 else (value,) * 3).save(
                tmp_path / "grey" / name / f"{k}.png"
            )
    every, _ = read_folder(tmp_path / "grey", SMALL)
    assert every.shape == (1, 8, 8)
    assert np.asarray(every.images)[:, 0, 0, 0].tolist() == [20, 21, 22, 23, 220, 221, 222, 223]
    for channels in (1, 3):
        asked, _ = read_folder(tmp_path / "grey", PictureOptions(8, channels))
        assert asked.shape == (channels, 8, 8)
    Image.new("RGB", (9, 9), (255, 0, 0)).save(tmp_path / "grey" / "dark" / "red.png")
    assert read_folder(tmp_path / "grey", SMALL)[0].shape == (3, 8, 8)
    asked, _ = read_folder(tmp_path / "grey", PictureOptions(8, 1))
    assert np.asarray(asked.images)[4, 0, 0, 0] == 76  # 0.299 · 255


# --- bad files ---------------------------------------------------------------------------------------------------


def png_that_declares(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_bad_files_are_left_out_and_named(photos, monkeypatch):
    """Promises 1 and 7."""
    red = photos / "red"
    good = (red / "00.png").read_bytes()
    (red / "torn.png").write_bytes(good[: len(good) // 2])
    (red / "empty.png").write_bytes(b"")
    (red / "words.jpg").write_text("I am no picture")
    (red / "bomb.png").write_bytes(png_that_declares(50_000, 50_000))
    (red / "short.png").write_bytes(png_that_declares(9_000, 9_000))
    (red / "page.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    (red / "nan.tiff").write_bytes(b"")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(red / "nan.tiff")
    (red / "really.png").write_bytes(good)
    jpeg = photos / "blue" / "torn.jpg"
    picture(COLOURS["blue"], size=(200, 200)).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:800])
    every, _ = read_folder(photos, SMALL)
    found = reasons(every)
    bad = {"torn.png", "empty.png", "words.jpg", "bomb.png", "short.png", "page.jpg", "nan.tiff"}
    assert found.keys() == {f"red/{name}" for name in bad} | {"blue/torn.jpg"}
    assert found["red/bomb.png"] == "declares more than 100,000,000 pixels"
    assert found["red/words.jpg"].startswith("not a picture that can be read")
    assert every.report["skipped_count"] == 8
    assert np.bincount(every.labels).tolist() == [8, 8, 9]


def test_a_file_too_large_is_not_read(photos, monkeypatch):
    monkeypatch.setattr("rot180.data.pictures.MOST_BYTES", 3000)
    picture(COLOURS["red"], size=(90, 90)).save(photos / "red" / "big.png")
    every, _ = read_folder(photos, SMALL)
    assert reasons(every) == {"red/big.png": "has more than 3,000 bytes"}


def test_a_class_with_bad_files_only_is_no_class(photos):
    (photos / "purple").mkdir()
    (photos / "purple" / "x.png").write_bytes(b"?")
    every, _ = read_folder(photos, SMALL)
    assert every.class_names == ("blue", "green", "red")
    assert np.bincount(every.labels).tolist() == [8, 8, 8]


# --- the cache ---------------------------------------------------------------------------------------------------


def watched(folder, options=SMALL):
    """How many pictures were decoded."""
    seen = []
    every, _ = read_folder(folder, options._replace(progress=lambda done, total: seen.append((done, total))))
    return len(seen), np.array(every.images)


def test_the_next_time_nothing_is_decoded(photos, cache):
    assert watched(photos)[0] == 24
    again, images = watched(photos)
    assert again == 0
    assert images.shape == (24, 3, 8, 8)
    assert watched(photos, PictureOptions(9))[0] == 24, "another size"
    assert watched(photos)[0] == 0, "both sizes are kept"
    assert len(list(cache.glob("*.npy"))) == 2
    assert all(np.load(path).dtype == np.uint8 for path in cache.glob("*.npy"))


def test_skipped_files_are_named_from_the_cache_too(photos):
    (photos / "red" / "x.jpg").write_text("words")
    first, second = (reasons(read_folder(photos, SMALL)[0]) for _ in range(2))
    assert first == second
    assert list(first) == ["red/x.jpg"]


@pytest.mark.parametrize("change", ["new", "gone", "altered", "touched", "renamed"])
def test_a_folder_that_has_changed(photos, cache, change):
    watched(photos)
    file = photos / "red" / "00.png"
    if change == "new":
        picture((9, 9, 9)).save(photos / "red" / "new.png")
    elif change == "gone":
        file.unlink()
    elif change == "altered":
        picture((9, 9, 9), size=(30, 30)).save(file)
    elif change == "touched":
        os.utime(file, ns=(1, 1))
    else:
        file.rename(photos / "red" / "zz.png")
    assert watched(photos)[0] in (23, 24, 25)
    assert len(list(cache.glob("*.npy"))) == 1, "what no longer fits is not kept"


@pytest.mark.parametrize("damage", ["cut", "bit", "header", "json", "no json", "other json", "empty"])
def test_a_damaged_cache_is_made_again(photos, cache, damage):
    _, before = watched(photos)
    (npy,), (described,) = cache.glob("*.npy"), cache.glob("*.json")
    content = bytearray(npy.read_bytes())
    if damage == "cut":
        npy.write_bytes(content[:-100])
    elif damage == "bit":
        content[-5] ^= 1
        npy.write_bytes(content)
    elif damage == "header":
        content[3] ^= 1
        npy.write_bytes(content)
    elif damage == "json":
        described.write_bytes(described.read_bytes()[:-9])
    elif damage == "no json":
        described.unlink()
    elif damage == "other json":
        described.write_text("[]")
    else:
        npy.write_bytes(b"")
    count, after = watched(photos)
    assert count == 24
    np.testing.assert_array_equal(after, before)
    assert watched(photos)[0] == 0


def beside(code, folder):
    """Another process that does this."""
    path = os.pathsep.join([str(Path(data.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    given = "import os, sys; from rot180.data.folder import PictureOptions, read_folder\n"
    return subprocess.Popen(
        [sys.executable, "-c", given + code, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_killed_while_decoding(photos, cache):
    """Promise 2: what is half written is never taken for whole, and goes when it is a day old."""
    code = (
        "read_folder(sys.argv[1], PictureOptions(8, progress=lambda done, of: done == 9 and os.kill(os.getpid(), 9)))"
    )
    with beside(code, photos) as killed:
        assert killed.wait() == -9
    (unfinished,) = cache.iterdir()
    assert watched(photos)[0] == 24
    assert unfinished.exists(), "it might be another process's"
    os.utime(unfinished, (0, 0))
    picture((9, 9, 9)).save(photos / "red" / "new.png")
    assert watched(photos)[0] == 25
    assert len(list(cache.iterdir())) == 2


@pytest.mark.skipif(os.name != "posix", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_while_decoding(photos, cache):
    """Promise 2."""
    code = """if True:
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        try:
            read_folder(sys.argv[1], PictureOptions(8))
        except Exception as error:
            print(type(error).__name__, error)
    """
    with beside(code, photos) as other:
        said, _ = other.communicate()
    assert said == (
        f"DataError pictures cannot be kept in {cache} (File too large): make room there, or set "
        "ROT180_CACHE_DIR to another folder\n"
    )
    assert not list(cache.iterdir())


def test_two_processes_at_once(photos, cache):
    code = "import zlib, numpy; print(zlib.crc32(numpy.array(read_folder(sys.argv[1], PictureOptions(8))[0].images)))"
    both = [beside(code, photos) for _ in range(2)]
    assert len({each.communicate()[0] for each in both}) == 1
    assert [each.returncode for each in both] == [0, 0]
    assert watched(photos)[0] == 0
    assert not list(cache.glob(".*")), "nothing half written is left"


def test_leaving_off_leaves_nothing(photos, cache):
    def interrupt(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_folder(photos, SMALL._replace(progress=interrupt))
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written(photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("ROT180_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"pictures cannot be kept in .*set ROT180_CACHE_DIR to another folder"):
        load_folder(photos, SMALL)


def test_where_only_reading_is_allowed(photos, monkeypatch):
    """A system that has not as much memory to set aside refuses a private mapping."""
    expected = watched(photos)[1]
    load = np.load

    def refuse(path, mmap_mode=None, **settings):
        if mmap_mode == "c":
            raise OSError(12, "Cannot allocate memory")
        return load(path, mmap_mode=mmap_mode, **settings)

    monkeypatch.setattr(np, "load", refuse)
    every, _ = read_folder(photos, SMALL)
    assert not every.images.base.flags.writeable
    np.testing.assert_array_equal(np.asarray(every.images), expected)


# --- mapped data -------------------------------------------------------------------------------------------------


def test_rows_are_read_when_they_are_asked_for(photos):
    train = load_folder(photos, SMALL).train
    assert isinstance(train.images, MappedRows)
    assert isinstance(train.images.base, np.memmap)
    some = train.take(np.array([5, 1])).take(slice(1))
    assert isinstance(some.images, MappedRows)
    assert some.images.base is train.images.base
    np.testing.assert_array_equal(some.images[:], train.images[np.array([5])])
    assert some.labels.tolist() == [train.labels[5]]


def test_the_cache_is_never_written_to(photos, cache):
    train = load_folder(photos, SMALL).train
    (npy,) = cache.glob("*.npy")
    before = npy.read_bytes()
    train.images[0][:] = 0
    np.asarray(train.images)[:] = 0
    assert npy.read_bytes() == before


RECIPES = {
    "plain": Recipe(epochs=2, batch=8, augmentation=Augmentation()),
    "varied": Recipe(epochs=2, batch=8, augmentation=Augmentation(flip=True, shift=2, rotate=10), validation=0),
    "one by one": Recipe(epochs=1, mode="stochastic", augmentation=Augmentation(flip=True)),
    "all together": Recipe(epochs=2, mode="whole-batch", augmentation=Augmentation(shift=1)),
}


@pytest.mark.parametrize("engine", ["lanes", "reference"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_mapped_training_is_training_in_memory_bit_for_bit(photos, recipe, engine):
    mapped = load_folder(photos, SMALL).train
    in_memory = Dataset(np.array(mapped.images), mapped.labels, mapped.class_names)
    networks = []
    for dataset in (mapped, in_memory):
        network = Network(build("INPUT -> CONV(4, 3) -> RELU -> POOL -> FC", 3, (3, 8, 8)), 3, engine=engine)
        trainer = Trainer(network, dataset, RECIPES[recipe])
        assert isinstance(trainer.data.images, MappedRows) == (dataset is mapped)
        for _ in trainer:
            pass
        networks.append((network.parameters.copy(), network.evaluate(dataset).loss))
    np.testing.assert_array_equal(networks[0][0], networks[1][0])
    assert networks[0][1] == networks[1][1]


# --- choices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 10, 500, 3000, 50_000])
def test_suggestions_work_for_any_number(count):
    images = np.zeros((count, 1, 1, 1), np.uint8)
    tiny = Dataset(np.broadcast_to(images, (count, 3, 64, 64)), np.zeros(count, int), ("a", "b"))
    network, recipe, why = suggest(tiny)
    assert recipe.epochs >= 10
    recipe.augmentation.check_fits(tiny.shape)
    build(network, 2, tiny.shape)
    assert why.keys() == {"size", "network", "epochs", "batch", "learning_rate", "augmentation", "validation"}


@pytest.mark.parametrize("count", [2, 10, 500, 3000, 50_000])
def test_suggestions_for_a_trained_network(count):
    images = np.broadcast_to(np.zeros((1, 1, 1, 1), np.uint8), (count, 3, 64, 64))
    pictures = Dataset(images, np.zeros(count, int), ("a", "b"))
    all_of_it, head, one = (suggest_transfer(pictures, "x", variants) for variants in (None, 4, 1))
    assert all_of_it.recipe.learning_rate < head.recipe.learning_rate
    assert 3 <= head.recipe.epochs <= one.recipe.epochs <= 20  # the fewer variants, the more often each is seen
    assert 3 <= all_of_it.recipe.epochs <= 12
    assert head.reasons.keys() == {"epochs", "batch", "learning_rate", "augmentation", "validation"}


# --- from end to end ---------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, photos, capsys):
    (photos / "red" / "broken.jpg").write_text("words")
    (photos / "green" / "07.png").unlink()
    (photos / "green" / "06.png").unlink()
    (photos / "green" / "05.png").unlink()
    folder = tmp_path / "run"
    argv = ["train", str(photos), "--out", str(folder), "--size", "16", "--epochs", "3", "--no-flip"]
    assert main([*argv, "--network", "INPUT -> [[CONV(8) -> RELU]*1 -> POOL]*2 -> FC", "--shift", "1"]) == 0
    return folder, photos, capsys.readouterr()


def test_a_run_on_a_folder(run, tmp_path, capsys):
    folder, photos, (out, err) = run
    results = json.loads((folder / "results.json").read_text())
    report = results["data_report"]
    assert results["class_names"] == ["blue", "green", "red"]
    assert report["skipped"] == [
        {"file": "red/broken.jpg", "reason": report["skipped"][0]["reason"]},
    ]
    assert report["classes"]["green"] == {"train": 4, "test": 1}
    assert report["imbalance"] == 1.5
    assert "left out: red/broken.jpg: not a picture that can be read" in err
    assert "15 pictures for training" not in err
    assert "16 pictures for training, 5 for testing" in err
    assert re.search(r"there are 1\.5 times as many (blue|red) as green: --balance duplicate or remove", err)
    assert re.search(r"--size 16 +as asked", err)
    assert re.search(r"--batch 32 +32 below 1,000", err)
    assert re.search(r"--shift 1 --rotate 10 --crop 0\.5 +as asked", err)
    assert re.search(r"--network 'INPUT -> .* +as asked", err)
    assert "test error" in out
    report = (folder / "report.html").read_text("utf-8")
    assert "red/broken.jpg" in report
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text("utf-8") == report, "the same pictures are found again"
    capsys.readouterr()
    for source in ([], [str(photos)]):
        assert main(["evaluate", str(folder), *source, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["errors"] == results["test_errors"]
        assert found["class_names"] == ["blue", "green", "red"]
        assert [each["file"] for each in found["left_out"]] == ["red/broken.jpg"]
        for each in found["worst_mistakes"]:
            assert each["name"].startswith(f"{each['true']}/")
            assert f"<small>{each['name']}</small>" in report
    other = fill(tmp_path / "other", 3)
    (other / "violet").mkdir()
    picture((200, 0, 200)).save(other / "violet" / "v.png")
    assert main(["evaluate", str(folder), str(other), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["images"] == 9, "another folder without parts is tested on as a whole"
    assert "left out: violet: a class that the network does not know; it knows blue, green, red" in captured.err


def test_evaluating_says_it_class_by_class_and_image_by_image(run, tmp_path, capsys):
    folder, photos, _ = run
    assert main(["evaluate", str(folder), "--csv", str(tmp_path / "all.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "class", "predicted", "probability", "blue", "green", "red"]
    assert len(rows) == found["images"] == 5
    assert sum(row["class"] != row["predicted"] for row in rows) == found["errors"]
    for row in rows:
        assert row["image"].startswith(f"{row['class']}/")
        assert (photos / row["image"]).exists()
        assert row["probability"] == row[row["predicted"]] == max((row[name] for name in COLOURS), key=float)
    for source in ([], [str(photos / "red" / "..")]):
        assert main(["evaluate", str(folder), *source]) == 0
        text = capsys.readouterr().out
        assert re.search(r"images +blue +green +red +recall +precision", text)
        recall = [f"{100 * share:.2f} %" for share in found["recall"]]
        assert (
            re.findall(r"^ +(?:blue|green|red) .*?(\d+\.\d\d %|–) +(?:\d+\.\d\d %|–) *$", text, re.MULTILINE) == recall
        )
        assert ("the worst mistakes" in text) == (found["errors"] > 0)


def test_predicting_files_folders_and_patterns(run, tmp_path, capsys):
    folder, photos, _ = run
    table = tmp_path / "out.csv"
    argv = ["predict", str(folder), str(photos / "red"), str(photos / "gr*" / "0[01].png"), str(photos / "blue/00.png")]
    argv.insert(3, str(tmp_path / "*.nothing"))  # does not stop those behind it
    assert main([*argv, "--top", "2", "--json", "--csv", str(table)]) == 1
    captured = capsys.readouterr()
    assert "there is no picture" in captured.err
    assert "2 of 13 could not be read" in captured.err
    results = json.loads(captured.out)
    assert [Path(each["image"]).parent.name for each in results] == ["red"] * 9 + [tmp_path.name] + ["green"] * 2 + [
        "blue"
    ]
    assert "broken.jpg: not a picture" in captured.err
    good = [each for each in results if "error" not in each]
    assert len(good) == 11
    assert all(len(each["top"]) == 2 for each in good)
    header, *rows = table.read_text().splitlines()
    assert header == "image,class,probability,blue,green,red,error"
    assert len(rows) == 13
    assert rows[-1].split(",")[1] == results[-1]["class"]
    assert sum(map(float, rows[-1].split(",")[3:6])) == pytest.approx(1, abs=1e-4)
    assert main(["predict", str(folder), str(photos / "*.xyz")]) == 1
    assert "there is no picture" in capsys.readouterr().err


def test_resuming_after_a_stop(tmp_path, photos, capsys):
    network = ["--network", "INPUT -> CONV(4) -> POOL -> FC", "--size", "16"]
    for name, extra in (("whole", []), ("stopped", ["--max-updates", "2"])):
        assert main(["train", str(photos), "--out", str(tmp_path / name), "--epochs", "2", *network, *extra]) == 0
    capsys.readouterr()
    picture((0, 0, 0), 5).save(photos / "red" / "new.png")
    assert main(["train", "--resume", str(tmp_path / "stopped")]) == 1
    assert "is no longer the data that the run began with" in capsys.readouterr().err


def test_size_is_for_pictures(capsys, tmp_path):
    assert main(["train", "mnist", "--size", "32", "--out", str(tmp_path / "x")]) == 1
    assert "--size is for folders of pictures: mnist has images of 1x28x28" in capsys.readouterr().err


def test_the_cache_folder_is_the_users(monkeypatch):
    monkeypatch.delenv("ROT180_CACHE_DIR")
    assert array_cache.cache_folder("pictures").name == "pictures"
    assert array_cache.cache_folder("pictures").parent.name == "rot180"


def test_a_test_folder_with_parts(tmp_path):
    fill(tmp_path / "all" / "train", 4)
    fill(tmp_path / "all" / "val", 2)
    options = SMALL._replace(class_names=("red", "green", "blue", "more"))
    test = load_test_folder(tmp_path / "all", options, learned_from=False)
    assert len(test) == 6
    strongest = np.asarray(test.images).mean(axis=(2, 3)).argmax(axis=1)
    np.testing.assert_array_equal(strongest, test.labels), "labels are the network's"
    assert test.name_of(0) == "val/blue/00.png"
