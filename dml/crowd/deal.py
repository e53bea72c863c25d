"""Who gets which image among many clients: folds of one size whatever K, and a larger K only adds clients."""

import numpy as np

from dml.config import Experiment
from dml.data.folds import Folds
from dml.files import DataError
from dml.streams import SERVER, stream


def deal(labels: np.ndarray, experiment: Experiment, seed: int, images: int, kept: bool = True) -> Folds:
    """Folds of `images` images, as many of every class: one to pre-train, one public a round, then the clients' own.

    `labels` are int [N]. A client has one private fold and keeps it, or (`kept` false) a fresh one each round. Client k
    gets the same images whatever the number of clients, so arms in which nobody hears of anybody are run once for every
    K, and the first clients are a random sample that was drawn before the run. Raises DataError for too few images.
    """
    rng, rounds = stream(seed, SERVER, "folds"), experiment.rounds
    each = 1 if kept else rounds
    count, classes = 1 + rounds + experiment.clients * each, np.unique(labels)
    share = images // len(classes)
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in classes]
    if share < 1 or min(map(len, members)) < share * count:
        raise DataError(
            f"{count} folds of {images} images need {share * count} of every class, the rarest has "
            f"{min(map(len, members))}: use more images or fewer clients"
        )
    parts = [rows[: share * count].reshape(count, share) for rows in members]
    folds = [rng.permutation(fold) for fold in np.concatenate(parts, axis=1)]
    own = [folds[1 + rounds + client * each :][:each] for client in range(experiment.clients)]
    private = tuple(tuple(fold[index % each] for fold in own) for index in range(rounds))
    return Folds(folds[0], private, tuple(folds[1 : 1 + rounds]))
