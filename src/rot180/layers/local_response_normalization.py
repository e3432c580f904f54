"""Local response normalization: each value is damped by those of neighbouring maps at its pixel."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape, number, whole
from rot180.chance import Training
from rot180.errors import SettingError
from rot180.layers.layer import Cost, Layer, Parameters, maps


class Saved(NamedTuple):
    x: Array  # (N,C,H,W)
    d: Array  # (N,C,H,W): k + α Σ x²


@final
@dataclass(frozen=True)
class LocalResponseNormalization(Layer):
    """y[n,c,i,j] = x[n,c,i,j] / d^β,  d = k + α Σ_m x[n,m,i,j]²,  m = c-S/2 .. c+S/2 as far as it exists     (B7)

    x (N,C,H,W) -> y of the same shape; no parameters; the same in training and inference. S maps are summed; α stands
    before their sum, as in AlexNet's paper (PyTorch and Caffe put α/S there: their α is S times ours).
    Backward: x[c] is in its own numerator, and in the d of every neighbour m whose window it lies in:
    dx[c] = dy[c] d[c]^-β - 2αβ x[c] Σ_m dy[m] y[m]/d[m]. Raises ShapeError for anything but maps.
    Krizhevsky, Sutskever and Hinton 2012, section 3.3.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    def __post_init__(self) -> None:
        if whole(self.size, "size") % 2 == 0:
            raise SettingError(f"size is {self.size}: as many maps before as behind make it odd")
        if not (number(self.alpha, "alpha") >= 0 and number(self.beta, "beta") >= 0 and number(self.k, "k") > 0):
            raise SettingError(
                "local response normalization needs alpha >= 0, beta >= 0 and k > 0, "
                f"not {self.alpha}, {self.beta} and {self.k}"
            )

    def output_shape(self, shape: Shape) -> Shape:
        return maps(shape, "local response normalization")

    def cost(self, shape: Shape) -> Cost:
        channels, height, width = shape
        reach = self.size // 2
        seen = sum(min(c + reach, channels - 1) - max(c - reach, 0) + 1 for c in range(channels))
        return Cost(connections=height * width * seen, multiply_adds=height * width * (seen + 2 * channels))

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        d = self.k + self.alpha * self._sum(x * x)
        return x * d**-self.beta, Saved(x, d)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        x, d = saved
        power = d**-self.beta
        return dy * power - 2 * self.alpha * self.beta * x * self._sum(dy * x * power / d)

    def _sum(self, values: Array) -> Array:
        """Over each map and its neighbours: zeros before and behind, and a window along the maps."""
        reach = self.size // 2
        padded = np.pad(values, ((0, 0), (reach, reach), (0, 0), (0, 0)))
        return np.asarray(sum(padded[:, m : m + values.shape[1]] for m in range(self.size)))
