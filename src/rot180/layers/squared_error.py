"""Squared error with one-of-c targets: the loss of the 1980s and 90s."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array
from rot180.chance import Training
from rot180.errors import SettingError
from rot180.layers.layer import Loss, Parameters


class Saved(NamedTuple):
    difference: Array  # (N,K): y - t


@final
@dataclass(frozen=True)
class SquaredError(Loss):
    """L = mean_n 1/2 Σ_k (t[n,k] - y[n,k])²                                                                (B6)

    y (N,K), labels (N,) in 0..K-1 -> one number; no parameters; the same in training and inference.
    The target t is 1 at the label and `off_target` elsewhere: 0 behind a sigmoid, -1 behind a tanh (seed 002).
    Backward: ∂L/∂y = (y - t)/N.
    """

    off_target: float = 0.0

    def __post_init__(self) -> None:
        if self.off_target not in (0, -1):
            raise SettingError(f"off_target is {self.off_target}: choose 0 (behind a sigmoid) or -1 (behind a tanh)")

    def forward(
        self, x: Sequence[Array], parameters: Parameters, training: Training | None = None
    ) -> tuple[Array, Saved]:
        y, labels = x
        target = np.full_like(y, self.off_target)
        target[np.arange(len(y)), labels] = 1
        difference = y - target
        return np.asarray((difference**2).sum() / (2 * len(y)), y.dtype), Saved(difference)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> tuple[Array, None]:
        return saved.difference * (dy / len(saved.difference)), None

    def probabilities(self, scores: Array) -> Array:
        """Each score's height above the off-target as a share of all: the nearest to a probability it has."""
        height = np.clip(scores - self.off_target, 0, None) + np.finfo(scores.dtype).tiny
        return np.asarray(height / height.sum(axis=1, keepdims=True))
