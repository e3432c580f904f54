"""The loss of LeNet-5's output layer: the right class's penalty shall fall, and those of the others rise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, number
from rot180.chance import Training
from rot180.layers.layer import Loss, Parameters
from rot180.layers.softmax import softmax


class Saved(NamedTuple):
    o: Array  # (N,K) probabilities; zeros where the others do not matter
    labels: Array  # (N,)


@final
@dataclass(frozen=True)
class RadialBasisLoss(Loss):
    """L = mean_n ( p[n, label n] + log(e^-j + Σ_k e^-p[n,k]) ),  p = -s the penalties                   (B6, C2)

    s (N,K), the scores of RadialBasisOutput, labels (N,) -> one number; no parameters; the same in training and
    inference. j, `rubbish`, is the penalty of a class for everything that is none of the others: penalties above j need
    not rise further. None: the right class's penalty alone, the first term (equation 8); with codes that could move
    they would then all become the same, fixed ones cannot. The paper gives no number for j.
    Backward: ∂L/∂s = (o - t)/N with o[k] = e^s[k]/(e^-j + Σ e^s), as for softmax; or -t/N. LeCun et al. 1998, eq. 8, 9.
    """

    rubbish: float | None = 10.0

    def __post_init__(self) -> None:
        if self.rubbish is not None:
            number(self.rubbish, "rubbish")

    def forward(
        self, x: Sequence[Array], parameters: Parameters, training: Training | None = None
    ) -> tuple[Array, Saved]:
        s, labels = x
        loss = -s[np.arange(len(s)), labels]
        if self.rubbish is None:
            return np.asarray(loss.mean(), s.dtype), Saved(np.zeros_like(s), labels)
        all_scores = self._with_rubbish(s)
        largest = all_scores.max(axis=1)
        loss = loss + largest + np.log(np.exp(all_scores - largest[:, None]).sum(axis=1))
        return np.asarray(loss.mean(), s.dtype), Saved(self.probabilities(s), labels)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> tuple[Array, None]:
        images = len(saved.o)
        ds = saved.o.copy()
        ds[np.arange(images), saved.labels] -= 1
        return ds * (dy / images), None

    def probabilities(self, scores: Array) -> Array:
        """What they leave of 1 is the rubbish class's, where there is one."""
        return softmax(scores) if self.rubbish is None else softmax(self._with_rubbish(scores))[:, :-1]

    def _with_rubbish(self, s: Array) -> Array:
        """(N,K) -> (N,K+1)."""
        return np.pad(s, ((0, 0), (0, 1)), constant_values=-float(self.rubbish or 0))
