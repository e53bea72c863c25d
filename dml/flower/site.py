"""What one party holds: its own folds, those it was sent, and its state from one message to the next.

A party is a `Federation` of one client (or of the server alone). Images that it does not hold are not in it.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import Tensor

from dml import results
from dml.clients import Epoch
from dml.config import Experiment
from dml.data import Images, Split, require
from dml.federation import Federation, Row
from dml.files import DataError, replacing
from dml.folds import Folds, plan
from dml.messages import Examples
from dml.streams import SERVER, stream

Fold = tuple[Tensor, Tensor]  # uint8 [n, 3, size, size] and int64 labels [n]
NONE = np.zeros(0, np.int64)


def dealt(images: Images, experiment: Experiment, seed: int) -> tuple[Fold, list[list[Fold]], list[Fold]]:
    """A named data set dealt as in the reproduction: the pre-training fold, private [round][client], public [round]."""
    whole = plan(images.train.labels.numpy(), experiment, seed)
    private = [[_cut(images, fold) for fold in each] for each in whole.private]
    return _cut(images, whole.pretrain), private, [_cut(images, fold) for fold in whole.public]


def own(data: str, experiment: Experiment, seed: int, party: int, folds: int) -> tuple[Images, list[Fold]]:
    """A party's own folder, dealt into so many stratified folds. Raises DataError when a class has too few images."""
    images = results.images(data, replace(experiment, train_images=0, unseen_images=0))
    require(images, folds)
    rng, labels = stream(seed, party, "folds"), images.train.labels.numpy()
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in range(len(images.classes))]
    parts = zip(*(np.array_split(each, folds) for each in members), strict=True)
    return images, [_cut(images, rng.permutation(np.concatenate(part))) for part in parts]


def federation(
    experiment: Experiment,
    images: Images,
    seed: int,
    party: int,
    private: Sequence[Fold] = (),
    public: Sequence[Fold] = (),
    pretrain: Fold | None = None,
) -> Federation:
    """The federation of one party: a client's `private` folds, or the server's `pretrain` fold; the `public` folds."""
    folds = [*([pretrain] if pretrain else []), *private, *public]
    pixels = [fold[0] for fold in folds] or [images.train.images[:0]]
    labels = [fold[1] for fold in folds] or [images.train.labels[:0]]
    ends = np.cumsum([0, *map(len, labels)])
    spans = iter([np.arange(begin, end) for begin, end in pairwise(ends)])
    first = next(spans) if pretrain else NONE
    mine = [next(spans) for _ in private] or [NONE] * experiment.rounds
    dealt_to = tuple(tuple(fold if each == party else NONE for each in range(experiment.clients)) for fold in mine)
    held = Folds(first, dealt_to, tuple(next(spans) for _ in public))
    train = Split(torch.cat(pixels), torch.cat(labels), (), ())
    members = () if party == SERVER else (party,)
    return Federation(experiment, replace(images, train=train), seed, folds=held, members=members)


def fold_of(message: Examples) -> Fold:
    """A fold that was received."""
    return message.images, message.labels.long()


def save(fed: Federation, file: Path, **more) -> None:
    """Keep a client's model, optimiser, random states and record in a file; `more` are tensors, numbers or bytes."""
    (client,) = fed.clients
    state = {
        "model": client.model.state_dict(),
        "optimiser": client.optimiser.state_dict(),
        "streams": {purpose: each.bit_generator.state for purpose, each in client.streams.items()},
        "history": [asdict(epoch) for epoch in fed.history],
        "more": more,
    }
    write(state, file)


def restore(fed: Federation, file: Path) -> dict:
    """Put back what `save` kept, exactly; returns `more`. Raises DataError when there is nothing readable."""
    (client,), state = fed.clients, read(file)
    client.model.load_state_dict(state["model"])
    client.optimiser.load_state_dict(state["optimiser"])
    for purpose, each in client.streams.items():
        each.bit_generator.state = state["streams"][purpose]
    fed.history[:] = [Epoch(**epoch) for epoch in state["history"]]
    return state["more"]


def write(what: object, file: Path) -> None:
    """Keep plain data and tensors in a file, in one step."""
    with replacing(file) as part, part.open("wb") as opened:
        torch.save(what, opened)


def read(file: Path) -> object:
    """What `write` kept; nothing in it is executed. Raises DataError when there is nothing readable."""
    try:
        return torch.load(file, weights_only=True)
    except (OSError, RuntimeError, ValueError, UnpicklingError) as error:
        raise DataError(f"{file} cannot be read ({error}); the run has not begun at this site") from error


def rows_of(fed: Federation) -> list[list]:
    """The rows that were recorded, as JSON keeps them."""
    return [list(asdict(row).values()) for row in fed.rows]


def row(values: Sequence) -> Row:
    """A row that was received; raises ValueError or TypeError when it is none."""
    round, client, metric, value = values
    return Row(int(round), int(client), str(metric), float(value))


def _cut(images: Images, fold: np.ndarray) -> Fold:
    indices = torch.from_numpy(fold)
    return images.train.images[indices], images.train.labels[indices]
