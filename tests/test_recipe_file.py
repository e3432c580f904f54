"""Recipe files: what they may hold, what wins, and that those of the project are what the documents say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from rot180 import Recipe, data, models
from rot180.cli import main
from rot180.data import Augmentation
from rot180.errors import SettingError
from rot180.optimizers import SGD, Adam
from rot180.training.averaging import ExponentialAverage
from rot180.training.recipe_file import RecipeFile, read_recipe_file
from rot180.training.schedules import Steps
from rot180.training.stopping import Stopping

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.json"))
QUICK = {"epochs": 1, "batch": 20, "validation": 0, "augmentation": {"shift": 2, "flip": True}}


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """60 training and 20 test images of MNIST in a file."""
    path, (train, test) = tmp_path_factory.mktemp("digits") / "digits.npz", data.mnist()
    arrays = {"x_train": train.images[:60], "y_train": train.labels[:60]}
    np.savez(path, **arrays, x_test=test.images[:20], y_test=test.labels[:20], class_names=train.class_names)
    return path


def written(folder, content):
    path = folder / "recipe.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def trained(folder, *arguments):
    """What run.json of a training says."""
    assert main(["train", *map(str, arguments), "--engine", "reference", "--out", str(folder)]) == 0
    return json.loads((folder / "run.json").read_text())


def test_what_is_left_out_is_as_by_default(tmp_path):
    assert read_recipe_file(written(tmp_path, {})) == RecipeFile(Recipe(), None, {})
    assert read_recipe_file(written(tmp_path, {"recipe": {}})).recipe == Recipe()


def test_what_is_given_is_taken(tmp_path):
    stored = {
        "name": "an example",
        "gives": "nothing",
        "data": "mnist",
        "images": None,
        "noise": 2,
        "recipe": {
            "epochs": 3,
            "learning_rate": 1,
            "optimizer": {"name": "SGD", "nesterov": False},
            "schedule": {"name": "steps", "at": [0.25]},
            "augmentation": {"elastic": [34, 4]},
            "averaging": {"name": "exponential"},
            "stopping": {"patience": 2},
        },
    }
    expected = Recipe(
        epochs=3,
        learning_rate=1,
        optimizer=SGD(nesterov=False),
        schedule=Steps(at=(0.25,)),
        augmentation=Augmentation(shift=1, elastic=(34.0, 4.0)),
        averaging=ExponentialAverage(),
        stopping=Stopping(patience=2),
    )
    assert read_recipe_file(written(tmp_path, stored)) == RecipeFile(expected, None, {"data": "mnist", "noise": 2})


def test_an_optimizer_brings_its_usual_rate(tmp_path):
    recipe = read_recipe_file(written(tmp_path, {"recipe": {"optimizer": {"name": "Adam"}}})).recipe
    assert (recipe.optimizer, recipe.learning_rate) == (Adam(), Adam.usual_rate)
    stored = {"recipe": {"optimizer": {"name": "Adam"}, "learning_rate": 0.5}}
    assert read_recipe_file(written(tmp_path, stored)).recipe.learning_rate == 0.5


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", r"not JSON \(Expecting property name"),
        ("\ufeff", r"not JSON \("),
        ("[" * 100_000, r"not JSON \("),
        ("1" * 5000, r"not JSON \("),
        ('{"recipe": {"batch": NaN}}', "recipe: batch is nan: give a number"),
        ({"recipe": {"learning_rate": 10**400}}, "recipe: learning_rate is 1000*: give a number"),
        ("[]", r"a recipe file is \[\]: give settings by name, in braces"),
        ({"epochs": 3}, r"a recipe file has no setting 'epochs': choose from name, gives, .*recipe, data, network"),
        ({"images": "all"}, "a recipe file: images is 'all': give a number"),
        ({"images": 1.5}, "images is 1.5: give a whole number of at least 1"),
        ({"network": 5}, "a recipe file: network is 5: give text"),
        ({"graph": {}}, r"the network description is damaged \("),
        ({"recipe": 1}, "recipe is 1: give settings by name, in braces"),
        ({"recipe": {"rate": 1}}, "recipe has no setting 'rate': choose from epochs, mode, batch, learning_rate"),
        ({"recipe": {"learning_rate": "1"}}, "recipe: learning_rate is '1': give a number"),
        ({"recipe": {"learning_rate": True}}, "recipe: learning_rate is True: give a number"),
        ({"recipe": {"learning_rate": -1}}, "the learning rate is -1: choose a number above 0"),
        ({"recipe": {"optimizer": "SGD"}}, "optimizer is 'SGD': give settings by name, in braces"),
        ({"recipe": {"optimizer": {}}}, "the optimizer's name is '': choose one of SGD, Adam, AdamW"),
        ({"recipe": {"optimizer": {"name": "sgd"}}}, "the optimizer's name is 'sgd': choose one of SGD, Adam"),
        ({"recipe": {"averaging": {"name": []}}}, r"the averaging's name is '\[\]': choose one of exponential"),
        (
            {"recipe": {"optimizer": {"name": "SGD", "beta1": 0}}},
            "optimizer SGD has no setting 'beta1': choose from name, momentum, nesterov, weight_decay",
        ),
        (
            {"recipe": {"optimizer": {"name": "SGD", "momentum": [0]}}},
            r"optimizer SGD: momentum is \[0\]: give a number",
        ),
        ({"recipe": {"optimizer": {"name": "SGD", "momentum": 1}}}, "momentum is 1: choose a number from 0"),
        ({"recipe": {"schedule": {"name": "steps", "at": 0.5}}}, "schedule steps: at is 0.5: give a list in brackets"),
        ({"recipe": {"schedule": {"name": "steps", "at": ["x"]}}}, "'<' not supported between instances"),
        ({"recipe": {"augmentation": {"turn": 5}}}, "augmentation has no setting 'turn': choose from shift, flip"),
        ({"recipe": {"augmentation": {"flip": 1}}}, "augmentation: flip is 1: give true or false"),
        ({"recipe": {"augmentation": {"shift": 1.5}}}, "shift is 1.5: give a whole number of at least 0"),
        ({"recipe": {"stopping": {"patience": 0}}}, "stopping after patience 0: choose a whole number of at least 1"),
    ],
)
def test_what_cannot_work_is_named(tmp_path, content, text):
    path = written(tmp_path, content)
    with pytest.raises(SettingError, match=f"^{re.escape(str(path))}: {text}"):
        read_recipe_file(path)


def test_a_file_that_is_missing_or_far_too_large(tmp_path, monkeypatch, capsys):
    assert main(["train", "--recipe", str(tmp_path / "none.json")]) == 1
    assert f"cannot read the recipe {tmp_path}/none.json: No such file" in capsys.readouterr().err
    monkeypatch.setattr("rot180.training.recipe_file.LARGEST", 10)
    with pytest.raises(SettingError, match="it has more than 10 bytes"):
        read_recipe_file(written(tmp_path, " " * 10 + "{}"))


def test_the_command_line_goes_first(tmp_path, digits):
    recipe = {**QUICK, "optimizer": {"name": "SGD", "momentum": 0.5}, "averaging": {"name": "exponential"}}
    stored = {"data": str(digits), "network": "lenet-sigmoid", "images": 40, "initializer": "lecun", "recipe": recipe}
    path = written(tmp_path, {**stored, "label_smoothing": 0.25})
    told = trained(tmp_path / "as-it-is", "--recipe", path)
    assert (told["network"], told["images"], told["initializer"]) == ("lenet-sigmoid", 40, "lecun")
    assert told["graph"]["nodes"][-1]["settings"] == {"smoothing": 0.25}
    recipe = told["recipe"]
    assert (recipe["batch"], recipe["seed"], recipe["learning_rate"]) == (20, 1, 0.05)
    assert recipe["optimizer"] == {"name": "SGD", "momentum": 0.5, "nesterov": True, "weight_decay": 5e-4}
    assert (recipe["augmentation"]["shift"], recipe["augmentation"]["flip"]) == (2, True)
    assert recipe["averaging"] == {"name": "exponential", "decay": 0.999}

    beside = "--network lenet-5 --images 30 --seed 9 --weight-decay 0 --no-flip --average none --schedule constant"
    told = trained(tmp_path / "changed", "--recipe", path, *beside.split())
    assert (told["network"], told["images"], told["initializer"]) == ("lenet-5", 30, "lecun")
    recipe = told["recipe"]
    assert (recipe["batch"], recipe["seed"], recipe["averaging"]) == (20, 9, None)
    assert recipe["optimizer"] == {"name": "SGD", "momentum": 0.5, "nesterov": True, "weight_decay": 0}
    assert (recipe["augmentation"]["shift"], recipe["augmentation"]["flip"]) == (2, False)

    recipe = trained(tmp_path / "other", "--recipe", path, "--optimizer", "adam")["recipe"]
    assert (recipe["optimizer"]["name"], recipe["learning_rate"]) == ("Adam", Adam.usual_rate)


def test_a_run_is_a_recipe(tmp_path, digits):
    """run.json repeats its run, to the same bits; with another network by name, that one is trained."""
    path = written(tmp_path, {"network": "lenet-sigmoid", "label_smoothing": 0.5, "recipe": QUICK})
    first = trained(tmp_path / "first", digits, "--recipe", path)
    again = trained(tmp_path / "again", "--recipe", tmp_path / "first" / "run.json")
    assert again == first
    weights = [(tmp_path / run / "weights.safetensors").read_bytes() for run in ("first", "again")]
    assert weights[0] == weights[1]
    other = trained(tmp_path / "other", "--recipe", tmp_path / "first" / "run.json", "--network", "lenet-5")
    assert other["graph"] == json.loads(models.lenet5().to_json())


def test_a_recipe_whose_network_does_not_fit_the_data(tmp_path, digits, capsys):
    graph = json.loads(models.resnet_small(8).to_json())
    path = written(tmp_path, {"graph": graph, "network": "resnet-8", "recipe": QUICK})
    assert main(["train", str(digits), "--recipe", str(path), "--out", str(tmp_path / "r")]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_resuming_takes_no_recipe(capsys, tmp_path):
    assert main(["train", "--resume", str(tmp_path), "--recipe", "r.json"]) == 1
    assert "leave out --recipe" in capsys.readouterr().err


def test_there_are_recipes():
    """So that the test below can fail."""
    assert len(RECIPES) >= 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_the_project(path):
    """It can be read, its network can be built, it says what it gives, and docs/recipes.md has its command."""
    stored, file = json.loads(path.read_text()), read_recipe_file(path)
    assert stored["name"]
    assert stored["gives"].endswith(".")
    assert file.settings["data"]
    assert models.build(file.settings["network"]).classes
    assert f"rot180 train --recipe recipes/{path.name}" in (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
