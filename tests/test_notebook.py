"""How values show themselves in a notebook: well-formed, self-contained, escaped, small, and true."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from rot180 import Evaluation, Network, Recipe, data, models, sequence, train
from rot180.data import Dataset
from rot180.layers import Dense, SoftmaxCrossEntropy
from rot180.notebook import THUMBNAIL

EVIL = '<script>alert("x & y")</script>'


def parsed(value):
    """The HTML as a tree: what is wrongly nested or not escaped raises."""
    html = value._repr_html_()
    assert not re.search(r"<script|javascript:|https?://|<link|@import", html)
    return ElementTree.fromstring("<div>" + re.sub(r"<(br|img[^>]*)>", r"<\1/>", html) + "</div>"), len(html)


def rows(tree):
    return [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]


def test_a_network():
    tree, size = parsed(Network(models.lenet5(), engine="reference"))
    table = rows(tree)
    assert table[0] == ["node", "layer", "output", "parameters", "multiply-adds", "sees"]
    assert ["C1", "Convolution", "6x28x28", "156", "117,600", "5x5"] in table
    assert len(table) == 1 + len(models.lenet5().nodes)
    text = "".join(tree.itertext())
    assert "61,706 parameters" in text
    assert "engine reference" in text
    assert size < 6000


def test_a_graph():
    tree, _ = parsed(models.lenet5())
    table = rows(tree)
    assert table[0] == ["node", "layer", "of", "output", "parameters"]
    (row,) = [row for row in table if row[0] == "C1"]
    assert row[1].startswith("Convolution(filters=6, size=")
    assert row[3:] == ["6x28x28", "156"]
    assert table[-1][2].endswith(", label")


def test_an_evaluation():
    evaluation = Evaluation(20, 5, 0.5, np.array([[12, 0], [5, 3]]))
    tree, _ = parsed(evaluation)
    assert rows(tree) == [["", "0", "1"], ["0", "12", "·"], ["1", "5", "3"]]
    styles = [cell.get("style") for cell in tree.iter("td")]
    assert [style.partition("rgba(")[2] for style in styles] == [
        "38,139,70,1.00)",
        "200,40,40,0.00)",
        "200,40,40,0.62)",
        "38,139,70,0.38)",
    ]
    assert "error 25.00 % (5 of 20), loss 0.5000" in "".join(tree.itertext())


def test_an_evaluation_of_many_classes_is_a_line():
    tree, size = parsed(Evaluation(1000, 0, 0.0, np.eye(1000, dtype=np.int64)))
    assert not rows(tree)
    assert size < 200


def pictures(tree):
    for image in tree.iter("img"):
        head, _, content = image.get("src").partition(",")
        assert head == "data:image/png;base64"
        yield Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_data_set():
    digits = data.mnist().test
    tree, size = parsed(digits)
    shown = list(pictures(tree))
    assert len(shown) == 10
    first = digits.images[np.flatnonzero(digits.labels == 3)[0], 0]
    np.testing.assert_array_equal(np.asarray(shown[3]), first)
    assert [caption.text for caption in tree.iter("small")][3] == "3: 1,010"
    assert "10,000 images 1x28x28, 10 classes" in "".join(tree.itertext())
    assert size < 20_000


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB")])
def test_images_that_are_not_bytes(channels, mode):
    images = np.linspace(-3, 5, 2 * channels * 20).reshape(2, channels, 4, 5)
    (one, other) = pictures(parsed(Dataset(images, np.array([0, 2]), ("a", "b", "c")))[0])
    assert (one.mode, one.size) == (mode, (5, 4))
    assert np.asarray(one).min() == np.asarray(other).min() == 0
    assert np.asarray(other).max() == 255


def test_images_that_are_all_the_same_and_large():
    (picture,) = pictures(parsed(Dataset(np.ones((1, 3, 900, 400)), np.array([0]), ("a",)))[0])
    assert max(picture.size) == 2 * THUMBNAIL


def test_an_empty_data_set():
    tree, _ = parsed(Dataset(np.zeros((0, 1, 4, 4)), np.zeros(0, int), ("a", "b")))
    assert not list(tree.iter("img"))


def test_names_are_escaped():
    dataset = Dataset(np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1]), (EVIL, "b"), EVIL)
    text = "".join(parsed(dataset)[0].itertext())
    assert f"{EVIL}: 1" in text
    assert f"{EVIL}: 2 images" in text
    graph = sequence((1, 4, 4), **{EVIL: Dense(2)}, loss=SoftmaxCrossEntropy())
    network = Network(graph, engine="reference", class_names=(EVIL, "b"))
    assert [row[0] for row in rows(parsed(graph)[0])] == ["node", EVIL, "loss"]
    assert [row[0] for row in rows(parsed(network)[0])] == ["node", EVIL, "loss"]
    assert EVIL in "".join(parsed(network)[0].itertext())


def test_a_step():
    images = np.random.default_rng(1).integers(0, 256, (12, 1, 4, 4)).astype(np.uint8)
    network = Network(sequence((1, 4, 4), F=Dense(2), loss=SoftmaxCrossEntropy()), engine="reference")
    recipe = Recipe(epochs=1, batch=5, validation=0.25, learning_rate=1e-6)
    first, last = train(network, Dataset(images, np.arange(12) % 2, ("a", "b")), recipe)
    names, values = rows(parsed(first)[0])
    assert names == ["epoch", "update", "images", "loss", "error", "learning rate"]
    assert values[:3] == ["1 of 1", "1", f"5 of {first.epoch_images}"]
    names, values = rows(parsed(last)[0])
    assert dict(zip(names, values, strict=True))["validation error"] == f"{100 * last.validation.error:.2f} %"
    assert (names[-1], values[-1]) == ("stopped by", "epochs")
