"""Recipe files: a training in one JSON file, repeated with one command.

    {"name": "LeNet-5 of 1998", "gives": "0.9 % test error on MNIST",
     "data": "mnist", "network": "lenet-5-1998", "label_smoothing": 0.1,
     "recipe": {"epochs": 30, "learning_rate": 0.001, "optimizer": {"name": "SGD", "momentum": 0.9},
                "augmentation": {"shift": 2}, "averaging": {"name": "exponential"}}}

What is left out is as by default. The names are those of run.json, and a run's run.json is a recipe file too: it has
the network as a graph, which then is what is trained.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rot180.arrays import number, whole
from rot180.errors import ModelFileError, RunError, SettingError
from rot180.graph import Graph
from rot180.training.recipe import PARTS, Recipe

LARGEST = 1 << 24  # bytes; a run.json of ResNet-110 has 1 % of it
NOTES = "name", "gives", "data_digest", "versions"  # for people, and what a run says of itself
SETTINGS = {
    **dict.fromkeys(("data", "network", "initializer", "engine", "prepare", "balance"), ""),
    **dict.fromkeys(("start", "pixels", "freeze_below"), ""),
    **dict.fromkeys(("images", "noise", "label_smoothing", "variants"), 0),
    "new_head": False,
}
"""What may stand beside the recipe, with a value of its kind."""


@dataclass(frozen=True)
class RecipeFile:
    """What a recipe file says: the recipe, the network where it is a graph, and the settings beside it by name."""

    recipe: Recipe = field(default_factory=Recipe)
    graph: Graph | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def read_recipe_file(path: Path) -> RecipeFile:
    """The file's content. SettingError, naming the file, for a name it should not have or a value that cannot work."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise SettingError(f"it has more than {LARGEST} bytes, which is not a recipe")
        return _read(json.loads(content))
    except OSError as error:
        raise SettingError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (SettingError, ModelFileError) as error:
        raise SettingError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{path}: not JSON ({error})") from error


def _read(stored: Any) -> RecipeFile:
    given = _checked(stored, {**dict.fromkeys((*NOTES, "graph", "recipe")), **SETTINGS}, "a recipe file")
    settings = {name: given[name] for name in SETTINGS if name in given}
    for name in ("images", "variants"):
        if name in settings:
            whole(settings[name], name)
    graph = Graph.from_json(json.dumps(given["graph"])) if "graph" in given else None
    return RecipeFile(_recipe(given.get("recipe", {})), graph, settings)


def _recipe(stored: Any) -> Recipe:
    """The default recipe with these values in it."""
    usual = Recipe().to_json()
    given = _checked(stored, usual, "recipe")
    for part, kinds in PARTS.items():
        if part in given:
            name = str(_by_name(given[part], part).get("name", ""))
            if name not in kinds:
                raise SettingError(f"the {part}'s name is {name!r}: choose one of {', '.join(kinds)}")
            given[part] = _checked(given[part], {"name": name, **asdict(kinds[name]())}, f"{part} {name}")
            if part == "optimizer":
                usual["learning_rate"] = kinds[name].usual_rate
    for part in ("augmentation", "stopping"):
        given[part] = {**usual[part], **_checked(given.get(part, {}), usual[part], part)}
    try:
        return Recipe.from_json({**usual, **given})
    except RunError as error:  # which speaks of a stored recipe; what a person wrote, the cause names better
        raise SettingError(str(error.__cause__)) from error


def _checked(stored: Any, usual: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings that are given, if their names and the kinds of their values are usual there; null is not given."""
    given = {name: value for name, value in _by_name(stored, where).items() if value is not None}
    for name, value in given.items():
        if name not in usual:
            raise SettingError(f"{where} has no setting {name!r}: choose from {', '.join(usual)}")
        if _kind(usual[name]) and _kind(value) != _kind(usual[name]):
            raise SettingError(f"{where}: {name} is {value!r}: give {_kind(usual[name])}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            number(value, f"{where}: {name}")
    return given


def _by_name(stored: Any, where: str) -> dict[str, Any]:
    if not isinstance(stored, dict):
        raise SettingError(f"{where} is {stored!r}: give settings by name, in braces")
    return stored


def _kind(value: Any) -> str:
    kinds = (bool, "true or false"), (int | float, "a number"), (str, "text"), (list | tuple, "a list in brackets")
    return next((said for kind, said in kinds if isinstance(value, kind)), "")
