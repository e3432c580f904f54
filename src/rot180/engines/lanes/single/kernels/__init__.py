"""The kernels for one image: one file an operation, beside its definition in layers/. Importing them registers them."""

from rot180.engines.lanes.single.kernels import (
    activations,
    average_pooling,
    batch_normalization,
    combine,
    convolution,
    max_pooling,
    scale,
    softmax,
)

__all__ = [
    "activations",
    "average_pooling",
    "batch_normalization",
    "combine",
    "convolution",
    "max_pooling",
    "scale",
    "softmax",
]
