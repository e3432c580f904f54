"""What a run trains, validates and tests on: the loaded data, some held out, balanced and prepared.

Images are held out first: a copy is never validated with its original, and what is fitted to the images that are
learned from has not seen the others.
"""

from typing import NamedTuple

from rot180.data.balance import BalanceReport, balance
from rot180.data.dataset import Dataset, Sets
from rot180.data.preparation import Preparation, fit
from rot180.training.loop import hold_out
from rot180.training.recipe import Recipe


class Material(NamedTuple):
    """The parts, and what was done to them."""

    train: Dataset
    validation: Dataset | None
    test: Dataset
    preparation: Preparation | None
    balance: BalanceReport | None


def material(
    sets: Sets,
    *,
    recipe: Recipe,
    balanced: str | None,
    noise: float,
    prepare: str | None,
    preparation: Preparation | None = None,
) -> Material:
    """From the loaded data to what the trainer takes.

    recipe: says what is held out. balanced: a way of data.balance, or None. prepare: a preparation of data.preparation,
    fitted to the images that are learned from unless it is given, or None.
    """
    train, validation = hold_out(sets.train, recipe)
    test, report = sets.test, None
    if balanced:
        train, report = balance(train, balanced, recipe.seed, noise)
    if prepare:
        preparation = preparation or fit(prepare, train)
        train, test = preparation.apply_to(train), preparation.apply_to(test)
        validation = validation and preparation.apply_to(validation)
    return Material(train, validation, test, preparation, report)
