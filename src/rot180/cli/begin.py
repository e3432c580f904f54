"""From the arguments of `rot180 train` to a run: a new one, or one that goes on."""

import argparse
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from rot180 import models
from rot180.arrays import text, whole
from rot180.cli.pictures import described_choices, described_pictures, options_of
from rot180.cli.trained import load_trained
from rot180.data.augmentation import Augmentation
from rot180.data.balance import LARGEST_PIXEL, NOISE
from rot180.data.dataset import Dataset, Sets
from rot180.data.folder import PictureOptions, Progress
from rot180.data.preparation import standardized
from rot180.engines import DEFAULT_ENGINE
from rot180.errors import DataError, SettingError
from rot180.graph import IMAGE, Graph
from rot180.layers import ScalePixels, SoftmaxCrossEntropy
from rot180.network import Network
from rot180.optimizers import OPTIMIZERS
from rot180.training.averaging import AVERAGES
from rot180.training.loop import hold_out
from rot180.training.recipe import Recipe
from rot180.training.recipe_file import RecipeFile, read_recipe_file
from rot180.training.run import Run, Settings, read_settings
from rot180.training.schedules import SCHEDULES
from rot180.training.suggestion import VARIANTS, Suggestion, suggest, suggest_transfer
from rot180.transfer import adapted, head, taken_over, usual_pixels, wants_pixels

RUNS = Path("runs")
NETWORK_FOR = {(1, 28, 28): "lenet-5", (3, 32, 32): "resnet-20"}  # (C, H, W) of an image
HEAD = "head"  # what --freeze-below takes beside the names of nodes; "image" is the other
WITH_START = "new_head", "pixels", "freeze_below", "variants"


class Beginning(NamedTuple):
    """How a network that has learned already is taken over; Settings have the same by the same names."""

    new_head: bool
    pixels: str | None  # how they are scaled before it
    freeze_below: str  # a node; below the image nothing lies
    variants: int


class Choice(NamedTuple):
    """What is trained."""

    network: str  # by name
    graph: Graph
    suggestion: Suggestion | None  # for pictures
    beginning: Beginning | None = None  # where it does not begin with nothing


def begin(arguments: argparse.Namespace) -> Run:
    """A new run, as the arguments say, and where they say nothing the recipe file, and then what suits the data."""
    from rot180 import data

    file = read_recipe_file(arguments.recipe) if arguments.recipe else RecipeFile()
    if arguments.network and arguments.start:
        raise SettingError("--network and --start both name a network: leave one of them out")
    asked = vars(arguments)
    missing = {name: value for name, value in file.settings.items() if asked[name] is None}
    graph = None if arguments.network else file.graph
    arguments = argparse.Namespace(**asked | missing)
    start = _start(arguments)
    source = arguments.data or data.EMBEDDED
    known = start.graph if start else graph
    channels, height = known.input_shape[:2] if known else (None, arguments.size)
    if start and arguments.size not in (None, height):
        shape = text(start.graph.input_shape)
        raise SettingError(f"--size is {arguments.size}, but {arguments.start} takes images of {shape}: leave it out")
    sets = load_data(source, PictureOptions(height, channels))
    if arguments.images is not None and not 1 <= arguments.images <= len(sets.train):
        raise SettingError(f"--images is {arguments.images}: choose from 1 to {len(sets.train)}")
    if arguments.size is not None and not sets.train.report:
        raise SettingError(f"--size is for folders of pictures: {source} has images of {text(sets.train.shape)}")
    train = sets.train.take(slice(arguments.images))
    choice = _started(start, train, arguments) if start else _built(graph, train, arguments)
    suggested = choice.suggestion and choice.suggestion.recipe
    recipe = _recipe(arguments, file.recipe if arguments.recipe or not suggested else suggested)
    if not arguments.json:
        _tell(sets, choice, recipe, arguments)
    graph = _with_loss(choice.graph, file.graph if start else None, arguments.label_smoothing)
    learned_from, _ = hold_out(train, recipe)
    if arguments.prepare == "standardize":
        graph = _with_pixels(graph, ScalePixels(*standardized(learned_from)))
    elif arguments.prepare == "zca":  # pixels of unit variance need no scaling
        graph = _with_pixels(graph, ScalePixels(0, LARGEST_PIXEL))
    if start and choice.beginning:
        fresh = head(graph) if choice.beginning.new_head else None
        start = taken_over(start, graph, train.class_names, fresh=fresh, seed=recipe.seed, engine=arguments.engine)
    settings = Settings(
        data=source if source == data.EMBEDDED else str(Path(source).resolve()),
        network=choice.network,
        graph=graph,
        recipe=recipe,
        initializer=arguments.initializer or "he",
        engine=start.engine_name if start else arguments.engine or DEFAULT_ENGINE,
        images=arguments.images,
        prepare=None if arguments.prepare == "standardize" else arguments.prepare,
        balance=arguments.balance,
        noise=NOISE if arguments.noise is None else arguments.noise,
        start=str(Path(arguments.start).resolve()) if arguments.start else None,
        **(choice.beginning._asdict() if choice.beginning else {}),
    )
    short = "pattern" if models.is_pattern(choice.network) else choice.network
    folder = arguments.out or _free_folder(f"{short}-{Path(source).resolve().name}")
    with _passing() as progress:
        run = Run(folder, settings, sets, start=start, threads=arguments.threads, progress=progress)
    if run.material.balance and not arguments.json:
        print(run.material.balance, file=sys.stderr)
    return run


def resume(folder: Path, threads: int | None) -> Run:
    """The run in the folder, with its data."""
    settings = read_settings(folder)
    try:
        sets = load_data(settings.data, settings.pictures)
    except DataError as error:
        raise DataError(f"the run's data cannot be loaded: {error}") from error
    with _passing() as progress:
        return Run(folder, settings, sets, resume=True, threads=threads, progress=progress)


def load_data(source: str, pictures: PictureOptions) -> Sets:
    """The data, with a bar while pictures are decoded."""
    from rot180 import data
    from rot180.cli.progress import counted

    with counted("decoding pictures") as progress:
        return data.load(source, pictures._replace(progress=progress))


def _passing() -> AbstractContextManager[Progress]:
    """A bar while images pass through a frozen part."""
    from rot180.cli.progress import counted

    return counted("passing images through the frozen part")


def _tell(sets: Sets, choice: Choice, recipe: Recipe, arguments: argparse.Namespace) -> None:
    """What was found and what was chosen, where somebody may wonder."""
    asked = vars(arguments)
    if sets.train.report:
        print(described_pictures(sets, arguments.balance), file=sys.stderr)
    choices = _choices(choice, recipe, sets.train.shape[-1])
    rows = [(option, "as asked" if asked.get(name) is not None else reason) for name, option, reason in choices]
    if rows:
        print(described_choices(rows), file=sys.stderr)


def _choices(choice: Choice, recipe: Recipe, side: int) -> Iterator[tuple[str, str, str]]:
    """Each choice: what it is called, the option that makes it, and why."""
    beginning, suggestion = choice.beginning, choice.suggestion
    if beginning:
        new, below = beginning.new_head, beginning.freeze_below
        yield "new_head", "--new-head" if new else "--no-new-head", f"the classes are {'others' if new else 'the same'}"
        if beginning.pixels:
            yield (
                "pixels",
                f"--pixels={shlex.quote(beginning.pixels)}",
                f"usual; {choice.network} takes no pixels as they are",
            )
        reason = "only the head learns: image trains all, longer" if below != IMAGE else "all of it learns"
        yield "freeze_below", f"--freeze-below {shlex.quote(below)}", reason
        if below != IMAGE:
            yield "variants", f"--variants {beginning.variants}", "of each image; the frozen part is run once"
    if not suggestion:
        return
    if not beginning:
        yield "network", f"--network {shlex.quote(choice.network)}", suggestion.reasons["network"]
        yield "size", f"--size {side}", suggestion.reasons["size"]
    usual, reasons = suggestion.recipe, suggestion.reasons
    for name, option in (
        ("epochs", f"--epochs {recipe.epochs}"),
        ("batch", f"--batch {recipe.batch}"),
        ("learning_rate", f"--learning-rate {recipe.learning_rate:g}"),
        ("augmentation", options_of(recipe.augmentation)),
        ("validation", f"--validation {recipe.validation:.3g}"),
    ):
        yield name, option, reasons[name] if getattr(recipe, name) == getattr(usual, name) else "as asked"


# --- what is trained ---------------------------------------------------------------------------------------------


def _start(arguments: argparse.Namespace) -> Network | None:
    """The network that the run shall begin with."""
    if not arguments.start:
        for name in WITH_START:
            if getattr(arguments, name) is not None:
                raise SettingError(f"--{name.replace('_', '-')} is for runs that --start from a trained network")
        return None
    trained = load_trained(Path(arguments.start))
    if trained.preparation:
        raise SettingError(
            f"{arguments.start} prepares its images ({trained.preparation.kind}), which a new run cannot take over: "
            "start from a network that was trained without --prepare"
        )
    return trained.network


def _built(graph: Graph | None, train: Dataset, arguments: argparse.Namespace) -> Choice:
    """A network to be trained from the beginning."""
    suggestion = suggest(train) if train.report else None
    network = arguments.network or (suggestion.network if suggestion else _network_for(train))
    graph = graph or models.build(network, len(train.class_names), train.shape)
    return Choice(network, graph, suggestion)


def _started(start: Network, train: Dataset, arguments: argparse.Namespace) -> Choice:
    """A network that has learned already."""
    name = Path(arguments.start).stem
    new_head = start.class_names != train.class_names if arguments.new_head is None else arguments.new_head
    pixels = arguments.pixels
    if pixels is None and not wants_pixels(start.graph):
        pixels = usual_pixels(start.graph)
    graph = adapted(start.graph, len(train.class_names) if new_head else None, pixels)
    below = arguments.freeze_below or (HEAD if new_head else IMAGE)
    below = head(graph) if below == HEAD else below
    variants = whole(VARIANTS if arguments.variants is None else arguments.variants, "--variants")
    suggestion = suggest_transfer(train, name, variants if below != IMAGE else None)
    return Choice(name, graph, suggestion if train.report else None, Beginning(new_head, pixels, below, variants))


def _with_loss(graph: Graph, given: Graph | None, smoothing: float | None) -> Graph:
    """The graph with the loss of a graph that a recipe file gave, and with so much label smoothing in it."""
    *nodes, last = graph.nodes
    layer = (
        given.loss.of_output if given and given.loss.heads > graph.loss.heads else given.loss if given else last.layer
    )
    if smoothing is not None:
        if not isinstance(layer, SoftmaxCrossEntropy):
            raise SettingError(f"--label-smoothing is for SoftmaxCrossEntropy; the network's loss is {layer}")
        layer = replace(layer, smoothing=smoothing)
    return Graph([*nodes, replace(last, layer=layer)], graph.input_shape, graph.output)


def _with_pixels(graph: Graph, layer: ScalePixels) -> Graph:
    """The network with its pixels scaled so."""
    first, *others = graph.nodes
    if not isinstance(first.layer, ScalePixels):
        raise SettingError("the network does not begin with ScalePixels: leave --prepare out")
    return Graph([replace(first, layer=layer), *others], graph.input_shape, graph.output)


def _network_for(dataset: Dataset) -> str:
    if dataset.shape not in NETWORK_FOR:
        raise SettingError(f"{dataset.name}: images are {text(dataset.shape)}; choose a --network that takes them")
    return NETWORK_FOR[dataset.shape]


def _recipe(arguments: argparse.Namespace, recipe: Recipe) -> Recipe:
    """The recipe with what was asked for in it. A kind that is named is taken with its usual settings."""
    changes = _given(arguments, "epochs", "seed", "mode", "batch", "validation", "sample_loss", "sample_updates")
    optimizer: Any = OPTIMIZERS[arguments.optimizer]() if arguments.optimizer else recipe.optimizer
    settings = _given(arguments, "momentum", "nesterov", "beta1", "beta2", "weight_decay")
    for setting in settings:
        if setting not in {each.name for each in fields(optimizer)}:
            name = type(optimizer).__name__
            raise SettingError(f"--{setting} is not a setting of {name}: leave it out, or choose another --optimizer")
    changes["optimizer"] = replace(optimizer, **settings)
    if arguments.optimizer:
        changes["learning_rate"] = optimizer.usual_rate
    changes |= _given(arguments, "learning_rate")
    if arguments.schedule:
        changes["schedule"] = SCHEDULES[arguments.schedule]()
    if arguments.average:
        changes["averaging"] = None if arguments.average == "none" else AVERAGES[arguments.average]()
    varied = _given(arguments, *(each.name for each in fields(Augmentation)))
    changes["augmentation"] = replace(recipe.augmentation, **varied)
    ends = {
        "loss": arguments.stop_loss,
        "error": arguments.stop_error,
        "gradient_norm": arguments.stop_gradient,
        "patience": arguments.patience,
        "updates": arguments.max_updates,
        "seconds": arguments.max_seconds,
    }
    changes["stopping"] = replace(recipe.stopping, **{name: end for name, end in ends.items() if end is not None})
    return replace(recipe, **changes)


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the arguments that were asked for."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _free_folder(name: str) -> Path:
    """runs/NAME-1, or the next number that is free."""
    number = 1
    while (RUNS / f"{name}-{number}").exists():
        number += 1
    return RUNS / f"{name}-{number}"
