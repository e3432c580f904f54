"""Networks from the literature, one file a paper; and any network of the usual order, from its pattern."""

from collections.abc import Callable
from functools import partial
from typing import Any

from rot180.arrays import Shape
from rot180.errors import SettingError
from rot180.graph import Graph
from rot180.models.alexnet import alexnet, alexnet_column
from rot180.models.googlenet import googlenet
from rot180.models.highway import highway_convolutional, highway_dense
from rot180.models.lenet import lenet5, lenet5_1998, lenet_sigmoid
from rot180.models.pattern import Pattern, pattern
from rot180.models.resnet import IMAGENET_DEPTHS, resnet, resnet_small

__all__ = [
    "MODELS",
    "Pattern",
    "alexnet",
    "alexnet_column",
    "build",
    "build_small",
    "googlenet",
    "highway_convolutional",
    "highway_dense",
    "is_pattern",
    "lenet5",
    "lenet5_1998",
    "lenet_sigmoid",
    "one_of_each_kind",
    "pattern",
    "resnet",
    "resnet_small",
]

Builder = Callable[..., Graph]
RESNET_DEPTHS = 8, 20, 32, 44, 56, 110  # for small images; the paper has all but the first, which has one block a stage

MODELS: dict[str, Builder] = {
    "lenet-5": lenet5,
    "lenet-sigmoid": lenet_sigmoid,
    "lenet-5-1998": lenet5_1998,
    "alexnet": alexnet,
    "alexnet-column": alexnet_column,
    "googlenet": googlenet,
    **{f"highway-{depth}": partial(highway_dense, depth) for depth in (10, 20, 50, 100)},
    **{f"highway-conv-{maps}": partial(highway_convolutional, 10, maps=maps) for maps in (16, 32)},
    **{f"resnet-{depth}": partial(resnet_small, depth) for depth in RESNET_DEPTHS},
    **{f"resnet-{depth}": partial(resnet, depth) for depth in IMAGENET_DEPTHS},
}
"""By the name that the command line takes. Each takes `classes` and `shape`, and has the paper's without."""

SMALL: dict[str, dict[str, Any]] = {
    "alexnet": {"shape": (3, 67, 67), "maps": 3, "units": 32},
    "alexnet-column": {"shape": (3, 67, 67), "maps": 4, "units": 32},
    "googlenet": {"shape": (3, 80, 80), "shrink": 16},
    **{f"highway-{depth}": {"depth": 5, "shape": (1, 5, 6), "units": 7} for depth in (10, 20, 50, 100)},
    **{f"highway-conv-{maps}": {"depth": 6, "shape": (1, 11, 12), "maps": 3} for maps in (16, 32)},
    **{f"resnet-{depth}": {"depth": 8, "shape": (3, 10, 12), "maps": 3} for depth in RESNET_DEPTHS},
    **{f"resnet-{depth}": {"shape": (3, 68, 64), "maps": 2, "blocks": (1, 2, 1, 1)} for depth in IMAGENET_DEPTHS},
}
"""What makes a network small, and leaves each kind of layer and of connection in it."""


def build(network: str, classes: int | None = None, shape: Shape | None = None) -> Graph:
    """The network of that name, or of that pattern: "INPUT -> [[CONV]*1 -> POOL]*2 -> [FC]*2".

    classes, and the shape of an image: without, the paper's. SettingError for an unknown name or a wrong pattern.
    """
    return _builder(network)(**_given(classes=classes, shape=shape))


def build_small(network: str, classes: int = 10) -> Graph:
    """The same with few maps, units, blocks and pixels: for gradient checks, in seconds."""
    builder, small = _builder(network), SMALL.get(network, {})
    if isinstance(builder, partial) and "depth" in small:  # in place of the one that stands first
        builder = builder.func
    return builder(**{"classes": classes, **small})


def one_of_each_kind() -> list[str]:
    """The names of networks of which no two have the same small form, as ResNet-20 and ResNet-32 do."""
    forms: dict[str, str] = {}
    for name in MODELS:
        forms.setdefault(build_small(name).to_json(), name)
    return list(forms.values())


def is_pattern(network: str) -> bool:
    """Is it meant as a pattern, rather than as a name?"""
    return "->" in network


def _builder(network: str) -> Builder:
    if network in MODELS:
        return MODELS[network]
    if is_pattern(network):
        return partial(pattern, network)
    raise SettingError(
        f"there is no network {network!r}: choose one of {', '.join(MODELS)}, or write a pattern such as "
        "'INPUT -> [[CONV]*1 -> POOL]*2 -> [FC]*2'"
    )


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}
