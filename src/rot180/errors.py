"""Every error that rot180 raises for something a user can mend.

    Rot180Error
    ├── ShapeError          arrays or layers whose shapes do not fit
    ├── GraphError          a network that is not wired correctly
    ├── SettingError        a setting outside what it may be
    ├── DataError           images or labels that are damaged, missing or not what they say
    ├── ModelFileError      a saved network that is damaged or not ours
    ├── RunError            a run folder that cannot be made, written or resumed
    └── DivergenceError     training whose loss is no longer a finite number

A message is one sentence or two: what was wrong, where, what was expected, what to do.
"""


class Rot180Error(Exception):
    """The base of all errors below: the command line prints it without a traceback and exits with 1."""


class ShapeError(Rot180Error, ValueError):
    """Arrays or layers whose shapes do not fit."""


class GraphError(Rot180Error, ValueError):
    """A network that is not wired correctly: an unknown input, a name used twice, a missing loss."""


class SettingError(Rot180Error, ValueError):
    """A setting (of a layer, a recipe, a command) outside what it may be."""


class DataError(Rot180Error, ValueError):
    """Images or labels that are damaged, missing, or not what they say they are."""


class ModelFileError(Rot180Error, ValueError):
    """A file of weights that is damaged, or that rot180 did not write."""


class RunError(Rot180Error):
    """A run folder that cannot be made, written, read or resumed."""


class DivergenceError(Rot180Error, ArithmeticError):
    """Training whose loss became NaN or infinite."""
