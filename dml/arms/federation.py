"""One seed's federation: its data, its parties, the wire between them, and the record of what happened.

It offers the steps that all arms share, so that an arm (`arms.py`) is only the order of these steps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dml.config import Experiment
from dml.data.folds import Folds, first, plan
from dml.data.images import Images
from dml.exchange.encodings import ANSWER
from dml.exchange.ledger import Post, Wire
from dml.exchange.messages import Examples, Losses, Message, MessageError, Predictions, Weights
from dml.losses import log_probabilities, model_loss
from dml.models import VisionNet, group
from dml.streams import SERVER, stream
from dml.training.clients import Client, Epoch, Fit, correct, predict
from dml.training.metrics import disagreement, scores


@dataclass(frozen=True)
class Row:
    """A row of the results: `round` 0 is before the first, `client` -1 the server or the whole federation."""

    round: int
    client: int
    metric: str
    value: float


@dataclass
class Federation:
    """Clients and a server on one device. `wire` carries every message of a round; a test can replace it by a bad one.

    `folds` are dealt from the training set unless given. `members` are the clients that live here, by default all K;
    a party of a real network (dml/flower) is a federation of one client, or of the server alone.
    """

    experiment: Experiment
    images: Images
    seed: int
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
    wire: Wire = lambda sender, data: data
    folds: Folds | None = None
    members: Sequence[int] | None = None
    rows: list[Row] = field(default_factory=list)
    history: list[Epoch] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def __post_init__(self):
        train, unseen = self.images.train, self.images.unseen
        self.folds = self.folds or plan(train.labels.numpy(), self.experiment, self.seed)
        self.train, self.labels = _rows_of_pixels(train.images, self.device), train.labels.to(self.device)
        self.unseen, self.unseen_labels = _rows_of_pixels(unseen.images, self.device), unseen.labels
        self.server = self._party(SERVER)
        everyone = range(self.experiment.clients)
        self.clients = [self._party(index) for index in (everyone if self.members is None else self.members)]
        self.post = Post(lambda sender, data: self.wire(sender, data), self.device)

    def _party(self, index: int) -> Client:
        weights = stream(self.seed, SERVER, "weights")  # the same for every party
        model = VisionNet(self.experiment.size, len(self.images.classes), weights)
        return Client(index, model.to(self.device), self.experiment, self.seed)

    # -- training steps: each returns the fits that an arm yields -------------------------------------------------

    def pretrain(self) -> list[Fit]:
        fold, _ = first(self.folds.pretrain, self.experiment.train_share)
        return self.fit_server(0, "pretrain", fold)

    def hand_out(self, public: bool = False) -> None:
        """The set-up, round 0 of the ledger: every client gets the server's model, and the `public` folds if the arm
        refines on them. Each has an optimiser of its own.
        """
        everyone = [client.index for client in self.clients]
        for message in [self.weights(self.server, 0), *(self.public_folds() if public else [])]:
            self.post.enter(message, message.encode(), everyone)
        for client in self.clients:
            client.load(self.server.parameters())

    def public_folds(self) -> list[Examples]:
        """The public folds as messages, each once."""
        return [self._examples(SERVER, fold) for fold in {id(fold): fold for fold in self.folds.public}.values()]

    def _examples(self, sender: int, fold: np.ndarray) -> Examples:
        train, indices = self.images.train, torch.from_numpy(fold)
        labels = train.labels[indices].to(torch.uint8)
        return Examples(round=0, sender=sender, images=train.images[indices], labels=labels)

    def keep_public(self) -> None:
        """One public fold, the first, for all rounds, so that predictions on it can be compared from round to round."""
        self.folds = replace(self.folds, public=self.folds.public[:1] * self.experiment.rounds)

    def rounds(self) -> range:
        return range(1, self.experiment.rounds + 1)

    def local(self, round: int, share: float | None = None) -> list[Fit]:
        """Each client on the first `share` of its private fold."""
        share = share or self.experiment.train_share
        return [
            self._fit(client, round, "local", first(self.private(round, client), share)[0]) for client in self.clients
        ]

    def refine(self, round: int, form: str | None = None, tables: Mapping[int, Tensor] | None = None) -> list[Fit]:
        """Each client on the round's public fold; with its peers' mean table where there is one."""
        tables, fold = tables or {}, self.folds.public[round - 1]
        return [
            self._fit(client, round, "public", fold, form if client.index in tables else None, tables.get(client.index))
            for client in self.clients
        ]

    def fit_server(self, round: int, phase: str, fold: np.ndarray) -> list[Fit]:
        """The server's own model on a fold."""
        return [self._fit(self.server, round, phase, fold)]

    def pool(self) -> list[Fit]:
        """The server's model, from its initial weights, on the first 80 % of the whole shuffled training set."""
        everything = np.concatenate((self.folds.pretrain, *self.folds.public, *sum(self.folds.private, ())))
        for client in self.clients:
            own = self._examples(client.index, np.concatenate([self.private(round, client) for round in self.rounds()]))
            self.post.enter(own, own.encode(), [SERVER])
        shuffled = stream(self.seed, SERVER, "pool").permutation(everything)
        return self.fit_server(0, "pooled", first(shuffled, self.experiment.train_share)[0])

    def _fit(self, client: Client, round: int, phase: str, fold: np.ndarray, form=None, table=None) -> Fit:
        indices = torch.from_numpy(fold).to(self.device)
        return Fit(client, round, phase, self.train[indices], self.labels[indices], form, table)

    def private(self, round: int, client: Client) -> np.ndarray:
        return self.folds.private[round - 1][client.index]

    def accuracy(self, client: Client, fold: np.ndarray) -> float:
        indices = torch.from_numpy(fold).to(self.device)
        return correct(predict(client, self.train[indices]), self.labels[indices]).float().mean().item()

    # -- messages -------------------------------------------------------------------------------------------------

    def public_labels(self, round: int) -> Tensor:
        return self.labels[torch.from_numpy(self.folds.public[round - 1]).to(self.device)]

    def predictions(self, client: Client, round: int) -> Losses | Predictions:
        """A client's upload in DML: losses for two classes, as published; class probabilities for more."""
        fold, labels = torch.from_numpy(self.folds.public[round - 1]).to(self.device), self.public_labels(round)
        log_p = log_probabilities(predict(client, self.train[fold]))
        if len(self.images.classes) == 2:
            return Losses(round=round, sender=client.index, losses=model_loss(log_p, labels))
        return Predictions(round=round, sender=client.index, probabilities=log_p.exp())

    def weights(self, client: Client, round: int, part: str = "all", accuracy: float = 1.0) -> Weights:
        """A party's parameters, or only its "shallow" or "deep" ones."""
        values = {name: value for name, value in client.parameters().items() if part in ("all", group(name))}
        return Weights(round=round, sender=client.index, values=values, group=part, accuracy=accuracy)

    def upload(self, messages: Iterable[Message], encoding: str = "float32") -> list[Message]:
        """What the server receives and believes, in the clients' order; a refused message leaves its client out."""
        received = []
        for message in messages:
            try:
                received.append(self.post.carry(message, [SERVER], encoding, partial(self.check, message)))
            except MessageError as refusal:
                self.refuse(message.round, message.sender, refusal)
        return received

    def broadcast(self, message: Message, encoding: str = "float32") -> Message:
        """What every client receives from the server, in the encoding that answers the one of the uploads."""
        return self.post.carry(message, [client.index for client in self.clients], ANSWER[encoding])

    def refuse(self, round: int, client: int, why: object) -> None:
        """Put on record that a client's message was not believed, or never came."""
        self.refusals.append(f"round {round}, client {client}: {why}")
        self.record(round, client, "refused", 1)

    def check(self, expected: Message, message: Message) -> None:
        """Raises MessageError; of `expected` only public facts are used: kind, round, sender and shapes."""
        for name in ("round", "sender"):
            if getattr(message, name) != getattr(expected, name):
                raise MessageError(f"{name} {getattr(message, name)}, expected {getattr(expected, name)}")
        if type(message) is not type(expected):
            raise MessageError(f"a {type(message).__name__} message, expected {type(expected).__name__}")
        if isinstance(message, Weights):
            if message.group != expected.group:
                raise MessageError(f"the {message.group} layers, expected {expected.group}")
            message.check(expected.values)
        else:
            message.check(len(self.folds.public[message.round - 1]), len(self.images.classes))

    # -- the record -----------------------------------------------------------------------------------------------

    def record(self, round: int, client: int, metric: str, value: float) -> None:
        self.rows.append(Row(round, client, metric, float(value)))

    def probe(self, round: int) -> None:
        """Accuracy on the round's public fold, which no client has trained on before the refinement."""
        for client in self.clients:
            self.record(round, client.index, "public accuracy", self.accuracy(client, self.folds.public[round - 1]))

    def glance(self, round: int, parties: list[Client] | None = None) -> None:
        """Accuracy after the round on a sample of the unseen set, to draw curves: reported, never acted upon."""
        count = min(self.experiment.glance, len(self.unseen))
        sample = torch.from_numpy(stream(self.seed, SERVER, "glance").permutation(len(self.unseen))[:count])
        for party in (parties or self.clients) if count else ():
            right = correct(predict(party, self.unseen[sample.to(self.device)]).cpu(), self.unseen_labels[sample])
            self.record(round, party.index, "unseen sample accuracy", right.float().mean().item())

    def report(self, parties: list[Client] | None = None, share: float | None = None) -> list[Tensor]:
        """The one look at the whole unseen set, at the end; with each client's accuracy on its own images for the gap:
        "train" on the leading `share` of its private folds, which trained it, "validation" on the rest. Returns the
        logits on the unseen set, one tensor a party.
        """
        share = share or self.experiment.train_share
        last, labels = self.experiment.rounds, self.unseen_labels.numpy()
        parties = parties or self.clients
        logits = [predict(party, self.unseen).cpu() for party in parties]
        for party, each in zip(parties, logits, strict=True):
            for metric, value in scores(each, labels).items():
                self.record(last, party.index, f"unseen {metric}", value)
        for party in parties if self.clients == parties else ():
            folds = [self.private(round, party) for round in self.rounds()]
            seen, held = zip(*(first(fold, share) for fold in folds), strict=True)
            self.record(last, party.index, "train accuracy", self.accuracy(party, np.concatenate(seen)))
            self.record(last, party.index, "validation accuracy", self.accuracy(party, np.concatenate(held)))
        if len(parties) > 1:
            for party, value in zip(parties, disagreement(logits), strict=True):
                self.record(last, party.index, "unseen disagreement", value)
        return logits


def _rows_of_pixels(images: Tensor, device: torch.device) -> Tensor:
    """uint8 [N, 3, H, W] as [N, H, W, 3], so that a batch of it is channels-last without another copy."""
    return images.permute(0, 2, 3, 1).contiguous().to(device)
