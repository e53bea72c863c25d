"""Attacks that join several signals: of several rounds, of loss and update, of several near copies.

`likelihood_ratio` is LiRA (Carlini et al. 2022, arXiv 2112.03570) for a vector of signals: Gaussians with one
covariance for all candidates. Where few shadows know a candidate, its own difference between members and others is
mostly noise, so that difference is taken to be the same for all; what stays the candidate's own is its level.

`stand_out` is FedMIA (Zhu et al. 2025, arXiv 2402.06289) for any signals: the other clients of the same federation are
sure not to have seen the victim's candidates, so no shadow is needed.
"""

import numpy as np
from scipy.stats import norm
from sklearn.covariance import ledoit_wolf

from dml.privacy.game import VICTIM

TINY = 1e-9  # of a standardised signal's variance


def likelihood_ratio(target: np.ndarray, shadows: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Scores [N] of a target's signals [F, N], from those of S shadows, [S, F, N], and what they trained on, [S, N]."""
    inside, outside = (_means(shadows, chosen) for chosen in (members, ~members))
    rest = shadows - np.where(members[:, None], inside, outside)
    scale = rest.std(axis=(0, 2), keepdims=True)[0] + 1e-12
    covariance, _ = ledoit_wolf(np.moveaxis(rest / scale, 1, 2).reshape(-1, rest.shape[1]), assume_centered=True)
    covariance += TINY * np.eye(len(covariance))  # all signals constant: nothing to tell
    direction = np.linalg.solve(covariance, ((inside - outside) / scale).mean(1))
    return direction @ ((target - (inside + outside) / 2) / scale)


def _means(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The mean of [S, F, N] over the chosen shadows of every candidate; over all of them where none is."""
    count = chosen.sum(0)
    total = np.where(chosen[:, None], values, 0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), values.mean(0))


def leave_one_out(signals: np.ndarray, members: np.ndarray, aims: np.ndarray | None = None) -> np.ndarray:
    """Scores [M, N] of `likelihood_ratio`, every federation of signals [M, F, N] against all the others. `aims`, when
    given, are attacked in the place of the federations themselves (a control).
    """
    others, targets = ~np.eye(len(members), dtype=bool), signals if aims is None else aims
    return np.stack([likelihood_ratio(targets[m], signals[others[m]], members[others[m]]) for m in range(len(members))])


def stand_out(signals: np.ndarray) -> np.ndarray:
    """Scores [M, N] from signals [M, F, K, N] of all clients: how far the victim's stand out from the others', as a
    one-tailed Gaussian probability with one variance a signal, summed over the signals.
    """
    others = np.delete(signals, VICTIM, axis=2)
    spread = np.sqrt(others.var(2, ddof=1).mean(-1, keepdims=True)) + 1e-12
    return norm.cdf((signals[:, :, VICTIM] - others.mean(2)) / spread).sum(1)
