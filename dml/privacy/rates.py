"""How well an attack does: membership rates with intervals over targets, and the likeness of images.

Trials of one target share a model, so targets, not trials, are resampled. Targets of one game share a pool and each
other as shadows; that dependence is not in the intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

RESAMPLES = 1000
BLOCK = 100  # resamples at a time
POWER = 0.8
REACH = norm.ppf(0.975) + norm.ppf(POWER)  # standard errors that a two-sided 5 % test needs to find an effect so often


@dataclass(frozen=True)
class Rate:
    """A value with its 95 % bootstrap interval over `n` targets; `trials` pairs of target and candidate."""

    value: float
    low: float
    high: float
    n: int
    trials: int
    error: float  # standard error


@lru_cache
def weights(targets: int) -> np.ndarray:
    """How often each target is drawn in each bootstrap resample, [RESAMPLES, targets]; always the same draws."""
    drawn = np.random.default_rng(0).integers(targets, size=(RESAMPLES, targets))
    return np.stack([np.bincount(row, minlength=targets) for row in drawn]).astype(float)


def _rate(value: float, resampled: np.ndarray, members: np.ndarray) -> Rate:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Rate(float(value), float(low), float(high), len(members), members.size, float(np.std(resampled)))


def auc(scores: np.ndarray, members: np.ndarray) -> Rate:
    """The area under the ROC curve of scores [T, N] for members bool [T, N], all targets pooled; ties count half."""
    value, resampled = _aucs(scores, members)
    return _rate(value, resampled, members)


def auc_difference(scores: np.ndarray, others: np.ndarray, members: np.ndarray) -> Rate:
    """The area under the curve of some scores less that of others, for the same targets and the same resamples."""
    (value, resampled), (other, again) = (_aucs(each, members) for each in (scores, others))
    return _rate(value - other, resampled - again, members)


def _aucs(scores: np.ndarray, members: np.ndarray) -> tuple[float, np.ndarray]:
    """The area of all targets and of every resample: a sum over pairs of targets, so that no score is sorted twice."""
    targets = len(scores)
    wins = np.empty((targets, targets))
    for column, (each, inside) in enumerate(zip(scores, members, strict=True)):
        outside = np.sort(each[~inside])
        below = np.searchsorted(outside, scores, "left") + np.searchsorted(outside, scores, "right")
        wins[:, column] = np.where(members, below / 2, 0).sum(1)
    pairs = np.outer(members.sum(1), (~members).sum(1)).astype(float)
    drawn = weights(targets)
    resampled = np.einsum("bi,ij,bj->b", drawn, wins, drawn, optimize=True) / np.einsum(
        "bi,ij,bj->b", drawn, pairs, drawn, optimize=True
    )
    return wins.sum() / pairs.sum(), resampled


def area(scores: np.ndarray, members: np.ndarray) -> float:
    """The area under the ROC curve, all trials pooled, without an interval."""
    return float(roc_auc_score(members.ravel(), scores.ravel()))


def tpr(scores: np.ndarray, members: np.ndarray, fprs: Sequence[float] = (0.01,)) -> list[Rate]:
    """For each false positive rate: the share of members found at the threshold where at most so many of the
    non-members are; targets pooled. NaN for a rate below one in the number of non-member trials.
    """
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, inside = scores.ravel()[order], members.ravel()[order]
    owner = order // scores.shape[1]
    ends = np.append(ranked[1:] != ranked[:-1], True)  # a threshold takes all tied scores or none

    def at(drawn: np.ndarray) -> np.ndarray:
        here = drawn[:, owner]
        false, true = (np.cumsum(here * kind, axis=1) for kind in (~inside, inside))
        true = np.where(ends, true, 0)
        found = [np.where(false <= fpr * false[:, -1:], true, 0).max(1) / true[:, -1] for fpr in fprs]
        return np.stack(found, axis=1)

    drawn, values = weights(len(scores)), at(np.ones((1, len(scores))))[0]
    resampled = np.concatenate([at(drawn[start : start + BLOCK]) for start in range(0, RESAMPLES, BLOCK)])
    for column in np.flatnonzero(np.asarray(fprs) * (~members).sum() < 1):
        values[column] = resampled[:, column] = np.nan
    return [_rate(value, each, members) for value, each in zip(values, resampled.T, strict=True)]


def psnr(images: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of images [..., 3, H, W] in [0, 1]; broadcasts; infinite for equal images."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(((images - reference) ** 2).mean((-3, -2, -1)))


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity of two images [3, H, W] in [0, 1] (Wang et al. 2004): Gaussian windows of sigma 1.5 and 11
    pixels, constants (0.01, 0.03)^2; the mean over channels and over windows inside the image.
    """
    x, y = image.astype(np.float64), reference.astype(np.float64)

    def smooth(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, (0, 1.5, 1.5), radius=(0, 5, 5))

    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    both = smooth(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    found = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(found[:, 5:-5, 5:-5].mean())
