"""Recipes: every choice of a training, in one value that can be stored and compared."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from rot180.chance import LARGEST_SEED
from rot180.data.augmentation import Augmentation
from rot180.errors import RunError, SettingError
from rot180.optimizers import OPTIMIZERS, SGD, Optimizer
from rot180.training.schedules import SCHEDULES, Cosine, Schedule

MODES = ("mini-batch", "stochastic", "whole-batch", "sample-by-sample")


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults train LeNet-5 on MNIST to 0.8 % test error or better.

    mode: when to update (D1, with seed 002's names)
        mini-batch         after each `batch` images, in a new random order every epoch
        stochastic         after each image: ST
        whole-batch        after all images: BT
        sample-by-sample   after each image, again and again until its loss is below `sample_loss` or it had
                           `sample_updates`, then the next image: EET
    augmentation: how each training image is varied, afresh every epoch.
    validation: the share of the training images held out to measure on, drawn class by class.
    seed: of every chance: order, augmentation, dropout, the split.
    Raises SettingError for a value that cannot work.
    """

    epochs: int = 12
    mode: str = "mini-batch"
    batch: int = 64
    learning_rate: float = 0.05
    optimizer: Optimizer = field(default_factory=SGD)
    schedule: Schedule = field(default_factory=Cosine)
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(shift=1))
    validation: float = 1 / 12
    seed: int = 1
    sample_loss: float = 0.1
    sample_updates: int = 10

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise SettingError(f"there is no training mode {self.mode!r}: choose one of {', '.join(MODES)}")
        for name, least in (("epochs", 1), ("batch", 1), ("seed", 0), ("sample_updates", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SettingError(f"{name} is {value!r}: choose a whole number of at least {least}")
        if not isinstance(self.augmentation, Augmentation):
            raise SettingError(f"augmentation is {self.augmentation!r}: give an Augmentation")
        if self.seed > LARGEST_SEED:
            raise SettingError(f"seed is {self.seed}: choose a whole number of at most {LARGEST_SEED}")
        if not 0 < self.learning_rate < float("inf"):
            raise SettingError(f"the learning rate is {self.learning_rate}: choose a number above 0, such as 0.05")
        if not 0 <= self.validation < 1:
            raise SettingError(f"validation is {self.validation}: choose a share of the images from 0 to below 1")
        if not 0 <= self.sample_loss < float("inf"):
            raise SettingError(f"sample_loss is {self.sample_loss}: choose a number from 0, such as 0.1")

    def to_json(self) -> dict[str, Any]:
        """As plain values: optimiser and schedule as {"name": ..., settings}."""
        stored = {each.name: getattr(self, each.name) for each in fields(self)}
        for part in ("optimizer", "schedule"):
            stored[part] = {"name": _name_of(stored[part]), **asdict(stored[part])}
        stored["augmentation"] = asdict(self.augmentation)
        return stored

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Recipe":
        """What `to_json` gave; RunError for anything else."""
        try:
            values = {each.name: stored[each.name] for each in fields(cls)}
            for part, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
                settings = dict(values[part])
                kind: Any = known[settings.pop("name")]
                values[part] = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
            values["augmentation"] = Augmentation(**values["augmentation"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"the stored recipe is damaged ({error!r})") from error


def _name_of(part: Optimizer | Schedule) -> str:
    for name, kind in {**OPTIMIZERS, **SCHEDULES}.items():
        if type(part) is kind:
            return name
    raise SettingError(f"{part!r} cannot be stored: register its class in OPTIMIZERS or SCHEDULES")
