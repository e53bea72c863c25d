"""Clients that differ: in classes, in size, and from the public fold. Dealt exactly, whatever is asked for.

A client's class mixture is a Dirichlet row; the rows are scaled by turns to the clients' sizes and to the number of
images of each class (Sinkhorn) and rounded by largest remainder. So size and skew are separate knobs, every image is
dealt once, and no draw is ever rejected. A client keeps its mixture in all rounds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaincinv

from dml.config import Experiment
from dml.streams import SERVER, stream

if TYPE_CHECKING:
    from dml.data.folds import Folds

LEAST = 4  # images of a client in a round, however small it is
COMMON = 4.0  # a skewed public fold has so many times as many images of one class as of the next rarer one
STEPS = 10_000  # of Sinkhorn at most; rows of one class each take some hundreds


def skew(folds: Folds, labels: np.ndarray, experiment: Experiment, seed: int) -> Folds:
    """The published folds, skewed as the experiment says; the fold for pre-training stays (see `folds.deal`).

    `labels` are int [N]. Another alpha is the same draw, further apart: skews of one seed are paired.
    Raises ValueError when there are too few images for clients of different sizes.
    """
    rng = stream(seed, SERVER, "skew")
    clients, rounds, classes = experiment.clients, experiment.rounds, int(labels.max()) + 1
    draws, common, order = rng.random((2, clients, classes)), rng.permutation(classes), rng.permutation(len(labels))
    large = rng.random((2, clients, 1))
    if experiment.public_fold == "skewed":
        everything = np.concatenate((*folds.public, *sum(folds.private, ())))
        size = sum(map(len, folds.public))
        tilted = np.stack((np.log(COMMON) * common, np.zeros(classes)))
        public, private = _hand_out(labels, order, everything, tilted, np.array([size, len(everything) - size]))
        folds = replace(folds, public=_in_rounds(public, labels, rounds, rng))
    else:
        private = np.concatenate(sum(folds.private, ()))
    sizes = _sizes(len(private), large, experiment.size_alpha, LEAST * rounds)
    dealt = _hand_out(labels, order, private, log_dirichlet(experiment.label_alpha, draws), sizes)
    by_client = [_in_rounds(own, labels, rounds, rng) for own in dealt]
    return replace(folds, private=tuple(zip(*by_client, strict=True)))


def log_dirichlet(alpha: float | None, draws: np.ndarray) -> np.ndarray:
    """Rows of a Dirichlet distribution in logs, up to a constant each: [K, C] from uniform numbers [2, K, C].

    In logs, because at small alpha most shares are below the smallest float; alpha None is infinite, even rows.
    """
    if alpha is None:
        return np.zeros(draws.shape[1:])
    return np.log(gammaincinv(alpha + 1, draws[0])) + np.log(draws[1]) / alpha  # Gamma(a) is Gamma(a + 1) U^(1/a)


def counts(weights: np.ndarray, sizes: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Whole numbers [K, C] whose rows add up to `sizes` and columns to `totals`, as near to `weights` as that allows.

    `weights` are logs [K, C]; a row's and a column's factor are free. Raises ValueError when the sums differ.
    """
    if sizes.sum() != totals.sum():
        raise ValueError(f"{sizes.sum()} places for {totals.sum()} images")
    logs, table = weights.astype(float), np.zeros(weights.shape)
    for _ in range(STEPS):
        logs = logs + (np.log(sizes) - np.logaddexp.reduce(logs, 1))[:, None]
        table = np.exp(logs)
        if np.abs(table.sum(0) - totals).max() < 0.01:
            break
        logs = logs + np.log(totals) - np.logaddexp.reduce(logs, 0)
    table = table * np.minimum(1, totals / np.maximum(table.sum(0), 1e-300))
    whole = np.floor(table + 1e-9).astype(int)
    while (left := sizes - whole.sum(1)).any():  # what is left of rows is what is left of columns
        free = np.outer(left > 0, totals - whole.sum(0) > 0)
        whole[np.unravel_index(np.where(free, table - whole, -np.inf).argmax(), table.shape)] += 1
    return whole


def _sizes(total: int, draws: np.ndarray, alpha: float | None, least: int) -> np.ndarray:
    """How many images each of K clients gets, in all rounds: `least`, and a Dirichlet share of the rest."""
    spare = total - len(draws[0]) * least
    if spare < 0:
        raise ValueError(f"{total} private images, {least} at least for each client: use more images or fewer rounds")
    logs = log_dirichlet(alpha, draws)[:, 0]
    exact = spare * np.exp(logs - np.logaddexp.reduce(logs))
    whole = np.floor(exact + 1e-9).astype(int)
    whole[np.argsort(whole - exact, kind="stable")[: spare - whole.sum()]] += 1
    return least + whole


def _hand_out(labels: np.ndarray, order: np.ndarray, images: np.ndarray, weights: np.ndarray, sizes: np.ndarray):
    """Lists of images, one a row of `weights`, as indices: class by class in the common random order."""
    shuffled = order[np.isin(order, images)]
    totals = np.bincount(labels[images], minlength=weights.shape[1])
    cuts = counts(weights, sizes, totals).cumsum(0)[:-1]
    by_class = [np.split(shuffled[labels[shuffled] == c], cuts[:, c]) for c in range(weights.shape[1])]
    return [np.concatenate(parts) for parts in zip(*by_class, strict=True)]


def _in_rounds(own: np.ndarray, labels: np.ndarray, rounds: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """A party's images in as many folds of nearly equal size and the same mixture, each shuffled."""
    by_class = own[labels[own].argsort(kind="stable")]
    return tuple(rng.permutation(by_class[start::rounds]) for start in range(rounds))
