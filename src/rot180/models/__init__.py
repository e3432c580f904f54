"""Networks from the literature, one file a paper."""

from collections.abc import Callable
from functools import partial

from rot180.errors import SettingError
from rot180.graph import Graph
from rot180.models.lenet import lenet5, lenet_sigmoid
from rot180.models.resnet import IMAGENET_DEPTHS, resnet, resnet_small

__all__ = ["MODELS", "build", "lenet5", "lenet_sigmoid", "resnet", "resnet_small"]

MODELS: dict[str, Callable[[int], Graph]] = {
    "lenet-5": lenet5,
    "lenet-sigmoid": lenet_sigmoid,
    **{f"resnet-{depth}": partial(resnet_small, depth) for depth in (20, 32, 44, 56, 110)},
    **{f"resnet-{depth}": partial(resnet, depth) for depth in IMAGENET_DEPTHS},
}
"""By the name that the command line takes."""


def build(name: str, classes: int = 10) -> Graph:
    """The network of that name for so many classes; SettingError for an unknown name."""
    if name not in MODELS:
        raise SettingError(f"there is no network {name!r}: choose one of {', '.join(MODELS)}")
    return MODELS[name](classes)
