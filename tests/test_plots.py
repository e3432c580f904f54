"""Plots: what they show is read back from the figure, not only that there is one."""

import io
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from rot180 import Network, plots, sequence
from rot180.data import Dataset
from rot180.errors import DataError, RunError, SettingError
from rot180.layers import Convolution, Dense, ReLU, SoftmaxCrossEntropy


def network(channels=1, filters=5):
    graph = sequence(
        (channels, 7, 6), C1=Convolution(filters, (3, 2)), relu=ReLU(), F2=Dense(3), loss=SoftmaxCrossEntropy()
    )
    return Network(graph, seed=1, engine="reference")


def sheet(figure):
    """The picture that the figure shows; lines between tiles are NaN."""
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="png")
    return np.ma.filled(np.ma.masked_invalid(figure.axes[0].images[0].get_array()), np.nan)


def test_filters_of_one_channel_lie_in_rows():
    net = network()
    shown = sheet(plots.filters(net))
    assert shown.shape == (2 * 4 - 1, 3 * 3 - 1)  # two rows of three tiles of 3x2
    for index, kernel in enumerate(net["C1.w"][:, 0]):
        row, column = divmod(index, 3)
        np.testing.assert_array_equal(shown[row * 4 : row * 4 + 3, column * 3 : column * 3 + 2], kernel)
    assert np.isnan(shown[3]).all()
    assert np.isnan(shown[4:, 6:]).all()  # no sixth


def test_the_colours_of_weights_have_zero_in_their_middle():
    net = network()
    low, high = plots.filters(net).axes[0].images[0].get_clim()
    assert (low, high) == (-np.abs(net["C1.w"]).max(), np.abs(net["C1.w"]).max())


def test_filters_of_three_channels_are_in_colour():
    net = network(3, 1)
    shown = sheet(plots.filters(net, "C1"))
    w = net["C1.w"][0]
    expected = ((w - w.min()) / (w.max() - w.min())).transpose(1, 2, 0)
    np.testing.assert_allclose(shown, expected, rtol=1e-6)


def test_filters_of_several_channels_have_a_row_each():
    net = network(2, 5)
    figure = plots.filters(net)
    shown = sheet(figure)
    assert shown.shape == (5 * 4 - 1, 2 * 3 - 1)
    np.testing.assert_array_equal(shown[4:7, 3:5], net["C1.w"][1, 1])
    assert figure.axes[0].get_title() == "C1: 5 filters of 2 × 3 × 2"


def test_of_many_filters_the_first_are_shown():
    assert sheet(plots.filters(network(1, 100))).shape == (8 * 4 - 1, 8 * 3 - 1)
    assert sheet(plots.filters(network(20, 30))).shape == (8 * 4 - 1, 8 * 3 - 1)


def test_feature_maps_are_what_the_node_makes():
    net = network()
    image = np.random.default_rng(3).normal(size=(1, 7, 6)).astype(np.float32)
    maps = net.trace(image, 0).outputs
    for node, expected in (("C1", maps["C1"][0]), ("relu", maps["relu"][0]), (None, maps["C1"][0])):
        shown = sheet(plots.feature_maps(net, image, node))
        np.testing.assert_array_equal(shown[:5, :5], expected[0])
        np.testing.assert_array_equal(shown[6:11, 6:11], expected[4])


def test_maps_that_are_all_zero_can_be_shown():
    assert not np.nansum(sheet(plots.feature_maps(network(), np.zeros((1, 7, 6)), "relu")))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: plots.filters(network(), "F2"), SettingError, "node 'F2' has no kernels: choose one of C1"),
        (
            lambda: plots.feature_maps(network(), np.zeros((1, 7, 6)), "F2"),
            SettingError,
            "node 'F2' has no maps: choose one of C1, relu",
        ),
        (
            lambda: plots.feature_maps(network(), np.zeros((7, 6))),
            DataError,
            "the image is (7, 6): give one of (1, 7, 6)",
        ),
        (
            lambda: plots.filters(Network(sequence((4,), F=Dense(2), loss=SoftmaxCrossEntropy()), engine="reference")),
            SettingError,
            "the network has no node with kernels",
        ),
    ],
)
def test_what_cannot_be_shown(call, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        call()


RECORDS = [
    {"epoch": 1, "loss": 0.5, "error": 0.25, "validation_loss": 0.7, "validation_error": 0.5},
    {"epoch": 2, "loss": 0.25, "error": 0.125, "validation_loss": None, "validation_error": 0.25},
]


def test_learning_curves(tmp_path):
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS) + '{"torn')
    for run in (tmp_path, str(tmp_path), RECORDS):
        loss, error = plots.learning_curves(run).axes
        curves = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
        assert curves == {"training": [[1, 0.5], [2, 0.25]], "validation": [[1, 0.7]]}
        curves = {line.get_label(): line.get_xydata().tolist() for line in error.lines}
        assert curves == {"training": [[1, 25], [2, 12.5]], "validation": [[1, 50], [2, 25]]}


def test_learning_curves_before_the_first_epoch_are_empty(tmp_path):
    (tmp_path / "log.jsonl").touch()
    assert not any(axes.lines for axes in plots.learning_curves(tmp_path).axes)


def test_learning_curves_of_no_run(tmp_path):
    with pytest.raises(RunError, match=f"^{tmp_path} is not a run: it has no log.jsonl$"):
        plots.learning_curves(tmp_path)
    (tmp_path / "log.jsonl").write_text("[]\n")
    with pytest.raises(RunError, match=f"^{tmp_path}/log.jsonl: damaged "):
        plots.learning_curves(tmp_path)


def test_confusion():
    net = network()
    dataset = Dataset(np.random.default_rng(1).normal(size=(30, 1, 7, 6)), np.arange(30) % 2, ("cat", "dog", "emu"))
    evaluation = net.evaluate(dataset)
    figure = plots.confusion(evaluation, net.class_names)
    np.testing.assert_array_equal(sheet(figure)[:2], evaluation.confusion[:2] / 15)
    assert not sheet(figure)[2].any()  # no image of this class
    written = {(text.get_position()): int(text.get_text()) for text in figure.axes[0].texts}
    assert written == {(said, true): n for (true, said), n in np.ndenumerate(evaluation.confusion) if n}
    with pytest.raises(SettingError, match=r"^2 class names for 3 classes: give one of each$"):
        plots.confusion(evaluation, ("a", "b"))


@pytest.mark.parametrize(("name", "factor"), [("loss", 1), ("error", 100)])
def test_one_learning_curve(name, factor):
    axes = plots.learning_curve(RECORDS, name).axes
    assert len(axes) == 1
    training = axes[0].lines[0]
    np.testing.assert_allclose(training.get_ydata(), [factor * each[name] for each in RECORDS])
    assert [float(epoch) for epoch in training.get_xdata()] == [each["epoch"] for each in RECORDS]
