"""A federation whose clients come and go: who takes part in which round, and whose model has gone stale."""

import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import torch

from dml.arms import messaging, record
from dml.arms.federation import Federation
from dml.config import Experiment
from dml.crowd.deal import deal
from dml.crowd.store import Memory, Shelf, Store
from dml.data.images import Images
from dml.streams import stream
from dml.training.clients import Client

SAMPLE = 50  # clients whose models are looked at, the first ones: see `deal`
PART = 50  # clients that are trained between two looks at the store


class Crowd(Federation):
    """One seed's federation of many. `clients` are only those at hand: a part of the ones that are present.

    Every client takes part in a round with probability `share`, by a coin of its own: the same rounds whatever K. Who
    is absent neither trains nor hears anything, and its model goes stale. With `one_public` fold for all rounds, what
    an absent client said of it is still about the same images. `members` live in this process, by default all;
    `shelf` is a file that takes their place while they do not train.
    """

    def __init__(
        self,
        experiment: Experiment,
        images: Images,
        seed: int,
        fold: int = 24,
        share: float = 1.0,
        kept: bool = True,
        one_public: bool = False,
        members: Sequence[int] | None = None,
        shelf: Path | None = None,
        device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
    ):
        if not 0 < share <= 1:
            raise ValueError(f"share={share}: give the share of clients in a round, above 0 and up to 1")
        folds = deal(images.train.labels.numpy(), experiment, seed, fold, kept)
        super().__init__(experiment, images, seed, device, folds=folds, members=())
        if one_public:
            self.folds = type(folds)(folds.pretrain, folds.private, folds.public[:1] * experiment.rounds)
        everyone = range(experiment.clients)
        self.everyone = list(everyone if members is None else members)
        self.sample = [index for index in everyone[:SAMPLE] if index in set(self.everyone)]
        coins = {index: stream(seed, index, "chosen").random(experiment.rounds) < share for index in self.everyone}
        self._coming = {0: self.everyone} | {
            r: [index for index in self.everyone if coins[index][r - 1]] for r in self.rounds()
        }
        self.own_start, self.look_s = False, 0.0  # CPU seconds spent on looking at models
        self.store: Store = Shelf(self.make, shelf, experiment.clients) if shelf else Memory(self.make)

    def present(self, round_index: int) -> list[int]:
        """Who takes part, of those that live here; in round 0, the set-up, everybody."""
        return self._coming[round_index]

    def make(self, index: int) -> Client:
        """A client that has not trained: with the server's model, or with its own initial weights."""
        model = self.model(self.server.model.kind, index) if self.own_start else deepcopy(self.server.model)
        return Client(index, model, self.experiment, self.seed)

    def turns(self, round_index: int) -> Iterator[list[Client]]:
        """Those who are present, a part at a time, each put back when the next is taken."""
        present = self.present(round_index)
        for start in range(0, len(present), PART):
            self.clients = self.store.take(present[start : start + PART])
            yield self.clients
            self.store.put(self.clients)
        self.clients = []

    def hand_out(self, model: bool, public: bool) -> None:
        """Enter the set-up: the server's model and the public folds, to everybody."""
        start = [messaging.weights(self, self.server, 0)] if model else []
        for message in (*start, *(messaging.public_folds(self) if public else ())):
            self.post.enter(message, message.encode(), self.everyone)

    def report(self, common: bool = False) -> None:
        """The look at the sample's models, or at the `common` one, at the end; and how stale clients are: how often
        each of the sample took part, and how many rounds ago.
        """
        began, last = time.process_time(), self.experiment.rounds
        self.clients = [] if common else self.store.take(self.sample)
        record.report(self, [self.server] if common else None)
        self.look_s = time.process_time() - began
        for index in self.sample:
            turns = [r for r in self.rounds() if index in self.present(r)]
            self.record(last, index, "turns", len(turns))
            self.record(last, index, "staleness", last - max(turns, default=0))
