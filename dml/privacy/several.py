"""Federations of the membership game over several rounds, and every signal that an adversary reads off them.

The arms run as they are, with a tap on the wire; what is kept of a federation is a few thousand numbers. Signals of a
view are tensors by "<view>/<what>", for R rounds, K clients, N candidates and P public images:

- odds      [R, K, N]     log-odds of the candidates under each client's model of a round, or under the copy of it
- start     [R, N]        log-odds before the round, under the model that the round started from (weights only)
- copies    [C, N]        those of the candidates' near copies (`chosen.COPIES`) in the first round, the victim's
- cosine    [R, 2 L, K, N] of each candidate's gradient there with each client's update (`alignment.cosines`)
- whole     [K, N]        log-odds under one copy made of the tables of all rounds (predictions only)
- public    [R, P]        the victim's features of each round's public fold

Views of sums have K = 1: the mean of the clients that are left when C colluding peers take their own part out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dml.arms.catalogue import ARMS
from dml.arms.federation import Federation
from dml.exchange.messages import Message, Weights, decode
from dml.losses import log_probabilities
from dml.privacy.alignment import cosines
from dml.privacy.chosen import COPIES
from dml.privacy.game import VICTIM, Game
from dml.privacy.shadows import features, log_odds, pick
from dml.privacy.surrogate import TangentCopier, known_logits
from dml.privacy.views import Known, Tap
from dml.streams import SERVER
from dml.training.memory import carry_out

COLLUDING = (0, 1, 2, 3)  # peers that put their own messages together; with K - 1 the victim's own message is left
Values = dict[str, Tensor]


def run(arm: str, fed: Federation, rounds: int, watch: Callable[[Federation], None] | None = None) -> None:
    """Some rounds of an arm from the public model, up to the last message that tells of the victim. `watch` sees the
    federation when its clients have trained in the first round and are not refined yet.
    """
    for fits in ARMS[arm](fed):
        phase, now = fits[0].phase, fits[0].round
        if now > rounds or (now == rounds and phase in ("public", "global")):
            return
        if watch and now == 1 and phase in ("public", "global"):
            watch(fed)
        if phase != "pretrain":
            carry_out(fits)


def by_round(tap: Tap, device: torch.device) -> list[dict[int, Message]]:
    """The messages of a run: of each round, by sender."""
    rounds: dict[int, dict[int, Message]] = {}
    for data in tap.sent:
        message = decode(data, device)
        rounds.setdefault(message.round, {})[message.sender] = message
    return [rounds[number] for number in sorted(rounds)]


class Reader:
    """What an adversary prepares once for a game: candidates, public folds, and copiers of a model seen by tables."""

    def __init__(self, game: Game, device: torch.device):
        self.game, self.device, self.clients = game, device, game.experiment.clients
        self.images, self.labels = pick(game, game.pool, device)
        self.copies = {name: make(self.images) for name, make in COPIES.items()}
        self.public = [pick(game, fold, device) for fold in (game.public, *game.later)]
        self.known = [Known(game.experiment, len(game.images.classes), game.initial, *each) for each in self.public]
        everything = tuple(torch.cat(each) for each in zip(*self.public, strict=True))
        whole = Known(game.experiment, len(game.images.classes), game.initial, *everything)
        self.copiers = [TangentCopier(known, self.images) for known in self.known]
        self.of_copies = TangentCopier(self.known[0], torch.cat(list(self.copies.values())))
        self.whole = TangentCopier(whole, self.images)

    def weights(self, rounds: Sequence[dict[int, Message]]) -> dict[str, Tensor]:
        """FedAvg: the server's view of every client, and those of the sum less what colluding peers sent."""
        start = dict(self.game.initial)
        views: dict[str, list[dict[str, Any]]] = {}
        for number, sent in enumerate(rounds):
            uploads = {client: _values(sent[client]) for client in range(self.clients)}
            for colluding in COLLUDING:
                left = [uploads[client] for client in range(self.clients - colluding)]
                mean = {name: torch.stack([each[name] for each in left]).mean(0) for name in left[0]}
                uploads[self.clients + colluding] = mean
            signals = self._of_models(number, start, uploads)
            at = {"weights": list(range(self.clients))}
            at |= {summed("weights", colluding): [self.clients + colluding] for colluding in COLLUDING}
            for view, places in at.items():
                views.setdefault(view, []).append(_some(signals, places))
            start = _values(sent[SERVER])
        return _stacked(views)

    def partial(self, rounds: Sequence[dict[int, Message]]) -> dict[str, Tensor]:
        """Partial weights at the server: the layers that travel, and of the others what was last seen of the client."""
        shared, parts = dict(self.game.initial), []
        own = {client: dict(self.game.initial) for client in range(self.clients)}
        for number, sent in enumerate(rounds):
            uploads = {client: _values(sent[client]) for client in range(self.clients)}
            for client, values in uploads.items():
                own[client] |= values
            parts.append(_some(self._of_models(number, shared, own, uploads), list(range(self.clients))))
            if SERVER in sent:
                shared |= _values(sent[SERVER])
                for values in own.values():
                    values |= _values(sent[SERVER])
        return _stacked({"partial weights": parts})

    def predictions(self, rounds: Sequence[dict[int, Message]]) -> dict[str, Tensor]:
        """DML: the server's view, which is every peer's as published, and those of the sum less colluding peers."""
        tables: dict[str, list[list[Tensor]]] = {}
        for sent, known in zip(rounds, self.known, strict=True):
            own = [sent[client].log_probabilities(known.labels) for client in range(self.clients)]  # type: ignore[attr-defined]
            tables.setdefault("losses", []).append(own)
            for colluding in COLLUDING:
                left = torch.stack(own[: self.clients - colluding]).mean(0)
                tables.setdefault(summed("predictions", colluding), []).append([left])
        found = {}
        for view, by_client in tables.items():
            pairs = list(zip(self.copiers, by_client, strict=True))
            found[f"{view}/odds"] = torch.stack(
                [torch.stack([self._odds(copier.logits(table)) for table in each]) for copier, each in pairs]
            )
            together = [torch.cat(each) for each in zip(*by_client, strict=True)]
            found[f"{view}/whole"] = torch.stack([self._odds(self.whole.logits(table)) for table in together])
            found[f"{view}/copies"] = self.odds_of_copies(self.of_copies.logits(by_client[0][VICTIM]))
            found[f"{view}/public"] = torch.stack([features(each[VICTIM]) for each in by_client])
        return found

    def _odds(self, logits: Tensor) -> Tensor:
        return log_odds(log_probabilities(logits), self.labels)

    def odds_of_copies(self, logits: Tensor) -> Tensor:
        """Log-odds [C, N] from logits of all near copies, one kind after the other."""
        return torch.stack([self._odds(each) for each in logits.split(len(self.labels))])

    def _of_models(
        self, number: int, start: Values, models: dict[int, Values], sent: dict[int, Values] | None = None
    ) -> dict[str, Any]:
        """The signals of a round that started at `start` and of which the models of some clients are known."""
        known = self.known[number]
        moves = {
            client: {name: value - start[name] for name, value in values.items()}
            for client, values in (sent or models).items()
        }
        nets = [known.model(values) for values in models.values()]
        everything = torch.cat(list(self.copies.values()))
        asked = [self.odds_of_copies(known_logits(net, known, everything)) for net in nets] if number == 0 else []
        return {
            "copies": asked,
            "odds": torch.stack([self._odds(known_logits(net, known, self.images)) for net in nets]),
            "start": self._odds(known_logits(known.model(start), known, self.images)),
            "cosine": cosines(known.model(start), self.images, self.labels, moves),
            "public": torch.stack(
                [features(log_probabilities(known_logits(net, known, known.public))) for net in nets]
            ),
        }


def summed(what: str, colluding: int) -> str:
    """The name of a view of a sum: "sum of weights", "sum of weights - 1"."""
    return f"sum of {what} - {colluding}" if colluding else f"sum of {what}"


def _values(message: Message) -> Values:
    assert isinstance(message, Weights)
    return dict(message.values)


def _some(signals: dict[str, Any], places: list[int]) -> dict[str, Any]:
    """The signals of a round, of some of its models; of near copies and the public fold, those of the first of them."""
    kept = {"odds": signals["odds"][places], "start": signals["start"], "cosine": signals["cosine"][:, places]}
    first = {"copies": signals["copies"][places[0]]} if signals["copies"] else {}
    return kept | first | {"public": signals["public"][places[0]]}


def _stacked(views: dict[str, list[dict[str, Any]]]) -> dict[str, Tensor]:
    """Signals by name, the rounds as first dimension of those that every round has."""
    return {
        f"{view}/{what}": torch.stack([each[what] for each in parts]) if what in parts[-1] else parts[0][what]
        for view, parts in views.items()
        for what in parts[0]
    }
