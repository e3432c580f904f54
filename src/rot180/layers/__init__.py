"""The layers: one file an operation, its equation, its NumPy forward pass and its gradients."""

from rot180.layers.activations import (
    ELU,
    Clip,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyReLU,
    ReLU,
    ScaledTanh,
    Sigmoid,
    Softplus,
    Tanh,
)
from rot180.layers.affine import Affine
from rot180.layers.arithmetic import Arithmetic
from rot180.layers.average_pooling import AveragePooling
from rot180.layers.batch_normalization import BatchNormalization
from rot180.layers.combine import Add, Concatenate
from rot180.layers.convolution import Convolution
from rot180.layers.dense import Dense
from rot180.layers.dropout import Dropout
from rot180.layers.global_average_pooling import GlobalAveragePooling
from rot180.layers.highway_gate import HighwayGate
from rot180.layers.layer import Cost, Fan, Layer, Loss, Parameters, Window
from rot180.layers.local_response_normalization import LocalResponseNormalization
from rot180.layers.locally_connected import LocallyConnected
from rot180.layers.max_pooling import MaxPooling
from rot180.layers.padding import Pad
from rot180.layers.parametric_relu import ParametricReLU
from rot180.layers.radial_basis_loss import RadialBasisLoss
from rot180.layers.radial_basis_output import RadialBasisOutput
from rot180.layers.rearrange import ChannelShuffle, Reshape, Transpose
from rot180.layers.scale import ScalePixels
from rot180.layers.softmax import LogSoftmax, Softmax
from rot180.layers.softmax_cross_entropy import SoftmaxCrossEntropy
from rot180.layers.squared_error import SquaredError
from rot180.layers.table_convolution import TableConvolution
from rot180.layers.trainable_subsampling import TrainableSubsampling

__all__ = [
    "ELU",
    "Add",
    "Affine",
    "Arithmetic",
    "AveragePooling",
    "BatchNormalization",
    "ChannelShuffle",
    "Clip",
    "Concatenate",
    "Convolution",
    "Cost",
    "Dense",
    "Dropout",
    "Fan",
    "GlobalAveragePooling",
    "HardSigmoid",
    "HardSwish",
    "HighwayGate",
    "Identity",
    "Layer",
    "LeakyReLU",
    "LocalResponseNormalization",
    "LocallyConnected",
    "LogSoftmax",
    "Loss",
    "MaxPooling",
    "Pad",
    "Parameters",
    "ParametricReLU",
    "RadialBasisLoss",
    "RadialBasisOutput",
    "ReLU",
    "Reshape",
    "ScalePixels",
    "ScaledTanh",
    "Sigmoid",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Softplus",
    "SquaredError",
    "TableConvolution",
    "Tanh",
    "TrainableSubsampling",
    "Transpose",
    "Window",
]
