"""Recipes: every choice of a training, in one value that can be stored and compared."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from rot180.chance import LARGEST_SEED
from rot180.data.augmentation import Augmentation
from rot180.errors import RunError, SettingError
from rot180.optimizers import OPTIMIZERS, SGD, Optimizer
from rot180.training.averaging import AVERAGES, Averaging
from rot180.training.schedules import SCHEDULES, Cosine, Schedule
from rot180.training.stopping import Stopping

MODES = ("mini-batch", "stochastic", "whole-batch", "sample-by-sample")
SHORT_MODES = {"ST": "stochastic", "BT": "whole-batch", "EET": "sample-by-sample"}  # as seed 002 calls them


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults train LeNet-5 on MNIST to 0.8 % test error or better.

    mode: when to update (D1); the short names are seed 002's, and are taken too
        mini-batch              after each `batch` images, in a new random order every epoch
        stochastic        ST    after each image, one update, then the next image
        whole-batch       BT    after all images
        sample-by-sample  EET   after each image, again and again until its loss is below `sample_loss` or it had
                                `sample_updates`, then the next image
    learning_rate: at its highest, before the schedule; 0.05 suits SGD, 0.001 Adam and AdamW.
    averaging: an average of the parameters, which is then what is validated, tested and saved.
    stopping: what may end the training before `epochs`, after which the schedules too would be over.
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
    averaging: Averaging | None = None
    stopping: Stopping = field(default_factory=Stopping)

    def __post_init__(self) -> None:
        if isinstance(self.mode, str):
            object.__setattr__(self, "mode", SHORT_MODES.get(self.mode, self.mode))
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
        """As plain values: optimiser, schedule and averaging as {"name": ..., settings}."""
        stored = {each.name: getattr(self, each.name) for each in fields(self)}
        for part, known in PARTS.items():
            stored[part] = stored[part] and {"name": _name_of(stored[part], known), **asdict(stored[part])}
        return {**stored, "augmentation": asdict(self.augmentation), "stopping": asdict(self.stopping)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Recipe":
        """What `to_json` gave; RunError for anything else."""
        try:
            values = {each.name: stored[each.name] for each in fields(cls)}
            for part, known in PARTS.items():
                if part == "averaging" and values[part] is None:
                    continue
                settings = dict(values[part])
                kind: Any = known[settings.pop("name")]
                values[part] = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
            values["augmentation"] = Augmentation(**values["augmentation"])
            values["stopping"] = Stopping(**values["stopping"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"the stored recipe is damaged ({error!r})") from error


PARTS: dict[str, Mapping[str, type[Any]]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "averaging": AVERAGES}
"""The parts of a recipe that come in kinds, and the kinds that can be stored."""


def _name_of(part: object, known: Mapping[str, type[Any]]) -> str:
    for name, kind in known.items():
        if type(part) is kind:
            return name
    raise SettingError(f"{part!r} cannot be stored: register its class in OPTIMIZERS, SCHEDULES or AVERAGES")
