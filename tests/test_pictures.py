"""Pictures from anywhere become what MNIST would have made of them, or a DataError that names the file (promise 1)."""

import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from rot180 import data
from rot180.data import pictures
from rot180.data.pictures import as_digit, fitted, grey, read_picture
from rot180.errors import DataError

MANY = 100


@pytest.fixture(scope="module")
def digits():
    """(100, 28, 28), light on dark."""
    return data.mnist().test.images[:MANY, 0]


def correlation(a, b):
    a, b = (each.astype(float) - each.mean() for each in (a, b))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def likeness(a, b):
    """The correlation at the best of nine places: rounding a centre may move a digit by a pixel."""
    padded = np.pad(b, 1)
    return max(correlation(a, padded[i : i + 28, j : j + 28]) for i in range(3) for j in range(3))


def drawn(digit, size, canvas=None, at=(0, 0), dark=False):
    """The digit as a grey picture: enlarged, laid somewhere, perhaps dark on light."""
    picture = Image.new("L", canvas or (size, size), 0)
    picture.paste(Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC), at)
    return picture.point(lambda value: 255 - value) if dark else picture


def through(path, picture, **options):
    """What comes of the picture once it has been a file."""
    picture.save(path, **options)
    return as_digit(read_picture(path))[0]


def assert_alike(outs, digits):
    likenesses = [likeness(out, digit) for out, digit in zip(outs, digits, strict=True)]
    assert min(likenesses) > 0.9, int(np.argmin(likenesses))
    assert np.median(likenesses) > 0.97


# --- a digit stays what it was -----------------------------------------------------------------------------------


def test_a_digit_by_hand():
    """A bar of 40x10 becomes 20x5, its middle on pixel 14: rows 4 to 23, columns 12 to 16, or 4 and 12 as it rounds."""
    picture = np.full((100, 60), 255, np.uint8)
    picture[20:60, 5:15] = 0
    digit = as_digit(Image.fromarray(picture))
    assert digit.shape == (1, 28, 28)
    assert digit.dtype == np.uint8
    expected = np.zeros((28, 28))
    expected[4:24, 12:17] = 255
    np.testing.assert_array_equal(digit[0], expected)


def test_mnists_own_digits_stay_where_they_are(tmp_path, digits):
    """The convention is MNIST's: the centre of mass on pixel 14, not between 13 and 14."""
    outs = [through(tmp_path / "d.png", Image.fromarray(digit)) for digit in digits]
    differences = [np.abs(out.astype(float) - digit).mean() for out, digit in zip(outs, digits, strict=True)]
    assert np.median(differences) < 0.01
    assert np.mean([difference < 2 for difference in differences]) >= 0.98
    assert_alike(outs, digits)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("name", "options"), [("d.png", {}), ("d.jpg", {"quality": 85}), ("d.bmp", {}), ("d.tiff", {}), ("d.webp", {})]
)
@pytest.mark.parametrize(
    ("size", "canvas", "at"), [(100, None, (0, 0)), (150, (517, 301), (30, 140)), (280, (301, 517), (15, 200))]
)
def test_any_size_format_and_place(tmp_path, digits, dark, name, options, size, canvas, at):
    some = digits[:12]
    assert_alike([through(tmp_path / name, drawn(each, size, canvas, at, dark), **options) for each in some], some)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 30), (250, 230, 90)])
def test_transparent_backgrounds(tmp_path, digits, colour):
    """Strokes of any colour on nothing: the strokes are what is opaque, whatever colour hides behind nothing."""
    outs = []
    for digit in digits[:10]:
        mask = drawn(digit, 120)
        picture = Image.new("RGBA", mask.size, (*colour, 0))
        picture.putalpha(mask)
        outs.append(through(tmp_path / "d.png", picture))
    assert_alike(outs, digits[:10])


def test_grey_with_alpha_and_palette_with_transparency(tmp_path, digits):
    outs = []
    for digit in digits[:10]:
        ink = drawn(digit, 112)
        both = Image.merge("LA", (Image.new("L", ink.size, 0), ink))
        outs.append(through(tmp_path / "d.png", both))
    assert_alike(outs, digits[:10])
    palette = drawn(digits[0], 112).point(lambda value: 1 if value > 100 else 0).convert("P")
    palette.putpalette([255, 255, 255, 0, 0, 0] + [0] * 762)
    assert likeness(through(tmp_path / "d.gif", palette, transparency=0), digits[0]) > 0.9


@pytest.mark.parametrize("span", [(0, 65535), (1000, 30000)])
def test_sixteen_bits(tmp_path, digits, span):
    outs = []
    for digit in digits[:10]:
        values = np.asarray(drawn(digit, 112), float) / 255
        picture = Image.fromarray((span[0] + values * (span[1] - span[0])).astype(np.uint16))
        outs.append(through(tmp_path / "d.png", picture))
    assert_alike(outs, digits[:10])


def test_palettes_two_colours_and_cmyk(tmp_path, digits):
    for digit in digits[:6]:
        picture = drawn(digit, 112, (200, 150), (60, 20), dark=True)
        assert likeness(through(tmp_path / "d.gif", picture.convert("P")), digit) > 0.9
        assert likeness(through(tmp_path / "d.jpg", picture.convert("RGB").convert("CMYK")), digit) > 0.9
        assert likeness(through(tmp_path / "d.png", picture.convert("1", dither=Image.Dither.NONE)), digit) > 0.85


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
    ],
)
def test_a_picture_is_upright_as_its_exif_says(tmp_path, digits, orientation, turn):
    """The camera lay on its side, and says so: orientation 6 is to be turned clockwise to be seen."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    outs = []
    for digit in digits[:10]:
        lying = drawn(digit, 140, (200, 160), (20, 10)).transpose(turn)
        outs.append(through(tmp_path / "d.jpg", lying, exif=exif, quality=90))
    assert_alike(outs, digits[:10])


def test_an_animations_first_picture(tmp_path, digits):
    first, second = (drawn(digits[k], 112) for k in (0, 1))
    assert likeness(through(tmp_path / "d.gif", first, save_all=True, append_images=[second]), digits[0]) > 0.9


def test_uneven_light_counts_by_the_rim(digits):
    """Pencil on grey paper: neither black nor white."""
    values = 170 - np.asarray(drawn(digits[3], 112), float) * 0.4
    assert likeness(as_digit(Image.fromarray(values.astype(np.uint8)))[0], digits[3]) > 0.9


def test_a_dot_and_a_line_are_digits_too():
    dot, line = np.zeros((50, 50), np.uint8), np.zeros((400, 300), np.uint8)
    dot[7, 40] = 255
    line[10:390, 150] = 255
    assert (as_digit(Image.fromarray(dot)) > 0).sum() == 400  # 20x20
    assert (as_digit(Image.fromarray(line)) > 0).sum() == 20  # 20x1


@pytest.mark.parametrize("value", [0, 127, 128, 255])
def test_a_blank_picture_is_refused(value):
    with pytest.raises(DataError, match=r"^the picture shows nothing but its background$"):
        as_digit(Image.new("L", (40, 30), value))
    with pytest.raises(DataError, match=r"^the picture shows nothing but its background$"):
        as_digit(Image.new("RGBA", (40, 30), (value, value, value, 0)))


# --- for other networks ------------------------------------------------------------------------------------------


def test_fitted_to_grey_and_to_colour():
    picture = Image.new("RGB", (10, 6), (255, 0, 0))
    red = fitted(picture, (3, 4, 5))
    assert red.shape == (3, 4, 5)
    assert red.dtype == np.uint8
    np.testing.assert_array_equal(red[0], 255)
    np.testing.assert_array_equal(red[1:], 0)
    np.testing.assert_array_equal(fitted(picture, (1, 4, 5)), np.full((1, 4, 5), 76))  # 0.299 · 255
    with pytest.raises(DataError, match=r"^a picture has 1 or 3 channels, but the network takes 2$"):
        fitted(picture, (2, 4, 5))


def test_rows_stay_rows():
    picture = np.zeros((2, 3), np.uint8)
    picture[0, 2] = 200
    np.testing.assert_array_equal(fitted(Image.fromarray(picture), (1, 2, 3))[0], picture)


def test_grey_shows_white_behind_dark_and_black_behind_light():
    for colour, behind in ((0, 255), (255, 0)):
        picture = Image.new("RGBA", (2, 1), (colour, colour, colour, 255))
        picture.putpixel((1, 0), (9, 9, 9, 0))
        np.testing.assert_array_equal(grey(picture), [[colour, behind]])


# --- files that are no pictures ----------------------------------------------------------------------------------


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_of(width, height, pixels=b""):
    """A PNG that says how large it is, and holds what it holds."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + packed + chunk(b"IEND", b"")


def refused(path, text=""):
    """The error names the file, once."""
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: {text}") as caught:
        read_picture(path)
    assert str(caught.value).count(str(path)) == 1


def test_a_missing_file_and_a_folder(tmp_path):
    refused(tmp_path / "none.png", "there is no such file$")
    refused(tmp_path, r"not a picture that can be read \(.*\); give JPEG, PNG, GIF, BMP, TIFF, WEBP$")


@pytest.mark.parametrize("content", [b"hello, I am a text file", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a"])
def test_a_file_that_is_no_picture(tmp_path, content):
    (tmp_path / "d.png").write_bytes(content)
    refused(tmp_path / "d.png", r"not a picture that can be read \(.*\); give JPEG, PNG, GIF, BMP, TIFF, WEBP$")


def test_an_empty_file(tmp_path):
    (tmp_path / "d.png").touch()
    refused(tmp_path / "d.png", "the file is empty$")


def test_formats_outside_the_list_are_not_opened(tmp_path):
    """Pillow reads dozens of formats, some by running other programs."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"
    (tmp_path / "d.png").write_bytes(eps)
    refused(tmp_path / "d.png", "not a picture that can be read")
    for name in ("d.ppm", "d.ico", "d.tga", "d.pcx"):
        Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / name)
        refused(tmp_path / name, "not a picture that can be read")


@pytest.mark.parametrize("name", ["d.png", "d.jpg", "d.gif", "d.bmp", "d.tiff", "d.webp"])
def test_a_file_cut_off_anywhere_is_refused_or_whole(tmp_path, digits, name):
    """Some decoders do not need the last bytes; none may raise anything else."""
    path = tmp_path / name
    drawn(digits[0], 60).convert("RGB" if name == "d.webp" else "L").save(path)
    content, refusals = path.read_bytes(), 0
    cuts = sorted({*range(60), *range(60, len(content), max(1, len(content) // 40))})
    for cut in cuts:
        path.write_bytes(content[:cut])
        try:
            read_picture(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            refusals += 1
    assert refusals > len(cuts) * 0.8


@pytest.mark.parametrize("name", ["d.png", "d.jpg", "d.gif", "d.bmp", "d.tiff", "d.webp"])
def test_random_damage_makes_a_data_error_or_a_picture(tmp_path, digits, name):
    path, chance = tmp_path / name, np.random.default_rng(4)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if name in ("d.jpg", "d.webp", "d.png") else {}
    drawn(digits[0], 40).convert("RGB").save(path, **options)
    content, outcomes = path.read_bytes(), set()
    for _ in range(150):
        damaged = bytearray(content)
        for place in chance.integers(0, min(len(content), 400), chance.integers(1, 6)):
            damaged[place] = chance.integers(256)
        path.write_bytes(damaged)
        try:
            picture = read_picture(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            outcomes.add("refused")
        else:
            assert picture.mode in ("L", "RGB", "RGBA")
            outcomes.add("read")
    assert "refused" in outcomes


@pytest.mark.parametrize(
    ("width", "height"), [(100_000, 100_000), (10_001, 10_000), (2**31 - 1, 2**31 - 1), (100_000_001, 1)]
)
def test_a_huge_declared_size_allocates_nothing(tmp_path, width, height):
    (tmp_path / "d.png").write_bytes(png_of(width, height, bytes(1000)))
    tracemalloc.start()
    try:
        refused(tmp_path / "d.png")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_the_text_for_too_many_pixels(tmp_path):
    (tmp_path / "d.png").write_bytes(png_of(10_001, 10_000))
    refused(tmp_path / "d.png", "10001x10000 is more than 100,000,000 pixels$")


def test_half_a_file_says_so(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (100, 100), np.uint8)
    Image.fromarray(noise).save(tmp_path / "d.png")
    content = (tmp_path / "d.png").read_bytes()
    (tmp_path / "d.png").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "d.png", r"not a picture that can be read \(image file is truncated.*\); give JPEG, PNG, GIF")


def test_the_smallest_picture(tmp_path):
    (tmp_path / "d.png").write_bytes(png_of(1, 1, b"\0\x07"))
    np.testing.assert_array_equal(np.asarray(read_picture(tmp_path / "d.png")), [[7]])
    assert pictures.MOST_PIXELS == 100_000_000
