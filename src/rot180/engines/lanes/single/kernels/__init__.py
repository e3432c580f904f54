"""The kernels for one image: one file an operation, beside its definition in layers/. Importing them registers them."""

from rot180.engines.lanes.single.kernels import (
    activations,
    average_pooling,
    batch_normalization,
    combine,
    convolution,
    highway_gate,
    local_response_normalization,
    locally_connected,
    max_pooling,
    radial_basis,
    scale,
    softmax,
    table_convolution,
    trainable_subsampling,
)

__all__ = [
    "activations",
    "average_pooling",
    "batch_normalization",
    "combine",
    "convolution",
    "highway_gate",
    "local_response_normalization",
    "locally_connected",
    "max_pooling",
    "radial_basis",
    "scale",
    "softmax",
    "table_convolution",
    "trainable_subsampling",
]
