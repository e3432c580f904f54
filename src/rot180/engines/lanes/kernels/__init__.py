"""The kernels: one file an operation, beside its definition in layers/. Importing them registers their lowerings."""

from rot180.engines.lanes.kernels import (
    activations,
    average_pooling,
    batch_normalization,
    bias,
    combine,
    convolution,
    copy,
    dense,
    dropout,
    max_pooling,
    scale,
    softmax,
    softmax_cross_entropy,
    squared_error,
)

__all__ = [
    "activations",
    "average_pooling",
    "batch_normalization",
    "bias",
    "combine",
    "convolution",
    "copy",
    "dense",
    "dropout",
    "max_pooling",
    "scale",
    "softmax",
    "softmax_cross_entropy",
    "squared_error",
]
