"""A run's report: it says what the run's files say, holds everything itself, and escapes what it is given."""

import base64
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from rot180 import Network, Recipe, data, sequence
from rot180.cli import main
from rot180.data import Dataset, Sets
from rot180.errors import RunError
from rot180.explain import write_report
from rot180.explain.mistakes import worst_mistakes
from rot180.explain.page import data_uri, image_picture, signed_picture
from rot180.layers import Convolution, Dense, ReLU, ScalePixels, SoftmaxCrossEntropy
from rot180.training import Constant, Run
from rot180.training.run import Settings, load_run

GRAPH = sequence(
    (1, 4, 4),
    pixels=ScalePixels(),
    C1=Convolution(2, 3),
    relu=ReLU(),
    F2=Dense(3),
    loss=SoftmaxCrossEntropy(),
)
HOSTILE = "<script>alert('x')</script>"
NAMES = ("ape & bee", HOSTILE, "кот")
ALONE = {"meta", "br", "img", "link", "input", "hr", "path", "use", "rect"}


def blobs(count=30, seed=5, names=NAMES):
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = chance.integers(0, 200, (count, 1, 4, 4)).astype(np.uint8)
    images[np.arange(count), 0, 1 + labels % 2, 2] += 40
    return Dataset(images, labels, names, f"blobs{seed}")


def write_npz(path):
    train, test = blobs(), blobs(21, 6)
    np.savez(path, x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels)
    return data.load(path)


def finished(folder, sets, **changes):
    recipe = Recipe(epochs=2, batch=4, learning_rate=0.02, schedule=Constant(), validation=0.2, seed=5)
    settings = Settings("blobs", "small", GRAPH, recipe, "he", "reference", None)
    run = Run(folder, replace(settings, **changes), sets)
    list(run)
    return run, run.finish()


class Page(HTMLParser):
    """The page's tags, balanced or not, and its texts."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.open, self.texts, self.pictures = [], [], [], []
        self.feed(content)
        self.close()
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ALONE:
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in ALONE:
            assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)


def pixels(uri):
    assert uri.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run's folder, its data, its results and its report."""
    folder = tmp_path_factory.mktemp("report") / "run"
    sets = Sets(blobs(), blobs(21, 6))
    run, results = finished(folder, sets)
    path = write_report(folder, run.loaded)
    assert path == folder / "report.html"
    return folder, sets, results, path.read_text("utf-8")


def test_the_page_is_well_formed_and_alone(made):
    content = made[3]
    page = Page(content)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(http" not in content
    assert "@import" not in content
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    assert "prefers-color-scheme: dark" in content
    assert "@media print" in content


def test_names_are_data(made):
    content = made[3]
    assert "<script" not in content
    assert html.escape(HOSTILE, quote=False).replace("'", "&#39;") in content
    text = Page(content).text
    for name in NAMES:
        assert name in text


def test_the_report_says_what_the_results_say(made):
    folder, _, results, content = made
    text = Page(content).text.replace("\N{NO-BREAK SPACE}", " ")
    assert f"{100 * results['test_error']:.2f} % test error" in text
    assert f"{results['test_errors']} wrong of 21" in text
    assert f"{results['parameters']} parameters" in text
    confusion = np.array(results["confusion"])
    for k, name in enumerate(NAMES):
        right, images, said = confusion[k, k], confusion[k].sum(), confusion[:, k].sum()
        precision = f"{100 * right / said:.2f} %" if said else "–"
        assert f"{name} {images} {100 * right / images:.2f} % {precision}" in text
        cells = " ".join(str(count) if count else "·" for count in confusion[k])
        assert f"{name} {cells}" in text
        assert f"{name} 10 7" in text  # images for training and for testing
    assert f"rot180 train --recipe {folder}/run.json --out {folder}-again" in text
    assert "C1 Convolution pixels 2x2x2 20 72 3x3" in text


def test_run_json_is_in_the_page(made):
    folder, _, _, content = made
    (link,) = re.findall(r'href="data:application/json;base64,([^"]+)"', content)
    assert base64.b64decode(html.unescape(link)) == (folder / "run.json").read_bytes()


def test_the_curves_are_the_pages_own(made):
    content = made[3]
    curves = re.findall(r"<svg.*?</svg>", content, re.DOTALL)
    assert len(curves) == 2
    for curve, name in zip(curves, ("loss", "error, %"), strict=True):
        assert "var(--ink)" in curve
        assert "var(--first)" in curve
        assert "#010" not in curve
        assert f">{name}</text>" in curve
        assert not re.search(r'<svg[^>]* width="', curve)


def test_the_same_run_gives_the_same_page(made):
    folder, sets, _, content = made
    assert write_report(folder, sets).read_text("utf-8") == content


def test_the_worst_mistakes(made):
    folder, sets, results, content = made
    network = load_run(folder)[1]
    probabilities = network.probabilities(sets.test.images)
    of_true = probabilities[np.arange(21), sets.test.labels]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != sets.test.labels)
    assert len(wrong) == results["test_errors"] > 2
    order = wrong[np.argsort(of_true[wrong], kind="stable")]
    found = worst_mistakes(network, sets.test)
    assert [each.position for each in found] == order.tolist()
    for each in found:
        assert each.true == NAMES[sets.test.labels[each.position]]
        assert each.said == NAMES[probabilities[each.position].argmax()]
        assert each.probability == pytest.approx(probabilities[each.position].max(), rel=1e-6)
        assert each.of_true == pytest.approx(of_true[each.position], rel=1e-6)
        assert each.name == f"image {each.position}"
        assert f'src="{data_uri(sets.test.images[each.position, 0])}" alt="{each.name}"' in content
    assert [each.position for each in worst_mistakes(network, sets.test, most=2)] == order[:2].tolist()


def test_mistakes_of_a_network_whose_images_are_prepared(tmp_path):
    sets = Sets(blobs(), blobs(21, 6))
    run, results = finished(tmp_path / "r", sets, prepare="pca:3")
    _, network = load_run(tmp_path / "r")
    prepared = run.material.preparation
    found = worst_mistakes(network, sets.test, prepared)
    probabilities = network.probabilities(prepared.apply(sets.test.images))
    assert (
        sorted(each.position for each in found)
        == np.flatnonzero(probabilities.argmax(axis=1) != sets.test.labels).tolist()
    )
    assert len(found) == results["test_errors"]
    content = write_report(tmp_path / "r", run.loaded).read_text("utf-8")
    assert "pca:3" in content
    assert data_uri(sets.test.images[found[0].position, 0]) in content, "as it came"


def test_filters_are_shown_in_their_colours(made):
    folder, _, _, content = made
    w = load_run(folder)[1]["C1.w"]
    shown = [pixels(uri) for uri in re.findall(r'src="([^"]+)" alt="kernel', content)]
    assert len(shown) == 2
    for picture, kernel in zip(shown, w[:, 0], strict=True):
        np.testing.assert_array_equal(picture, signed_picture(kernel, np.abs(w).max()))


def test_balance_and_files_left_out_are_told(tmp_path):
    sets = Sets(blobs(31), blobs(21, 6))
    _, results = finished(tmp_path / "r", sets, balance="duplicate")
    left_out = [{"file": f"a/<b>{k}.jpg", "reason": "torn"} for k in range(3)]
    results["data_report"] = {"skipped": left_out, "skipped_count": 3, "split": "by folders", "rule": "cut & scaled"}
    (tmp_path / "r/results.json").write_text(json.dumps(results))
    text = Page(write_report(tmp_path / "r", sets).read_text("utf-8")).text
    assert "Way: duplicate" in text
    assert "Left out: 3" in text
    assert "a/<b>2.jpg : torn" in text
    assert "split by folders" in text
    assert "cut & scaled" in text


# --- the command -------------------------------------------------------------------------------------------------


def test_report_is_written_anew_with_the_data(tmp_path, capsys):
    sets = write_npz(tmp_path / "blobs.npz")
    run, _ = finished(tmp_path / "r", sets, data=str(tmp_path / "blobs.npz"), images=24)
    expected = write_report(tmp_path / "r", run.loaded).read_bytes()
    (tmp_path / "r/report.html").unlink()
    assert main(["report", str(tmp_path / "r"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"run": str(tmp_path / "r"), "report": str(tmp_path / "r/report.html")}
    assert (tmp_path / "r/report.html").read_bytes() == expected


def test_without_the_data_it_says_so(tmp_path, capsys):
    sets = write_npz(tmp_path / "blobs.npz")
    finished(tmp_path / "r", sets, data=str(tmp_path / "blobs.npz"))
    (tmp_path / "blobs.npz").unlink()
    assert main(["report", str(tmp_path / "r")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'r/report.html'}\n"
    assert "The data could not be loaded again" in Page((tmp_path / "r/report.html").read_text("utf-8")).text


def test_data_that_has_changed_gives_no_pictures(tmp_path):
    sets = write_npz(tmp_path / "blobs.npz")
    finished(tmp_path / "r", sets, data=str(tmp_path / "blobs.npz"))
    test = blobs(21, 7)
    np.savez(
        tmp_path / "blobs.npz",
        x_train=sets.train.images,
        y_train=sets.train.labels,
        x_test=test.images,
        y_test=test.labels,
    )
    content = write_report(tmp_path / "r").read_text("utf-8")
    assert "is no longer the data that the run was made with" in content
    assert 'alt="image' not in content


def test_a_folder_that_is_no_finished_run(tmp_path, made, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "is not a run" in capsys.readouterr().err
    folder = tmp_path / "copy"
    folder.mkdir()
    for each in made[0].iterdir():
        (folder / each.name).write_bytes(each.read_bytes())
    for broken in ("{", "[]", '{"confusion": [[1]]}', '{"confusion": [[1,0,0],[0,1,0],[0,0,1]], "test_images": "x"}'):
        (folder / "results.json").write_text(broken)
        with pytest.raises(RunError, match=r"results\.json: damaged"):
            write_report(folder)
    (folder / "results.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        write_report(folder)


def test_train_writes_the_report(tmp_path, capsys):
    sets = write_npz(tmp_path / "blobs.npz")
    assert len(sets.train) == 30
    network = "INPUT(1, 4, 4) -> FC"
    arguments = ["--network", network, "--epochs", "1", "--shift", "0", "--engine", "reference"]
    assert main(["train", str(tmp_path / "blobs.npz"), *arguments, "--out", str(tmp_path / "r")]) == 0
    content = (tmp_path / "r/report.html").read_text("utf-8")
    assert "What the first convolution looks for" not in content  # it has none
    assert Page(content).open == []


# --- pictures ----------------------------------------------------------------------------------------------------


def test_pictures_of_images():
    grey = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    np.testing.assert_array_equal(image_picture(grey), grey[0])
    colour = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    np.testing.assert_array_equal(image_picture(colour), colour.transpose(1, 2, 0))
    np.testing.assert_array_equal(image_picture(np.array([[[-1.0, 0.0, 1.0]]])), [[0, 128, 255]])
    np.testing.assert_array_equal(image_picture(np.zeros((1, 2, 2))), np.zeros((2, 2)))
    assert image_picture(np.ones((5, 2, 3))).shape == (2, 3)
    np.testing.assert_array_equal(pixels(data_uri(image_picture(colour))), colour.transpose(1, 2, 0))


def test_signed_pictures_are_white_at_zero_and_red_above():
    shown = signed_picture(np.array([[0.0, 2.0, -1.0]]))
    assert shown[0, 0].tolist() == [255, 255, 255]
    assert shown[0, 1].tolist() == [178, 34, 52]
    assert shown[0, 2, 2] > shown[0, 2, 0]
    assert (signed_picture(np.zeros((2, 2))) == 255).all()


def test_recall_and_precision():
    network = Network(GRAPH, engine="reference")
    evaluation = network.evaluate(blobs(20))
    evaluation = evaluation._replace(confusion=np.array([[3, 1, 0], [1, 5, 0], [0, 0, 0]]))
    np.testing.assert_allclose(evaluation.recall, [3 / 4, 5 / 6, np.nan])
    np.testing.assert_allclose(evaluation.precision, [3 / 4, 5 / 6, np.nan])
