"""Preparation, balance, .npz files: what seed 002 does to data before it is learned from. (D5)"""

import io
import json
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rot180
from rot180 import Recipe, data
from rot180.cli.main import main
from rot180.data import Dataset, balance, fit, load_npz, split_65_25_10
from rot180.data.preparation import load_preparation, median, standardized
from rot180.errors import DataError, SettingError
from rot180.layers import ScalePixels
from rot180.training.loop import hold_out
from rot180.training.run import PREPARATION

NAMES = "a", "b", "c"


def correlated(count=400, shape=(2, 3, 4)):
    """Images whose pixels go together, as photographs' do."""
    chance = np.random.default_rng(4)
    size = int(np.prod(shape))
    images = chance.normal(size=(count, size)) @ chance.normal(size=(size, size)) * 10 + 100
    return Dataset(images.reshape(count, *shape).astype(np.float32), np.arange(count) % 3, NAMES)


# --- PCA and whitening -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zca", "pca-whiten"])
def test_whitened_pixels_are_uncorrelated_and_of_unit_variance(kind):
    dataset = correlated()
    y = fit(kind, dataset).apply(dataset.images).reshape(400, -1).astype(np.float64)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-4)
    covariance = y.T @ y / 400
    values = np.linalg.eigvalsh(covariance)
    x = dataset.images.reshape(400, -1).astype(np.float64)
    variances = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    np.testing.assert_allclose(values, variances / (variances + 1e-3 * variances.max()), rtol=1e-3)
    if kind == "pca-whiten":
        np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3)


def test_zca_by_hand():
    """Two pixels of variances 4 and 1 that are not correlated: each divided by its deviation, and an image still."""
    images = np.array([[2, 1], [2, -1], [-2, 1], [-2, -1]], np.float32).reshape(4, 1, 1, 2) + 7
    whitened = fit("zca", Dataset(images, np.zeros(4, int), NAMES)).apply(images)
    expected = (images - 7) / np.sqrt(np.array([4 + 4e-3, 1 + 4e-3]))
    np.testing.assert_allclose(whitened, expected, rtol=1e-5, atol=1e-6)
    assert whitened.shape == images.shape
    assert whitened.dtype == np.float32


def test_zca_moves_images_less_than_any_other_whitening():
    dataset = correlated()
    x = dataset.images - dataset.images.mean(axis=0)
    near, far = (
        np.square(fit(kind, dataset).apply(dataset.images).reshape(x.shape) - x).sum() for kind in ("zca", "pca-whiten")
    )
    assert near < far


def test_pca_keeps_what_its_components_say():
    dataset = correlated()
    x = dataset.images.astype(np.float64)
    lost = [np.square(fit(f"pca:{k}", dataset).apply(dataset.images) - x).sum() / 400 for k in (1, 12, 23, 24)]
    variances = np.linalg.eigvalsh(np.cov(x.reshape(400, -1).T, bias=True))[::-1]
    np.testing.assert_allclose(lost, [variances[k:].sum() for k in (1, 12, 23, 24)], rtol=1e-3, atol=1e-2)


def test_a_preparation_comes_from_the_training_images_alone():
    train, other = correlated(), correlated(shape=(2, 3, 4)).take(slice(0, 5))
    prepared = fit("zca", train)
    np.testing.assert_allclose(prepared.apply(other.images), prepared.apply(train.images)[:5], rtol=1e-5, atol=1e-5)
    assert prepared.apply_to(other).class_names == NAMES
    assert prepared.apply(other.images[:0]).shape == (0, 2, 3, 4)


def test_standardising_is_a_scaling_of_pixels():
    dataset = correlated()
    scaled, _ = ScalePixels(*standardized(dataset)).forward(dataset.images.astype(np.float64), {})
    np.testing.assert_allclose(scaled.mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std((0, 2, 3)), 1, rtol=1e-12)


def test_standardising_one_channel_gives_two_numbers():
    images = np.array([0, 100], np.uint8).reshape(2, 1, 1, 1)
    assert standardized(Dataset(images, [0, 0], ("one",))) == (-1, (255 - 50) / 50)


def test_a_channel_that_is_the_same_everywhere_is_only_shifted():
    images = np.array([[0, 7], [100, 7]], np.uint8).reshape(2, 2, 1, 1)
    assert standardized(Dataset(images, [0, 0], ("one",))) == ((-1, -7), (4.1, 248))


# --- denoising ---------------------------------------------------------------------------------------------------


def test_a_wrong_pixel_goes_and_an_edge_stays():
    image = np.zeros((1, 1, 5, 6), np.uint8)
    image[..., 3:] = 200
    noisy = image.copy()
    noisy[0, 0, 1, 1], noisy[0, 0, 3, 4] = 255, 0
    np.testing.assert_array_equal(median(noisy), image)
    assert fit("denoise", Dataset(noisy, [0], NAMES)).apply(noisy).dtype == np.uint8


def test_the_median_of_nine_by_hand():
    image = np.array([[9, 1, 5], [2, 8, 3], [7, 4, 6]], np.uint8)[None, None]
    assert median(image)[0, 0, 1, 1] == 5
    assert median(image)[0, 0, 0, 0] == sorted([9, 9, 1, 9, 9, 1, 2, 2, 8])[4]  # the rim goes on outwards


# --- saved and loaded, and refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["denoise", "zca", "pca:5", "pca-whiten"])
def test_a_preparation_is_saved_with_what_it_learned(tmp_path, kind):
    dataset = correlated()
    prepared = fit(kind, dataset)
    prepared.save(tmp_path / "p")
    loaded = load_preparation(tmp_path / "p")
    assert loaded.kind == kind
    assert loaded.output_shape == prepared.output_shape
    np.testing.assert_array_equal(loaded.apply(dataset.images), prepared.apply(dataset.images))


def test_what_is_no_preparation(tmp_path):
    (tmp_path / "p").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path))}/p: not a preparation that can be read"):
        load_preparation(tmp_path / "p")


@pytest.mark.parametrize("kind", ["pca", "pca:0", "pca:x", "pca:-1", "ZCA", "pca:K", ""])
def test_kinds_that_there_are_not(kind):
    with pytest.raises(SettingError, match=f"^there is no preparation {kind!r}: choose one of denoise, pca:K, pca-whi"):
        fit(kind, correlated(3))


def test_images_that_cannot_be_prepared():
    with pytest.raises(SettingError, match=r"^pca:25: images of 2x3x4 have 24 components at most$"):
        fit("pca:25", correlated(30))
    with pytest.raises(DataError, match=r"^data: zca needs at least two images to be fitted to$"):
        fit("zca", correlated(1))
    same = Dataset(np.ones((4, 1, 2, 2)), np.zeros(4, int), NAMES)
    with pytest.raises(DataError, match=r"^data: all images are the same; zca has nothing to go by$"):
        fit("zca", same)
    with pytest.raises(DataError, match=r"^data: all pixels are the same; they cannot be standardised$"):
        standardized(same)
    large = Dataset(np.zeros((2, 1, 65, 65), np.uint8), [0, 1], NAMES)
    with pytest.raises(DataError, match=r"^data: images have 4,225 values; zca takes at most 4,096$"):
        fit("zca", large)
    with pytest.raises(DataError, match=r"^images are 1x65x65, but zca was fitted to 2x3x4$"):
        fit("zca", correlated()).apply(large.images)


# --- balance -----------------------------------------------------------------------------------------------------


def uneven():
    """5, 2 and 3 images whose pixels are their number."""
    labels = np.array([0, 0, 1, 0, 2, 2, 0, 1, 2, 0])
    return Dataset(
        np.arange(10, dtype=np.uint8)[:, None, None, None] * np.full((1, 1, 4, 4), 20, np.uint8), labels, NAMES
    )


def test_balance_by_removal():
    balanced, report = balance(uneven(), "remove", seed=3)
    np.testing.assert_array_equal(np.bincount(balanced.labels), [2, 2, 2])
    numbers = balanced.images[:, 0, 0, 0] // 20
    assert (np.diff(numbers.astype(int)) > 0).all()  # their order is kept
    np.testing.assert_array_equal(balanced.labels, uneven().labels[numbers])
    assert (report.before, report.after, report.noise) == ((5, 2, 3), (2, 2, 2), None)
    assert str(report) == "balance: 4 images left out (a 5 -> 2, c 3 -> 2)"


def test_balance_by_noisy_duplication():
    balanced, report = balance(uneven(), "duplicate", seed=3, noise=4)
    np.testing.assert_array_equal(np.bincount(balanced.labels), [5, 5, 5])
    np.testing.assert_array_equal(balanced.images[:10], uneven().images)
    originals = np.rint(balanced.images[10:].mean(axis=(1, 2, 3)) / 20).astype(int)  # noise of 4 / sqrt(16) = 1
    np.testing.assert_array_equal(uneven().labels[originals], balanced.labels[10:])
    counts = np.bincount(originals, minlength=10)[uneven().labels == 1]
    assert sorted(counts) == [1, 2]  # each is copied as often as the others, to one
    assert (balanced.images[10:] != uneven().images[originals]).any(axis=(1, 2, 3)).all()
    assert balanced.images.dtype == np.uint8
    assert str(report) == "balance: 5 images added as copies with noise of deviation 4 (b 2 -> 5, c 3 -> 5)"
    assert json.loads(json.dumps(report.to_json()))["after"] == [5, 5, 5]


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    seed=st.integers(0, 99),
    way=st.sampled_from(["remove", "duplicate"]),
)
def test_a_balanced_set_has_as_many_of_each_class_there_is(labels, seed, way):
    dataset = Dataset(np.zeros((len(labels), 1, 1, 2), np.uint8), np.array(labels), ("a", "b", "c", "d"))
    balanced, report = balance(dataset, way, seed)
    counts = np.bincount(labels, minlength=4)
    wanted = counts[counts > 0].min() if way == "remove" else counts.max()
    np.testing.assert_array_equal(np.bincount(balanced.labels, minlength=4), np.where(counts > 0, wanted, 0))
    assert report.after == tuple(np.bincount(balanced.labels, minlength=4))
    np.testing.assert_array_equal(balance(dataset, way, seed)[0].images, balanced.images)


def test_balancing_that_cannot_be():
    with pytest.raises(SettingError, match=r"^there is no balancing by 'add': choose one of remove, duplicate$"):
        balance(uneven(), "add")
    with pytest.raises(SettingError, match=r"^noise is -1: choose a standard deviation of at least 0$"):
        balance(uneven(), "duplicate", noise=-1)
    with pytest.raises(DataError, match=r"^data: there are no images to balance$"):
        balance(uneven().take(slice(0)), "remove")


def test_the_split_of_seed_002():
    dataset = Dataset(np.zeros((400, 1, 1, 1)), np.arange(400) % 2, NAMES)
    assert [np.bincount(part.labels).tolist() for part in split_65_25_10(dataset)] == [[130, 130], [50, 50], [20, 20]]


# --- .npz --------------------------------------------------------------------------------------------------------

IMAGES, LABELS = np.arange(40 * 4 * 5, dtype=np.uint8).reshape(40, 4, 5), np.arange(40) % 2


def test_an_npz_file(tmp_path):
    np.savez(
        tmp_path / "d.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:3], y_test=LABELS[:3], class_names=["u", "v"]
    )
    train, test = data.load(tmp_path / "d.npz")
    np.testing.assert_array_equal(train.images[:, 0], IMAGES)
    np.testing.assert_array_equal(test.labels, [0, 1, 0])
    assert train.class_names == ("u", "v")
    assert (train.name, test.name) == ("d/train", "d/test")


def test_an_npz_file_without_a_test_set_is_split(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", images=np.repeat(IMAGES[..., None], 3, axis=3), labels=LABELS[:, None])
    train, test = load_npz(tmp_path / "d.npz")
    assert (len(train), len(test)) == (30, 10)
    assert train.shape == (3, 4, 5)
    assert train.class_names == ("0", "1")
    both = np.concatenate([train.images, test.images])
    assert len(np.unique(both.reshape(40, -1), axis=0)) == len(np.unique(IMAGES.reshape(40, -1), axis=0))


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x_train": IMAGES}, "holds x_train; x_train and y_train are expected"),
        ({"other": IMAGES}, "holds nothing; x_train and y_train are expected"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "holds x_test, x_train, y_train; x_test and y_test"),
        ({"x_train": IMAGES, "x": IMAGES, "y": LABELS}, "holds both x_train and x; keep one"),
        ({"x": IMAGES, "y": LABELS / 2}, "labels are float64; give whole numbers"),
        ({"x": IMAGES, "y": LABELS + 5000}, "a label is 5001; are these labels?"),
        ({"x": IMAGES[:0], "y": LABELS[:0]}, "holds no images to train on"),
        (
            {"x": IMAGES.astype(object), "y": LABELS},
            "not an .npz file of plain arrays that can be read (x.npy holds Pyt",
        ),
    ],
)
def test_npz_files_that_will_not_do(tmp_path, arrays, text):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=f"^{re.escape(f'{tmp_path}/d.npz: {text}')}"):
        load_npz(tmp_path / "d.npz")


def test_an_npz_file_whose_sizes_lie(tmp_path):
    """Nothing is allocated on the word of a header."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 28, 28)})
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + b"abc")
    with pytest.raises(
        DataError, match=r"d.npz: not an .npz file .* \(x.npy declares 784,000,000,000 bytes, which it does"
    ):
        load_npz(tmp_path / "d.npz")
    (tmp_path / "e.npz").write_bytes(b"PK nothing")
    with pytest.raises(
        DataError, match=r"e.npz: not an .npz file of plain arrays that can be read \(File is not a zip"
    ):
        load_npz(tmp_path / "e.npz")


# --- on the command line -----------------------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path):
    """Few real digits of two classes, 60 of one and 20 of the other."""
    train = data.mnist().train
    chosen = np.concatenate([np.flatnonzero(train.labels == label)[:count] for label, count in ((0, 60), (1, 20))])
    np.savez(tmp_path / "d.npz", images=train.images[chosen, 0], labels=train.labels[chosen])
    return tmp_path / "d.npz"


@pytest.mark.parametrize("prepare", ["standardize", "pca:3"])
def test_nothing_is_fitted_to_validation_images(digits, tmp_path, prepare):
    options = "--engine reference --epochs 1 --network lenet-5 --validation 0.4 --json --seed 3"
    assert main(["train", str(digits), "--out", str(tmp_path / "r"), "--prepare", prepare, *options.split()]) == 0
    learned, _ = hold_out(load_npz(digits).train, Recipe(validation=0.4, seed=3))
    if prepare == "standardize":
        layer = rot180.load(tmp_path / "r" / "weights.safetensors").graph.nodes[0].layer
        assert (layer.low, layer.high) == standardized(learned)
    else:
        np.testing.assert_array_equal(load_preparation(tmp_path / "r" / PREPARATION).mean, fit(prepare, learned).mean)


@pytest.mark.parametrize("prepare", ["standardize", "denoise", "pca:20", "zca"])
def test_a_prepared_run_is_trained_resumed_and_evaluated(digits, tmp_path, capsys, prepare):
    run = tmp_path / "run"
    options = "--engine reference --epochs 1 --network lenet-5 --validation 0 --json --balance duplicate --noise 3"
    assert main(["train", str(digits), "--out", str(run), "--prepare", prepare, *options.split()]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["balance"]["before"] == [45, 15]
    assert results["balance"]["after"] == [45, 45]
    assert results["train_images"] == 90
    for again in (["train", "--resume", str(run), "--json"], ["evaluate", str(run), "--json"]):
        assert main(again) == 0
        stored = json.loads(capsys.readouterr().out)
        assert stored.get("test_loss", stored.get("loss")) == results["test_loss"]


def test_an_unknown_preparation_is_refused(digits, tmp_path, capsys):
    assert main(["train", str(digits), "--out", str(tmp_path / "r"), "--network", "lenet-5", "--prepare", "iron"]) == 1
    assert capsys.readouterr().err.startswith("rot180: there is no preparation 'iron': choose one of denoise, pca:K")
    assert not (tmp_path / "r").exists()
