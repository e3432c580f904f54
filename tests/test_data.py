"""Data: the embedded MNIST, IDX files from anywhere (promise 1), data sets and their splits."""

import gzip
import hashlib
import io
import lzma
import re
import struct
import sys
import time
import tracemalloc
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rot180 import data
from rot180.data import Dataset, load_idx_folder, read_idx, split
from rot180.errors import DataError, SettingError

ORIGINAL = Path(__file__).parents[2] / "shared" / "data" / "mnist"
EMBEDDED = files("rot180.data") / "embedded"


def idx_bytes(array, sizes=None, magic=b"\0\0\x08"):
    """An IDX file of bytes; `sizes` may lie."""
    sizes = array.shape if sizes is None else sizes
    return magic + bytes([len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + array.tobytes()


# --- the embedded MNIST ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return data.mnist()


def test_mnist_has_its_sizes(digits):
    assert digits.train.images.shape == (60_000, 1, 28, 28)
    assert digits.test.images.shape == (10_000, 1, 28, 28)
    assert digits.train.images.dtype == digits.test.images.dtype == np.uint8
    assert digits.train.class_names == tuple("0123456789")
    assert (digits.train.name, digits.test.name) == ("mnist/train", "mnist/test")


def test_mnist_has_its_class_counts(digits):
    """As shared/data/README.md counted them in the original files."""
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_array_equal(np.bincount(digits.train.labels), train)
    np.testing.assert_array_equal(np.bincount(digits.test.labels), test)
    np.testing.assert_array_equal(digits.train.labels[:10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    np.testing.assert_array_equal(digits.test.labels[:10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9])


def test_mnist_has_its_mean_and_deviation(digits):
    assert digits.train.images.mean() == pytest.approx(33.3184, abs=5e-5)
    assert digits.train.images.std(dtype=np.float64) == pytest.approx(78.5675, abs=5e-5)


def test_how_long_mnist_takes_to_load():
    data.mnist.cache_clear()
    began = time.perf_counter()
    data.mnist()
    print(f"MNIST loads in {time.perf_counter() - began:.2f} s")


def test_the_embedded_files_are_small():
    stored = [path for path in EMBEDDED.iterdir() if path.name.endswith(".xz")]
    assert len(stored) == 2
    assert sum(len(path.read_bytes()) for path in stored) <= 9_000_000


def test_mnist_is_the_original_byte_for_byte(digits):
    if not ORIGINAL.is_dir():
        pytest.skip(f"the original IDX files are not at {ORIGINAL}")
    for part, name in ((digits.train, "train"), (digits.test, "t10k")):
        images = idx_bytes(part.images[:, 0])
        labels = idx_bytes(part.labels.astype(np.uint8))
        assert images == gzip.decompress((ORIGINAL / f"{name}-images-idx3-ubyte.gz").read_bytes())
        assert labels == gzip.decompress((ORIGINAL / f"{name}-labels-idx1-ubyte.gz").read_bytes())


def test_the_original_files_are_read_as_what_is_embedded(digits):
    if not ORIGINAL.is_dir():
        pytest.skip(f"the original IDX files are not at {ORIGINAL}")
    sets = data.load(ORIGINAL)
    for read, embedded in zip(sets, digits, strict=True):
        np.testing.assert_array_equal(read.images, embedded.images)
        np.testing.assert_array_equal(read.labels, embedded.labels)
        assert read.class_names == embedded.class_names


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "swapped"])
def test_a_damaged_package_is_noticed(tmp_path, monkeypatch, damage):
    stored = tmp_path / "embedded"
    stored.mkdir()
    for path in EMBEDDED.iterdir():
        (stored / path.name).write_bytes(path.read_bytes())
    images, labels = stored / "mnist-images.xz", stored / "mnist-labels.xz"
    match damage:
        case "missing":
            labels.unlink()
        case "cut":
            images.write_bytes(images.read_bytes()[:1000])
        case "flipped":
            content = bytearray(labels.read_bytes())
            content[5000] ^= 1
            labels.write_bytes(content)
        case "swapped":
            order = np.frombuffer(lzma.decompress(labels.read_bytes()), np.uint8)
            labels.write_bytes(lzma.compress(order[::-1].tobytes(), preset=0))
    monkeypatch.setattr(sys.modules["rot180.data.mnist"], "FOLDER", tmp_path)
    data.mnist.cache_clear()
    with pytest.raises(DataError, match=r"^the embedded MNIST is .*; install rot180 again$"):
        data.mnist()


# --- IDX ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\0\0\x08\x01" + b"\0\0\0\x03" + b"\x07\0\xff", [7, 0, 255]),
        (b"\0\0\x08\x02" + b"\0\0\0\x02\0\0\0\x03" + b"\x01\x02\x03\x04\x05\x06", [[1, 2, 3], [4, 5, 6]]),
        (b"\0\0\x08\x03" + b"\0\0\0\x02\0\0\0\x01\0\0\0\x02" + b"\x01\x02\x03\x04", [[[1, 2]], [[3, 4]]]),
        (b"\0\0\x08\x04" + b"\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0\x01" + b"\x09\x08", [[[[9], [8]]]]),
        (b"\0\0\x08\x01" + b"\0\0\0\0", []),
        (b"\0\0\x08\x01" + b"\0\0\x01\0" + b"x" * 256, [120] * 256),  # the sizes are big-endian
    ],
)
def test_literal_files(tmp_path, content, expected, pack):
    (tmp_path / "f").write_bytes(pack(content))
    array = read_idx(tmp_path / "f")
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, np.array(expected, np.uint8).reshape(array.shape))
    assert array.shape == np.shape(expected)


GOOD = b"\0\0\x08\x02" + b"\0\0\0\x02\0\0\0\x03" + b"abcdef"
HUGE = struct.pack(">I", 2**32 - 1)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not an IDX file of bytes: it begins with nothing, not 00 00 08 and a number of dimensions from 1 to 4"),
        (b"\0\0\x08", "not an IDX file of bytes: it begins with 00 00 08, not 00 00 08 and a number of"),
        (b"\x01" + GOOD[1:], "not an IDX file of bytes: it begins with 01 00 08 02, not 00 00 08 and"),
        (b"\0\0\x0d\x01" + GOOD[4:], "not an IDX file of bytes: it begins with 00 00 0d 01, not"),  # of floats
        (b"\0\0\x08\x00" + GOOD[4:], "not an IDX file of bytes: it begins with 00 00 08 00, not"),
        (b"\0\0\x08\x05" + GOOD[4:] * 3, "not an IDX file of bytes: it begins with 00 00 08 05, not"),
        (GOOD[:4], "ends inside its header; fetch the file again"),
        (GOOD[:11], "ends inside its header; fetch the file again"),
        (GOOD[:12], "declares 6 values but holds 0; the file is cut off"),
        (GOOD[:17], "declares 6 values but holds 5; the file is cut off"),
        (GOOD + b"g", "holds more than the 6 values it declares; the file is damaged"),
        (b"\0\0\x08\x04" + HUGE * 4 + b"abc", "declares 4294967295x4294967295x4294967295x4294967295 values, more than"),
        (b"\0\0\x08\x01" + HUGE + b"abc", "declares 4294967295 values, more than the file can hold"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_damaged_files_are_refused(tmp_path, content, text, pack):
    (tmp_path / "f").write_bytes(pack(content))
    with pytest.raises(DataError, match=f"^{re.escape(f'{tmp_path}/f: {text}')}"):
        read_idx(tmp_path / "f")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(
        DataError, match=rf"^{tmp_path}/f: cannot be read \(No such file or directory\); fetch the file"
    ):
        read_idx(tmp_path / "f")
    with pytest.raises(DataError, match=rf"^{tmp_path}: cannot be read \(Is a directory\); fetch the file again$"):
        read_idx(tmp_path)


@pytest.mark.parametrize("cut", [2, 9, 15, -9, -8, -1])
def test_a_gzipped_file_that_is_cut_off(tmp_path, cut):
    (tmp_path / "f").write_bytes(gzip.compress(GOOD)[:cut])
    with pytest.raises(DataError, match=rf"^{tmp_path}/f: "):
        read_idx(tmp_path / "f")


@pytest.mark.parametrize("place", [3, 12, -8, -1])
def test_a_gzipped_file_that_is_damaged(tmp_path, place):
    """Flags, body, checksum, length."""
    content = bytearray(gzip.compress(GOOD))
    content[place] ^= 0xFF
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(DataError, match=rf"^{tmp_path}/f: "):
        read_idx(tmp_path / "f")


def peak_of(call):
    """The most bytes that were allocated at a time."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(path):
    def call():
        with pytest.raises(DataError, match=f"^{path}: "):
            read_idx(path)

    return call


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_sizes_that_lie_allocate_nothing(tmp_path, pack):
    noise = np.random.default_rng(1).integers(0, 256, 1_000_000, np.uint8)
    for sizes in ((2**32 - 1,) * 4, (1000, 1000, 1000), (4, 1000, 1000)):  # gzip could hold the second
        (tmp_path / "f").write_bytes(pack(idx_bytes(noise, sizes)))
        assert peak_of(refused(tmp_path / "f")) < 6_000_000


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    """Declared 10 bytes; inflates to a gigabyte."""
    packed = io.BytesIO()
    with gzip.open(packed, "wb") as file:
        file.write(idx_bytes(np.zeros(0, np.uint8), (10,)))
        for _ in range(200):
            file.write(bytes(5_000_000))
    (tmp_path / "f").write_bytes(packed.getvalue())
    assert len(packed.getvalue()) < 1_100_000
    assert peak_of(refused(tmp_path / "f")) < 3_000_000


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 60),
    extra=st.binary(max_size=3),
    packed=st.sampled_from(["no", "before", "after"]),
)
def test_random_damage_makes_a_data_error_or_an_array(tmp_path, flips, cut, extra, packed):
    content = bytearray(gzip.compress(GOOD) if packed == "after" else GOOD)
    for place, value in flips:
        content[place % len(content)] = value
    content = bytes(content[: len(content) - cut % len(content)] if cut % 3 == 0 else content) + extra
    (tmp_path / "f").write_bytes(gzip.compress(content) if packed == "before" else content)
    try:
        array = read_idx(tmp_path / "f")
    except DataError as error:
        assert str(error).startswith(f"{tmp_path}/f: ")  # noqa: PT017
    else:
        assert array.dtype == np.uint8
        assert array.nbytes <= 1000


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_random_bytes_make_a_data_error_or_an_array(tmp_path, content):
    for head in (b"", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\0\0\x08\x01\0\0\0"):
        (tmp_path / "f").write_bytes(head + content)
        try:
            read_idx(tmp_path / "f")
        except DataError as error:
            assert str(error).startswith(f"{tmp_path}/f: ")  # noqa: PT017


# --- folders of IDX files ----------------------------------------------------------------------------------------

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = np.array([0, 2, 1], np.uint8)
NAMES = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def folder_of(folder, **changes):
    """The four files, some other than they should be, or None for missing."""
    arrays = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:2], "test_labels": LABELS[:2]}
    for name, (key, array) in zip(NAMES, {**arrays, **changes}.items(), strict=True):
        assert key.split("_")[1] in name
        if array is not None:
            (folder / name).write_bytes(idx_bytes(array))
    return folder


def test_a_folder_of_idx_files(tmp_path):
    train, test = load_idx_folder(folder_of(tmp_path))
    assert train.images.shape == (3, 1, 4, 5)
    np.testing.assert_array_equal(train.images[:, 0], IMAGES)
    np.testing.assert_array_equal(train.labels, [0, 2, 1])
    np.testing.assert_array_equal(test.labels, [0, 2])
    assert train.class_names == test.class_names == ("0", "1", "2")
    assert (train.name, test.name) == (f"{tmp_path.name}/train", f"{tmp_path.name}/test")


def test_other_names_colour_and_gzip(tmp_path):
    colour = np.repeat(IMAGES[:, None], 3, axis=1)
    (tmp_path / "train-images.idx").write_bytes(idx_bytes(colour))
    (tmp_path / "train-labels.gz").write_bytes(gzip.compress(idx_bytes(LABELS)))
    (tmp_path / "test-images-idx4-ubyte.gz").write_bytes(gzip.compress(idx_bytes(colour)))
    (tmp_path / "test-labels").write_bytes(idx_bytes(LABELS))
    train, test = data.load(str(tmp_path))
    np.testing.assert_array_equal(train.images, colour)
    assert len(test) == 3


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"train_labels": None}, "{0}: there is no file train-labels... in IDX format"),
        ({"test_images": None}, "{0}: there is no file test-images... in IDX format"),
        ({"train_labels": LABELS[:2]}, "{0}: 3 train images but 2 labels"),
        ({"test_labels": LABELS}, "{0}: 2 test images but 3 labels"),
        ({"train_images": LABELS}, "{0}/train-images-idx3-ubyte: images have 1 dimensions and labels 1; give 3 and 1"),
        ({"train_labels": IMAGES}, "{0}/train-images-idx3-ubyte: images have 3 dimensions and labels 3; give 3 and 1"),
        (
            {"test_images": IMAGES[:0], "test_labels": LABELS[:0]},
            "{0}/t10k-images-idx3-ubyte: holds no images",
        ),
    ],
)
def test_folders_that_will_not_do(tmp_path, change, text):
    folder_of(tmp_path, **change)
    with pytest.raises(DataError, match=f"^{re.escape(text.format(tmp_path))}$"):
        load_idx_folder(tmp_path)


def test_a_damaged_file_in_a_folder_is_named(tmp_path):
    folder_of(tmp_path)
    (tmp_path / NAMES[3]).write_bytes(b"<html>not found</html>")
    with pytest.raises(
        DataError, match=rf"^{tmp_path}/{NAMES[3]}: not an IDX file of bytes: it begins with 3c 68 74 6"
    ):
        load_idx_folder(tmp_path)


# --- CIFAR-10 ----------------------------------------------------------------------------------------------------

RECORDS = np.random.default_rng(3).integers(0, 256, (7, 3073), np.uint8)
RECORDS[:, 0] = [3, 0, 9, 1, 1, 8, 2]


def cifar_folder(folder, **changes):
    """Two training files of three and two records, a test file of two; some other than they should be, or missing."""
    files = {"data_batch_1": RECORDS[:3], "data_batch_2": RECORDS[3:5], "test_batch": RECORDS[5:], **changes}
    for name, records in files.items():
        if records is not None:
            (folder / f"{name}.bin").write_bytes(records if isinstance(records, bytes) else records.tobytes())
    return folder


def test_a_cifar_folder(tmp_path):
    train, test = data.load(cifar_folder(tmp_path))
    np.testing.assert_array_equal(train.labels, [3, 0, 9, 1, 1])
    np.testing.assert_array_equal(test.labels, [8, 2])
    assert train.images.shape == (5, 3, 32, 32)
    assert train.images.dtype == np.uint8
    assert train.images[4, 0, 0, 1] == RECORDS[4, 1 + 1]  # red, then green, then blue, row by row
    assert train.images[4, 1, 0, 0] == RECORDS[4, 1 + 1024]
    assert train.images[4, 2, 31, 30] == RECORDS[4, 1 + 2 * 1024 + 31 * 32 + 30]
    assert train.class_names[3] == test.class_names[3] == "cat"
    assert (train.name, test.name) == (f"{tmp_path.name}/train", f"{tmp_path.name}/test")


def test_cifar_class_names_come_from_their_file(tmp_path):
    (tmp_path / "batches.meta.txt").write_text("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n")
    assert data.load(cifar_folder(tmp_path)).train.class_names == tuple("abcdefghij")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"test_batch": None}, "test_batch.bin: cannot be read (No such file or directory)"),
        ({"data_batch_2": b""}, "data_batch_2.bin: has 0 bytes, not a multiple of a record's 3,073; get it again"),
        ({"data_batch_2": b"x" * 3072}, "data_batch_2.bin: has 3,072 bytes, not a multiple of a record's 3,073; get"),
        ({"data_batch_1": b"\n" * 6146}, "data_batch_1.bin: record 0 has label 10, but there are 10 classes; is this"),
    ],
)
def test_cifar_folders_that_will_not_do(tmp_path, changes, text):
    cifar_folder(tmp_path, **changes)
    with pytest.raises(DataError, match=f"^{re.escape(f'{tmp_path}/{text}')}"):
        data.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"cat dog", "has 2 class names, not 10"), (b"\xff", "cannot be read ('utf-8' codec can't decode byte 0xff")],
)
def test_cifar_class_names_that_will_not_do(tmp_path, content, text):
    (cifar_folder(tmp_path) / "batches.meta.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(f'{tmp_path}/batches.meta.txt: {text}')}"):
        data.load(tmp_path)


# --- the word a person types -------------------------------------------------------------------------------------

WHAT = (
    ": give the word mnist, or a folder with a sub-folder of pictures for each class, or with "
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (plain or .gz), or with CIFAR-10's data_batch_1.bin to "
    "data_batch_5.bin and test_batch.bin, or an .npz file with x_train and y_train"
)


def test_the_word_mnist(digits):
    assert len(data.load("mnist").train) == len(data.load().train) == 60_000
    np.testing.assert_array_equal(data.load("mnist").test.labels, digits.test.labels)


def test_what_cannot_be_loaded(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, what in (("none", "does not exist"), ("file", "is a file"), ("empty", "holds no data set")):
        with pytest.raises(DataError, match=f"^{re.escape(f'{tmp_path}/{name} {what}{WHAT}')}$"):
            data.load(tmp_path / name)
    with pytest.raises(DataError, match=f"^{re.escape(f'minst does not exist{WHAT}')}$"):
        data.load("minst")


# --- data sets ---------------------------------------------------------------------------------------------------


def numbered(labels, classes=None):
    """Images whose only pixel is their number."""
    labels = np.array(labels, int)
    classes = classes or int(labels.max(initial=0)) + 1
    images = np.arange(len(labels), dtype=np.int64).reshape(-1, 1, 1, 1)
    return Dataset(images, labels, tuple(map(str, range(classes))), "numbered")


def test_a_data_set():
    dataset = Dataset(np.zeros((3, 2, 4, 5), np.uint8), [0, 1, 1], ("a", "b"))
    assert len(dataset) == 3
    assert dataset.shape == (2, 4, 5)
    assert dataset.labels.dtype == np.int64
    assert dataset.name == "data"


def test_taking_some():
    dataset = numbered([0, 1, 2, 1])
    taken = dataset.take(np.array([3, 0]))
    np.testing.assert_array_equal(taken.images.ravel(), [3, 0])
    np.testing.assert_array_equal(taken.labels, [1, 0])
    np.testing.assert_array_equal(dataset.take(slice(1, 3)).images.ravel(), [1, 2])
    assert taken.class_names == dataset.class_names


ZEROS = np.zeros((3, 1, 2, 2))


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (ZEROS[0], [0], "images have shape (1, 2, 2); give (images, channels, height, width)"),
        (ZEROS, [0, 1], "3 images but labels of shape (2,); give one per image"),
        (ZEROS, [[0], [1], [0]], "3 images but labels of shape (3, 1); give one per image"),
        (ZEROS, [0.0, 1, 1], "images are float64, labels float64; give numbers, and whole ones as labels"),
        (ZEROS.astype(str), [0, 1, 1], "images are <U32, labels int64; give numbers, and whole ones as labels"),
        (ZEROS.astype(bool), [0, 1, 1], "images are bool, labels int64; give numbers, and whole ones as labels"),
        (ZEROS.astype(object), [0, 1, 1], "images are object, labels int64; give numbers, and whole ones as labels"),
        (ZEROS, [0, 2, 3], "image 1 has label 2, but there are 2 classes, 0 to 1"),
        (ZEROS, [0, 1, -1], "image 2 has label -1, but there are 2 classes, 0 to 1"),
        (ZEROS, np.array([0, 1, 2**64 - 1], np.uint64), "image 2 has label 18446744073709551615, but there are 2 cla"),
        (
            ZEROS + np.reshape([0, np.nan, np.inf], (3, 1, 1, 1)),
            [0, 1, 1],
            "image 1 holds a number that is NaN or infinite",
        ),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(images, labels, text):
    with pytest.raises(DataError, match=f"^{re.escape(f'mine: {text}')}"):
        Dataset(images, np.asarray(labels), ("a", "b"), "mine")


# --- splits ------------------------------------------------------------------------------------------------------


def test_a_split_by_hand():
    """Twelve of one class, four of another: a quarter of each."""
    first, second = split(numbered([0] * 12 + [1] * 4), [0.75, 0.25], seed=3)
    np.testing.assert_array_equal(np.bincount(first.labels), [9, 3])
    np.testing.assert_array_equal(np.bincount(second.labels), [3, 1])
    assert set(first.images.ravel()) | set(second.images.ravel()) == set(range(16))
    for part in (first, second):
        assert (np.diff(part.images.ravel()) > 0).all()  # the order is kept


def test_what_the_shares_leave_goes_to_the_first():
    first, second = split(numbered([0] * 10), [0.1, 0.2])
    assert (len(first), len(second)) == (8, 2)


def test_shares_are_rounded_to_whole_images():
    assert [len(part) for part in split(numbered([0] * 10), [0.93, 0.07])] == [9, 1]
    assert [len(part) for part in split(numbered([0] * 10), [0.97, 0.03])] == [10, 0]


def test_another_seed_draws_another_split():
    parts = [split(numbered([0, 1] * 20), [0.5, 0.5], seed)[1].images.ravel().tolist() for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]


@settings(max_examples=150, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), max_size=60),
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 2**40),
)
def test_splits_are_disjoint_complete_stratified_and_repeatable(labels, weights, seed):
    dataset = numbered(labels, 5)
    shares = [weight / sum(weights) for weight in weights]
    parts = split(dataset, shares, seed)
    numbers = [part.images.ravel().tolist() for part in parts]
    assert sorted(number for part in numbers for number in part) == list(range(len(labels)))
    for part, share in zip(parts, shares, strict=True):
        wanted = np.bincount(dataset.labels, minlength=5) * share
        assert (np.abs(np.bincount(part.labels, minlength=5) - wanted) <= 1 + 1e-9).all()
        np.testing.assert_array_equal(part.labels, dataset.labels[part.images.ravel()])
    assert [part.images.ravel().tolist() for part in split(dataset, shares, seed)] == numbers


@pytest.mark.parametrize("shares", [[], [-0.1, 0.5], [0.6, 0.5], [float("nan"), 0.5], [0.5, float("nan")]])
def test_shares_that_cannot_be(shares):
    text = f"shares {shares} cannot split a data set: give numbers from 0 that sum to at most 1"
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        split(numbered([0, 1]), shares)


def test_the_digest_that_proves_mnist(digits):
    """Of what the original files hold, in a row: computed here from the module's own parts."""
    from rot180.data.mnist import SHA256

    whole = hashlib.sha256()
    for images in (digits.train.images, digits.test.images):
        whole.update(images.tobytes())
    for labels in (digits.train.labels, digits.test.labels):
        whole.update(labels.astype(np.uint8).tobytes())
    assert whole.hexdigest() == SHA256
