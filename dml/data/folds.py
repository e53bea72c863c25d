"""Who gets which image, and when: the paper's fresh, class-stratified folds."""

from dataclasses import dataclass

import numpy as np

from dml.config import Experiment
from dml.streams import SERVER, stream


@dataclass(frozen=True)
class Folds:
    """Indices into the training set; every fold is shuffled and disjoint from every other."""

    pretrain: np.ndarray
    private: tuple[tuple[np.ndarray, ...], ...]  # [round][client]
    public: tuple[np.ndarray, ...]  # [round]


def plan(labels: np.ndarray, experiment: Experiment, seed: int) -> Folds:
    """Deal the training set into (K + 1) R + 1 stratified folds, as the published notebooks do.

    `labels` are int [N]. Each class is shuffled and cut into as many nearly equal parts; part i of every class makes
    fold i, which is shuffled again, so that "the first 80 %" of a fold is a random 80 %.
    Raises ValueError when a class has fewer images than there are folds.
    """
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        if count < experiment.folds:
            raise ValueError(
                f"class {label} has {count} training images; {experiment.clients} clients over "
                f"{experiment.rounds} rounds need {experiment.folds} folds and so at least {experiment.folds} images"
            )
    folds = stratified(labels, experiment.folds, stream(seed, SERVER, "folds"))
    rounds = [folds[1 + r * (experiment.clients + 1) :][: experiment.clients + 1] for r in range(experiment.rounds)]
    return Folds(
        pretrain=folds[0],
        private=tuple(tuple(each[:-1]) for each in rounds),
        public=tuple(each[-1] for each in rounds),
    )


def deal(labels: np.ndarray, experiment: Experiment, seed: int) -> Folds:
    """The folds of an experiment: `plan`, or what dml/data/partition makes of it where the experiment is skewed."""
    folds = plan(labels, experiment, seed)
    if not experiment.skewed and experiment.public_fold != "skewed":
        return folds
    from dml.data import partition  # an annex

    return partition.skew(folds, labels, experiment, seed)


def mixture(labels: np.ndarray, classes: int) -> np.ndarray:
    """The share of each class among labels, [C]."""
    return np.bincount(labels, minlength=classes) / max(1, len(labels))


def stratified(labels: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """So many disjoint folds of nearly equal size and class balance, as indices, each shuffled."""
    classes = (rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels))
    parts = [np.array_split(members, count) for members in classes]
    return [rng.permutation(np.concatenate(part)) for part in zip(*parts, strict=True)]


def split_fold(fold: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The leading `share` of a fold, which trains, and the rest, which only validates (Keras' rounding: down)."""
    cut = int(len(fold) * share)
    return fold[:cut], fold[cut:]
