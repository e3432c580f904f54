"""Augmentation: what the definition does to an image, and that its address decides it."""

import math

import numpy as np
import pytest

from rot180.data import Augmentation
from rot180.errors import SettingError

SOME = np.random.default_rng(1).integers(1, 256, (50, 2, 5, 6), np.uint8)
EACH = np.arange(100, 150)
ALL = {"shift": Augmentation(shift=2), "flip": Augmentation(flip=True), "both": Augmentation(shift=2, flip=True)}


def test_a_shift_moves_zeros_in():
    image = np.arange(1, 10, dtype=np.uint8).reshape(1, 1, 3, 3)
    padded = np.pad(image[0, 0], 1)
    possible = [padded[i : i + 3, j : j + 3] for i in range(3) for j in range(3)]
    moved = Augmentation(shift=1).apply(np.repeat(image, 9000, axis=0), 3, 0, np.arange(9000))
    assert moved.shape == (9000, 1, 3, 3)
    assert moved.dtype == np.uint8
    counts = [(moved[:, 0] == each).all(axis=(1, 2)).sum() for each in possible]
    assert sum(counts) == 9000  # each is one of the nine
    assert all(abs(count - 1000) < 5 * math.sqrt(9000 * 1 / 9 * 8 / 9) for count in counts)  # five deviations


def test_a_flip_mirrors_half_of_the_images():
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    varied = Augmentation(flip=True).apply(np.repeat(image, 10_000, axis=0), 3, 0, np.arange(10_000))
    as_it_was, mirrored = ((varied == each).all(axis=(1, 2, 3)) for each in (image, image[..., ::-1]))
    assert (as_it_was ^ mirrored).all()
    assert abs(mirrored.sum() - 5000) < 5 * 50  # five deviations


def test_flips_and_shifts_are_drawn_apart():
    alone, both = (
        Augmentation(shift=1, flip=flip).apply(np.repeat(SOME[:1], 50, axis=0), 3, 0, EACH) for flip in (False, True)
    )
    as_it_was = (alone == both).all(axis=(1, 2, 3))
    assert 10 < as_it_was.sum() < 40
    flipped = Augmentation(shift=1).apply(np.repeat(SOME[:1, :, :, ::-1], 50, axis=0), 3, 0, EACH)
    np.testing.assert_array_equal(both[~as_it_was], flipped[~as_it_was])  # mirrored first, then moved


@pytest.mark.parametrize("augmentation", ALL.values(), ids=ALL)
def test_what_happens_belongs_to_seed_epoch_and_image_not_to_the_batch(augmentation):
    whole = augmentation.apply(SOME, 3, 1, EACH)
    some = np.array([41, 3, 3, 20])
    np.testing.assert_array_equal(augmentation.apply(SOME[some], 3, 1, EACH[some]), whole[some])
    assert (augmentation.apply(SOME, 4, 1, EACH) != whole).any()
    assert (augmentation.apply(SOME, 3, 2, EACH) != whole).any()
    assert (augmentation.apply(SOME, 3, 1, EACH + 1) != whole).any()


@pytest.mark.parametrize("augmentation", ALL.values(), ids=ALL)
def test_all_channels_of_an_image_go_together(augmentation):
    varied = augmentation.apply(np.concatenate([SOME, SOME], axis=1), 2, 1, EACH)
    np.testing.assert_array_equal(varied[:, :2], varied[:, 2:])


def test_none_changes_nothing():
    assert not Augmentation()
    assert Augmentation().apply(SOME, 1, 1, EACH) is SOME


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"shift": -1}, "shift is -1: choose a whole number of at least 0"),
        ({"shift": 1.5}, "shift is 1.5: choose a whole number of at least 0"),
        ({"shift": True}, "shift is True: choose a whole number of at least 0"),
        ({"flip": 1}, "flip is 1: choose true or false"),
    ],
)
def test_settings_that_cannot_be(settings, text):
    with pytest.raises(SettingError, match=f"^{text}$"):
        Augmentation(**settings)


def test_images_moved_out_of_sight_are_refused():
    Augmentation(shift=5).check_fits((1, 4, 6))
    with pytest.raises(SettingError, match=r"^shift is 6: images of 4x6 would be moved out of sight$"):
        Augmentation(shift=6).check_fits((1, 4, 6))
