"""Dropout: in training, each value is left out with probability `rate`."""

from dataclasses import dataclass
from typing import NamedTuple, final

from rot180.arrays import Array, Shape, number
from rot180.chance import Training
from rot180.errors import SettingError
from rot180.layers.layer import Layer, Parameters


class Saved(NamedTuple):
    scale: Array | None  # shaped as x: 1/(1-rate) where kept, 0 where left out; None in inference


@final
@dataclass(frozen=True)
class Dropout(Layer):
    """y = x ⊙ m/(1-rate),  m = 1 with probability 1-rate, else 0                                           (B7)

    x of any shape -> y of the same; no parameters. In training values are left out and the rest enlarged, so that
    the mean stays; in inference y = x. Backward: dx = dy ⊙ m/(1-rate).
    The mask of image n is drawn from its own address (chance.py): the same bits on any engine and any number of
    threads. Srivastava et al. 2014; AlexNet drops half.
    """

    rate: float = 0.5

    linear = True

    def __post_init__(self) -> None:
        if not 0 <= number(self.rate, "dropout's rate") < 1:
            raise SettingError(f"dropout's rate is {self.rate}: choose a share of values from 0 to below 1")

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, x: Array, parameters: Parameters, training: Training | None = None) -> tuple[Array, Saved]:
        if training is None:
            return x, Saved(None)
        kept = training.uniform(len(x), x.shape[1:]) >= self.rate
        scale = kept * x.dtype.type(1 / (1 - self.rate))
        return x * scale, Saved(scale)

    def input_gradient(self, dy: Array, saved: Saved, gradients: Parameters) -> Array:
        return dy if saved.scale is None else dy * saved.scale
