"""Augmentation: what the definition does to an image, and that its address decides it."""

import math
import re

import numpy as np
import pytest

from rot180.chance import bits
from rot180.data import Augmentation
from rot180.data.augmentation import WORDS, bilinear, elastic_field, gaussian
from rot180.errors import SettingError

SOME = np.random.default_rng(1).integers(1, 256, (50, 2, 5, 6), np.uint8)
EACH = np.arange(100, 150)
ALL = {
    "shift": Augmentation(shift=2),
    "flip": Augmentation(flip=True),
    "rotate": Augmentation(rotate=30),
    "scale": Augmentation(scale=0.3),
    "shear": Augmentation(shear=20),
    "elastic": Augmentation(elastic=(6, 1.2)),
    "crop": Augmentation(crop=0.3),
    "cutout": Augmentation(cutout=2),
    "all": Augmentation(2, True, 15, 0.2, 10, (8, 2), 0.5, 2),
}


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


def ramp(height, width):
    """Two channels: each pixel's row and column, so that what is read says where from."""
    return np.stack(np.indices((height, width), np.float64))[None]


def read_from(augmentation, height=21, width=21, count=600):
    """Where (N,2,H,W) the pixels of many images are read."""
    images = np.repeat(ramp(height, width), count, axis=0)
    return augmentation.apply(images, 3, 0, np.arange(count))


def near_the_middle(q):
    """The 2x2 matrix and the middle of the map from positions to q, from the differences around the middle pixel."""
    i, j = q.shape[2] // 2, q.shape[3] // 2
    down, right = (q[:, :, i + 1, j] - q[:, :, i - 1, j]) / 2, (q[:, :, i, j + 1] - q[:, :, i, j - 1]) / 2
    return np.stack([down, right], axis=2), q[:, :, i, j]


def test_rotation_turns_about_the_middle():
    matrix, middle = near_the_middle(read_from(Augmentation(rotate=30)))
    np.testing.assert_allclose(middle, 10, atol=1e-9)
    np.testing.assert_allclose(matrix @ matrix.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (600, 2, 2)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(matrix), 1)
    degrees = np.degrees(np.arctan2(matrix[:, 0, 1], matrix[:, 0, 0]))
    assert -30 <= degrees.min() < -29
    assert 29 < degrees.max() <= 30
    assert abs(degrees.mean()) < 5 * (60 / math.sqrt(12)) / math.sqrt(600)


def test_scaling_keeps_the_middle_and_the_shape():
    matrix, middle = near_the_middle(read_from(Augmentation(scale=0.5)))
    np.testing.assert_allclose(middle, 10, atol=1e-9)
    np.testing.assert_allclose(matrix[:, [0, 1], [1, 0]], 0, atol=1e-9)
    np.testing.assert_allclose(matrix[:, 0, 0], matrix[:, 1, 1])
    larger = 1 / matrix[:, 0, 0]
    assert 0.5 <= larger.min() < 0.51
    assert 1.49 < larger.max() <= 1.5


def test_shearing_moves_rows_along_themselves():
    matrix, middle = near_the_middle(read_from(Augmentation(shear=45)))
    np.testing.assert_allclose(middle, 10, atol=1e-9)
    np.testing.assert_allclose(matrix[:, 0], np.broadcast_to([1, 0], (600, 2)), atol=1e-9)
    np.testing.assert_allclose(matrix[:, 1, 1], 1)
    assert -1 <= matrix[:, 1, 0].min() < -0.95
    assert 0.95 < matrix[:, 1, 0].max() <= 1


def test_a_crop_is_a_window_inside_the_image():
    q = read_from(Augmentation(crop=0.25))
    matrix, _ = near_the_middle(q)
    np.testing.assert_allclose(matrix[:, [0, 1], [1, 0]], 0, atol=1e-9)
    tall, wide = matrix[:, 0, 0], matrix[:, 1, 1]
    whole = (tall < 1) & (wide < 1)  # a window wider than the image is cut to it
    area, aspect = tall[whole] * wide[whole], wide[whole] / tall[whole]
    assert 0.25 - 1e-9 <= area.min() < 0.27
    assert 3 / 4 - 1e-9 <= aspect.min() < 0.77
    assert 1.3 < aspect.max() <= 4 / 3 + 1e-9
    inner = q[:, :, 1:-1, 1:-1]  # the rim may lie half a pixel outside, between the last pixel and 0
    assert (inner >= 0).all()
    assert (inner <= 20).all()
    assert inner[whole, 0].min() < 1  # windows lie everywhere
    assert inner[whole, 0].max() > 19


def test_a_cutout_is_a_square_that_may_reach_over_the_rim():
    varied = Augmentation(cutout=3).apply(np.ones((4000, 2, 5, 7), np.uint8), 3, 0, np.arange(4000))
    zeros = varied[:, 0] == 0
    np.testing.assert_array_equal(varied[:, 1] == 0, zeros)
    rows, columns = zeros.any(axis=2), zeros.any(axis=1)
    np.testing.assert_array_equal(zeros, rows[:, :, None] & columns[:, None, :])  # a rectangle
    assert set(rows.sum(axis=1)) == set(columns.sum(axis=1)) == {2, 3}
    assert np.bincount(rows.argmax(axis=1)).min() > 600  # centres lie in each of the five rows


def test_an_elastic_field_by_hand():
    """One pixel: smoothing leaves the middle weight of the Gaussian alone, and the noise is the word's own bits."""
    keys = np.array([7, 9], np.uint64)
    words = bits(keys, WORDS + 1)[:, WORDS]
    down, right = (words >> np.uint64(40)) / 2**23 - 1, ((words >> np.uint64(16)) & np.uint64(2**24 - 1)) / 2**23 - 1
    expected = 3 * gaussian(0.5)[2] ** 2 * np.stack([down, right], axis=1)
    np.testing.assert_allclose(elastic_field(keys, (1, 1), 3, 0.5)[..., 0, 0], expected)


def test_an_elastic_field_is_smooth_noise():
    """Of mean 0; its deviation inside is alpha/√3 · √Σg² for each direction, as independent numbers' sums have."""
    field = elastic_field(np.arange(3000, dtype=np.uint64), (25, 25), 34, 4)[:, :, 12, 12]
    deviation = 34 / math.sqrt(3) * (gaussian(4) ** 2).sum()
    assert np.abs(field.mean(axis=0)).max() < 5 * deviation / math.sqrt(3000)
    np.testing.assert_allclose(field.std(axis=0), deviation, rtol=0.07)
    assert abs(np.corrcoef(field.T)[0, 1]) < 0.1


def test_between_four_pixels():
    image = np.array([[10.0, 20], [30, 80]])[None, None]
    places = np.array([[0, 0], [1, 1], [0.5, 0], [0, 0.25], [0.5, 0.5], [-0.5, 0], [1.75, 1], [-1, 0], [0, 2]])
    read = [bilinear(image, np.broadcast_to(place[:, None, None], (1, 2, 2, 2)))[0, 0, 0, 0] for place in places]
    np.testing.assert_allclose(read, [10, 80, 20, 12.5, 35, 5, 20, 0, 0])


def test_none_changes_nothing():
    assert not Augmentation()
    assert Augmentation().apply(SOME, 1, 1, EACH) is SOME


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"shift": -1}, "shift is -1: give a whole number of at least 0"),
        ({"shift": 1.5}, "shift is 1.5: give a whole number of at least 0"),
        ({"shift": True}, "shift is True: give a whole number of at least 0"),
        ({"flip": 1}, "flip is 1: give True or False"),
        ({"cutout": -1}, "cutout is -1: give a whole number of at least 0"),
        ({"rotate": 181}, "rotate is 181: choose a number from 0 to 180"),
        ({"rotate": -1}, "rotate is -1: choose a number from 0 to 180"),
        ({"rotate": float("nan")}, "rotate is nan: give a number"),
        ({"scale": 1}, "scale is 1: choose a number from 0 to 0.9"),
        ({"shear": 61}, "shear is 61: choose a number from 0 to 60"),
        ({"crop": 0}, "crop is 0: choose a number from 0.01 to 1"),
        ({"crop": "all"}, "crop is 'all': give a number"),
        ({"elastic": 34}, "elastic is 34: give two numbers, alpha and sigma, such as 34 4"),
        ({"elastic": (1, 2, 3)}, "elastic is (1, 2, 3): give two numbers, alpha and sigma, such as 34 4"),
        ({"elastic": (-1, 4)}, "elastic is -1, 4: alpha is at least 0, sigma from 0.1 to 100 pixels"),
        ({"elastic": (34, 0)}, "elastic is 34, 0: alpha is at least 0, sigma from 0.1 to 100 pixels"),
    ],
)
def test_settings_that_cannot_be(settings, text):
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        Augmentation(**settings)


def test_images_moved_out_of_sight_are_refused():
    Augmentation(shift=5).check_fits((1, 4, 6))
    with pytest.raises(SettingError, match=r"^shift is 6: images of 4x6 would be moved out of sight$"):
        Augmentation(shift=6).check_fits((1, 4, 6))
    Augmentation(cutout=7).check_fits((1, 4, 6))
    with pytest.raises(SettingError, match=r"^cutout is 8: nothing would be left of images of 4x6$"):
        Augmentation(cutout=8).check_fits((1, 4, 6))
