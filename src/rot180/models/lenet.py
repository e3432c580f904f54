"""LeNet: the network that read the digits of bank cheques. (C2, C3)

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998.
The paper pads its 28x28 digits to 32x32; here C1's padding of 2 does, so that 28x28 images go in as they are.
"""

from rot180.graph import Graph, sequence
from rot180.layers import (
    AveragePooling,
    Convolution,
    Dense,
    MaxPooling,
    ReLU,
    ScalePixels,
    Sigmoid,
    SoftmaxCrossEntropy,
)

PAPER_TO_INK = -0.1, 1.175  # the range that the 1998 paper scales pixels to


def lenet5(classes: int = 10) -> Graph:
    """LeNet-5 as it is built today: ReLU, max pooling, softmax. 61,706 parameters for ten classes.        (C3)"""
    return sequence(
        (1, 28, 28),
        pixels=ScalePixels(*PAPER_TO_INK),
        C1=Convolution(6, 5, padding=2),
        relu1=ReLU(),
        S2=MaxPooling(2),
        C3=Convolution(16, 5),
        relu3=ReLU(),
        S4=MaxPooling(2),
        C5=Dense(120),
        relu5=ReLU(),
        F6=Dense(84),
        relu6=ReLU(),
        F7=Dense(classes),
        loss=SoftmaxCrossEntropy(),
    )


def lenet_sigmoid(classes: int = 10) -> Graph:
    """LeNet as seed 003 draws it: average pooling, sigmoid, dense layers of 120 and 84.                   (C3)"""
    return sequence(
        (1, 28, 28),
        pixels=ScalePixels(*PAPER_TO_INK),
        C1=Convolution(6, 5, padding=2),
        sigmoid1=Sigmoid(),
        S2=AveragePooling(2),
        C3=Convolution(16, 5),
        sigmoid3=Sigmoid(),
        S4=AveragePooling(2),
        C5=Dense(120),
        sigmoid5=Sigmoid(),
        F6=Dense(84),
        sigmoid6=Sigmoid(),
        F7=Dense(classes),
        loss=SoftmaxCrossEntropy(),
    )
