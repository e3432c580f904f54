"""rot180/chance.py for kernels: the same keys and the same bits, one 64-bit number at a time."""

import numpy as np

from rot180.chance import GOLDEN_GAMMA, MULTIPLIERS
from rot180.engines.lanes.jit import helper

GAMMA, FIRST_MULTIPLIER, SECOND_MULTIPLIER = int(GOLDEN_GAMMA), int(MULTIPLIERS[0]), int(MULTIPLIERS[1])
SIXTEEN_BITS = 65535


@helper
def mix(z: np.uint64) -> np.uint64:
    """SplitMix64's finaliser, as in chance.py."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(FIRST_MULTIPLIER)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(SECOND_MULTIPLIER)
    return z ^ (z >> np.uint64(31))


@helper
def extend(state: np.uint64, part: int) -> np.uint64:
    """The key of an address one part longer, as chance.key makes it."""
    return mix(state + np.uint64(GAMMA) + mix(np.uint64(part) + np.uint64(GAMMA)))
