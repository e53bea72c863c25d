"""One client: its model, its optimiser, its randomness; and the plain loop that trains and evaluates it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dml.config import Experiment
from dml.losses import log_probabilities, logit_loss, model_loss, peer_loss
from dml.models import Net
from dml.streams import PURPOSES, stream

EVALUATION_BATCH = 128


class Client:
    """A party with a model. `index` is -1 for the server, which trains too in the asynchronous arm."""

    def __init__(self, index: int, model: Net, experiment: Experiment, seed: int):
        self.index, self.model, self.experiment = index, model, experiment
        self.optimiser = adam(model.parameters(), experiment)  # keeps its moments from round to round
        self.streams = {purpose: stream(seed, index, purpose) for purpose in PURPOSES}

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def parameters(self) -> dict[str, Tensor]:
        """What the model has learned, by name: its parameters, and of a user's model the statistics it keeps."""
        return {name: value.detach() for name, value in self._state().items() if value.is_floating_point()}

    def _state(self) -> dict[str, Tensor]:
        return dict(self.model.named_parameters()) | dict(self.model.named_buffers())

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Overwrite the named parameters; the optimiser keeps its state, as in the published code."""
        own = self._state()
        with torch.no_grad():
            for name, value in values.items():
                own[name].copy_(value)


@dataclass(frozen=True, eq=False)
class Fit:
    """One client's training on one fold: a request that an arm yields and an engine carries out.

    `images` are uint8 [n, size, size, 3], `labels` int64 [n]. With `table` (the peers' mean, [n, columns]) the loss is
    model loss + peer loss of `form`; without, the model loss alone. A `public` fit takes a fresh optimiser and fixed,
    nearly equal batches; any other keeps the client's optimiser and shuffles every epoch (both as published).
    Not `labelled`, the model loss is left out. `epochs` and `learning_rate` (of a public fit) replace the
    experiment's. `proximal` times half the squared distance from where the fit began is added (FedProx).
    Raises ValueError where nothing is left to learn from.
    """

    client: Client
    round: int
    phase: str  # "pretrain", "local", "public", "global" or "pooled"
    images: Tensor
    labels: Tensor
    form: str = ""
    table: Tensor | None = None
    labelled: bool = True
    epochs: int | None = None
    learning_rate: float | None = None
    proximal: float = 0.0

    def __post_init__(self):
        if not self.labelled and self.table is None:
            raise ValueError(f"client {self.client.index}, round {self.round}: neither labels nor peers to learn from")

    def optimiser(self, parameters: Iterable[Tensor]) -> torch.optim.Adam:
        """A fresh one."""
        return adam(parameters, self.client.experiment, self.learning_rate)

    @property
    def length(self) -> range:
        """The epochs, counted from 1."""
        return range(1, (self.epochs or self.client.experiment.epochs) + 1)

    @property
    def public(self) -> bool:
        return self.phase == "public"

    def batches(self) -> Iterator[tuple[Tensor, tuple]]:
        """One epoch: (indices, dropout masks) of each batch, drawn from the client's own streams."""
        client, count, size = self.client, len(self.labels), self.client.experiment.batch
        if self.public:
            cuts = np.array_split(np.arange(count), -(-count // size))
            dropout = client.streams["public dropout"]
        else:
            order = client.streams["local order"].permutation(count)
            cuts = np.split(order, range(size, count, size))
            dropout = client.streams["local dropout"]
        for cut in cuts:
            masks = client.model.dropout_masks(len(cut), dropout, client.device)
            yield torch.from_numpy(cut).to(client.device), masks


@dataclass(frozen=True)
class Epoch:
    """A row of the training history: loss and accuracy are means over the epoch's batches and images."""

    round: int
    phase: str
    epoch: int
    client: int
    loss: float
    accuracy: float


def adam(parameters, experiment: Experiment, learning_rate: float | None = None) -> torch.optim.Adam:
    rate = experiment.learning_rate if learning_rate is None else learning_rate
    return torch.optim.Adam(parameters, lr=rate, eps=experiment.epsilon, fused=True)


def to_float(images: Tensor) -> Tensor:
    """uint8 [..., size, size, 3] to float [..., 3, size, size] in [0, 1], channels-last on a CPU."""
    pixels = images.movedim(-1, -3).float().div_(255)
    return pixels.contiguous() if pixels.is_cuda else pixels  # in float32 either device has its faster layout


def objective(fit: Fit, logits: Tensor, labels: Tensor, table: Tensor | None) -> Tensor:
    """The loss of each image [..., n]: L_model where there are labels, plus L_KL when there are peers."""
    log_p = log_probabilities(logits.float())
    loss = model_loss(log_p, labels)  # first: gradients add up in this order
    if table is None:
        return loss
    peers = logit_loss(logits.float(), table) if fit.form == "logits" else peer_loss(fit.form, log_p, table)
    return loss + peers if fit.labelled else peers


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each image [..., n] is classified right; at exactly 0.5 class 0 wins, as `p > 0.5` does in Keras."""
    predicted = (logits[..., 0] > 0).long() if logits.shape[-1] == 1 else logits.argmax(-1)
    return predicted == labels


def fit_one(fit: Fit) -> list[Epoch]:
    """Train one client, one batch after the other: the reference of `tests/benchmarks/stacked.py`."""
    client, experiment = fit.client, fit.client.experiment
    parameters = list(client.model.parameters())
    optimiser = fit.optimiser(parameters) if fit.public else client.optimiser
    began = [parameter.detach().clone() for parameter in parameters] if fit.proximal else []
    history = []
    for epoch in fit.length:
        losses, right = [], []
        for indices, masks in fit.batches():
            labels = fit.labels[indices]
            with autocast(client.device, experiment):
                logits = client.model(to_float(fit.images[indices]), masks)
            table = None if fit.table is None else fit.table[indices]
            loss = objective(fit, logits, labels, table).mean()
            for now, then in zip(parameters, began, strict=False):
                loss = loss + fit.proximal / 2 * (now - then).square().sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
            right.append(correct(logits.detach(), labels))
        mean_loss, accuracy = torch.stack(losses).mean().item(), torch.cat(right).float().mean().item()
        history.append(Epoch(fit.round, fit.phase, epoch, client.index, mean_loss, accuracy))
    return history


@torch.no_grad()
def predict(client: Client, images: Tensor) -> Tensor:
    """Logits, float32 [n, 1] or [n, C], of uint8 images [n, size, size, 3], in large batches."""
    logits = []
    for batch in images.split(EVALUATION_BATCH):
        with autocast(client.device, client.experiment):
            logits.append(client.model(to_float(batch)).float())
    return torch.cat(logits)


def autocast(device: torch.device, experiment: Experiment):
    return torch.autocast(device.type, torch.bfloat16, enabled=experiment.precision == "bf16")
