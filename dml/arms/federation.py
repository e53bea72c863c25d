"""One seed's federation: its data, its parties, the wire between them, and what is kept of the run.

What an arm does with it stands in three rooms: what is trained (`steps`), what is said (`messaging`) and what is
measured (`record`). An arm is only the order of these.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dml.config import Experiment
from dml.data.folds import Folds, deal, mixture
from dml.data.images import Images
from dml.exchange.ledger import Post, Wire
from dml.models import Net
from dml.streams import SERVER, stream
from dml.training.clients import Client, Epoch
from dml.training.kinds import build


@dataclass(frozen=True)
class Row:
    """A row of the results: `round` 0 is before the first, `client` -1 the server or the whole federation."""

    round: int
    client: int
    metric: str
    value: float


@dataclass(frozen=True)
class Right:
    """Who is right where: of `models` models after a round, how many classify each unseen image right (text: a number
    an image, in the order of the unseen set).
    """

    round: int
    models: int
    right: str


@dataclass
class Federation:
    """Clients and a server on one device. The server has a model of every kind that clients have: `starters`, of which
    `server` is the first. `wire` carries every message of a round; a test can replace it by a bad one.

    `folds` are dealt from the training set unless given. `members` are the clients that live here, by default all K;
    a party of a real network (dml/flower) is a federation of one client, or of the server alone.
    """

    experiment: Experiment
    images: Images
    seed: int
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
    wire: Wire = lambda sender, data: data
    folds: Folds = None  # type: ignore[assignment]  # dealt below, unless given
    members: Sequence[int] | None = None
    rows: list[Row] = field(default_factory=list)
    history: list[Epoch] = field(default_factory=list)
    right: list[Right] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    asked: list[tuple[Mapping[str, Tensor], Tensor]] = field(default_factory=list)  # see `record.unseen_logits`

    def __post_init__(self) -> None:
        train, unseen = self.images.train, self.images.unseen
        self.folds = self.folds or deal(train.labels.numpy(), self.experiment, self.seed)
        if self.experiment.repainted:
            from dml.data import domains  # an annex

            self.images = domains.differ(self.images, self.folds, self.experiment, self.seed)
            train = self.images.train
        self.train, self.labels = _rows_of_pixels(train.images, self.device), train.labels.to(self.device)
        self.unseen, self.unseen_labels = _rows_of_pixels(unseen.images, self.device), unseen.labels
        kinds = self.experiment.models.split(",")
        self.starters = {kind: Client(SERVER, self.model(kind), self.experiment, self.seed) for kind in kinds}
        self.server = self.starters[kinds[0]]
        everyone = range(self.experiment.clients)
        members = everyone if self.members is None else self.members
        models = {index: deepcopy(self.starters[kinds[index % len(kinds)]].model) for index in members}
        self.clients = [Client(index, model, self.experiment, self.seed) for index, model in models.items()]
        self.post = Post(lambda sender, data: self.wire(sender, data), self.device)

    def model(self, kind: str, party: int = SERVER) -> Net:
        """A new model; the server's initial weights are the same for everybody, and other arms' too."""
        weights = stream(self.seed, party, "weights")
        model = build(kind, self.experiment.size, len(self.images.classes), weights).to(self.device)
        return model.to(memory_format=torch.contiguous_format) if self.device.type == "cuda" else model

    def groups(self) -> Iterator[tuple[Client, list[Client]]]:
        """Each kind of model: the server's, and the clients that have it."""
        for kind, starter in self.starters.items():
            yield starter, [client for client in self.clients if client.model.kind == kind]

    def mixture(self, client: Client) -> np.ndarray:
        """The share of each class in all of a client's private folds, [C]."""
        own = np.concatenate([self.private(round_index, client) for round_index in self.rounds()])
        return mixture(self.images.train.labels.numpy()[own], len(self.images.classes))

    def rounds(self) -> range:
        """The rounds, counted from 1."""
        return range(1, self.experiment.rounds + 1)

    @property
    def labelled(self) -> bool:
        """Whether the public images have labels that a client may see."""
        return self.experiment.public_fold != "unlabelled"

    def private(self, round_index: int, client: Client) -> np.ndarray:
        """A client's private fold of a round, as indices."""
        return self.folds.private[round_index - 1][client.index]

    def public(self, round_index: int) -> Tensor:
        """A round's public fold, as indices on the device."""
        return self.at(self.folds.public[round_index - 1])

    def at(self, fold: np.ndarray) -> Tensor:
        """A fold's indices on the device."""
        return torch.from_numpy(fold).to(self.device)

    def record(self, round_index: int, client: int, metric: str, value: float) -> None:
        """Keep one measured number."""
        self.rows.append(Row(round_index, client, metric, float(value)))


def _rows_of_pixels(images: Tensor, device: torch.device) -> Tensor:
    """uint8 [N, 3, H, W] as [N, H, W, 3], so that a batch of it is channels-last without another copy."""
    return images.permute(0, 2, 3, 1).contiguous().to(device)
