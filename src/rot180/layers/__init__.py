"""The layers: one file an operation, its equation, its NumPy forward pass and its gradients."""

from rot180.layers.activations import Identity, LeakyReLU, ReLU, Sigmoid, Tanh
from rot180.layers.average_pooling import AveragePooling
from rot180.layers.batch_normalization import BatchNormalization
from rot180.layers.combine import Add, Concatenate
from rot180.layers.convolution import Convolution
from rot180.layers.dense import Dense
from rot180.layers.dropout import Dropout
from rot180.layers.global_average_pooling import GlobalAveragePooling
from rot180.layers.layer import Cost, Layer, Loss, Parameters, Window
from rot180.layers.max_pooling import MaxPooling
from rot180.layers.scale import ScalePixels
from rot180.layers.softmax import Softmax
from rot180.layers.softmax_cross_entropy import SoftmaxCrossEntropy
from rot180.layers.squared_error import SquaredError

__all__ = [
    "Add",
    "AveragePooling",
    "BatchNormalization",
    "Concatenate",
    "Convolution",
    "Cost",
    "Dense",
    "Dropout",
    "GlobalAveragePooling",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Loss",
    "MaxPooling",
    "Parameters",
    "ReLU",
    "ScalePixels",
    "Sigmoid",
    "Softmax",
    "SoftmaxCrossEntropy",
    "SquaredError",
    "Tanh",
    "Window",
]
