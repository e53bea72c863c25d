"""Randomness without global state: one independent generator per (seed, client, purpose).

Because every purpose has a stream of its own, two arms that share a seed see the same initial weights, the same
folds, the same batch order and the same dropout masks in the steps they have in common: their difference is paired.
"""

import numpy as np

SERVER = -1  # the index of the one party that is not a client

PURPOSES = (
    *("folds", "weights", "local order", "local dropout", "public dropout", "pool", "game", "noise"),
    *("glance", "chosen", "shuffled", "skew", "pairs", "look"),
)


def stream(seed: int, client: int, purpose: str) -> np.random.Generator:
    """The generator of one party (`SERVER` or a client's index) for one purpose (one of `PURPOSES`)."""
    return np.random.default_rng([seed, client + 1, PURPOSES.index(purpose)])
