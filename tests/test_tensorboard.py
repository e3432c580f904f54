"""TensorBoard's event files, read back record by record."""

import json
import re
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from rot180 import Network, Recipe, sequence
from rot180.cli import main
from rot180.data import Dataset
from rot180.errors import RunError, SettingError
from rot180.layers import Dense, ScalePixels, SoftmaxCrossEntropy
from rot180.training import Stopping, Trainer
from rot180.training.run import read_log
from rot180.training.tensorboard import recorded, scalars

GRAPH = sequence((1, 4, 4), pixels=ScalePixels(), F=Dense(3), loss=SoftmaxCrossEntropy())
RECIPE = Recipe(epochs=2, batch=5, validation=0.25, seed=2)


def trainer(recipe=RECIPE):
    chance = np.random.default_rng(1)
    images = chance.integers(0, 256, (20, 1, 4, 4)).astype(np.uint8)
    return Trainer(Network(GRAPH, engine="reference"), Dataset(images, np.arange(20) % 3, ("a", "b", "c")), recipe)


def events(folder):
    """Of all files in the order of their first step. A record: length, its checksum, content, its checksum."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda path: int(path.suffix[1:])):
        assert ".tfevents." in path.name  # what TensorBoard looks for
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length, checksum), at = struct.unpack_from("<QI", content, at), at + 12
            assert checksum == masked_crc32c(content[at - 12 : at - 4])
            found.append(Event.FromString(content[at : at + length]))
            assert struct.unpack_from("<I", content, at + length) == (masked_crc32c(content[at : at + length]),)
            at += length + 4
    return found


def written(folder):
    return [(event.step, value.tag, value.simple_value) for event in events(folder) for value in event.summary.value]


def expected(steps):
    return [(step.step, name, np.float32(value)) for step in steps for name, value in scalars(step).items()]


def test_every_step_is_written(tmp_path):
    steps = list(recorded(trainer(), tmp_path / "deep" / "logs"))
    assert [step.loss for step in steps] == [step.loss for step in trainer()]
    assert written(tmp_path / "deep" / "logs") == expected(steps)
    assert events(tmp_path / "deep" / "logs")[0].file_version == "brain.Event:2"


def test_the_names_and_what_they_mean():
    middle, *_, last = trainer()
    assert scalars(middle) == {
        "record/loss": middle.loss,
        "record/error": middle.error,
        "record/learning_rate": middle.learning_rate,
    }
    assert scalars(last) == {
        "record/loss": last.loss,
        "record/error": last.error,
        "record/learning_rate": last.learning_rate,
        "epoch/loss": last.loss,
        "epoch/error": last.error,
        "epoch/learning_rate": last.learning_rate,
        "epoch/validation_loss": last.validation.loss,
        "epoch/validation_error": last.validation.error,
    }


def test_an_epoch_is_on_the_disk_when_it_ends(tmp_path):
    for step in recorded(trainer(), tmp_path):
        if step.ends_epoch:
            assert written(tmp_path)[-1][1] == "epoch/validation_error"


def test_a_resumed_training_supersedes_what_it_repeats(tmp_path):
    first = trainer(replace(RECIPE, stopping=Stopping(updates=4)))
    list(recorded(first, tmp_path))
    again = trainer()
    stream = iter(again)
    next(stream)
    list(recorded(stream, tmp_path))
    starts = [event.step for event in events(tmp_path) if event.session_log.status == SessionLog.START]
    assert starts == [1, 2]
    assert [step for step, name, _ in written(tmp_path) if name == "record/loss"] == [1, 2, 3, 4, 2, 3, 4, 5, 6]


def test_what_is_not_finite_is_left_out(tmp_path):
    (step, *_) = trainer()
    list(recorded([replace(step, loss=float("inf"), error=float("nan"))], tmp_path))
    assert written(tmp_path) == [(1, "record/learning_rate", np.float32(step.learning_rate))]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(RunError, match=rf"^cannot write TensorBoard's files to {tmp_path}/f: "):
        list(recorded(trainer(), tmp_path / "f"))


FULL_DISK = """
import resource, signal, sys
from rot180.errors import RunError
from rot180.training.tensorboard import recorded
sys.path.insert(0, sys.argv[2])
from test_tensorboard import trainer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    list(recorded(trainer(), sys.argv[1]))
except RunError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_ends_the_training_with_a_sentence(tmp_path):
    """It does not wait for ever."""
    code = [sys.executable, "-c", FULL_DISK, tmp_path / "logs", __file__.rpartition("/")[0]]
    done = subprocess.run(code, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"cannot write TensorBoard's files to {tmp_path}/logs: File too large\n", done.stderr


def test_without_the_package_a_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    text = "TensorBoard's files need tensorboardX: pip install 'rot180[tensorboard]'"
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        recorded(trainer(), tmp_path)


def test_the_command_line_writes_them(tmp_path, capsys):
    arguments = ["--images", "300", "--epochs", "1", "--engine", "reference", "--json"]
    run, logs = tmp_path / "run", tmp_path / "logs"
    assert main(["train", *arguments, "--out", str(run), "--tensorboard", str(logs)]) == 0
    (record,) = read_log(run)
    last = {name: value for _, name, value in written(logs)}
    for name in ("loss", "error", "learning_rate", "validation_loss", "validation_error"):
        assert last[f"epoch/{name}"] == np.float32(record[name])
    assert json.loads(capsys.readouterr().out)["updates"] == record["step"]
    assert main(["train", "--resume", str(run), "--tensorboard", str(logs), "--json"]) == 0
