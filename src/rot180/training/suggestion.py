"""What to train on a folder of pictures with when nobody says, by how many there are.

Measured: docs/photos.md, docs/transfer.md.
"""

from typing import NamedTuple

from rot180.arrays import text
from rot180.data.augmentation import Augmentation
from rot180.data.dataset import Dataset
from rot180.data.folder import HELD_OUT, MANY, SIZES
from rot180.training.recipe import Recipe

NETWORK = "resnet-8"
LARGER_NETWORK = "resnet-20"
ENOUGH_FOR_IT = 2000  # pictures for training
SEEN = 30_000  # pictures in all epochs together, ...
FEWEST_EPOCHS, MOST_EPOCHS = 15, 80  # ... within these
FEW = 1000  # pictures: below, smaller batches, for more updates
SMALL_BATCH, BATCH = 32, 64
LEARNING_RATE = 0.05

VARIANTS = 4  # of each picture, for a frozen part
SEEN_BY_HEAD = 12_000  # variants of pictures in all epochs together, ...
FEWEST_FOR_HEAD, MOST_FOR_HEAD = 3, 20  # ... in so many epochs
LEARNING_RATE_OF_HEAD = 0.02
SEEN_AGAIN = 4_000  # pictures in all, where a trained network learns on as a whole, ...
FEWEST_AGAIN, MOST_AGAIN = 3, 12  # ... in so many epochs
LEARNING_RATE_AGAIN = 0.01


class Suggestion(NamedTuple):
    """A network, a recipe, and why: by the option of the command line that changes it."""

    network: str
    recipe: Recipe
    reasons: dict[str, str]


def suggest(train: Dataset) -> Suggestion:
    """For pictures (C,S,S) of some number; the recipe's augmentation grows with S."""
    count, side = len(train), train.shape[-1]
    epochs = max(FEWEST_EPOCHS, min(MOST_EPOCHS, round(SEEN / count)))
    recipe = Recipe(
        epochs=epochs,
        batch=SMALL_BATCH if count < FEW else BATCH,
        learning_rate=LEARNING_RATE,
        augmentation=Augmentation(flip=True, shift=max(1, side // 16), rotate=10, crop=0.5),
        validation=HELD_OUT,
    )
    larger = count >= ENOUGH_FOR_IT
    reasons = {
        "size": f"{SIZES[0]} below {MANY:,} pictures, else {SIZES[1]}: more detail takes more pictures, and time",
        "network": f"{NETWORK} below {ENOUGH_FOR_IT:,} pictures, else {LARGER_NETWORK}; images are {text(train.shape)}",
        "epochs": f"about {SEEN:,} pictures seen in all, in {FEWEST_EPOCHS} to {MOST_EPOCHS} epochs",
        "batch": f"{SMALL_BATCH} below {FEW:,} pictures, for more updates; else {BATCH}",
        "learning_rate": f"at its highest; it suits {type(recipe.optimizer).__name__} and networks with batch norm",
        "augmentation": "photographs may be mirrored, turned a little, and cut otherwise",
        "validation": "of those for training, to see how it goes: 10 % of all where a quarter is for testing",
    }
    return Suggestion(LARGER_NETWORK if larger else NETWORK, recipe, reasons)


def suggest_transfer(train: Dataset, network: str, variants: int | None) -> Suggestion:
    """For pictures that a network which has learned already is to tell apart.

    variants: of each picture, that pass through a frozen part; None: all of the network learns.
    """
    count, side = len(train), train.shape[-1]
    seen, fewest, most = (
        (SEEN_BY_HEAD, FEWEST_FOR_HEAD, MOST_FOR_HEAD) if variants else (SEEN_AGAIN, FEWEST_AGAIN, MOST_AGAIN)
    )
    recipe = Recipe(
        epochs=max(fewest, min(most, round(seen / (count * (variants or 1))))),
        batch=SMALL_BATCH,
        learning_rate=LEARNING_RATE_OF_HEAD if variants else LEARNING_RATE_AGAIN,
        augmentation=Augmentation(flip=True, shift=max(1, side // 16), rotate=10, crop=0.5),
        validation=HELD_OUT,
    )
    what = "pictures, each variant for itself," if variants else "pictures"
    reasons = {
        "epochs": f"about {seen:,} {what} seen in all, in {fewest} to {most} epochs",
        "batch": "for many updates",
        "learning_rate": "the head's alone" if variants else "small: the network has learned already",
        "augmentation": "photographs may be mirrored, turned a little, and cut otherwise",
        "validation": "of those for training, to see how it goes: 10 % of all where a quarter is for testing",
    }
    return Suggestion(network, recipe, reasons)
