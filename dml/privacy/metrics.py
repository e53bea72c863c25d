"""How well an attack does: membership rates with intervals over targets, and the likeness of images.

Trials of one target share a model, so targets, not trials, are resampled. Targets of one game share a pool and each
other as shadows; that dependence is not in the intervals.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

RESAMPLES = 1000
BLOCK = 100  # resamples at a time
POWER = 0.8


@dataclass(frozen=True)
class Rate:
    """A value with its 95 % bootstrap interval over `n` targets; `trials` pairs of target and candidate."""

    value: float
    low: float
    high: float
    n: int
    trials: int
    error: float  # standard error

    @property
    def detects(self) -> float:
        """The AUC above 0.5 that a two-sided 5 % test with this standard error finds with a probability of 80 %."""
        return 0.5 + (norm.ppf(0.975) + norm.ppf(POWER)) * self.error


def weights(targets: int) -> np.ndarray:
    """How often each target is drawn in each bootstrap resample, [RESAMPLES, targets]; always the same draws."""
    drawn = np.random.default_rng(0).integers(targets, size=(RESAMPLES, targets))
    return np.stack([np.bincount(row, minlength=targets) for row in drawn]).astype(float)


def _rate(value: float, resampled: np.ndarray, members: np.ndarray) -> Rate:
    low, high = np.nanquantile(resampled, (0.025, 0.975))
    return Rate(float(value), float(low), float(high), len(members), members.size, float(np.nanstd(resampled)))


def auc(scores: np.ndarray, members: np.ndarray) -> Rate:
    """The area under the ROC curve of scores [T, N] for members bool [T, N], all targets pooled.

    Computed from the T x T matrix of how often members of one target beat non-members of another; ties count half.
    """
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
    return _rate(wins.sum() / pairs.sum(), resampled, members)


def tpr(scores: np.ndarray, members: np.ndarray, fpr: float = 0.01) -> Rate:
    """The share of members found at the threshold where at most `fpr` of the non-members are; targets pooled.

    NaN with fewer than 1 / `fpr` non-member trials.
    """
    if (~members).sum() * fpr < 1:
        return Rate(np.nan, np.nan, np.nan, len(members), members.size, np.nan)
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, inside = scores.ravel()[order], members.ravel()[order]
    owner = order // scores.shape[1]
    ends = np.append(ranked[1:] != ranked[:-1], True)  # a threshold takes all tied scores or none

    def at(drawn: np.ndarray) -> np.ndarray:
        here = drawn[:, owner]
        false, true = (np.cumsum(here * kind, axis=1) for kind in (~inside, inside))
        allowed = ends & (false <= fpr * false[:, -1:])
        return np.where(allowed, true, 0).max(1) / true[:, -1]

    drawn = weights(len(scores))
    resampled = np.concatenate([at(drawn[start : start + BLOCK]) for start in range(0, RESAMPLES, BLOCK)])
    return _rate(at(np.ones((1, len(scores))))[0], resampled, members)


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
