"""Highway networks: layers that learn how much of their input to let pass. (C7)

Srivastava, Greff and Schmidhuber, "Highway networks", 2015, and "Training very deep networks", NIPS 2015: a residual
network whose shortcut has a gate, half a year before it.
"""

from rot180.arrays import Shape, whole
from rot180.graph import Block, Graph, Highway, chain, highway, sequence
from rot180.layers import (
    Convolution,
    Dense,
    Layer,
    MaxPooling,
    ReLU,
    ScalePixels,
    Sigmoid,
    SoftmaxCrossEntropy,
)

MOSTLY_SHUT = -2.0  # where the gates' biases start: sigmoid(-2) = 0.12 of the transform, 0.88 of the input


def highway_dense(depth: int = 10, classes: int = 10, shape: Shape = (1, 28, 28), *, units: int = 50) -> Graph:
    """The network for MNIST: a dense layer, depth - 1 highway layers of 50 units, and the scores.         (C7)

    The paper trains 10, 20, 50 and 100 layers; so deep, plain layers no longer learn.
    """
    whole(depth, "depth", at_least=2)
    layers: dict[str, Block] = {
        f"highway{number}": _gated(Dense(units), Dense(units, bias_start=MOSTLY_SHUT)) for number in range(2, depth + 1)
    }
    return sequence(
        shape,
        pixels=ScalePixels(0, 1),
        fc1=Dense(units),
        relu1=ReLU(),
        **layers,
        scores=Dense(classes),
        loss=SoftmaxCrossEntropy(),
    )


def highway_convolutional(depth: int = 10, classes: int = 10, shape: Shape = (1, 28, 28), *, maps: int = 16) -> Graph:
    """The convolutional one: 3x3, the same number of maps everywhere, three poolings, dense scores.       (C7)

    depth counts the first convolution, depth - 2 highway layers and the scores. With 16 maps and 10 layers it has the
    paper's 39,000 parameters for MNIST, with 32 its 151,000. Where the poolings are is not in the paper: here they
    divide the convolutions into three parts, as equal as can be.
    """
    whole(depth, "depth", at_least=4)
    convolutions = depth - 1
    blocks: dict[str, Block] = {"conv1": Convolution(maps, 3, padding=1), "relu1": ReLU()}
    for number in range(1, convolutions + 1):
        if number > 1:
            gate = Convolution(maps, 3, padding=1, bias_start=MOSTLY_SHUT)
            blocks[f"highway{number}"] = _gated(Convolution(maps, 3, padding=1), gate)
        part, rest = divmod(3 * number, convolutions)
        if rest < 3:
            blocks[f"pool{part}"] = MaxPooling(2, remainder="floor")
    return sequence(shape, pixels=ScalePixels(0, 1), **blocks, scores=Dense(classes), loss=SoftmaxCrossEntropy())


def _gated(transform: Layer, gate: Layer) -> Highway:
    """The transform's ReLU where the gate is open, the input where it is shut."""
    return highway(chain(layer=transform, relu=ReLU()), chain(layer=gate, sigmoid=Sigmoid()))
