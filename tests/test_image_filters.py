"""Classical kernels: the matrices as printed, known answers, PyTorch as the oracle, bad files, and the command."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from rot180 import image_filters as filters
from rot180.cli import main
from rot180.errors import DataError, Rot180Error, SettingError, ShapeError

TORCH_BORDER = {"zero": "constant", "replicate": "replicate", "reflect": "reflect", "wrap": "circular"}
FIVE = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]])
NINE = np.array(  # document 003: strokes are 1, the rest -1
    [
        [-1, -1, -1, -1, -1, -1],
        [-1, 1, 1, 1, -1, -1],
        [-1, 1, -1, 1, -1, -1],
        [-1, 1, 1, 1, -1, -1],
        [-1, -1, -1, 1, -1, -1],
        [-1, 1, 1, 1, -1, -1],
    ]
)


def picture(height, width, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (channels, height, width)).astype(np.uint8)


# --- the matrices --------------------------------------------------------------------------------------------------

PRINTED = {
    "sobel-x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "sobel-y": [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
    "scharr-x": [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]],
    "scharr-y": [[-3, -10, -3], [0, 0, 0], [3, 10, 3]],
    "laplacian": [[1, 1, 1], [1, -8, 1], [1, 1, 1]],
    "edge-vertical": [[-1, -1, 5], [-1, -1, 5], [-1, -1, 5]],
    "edge-horizontal": [[5, 5, 5], [-1, -1, -1], [-1, -1, -1]],
    "line-vertical": [[-1, 5, -1], [-1, 5, -1], [-1, 5, -1]],
    "diagonal": [[5, -1, -1], [-1, 5, -1], [-1, -1, 5]],
    "loop": [[1, 1, 1], [1, -1, 1], [1, 1, 1]],
    "second-difference": [[1, -2, 1]],
    "gaussian-template": [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
    "mean": np.full((3, 3), 1 / 9),
    "moving-average": [[1 / 3, 1 / 3, 1 / 3]],
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_kernel_is_what_the_documents_print(name):
    np.testing.assert_array_equal(filters.kernel(name), PRINTED[name])


def test_the_gaussian_in_decimals():
    """σ = 1: 1/2π = .15915 in the middle, times e^-1/2 beside it and e^-1 at the corner."""
    expected = [[0.05855, 0.09653, 0.05855], [0.09653, 0.15915, 0.09653], [0.05855, 0.09653, 0.05855]]
    np.testing.assert_allclose(filters.gaussian_samples(3, 1), expected, atol=5e-6)
    assert filters.gaussian_samples(13, 2).sum() == pytest.approx(1, abs=0.01)
    for size, sigma in ((3, 0.5), (4, 1.3), (9, 2)):
        w = filters.gaussian(size, sigma)
        assert w.sum() == pytest.approx(1)
        np.testing.assert_allclose(w, w.T)
        np.testing.assert_allclose(w, filters.rot180(w))
        assert w[0, 0] == w.min()


def test_the_gaussian_as_a_template():
    w = filters.gaussian_template(5, 1.0)
    np.testing.assert_array_equal(
        w, [[1, 4, 7, 4, 1], [4, 20, 33, 20, 4], [7, 33, 54, 33, 7], [4, 20, 33, 20, 4], [1, 4, 7, 4, 1]]
    )  # e^4 = 54.6 in the middle, its whole part
    np.testing.assert_array_equal(filters.gaussian_template(3, 30.0), np.ones((3, 3)))  # a large σ: the mean filter
    with pytest.raises(SettingError, match="too small to count the others"):
        filters.gaussian_template(31, 1.0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sobel", {}, "there is no kernel 'sobel'"),
        ("sobel-x", {"size": 3}, "sobel-x has no size: mean, gaussian"),
        ("mean", {"sigma": 1.0}, "mean has no sigma: gaussian"),
        ("mean", {"size": 0}, "size is 0: give a whole number of at least 1"),
        ("mean", {"size": 10**9}, "at most 501"),
        ("gaussian", {"sigma": 0.0}, "sigma is 0: give at least 0.1"),
        ("gaussian", {"sigma": float("nan")}, "sigma is nan"),
        ("gaussian-template", {"sigma": -1.0}, "sigma is -1"),
    ],
)
def test_a_setting_that_cannot_be(name, settings, message):
    with pytest.raises(SettingError, match=message):
        filters.kernel(name, **settings)


# --- filtering -----------------------------------------------------------------------------------------------------


def test_the_worked_example():
    """003: the five-by-five picture under [[1,0,1],[0,1,0],[1,0,1]]."""
    w = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    np.testing.assert_array_equal(filters.apply(FIVE, w, "valid"), [[4, 3, 4], [2, 4, 3], [2, 3, 4]])


def test_known_answers():
    step = np.tile([0.0, 0, 0, 10, 10, 10], (5, 1))
    inside = (slice(1, -1), slice(1, -1))
    np.testing.assert_array_equal(filters.apply(step, filters.kernel("sobel-x"))[2], [0, 0, 40, 40, 0, 0])
    np.testing.assert_array_equal(filters.apply(step, filters.kernel("sobel-y")), 0)
    np.testing.assert_array_equal(filters.apply(step, filters.kernel("scharr-x"))[2], [0, 0, 160, 160, 0, 0])
    np.testing.assert_array_equal(filters.magnitude(step.T, "sobel")[:, 2], [0, 0, 40, 40, 0, 0])
    np.testing.assert_allclose(filters.apply(np.full((4, 4), 7.0), filters.mean(3)), 7, rtol=1e-6)
    rows, columns = np.mgrid[:6, :7].astype(float)
    parabola = rows**2 + 3 * columns**2  # x'' + y'' = 8
    np.testing.assert_array_equal(filters.apply(parabola, filters.kernel("laplacian-4"))[inside], 8)
    np.testing.assert_array_equal(filters.apply(parabola, filters.kernel("sharpen"))[inside], (parabola - 8)[inside])
    np.testing.assert_array_equal(filters.apply(parabola, filters.kernel("second-difference"))[:, 1:-1], 6)


def test_the_echo_is_heard_after_its_cause():
    signal = np.array([[0.0, 0, 8, 0, 0, 0]])
    echo = filters.apply(signal, filters.kernel("decaying-echo"), "zero")
    np.testing.assert_array_equal(echo, [[0, 0, 8, 4, 2, 0]])
    np.testing.assert_array_equal(filters.convolve(signal, [0, 0, 1, 1 / 2, 1 / 4], "zero"), echo)


@pytest.mark.parametrize("border", filters.BORDERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 3), (3, 3), (5, 2), (7, 7)])
def test_against_pytorch(border, shape):
    """Kernels that are a product of a column and a row, and others; even sizes; each channel by itself."""
    rng = np.random.default_rng(1)
    x = picture(11, 9, channels=3)
    for w in (rng.normal(size=shape), np.outer(rng.normal(size=shape[0]), rng.normal(size=shape[1]))):
        maps = torch.tensor(x.astype(np.float64))[:, None]
        if border != "valid":
            (kh, kw) = shape
            pads = ((kw - 1) // 2, kw // 2, (kh - 1) // 2, kh // 2)
            maps = torch.nn.functional.pad(maps, pads, mode=TORCH_BORDER[border])
        expected = torch.nn.functional.conv2d(maps, torch.tensor(w)[None, None])[:, 0].numpy()
        y = filters.apply(x, w, border)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-3)


def test_bands_of_rows_meet(monkeypatch):
    x, w = picture(23, 17), np.arange(9.0).reshape(3, 3) ** 2
    whole = filters.apply(x, w)
    monkeypatch.setattr(filters, "BAND", 1)  # one row a band
    np.testing.assert_array_equal(filters.apply(x, w), whole)


def test_a_kernel_that_factors_is_found_and_exact():
    for name in ("sobel-x", "scharr-y", "mean", "gaussian", "gaussian-template"):
        w = filters.kernel(name)
        column, row = filters._factors(w)
        assert column.shape[1] == row.shape[0] == 1
        np.testing.assert_allclose(column * row, w, rtol=1e-14)
    for w in (filters.kernel("laplacian"), filters.kernel("second-difference"), np.zeros((3, 3))):
        assert len(filters._factors(w)) == 1


@pytest.mark.parametrize(
    ("x", "w", "border", "error", "message"),
    [
        (np.zeros(5), np.ones((3, 3)), "zero", ShapeError, r"\(\.\.\., H, W\)"),
        (np.zeros((5, 0)), np.ones((3, 3)), "zero", ShapeError, "5x0"),
        (np.zeros((5, 5)), np.ones((2, 3, 3)), "zero", ShapeError, "2x3x3"),
        (np.zeros((5, 5)), np.ones((3, 3)), "mirror", SettingError, "zero, replicate, reflect, wrap, valid"),
        (np.zeros((2, 5)), np.ones((3, 3)), "valid", ShapeError, "3x3 does not fit into 2x5"),
    ],
)
def test_what_cannot_be_filtered(x, w, border, error, message):
    with pytest.raises(error, match=message):
        filters.apply(x, w, border)


def test_a_picture_smaller_than_the_kernel():
    for border in ("zero", "replicate", "reflect", "wrap"):
        assert filters.apply(np.ones((1, 2)), filters.mean(9), border).shape == (1, 2)


# --- the range -----------------------------------------------------------------------------------------------------


def test_the_range_rules():
    y = np.array([[-300.0, -20.0, 0.4, 99.6, 300.0]])
    np.testing.assert_array_equal(filters.to_picture(y, "clip"), [[0, 0, 0, 100, 255]])
    np.testing.assert_array_equal(filters.to_picture(y, "absolute"), [[255, 20, 0, 100, 255]])
    np.testing.assert_array_equal(filters.to_picture(y, "rescale"), [[0, 119, 128, 170, 255]])
    np.testing.assert_array_equal(filters.to_picture(np.full((2, 2), 9.0), "rescale"), 0)
    with pytest.raises(SettingError, match="clip, absolute, rescale"):
        filters.to_picture(y, "wrap")


def test_the_natural_range():
    rules = {name: filters.natural_range(filters.kernel(name)) for name in filters.KERNELS}
    assert {name for name, rule in rules.items() if rule == "absolute"} == {
        "sobel-x", "sobel-y", "scharr-x", "scharr-y", "laplacian", "laplacian-4", "second-difference"
    }  # fmt: skip
    assert rules["sharpen"] == rules["gaussian"] == rules["gaussian-samples"] == rules["mean"] == "clip"
    assert rules["edge-vertical"] == "rescale"


# --- is this stroke in the picture? ----------------------------------------------------------------------------------


def test_the_stroke_of_the_nine():
    """003: the loop of the 9 answers with its full strength, in one place."""
    stroke = filters.kernel("loop")
    response = filters.apply(NINE, stroke, "valid")
    assert response.max() == 9
    assert (response == 9).sum() == 1
    (match,) = filters.find_stroke(NINE, stroke)
    assert (match.row, match.column) == (1, 1)
    assert match.strength == pytest.approx(1)
    assert filters.find_stroke(-NINE, stroke)[0].strength < 0.6


def test_several_strokes_none_upon_another():
    x = -np.ones((9, 20))
    for row, column in ((0, 0), (5, 9), (2, 16)):
        x[row : row + 3, column : column + 3] = filters.kernel("loop")
    x[2, 16] = -1  # a pixel of the third is missing
    matches = filters.find_stroke(x, filters.kernel("loop"), most=3)
    assert {(match.row, match.column) for match in matches[:2]} == {(0, 0), (5, 9)}
    assert (matches[2].row, matches[2].column) == (2, 16)
    np.testing.assert_allclose([match.strength for match in matches], [1, 1, 7 / 9], rtol=1e-6)
    everywhere = filters.find_stroke(x, filters.kernel("loop"), most=1000)
    assert 3 < len(everywhere) <= 3 * 7
    for a in everywhere:
        assert not any(a != b and abs(a.row - b.row) < 3 and abs(a.column - b.column) < 3 for b in everywhere)


def test_strokes_that_cannot_be_found():
    with pytest.raises(ShapeError, match="7x7 does not fit into 6x6"):
        filters.find_stroke(NINE, np.ones((7, 7)))
    with pytest.raises(SettingError, match="all zeros"):
        filters.find_stroke(NINE, np.zeros((3, 3)))
    with pytest.raises(ShapeError, match="grey picture"):
        filters.find_stroke(np.zeros((3, 6, 6)), np.ones((3, 3)))


# --- kernels from files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        "0 -1 0\n-1 5 -1\n0 -1 0\n",
        "0, -1, 0\n-1, 5, -1\n0, -1, 0",
        "0;-1;0\r\n-1;5;-1\r\n0;-1;0\r\n",
        "# sharpen\n\n0\t-1\t0\n-1\t5\t-1  # the middle\n0\t-1\t0",
        "[[0, -1, 0], [-1, 5, -1], [0, -1, 0]]",
        "\ufeff0,-1,0\n-1,10/2,-1\n0,-1 / 1,0",
    ],
)
def test_a_matrix_in_many_hands(tmp_path, written):
    (tmp_path / "kernel").write_text(written, encoding="utf-8")
    np.testing.assert_array_equal(filters.read_kernel(tmp_path / "kernel"), filters.kernel("sharpen"))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "no numbers in it"),
        ("# nothing\n", "no numbers in it"),
        ("[[]]", "no numbers in it"),
        ("1 2\n3 x\n", "line 2: 'x' is not a number"),
        ("1 2\n\n3\n", "line 3: 1 numbers, but the first row has 2"),
        ("1,2\n3,,\n", "line 2: 3 numbers, but the first row has 2"),
        ("1,\n2,\n", "line 1: '' is not a number"),
        ("1 1/0", "line 1: '1/0' is not a number"),
        ("1 1/", "line 1: '1/' is not a number"),
        ("1 nan", "'nan' is not a number"),
        ("1 1e31", "'1e31' is not a number"),
        ("[[1, 2], [3]]", "row 2: 1 numbers"),
        ("[[1, true]]", "row 1: 'True' is not a number"),
        ("[[1, [2]]]", "row 1: '\\[2\\]' is not a number"),
        ('{"kernel": [[1]]}', "give a list of rows"),
        ("[[1, 2]", "not the JSON it seems to be"),
        ("[" * 100_000, "not the JSON it seems to be"),
        ("[[" + "9" * 5000 + "]]", "not the JSON|is not a number"),
        ("1 " * 502, "1x502; at most 501 a side"),
        ("1" * 50, "is not a number"),
    ],
)
def test_a_matrix_that_is_none(tmp_path, written, message):
    path = tmp_path / "kernel.txt"
    path.write_text(written)
    with pytest.raises(DataError, match=message) as raised:
        filters.read_kernel(path)
    assert "kernel.txt" in str(raised.value)


def test_files_that_are_no_matrix(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="No such file"):
        filters.read_kernel(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read"):
        filters.read_kernel(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="not text"):
        filters.read_kernel(tmp_path / "bytes")
    monkeypatch.setattr(filters, "LARGEST_FILE", 10)
    (tmp_path / "long").write_text("1 " * 10)
    with pytest.raises(DataError, match="more than 10 bytes"):
        filters.read_kernel(tmp_path / "long")


# --- the command -----------------------------------------------------------------------------------------------------


def run(capsys, *arguments):
    code = main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


@pytest.fixture
def colour(tmp_path):
    x = picture(13, 17, channels=3)
    Image.fromarray(x.transpose(1, 2, 0)).save(tmp_path / "colour.png")
    return tmp_path / "colour.png", x


@pytest.mark.parametrize("name", [*filters.KERNELS, *filters.MAGNITUDES])
def test_the_command_does_what_the_functions_do(capsys, tmp_path, colour, name):
    path, x = colour
    code, result, err = run(capsys, "filter", path, "--kernel", name, "--out", tmp_path / "out.png")
    assert (code, err) == (0, "")
    y = filters.magnitude(x, name) if name in filters.MAGNITUDES else filters.apply(x, np.array(result["kernels"][0]))
    expected = filters.to_picture(y, result["range"]).transpose(1, 2, 0)
    written = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.abs(written.astype(int) - expected).max() == 0
    assert result["channels"] == 3
    assert result["lowest"] == pytest.approx(y.min())


def test_options_of_the_command(capsys, tmp_path, colour):
    path, x = colour
    (tmp_path / "shift.csv").write_text("0,0,0\n0,0,1\n0,0,0\n")
    options = ["--kernel", tmp_path / "shift.csv", "--border", "wrap", "--out", tmp_path / "o.png"]
    assert run(capsys, "filter", path, *options)[0] == 0
    written = np.asarray(Image.open(tmp_path / "o.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(written, np.roll(x, -1, axis=2))  # correlation looks to the right
    assert run(capsys, "filter", path, *options, "--flip")[0] == 0
    written = np.asarray(Image.open(tmp_path / "o.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(written, np.roll(x, 1, axis=2))
    options = ["--kernel", "mean", "--size", 5, "--border", "valid", "--range", "rescale", "--out", tmp_path / "o.bmp"]
    code, result, _ = run(capsys, "filter", path, *options)
    assert (code, result["size"], result["range"]) == (0, [13, 9], "rescale")


def test_transparency_shows_white(capsys, tmp_path):
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert run(capsys, "filter", tmp_path / "clear.png", "--kernel", "mean", "--out", tmp_path / "o.png")[0] == 0
    assert np.asarray(Image.open(tmp_path / "o.png")).min() == 255


@pytest.mark.parametrize("dark", [False, True])
def test_finding_by_command(capsys, tmp_path, dark):
    ink = np.uint8((NINE + 1) * 127.5)
    Image.fromarray(255 - ink if dark else ink).save(tmp_path / "nine.png")
    arguments = ["filter", tmp_path / "nine.png", "--find", "loop", *(["--dark"] if dark else [])]
    code, result, _ = run(capsys, *arguments)
    assert code == 0
    assert (result["matches"][0]["row"], result["matches"][0]["column"]) == (1, 1)
    assert result["matches"][0]["strength"] == pytest.approx(1, abs=1e-3)
    assert main([*map(str, arguments), "--top", "2"]) == 0
    assert "strength" in capsys.readouterr().out


def test_the_list(capsys):
    assert main(["filter", "--list"]) == 0
    out = capsys.readouterr().out
    assert "    ⎡ -1  0  1 ⎤\n    ⎢ -2  0  2 ⎥\n    ⎣ -1  0  1 ⎦\n" in out
    assert "    [ 1  -2  1 ]" in out
    code, listed, _ = run(capsys, "filter", "--list")
    assert code == 0
    assert {each["name"] for each in listed} == {*filters.KERNELS, *filters.MAGNITUDES}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel", "mean"], "there is no --out"),
        (["--kernel", "mean", "--out", "o.gif"], "has to end in .png"),
        (["--kernel", "sobl", "--out", "o.png"], "sobl is neither a kernel's name nor a file; did you mean sobel?"),
        (["--kernel", "a/b", "--out", "o.png"], "rot180 filter --list shows"),
        (["--find", "sobel"], "did you mean sobel-"),
        (["--kernel", "sobel", "--size", "3", "--out", "o.png"], "has no size"),
        (["--kernel", "mean", "--out", "none/o.png"], "cannot write none/o.png"),
        (["--kernel", "mean", "--size", "41", "--border", "valid", "--out", "o.png"], "does not fit into 13x17"),
        (["--find", "loop", "--top", "0"], "the number of matches is 0"),
    ],
)
def test_mistakes_make_one_sentence(capsys, tmp_path, monkeypatch, colour, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, result, err = run(capsys, "filter", colour[0], *arguments)
    assert code == 1
    assert message in result["error"]
    assert err == f"rot180: {result['error']}\n"
    assert not list(tmp_path.glob("o.*"))


def test_a_picture_that_is_none(capsys, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    code, result, _ = run(capsys, "filter", tmp_path / "bad.png", "--kernel", "mean", "--out", tmp_path / "o.png")
    assert code == 1
    assert "bad.png: not a picture" in result["error"]
    with pytest.raises(Rot180Error):
        filters.read_kernel(tmp_path / "bad.csv")
    assert run(capsys, "filter", "--kernel", "mean", "--out", tmp_path / "o.png")[1]["error"].startswith(
        "there is no IMAGE"
    )


@pytest.mark.parametrize("arguments", [[], ["x.png", "--kernel", "mean", "--list"], ["--list", "--border", "none"]])
def test_wrong_usage(arguments):
    with pytest.raises(SystemExit) as ended:
        main(["filter", *arguments])
    assert ended.value.code == 2
