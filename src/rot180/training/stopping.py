"""When training ends before its epochs are over. (D4)"""

from dataclasses import dataclass, fields

from rot180.errors import SettingError

EPOCHS = "epochs"  # the reason where none of the criteria held


@dataclass(frozen=True)
class Stopping:
    """Training ends as soon as one of these holds; None: never. Seed 002 names the first three and the step limit.

    loss, error     of an epoch's training images, each taken when its turn came: the mean loss, or the share of images
                    that were classified wrongly, is this or less (the training error)
    gradient_norm   the length of the gradient ‖∂L/∂p‖, as root mean square over an epoch's updates, is this or less;
                    with whole-batch training it is the gradient of the training error itself
    patience        so many epochs have not lowered the validation loss (cross-validation, early stopping); the network
                    ends with what had the lowest, also where something else ends the training
    updates         so many updates are made
    seconds         so many seconds are spent on updates and validation, over all resumptions; looked at about five
                    times a second

    All but `seconds` stop at the same update wherever training was interrupted. Prechelt 1998 (early stopping).
    """

    loss: float | None = None
    error: float | None = None
    gradient_norm: float | None = None
    patience: int | None = None
    updates: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value, whole = getattr(self, each.name), each.name in ("patience", "updates")
            if value is None:
                continue
            if whole and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise SettingError(f"stopping after {each.name} {value!r}: choose a whole number of at least 1")
            if not whole and not 0 <= value < float("inf"):
                raise SettingError(f"stopping at {each.name} {value!r}: choose a number from 0")

    def after_update(self, updates: int, seconds: float) -> str:
        """The limit that is reached, or nothing."""
        if self.updates is not None and updates >= self.updates:
            return "updates"
        return "seconds" if self.seconds is not None and seconds >= self.seconds else ""

    def after_epoch(self, loss: float, error: float, gradient_norm: float, epochs_without_better: int) -> str:
        """The criterion that is met, or nothing."""
        for name, value in (("loss", loss), ("error", error), ("gradient_norm", gradient_norm)):
            bound = getattr(self, name)
            if bound is not None and value <= bound:
                return name
        return "patience" if self.patience is not None and epochs_without_better >= self.patience else ""


REASONS = (EPOCHS, *(each.name for each in fields(Stopping)))
"""What can have ended a training."""
