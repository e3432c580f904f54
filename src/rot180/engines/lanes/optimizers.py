"""Optimisers, compiled: the rules of rot180/optimizers.py on vectors of the parameters.

P holds the parameters, G the gradient, A the optimiser's memory, one slot behind the other. Each rule runs twice. The
first time it stores nothing but, in S, 0 or NaN: whether all that it would leave is finite. Only where that is so for
all threads does the second time store, so that an update that goes wrong has changed nothing, and nobody need keep a
copy of what it would have changed.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.engines.lanes.jit import Kernel, kernel
from rot180.engines.lanes.simd import LANES, broadcast, fma, load, square_root, store
from rot180.optimizers import SGD, Adam, AdamW, Optimizer

PIECE = 128  # vectors that a thread updates at a time: they stay in its nearest cache from the first run to the second


class SGDRow(NamedTuple):
    """One update of SGD, of vectors with or without weight decay."""

    storing: int
    rate: float
    decay: float
    momentum: float
    nesterov: int


@kernel(SGDRow)
def sgd(P: Array, G: Array, A: Array, S: Array, row: SGDRow, first: int, last: int) -> None:
    """g = G + λ p, v <- m v + g, p <- p - η v, or with Nesterov's p - η (g + m v); a unit: a vector."""
    rate, decay, momentum = broadcast(row.rate), broadcast(row.decay), broadcast(row.momentum)
    wrong = load(S, 0)
    for k in range(first * LANES, last * LANES, LANES):
        parameter = load(P, k)
        gradient = fma(decay, parameter, load(G, k))
        velocity = fma(momentum, load(A, k), gradient)
        step = velocity
        if row.nesterov:
            step = fma(momentum, velocity, gradient)
        moved = parameter - step * rate
        if row.storing:
            store(A, k, velocity)
            store(P, k, moved)
        else:
            wrong += (moved - moved) + (velocity - velocity)  # NaN where one is infinite
    store(S, 0, wrong)


class AdamRow(NamedTuple):
    """The same of Adam or AdamW."""

    storing: int
    rate: float  # η / (1 - β1^t)
    second: float  # √(v̂/v)
    decay: float  # in the gradient
    kept: float  # 1 - η λ: what decay beside the gradient leaves
    beta1: float
    beta2: float
    rest1: float  # 1 - β1
    rest2: float
    epsilon: float
    size: int  # floats from a slot of the memory to the next


@kernel(AdamRow)
def adam(P: Array, G: Array, A: Array, S: Array, row: AdamRow, first: int, last: int) -> None:
    """g = G + λ p, m <- β1 m + (1 - β1) g, v <- β2 v + (1 - β2) g², p <- kept p - η m̂ / (√v̂ + ε); a unit: a vector."""
    beta1, beta2, rest1, rest2 = broadcast(row.beta1), broadcast(row.beta2), broadcast(row.rest1), broadcast(row.rest2)
    wrong = load(S, 0)
    for k in range(first * LANES, last * LANES, LANES):
        parameter = load(P, k)
        gradient = fma(broadcast(row.decay), parameter, load(G, k))
        mean = fma(beta1, load(A, k), rest1 * gradient)
        square = fma(beta2, load(A, row.size + k), rest2 * gradient * gradient)
        step = mean * row.rate / fma(square_root(square), broadcast(row.second), broadcast(row.epsilon))
        moved = parameter * row.kept - step
        if row.storing:
            store(A, k, mean)
            store(A, row.size + k, square)
            store(P, k, moved)
        else:
            wrong += (moved - moved) + (square - square)
    store(S, 0, wrong)


class AverageRow(NamedTuple):
    """The weight of the newest parameters."""

    weight: float


@kernel(AverageRow)
def average(P: Array, G: Array, A: Array, S: Array, row: AverageRow, first: int, last: int) -> None:  # noqa: ARG001
    """a <- a + w (p - a), the average in A; a unit: a vector."""
    weight = broadcast(row.weight)
    for k in range(first * LANES, last * LANES, LANES):
        kept = load(A, k)
        store(A, k, fma(weight, load(P, k) - kept, kept))


# --- from settings to records ----------------------------------------------------------------------------------------

STORING, DECAYED = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])  # the four records of an update


def _sgd_columns(rule: SGD, rates: Array, _steps: Array, _size: int) -> dict[str, Any]:
    return {
        "rate": rates,
        "decay": rule.weight_decay * DECAYED,
        "momentum": rule.momentum,
        "nesterov": int(rule.nesterov),
    }


def _adam_columns(rule: Adam, rates: Array, steps: Array, size: int) -> dict[str, Any]:
    corrections = np.array([rule.corrections(int(step)) for step in steps[:, 0]]).reshape(-1, 2)
    decay = rule.weight_decay * DECAYED
    return {
        "rate": rates * corrections[:, :1],
        "second": corrections[:, 1:],
        "decay": 0.0 if rule.decoupled else decay,
        "kept": 1 - rates * decay if rule.decoupled else 1.0,
        "beta1": rule.beta1,
        "beta2": rule.beta2,
        "rest1": 1 - rule.beta1,
        "rest2": 1 - rule.beta2,
        "epsilon": rule.epsilon,
        "size": size,
    }


UPDATES: dict[type[Optimizer], tuple[Kernel[Any], Callable[..., dict[str, Any]]]] = {
    SGD: (sgd, _sgd_columns),
    Adam: (adam, _adam_columns),
    AdamW: (adam, _adam_columns),
}
"""For each rule: its kernel, and what its records hold, by (rule, rates (n,1), steps (n,1), size)."""


def records(rule: Optimizer, rates: Array, step: int, size: int) -> Array:
    """(updates, 4) records, [2 · storing + decayed] of each update; the first one's number, from 1, is `step`."""
    its_kernel, columns = UPDATES[type(rule)]
    table = np.zeros((len(rates), 4), its_kernel.row)
    table["storing"] = STORING
    for name, column in columns(rule, rates[:, None], step + np.arange(len(rates))[:, None], size).items():
        table[name] = column
    return table


def pieces(decayed: Sequence[slice], size: int) -> Array:
    """(n, 3): all vectors of the parameters in pieces (first, last, whether weight decay acts)."""
    found, end = [], 0
    for part in (*decayed, slice(size, size)):
        for start, stop, decays in ((end, part.start, 0), (part.start, part.stop, 1)):
            first, last = start // LANES, -(-stop // LANES)
            found += [(k, min(k + PIECE, last), decays) for k in range(first, last, PIECE)]
        end = part.stop
    return np.array(found, np.int64).reshape(-1, 3)
