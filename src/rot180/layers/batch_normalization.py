"""Batch normalization: each channel to zero mean and unit variance over the batch, then scaled and shifted."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from rot180.arrays import Array, Shape, number
from rot180.chance import Training
from rot180.errors import SettingError
from rot180.layers.layer import Cost, Layer, Parameters, columns, per_channel


class Saved(NamedTuple):
    normalized: Array  # x̂, shaped as x
    inverse_deviation: Array  # (C,)
    gamma: Array  # (C,)
    batch: tuple[Array, Array] | None  # mean and unbiased variance of the batch (C,); None in inference
    running: tuple[Array, Array]  # the running ones that came in (C,)


@final
@dataclass(frozen=True)
class BatchNormalization(Layer):
    """y = γ x̂ + β,  x̂ = (x - μ)/√(σ² + ε),  μ and σ² of each channel over images and pixels               (B7)

    x (N,C,H,W) or (N,D); γ, β (C,) -> y shaped as x. In training μ, σ² are the batch's, and the running ones move
    towards them by `momentum`; in inference the running ones are used, and the layer is a plain scaling.
    Backward, with M values a channel: dβ = Σ dy, dγ = Σ dy x̂, and, since every x moves μ and σ² too,
    dx = γ/√(σ²+ε) (dy - dβ/M - x̂ dγ/M). Ioffe and Szegedy 2015.
    """

    epsilon: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        if not (number(self.epsilon, "epsilon") > 0 and 0 < number(self.momentum, "momentum") <= 1):
            raise SettingError(
                f"batch normalization needs epsilon > 0 and 0 < momentum <= 1, not {self.epsilon} and {self.momentum}"
            )

    @property
    def initial_values(self) -> dict[str, float]:
        return {"gamma": 1.0, "beta": 0.0, "running_mean": 0.0, "running_variance": 1.0}

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"gamma": shape[:1], "beta": shape[:1]}

    def statistic_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"running_mean": shape[:1], "running_variance": shape[:1]}

    def cost(self, shape: Shape) -> Cost:
        values = int(np.prod(shape))
        return Cost(connections=2 * values, multiply_adds=values)

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        running = parameters["running_mean"], parameters["running_variance"]
        mean, variance = running
        batch = None
        if training:
            mean, variance = x.mean(axis=columns(x)), x.var(axis=columns(x))
            count = x.size // x.shape[1]
            batch = mean, variance * (count / max(count - 1, 1))
        inverse_deviation = 1 / np.sqrt(variance + self.epsilon)
        normalized = (x - per_channel(mean, x)) * per_channel(inverse_deviation, x)
        gamma = parameters["gamma"]
        y = per_channel(gamma, x) * normalized + per_channel(parameters["beta"], x)
        return y, Saved(normalized, inverse_deviation, gamma, batch, running)

    def parameter_gradients(self, dy: Array, saved: Saved) -> dict[str, Array]:
        over = columns(dy)
        return {"gamma": (dy * saved.normalized).sum(axis=over), "beta": dy.sum(axis=over)}

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        if saved.batch:
            count = dy.size // dy.shape[1]
            mean, slope = (per_channel(gradients[name] / count, dy) for name in ("beta", "gamma"))
            dy = dy - mean - saved.normalized * slope
        return dy * per_channel(saved.gamma * saved.inverse_deviation, dy)

    def new_statistics(self, saved: Saved) -> dict[str, Array]:
        if saved.batch is None:
            return {}
        old, new = saved.running, saved.batch
        mean, variance = (o + (n - o) * self.momentum for o, n in zip(old, new, strict=True))
        return {"running_mean": mean, "running_variance": variance}
