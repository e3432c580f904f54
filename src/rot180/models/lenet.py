"""LeNet: the network that read the digits of bank cheques. (C2, C3)

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998.
The paper pads its 28x28 digits to 32x32; here C1's padding of 2 does, so that 28x28 images go in as they are. Its
border has the value 0, where the paper's has that of paper, -0.1. Images of 32x32 and more are not padded.
"""

from rot180.arrays import Shape
from rot180.graph import Graph, sequence
from rot180.layers import (
    AveragePooling,
    Convolution,
    Dense,
    MaxPooling,
    RadialBasisLoss,
    RadialBasisOutput,
    ReLU,
    ScaledTanh,
    ScalePixels,
    Sigmoid,
    SoftmaxCrossEntropy,
    TableConvolution,
    TrainableSubsampling,
)
from rot180.layers.radial_basis_output import DIGIT_CODES, random_codes
from rot180.layers.table_convolution import LENET_TABLE

PAPER_TO_INK = -0.1, 1.175  # the range that the 1998 paper scales pixels to
DIGITS: Shape = (1, 28, 28)
F6_UNITS = 84  # one for each pixel of a 7x12 picture of a character


def lenet5_1998(classes: int = 10, shape: Shape = DIGITS) -> Graph:
    """LeNet-5 as the paper has it: C3's table of connections, subsampling that learns, classes as pictures.  (C2)

    Every layer up to F6 is squashed by 1.7159 tanh(2x/3). 60,000 parameters and 340,908 connections. Ten classes are
    compared with the pictures of the ten digits; another number of classes with pictures made by chance.
    """
    codes = DIGIT_CODES if classes == len(DIGIT_CODES) else random_codes(classes, F6_UNITS)
    return sequence(
        shape,
        pixels=ScalePixels(*PAPER_TO_INK),
        C1=_first(shape),
        tanh1=ScaledTanh(),
        S2=TrainableSubsampling(2),
        tanh2=ScaledTanh(),
        C3=TableConvolution(LENET_TABLE, 5),
        tanh3=ScaledTanh(),
        S4=TrainableSubsampling(2),
        tanh4=ScaledTanh(),
        C5=Convolution(120, 5),
        tanh5=ScaledTanh(),
        F6=Dense(F6_UNITS),
        tanh6=ScaledTanh(),
        output=RadialBasisOutput(codes),
        loss=RadialBasisLoss(),
    )


def lenet5(classes: int = 10, shape: Shape = DIGITS) -> Graph:
    """LeNet-5 as it is built today: ReLU, max pooling, softmax. 61,706 parameters for ten classes.        (C3)"""
    return sequence(
        shape,
        pixels=ScalePixels(*PAPER_TO_INK),
        C1=_first(shape),
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


def lenet_sigmoid(classes: int = 10, shape: Shape = DIGITS) -> Graph:
    """LeNet as seed 003 draws it: average pooling, sigmoid, dense layers of 120 and 84.                   (C3)"""
    return sequence(
        shape,
        pixels=ScalePixels(*PAPER_TO_INK),
        C1=_first(shape),
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


def _first(shape: Shape) -> Convolution:
    """C1: six maps of 5x5; digits of 28x28 get a border, so that their strokes may end at the centre of a kernel."""
    return Convolution(6, 5, padding=2 if min(shape[1:], default=0) < 32 else 0)
