"""The command line: what it prints, its exit codes, and that no mistake of a user makes a traceback (promises 1, 7)."""

import json
import os
import re
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from rot180 import data, models
from rot180.cli import main, train
from rot180.layers import Dense
from rot180.version import VERSION

ROT180 = [sys.executable, "-m", "rot180"]
REFERENCE = ["--engine", "reference"]
DIGITS = 50


def call(*arguments):
    """The command as a process, with one thread: exit code, stdout, stderr."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [*ROT180, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def write_idx(path, array):
    path.write_bytes(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


def write_folder(folder, train_count, test_count):
    digits = data.mnist()
    for part, dataset, count in (("train", digits.train, train_count), ("t10k", digits.test, test_count)):
        write_idx(folder / f"{part}-images-idx3-ubyte", dataset.images[:count, 0])
        write_idx(folder / f"{part}-labels-idx1-ubyte", dataset.labels[:count].astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def idx(tmp_path_factory):
    """100 training and 40 test images of MNIST as IDX files."""
    return write_folder(tmp_path_factory.mktemp("idx"), 100, 40)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run on the embedded MNIST, a few seconds long, and what it printed as JSON."""
    folder = tmp_path_factory.mktemp("runs") / "quick"
    quick = ["--images", "3000", "--epochs", "2", "--batch", "16", "--validation", "0", "--out", folder, "--json"]
    done = call("train", *quick, *REFERENCE)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="session")
def small(idx, tmp_path_factory):
    """A finished run on IDX files."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    done = call("train", idx, "--epochs", 1, "--out", folder, *REFERENCE)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """The first 50 test digits as PNGs, and what they are."""
    folder, test = tmp_path_factory.mktemp("pictures"), data.mnist().test
    paths = [folder / f"digit-{k:02}.png" for k in range(DIGITS)]
    for path, image in zip(paths, test.images, strict=False):
        Image.fromarray(image[0]).save(path)
    return paths, test.labels[:DIGITS]


# --- help and version --------------------------------------------------------------------------------------------


def test_help_names_every_command_and_is_quick():
    def seconds(*command):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return time.perf_counter() - began, done.stdout

    times, texts = zip(*(seconds(*ROT180, "--help") for _ in range(5)), strict=True)
    numpy = min(seconds(sys.executable, "-c", "import numpy")[0] for _ in range(5))
    assert min(times) < max(0.3, 4 * numpy)
    for command in ("train", "evaluate", "predict", "summary", "check"):
        assert re.search(rf"^    {command} +\w", texts[0], re.MULTILINE)
    assert "Exit codes: 0 done, 1 failed, 2 wrong usage." in " ".join(texts[0].split())


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "summary", "check"])
def test_help_of_a_command(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert f"rot180 {command}" in out
    assert "--json" in out
    assert err == ""


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"rot180 {VERSION}\n"
    assert re.match(r"\d+\.\d+", VERSION)


# --- wrong usage: 2 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["train", "--network", "lenet-6"],
        ["train", "--network", "INPUT -> [CONV"],
        ["train", "--engine", "steam"],
        ["train", "--mode", "batch"],
        ["train", "--schedule", "linear"],
        ["train", "--optimizer", "adagrad"],
        ["train", "--average", "all"],
        ["train", "--patience", "1.5"],
        ["train", "--initializer", "zero"],
        ["train", "--epochs", "many"],
        ["train", "--epochs", "1.5"],
        ["train", "a", "b"],
        ["train", "--colour"],
        ["evaluate"],
        ["predict", "run"],
        ["predict", "run", "x.png", "--top", "all"],
        ["summary"],
    ],
    ids=" ".join,
)
def test_wrong_usage(capsys, argv):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: rot180")
    assert "error: " in err


# --- failures: 1, one sentence, no traceback ---------------------------------------------------------------------

LONG = "x" * 5000


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["train", "nowhere"], r"nowhere does not exist: give the word mnist, or a folder with a sub-folder of pict"),
        (["train", LONG], r"x{5000}: File name too long"),
        (["train", "--out", f"{LONG}/y", "--images", "9"], r"cannot make the run folder x{5000}/y: File name too lon"),
        (["train", "--epochs", "0"], r"epochs is 0: choose a whole number of at least 1"),
        (["train", "--batch", "-3"], r"batch is -3: choose a whole number of at least 1"),
        (["train", "--seed", "-1"], r"seed is -1: choose a whole number of at least 0"),
        (["train", "--seed", "9" * 30], r"seed is 9{30}: choose a whole number of at most 9223372036854775807"),
        (["train", "--learning-rate", "nan"], r"the learning rate is nan: choose a number above 0, such as 0\.05"),
        (["train", "--learning-rate", "-1"], r"the learning rate is -1\.0: choose a number above 0, such as 0\.05"),
        (["train", "--momentum", "1"], r"momentum is 1\.0: choose a number from 0 to below 1"),
        (
            ["train", "--optimizer", "adam", "--momentum", "0.9"],
            r"--momentum is not a setting of Adam: leave it out, or",
        ),
        (["train", "--beta1", "0.9"], r"--beta1 is not a setting of SGD: leave it out, or choose another --optimizer"),
        (["train", "--optimizer", "Adam", "--beta1", "1"], r"beta1 is 1\.0: choose a number from 0 to below 1"),
        (["train", "--label-smoothing", "1", "--images", "9"], r"smoothing is 1\.0: choose a share from 0 to below 1"),
        (["train", "--patience", "0"], r"stopping after patience 0: choose a whole number of at least 1"),
        (["train", "--stop-loss", "-1"], r"stopping at loss -1\.0: choose a number from 0"),
        (
            ["train", "--patience", "2", "--validation", "0", "--images", "20"],
            r"patience looks at the validation loss: ",
        ),
        (["train", "--weight-decay", "-1"], r"weight decay is -1\.0: choose a number from 0, such as 0\.0005"),
        (["train", "--validation", "1"], r"validation is 1\.0: choose a share of the images from 0 to below 1"),
        (["train", "--shift", "100000", "--images", "20"], r"shift is 100000: images of 28x28 would be moved out of s"),
        (["train", "--images", "0"], r"--images is 0: choose from 1 to 60000"),
        (["train", "--images", "60001"], r"--images is 60001: choose from 1 to 60000"),
        (["train", "--resume", "nowhere"], r"nowhere is not a run: it has no run\.json"),
        (["evaluate", "nowhere"], r"nowhere is not a run: it has no run\.json"),
        (["evaluate", LONG], r"x{5000}/run\.json: damaged \(\[Errno 36\] File name too long"),
        (["evaluate", __file__], r".*test_cli\.py is not a run: it has no run\.json"),
        (["predict", "nowhere", "x.png"], r"nowhere is not a run: it has no run\.json"),
        (["predict", "nowhere", "x.png", "--top", "0"], r"--top is 0: choose at least 1"),
        (["summary", "lenet-6"], r"there is no network 'lenet-6': choose one of lenet-5, lenet-sigmoid"),
        (["summary", "."], r"\. is not a run: it has no run\.json"),
        (["summary", LONG], r"x{5000}: File name too long"),
        (["check", "lenet-6"], r"there is no network 'lenet-6': choose one of lenet-5, lenet-sigmoid"),
        (["check", "--seed", "9" * 30], r"--seed is 9{30}: choose a whole number from 0 to 9223372036854775807"),
        (["check", "--seed", "-1"], r"--seed is -1: choose a whole number from 0 to 9223372036854775807"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_failures_are_one_sentence(capsys, tmp_path, monkeypatch, argv, text):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.match(rf"^rot180: {text}", err)
    assert err.count("\n") == 1
    assert main([*argv, "--json"]) == 1
    out, again = capsys.readouterr()
    assert again == err
    assert json.loads(out) == {"error": err.removeprefix("rot180: ").removesuffix("\n")}
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_an_out_under_a_file_is_refused(capsys, tmp_path, idx):
    (tmp_path / "file").write_text("mine")
    assert main(["train", str(idx), "--out", str(tmp_path / "file" / "run"), *REFERENCE]) == 1
    err = capsys.readouterr().err
    assert err == f"rot180: cannot make the run folder {tmp_path}/file/run: Not a directory; choose another --out\n"


def test_an_occupied_out_is_refused(capsys, small, idx):
    assert main(["train", str(idx), "--out", str(small[0]), *REFERENCE]) == 1
    assert re.match(
        r"rot180: .* holds a run already: choose another --out, or go on with --resume ", capsys.readouterr().err
    )


def test_damaged_weights_are_refused(capsys, small, tmp_path):
    for name in ("run.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((small[0] / name).read_bytes())
    content = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(content[:1000])
    for argv in (["evaluate", str(tmp_path)], ["predict", str(tmp_path), "x.png"]):
        assert main(argv) == 1
        assert re.match(
            rf"rot180: {tmp_path}/weights.safetensors: not a network that rot180 saved \(", capsys.readouterr().err
        )


def test_a_run_that_is_not_finished(capsys, small, tmp_path):
    (tmp_path / "run.json").write_bytes((small[0] / "run.json").read_bytes())
    assert main(["evaluate", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"rot180: {tmp_path}: the run is not finished; go on with rot180 train --resume {tmp_path}\n"
    )


def test_divergence_is_a_sentence_without_numpys_warnings(tmp_path, idx):
    """Promise 8, as a person meets it."""
    options = ["--learning-rate", "1e6", "--schedule", "constant", "--batch", "8", "--out", tmp_path / "r"]
    done = call("train", idx, *options, *REFERENCE)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(
        r"rot180: the loss is \S+ in epoch 1, update \d+: the (output|gradient) of '\w+' is the first that is not finit"
        r"e; nothing was changed by this update\. Try a smaller learning rate than 1e\+06, or .*\n",
        done.stderr,
    )


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (MemoryError(), 1, "rot180: there is not enough memory; use fewer images or a smaller batch\n"),
        (KeyboardInterrupt(), 130, "rot180: interrupted\n"),
        (PermissionError(13, "Permission denied", "/secret"), 1, "rot180: /secret: Permission denied\n"),
    ],
)
def test_what_can_happen_anywhere(capsys, monkeypatch, error, code, text):
    def run(_):
        raise error

    monkeypatch.setattr(train, "run", run)
    assert main(["train"]) == code
    assert capsys.readouterr() == ("", text)


def test_as_a_process_a_failure_exits_with_1(tmp_path):
    done = call("train", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"rot180: {tmp_path} holds no data set: give the word mnist")


@pytest.mark.skipif(os.name != "posix", reason="pipes close otherwise elsewhere")
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("argv", [["summary", "lenet-5"], ["summary", "lenet-5", "--json"], ["--version"], ["--help"]])
def test_a_reader_who_has_gone_makes_no_traceback(argv, buffered):
    """As in rot180 summary lenet-5 | head -1."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*ROT180, *argv],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=environment if buffered else {**environment, "PYTHONUNBUFFERED": "1"},
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode in (0, 1)


# --- training ----------------------------------------------------------------------------------------------------


def test_training_prints_json_for_programs(trained):
    folder, results, err = trained
    assert results["run"] == str(folder)
    assert results["test_images"] == 10_000
    assert results["test_error"] == results["test_errors"] / 10_000 < 0.1
    assert (results["epochs"], results["updates"]) == (2, 2 * 188)
    assert results["parameters"] == 61_706
    assert np.sum(results["confusion"]) == 10_000
    stored = json.loads((folder / "results.json").read_text())
    assert {"run": str(folder), **stored} == results
    lines = err.splitlines()
    assert len(lines) == 2  # progress, a line an epoch
    assert re.fullmatch(r"epoch 1/2  loss \d\.\d{4}  error \d+\.\d\d %  \d+\.\d s", lines[0])


def test_training_says_the_result_and_where_it_is(small):
    folder, out, err = small
    first, second = out.splitlines()
    assert re.fullmatch(r"test error \d+\.\d\d % \(\d+ of 40\) after 1 epochs, \d+\.\d s of training", first)
    assert second == str(folder)
    assert re.fullmatch(r"epoch 1/1  loss .*  error .* %  validation error .* %  \d+\.\d s\n", err)


def test_every_choice_reaches_the_recipe(tmp_path, idx, capsys):
    options = (
        "--images 60 --epochs 2 --seed 7 --mode whole-batch --batch 9 --learning-rate 0.25 --schedule steps "
        "--momentum 0.5 --weight-decay 0 --shift 0 --flip --validation 0.5 --rotate 5 "
        "--elastic 34 4 --cutout 3 --initializer lecun --network lenet-sigmoid"
    )
    assert main(["train", str(idx), "--out", str(tmp_path / "r"), *options.split(), *REFERENCE, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert (results["epochs"], results["updates"], results["train_images"]) == (2, 2, 32)  # half of each class
    stored = json.loads((tmp_path / "r" / "run.json").read_text())
    assert (stored["network"], stored["initializer"], stored["images"]) == ("lenet-sigmoid", "lecun", 60)
    assert stored["engine"] == "reference"
    recipe = stored["recipe"]
    assert recipe["optimizer"] == {"name": "SGD", "momentum": 0.5, "nesterov": True, "weight_decay": 0}
    assert recipe["schedule"] == {"name": "steps", "factor": 0.1, "at": [0.5, 0.75]}
    expected = {"seed": 7, "mode": "whole-batch", "batch": 9, "learning_rate": 0.25, "validation": 0.5}
    assert {name: recipe[name] for name in expected} == expected
    augmentation = {name: value for name, value in recipe["augmentation"].items() if value}
    assert augmentation == {"flip": True, "rotate": 5, "elastic": [34, 4], "crop": 1, "cutout": 3}


def test_every_other_choice_reaches_the_recipe(tmp_path, idx, capsys):
    options = (
        "--images 60 --epochs 3 --mode eet --sample-loss 0.5 --sample-updates 2 --optimizer adamw --beta1 0.5 "
        "--beta2 0.75 --weight-decay 0.25 --schedule adaptive --average exponential --stop-loss 0.1 --stop-error 0.2 "
        "--stop-gradient 0.3 --patience 4 --max-updates 5 --max-seconds 600 --label-smoothing 0.125"
    )
    assert main(["train", str(idx), "--out", str(tmp_path / "r"), *options.split(), *REFERENCE]) == 0
    assert "s of training (stopped by: updates)" in capsys.readouterr().out
    stored = json.loads((tmp_path / "r" / "run.json").read_text())
    assert stored["graph"]["nodes"][-1]["settings"]["smoothing"] == 0.125
    recipe = stored["recipe"]
    adamw = {"name": "AdamW", "beta1": 0.5, "beta2": 0.75, "epsilon": 1e-8, "weight_decay": 0.25}
    assert recipe["optimizer"] == adamw
    assert recipe["learning_rate"] == 0.001
    assert recipe["schedule"] == {"name": "adaptive", "grow": 1.05, "shrink": 0.7, "tolerance": 1.04}
    assert recipe["averaging"] == {"name": "exponential", "decay": 0.999}
    criteria = {"loss": 0.1, "error": 0.2, "gradient_norm": 0.3, "patience": 4, "updates": 5, "seconds": 600}
    assert recipe["stopping"] == criteria
    assert (recipe["mode"], recipe["sample_loss"], recipe["sample_updates"]) == ("sample-by-sample", 0.5, 2)


def test_without_out_runs_are_numbered(tmp_path, idx, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert main(["train", str(idx), "--epochs", "1", "--images", "20", *REFERENCE]) == 0
        assert capsys.readouterr().out.splitlines()[1] == f"runs/lenet-5-{idx.name}-{number}"


def test_a_finished_run_resumed_prints_its_results(small, capsys):
    assert main(["train", "--resume", str(small[0])]) == 0
    assert capsys.readouterr().out == small[1]


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--epochs", "5"], "--epochs"),
        (["mnist"], "DATA"),
        (["--learning-rate", "0.1", "--out", "x"], "--out, --learning-rate"),
    ],
)
def test_resuming_takes_no_other_settings(small, capsys, extra, named):
    assert main(["train", "--resume", str(small[0]), *extra]) == 1
    assert capsys.readouterr().err == f"rot180: --resume takes every setting from the run; leave out {named}\n"


def test_resuming_without_its_data(tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    write_folder(folder, 20, 5)
    argv = ["train", str(folder), "--epochs", "1", "--validation", "0", "--out", str(tmp_path / "r"), *REFERENCE]
    assert main(argv) == 0
    capsys.readouterr()
    write_folder(folder, 20, 6)
    assert main(["train", "--resume", str(tmp_path / "r")]) == 1
    text = f"rot180: {tmp_path}/r: {folder} is no longer the data that the run began with; start a new run\n"
    assert capsys.readouterr().err == text
    folder.rename(tmp_path / "elsewhere")
    assert main(["train", "--resume", str(tmp_path / "r")]) == 1
    assert capsys.readouterr().err.startswith(
        f"rot180: the run's data cannot be loaded: {folder} does not exist: give the word mnist"
    )


# --- evaluating --------------------------------------------------------------------------------------------------


def test_evaluating_says_what_training_said(trained, capsys):
    folder, results, _ = trained
    assert main(["evaluate", str(folder), "--json"]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    assert evaluation["run"] == str(folder)
    assert evaluation["data"] == "mnist"
    assert (evaluation["errors"], evaluation["error"]) == (results["test_errors"], results["test_error"])
    assert evaluation["loss"] == pytest.approx(results["test_loss"], rel=1e-6)  # BLAS may have other threads here
    assert evaluation["confusion"] == results["confusion"]


def test_evaluating_on_other_data(trained, idx, capsys):
    assert main(["evaluate", str(trained[0]), str(idx)]) == 0
    out = capsys.readouterr().out
    first, table = out.split("\n", 1)
    errors = int(re.fullmatch(r"error \d+\.\d\d % \((\d+) of 40\)  loss \d+\.\d{4}", first).group(1))
    assert errors < 8
    assert "rows: what it is; columns: what the network says" in table
    confusion, _, mistakes = table.partition("the worst mistakes")
    rows = [line.split() for line in confusion.splitlines() if re.match(r" +\d ", line)]
    assert [row[0] for row in rows] == list("0123456789")
    counts = [[int(cell) for cell in row[2:12] if cell != "·"] for row in rows]
    assert [sum(each) for each in counts] == [int(row[1]) for row in rows]
    assert sum(map(sum, counts)) == 40
    assert len(re.findall(r"image \d+ ", mistakes)) == errors


def test_evaluating_on_data_that_does_not_fit(trained, tmp_path, capsys):
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((2, 5, 5), np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.zeros(2, np.uint8))
    assert main(["evaluate", str(trained[0]), str(tmp_path)]) == 1
    assert re.search(r"/test: images are 1x5x5, but the network takes 1x28x28; choose", capsys.readouterr().err)


# --- predicting --------------------------------------------------------------------------------------------------


def test_digits_from_png_files_are_read(trained, pictures, capsys):
    paths, labels = pictures
    assert main(["predict", str(trained[0]), *map(str, paths), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["image"] for result in results] == list(map(str, paths))
    right = [result["class"] == str(label) for result, label in zip(results, labels, strict=True)]
    assert np.mean(right) > 0.9
    for result in results:
        assert len(result["top"]) == 3
        assert result["top"][0] == {"class": result["class"], "probability": result["probability"]}
        probabilities = [each["probability"] for each in result["top"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0.1 <= probabilities[0] <= 1


def test_dark_on_light_and_large_says_the_same(trained, pictures, tmp_path, capsys):
    paths, labels = pictures
    others = []
    for path in paths:
        page = Image.new("L", (400, 300), 255)
        page.paste(Image.fromarray(255 - np.asarray(Image.open(path).resize((140, 140)))), (200, 30))
        page.save(tmp_path / path.name)
        others.append(tmp_path / path.name)
    assert main(["predict", str(trained[0]), *map(str, others), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert np.mean([result["class"] == str(label) for result, label in zip(results, labels, strict=True)]) > 0.9


def test_a_bad_picture_is_named_and_the_others_are_answered(trained, pictures, tmp_path, capsys):
    """Promise 7."""
    good = [str(path) for path in pictures[0][:2]]
    (tmp_path / "torn.png").write_bytes(pictures[0][0].read_bytes()[:60])
    Image.new("L", (30, 30), 255).save(tmp_path / "blank.png")
    bad = [str(tmp_path / name) for name in ("torn.png", "blank.png", "none.png")]
    argv = ["predict", str(trained[0]), good[0], *bad, good[1]]
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert all(path in out for path in good)
    assert not any(path in out for path in bad)
    torn, blank, none, counted = err.splitlines()
    assert torn.startswith(f"rot180: {bad[0]}: not a picture that can be read (")
    assert blank == f"rot180: {bad[1]}: the picture shows nothing but its background"
    assert none == f"rot180: {bad[2]}: there is no such file"
    assert counted == "rot180: 3 of 5 could not be read"
    assert main([*argv, "--json"]) == 1
    results = json.loads(capsys.readouterr().out)
    assert [result["image"] for result in results] == [good[0], *bad, good[1]]
    assert [result.get("error") for result in results] == [None, *(line[8:] for line in (torn, blank, none)), None]


def test_only_bad_pictures(trained, tmp_path, capsys):
    assert main(["predict", str(trained[0]), str(tmp_path / "none.png")]) == 1
    assert capsys.readouterr() == ("", f"rot180: {tmp_path}/none.png: there is no such file\n")


@pytest.mark.parametrize("top", [1, 10, 99])
def test_as_many_guesses_as_asked_for(trained, pictures, capsys, top):
    assert main(["predict", str(trained[0]), str(pictures[0][0]), "--top", str(top), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert len(result["top"]) == min(top, 10)
    if top >= 10:
        assert sum(each["probability"] for each in result["top"]) == pytest.approx(1, rel=1e-5)


def test_predictions_for_people(trained, pictures, capsys):
    assert main(["predict", str(trained[0]), str(pictures[0][0])]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"{re.escape(str(pictures[0][0]))} +7 +\d+\.\d\d % +\d \d+\.\d\d %  \d \d+\.\d\d %", out)


# --- summary and check -------------------------------------------------------------------------------------------


def test_summary_for_people(capsys):
    assert main(["summary", "lenet-5"]) == 0
    out = capsys.readouterr().out
    assert "lenet-5: input 1x28x28" in out
    assert re.search(r"C1 +Convolution +6x28x28 +156 +122,304 +117,600 +5x5", out)
    assert re.search(r"sum +61,706 +", out)
    assert "memory: parameters 241.0 KiB, values of one image " in out


def test_summary_for_programs(capsys, small):
    assert main(["summary", "lenet-5", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["network"] == "lenet-5"
    assert whole["input"] == [1, 28, 28]
    assert whole["parameters"] == sum(row["parameters"] for row in whole["rows"]) == 61_706
    assert whole["rows"][1]["name"] == "C1"
    assert main(["summary", str(small[0]), "--json"]) == 0
    of_run = json.loads(capsys.readouterr().out)
    assert of_run["rows"][:11] == whole["rows"][:11]


def test_summary_of_a_pattern_and_of_other_classes(capsys):
    pattern = "INPUT(3, 32, 32) -> [[CONV -> RELU]*2 -> POOL]*2 -> FC"
    assert main(["summary", pattern, "--classes", "4", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["input"] == [3, 32, 32]
    assert [row["output"] for row in whole["rows"] if row["layer"] == "Dense"] == [[4]]


def test_c8_summary_of_what_sharing_saves(capsys):
    """Seed 002's example: 10^12, 10^8, 10^2."""
    network = "INPUT(1, 1000, 1000) -> CONV(1, 10) -> POOL(100) -> FC"
    assert main(["summary", network, "--sharing"]) == 0
    assert re.search(r"conv1 +1,000,000 +1,000,000,000,000 +100,000,000 +100\b", capsys.readouterr().out)
    assert main(["summary", "lenet-5-1998", "--sharing", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert list(rows) == ["C1", "C3", "C5"]
    assert rows["C3"] == {
        "units": 1600, "fully_connected": 1176 * 1600, "locally_connected": 60 * 25 * 100, "shared": 60 * 25,
    }  # fmt: skip


def test_train_a_pattern(idx, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pattern = "INPUT -> [CONV(3) -> POOL]*2 -> FC"
    assert main(["train", str(idx), "--network", pattern, "--epochs", "1", *REFERENCE]) == 0
    run = tmp_path / "runs" / f"pattern-{idx.name}-1"
    assert json.loads((run / "run.json").read_text())["network"] == pattern
    capsys.readouterr()
    assert main(["summary", str(run), "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["rows"]][-2:] == ["fc1", "loss"]


def test_check_of_every_layer(capsys):
    assert main(["check", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["passed"] is True
    assert len(result["checks"]) > 20
    assert all(check["passed"] for check in result["checks"])


def test_check_of_a_network_for_people(capsys):
    assert main(["check", "lenet-sigmoid"]) == 0
    out = capsys.readouterr().out
    assert "all gradients are right: directional error below 1e-06, adjoint error below 1e-12" in out
    assert "WRONG" not in out


def test_check_of_a_large_network_is_of_its_small_form(capsys):
    assert main(["check", "alexnet-column"]) == 0
    assert "alexnet-column for images of 3x67x67" in capsys.readouterr().out


def test_check_of_all_is_of_every_layer_and_of_a_network_of_each_kind(capsys, monkeypatch):
    kinds = models.one_of_each_kind()
    assert {"lenet-5-1998", "alexnet", "googlenet", "highway-10", "resnet-8", "resnet-18", "resnet-50"} <= {*kinds}
    assert not {"resnet-20", "resnet-34", "resnet-101"} & {*kinds}
    monkeypatch.setattr(models, "one_of_each_kind", lambda: ["lenet-5-1998", "highway-10"])
    assert main(["check", "all", "--json"]) == 0
    names = [check["name"] for check in json.loads(capsys.readouterr().out)["checks"]]
    assert names[-2:] == ["lenet-5-1998", "highway-10"]
    assert any(name.startswith("LocalResponseNormalization") for name in names)


def test_check_fails_where_a_gradient_is_wrong(capsys, monkeypatch):
    """The exit code is worth something."""
    original = Dense.input_gradient
    monkeypatch.setattr(Dense, "input_gradient", lambda *arguments: original(*arguments) * 1.01)
    assert main(["check"]) == 1
    assert "some gradients are WRONG" in capsys.readouterr().out
    assert main(["check", "--json"]) == 1
    failed = [check["name"] for check in json.loads(capsys.readouterr().out)["checks"] if not check["passed"]]
    assert failed
    assert all(name.startswith("Dense") for name in failed)
