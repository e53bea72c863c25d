"""What the parties of a federation train: each function returns the fits that an arm yields."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from dml.arms.federation import Federation
from dml.data.folds import split_fold
from dml.streams import SERVER, stream
from dml.training.clients import Client, Fit


def pretrain(fed: Federation) -> list[Fit]:
    """The server's models, from which all will start, on the fold for them."""
    fold, _ = split_fold(fed.folds.pretrain, fed.experiment.train_share)
    return [_fit(fed, starter, 0, "pretrain", fold) for starter in fed.starters.values()]


def local(fed: Federation, round_index: int, share: float | None = None, mixed: bool = False) -> list[Fit]:
    """Each client on the first `share` of its private fold; `mixed` with the round's public fold."""
    share = share or fed.experiment.train_share
    folds = {client: split_fold(fed.private(round_index, client), share)[0] for client in fed.clients}
    if mixed:
        _require_labels(fed)
        public = fed.folds.public[round_index - 1]
        folds = {client: np.concatenate((fold, public)) for client, fold in folds.items()}
    return [_fit(fed, client, round_index, "local", fold) for client, fold in folds.items()]


def refine(fed: Federation, round_index: int, form: str = "", tables: Mapping[int, Tensor] | None = None) -> list[Fit]:
    """Each client on the round's public fold; with its peers' mean table where there is one. Where images have no
    labels, who has no table has nothing to learn.
    """
    tables, fold = tables or {}, fed.folds.public[round_index - 1]
    fits = [
        _fit(fed, client, round_index, "public", fold, form if client.index in tables else "", tables.get(client.index))
        for client in fed.clients
        if fed.labelled or client.index in tables
    ]
    epochs, rate = fed.experiment.public_epochs, fed.experiment.public_rate
    return [replace(fit, labelled=fed.labelled, epochs=epochs, learning_rate=rate) for fit in fits]


def fit_server(fed: Federation, round_index: int, phase: str, fold: np.ndarray) -> list[Fit]:
    """The server's own model on a fold."""
    if phase == "global":
        _require_labels(fed)
    return [_fit(fed, fed.server, round_index, phase, fold)]


def pool(fed: Federation) -> list[Fit]:
    """The server's model, from its initial weights, on the first 80 % of the whole shuffled training set."""
    everything = np.concatenate((fed.folds.pretrain, *fed.folds.public, *sum(fed.folds.private, ())))
    shuffled = stream(fed.seed, SERVER, "pool").permutation(everything)
    return fit_server(fed, 0, "pooled", split_fold(shuffled, fed.experiment.train_share)[0])


def _require_labels(fed: Federation) -> None:
    if not fed.labelled:
        raise ValueError("public_fold='unlabelled': this arm trains on the labels of the public images")


def keep_public(fed: Federation) -> None:
    """One public fold, the first, for all rounds, so that predictions on it can be compared from round to round."""
    fed.folds = replace(fed.folds, public=fed.folds.public[:1] * fed.experiment.rounds)


def _fit(
    fed: Federation,
    client: Client,
    round_index: int,
    phase: str,
    fold: np.ndarray,
    form: str = "",
    table: Tensor | None = None,
) -> Fit:
    indices = fed.at(fold)
    return Fit(client, round_index, phase, fed.train[indices], fed.labels[indices], form, table)
