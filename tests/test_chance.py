"""Chance by address: known answers, distributions, and that places do not share numbers."""

from itertools import product

import numpy as np
import pytest

from rot180.chance import Training, Use, bits, key, normal, permutation, uniform

MANY = 200_000


def test_splitmix64_known_answer():
    """The first outputs from seed 0, as every implementation of SplitMix64 has them."""
    words = bits(np.zeros(1, np.uint64), 3)
    assert [hex(word) for word in words[0]] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


def test_bits_are_a_prefix_of_more_bits():
    keys = key(Use.LAYER, np.arange(3))
    np.testing.assert_array_equal(bits(keys, 5), bits(keys, 9)[:, :5])
    np.testing.assert_array_equal(bits(keys[1:2], 5)[0], bits(keys, 5)[1])


def test_uniform_range_mean_variance():
    u = uniform(key(Use.LAYER, 7), MANY)[0].astype(np.float64)
    assert u.min() >= 0
    assert u.max() < 1
    assert u.mean() == pytest.approx(1 / 2, abs=5 * (1 / 12 / MANY) ** 0.5)  # five standard errors
    assert u.var() == pytest.approx(1 / 12, rel=0.01)
    assert np.histogram(u, 16, (0, 1))[0] == pytest.approx(MANY / 16, rel=0.05)


def test_uniform_is_float32_and_never_rounds_up_to_one():
    keys = key(np.arange(4))
    u = uniform(keys, 50_000)
    assert u.dtype == np.float32
    np.testing.assert_array_equal(u.astype(np.float64) * 2**24, bits(keys, 50_000) >> np.uint64(40))  # nothing rounded


def test_normal_moments():
    z = normal(key(Use.LAYER, 7), MANY)[0]
    assert z.mean() == pytest.approx(0, abs=5 / MANY**0.5)
    assert z.var() == pytest.approx(1, rel=0.02)
    assert (z**4).mean() == pytest.approx(3, rel=0.05)
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.6827, abs=0.006)


@pytest.mark.parametrize("length", [0, 1, 2, 17, 1000])
def test_permutation_is_a_permutation(length):
    assert sorted(permutation(length, Use.SHUFFLE, 3, 4)) == list(range(length))


def test_permutation_depends_on_each_part_of_its_address():
    base = (Use.SHUFFLE, 3, 4)
    orders = [permutation(50, *base[:i], base[i] + 1, *base[i + 1 :]) for i in range(3)] + [permutation(50, *base)]
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(permutation(50, *base), orders[-1])


def test_permutation_takes_every_first_place_equally_often():
    first = np.bincount([permutation(5, Use.SHUFFLE, seed)[0] for seed in range(2000)], minlength=5)
    assert first == pytest.approx(400, rel=0.25)


def test_addresses_do_not_collide():
    grid = list(product(Use, range(8), range(8), (0, 1, 2**31, 2**63)))
    keys = {int(key(*address)[0]) for address in grid}
    assert len(keys) == len(grid)
    order_matters = {int(key(*address)[0]) for address in [(1, 2), (2, 1), (1, 2, 0), (0, 1, 2), (1,), (2,), ()]}
    assert len(order_matters) == 7


def test_an_array_in_an_address_gives_the_keys_of_its_elements():
    together = key(Use.LAYER, 5, np.arange(20), 6)
    assert [int(k) for k in together] == [int(key(Use.LAYER, 5, n, 6)[0]) for n in range(20)]


def test_images_drawn_in_parts_equal_those_drawn_whole():
    place = Training(seed=3, step=9, node=2)
    whole = place.uniform(10, (2, 3, 4))
    assert whole.shape == (10, 2, 3, 4)
    for cut in (1, 4, 9):
        parts = [place.uniform(cut, (2, 3, 4)), Training(3, 9, 2, first_image=cut).uniform(10 - cut, (2, 3, 4))]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_each_part_of_a_training_place_changes_the_draw():
    places = [Training(), Training(seed=1), Training(step=1), Training().at_node(1), Training(first_image=1)]
    draws = {place.uniform(1, (4,)).tobytes() for place in places}
    assert len(draws) == len(places)
    assert Training(1, 2, 3, 4).at_node(7) == Training(1, 2, 7, 4)
