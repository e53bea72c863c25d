"""The arms among many clients. With everybody in every round they are those of dml/arms, bit for bit (a test).

What differs: who is absent keeps its old model and says nothing; nobody forwards anything, there is one sum.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from dml.arms import messaging, steps
from dml.arms.outputs import smoothing
from dml.crowd.federation import Crowd
from dml.exchange.messages import Losses, Predictions, Weights
from dml.exchange.topologies import add_up, peers_of
from dml.streams import SERVER
from dml.training.clients import Client, Fit, adam
from dml.training.memory import carry_out

FORM = "student-first"
Said = Mapping[int, Losses | Predictions]  # what clients sent in a round, by client
Tables = dict[int, Tensor]  # of each client, what it learns from beside the labels
Arm = Callable[[Crowd], Iterator[list[Fit]]]


def run(arm: Arm, crowd: Crowd) -> None:
    """Carry out an arm, as `arms.catalogue.run` does; rows and history are left in the crowd."""
    for fits in arm(crowd):
        for history in carry_out(fits):
            crowd.history.extend(history)


def begin(crowd: Crowd, public: bool = True, own_start: bool = False) -> Iterator[list[Fit]]:
    """The set-up: everybody gets one pre-trained model, or (`own_start`) pre-trains its own from its own weights."""
    yield steps.pretrain(crowd)
    crowd.own_start = own_start
    crowd.hand_out(not own_start, public)
    for clients in crowd.turns(0) if own_start else ():
        (fit,) = steps.pretrain(crowd)
        yield [replace(fit, client=client) for client in clients]
        for client in clients:
            client.optimiser = adam(client.model.parameters(), crowd.experiment)  # as fresh as with a common start


def refined(crowd: Crowd, peers: Callable[[Crowd, int, Said], Tables], own_start: bool = False) -> Iterator[list[Fit]]:
    """Private training, then public: with the tables that `peers` makes of what those present predict."""
    yield from begin(crowd, own_start=own_start)
    for round_index in crowd.rounds():
        said: dict[int, Losses | Predictions] = {}
        for clients in crowd.turns(round_index):
            yield steps.local(crowd, round_index)
            if peers is not nobody:
                said |= {client.index: messaging.predictions(crowd, client, round_index) for client in clients}
        tables = peers(crowd, round_index, said)
        for _ in crowd.turns(round_index):
            yield steps.refine(crowd, round_index, FORM, tables)
    crowd.report()


def local(crowd: Crowd) -> Iterator[list[Fit]]:
    """Private training alone."""
    yield from begin(crowd, public=False)
    for round_index in crowd.rounds():
        for _ in crowd.turns(round_index):
            yield steps.local(crowd, round_index)
    crowd.report()


def nobody(crowd: Crowd, round_index: int, said: Said) -> Tables:
    """No table: labels alone."""
    return {}


def oneself(crowd: Crowd, round_index: int, said: Said) -> Tables:
    """Each client's own predictions, frozen."""
    labels = messaging.public_labels(crowd, round_index)
    return {index: message.log_probabilities(labels, crowd.experiment.clip) for index, message in said.items()}


def exchanged(crowd: Crowd, round_index: int, said: Said) -> Tables:
    """DML: what those present sent goes up, one sum comes down."""
    return from_sum(crowd, round_index, messaging.upload(crowd, said.values()))


def smoothed(crowd: Crowd, round_index: int, said: Said) -> Tables:
    """The same, but of an image a client hears only the mean over all images of its class."""
    labels = messaging.public_labels(crowd, round_index)
    change = smoothing.keywords["blunt"](crowd, SERVER)  # the control of dml/arms, for anybody
    return {index: change(table, labels) for index, table in exchanged(crowd, round_index, said).items()}


def stale() -> Callable[[Crowd, int, Said], Tables]:
    """DML whose server keeps what a client last said, and adds it up while the client is absent. It needs one public
    fold for all rounds. `table age` is the mean age of what is in a sum, in rounds.
    """
    last: dict[int, Losses | Predictions] = {}

    def peers(crowd: Crowd, round_index: int, said: Said) -> Tables:
        if any(fold is not crowd.folds.public[0] for fold in crowd.folds.public):
            raise ValueError("stale tables are about one public fold: this federation has one a round")
        for message in messaging.upload(crowd, said.values()):
            last[message.sender] = message
        if last:
            age = sum(round_index - message.round for message in last.values()) / len(last)
            crowd.record(round_index, SERVER, "table age", age)
        return from_sum(crowd, round_index, [last[index] for index in sorted(last)])

    return peers


def from_sum(crowd: Crowd, round_index: int, received: list) -> Tables:
    labels = messaging.public_labels(crowd, round_index)
    contributions, total = add_up(FORM, received, labels, crowd.experiment.clip)
    here = [index for index in crowd.present(round_index) if index in contributions]
    if total is None or not here:
        return {}
    crowd.record(round_index, SERVER, "float32 error", float32_error(torch.stack(list(contributions.values()))))
    down = crowd.post.carry(replace(total, round=round_index), here)
    return {index: peers_of(contributions[index], down) for index in here}


def fedavg(crowd: Crowd) -> Iterator[list[Fit]]:
    """Federated averaging: who is present loads the common model, trains, and the plain mean is the next one. Whoever
    wants a model, present or not, fetches the last: that one is looked at.
    """
    yield from begin(crowd, public=False)
    current = _common(crowd, 0)
    up_to_date = set(crowd.everyone)  # who has the common model
    for round_index in crowd.rounds():
        total: dict[str, Tensor] = {}
        count = 0
        for clients in crowd.turns(round_index):
            _fetch(crowd, current, [client for client in clients if client.index not in up_to_date], round_index)
            for client in clients:
                client.load(current.values)
            yield steps.local(crowd, round_index)
            sent = (messaging.weights(crowd, client, round_index) for client in clients)
            for message in messaging.upload(crowd, sent):
                total = {name: total.get(name, 0) + value for name, value in message.values.items()}
                count += 1
        if count:
            crowd.server.load({name: value / count for name, value in total.items()})
            current, up_to_date = _common(crowd, round_index), set()
    _fetch(crowd, current, crowd.store.take(crowd.present(crowd.experiment.rounds)), crowd.experiment.rounds)
    crowd.report(common=True)


def _common(crowd: Crowd, round_index: int) -> Weights:
    model = messaging.weights(crowd, crowd.server, round_index)
    return replace(model, values={name: value.clone() for name, value in model.values.items()})


def _fetch(crowd: Crowd, model: Weights, clients: list[Client], round_index: int) -> None:
    if clients:
        model = replace(model, round=round_index)
        crowd.post.enter(model, model.encode(), [client.index for client in clients])


ARMS: dict[str, Callable[[], Arm]] = {  # by name: a maker, since stale tables are one run's
    "dml": lambda: partial(refined, peers=exchanged),
    "dml, stale": lambda: partial(refined, peers=stale()),
    "dml, own start": lambda: partial(refined, peers=exchanged, own_start=True),
    "smoothing": lambda: partial(refined, peers=smoothed),
    "fedavg": lambda: fedavg,
    "self": lambda: partial(refined, peers=oneself),
    "self, own start": lambda: partial(refined, peers=oneself, own_start=True),
    "local": lambda: local,
    "local+public": lambda: partial(refined, peers=nobody),
}


def float32_error(values: Tensor) -> float:
    """How far the float32 sum of contributions [K, N, C] is from the float64 one: the largest difference, in nats, of
    an entry of their mean.
    """
    return ((values.sum(0).double() - values.double().sum(0)).abs().max() / len(values)).item()
