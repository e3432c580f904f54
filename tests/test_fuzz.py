"""Promise 1: files damaged anywhere, on purpose or not, make an error that names them, or what they can mean.

100 examples each in `make test`, 20,000 in `make fuzz`. Damage to bytes and, since a checksum or a parser would stop
most of it at the door, to values within well-formed JSON.
"""

import io
import json
import os
import struct
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

from rot180 import Network, Recipe, data, load, sequence
from rot180.data import Sets, load_npz, read_idx
from rot180.data.folder import SUFFIXES, PictureOptions, load_folder
from rot180.errors import DataError, ModelFileError, Rot180Error, RunError
from rot180.files import digest
from rot180.interchange.onnx_operators import TRANSLATORS
from rot180.interchange.onnx_tensors import ALGEBRA
from rot180.layers import BatchNormalization, Convolution, Dense, SoftmaxCrossEntropy
from rot180.onnx import Backend
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


# --- ONNX --------------------------------------------------------------------------------------------------------


def onnx_model(nodes, **constants):
    """Operators (kind, inputs, output, attributes) from the images x (N,3,6,5) to y."""
    made = [helper.make_node(kind, inputs.split(), [output], **more) for kind, inputs, output, more in nodes]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 3, 6, 5]), ("y", [None, None]))
    )
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(helper.make_graph(made, "g", [x], [y], tensors), opset_imports=opsets, ir_version=8)


def some(*shape):
    return np.linspace(0.5, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


MODELS = [
    onnx_model(
        [
            ("Sub", "x mean", "m", {}),
            ("Conv", "m w", "c", {"pads": [1, 1, 1, 1], "strides": [1, 2]}),
            ("BatchNormalization", "c s s s s", "n", {}),
            ("Relu", "n", "r", {}),
            ("MaxPool", "r", "p", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
            ("GlobalAveragePool", "p", "a", {}),
            ("Flatten", "a", "f", {}),
            ("Gemm", "f d s", "g", {"transB": 1}),
            ("Softmax", "g", "y", {}),
        ],
        mean=some(3, 1, 1),
        w=some(2, 3, 3, 3),
        s=some(2),
        d=some(2, 2),
    ),
    onnx_model(
        [
            ("Pad", "x pads", "p", {}),
            ("AveragePool", "p", "a", {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER"}),
            ("Concat", "a p", "c", {"axis": 1}),
            ("PRelu", "c slope", "r", {}),
            ("Add", "r r", "d", {}),
            ("Transpose", "d", "t", {"perm": [0, 2, 3, 1]}),
            ("Shape", "t", "sizes", {}),
            ("Gather", "sizes first", "n", {}),
            ("Unsqueeze", "n zero", "u", {}),
            ("Concat", "u rest", "shape", {"axis": 0}),
            ("Reshape", "t shape", "v", {}),
            ("MatMul", "v w", "z", {}),
            ("Clip", "z low", "y", {}),
        ],
        pads=[0, 0, 1, 0, 0, 0, 0, 1],
        slope=some(6, 1, 1),
        first=0,
        zero=[0],
        rest=[-1],
        w=some(6 * 42, 2),
        low=np.float32(0.1),
    ),
]
WHOLE = st.sampled_from([0, 1, -1, 2, 3, 7, 10, 16, 2**16, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63)])
VALUES = {
    "int": WHOLE,
    "float": st.sampled_from([0.0, -1.0, 0.5, 1e38, float("nan"), float("inf")]),
    "str": st.sampled_from(["", "x", "w", "c", "r", "axis", "SAME_LOWER", "../x", *sorted({*TRANSLATORS, *ALGEBRA})]),
    "bytes": st.binary(max_size=9),
    "bool": st.booleans(),
}


def messages(message):
    """It, and every message within."""
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for each in value if field.is_repeated else [value]:
                yield from messages(each)


def change(draw, model):
    """One field of one message of the model, whichever they are, in one way."""
    every = list(messages(model))
    message = draw(st.sampled_from(every))
    field = draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
    value, kind = getattr(message, field.name), draw(st.integers(0, 3))
    alike = [each for each in every if each.DESCRIPTOR is field.message_type]
    try:
        if not kind:
            message.ClearField(field.name)
        elif field.is_repeated and len(value) and kind == 1:
            del value[draw(st.integers(0, len(value) - 1))]
        elif field.message_type and alike:
            other = type(alike[0])()
            other.CopyFrom(draw(st.sampled_from(alike)))
            value.append(other) if field.is_repeated else value.CopyFrom(other)
        elif not field.message_type:
            default = field.default_value if not field.is_repeated else next(iter(value), 0)
            new = draw(VALUES[type(default).__name__])
            if not field.is_repeated:
                setattr(message, field.name, new)
            elif len(value) and kind == 2:
                value[draw(st.integers(0, len(value) - 1))] = new
            else:
                value.append(new)
    except (ValueError, TypeError):  # not of the field's type or range
        pass


class OnReference(Backend):
    """Nothing is compiled."""

    engine = "reference"


FEW_VALUES = 1e6  # of all nodes: so small a network is run


def read_onnx(path):
    """The network in the file is read and, where it is small, run; or an error names the file."""
    network = tried(lambda: load(path, engine="reference"), path, ModelFileError)
    if network and sum(np.prod(shape, dtype=float) for shape in network.graph.shapes.values()) < FEW_VALUES:
        with np.errstate(all="ignore"):
            network(np.zeros((2, *network.graph.input_shape)))


@fuzzed
@given(st.sampled_from(MODELS), damages)
def test_onnx_bytes(tmp_path, model, damages):
    path = tmp_path / "m.onnx"
    path.write_bytes(damaged(model.SerializeToString(), damages))
    read_onnx(path)


@fuzzed
@given(st.data())
def test_onnx_fields(tmp_path, data):
    """Well-formed protobuf that says something else."""
    model = ModelProto()
    model.CopyFrom(data.draw(st.sampled_from(MODELS)))
    for _ in range(data.draw(st.integers(1, 4))):
        change(data.draw, model)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    read_onnx(path)
    with suppress(Rot180Error), np.errstate(all="ignore"):
        OnReference.prepare(model).run([np.zeros((2, 3, 6, 5), np.float32)])


# --- folders of pictures -----------------------------------------------------------------------------------------


def picture(format_name, mode):
    """A small one, as bytes."""
    written = io.BytesIO()
    colours = np.random.default_rng(1).integers(0, 256, (9, 12, 4)).astype(np.uint8)
    Image.fromarray(colours).convert(mode).save(written, format_name)
    return written.getvalue()


PICTURES = [
    *(picture("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(picture("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(picture("TIFF", mode) for mode in ("1", "L", "RGBA", "CMYK", "F", "YCbCr")),
    *(picture(kind, "RGB") for kind in ("GIF", "BMP", "WEBP")),
]
whole_names = st.binary(min_size=1, max_size=12).map(os.fsdecode).filter(lambda name: not set(name) & {"/", "\0"})
endings = st.sampled_from([*sorted(SUFFIXES), ".JPG", ".", "", ".txt"])


@fuzzed
@given(st.lists(st.tuples(whole_names, whole_names, endings, st.sampled_from(PICTURES), damages), max_size=5))
def test_picture_folder(monkeypatch, given):
    """Names of any bytes, pictures damaged anywhere, beside six that are whole."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "photos")
        monkeypatch.setenv("ROT180_CACHE_DIR", str(Path(temporary, "cache")))
        whole = [(kind, f"{k}", ".png", PICTURES[4], []) for kind in ("a", "b") for k in range(3)]
        for kind, name, ending, content, hurt in [*whole, *given]:
            if {kind, name + ending} & {".", ".."}:
                continue
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / (name + ending)).write_bytes(damaged(content, hurt))
        sets = tried(lambda: load_folder(folder, PictureOptions(size=8)), folder, DataError)
        if sets:
            assert sum(len(each) for each in sets) + sets.train.report["skipped_count"] >= 6
            json.dumps(sets.train.report)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder's two sets, and the files that keep them with what they hold."""
    folder = tmp_path_factory.mktemp("kept")
    for kind in ("a", "b"):
        (folder / kind).mkdir()
        for k, content in enumerate(PICTURES[3:6]):
            (folder / kind / f"{k}.png").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROT180_CACHE_DIR", str(folder / ".cache"))
        sets = load_folder(folder, PictureOptions(size=8))
        images = Path(sets.train.report["cache"])
        sets = Sets(*(replace(each, images=each.images[:]) for each in sets))  # no longer mapped: the file will change
        yield folder, sets, {path: path.read_bytes() for path in (images, images.with_suffix(".json"))}


@fuzzed
@given(st.data())
def test_picture_cache(kept, data):
    """What was kept of the pictures, damaged: they are decoded again."""
    folder, before, files = kept
    for path, content in files.items():
        path.write_bytes(content)
    path = data.draw(st.sampled_from(list(files)))
    if path.suffix == ".json" and data.draw(st.booleans()):
        path.write_text(json.dumps(changed(data.draw, json.loads(files[path]))))
    else:
        path.write_bytes(damaged(files[path], data.draw(damages)))
    after = load_folder(folder, PictureOptions(size=8))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.images, other.images)


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
