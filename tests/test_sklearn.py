"""The estimator for scikit-learn: its own checks first, then images, settings and pickles."""

import pickle
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from rot180 import Recipe, data, sequence
from rot180.data import Augmentation
from rot180.errors import ModelFileError, Rot180Error, SettingError, ShapeError
from rot180.layers import Convolution, Dense, ReLU, ScalePixels, SoftmaxCrossEntropy
from rot180.sklearn import CNNClassifier, default_network
from rot180.training import Adam

NOT_OURS = {
    "check_class_weight_classifiers": "class_weight is 'balanced' or None: an image cannot be shown 0.0001 times",
}


@parametrize_with_checks([CNNClassifier()], expected_failed_checks=lambda _: NOT_OURS, xfail_strict=True)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def bars(count=60, seed=1, classes=3, shape=(8, 9)):
    """A bright row in noise; the label is where."""
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = chance.integers(0, 60, (count, *shape)).astype(np.uint8)
    images[np.arange(count), 2 * labels + 1] += 150
    return images, labels


QUICK = {"epochs": 6, "batch": 8, "random_state": 3, "engine": "reference"}
TINY = "INPUT -> CONV(4, 3) -> RELU -> POOL -> FC"
IMAGES, LABELS = bars()
OTHERS, TRUTH = bars(30, 2)


def fitted(images=IMAGES, labels=LABELS, network=TINY, **settings):
    return CNNClassifier(network, **{**QUICK, **settings}).fit(images, labels)


# --- images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [None, TINY])
def test_it_learns_images(network):
    classifier = fitted(network=network)
    assert classifier.image_shape_ == (1, 8, 9)
    assert classifier.n_features_in_ == 72
    assert classifier.score(OTHERS, TRUTH) == 1
    assert len(classifier.loss_curve_) == 6
    assert classifier.loss_curve_[-1] < 0.2 * classifier.loss_curve_[0]


def test_images_in_any_form_are_the_same_images():
    first = fitted()
    expected = first.predict_proba(OTHERS)
    for images, others, settings in (
        (IMAGES[:, None], OTHERS[:, None], {}),
        (IMAGES.reshape(60, -1), OTHERS.reshape(30, -1), {"shape": (8, 9)}),
        (IMAGES.reshape(60, -1).tolist(), OTHERS, {"shape": (1, 8, 9)}),
        (IMAGES.tolist(), OTHERS.tolist(), {}),
    ):
        classifier = fitted(images, **settings)
        np.testing.assert_allclose(classifier.predict_proba(others), expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(first.predict_proba(others), expected)


def test_the_scale_of_pixels_does_not_matter():
    """Of 0..1 as of 0..255: they are standardised."""
    np.testing.assert_allclose(
        fitted(IMAGES / 255).predict_proba(OTHERS / 255), fitted().predict_proba(OTHERS), rtol=1e-3, atol=1e-6
    )


def test_a_graph_takes_its_images_as_they_are():
    graph = sequence((1, 8, 9), C=Convolution(2, 3), relu=ReLU(), F=Dense(3), loss=SoftmaxCrossEntropy())
    classifier = fitted(IMAGES / 255, network=graph)
    assert classifier.network_.graph is graph
    scores = classifier.network_(OTHERS[:, None] / 255).astype(np.float64)
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_proba(OTHERS / 255), expected, rtol=1e-5)


def test_colour_images():
    chance = np.random.default_rng(1)
    labels = np.arange(40) % 2
    images = chance.integers(0, 60, (40, 3, 6, 5)).astype(np.uint8)
    images[np.arange(40), labels] += 100
    classifier = fitted(images, labels, None)
    assert classifier.score(images, labels) == 1
    assert classifier.network_.graph.input_shape == (3, 6, 5)


@pytest.mark.parametrize(
    "names",
    [["no", "yes", "maybe"], [-1, 5, 100], [0.0, 1.0, 2.0], [True, False]],
    ids=lambda names: str(names[0]),
)
def test_labels_of_any_kind(names):
    labels = np.array(names)[LABELS % len(names)]
    classifier = fitted(IMAGES, labels, epochs=12)
    np.testing.assert_array_equal(classifier.classes_, sorted(names))
    said = classifier.predict(OTHERS)
    assert said.dtype == labels.dtype
    np.testing.assert_array_equal(said, np.array(names)[TRUTH % len(names)])
    assert classifier.network_.class_names == tuple(str(name) for name in np.array(sorted(names)))


def test_an_image_is_answered_alike_in_any_company():
    classifier = fitted(engine="lanes")
    together = classifier.predict_proba(np.concatenate([OTHERS] * 3))
    assert together.dtype == np.float64
    for count in (1, 7, 30):
        np.testing.assert_array_equal(classifier.predict_proba(OTHERS[:count]), together[:count])


# --- settings ----------------------------------------------------------------------------------------------------


def test_the_same_random_state_makes_the_same_network_on_any_number_of_threads():
    one, two = (fitted(engine="lanes", threads=threads).network_.to_bytes() for threads in (1, 2))
    assert one == two != fitted(engine="lanes", random_state=4).network_.to_bytes()
    seeds = [fitted(random_state=np.random.RandomState(5)).network_.to_bytes() for _ in range(2)]
    assert seeds[0] == seeds[1]


def test_the_recipe_is_taken_and_what_is_said_beside_it_goes_first():
    recipe = Recipe(epochs=2, batch=20, optimizer=Adam(), learning_rate=0.01, validation=0, augmentation=Augmentation())
    settings = {"recipe": recipe, "batch": None, "epochs": None}
    as_said = fitted(**settings)
    assert len(as_said.loss_curve_) == 2
    other = fitted(**{**settings, "epochs": np.int64(3), "batch": 10, "learning_rate": 0.02})
    assert len(other.loss_curve_) == 3
    assert as_said.network_.to_bytes() == fitted(**settings, learning_rate=0.01).network_.to_bytes()
    assert as_said.network_.to_bytes() != fitted(**settings, learning_rate=0.02).network_.to_bytes()


@pytest.mark.parametrize(("count", "batch", "epochs"), [(60, 10, 50), (60, None, 300), (60, 1, 12)])
def test_epochs_that_nobody_chose_are_enough_for_few_images(count, batch, epochs):
    classifier = CNNClassifier(epochs=None, batch=batch)
    assert classifier._recipe(count, 1).epochs == epochs


def test_balanced_classes():
    """One image of class 1 in twenty; with 'balanced' its class is learned."""
    chance = np.random.default_rng(4)
    labels = np.array([1] * 2 + [0] * 38)
    images = chance.normal(size=(40, 6, 6)) + 0.7 * labels[:, None, None]
    others = chance.normal(size=(40, 6, 6)) + 0.7
    plain, balanced = (fitted(images, labels, None, class_weight=each, epochs=3) for each in (None, "balanced"))
    assert (balanced.predict(others) == 1).mean() > (plain.predict(others) == 1).mean()


def test_verbose_says_a_line_an_epoch(capsys):
    fitted(epochs=2, verbose=True)
    assert re.fullmatch(r"(epoch \d/2  loss \d.\d{4}  error \d+.\d\d %\n){2}", capsys.readouterr().err)
    fitted(epochs=2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("images", "settings", "error", "sentence"),
    [
        (IMAGES, {"class_weight": {0: 1}}, SettingError, "class_weight is {0: 1}: choose 'balanced' or None"),
        (IMAGES, {"network": "lenet-7"}, SettingError, "there is no network 'lenet-7'"),
        (IMAGES, {"epochs": 0}, SettingError, "epochs is 0: choose a whole number of at least 1"),
        (IMAGES, {"epochs": 2.5}, SettingError, "epochs is 2.5: choose a whole number of at least 1"),
        (IMAGES, {"shape": (9, 8)}, ShapeError, "images of X are 8x9, but shape says 9x8"),
        (IMAGES.reshape(60, -1), {"shape": (9, 9)}, ShapeError, "shape 9x9 does not hold the 72 values of an image"),
        (IMAGES.reshape(60, -1), {"shape": (72,)}, ShapeError, "an image of shape 72: give (height, width) or"),
        (
            IMAGES.reshape(60, 6, 4, 3),
            {},
            ShapeError,
            "images of X are 6x4x3: put the channels first, X.transpose(0, 3, 1, 2)",
        ),
        (IMAGES * 1e300, {}, ValueError, "X: image 0 holds a number that is NaN or infinite"),
        (IMAGES.reshape(60, 1, 2, 4, 9), {}, ShapeError, "an image of shape 1x2x4x9: give (height, width) or"),
    ],
)
def test_what_will_not_do(images, settings, error, sentence):
    with pytest.raises(error, match=f"^{re.escape(sentence)}"):
        fitted(images, **settings)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"^images are 9x8, but the classifier was fitted to 1x8x9$"):
        fitted().predict(OTHERS.transpose(0, 2, 1))


def test_the_default_network():
    names = [node.name for node in default_network((3, 32, 32), 10)]
    assert [name for name in names if name[0] in "CPF"] == ["C1", "P1", "C2", "P2", "C3", "P3", "F4", "F5"]
    assert default_network((3, 32, 32), 10).shapes["P3"] == (64, 4, 4)
    assert [node.name for node in default_network((1, 1, 20), 2)] == ["pixels", "F1", "relu1", "F2", "loss"]
    assert isinstance(default_network((1, 7, 40), 2).nodes[0].layer, ScalePixels)


# --- among scikit-learn's tools ----------------------------------------------------------------------------------


def test_in_a_pipeline():
    darker = make_pipeline(FunctionTransformer(np.sqrt), CNNClassifier(TINY, **QUICK))
    assert darker.fit(IMAGES, LABELS).score(OTHERS, TRUTH) == 1
    scaled = make_pipeline(StandardScaler(), CNNClassifier(TINY, shape=(8, 9), **QUICK))
    assert scaled.fit(IMAGES.reshape(60, -1), LABELS).score(OTHERS.reshape(30, -1), TRUTH) == 1


def test_in_a_grid_search():
    search = GridSearchCV(CNNClassifier(**QUICK), {"learning_rate": [1e-7, 0.05], "network": [TINY]}, cv=2)
    search.fit(IMAGES, LABELS)
    assert search.best_params_ == {"learning_rate": 0.05, "network": TINY}
    assert search.score(OTHERS, TRUTH) == 1


def test_in_a_cross_validation():
    scores = cross_val_score(CNNClassifier(TINY, **QUICK), IMAGES, LABELS, cv=3, scoring="roc_auc_ovr")
    assert scores.min() > 0.99


def test_a_clone_has_the_settings_and_nothing_learned():
    graph = sequence((1, 8, 9), F=Dense(3), loss=SoftmaxCrossEntropy())
    classifier = fitted(network=graph, recipe=Recipe(validation=0))
    again = clone(classifier)
    assert not hasattr(again, "network_")
    assert again.network.to_json() == graph.to_json()
    assert again.recipe == classifier.recipe


# --- pickles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [TINY, sequence((1, 8, 9), F=Dense(3), loss=SoftmaxCrossEntropy())], ids=type)
def test_a_pickle_holds_the_file_and_no_objects_of_ours(network):
    classifier = fitted(network=network, recipe=Recipe(validation=0, optimizer=Adam(), learning_rate=0.001))
    content, file = pickle.dumps(classifier), classifier.network_.to_bytes()
    assert file in content
    assert re.findall(rb"rot180[.a-z_0-9]+", content.replace(file, b"")) == [b"rot180.sklearn"]
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.predict_proba(OTHERS), classifier.predict_proba(OTHERS))
    assert again.recipe == classifier.recipe
    assert again.network_.to_bytes() == classifier.network_.to_bytes()


def test_a_classifier_that_has_not_learned_can_be_pickled():
    again = pickle.loads(pickle.dumps(CNNClassifier(TINY, epochs=3)))
    assert (again.network, again.epochs) == (TINY, 3)


def test_a_damaged_pickle_is_refused():
    classifier = fitted()
    stored = classifier.network_.to_bytes()
    damaged = bytearray(stored)
    damaged[-3] ^= 1
    for content, sentence in (
        (bytes(damaged), "the pickled classifier: damaged: its checksum is not that of what it holds"),
        (stored[:-1], "the pickled classifier: not a network that rot180 saved"),
        (b"", "the pickled classifier: not a network that rot180 saved"),
        (7, "the pickled classifier's network is int, not a file's bytes"),
    ):
        state = {**classifier.__getstate__(), "network_": content}
        with pytest.raises(ModelFileError, match=f"^{re.escape(sentence)}"):
            CNNClassifier().__setstate__(state)
    for name, content in (("network", {"graph": "{}"}), ("recipe", {"epochs": 1})):
        with pytest.raises(Rot180Error, match="damaged"):
            CNNClassifier().__setstate__({**classifier.__getstate__(), name: content})


@pytest.mark.long
def test_mnist():
    digits = data.mnist()
    classifier = CNNClassifier("lenet-5", epochs=1, random_state=1).fit(digits.train.images, digits.train.labels)
    assert classifier.score(digits.test.images, digits.test.labels) > 0.97
