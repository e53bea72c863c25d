"""What is measured while an arm runs: rows of the results. Nothing here is ever acted upon."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dml.arms.federation import Federation, Right
from dml.data.folds import split_fold
from dml.streams import SERVER, stream
from dml.training.clients import Client, correct, predict
from dml.training.metrics import disagreement, personal_accuracy, scores

LATE = 3  # rounds: what the last of them reach is less chance than the last one alone (data/analysis_plan.md)


def accuracy(fed: Federation, client: Client, fold: np.ndarray) -> float:
    """The share of a fold's training images that a client's model classifies right."""
    indices = fed.at(fold)
    return correct(predict(client, fed.train[indices]), fed.labels[indices]).float().mean().item()


def public_accuracy(fed: Federation, round_index: int) -> None:
    """Accuracy on the round's public fold, which no client has trained on before the refinement."""
    for client in fed.clients:
        value = accuracy(fed, client, fed.folds.public[round_index - 1])
        fed.record(round_index, client.index, "public accuracy", value)


def unseen_logits(fed: Federation, party: Client) -> Tensor:
    """A party's logits on the whole unseen set. A model is asked once: FedAvg's clients are one, and the last look at a
    sample that is everything is the report's.
    """
    own = party.parameters()
    for parameters, logits in fed.asked:
        if own.keys() == parameters.keys() and all(torch.equal(value, parameters[name]) for name, value in own.items()):
            return logits
    logits = predict(party, fed.unseen).cpu()
    fed.asked.append(({name: value.clone() for name, value in own.items()}, logits))
    del fed.asked[: -len(fed.clients) - 1]
    return logits


def sample_accuracy(fed: Federation, round_index: int, parties: Sequence[Client] | None = None) -> None:
    """Accuracy after the round on a sample of the unseen set, to draw curves, and after each of the `LATE` last rounds
    on all of it: reported, never acted upon.
    """
    count = min(fed.experiment.glance, len(fed.unseen))
    sample = torch.from_numpy(stream(fed.seed, SERVER, "glance").permutation(len(fed.unseen))[:count])
    parties = (parties or fed.clients) if count else ()
    for party in parties:
        if count == len(fed.unseen):
            right = correct(unseen_logits(fed, party), fed.unseen_labels)
        else:
            right = correct(predict(party, fed.unseen[sample.to(fed.device)]).cpu(), fed.unseen_labels[sample])
        fed.record(round_index, party.index, "unseen sample accuracy", right.float().mean().item())
    if parties and round_index > fed.experiment.rounds - LATE:
        late_accuracy(fed, round_index, parties)


def late_accuracy(fed: Federation, round_index: int, parties: Sequence[Client]) -> None:
    """Accuracy on the whole unseen set, of each party, and how many are right on each image."""
    right = torch.stack([correct(unseen_logits(fed, party), fed.unseen_labels) for party in parties])
    for party, share in zip(parties, right.double().mean(1).tolist(), strict=True):
        fed.record(round_index, party.index, "late unseen accuracy", share)
    fed.right.append(Right(round_index, len(parties), " ".join(map(str, right.sum(0).tolist()))))


def report(fed: Federation, parties: Sequence[Client] | None = None, share: float | None = None) -> list[Tensor]:
    """The one look at the whole unseen set, at the end; with each client's accuracy on its own images for the gap:
    "train" on the leading `share` of its private folds, which trained it, "validation" on the rest. Returns the
    logits on the unseen set, one tensor a party.
    """
    share = share or fed.experiment.train_share
    last, labels = fed.experiment.rounds, fed.unseen_labels.numpy()
    parties = parties or fed.clients
    logits = [unseen_logits(fed, party) for party in parties]
    for party, values in zip(parties, logits, strict=True):
        for metric, value in scores(values, labels).items():
            fed.record(last, party.index, f"unseen {metric}", value)
        if fed.experiment.skewed and party.index != SERVER:
            value = personal_accuracy(values, labels, fed.mixture(party))
            fed.record(last, party.index, "unseen personal accuracy", value)
    for party in parties if parties == fed.clients else ():
        folds = [split_fold(fed.private(round_index, party), share) for round_index in fed.rounds()]
        seen, held = (np.concatenate(part) for part in zip(*folds, strict=True))
        fed.record(last, party.index, "train accuracy", accuracy(fed, party, seen))
        fed.record(last, party.index, "validation accuracy", accuracy(fed, party, held))
    if len(parties) > 1:
        for party, value in zip(parties, disagreement(logits), strict=True):
            fed.record(last, party.index, "unseen disagreement", value)
    return logits
