"""DML and federated averaging under a rule; under the rule "mean" they would be the arms of dml/arms."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from dml.arms import messaging, record, steps
from dml.arms.catalogue import Arm
from dml.arms.federation import Federation
from dml.exchange.messages import Aggregate, Losses, Message, Predictions, Weights
from dml.hostile import rules
from dml.hostile.liars import flat, unflat
from dml.losses import contribution
from dml.streams import SERVER
from dml.training.clients import Fit

ONE_SUM = ("score", "greed", "experts")  # weights in the one sum; the other rules answer each client by itself
OUTPUT_RULES = (*ONE_SUM, "median", "trimmed mean", "geometric median", "filter", "krum", "multi-krum")
REFERENCED = ("norm bound", "centred clipping", "fltrust")  # need the last common model
WEIGHT_RULES = (*(rule for rule in rules.VECTOR if rule != "mean"), *REFERENCED)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trust(Message):
    """The weight [K] of every client in a sum, zero for who is not in it: goes down with the sum, so that a client can
    take its own contribution out.
    """

    weights: Tensor
    scalars: ClassVar[tuple[str, ...]] = ("round", "sender")


def check(arm: str, rule: str, clients: int, f: int) -> None:
    """Raises ValueError for a rule that an arm has not, or that cannot bear so many liars. A rule that answers each
    client of DML by itself has one row less: the client's own is left out.
    """
    known = WEIGHT_RULES if arm.startswith("fedavg") else OUTPUT_RULES
    if rule not in known:
        raise ValueError(f"rule {rule!r} of {arm}: choose one of {', '.join(('mean', *known))}")
    alone = not arm.startswith("fedavg") and rule not in ONE_SUM
    rules.allow(rule, clients - alone, f)


def guarded(arm: str, rule: str, f: int, clip: float = 0) -> Arm:
    """The arm "dml", "dml-peer-first", "fedavg" or "fedavg+public" under a rule that is told to expect f liars."""
    if arm.startswith("fedavg"):
        return partial(fedavg, rule=rule, f=f, public=arm == "fedavg+public")
    return partial(dml, rule=rule, f=f, clip=clip, form="peer-first" if arm == "dml-peer-first" else "student-first")


def dml(fed: Federation, rule: str, f: int, form: str = "student-first", clip: float = 0) -> Iterator[list[Fit]]:
    """Distributed mutual learning whose server does not believe everybody alike."""
    check("dml", rule, fed.experiment.clients, f)
    answer = Answer(fed, rule, f, form, clip or fed.experiment.clip)
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public=True)
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        received = messaging.upload(fed, (messaging.predictions(fed, each, round_index) for each in fed.clients))
        yield steps.refine(fed, round_index, form, answer(received) if len(received) > 1 else {})
        record.sample_accuracy(fed, round_index)
    record.report(fed)


class Answer:
    """The server's answer to a round's uploads, and what each client makes of it: its peers' table."""

    def __init__(self, fed: Federation, rule: str, f: int, form: str, clip: float):
        self.fed, self.rule, self.f, self.form, self.clip = fed, rule, f, form, clip
        self.weights = torch.ones(fed.experiment.clients, device=fed.device)  # over the rounds, of rule "experts"

    def contributions(self, received: list) -> dict[int, Tensor]:
        """What everyone who is believed adds, by client."""
        labels = messaging.public_labels(self.fed, received[0].round)
        return {said.sender: contribution(self.form, said.log_probabilities(labels, self.clip)) for said in received}

    def __call__(self, received: list[Losses | Predictions]) -> dict[int, Tensor]:
        if self.rule in ONE_SUM:
            total, trust = self.total(received)
            down, told = messaging.broadcast(self.fed, total), messaging.broadcast(self.fed, trust)
            peers = {i: without(own, i, down, told) for i, own in self.contributions(received).items()}
            return {i: table for i, table in peers.items() if table is not None}
        return {index: self.fed.post.carry(table, [index]).total for index, table in self.tables(received).items()}

    def total(self, received: list[Losses | Predictions]) -> tuple[Aggregate, Trust]:
        """The weighted sum, whose weights add up to the number of clients in it; and the weights."""
        shares, round_index = self.contributions(received), received[0].round
        clients = list(shares)
        weights = self.weights_of(received, torch.stack(list(shares.values())), clients)
        for index, weight in zip(clients, weights.tolist(), strict=True):
            self.fed.record(round_index, index, "weight", weight)
        total = torch.einsum("k,knc->nc", weights, torch.stack(list(shares.values())))
        everyone = torch.zeros_like(self.weights).index_put((torch.tensor(clients),), weights)
        about = {"round": round_index, "sender": SERVER}
        return Aggregate(total=total, clients=len(clients), **about), Trust(weights=everyone, **about)

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


def without(own: Tensor, index: int, down: Aggregate, trust: Trust) -> Tensor | None:
    """The peers' weighted mean: the client's own part leaves the sum. None when nobody else has a weight."""
    weight = trust.weights[index]
    others = down.clients - weight
    return (down.total - weight * own) / others if others > rules.SMALL * down.clients else None


def fedavg(fed: Federation, rule: str, f: int, public: bool = False) -> Iterator[list[Fit]]:
    """Federated averaging whose server makes the common model by a rule. `fltrust` trains the server's own update on
    the round's public fold.
    """
    check("fedavg", rule, fed.experiment.clients, f)
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public)
    common: Mapping[str, Tensor] = {name: value.clone() for name, value in fed.server.parameters().items()}
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        if public:
            yield steps.refine(fed, round_index)
        received = messaging.upload(fed, (messaging.weights(fed, client, round_index) for client in fed.clients))
        if rule == "fltrust":
            fed.server.load(common)
            yield steps.fit_server(fed, round_index, "global", fed.folds.public[round_index - 1])
        if received:
            x, centre = torch.stack([flat(said.values) for said in received]), flat(common)
            robust = combined(x, centre, flat(fed.server.parameters()), rule, f)
            down = messaging.broadcast(
                fed, Weights(round=round_index, sender=SERVER, values=unflat(robust, received[0].values))
            )
            common = down.values
            for client in fed.clients:
                client.load(common)
        record.sample_accuracy(fed, round_index, fed.clients[:1] if received else None)
    record.report(fed)


def combined(x: Tensor, centre: Tensor, root: Tensor, rule: str, f: int) -> Tensor:
    """The common model [D] of the clients' [n, D], from the last one and, for `fltrust`, the server's own."""
    if rule == "norm bound":
        return rules.norm_bound(x, centre)
    if rule == "centred clipping":  # no radius to tune: the median length of an update
        return rules.centred_clipping(x, centre, float(rules.median((x - centre).norm(dim=1))))
    if rule == "fltrust":
        return rules.fltrust(x, centre, root)
    return rules.VECTOR[rule](x, f)
