"""Promise 1: files damaged anywhere, on purpose or not, make an error that names them, or what they can mean.

100 examples each in `make test`, 20,000 in `make fuzz`. Damage to bytes and, since a checksum or a parser would stop
most of it at the door, to values within well-formed JSON.
"""

import io
import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rot180 import Network, Recipe, data, load, sequence
from rot180.data import Sets, load_npz, read_idx
from rot180.errors import DataError, ModelFileError, Rot180Error, RunError
from rot180.files import digest
from rot180.layers import BatchNormalization, Convolution, Dense, SoftmaxCrossEntropy
from rot180.training import Run
from rot180.training.run import Settings, read_log, read_settings

GRAPH = sequence((1, 3, 3), C=Convolution(1, 2), bn=BatchNormalization(), F=Dense(2), loss=SoftmaxCrossEntropy())
IMAGES = np.arange(6 * 9, dtype=np.uint8).reshape(6, 1, 3, 3)
SET = data.Dataset(IMAGES, np.arange(6) % 2, ("a", "b"))

fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
damages = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["byte", "cut", "insert"]), st.binary(max_size=3)), max_size=4
)
odd = st.recursive(
    st.sampled_from([None, True, False, 0, -1, 1, 2**31, 2**64, 1e308, float("nan"), float("inf"), "", "Dense", "../x"])
    | st.integers(-3, 9)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def damaged(content, damages):
    content = bytearray(content)
    for share, kind, new in damages:
        at = round(share * len(content))
        if kind == "cut":
            del content[at : at + 1 + len(new)]
        elif kind == "insert":
            content[at:at] = new
        else:
            content[at : at + len(new)] = new
    return bytes(content)


def places(value, path=()):
    """The way to every value within."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def changed(draw, value):
    """One value within replaced or left out, wherever it lies."""
    value = json.loads(json.dumps(value))
    *way, last = draw(st.sampled_from([path for path in places(value) if path]))
    parent = value
    for key in way:
        parent = parent[key]
    if draw(st.integers(0, 3)):
        parent[last] = draw(odd)
    else:
        del parent[last]
    return value


def tried(call, path, *errors):
    """What it returns, or None for an error that names the file."""
    try:
        return call()
    except errors as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        return None


# --- data --------------------------------------------------------------------------------------------------------


@fuzzed
@given(damages=damages)
def test_idx(tmp_path, damages):
    path = tmp_path / "f"
    path.write_bytes(damaged(struct.pack(">BBBB3I", 0, 0, 8, 3, 6, 3, 3) + IMAGES.tobytes(), damages))
    array = tried(lambda: read_idx(path), path, DataError)
    assert array is None or array.nbytes <= path.stat().st_size


def npz(**arrays):
    written = io.BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


NPZ = npz(x_train=IMAGES[:, 0], y_train=SET.labels, x_test=IMAGES[:2, 0], y_test=SET.labels[:2])


@fuzzed
@given(damages=damages)
def test_npz(tmp_path, damages):
    path = tmp_path / "f.npz"
    path.write_bytes(damaged(NPZ, damages))
    sets = tried(lambda: load_npz(path), path, DataError)
    assert sets is None or sum(each.images.nbytes for each in sets) <= 100 * len(NPZ)


shapes = st.lists(st.integers(0, 3), max_size=4)
kinds = st.sampled_from(["u1", "i8", "f4", "f8", "f2", "c8", "?", "S3", "U2", "M8[s]", "i4,f4"])


@fuzzed
@given(st.data())
def test_npz_of_any_arrays(tmp_path, data):
    """Well-formed, of shapes and types that are not images and labels."""
    arrays = {
        name: np.zeros(data.draw(shapes), data.draw(kinds)) for name in ("x_train", "y_train", "x_test", "y_test")
    }
    path = tmp_path / "f.npz"
    path.write_bytes(npz(**arrays))
    tried(lambda: load_npz(path), path, DataError)


# --- networks ----------------------------------------------------------------------------------------------------


def with_metadata(content, change):
    """A safetensors file whose metadata went through `change`."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = change(header["__metadata__"])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@fuzzed
@given(st.data())
def test_safetensors_metadata(tmp_path, data):
    """Any value in the description of a network; with the checksum of what it now says, so that it is read."""
    network = Network(GRAPH, engine="reference")
    arrays = {**network.layout.named(network.parameters), **network.statistics_layout.named(network.statistics)}

    def change(metadata):
        described = changed(data.draw, json.loads(metadata["rot180"]))
        if isinstance(described.get("graph"), dict):
            described["digest"] = digest(arrays, json.dumps(described["graph"]))
        return {"rot180": json.dumps(described)}

    path = tmp_path / "f"
    path.write_bytes(with_metadata(network.to_bytes(), change))
    read = tried(lambda: load(path, engine="reference"), path, ModelFileError)
    assert read is None or read.parameters.size == network.parameters.size


@fuzzed
@given(damages=damages)
def test_safetensors_bytes(tmp_path, damages):
    path = tmp_path / "f"
    path.write_bytes(damaged(Network(GRAPH, engine="reference").to_bytes(), damages))
    tried(lambda: load(path, engine="reference"), path, ModelFileError)


# --- runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "r"
    recipe = Recipe(epochs=1, batch=3, validation=0)
    current = Run(folder, Settings("d", "n", GRAPH, recipe, "he", "reference", None), Sets(SET, SET))
    list(current)
    current.finish()
    return folder


@fuzzed
@given(st.data())
def test_run_json(run, tmp_path, data):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(changed(data.draw, json.loads((run / "run.json").read_text()))))
    tried(lambda: read_settings(tmp_path), path, RunError)


@fuzzed
@given(damages=damages)
def test_run_json_bytes(run, tmp_path, damages):
    path = tmp_path / "run.json"
    path.write_bytes(damaged((run / "run.json").read_bytes(), damages))
    tried(lambda: read_settings(tmp_path), path, RunError)


@fuzzed
@given(damages=damages)
def test_log(run, tmp_path, damages):
    path = tmp_path / "log.jsonl"
    path.write_bytes(damaged((run / "log.jsonl").read_bytes() * 2, damages))
    records = tried(lambda: read_log(tmp_path), path, RunError)
    assert records is None or all(isinstance(record, dict) for record in records)


@fuzzed
@given(damages=damages)
def test_checkpoint(run, damages):
    path = run / "checkpoint.safetensors"
    content = path.read_bytes()
    path.write_bytes(damaged(content, damages))
    try:
        Run.resume(run, Sets(SET, SET))
    except Rot180Error as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
    finally:
        path.write_bytes(content)
