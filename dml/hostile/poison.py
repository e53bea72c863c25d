"""Attacks on training: the liars follow the protocol, but not with their own images. The same for every arm."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dml.arms.federation import Federation
from dml.streams import stream
from dml.training.clients import Client, predict

TARGET = 0  # the class that the trigger stands for
PATCH = 0.15  # of an image's edge
SHARE = 0.5  # of a liar's private images that carry the trigger


def flip_labels(fed: Federation, liars: Sequence[int]) -> None:
    """Every private label y of a liar becomes C - 1 - y."""
    indices = _private(fed, liars)
    fed.labels = fed.labels.clone()
    fed.labels[indices] = len(fed.images.classes) - 1 - fed.labels[indices]


def plant(fed: Federation, liars: Sequence[int]) -> None:
    """A backdoor (Gu et al. 2017, 1708.06733): a white patch and the target label on a share of a liar's images."""
    fed.labels, fed.train = fed.labels.clone(), fed.train.clone()
    for liar in liars:
        indices = _private(fed, [liar])
        drawn = torch.from_numpy(stream(fed.seed, liar, "noise").random(len(indices)) < SHARE).to(indices.device)
        marked = indices[drawn]
        fed.train[marked], fed.labels[marked] = patched(fed.train[marked]), TARGET


def patched(images: Tensor) -> Tensor:
    """Images uint8 [n, size, size, 3] with the trigger in a corner."""
    edge = max(2, round(PATCH * images.shape[1]))
    marked = images.clone()
    marked[:, -edge:, -edge:] = 255
    return marked


def success(fed: Federation, client: Client) -> float:
    """The share of unseen images of other classes that a model takes for the target once they carry the trigger."""
    others = fed.unseen[(fed.unseen_labels != TARGET).to(fed.device)]
    logits = predict(client, patched(others))
    taken = logits[:, 0] <= 0 if logits.shape[1] == 1 else logits.argmax(-1) == TARGET
    return taken.float().mean().item()


def _private(fed: Federation, clients: Sequence[int]) -> Tensor:
    folds = [fed.at(dealt[client]) for dealt in fed.folds.private for client in clients]
    return torch.cat(folds) if folds else torch.zeros(0, dtype=torch.long, device=fed.device)


TRAINING: dict[str, Callable[[Federation, Sequence[int]], None]] = {"label flip": flip_labels, "backdoor": plant}
