"""Chance by address: the number drawn depends on where it is used, never on what was drawn before.

Element e of the stream at an address (seed, step, node, image, ...) is SplitMix64's e-th output,
started from a hash of the address. So an engine, any number of threads, a machine of a cluster or a
resumed run draws the same bits for the same place, in whatever order it works.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from rot180.arrays import Array, Shape

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd: SplitMix64's increment
MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
LARGEST_SEED = 2**63 - 1
FLOAT_BITS = 24  # as many as a float32 holds exactly


class Use(IntEnum):
    """What a stream is for: the first part of every address, so that no two uses share numbers."""

    INITIAL_PARAMETERS = 1
    SHUFFLE = 2
    SPLIT = 3
    AUGMENTATION = 4
    LAYER = 5
    GRADIENT_CHECK = 6
    BALANCE = 7
    CODES = 8


def mix(z: Array) -> Array:
    """SplitMix64's finaliser: every bit of the input moves every bit of the output."""
    z = (z ^ (z >> np.uint64(30))) * MULTIPLIERS[0]
    z = (z ^ (z >> np.uint64(27))) * MULTIPLIERS[1]
    return z ^ (z >> np.uint64(31))


def key(*address: int | Array) -> Array:
    """One 64-bit key from an address; an array among its parts gives an array of keys."""
    state = np.zeros((1,), np.uint64)
    for part in address:
        state = mix(state + GOLDEN_GAMMA + mix(np.atleast_1d(np.asarray(part)).astype(np.uint64) + GOLDEN_GAMMA))
    return state


def bits(keys: Array, count: int) -> Array:
    """`count` random 64-bit words for each key: (K,) -> (K, count)."""
    return mix(keys[:, None] + GOLDEN_GAMMA * np.arange(1, count + 1, dtype=np.uint64))


def uniform(keys: Array, count: int) -> Array:
    """Uniform float32 in [0, 1): (K,) -> (K, count)."""
    return (bits(keys, count) >> np.uint64(64 - FLOAT_BITS)).astype(np.float32) * np.float32(2.0**-FLOAT_BITS)


def normal(keys: Array, count: int) -> Array:
    """Standard normal float64 by Box and Muller's transform: (K,) -> (K, count)."""
    words = bits(keys, 2 * count) >> np.uint64(11)
    u, v = (words.astype(np.float64).reshape(len(keys), 2, count) * 2.0**-53).transpose(1, 0, 2)
    return np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)


def permutation(length: int, *address: int) -> Array:
    """A random order of range(length): indices sorted by their random words."""
    return np.argsort(bits(key(*address), length)[0], kind="stable")


@dataclass(frozen=True)
class Training:
    """The place of a training step; a layer that needs chance draws it from here.

    `step` counts updates from 0, `node` is the position in the graph, `first_image` the position in the
    batch of the first image at hand: who computes images 32 to 47 of a batch draws what one process that
    computes all of them would.
    """

    seed: int = 0
    step: int = 0
    node: int = 0
    first_image: int = 0

    def at_node(self, node: int) -> "Training":
        """The same step, at another node."""
        return replace(self, node=node)

    def uniform(self, images: int, shape: Shape) -> Array:
        """Uniform float32 in [0, 1) of shape (images, *shape), each image from its own address."""
        image = np.arange(self.first_image, self.first_image + images)
        keys = key(Use.LAYER, self.seed, self.step, self.node, image)
        return uniform(keys, int(np.prod(shape))).reshape(images, *shape)
