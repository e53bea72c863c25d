"""The formal guarantee of DP-SGD, in epsilon and delta."""

import warnings

from dml.config import Experiment
from dml.privacy.defences import sampling

DELTA = 1e-3  # below one over the number of a client's images


def epsilon(multiplier: float, count: int, experiment: Experiment) -> float:
    """An upper bound of the privacy loss at `DELTA` of one round's local training on `count` images, for adding or
    removing one image: Renyi accounting by opacus. Folds are fresh each round, so no image pays twice.

    Raises ModuleNotFoundError without opacus.
    """
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    rate, steps = sampling(count, experiment)
    accountant.history = [(multiplier, rate, steps)]
    with warnings.catch_warnings():  # that another order might be tighter: true of very little noise, and no matter
        warnings.filterwarnings("ignore", "Optimal order")
        return float(accountant.get_epsilon(delta=DELTA))
