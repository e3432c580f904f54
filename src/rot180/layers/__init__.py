"""The layers: one file an operation, its equation, its NumPy forward pass and its gradients."""

from rot180.layers.activations import Identity, LeakyReLU, ReLU, ScaledTanh, Sigmoid, Tanh
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
from rot180.layers.radial_basis_loss import RadialBasisLoss
from rot180.layers.radial_basis_output import RadialBasisOutput
from rot180.layers.scale import ScalePixels
from rot180.layers.softmax import Softmax
from rot180.layers.softmax_cross_entropy import SoftmaxCrossEntropy
from rot180.layers.squared_error import SquaredError
from rot180.layers.table_convolution import TableConvolution
from rot180.layers.trainable_subsampling import TrainableSubsampling

__all__ = [
    "Add",
    "AveragePooling",
    "BatchNormalization",
    "Concatenate",
    "Convolution",
    "Cost",
    "Dense",
    "Dropout",
    "Fan",
    "GlobalAveragePooling",
    "HighwayGate",
    "Identity",
    "Layer",
    "LeakyReLU",
    "LocalResponseNormalization",
    "LocallyConnected",
    "Loss",
    "MaxPooling",
    "Parameters",
    "RadialBasisLoss",
    "RadialBasisOutput",
    "ReLU",
    "ScalePixels",
    "ScaledTanh",
    "Sigmoid",
    "Softmax",
    "SoftmaxCrossEntropy",
    "SquaredError",
    "TableConvolution",
    "Tanh",
    "TrainableSubsampling",
    "Window",
]
