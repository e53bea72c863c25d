"""DML and federated averaging under a rule; under the rule "mean" they would be the arms of dml/arms."""

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from dml.arms import messaging, record, steps
from dml.arms.catalogue import Arm
from dml.arms.federation import Federation
from dml.exchange.messages import Aggregate, Losses, Predictions, Weights
from dml.hostile import rules
from dml.hostile.liars import flat, unflat
from dml.hostile.messages import Weighted
from dml.losses import contribution
from dml.streams import SERVER
from dml.training.clients import Fit

ONE_SUM = ("score", "greed", "experts")  # weights in the one sum; the other rules answer each client by itself
OUTPUT_RULES = (*ONE_SUM, "median", "trimmed mean", "geometric median", "filter", "krum", "multi-krum")
REFERENCED = ("norm bound", "centred clipping", "fltrust")  # need the last common model
WEIGHT_RULES = (*(rule for rule in rules.VECTOR if rule != "mean"), *REFERENCED)


def check(arm: str, rule: str, clients: int, f: int) -> None:
    """Raises ValueError for a rule that an arm has not, or that cannot bear so many liars. A rule that answers each
    client of DML by itself has one row less: the client's own is left out.
    """
    known = WEIGHT_RULES if arm.startswith("fedavg") else OUTPUT_RULES
    if rule not in known:
        raise ValueError(f"rule {rule!r} of {arm}: choose one of {', '.join(('mean', *known))}")
    alone = not arm.startswith("fedavg") and rule not in ONE_SUM
    rules.allow(rule, clients - alone, f)


def guarded(arm: str, rule: str, f: int) -> Arm:
    """The arm "dml", "dml-peer-first", "fedavg" or "fedavg+public" under a rule that is told to expect f liars."""
    if arm.startswith("fedavg"):
        return partial(fedavg, rule=rule, f=f, public=arm == "fedavg+public")
    return partial(dml, rule=rule, f=f, form="peer-first" if arm == "dml-peer-first" else "student-first")


def dml(fed: Federation, rule: str, f: int, form: str = "student-first") -> Iterator[list[Fit]]:
    """Distributed mutual learning whose server does not believe everybody alike."""
    check("dml", rule, fed.experiment.clients, f)
    answer = Answer(fed, rule, f, form, fed.experiment.clip)
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public=True)
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        received = messaging.upload(fed, (messaging.predictions(fed, each, round_index) for each in fed.clients))
        yield steps.refine(fed, round_index, form, answer(received))
        record.sample_accuracy(fed, round_index)
    record.report(fed)


class Answer:
    """The server's answer to a round's uploads, and what each client makes of it: its peers' table. Where too few are
    believed for the rule there is none, and a client refines with the labels alone.
    """

    def __init__(self, fed: Federation, rule: str, f: int, form: str, clip: float):
        self.fed, self.rule, self.f, self.form, self.clip = fed, rule, f, form, clip
        self.weights = torch.ones(fed.experiment.clients, device=fed.device)  # over the rounds, of rule "experts"

    @property
    def alone(self) -> bool:
        """Whether every client gets an answer of its own."""
        return self.rule not in ONE_SUM

    def enough(self, received: list) -> bool:
        """Whether the rule can do with so many."""
        return len(received) > 1 and rules.bears(self.rule, len(received) - self.alone, self.f)

    def contributions(self, received: list) -> dict[int, Tensor]:
        """What everyone who is believed adds, by client."""
        labels = messaging.public_labels(self.fed, received[0].round)
        return {said.sender: contribution(self.form, said.log_probabilities(labels, self.clip)) for said in received}

    def __call__(self, received: list[Losses | Predictions]) -> dict[int, Tensor]:
        if not self.enough(received):
            return {}
        if not self.alone:
            down = messaging.broadcast(self.fed, self.total(received))
            peers = {index: down.without(own, index) for index, own in self.contributions(received).items()}
            return {index: table for index, table in peers.items() if table is not None}
        return {index: self.fed.post.carry(table, [index]).total for index, table in self.tables(received).items()}

    def total(self, received: list[Losses | Predictions]) -> Weighted:
        """The weighted sum."""
        shares, round_index = self.contributions(received), received[0].round
        clients = list(shares)
        weights = self.weights_of(received, torch.stack(list(shares.values())), clients)
        for index, weight in zip(clients, weights.tolist(), strict=True):
            self.fed.record(round_index, index, "weight", weight)
        total = torch.einsum("k,knc->nc", weights, torch.stack(list(shares.values())))
        everyone = torch.zeros_like(self.weights).index_put((torch.tensor(clients),), weights)
        return Weighted(round=round_index, sender=SERVER, total=total, weights=everyone, clients=len(clients))

    def weights_of(self, received: list, shares: Tensor, clients: list[int]) -> Tensor:
        """The rule's weights [n], of sum n."""
        if self.rule == "experts":
            weights = rules.experts(shares.flatten(1), self.weights[clients])
            self.weights[clients] = weights
            return weights
        labels = messaging.public_labels(self.fed, received[0].round)
        tables = torch.stack([said.log_probabilities(labels, self.clip) for said in received])
        losses = -tables.gather(-1, labels.expand(len(tables), -1).unsqueeze(-1)).mean((1, 2))
        return rules.score(losses) if self.rule == "score" else rules.greed(losses, self.f)

    def tables(self, received: list[Losses | Predictions]) -> dict[int, Aggregate]:
        """One robust table for each client, of its peers alone."""
        shares = self.contributions(received)
        made = {}
        for index in shares:
            peers = torch.stack([share for other, share in shares.items() if other != index])
            robust = rules.VECTOR[self.rule](peers.flatten(1), self.f).reshape(peers.shape[1:])
            made[index] = Aggregate(round=received[0].round, sender=SERVER, total=robust, clients=1)
        return made


def fedavg(fed: Federation, rule: str, f: int, public: bool = False) -> Iterator[list[Fit]]:
    """Federated averaging whose server makes the common model by a rule. `fltrust` trains the server's own update on
    the round's public fold.
    """
    check("fedavg", rule, fed.experiment.clients, f)
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public)
    combine = Combiner(fed, rule, f)
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        if public:
            yield steps.refine(fed, round_index)
        received = messaging.upload(fed, (messaging.weights(fed, client, round_index) for client in fed.clients))
        if rule == "fltrust":
            fed.server.load(combine.common)
            yield steps.fit_server(fed, round_index, "global", fed.folds.public[round_index - 1])
        if values := combine(received):
            down = messaging.broadcast(fed, Weights(round=round_index, sender=SERVER, values=values))
            for client in fed.clients:
                client.load(down.values)
        record.sample_accuracy(fed, round_index, fed.clients[:1] if values else None)
    record.report(fed)


class Combiner:
    """Makes the common model of all by a rule; None when too few are believed for it. `common` is the last one."""

    def __init__(self, fed: Federation, rule: str, f: int):
        self.fed, self.rule, self.f = fed, rule, f
        self.told: dict[str, Tensor] = {}

    @property
    def common(self) -> Mapping[str, Tensor]:
        """The last common model: at first the server's, which `fltrust` trains later."""
        if not self.told:
            self.told = {name: value.clone() for name, value in self.fed.server.parameters().items()}
        return self.told

    def __call__(self, received: list[Weights]) -> dict[str, Tensor] | None:
        centre = flat(self.common)
        if not received or not rules.bears(self.rule, len(received), self.f):
            return None
        x = torch.stack([flat(said.values) for said in received])
        self.told = unflat(self._combined(x, centre), received[0].values)
        return self.told

    def _combined(self, x: Tensor, centre: Tensor) -> Tensor:
        """The common model [D] of the clients' [n, D]."""
        if self.rule == "norm bound":
            return rules.norm_bound(x, centre)
        if self.rule == "centred clipping":  # no radius to tune: the median length of an update
            return rules.centred_clipping(x, centre, float(rules.median((x - centre).norm(dim=1))))
        if self.rule == "fltrust":
            return rules.fltrust(x, centre, flat(self.fed.server.parameters()))
        return rules.VECTOR[self.rule](x, self.f)
