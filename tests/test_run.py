"""The run folder. Promises 2 and 3: killed at any moment, a run goes on, and ends with the bits of one never killed."""

import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from rot180 import Network, Recipe, data, load, sequence
from rot180.data import Augmentation, Dataset, Sets
from rot180.errors import DivergenceError, Rot180Error, RunError
from rot180.files import UNFINISHED
from rot180.layers import BatchNormalization, Dense, Dropout, ReLU, ScalePixels, SoftmaxCrossEntropy
from rot180.training import AdamW, Constant, ExponentialAverage, Run, Steps, Stopping, Trainer, load_run, run
from rot180.training.run import Settings, read_log, read_settings

GRAPH = sequence(
    (1, 4, 4),
    pixels=ScalePixels(),
    F1=Dense(6),
    bn=BatchNormalization(),
    relu=ReLU(),
    drop=Dropout(0.2),
    F2=Dense(3),
    loss=SoftmaxCrossEntropy(),
)
RECIPE = Recipe(epochs=3, batch=4, learning_rate=0.1, schedule=Constant(), validation=0.2, seed=5)
FILES = ["checkpoint.safetensors", "log.jsonl", "results.json", "run.json", "weights.safetensors"]


def blobs(count=30, seed=5):
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = chance.integers(0, 60, (count, 1, 4, 4)).astype(np.uint8)
    images[np.arange(count), 0, 1 + labels, 2] += 190
    return Dataset(images, labels, ("ape", "bee", "cat"), f"blobs{seed}")


SETS = Sets(blobs(), blobs(9, 6))


def begun(folder, recipe=RECIPE, sets=SETS, **changes):
    settings = Settings("blobs", "small", GRAPH, recipe, "he", "reference", None)
    return Run(folder, replace(settings, **changes), sets)


def finished(folder, *args, **changes):
    current = begun(folder, *args, **changes)
    list(current)
    return current.finish()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def untimed(records):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


# --- what a run leaves -------------------------------------------------------------------------------------------


def test_the_files_of_a_run(tmp_path):
    results = finished(tmp_path / "deep" / "run")
    assert names(tmp_path / "deep" / "run") == FILES
    assert json.loads((tmp_path / "deep/run/results.json").read_text()) == results


def test_the_results(tmp_path):
    results = finished(tmp_path / "r")
    assert list(results) == [
        "network",
        "data",
        "parameters",
        "learning_parameters",
        "start",
        "freeze_below",
        "seed",
        "epochs",
        "updates",
        "stopped_by",
        "best_epoch",
        "train_images",
        "prepare",
        "balance",
        "train_seconds",
        "images_per_second",
        "validation_error",
        "test_images",
        "test_errors",
        "test_error",
        "test_loss",
        "class_names",
        "confusion",
        "data_report",
    ]
    assert results["parameters"] == (16 * 6 + 6) + 2 * 6 + (6 * 3 + 3)
    assert (results["network"], results["data"], results["seed"], results["epochs"]) == ("small", "blobs", 5, 3)
    assert (results["train_images"], results["updates"]) == (24, 3 * 6)
    assert results["test_images"] == 9
    assert results["test_error"] == results["test_errors"] / 9
    assert results["train_seconds"] >= 0
    np.testing.assert_array_equal(np.sum(results["confusion"], axis=1), [3, 3, 3])
    network = load_run(tmp_path / "r")[1]
    assert network.evaluate(SETS.test).loss == results["test_loss"]


def test_what_run_json_says(tmp_path):
    finished(tmp_path / "r", images=27)
    stored = json.loads((tmp_path / "r/run.json").read_text())
    assert list(stored) == [
        "data",
        "data_digest",
        "images",
        "prepare",
        "balance",
        "noise",
        "start",
        "new_head",
        "pixels",
        "freeze_below",
        "variants",
        "network",
        "graph",
        "initializer",
        "engine",
        "recipe",
        "versions",
    ]
    assert stored["images"] == 27
    assert stored["recipe"]["optimizer"] == {"name": "SGD", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    assert stored["versions"].keys() == {"rot180", "numpy", "python"}
    assert re.fullmatch("[0-9a-f]{64}", stored["data_digest"])
    settings = read_settings(tmp_path / "r")
    assert settings.recipe == RECIPE
    assert settings.graph.to_json() == GRAPH.to_json()


def test_the_log_has_a_record_an_epoch(tmp_path):
    current = begun(tmp_path / "r")
    steps = [step for step in current if step.ends_epoch]
    records = read_log(tmp_path / "r")
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert [record["step"] for record in records] == [6, 12, 18]
    for record, step in zip(records, steps, strict=True):
        assert (record["loss"], record["error"]) == (step.loss, step.error)
        assert (record["validation_loss"], record["validation_error"]) == (step.validation.loss, step.validation.error)
        assert record["learning_rate"] == 0.1
    assert records[-1]["seconds"] >= records[0]["seconds"] >= 0


def test_without_validation_the_log_and_the_results_say_null(tmp_path):
    results = finished(tmp_path / "r", replace(RECIPE, validation=0))
    assert results["validation_error"] is None
    assert {record["validation_error"] for record in read_log(tmp_path / "r")} == {None}


def test_the_trained_network_knows_its_classes(tmp_path):
    finished(tmp_path / "r")
    settings, network = load_run(tmp_path / "r")
    assert network.class_names == ("ape", "bee", "cat")
    assert settings.network == "small"


def test_a_last_line_that_a_crash_tore_is_not_read(tmp_path):
    finished(tmp_path / "r")
    with (tmp_path / "r/log.jsonl").open("ab") as log:
        log.write(b'{"epoch": 4, "lo')
    assert [record["epoch"] for record in read_log(tmp_path / "r")] == [1, 2, 3]


def test_the_same_run_twice_leaves_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        finished(tmp_path / name)
    for name in ("weights.safetensors", "run.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert untimed(read_log(tmp_path / "a")) == untimed(read_log(tmp_path / "b"))


# --- folders that will not do ------------------------------------------------------------------------------------


def test_an_occupied_folder_is_refused_and_left_alone(tmp_path):
    finished(tmp_path / "r")
    before = {name: (tmp_path / "r" / name).read_bytes() for name in FILES}
    text = f"{tmp_path}/r holds a run already: choose another --out, or go on with --resume {tmp_path}/r"
    with pytest.raises(RunError, match=f"^{re.escape(text)}$"):
        begun(tmp_path / "r", replace(RECIPE, seed=6))
    assert {name: (tmp_path / "r" / name).read_bytes() for name in FILES} == before


def test_an_empty_folder_will_do(tmp_path):
    begun(tmp_path)
    assert names(tmp_path) == ["checkpoint.safetensors", "log.jsonl", "run.json"]


@pytest.mark.parametrize("inside", ["", "/x", "/x/y"])
def test_a_folder_that_is_a_file_is_refused(tmp_path, inside):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(RunError, match=rf"^cannot make the run folder {tmp_path}/f{inside}: .*; choose another --out$"):
        begun(tmp_path / f"f{inside}")
    assert (tmp_path / "f").read_text() == "mine"


# --- going on ----------------------------------------------------------------------------------------------------


def test_stopped_anywhere_and_resumed_equals_uninterrupted(tmp_path):
    expected = finished(tmp_path / "whole")
    begun(tmp_path / "r")
    for stop in (5, 10, 15):  # in the middle of each epoch: between two checkpoints
        current = Run.resume(tmp_path / "r", SETS)
        for step in current:
            if step.step == stop:
                current.stop()
        assert current.trainer.position.step == stop
    current = Run.resume(tmp_path / "r", SETS)
    assert [step.step for step in current] == [16, 17, 18]
    results = current.finish()
    timeless = [name for name in results if name not in ("train_seconds", "images_per_second")]
    assert [results[name] for name in timeless] == [expected[name] for name in timeless]
    assert (tmp_path / "r/weights.safetensors").read_bytes() == (tmp_path / "whole/weights.safetensors").read_bytes()
    assert untimed(read_log(tmp_path / "r")) == untimed(read_log(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("stopping", "reason", "updates"),
    [(Stopping(updates=10), "updates", 10), (Stopping(error=1.0), "error", 6), (Stopping(seconds=0.0), "seconds", 1)],
)
def test_what_stopped_a_run_is_recorded(tmp_path, stopping, reason, updates):
    current = begun(tmp_path / "r", replace(RECIPE, stopping=stopping))
    steps = list(current)
    results = current.finish()
    assert (results["stopped_by"], results["updates"], results["epochs"]) == (reason, updates, updates // 6)
    assert [step.stopped_by for step in steps] == [""] * (updates - 1) + [reason]
    assert read_log(tmp_path / "r")[-1]["step"] == updates
    assert read_log(tmp_path / "r")[-1]["validation_loss"] == steps[-1].validation.loss
    again = Run.resume(tmp_path / "r", SETS)
    assert again.finished
    assert list(again) == []
    assert again.finish() == results


def test_a_run_watched_and_averaged_ends_alike_however_often_it_stopped(tmp_path):
    recipe = replace(
        RECIPE,
        epochs=9,
        optimizer=AdamW(),
        averaging=ExponentialAverage(0.9),
        stopping=Stopping(patience=2),
        learning_rate=0.2,
    )
    expected = finished(tmp_path / "whole", recipe)
    begun(tmp_path / "r", recipe)
    current = Run.resume(tmp_path / "r", SETS)
    while not current.finished:
        current = Run.resume(tmp_path / "r", SETS)
        for step in current:
            if step.step % 5 == 0:
                current.stop()
    results = current.finish()
    timeless = [name for name in results if name not in ("train_seconds", "images_per_second")]
    assert [results[name] for name in timeless] == [expected[name] for name in timeless]
    assert (tmp_path / "r/weights.safetensors").read_bytes() == (tmp_path / "whole/weights.safetensors").read_bytes()


def test_thresholds_and_weights_are_saved_to_a_file_and_training_goes_on_from_it(tmp_path):
    """D1, seed 002: training over, weights and thresholds (biases) go to a file; training again begins with them."""
    graph = sequence((1, 4, 4), pixels=ScalePixels(), F1=Dense(6), relu=ReLU(), F2=Dense(3), loss=SoftmaxCrossEntropy())
    recipe = replace(RECIPE, epochs=8, augmentation=Augmentation())
    current = begun(tmp_path / "first", recipe, graph=graph)
    fresh = [step.loss for step in current if step.ends_epoch]
    current.finish()
    network = load(tmp_path / "first/weights.safetensors", engine="reference")
    assert network.parameters.tobytes() == current.network.parameters.tobytes()
    assert set(network.layout.named(network.parameters)) >= {"F1.w", "F1.b", "F2.w", "F2.b"}
    again = [step.loss for step in Trainer(network, SETS.train, recipe) if step.ends_epoch]
    assert again[0] < 0.5 * fresh[0]
    assert again[-1] < fresh[-1]


def test_what_came_after_the_checkpoint_is_cut_from_the_log(tmp_path, monkeypatch):
    """A crash between the log and the checkpoint: the epoch is done again, and logged once."""
    expected = begun(tmp_path / "whole")
    list(expected)
    current = begun(tmp_path / "r")
    stream = iter(current)
    while not next(stream).ends_epoch:
        pass

    def crash():
        raise KeyboardInterrupt

    monkeypatch.setattr(current, "save", crash)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    (tmp_path / "r/log.jsonl").write_bytes((tmp_path / "r/log.jsonl").read_bytes() + b'{"torn')
    assert [record["epoch"] for record in read_log(tmp_path / "r")] == [1, 2]
    list(Run.resume(tmp_path / "r", SETS))
    assert untimed(read_log(tmp_path / "r")) == untimed(read_log(tmp_path / "whole"))


def test_killed_before_the_first_checkpoint_it_starts_again(tmp_path):
    finished(tmp_path / "whole")
    begun(tmp_path / "r")
    (tmp_path / "r/checkpoint.safetensors").unlink()
    (tmp_path / f"r/.checkpoint.safetensors.1234{UNFINISHED}").write_bytes(b"half")
    current = Run.resume(tmp_path / "r", SETS)
    list(current)
    current.finish()
    assert names(tmp_path / "r") == FILES
    assert (tmp_path / "r/weights.safetensors").read_bytes() == (tmp_path / "whole/weights.safetensors").read_bytes()


def test_a_finished_run_resumed_says_the_same_again(tmp_path):
    results = finished(tmp_path / "r")
    weights = (tmp_path / "r/weights.safetensors").read_bytes()
    current = Run.resume(tmp_path / "r", SETS)
    assert current.finished
    assert list(current) == []
    assert current.finish() == results
    assert (tmp_path / "r/weights.safetensors").read_bytes() == weights


def test_checkpoints_are_written_as_time_passes(tmp_path, monkeypatch):
    saves = []
    monkeypatch.setattr(Run, "save", lambda self: saves.append(self.trainer.position.step))
    list(begun(tmp_path / "a"))
    assert saves == [0, 6, 12, 18]  # when it begins, and after each epoch
    saves.clear()
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    list(begun(tmp_path / "b"))
    assert saves == list(range(19))


def test_changed_data_is_refused(tmp_path):
    begun(tmp_path / "r")
    images = SETS.train.images.copy()
    images[29, 0, 3, 3] ^= 1
    text = f"{tmp_path}/r: blobs is no longer the data that the run began with; start a new run"
    for sets in (
        Sets(replace(SETS.train, images=images), SETS.test),
        Sets(SETS.train, SETS.test.take(slice(8))),
        Sets(replace(SETS.train, labels=SETS.train.labels[::-1]), SETS.test),
    ):
        with pytest.raises(RunError, match=f"^{re.escape(text)}$"):
            Run.resume(tmp_path / "r", sets)
    Run.resume(tmp_path / "r", SETS)


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["nothing", "a-file/inside", "a-file"])
def test_what_is_no_run(tmp_path, missing):
    (tmp_path / "a-file").write_text("mine")
    for call in (read_settings, load_run):
        with pytest.raises(RunError, match=f"^{tmp_path}/{missing} is not a run: it has no run.json$"):
            call(tmp_path / missing)


def test_a_run_that_is_not_finished_has_no_network_yet(tmp_path):
    begun(tmp_path / "r")
    text = f"{tmp_path}/r: the run is not finished; go on with rot180 train --resume {tmp_path}/r"
    with pytest.raises(RunError, match=f"^{re.escape(text)}$"):
        load_run(tmp_path / "r")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:500],
        lambda text: "[]",
        lambda text: "null",
        lambda text: "[" * 100_000,
        lambda text: "\udcff" + text,
        lambda text: text.replace('"images": null', '"images": Infinity'),
        lambda text: text.replace('"images": null', '"images": "many"'),
        lambda text: text.replace("Dense", "Popen"),
        lambda text: text.replace('"epochs": 3', '"epochs": -3'),
        lambda text: text.replace('"recipe"', '"receipt"'),
    ],
)
def test_a_damaged_run_json_is_refused(tmp_path, damage):
    begun(tmp_path / "r")
    path = tmp_path / "r/run.json"
    path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=rf"^{path}: damaged \((?s:.)*\); start the run again$"):
        read_settings(tmp_path / "r")


def with_metadata(content, **changes):
    """A safetensors file with other metadata."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"].update(changes)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:100],
        lambda content: content[:-1],
        lambda content: with_metadata(content, extra="{}"),
        lambda content: with_metadata(content, extra="[]"),
        lambda content: with_metadata(content, extra="[" * 100_000),
        lambda content: with_metadata(content, extra='{"log_length": "long"}'),
        lambda content: with_metadata(content, extra='{"log_length": Infinity}'),
        lambda content: with_metadata(content, position='{"epoch": Infinity}'),
        lambda content: with_metadata(content, position="7"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    begun(tmp_path / "r")
    path = tmp_path / "r/checkpoint.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError, match=rf"^{path}: the checkpoint is damaged \((?s:.)*\); start the run again$"):
        Run.resume(tmp_path / "r", SETS)


@pytest.mark.parametrize("name", ["checkpoint", "weights"])
def test_one_flipped_bit_anywhere_is_noticed(tmp_path, name):
    """Also in the numbers, where every bit pattern is a possible one."""
    finished(tmp_path / "r")
    path, chance = tmp_path / f"r/{name}.safetensors", random.Random(1)
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(20):
        damaged = bytearray(content)
        damaged[chance.randrange(header, len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(Rot180Error, match=rf"^{path}: .*checksum"):
            Run.resume(tmp_path / "r", SETS) if name == "checkpoint" else load_run(tmp_path / "r")
    path.write_bytes(content)
    Run.resume(tmp_path / "r", SETS)
    load_run(tmp_path / "r")


def test_two_processes_cannot_work_on_one_run(tmp_path):
    current = begun(tmp_path / "r")
    list(current)
    code = f"""
from pathlib import Path
from rot180.errors import RunError
from rot180.files import Lock
try:
    Lock(Path({str(tmp_path)!r}) / "r" / "run.json", "taken")
    print("free")
except RunError as error:
    print(error)
"""

    def other():
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    again = Run.resume(tmp_path / "r", SETS)  # the same process may
    assert other() == "taken\n"
    del current
    assert other() == "taken\n"
    del again
    assert other() == "free\n"


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    begun(tmp_path / "r")
    other = sequence((1, 4, 4), F=Dense(3), loss=SoftmaxCrossEntropy())
    begun(tmp_path / "other", graph=other)
    (tmp_path / "other/checkpoint.safetensors").replace(tmp_path / "r/checkpoint.safetensors")
    with pytest.raises(
        RunError, match=r"/r/checkpoint.safetensors: not a checkpoint of this network; start the run ag"
    ):
        Run.resume(tmp_path / "r", SETS)


def test_a_run_that_diverges_at_its_very_end_leaves_no_results(tmp_path):
    """Promise 8: the last update of all has no next one that would notice."""
    sets = Sets(replace(SETS.train, images=SETS.train.images * np.float32(1)), SETS.test)
    graph = sequence((1, 4, 4), F1=Dense(6), relu=ReLU(), F2=Dense(3), loss=SoftmaxCrossEntropy())
    recipe = replace(RECIPE, epochs=1, batch=24, learning_rate=1e34)
    current = begun(tmp_path / "r", recipe, sets, graph=graph)
    (step,) = current
    assert not np.isfinite(step.validation.loss)
    (record,) = read_log(tmp_path / "r")
    assert record["validation_loss"] is None  # NaN is not JSON
    text = r"^the loss on the test images is (nan|inf): the last updates made the parameters too large\. Train again w"
    with pytest.raises(DivergenceError, match=text):
        current.finish()
    assert names(tmp_path / "r") == ["checkpoint.safetensors", "log.jsonl", "run.json"]


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    expected = begun(tmp_path / "whole")
    list(expected)
    current = begun(tmp_path / "r")
    replace_file = run.replace_file

    def full(*_):
        raise OSError(28, "No space left on device")

    stream = iter(current)
    for _ in range(8):
        next(stream)
    before = (tmp_path / "r/checkpoint.safetensors").read_bytes()
    monkeypatch.setattr("rot180.files.os.fsync", full)
    with pytest.raises(
        RunError, match=r"^cannot write .*/r/checkpoint.safetensors: No space left on device; choose an"
    ):
        current.save()
    with pytest.raises(RunError, match=r"^cannot write .*/r/log.jsonl: No space left on device"):
        list(stream)
    monkeypatch.undo()
    assert run.replace_file is replace_file
    assert (tmp_path / "r/checkpoint.safetensors").read_bytes() == before
    resumed = Run.resume(tmp_path / "r", SETS)
    list(resumed)
    assert resumed.network.parameters.tobytes() == expected.network.parameters.tobytes()
    assert untimed(read_log(tmp_path / "r")) == untimed(read_log(tmp_path / "whole"))


# --- real processes, really killed -------------------------------------------------------------------------------

DRIVER = """
import sys
from rot180.cli import main
from rot180.training import run
run.CHECKPOINT_SECONDS = 0.02  # instead of 10: so that a test of seconds sees many
sys.exit(main(sys.argv[1:]))
"""
TRAIN = ["--images", "600", "--epochs", "3", "--batch", "8", "--seed", "3", "--engine", "reference"]


def write_idx(path, array):
    path.write_bytes(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture(scope="module")
def idx(tmp_path_factory):
    """The first 650 training and 50 test images of MNIST, as IDX files: loaded in no time, tested in no time."""
    folder, digits = tmp_path_factory.mktemp("idx"), data.mnist()
    for part, dataset, count in (("train", digits.train, 650), ("t10k", digits.test, 50)):
        write_idx(folder / f"{part}-images-idx3-ubyte", dataset.images[:count, 0])
        write_idx(folder / f"{part}-labels-idx1-ubyte", dataset.labels[:count].astype(np.uint8))
    return folder


def started(*arguments):
    """A training as its own process, each with one thread, so that two do not slow each other down."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", DRIVER, "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.fixture(scope="module")
def uninterrupted(idx, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    process = started(idx, *TRAIN, "--out", folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.startswith("test error ")
    return folder


def wait_for(condition, process, what):
    """Until it holds, or the process has ended."""
    until = time.monotonic() + 60
    while not condition() and process.poll() is None:
        assert time.monotonic() < until, f"waited a minute for {what}"
        time.sleep(0.002)


def written(path):
    """Which of its versions a file is."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def assert_same_outcome(folder, uninterrupted):
    assert (folder / "weights.safetensors").read_bytes() == (uninterrupted / "weights.safetensors").read_bytes()
    assert untimed(read_log(folder)) == untimed(read_log(uninterrupted))
    mine, theirs = (json.loads((each / "results.json").read_text()) for each in (folder, uninterrupted))
    for name in ("updates", "test_errors", "test_loss", "confusion", "validation_error"):
        assert mine[name] == theirs[name], name
    assert names(folder) == sorted([*FILES, "report.html"])  # nothing half written is left


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_killed_at_random_moments_a_run_ends_with_the_same_bytes(idx, uninterrupted, tmp_path):
    """Promises 2 and 3. Two lives of three get to a checkpoint of their own, so that it moves on; then it is shot."""
    folder, chance = tmp_path / "r", random.Random(7)
    checkpoint = folder / "checkpoint.safetensors"
    kills, ended = 0, None
    while ended is None:
        resume = (folder / "run.json").exists()
        before = written(checkpoint)
        process = started(*(["--resume", folder] if resume else [idx, *TRAIN, "--out", folder]))
        if kills % 3:  # lives until its first checkpoint and a little longer
            wait_for(lambda: written(checkpoint) not in (before, None), process, "a checkpoint")  # noqa: B023
            longest = 0.03
        else:  # may die while it starts
            longest = 0.4
        try:
            process.wait(timeout=chance.uniform(0, longest) if kills < 9 else 120)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        else:
            ended = process.returncode
        errors = process.communicate()[1]
        assert "Traceback" not in errors
    assert ended == 0, errors
    assert kills >= 5
    assert_same_outcome(folder, uninterrupted)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(idx, uninterrupted, tmp_path):
    folder = tmp_path / "r"
    process = started(idx, *TRAIN, "--out", folder, "--json")
    wait_for(lambda: (folder / "log.jsonl").exists() and (folder / "log.jsonl").stat().st_size, process, "an epoch")
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - asked < 5
    assert process.returncode == 130
    assert err.endswith(f"rot180: stopped; go on with: rot180 train --resume {folder}\n")
    assert "Traceback" not in err
    stopped = json.loads(out)
    assert stopped == {"stopped": True, "run": str(folder), "updates": stopped["updates"]}
    assert 0 < stopped["updates"] < 3 * 69  # 550 images are left to learn from
    assert names(folder) == ["checkpoint.safetensors", "log.jsonl", "run.json"]
    process = started("--resume", folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert_same_outcome(folder, uninterrupted)


@pytest.mark.skipif(os.name != "posix", reason="needs flock")
def test_a_run_in_progress_cannot_be_resumed(idx, tmp_path):
    folder = tmp_path / "r"
    first = started(idx, *TRAIN, "--out", folder)
    wait_for(lambda: (folder / "log.jsonl").exists(), first, "the beginning")
    second = started("--resume", folder)
    _, err = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 1
    assert err == f"rot180: {folder}: another process is at work on this run; wait for its end, or stop it\n"


def test_sigterm_stops_as_gently(idx, tmp_path):
    folder = tmp_path / "r"
    process = started(idx, *TRAIN, "--out", folder)
    checkpoint = folder / "checkpoint.safetensors"
    wait_for(lambda: (folder / "log.jsonl").exists(), process, "the beginning")
    before = written(checkpoint)
    wait_for(lambda: written(checkpoint) != before, process, "a checkpoint")
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.endswith(f"rot180: stopped; go on with: rot180 train --resume {folder}\n")


def test_the_networks_own_seed_is_the_recipes(tmp_path):
    """What a run starts from can be had again."""
    current = begun(tmp_path / "r", replace(RECIPE, schedule=Steps()))
    np.testing.assert_array_equal(current.network.parameters, Network(GRAPH, 5).parameters)
