"""GoogLeNet (Inception v1): kernels of several sizes side by side, 22 layers deep. (C5)

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke and Rabinovich, "Going deeper with convolutions",
CVPR 2015, table 1.
"""

from typing import NamedTuple

from rot180.arrays import Shape
from rot180.graph import Auxiliary, Branches, Chain, Graph, auxiliary, branches, chain, sequence
from rot180.layers import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    ScalePixels,
    SoftmaxCrossEntropy,
)

HEAD_WEIGHT = 0.3  # of each auxiliary head's loss


class Widths(NamedTuple):
    """How many maps the parts of an Inception block have; "before": the 1x1 convolution that makes few of many."""

    one: int
    before_three: int
    three: int
    before_five: int
    five: int
    behind_pool: int


BLOCKS = {
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}
"""Table 1."""


def googlenet(classes: int = 1000, shape: Shape = (3, 224, 224), *, heads: bool = True, shrink: int = 1) -> Graph:
    """GoogLeNet with its two auxiliary heads. 6,998,552 parameters for 1000 classes without them.         (C5)

    The heads see blocks 4a and 4d and give the lower layers a gradient of their own: their losses count 0.3 each. Only
    training runs them. shrink: divides all numbers of maps and units, for small variants.
    The normalization has AlexNet's constants; the paper names none. Its pooling rounds sizes up: "same" does.
    """

    def inception(name: str) -> Branches:
        return _inception(Widths(*(max(1, width // shrink) for width in BLOCKS[name])))

    sides = [_head(classes, shrink) if heads else chain() for _ in range(2)]
    return sequence(
        shape,
        pixels=ScalePixels(-2, 2),
        conv1=_convolution(64 // shrink, 7, stride=2),
        pool1=_pooling(),
        norm1=LocalResponseNormalization(),
        reduce2=_convolution(64 // shrink, 1),
        conv2=_convolution(192 // shrink, 3),
        norm2=LocalResponseNormalization(),
        pool2=_pooling(),
        inception3a=inception("3a"),
        inception3b=inception("3b"),
        pool3=_pooling(),
        inception4a=inception("4a"),
        head1=sides[0],
        inception4b=inception("4b"),
        inception4c=inception("4c"),
        inception4d=inception("4d"),
        head2=sides[1],
        inception4e=inception("4e"),
        pool4=_pooling(),
        inception5a=inception("5a"),
        inception5b=inception("5b"),
        pool5=GlobalAveragePooling(),
        dropout=Dropout(0.4),
        scores=Dense(classes),
        loss=SoftmaxCrossEntropy((1.0, HEAD_WEIGHT, HEAD_WEIGHT) if heads else (1.0,)),
    )


def _inception(widths: Widths) -> Branches:
    """Figure 2(b): 1x1, 3x3, 5x5 and pooling side by side on the same input, their maps concatenated."""
    return branches(
        one=_convolution(widths.one, 1),
        three=chain(reduce=_convolution(widths.before_three, 1), conv=_convolution(widths.three, 3)),
        five=chain(reduce=_convolution(widths.before_five, 1), conv=_convolution(widths.five, 5)),
        pool=chain(pool=MaxPooling(3, stride=1, padding=1), project=_convolution(widths.behind_pool, 1)),
    )


def _head(classes: int, shrink: int) -> Auxiliary:
    """Section 5: a classifier of its own in the middle of the network."""
    return auxiliary(
        pool=AveragePooling(5, stride=3, remainder="floor"),
        reduce=_convolution(128 // shrink, 1),
        fc=Dense(1024 // shrink),
        relu=ReLU(),
        dropout=Dropout(0.7),
        scores=Dense(classes),
    )


def _convolution(maps: int, size: int, stride: int = 1) -> Chain:
    """As large as its input, and a ReLU behind it, as everywhere in this network."""
    return chain(conv=Convolution(maps, size, stride, padding=size // 2, remainder="floor"), relu=ReLU())


def _pooling() -> MaxPooling:
    return MaxPooling(3, stride=2, padding="same")
