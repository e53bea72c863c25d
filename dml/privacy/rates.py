"""How well an attack does: membership rates with intervals over targets, and the likeness of images.

Trials of one target share a model, so targets, not trials, are resampled. Targets of one game share a pool and each
other as shadows; that dependence is not in the intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
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


def none(targets: int) -> Rate:
    """The rate of an attack that had no trial."""
    return Rate(np.nan, np.nan, np.nan, targets, 0, np.nan)


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
    (value, resampled), (other, again) = (_aucs(values, members) for values in (scores, others))
    return _rate(value - other, resampled - again, members)


def _aucs(scores: np.ndarray, members: np.ndarray) -> tuple[float, np.ndarray]:
    """The area of all targets and of every resample: a sum over pairs of targets, so that no score is sorted twice."""
    targets = len(scores)
    wins = np.empty((targets, targets))
    for column, (scores_of_target, inside) in enumerate(zip(scores, members, strict=True)):
        outside = np.sort(scores_of_target[~inside])
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


def tpr(scores: np.ndarray, members: np.ndarray, fprs: Sequence[float] | np.ndarray = (0.01,)) -> list[Rate]:
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
        shares = [np.where(false <= fpr * false[:, -1:], true, 0).max(1) / true[:, -1] for fpr in fprs]
        return np.stack(shares, axis=1)

    drawn, values = weights(len(scores)), at(np.ones((1, len(scores))))[0]
    resampled = np.concatenate([at(drawn[start : start + BLOCK]) for start in range(0, RESAMPLES, BLOCK)])
    for column in np.flatnonzero(np.asarray(fprs) * (~members).sum() < 1):
        values[column] = resampled[:, column] = np.nan
    return [_rate(value, drawn_values, members) for value, drawn_values in zip(values, resampled.T, strict=True)]


def psnr(images: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of images [..., 3, H, W] in [0, 1]; broadcasts; infinite for equal images."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(((images - reference) ** 2).mean((-3, -2, -1)))


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity of two images [3, H, W] in [0, 1] (Wang et al. 2004): Gaussian windows of sigma 1.5 and 11
    pixels, constants (0.01, 0.03)^2; the mean over channels and over windows inside the image.
    """
    from skimage.metrics import structural_similarity  # here, not above: it takes a second, which few jobs need

    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pair = (picture.astype(np.float64) for picture in (image, reference))
    return float(structural_similarity(*pair, channel_axis=0, data_range=1.0, **window))
