"""A run's report: one HTML page that says what was trained, how it went, how good it is and where it is wrong.

What is on it comes from the run's folder; the pictures of mistakes come from the data, where that can still be loaded.
"""

import base64
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rot180 import plots
from rot180.arrays import Array
from rot180.data import load
from rot180.data.dataset import Sets
from rot180.data.preparation import Preparation
from rot180.errors import DataError, RunError
from rot180.explain.mistakes import Mistake, worst_mistakes
from rot180.explain.page import data_uri, image_picture, page_colours, render, signed_picture, svg
from rot180.files import replace_file
from rot180.network import Evaluation, Network
from rot180.summary import summarize
from rot180.training.run import Settings, data_digest, load_run, load_run_preparation, read_log

NAME = "report.html"
CONFUSIONS = 10  # pairs of classes that are taken for each other most often
MATRIX_CLASSES = 40  # with more, the confusion matrix is a picture
FILTERS = 96  # of the first convolution, and kernels of them likewise
LISTED = 200  # files that were left out


def write_report(folder: Path, sets: Sets | None = None, threads: int | None = None) -> Path:
    """Write report.html into a finished run's folder; its path.

    sets: the run's data as it was loaded; without, it is loaded again, and where that fails the report says so and
    has no pictures of mistakes. RunError where the folder is not that of a finished run, or damaged.
    """
    folder = Path(folder)
    settings, network = load_run(folder, threads)
    results = _results(folder, network.graph.classes)
    note = None
    if sets is None:
        sets, note = _load_again(settings)
    preparation = load_run_preparation(folder)
    evaluation = Evaluation(
        results["test_images"], results["test_errors"], results["test_loss"], np.array(results["confusion"], np.int64)
    )
    records = read_log(folder)
    run_json = (folder / "run.json").read_bytes()
    content = render(
        "report.html",
        title=f"{settings.network} on {_short(settings.data)}",
        results=results,
        settings=settings,
        records=records,
        curves=_curves(records),
        classes=_classes(network, evaluation),
        matrix=_matrix(evaluation, network.class_names),
        confusions=_confusions(evaluation, network.class_names),
        mistakes=_mistakes(network, sets, preparation) if sets else [],
        note=note,
        filters=_filters(network),
        data=_data(settings, results, sets, network.class_names, evaluation),
        summary=summarize(network.graph),
        again=shlex.join(["rot180", "train", "--recipe", str(folder / "run.json"), "--out", f"{folder}-again"]),
        chosen=_chosen(settings),
        run_json="data:application/json;base64," + base64.b64encode(run_json).decode(),
        versions=json.loads(run_json).get("versions", {}),
    )
    path = folder / NAME
    replace_file(path, content)
    return path


def _results(folder: Path, classes: int) -> dict[str, Any]:
    path = folder / "results.json"
    try:
        results: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if np.array(results["confusion"], np.int64).shape != (classes, classes):
            raise ValueError("the confusion matrix is not one of the network's classes")
        for name in ("test_images", "test_errors", "test_loss", "test_error"):
            float(results[name])
    except FileNotFoundError as error:
        raise RunError(f"{folder}: the run is not finished; go on with rot180 train --resume {folder}") from error
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: damaged ({error})") from error
    return results


def _load_again(settings: Settings) -> tuple[Sets | None, str | None]:
    """The run's data, or why it is not to be had."""
    try:
        sets = load(settings.data, settings.pictures)
    except DataError as error:
        return None, f"The data could not be loaded again, so there are no pictures of mistakes. {error}."
    if data_digest(settings.used(sets)) != settings.data_digest:
        return None, f"{settings.data} is no longer the data that the run was made with: no pictures of mistakes."
    return sets, None


# --- the parts ---------------------------------------------------------------------------------------------------


def _curves(records: list[dict[str, Any]]) -> list[Any]:
    with page_colours():
        return [
            svg(plots.learning_curve(records, what), f"{what} by epoch, of training and of validation images")
            for what in ("loss", "error")
        ]


def _classes(network: Network, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Of each class: how many images there are, and how many of them, and of what is said to be it, are right."""
    return [
        {"name": name, "images": int(images), "recall": float(recall), "precision": float(precision)}
        for name, images, recall, precision in zip(
            network.class_names,
            evaluation.confusion.sum(axis=1),
            evaluation.recall,
            evaluation.precision,
            strict=True,
        )
    ]


def _mistakes(network: Network, sets: Sets, preparation: Preparation | None) -> list[tuple[Mistake, str]]:
    """The worst, each with its picture as it came."""
    return [
        (each, data_uri(image_picture(np.asarray(sets.test.images[each.position]))))
        for each in worst_mistakes(network, sets.test, preparation)
    ]


def _matrix(evaluation: Evaluation, names: tuple[str, ...]) -> dict[str, Any]:
    """The confusion matrix: as rows of (count, share of the true class), or with many classes as a picture."""
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(counts) > MATRIX_CLASSES:
        return {"picture": data_uri(np.rint(255 * (1 - np.sqrt(shares))).astype(np.uint8))}
    rows = zip(names, counts.tolist(), shares.tolist(), strict=True)
    return {"rows": [(name, list(zip(*cells, strict=True))) for name, *cells in rows]}


def _confusions(evaluation: Evaluation, names: tuple[str, ...]) -> list[tuple[str, str, int]]:
    """(what it is, what is said, how often), the most frequent first."""
    wrong = evaluation.confusion * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [(names[true], names[said], int(wrong[true, said])) for true, said in pairs if wrong[true, said]]


def _filters(network: Network) -> dict[str, Any] | None:
    """The kernels of the first layer that has any: in colour for three channels, else each by itself."""
    for name, values in network.layout.named(network.parameters).items():
        if name.endswith(".w") and values.ndim == 4:
            break
    else:
        return None
    filters, channels = values.shape[:2]
    if channels == 3:
        pictures = [image_picture(_stretched(w)) for w in values[:FILTERS]]
    else:
        largest = float(np.abs(values).max())
        pictures = [signed_picture(kernel, largest) for w in values[:FILTERS] for kernel in w][:FILTERS]
    return {
        "node": name.removesuffix(".w"),
        "shape": values.shape,
        "all": len(pictures) == filters * (1 if channels == 3 else channels),
        "colour": channels == 3,
        "largest": float(np.abs(values).max()),
        "pictures": [data_uri(each) for each in pictures],
    }


def _stretched(w: Array) -> Array:
    """A filter's weights from the least, 0, to the largest, 255."""
    return np.rint((w - w.min()) * (255 / max(float(np.ptp(w)), 1e-30))).astype(np.uint8)


def _data(
    settings: Settings, results: Mapping[str, Any], sets: Sets | None, names: tuple[str, ...], evaluation: Evaluation
) -> dict[str, Any]:
    """Images of each class, what was left out, what was done to them first."""
    report = results.get("data_report") or {}
    tested = evaluation.confusion.sum(axis=1).tolist()
    trained: list[int | None] = [None] * len(names)
    if sets:
        trained = np.bincount(settings.used(sets).train.labels, minlength=len(names)).tolist()
    known = [count for count in trained if count]
    return {
        "source": settings.data,
        "rows": list(zip(names, trained, tested, strict=True)),
        "most": max([*known, *tested, 1]),
        "imbalance": max(known) / min(known) if known else None,
        "balance": results.get("balance"),
        "prepare": results.get("prepare"),
        "split": report.get("split"),
        "rule": report.get("rule"),
        "skipped": report.get("skipped", [])[:LISTED],
        "skipped_count": report.get("skipped_count", 0),
    }


def _chosen(settings: Settings) -> list[tuple[str, str]]:
    """Every setting with its value, the parts of the recipe one by one."""
    stored = settings.to_json()
    recipe = stored.pop("recipe")
    chosen = {name: value for name, value in stored.items() if name not in ("graph", "versions")}
    for name, value in recipe.items():
        if isinstance(value, dict):
            kind = value.get("name", "")
            rest = ", ".join(f"{k} {v}" for k, v in value.items() if k != "name" and v not in (None, False))
            chosen[name] = " ".join(filter(None, (kind, f"({rest})" if kind and rest else rest))) or None
        else:
            chosen[name] = value
    return [(name.replace("_", " "), "–" if value is None else str(value)) for name, value in chosen.items()]


def _short(source: str) -> str:
    return Path(source).name or source
