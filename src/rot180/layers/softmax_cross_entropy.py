"""Softmax and cross-entropy in one: the loss whose gradient is output minus target."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, number
from rot180.chance import Training
from rot180.errors import SettingError
from rot180.layers.layer import Loss, Parameters
from rot180.layers.softmax import softmax


class Saved(NamedTuple):
    o: tuple[Array, ...]  # (N,K) probabilities of each head
    t: Array  # (N,K) targets


@final
@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """L = mean_n -Σ_k t[n,k] log o[n,k],  o = softmax(z)                                                   (B6)

    z (N,K), labels (N,) in 0..K-1 -> one number; no parameters; the same in training and inference. The target t is 1
    at the label and 0 elsewhere; with `smoothing` ε it is 1-ε+ε/K and ε/K, which keeps scores from growing for ever
    (Szegedy et al. 2016). With several heads L is the sum of their losses, each times its weight: 1, 0.3, 0.3 for
    GoogLeNet's (Szegedy et al. 2015). The first is the network's output, and it alone counts in evaluation.
    Backward: ∂L/∂z = (o - t)/N: o - 1 at the label, o elsewhere (seed 003). Softmax's slopes and the logarithm's
    cancel, which is why the two are one layer.
    """

    weights: tuple[float, ...] = (1.0,)
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not (isinstance(self.weights, tuple) and self.weights):
            raise SettingError(f"weights are {self.weights!r}: give a tuple with a number for each head")
        if any(number(weight, "a head's weight") < 0 for weight in self.weights) or self.weights[0] == 0:
            raise SettingError(f"weights are {self.weights}: none may be below 0, and the first not 0")
        if not 0 <= number(self.smoothing, "smoothing") < 1:
            raise SettingError(f"smoothing is {self.smoothing}: choose a share from 0 to below 1")

    @property
    def heads(self) -> int:
        return len(self.weights)

    @property
    def of_output(self) -> "SoftmaxCrossEntropy":
        return replace(self, weights=(1.0,))

    def forward(
        self, x: Sequence[Array], parameters: Parameters, training: Training | None = None
    ) -> tuple[Array, Saved]:
        *scores, labels = x
        classes, dtype = scores[0].shape[1], scores[0].dtype
        t = np.full(scores[0].shape, self.smoothing / classes, dtype)
        t[np.arange(len(t)), labels] += 1 - self.smoothing
        loss, o = np.zeros((), dtype), []
        for weight, z in zip(self.weights, scores, strict=True):
            shifted = z - z.max(axis=1, keepdims=True)
            log_o = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            loss = loss - weight * np.where(t > 0, t * log_o, 0).sum(axis=1).mean()  # 0 · log 0 = 0
            o.append(np.exp(log_o))
        return np.asarray(loss, dtype), Saved(tuple(o), t)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> tuple[Array | None, ...]:
        share = dy / len(saved.t)
        return *((o - saved.t) * (weight * share) for weight, o in zip(self.weights, saved.o, strict=True)), None

    def probabilities(self, scores: Array) -> Array:
        return softmax(scores)
