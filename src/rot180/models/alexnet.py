"""AlexNet: the network that made photographs a matter of convolutional networks. (C4)

Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012; the
single column is the one of Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
"""

from rot180.arrays import Shape
from rot180.graph import Block, Branches, Chain, Graph, branches, chain, sequence
from rot180.layers import (
    Convolution,
    Dense,
    Dropout,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    ScalePixels,
    SoftmaxCrossEntropy,
)

FROM_ONE = 1.0  # where biases start whose ReLUs shall be awake from the beginning (section 5)


def alexnet(classes: int = 1000, shape: Shape = (3, 224, 224), *, maps: int = 48, units: int = 4096) -> Graph:
    """The network of 2012, in two halves that meet at layer 3. 60,965,224 parameters for 1000 classes.    (C4)

    Each half fitted one processor of the time. In layers 1 and 2 they are two branches, normalization and all; layers
    4 and 5 are convolutions of two groups. maps: of the first layer, in each half; units: of each dense layer.
    The paper's 224 pixels make 55 only with padding, which it does not mention: here it is the 3 of seed 001's table.
    """
    return sequence(
        shape,
        pixels=ScalePixels(-2, 2),
        halves=_halves(maps),
        conv3=Convolution(8 * maps, 3, padding=1),
        relu3=ReLU(),
        conv4=Convolution(8 * maps, 3, padding=1, groups=2, bias_start=FROM_ONE),
        relu4=ReLU(),
        conv5=Convolution(_of(maps, 256), 3, padding=1, groups=2, bias_start=FROM_ONE),
        relu5=ReLU(),
        pool5=_overlapping(),
        **_dense_part(units, classes),
        loss=SoftmaxCrossEntropy(),
    )


def alexnet_column(classes: int = 1000, shape: Shape = (3, 224, 224), *, maps: int = 64, units: int = 4096) -> Graph:
    """AlexNet in one column, without normalization, as it is mostly built today. 61,100,840 parameters.   (C4)

    maps: of the first layer; units: of each dense layer.
    """
    return sequence(
        shape,
        pixels=ScalePixels(-2, 2),
        conv1=Convolution(maps, 11, stride=4, padding=2, remainder="floor"),
        relu1=ReLU(),
        pool1=_overlapping(),
        conv2=Convolution(3 * maps, 5, padding=2),
        relu2=ReLU(),
        pool2=_overlapping(),
        conv3=Convolution(6 * maps, 3, padding=1),
        relu3=ReLU(),
        conv4=Convolution(4 * maps, 3, padding=1),
        relu4=ReLU(),
        conv5=Convolution(4 * maps, 3, padding=1),
        relu5=ReLU(),
        pool5=_overlapping(),
        **_dense_part(units, classes),
        loss=SoftmaxCrossEntropy(),
    )


def _halves(maps: int) -> Branches:
    """Layers 1 and 2: two columns that both see the image, and not each other."""

    def half() -> Chain:
        return chain(
            conv1=Convolution(maps, 11, stride=4, padding=3, remainder="floor"),
            relu1=ReLU(),
            norm1=LocalResponseNormalization(),
            pool1=_overlapping(),
            conv2=Convolution(_of(maps, 128), 5, padding=2, bias_start=FROM_ONE),
            relu2=ReLU(),
            norm2=LocalResponseNormalization(),
            pool2=_overlapping(),
        )

    return branches(first=half(), second=half())


def _dense_part(units: int, classes: int) -> dict[str, Block]:
    """Layers 6 to 8: half of the units of the first two left out in training."""
    return {
        "fc6": Dense(units, bias_start=FROM_ONE),
        "relu6": ReLU(),
        "dropout6": Dropout(0.5),
        "fc7": Dense(units, bias_start=FROM_ONE),
        "relu7": ReLU(),
        "dropout7": Dropout(0.5),
        "fc8": Dense(classes),
    }


def _overlapping() -> MaxPooling:
    """Windows of 3x3, 2 apart: they overlap, which the paper found to help against overfitting."""
    return MaxPooling(3, stride=2, remainder="floor")


def _of(maps: int, paper: int) -> int:
    """As many maps as the paper has, in proportion to the 48 of its first layer; an even number."""
    return 2 * round(paper * maps / 96)
