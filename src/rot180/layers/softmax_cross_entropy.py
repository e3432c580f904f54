"""Softmax and cross-entropy in one: the loss whose gradient is output minus target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array
from rot180.chance import Training
from rot180.layers.layer import Loss, Parameters
from rot180.layers.softmax import softmax


class Saved(NamedTuple):
    o: Array  # (N,K) probabilities
    labels: Array  # (N,)


@final
@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """L = mean_n -log o[n, label n],  o = softmax(z)                                                       (B6)

    z (N,K), labels (N,) in 0..K-1 -> one number; no parameters; the same in training and inference.
    Backward: ∂L/∂z = (o - t)/N, t the one-of-K target: o - 1 at the label, o elsewhere (seed 003). Softmax's
    slopes and the logarithm's cancel, which is why the two are one layer.
    """

    def forward(
        self, x: Sequence[Array], parameters: Parameters, training: Training | None = None
    ) -> tuple[Array, Saved]:
        z, labels = x
        shifted = z - z.max(axis=1, keepdims=True)
        log_o = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        loss = -log_o[np.arange(len(z)), labels].mean()
        return np.asarray(loss, z.dtype), Saved(np.exp(log_o), labels)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> tuple[Array, None]:
        images = len(saved.o)
        dz = saved.o.copy()
        dz[np.arange(images), saved.labels] -= 1
        return dz * (dy / images), None

    def probabilities(self, scores: Array) -> Array:
        return softmax(scores)
