"""Plots of what a network has learned and of how: each returns a matplotlib Figure.

plots.learning_curves("runs/lenet-5-mnist-1").savefig("curves.svg")

Red is above 0, blue below, white 0, full colour the largest magnitude.
"""

import os
from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rot180.arrays import Array
from rot180.errors import DataError, SettingError
from rot180.network import Evaluation, Network
from rot180.training.run import read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_MAPS = 64  # of a node, and filters times channels likewise: what is more would be too small to see
COUNTED_CLASSES = 20  # with more, a confusion matrix shows colours only
SIGNED = "RdBu_r"
CURVES = {"loss": 1, "error": 100}  # and what each is multiplied by: errors are in percent
RGB = 3


def filters(network: Network, node: str | None = None) -> "Figure":
    """The kernels of a node; without, of the first that has any.

    Filters of three channels are shown in colour, each from its least weight to its largest; others as weights, a
    filter in a row of its channels where it has several. Of many, the first. SettingError where the node has none.
    """
    kernels = {
        name.removesuffix(".w"): values
        for name, values in network.layout.named(network.parameters).items()
        if name.endswith(".w") and values.ndim == 4  # (F, C, KH, KW)
    }
    node = _chosen(node, kernels, "kernels")
    w = kernels[node]
    count, channels = w.shape[:2]
    title = f"{node}: {count} filters of {' × '.join(map(str, w.shape[1:]))}"
    if channels == RGB:
        low, high = w.min(axis=(1, 2, 3), keepdims=True), w.max(axis=(1, 2, 3), keepdims=True)
        colours = ((w - low) / np.where(high > low, high - low, 1)).transpose(0, 2, 3, 1)
        return _tiles(list(colours[:MOST_MAPS]), title)
    if channels == 1:
        return _tiles(list(w[:MOST_MAPS, 0]), title)
    across = min(channels, int(sqrt(MOST_MAPS)))
    shown = w[: MOST_MAPS // across, :across]
    return _tiles([kernel for each in shown for kernel in each], title, across)


def feature_maps(network: Network, image: Array, node: str | None = None) -> "Figure":
    """What a node makes of one image (C,H,W): its maps; without a node, of the first that has kernels.

    Of many maps, the first. SettingError where the node's output is not maps.
    """
    if np.shape(image) != network.graph.input_shape:
        raise DataError(f"the image is {np.shape(image)}: give one of {network.graph.input_shape}")
    nodes = [each.name for each in network.graph if len(network.graph.shapes[each.name]) == 3]
    if node is None:
        node = next((each for each in nodes if f"{each}.w" in network.layout.named(network.parameters)), None)
    node = _chosen(node, nodes, "maps")
    maps = network.trace(image, 0).outputs[node][0]
    title = f"{node}: {len(maps)} maps of {' × '.join(map(str, maps.shape[1:]))}"
    return _tiles(list(maps[:MOST_MAPS]), title)


def learning_curves(run: str | os.PathLike[str] | Sequence[Mapping[str, Any]]) -> "Figure":
    """Loss and error by epoch, of training and of the images held out: of a run's folder, or of its log's records.

    RunError where the folder has no log.
    """
    records = read_log(Path(run)) if isinstance(run, str | os.PathLike) else run
    figure = _figure(9, 3.5)
    for axes, name in zip(figure.subplots(1, 2), CURVES, strict=True):
        _draw_curve(axes, records, name)
    return figure


def learning_curve(records: Sequence[Mapping[str, Any]], name: str) -> "Figure":
    """One of CURVES by epoch, of a log's records."""
    figure = _figure(5, 3.4)
    _draw_curve(figure.subplots(), records, name)
    return figure


def _draw_curve(axes: "Axes", records: Sequence[Mapping[str, Any]], name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for key, label in ((name, "training"), (f"validation_{name}", "validation")):
        points = [(each["epoch"], CURVES[name] * each[key]) for each in records if each.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else "", label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel(name if CURVES[name] == 1 else f"{name}, %")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()


def confusion(evaluation: Evaluation, class_names: Sequence[str] | None = None) -> "Figure":
    """What the network says of images of each class: counts, coloured by their share of the true class."""
    counts = evaluation.confusion
    names = class_names or [str(label) for label in range(len(counts))]
    if len(names) != len(counts):
        raise SettingError(f"{len(names)} class names for {len(counts)} classes: give one of each")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(2 + 0.4 * len(counts), 12)
    figure = _figure(side, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("what the network says")
    axes.set_ylabel("what it is")
    axes.set_title(f"error {100 * evaluation.error:.2f} % of {evaluation.images:,} images")
    if len(counts) <= COUNTED_CLASSES:
        axes.set_xticks(range(len(names)), names, rotation="vertical" if max(map(len, names)) > 2 else "horizontal")
        axes.set_yticks(range(len(names)), names)
        for (true, said), count in np.ndenumerate(counts):
            if count:
                dark = shares[true, said] > 0.5
                axes.text(said, true, str(count), ha="center", va="center", color="white" if dark else "black")
    return figure


def _chosen(node: str | None, known: Mapping[str, Any] | Sequence[str], what: str) -> str:
    """The node, or the first of those known."""
    if not known:
        raise SettingError(f"the network has no node with {what}")
    if node is not None and node not in known:
        raise SettingError(f"node {node!r} has no {what}: choose one of {', '.join(known)}")
    return node if node is not None else next(iter(known))


def _tiles(pictures: list[Array], title: str, across: int | None = None) -> "Figure":
    """Pictures of one size, (H,W) or in colour (H,W,3), side by side in one image with lines between them."""
    across = across or ceil(sqrt(len(pictures)))
    down = ceil(len(pictures) / across)
    height, width, *colours = pictures[0].shape
    line = max(1, round(0.05 * max(height, width)))
    sheet = np.full(
        (down * (height + line) - line, across * (width + line) - line, *colours), 1.0 if colours else np.nan
    )
    for index, picture in enumerate(pictures):
        top, left = (index // across) * (height + line), (index % across) * (width + line)
        sheet[top : top + height, left : left + width] = picture
    longer = max(sheet.shape[:2])
    figure = _figure(1 + 6 * sheet.shape[1] / longer, 1 + 6 * sheet.shape[0] / longer)
    axes: Axes = figure.subplots()
    axes.set_title(title)
    axes.set_axis_off()
    if colours:
        axes.imshow(sheet, interpolation="nearest")
    else:
        largest = float(np.nanmax(np.abs(sheet))) or 1.0
        shown = axes.imshow(sheet, cmap=SIGNED, vmin=-largest, vmax=largest, interpolation="nearest")
        figure.colorbar(shown, ax=axes, shrink=0.6)
    return figure


def _figure(width: float, height: float) -> "Figure":
    """An empty figure of its own, in inches: no window, nothing that has to be closed."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
