"""The ServerApp: one short function an arm, with the same steps as in dml/arms.

The server holds the public folds and the fold that pre-trains the initial model, and sends both to the clients. It goes
on with the clients that answer in time, as long as they are a quorum.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from dml.arms import messaging, steps
from dml.arms.federation import Federation
from dml.arms.weights import mean, part_of
from dml.data.folds import split_fold
from dml.data.images import images_of
from dml.exchange import ledger
from dml.exchange.messages import Aggregate, Message, MessageError, Weights
from dml.exchange.secure.server import Adder, TooFewMembers
from dml.experiment import results
from dml.files import replacing
from dml.flower import answers, site
from dml.flower.roll_call import RollCall
from dml.flower.settings import Settings
from dml.streams import SERVER
from dml.training import machine
from dml.training.memory import carry_out
from dml.training.metrics import disagreement

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run: pre-train, hand out, the rounds of the arm, the report, and the tables in the folder `out`."""
    machine.settle()
    logging.getLogger("dml").setLevel(logging.INFO)
    serve(grid, Settings.read(context.run_config))


def serve(grid: Grid, settings: Settings) -> "Session":
    """Carry out a run over a grid."""
    run = Session(grid, settings)
    carry_out_here(run.fed, steps.pretrain(run.fed))
    run.begin()
    ARMS[settings.arm](run)
    run.write()
    return run


class Session:
    """The server's federation of no client, its roll of clients, and the record."""

    def __init__(self, grid: Grid, settings: Settings):
        self.settings, self.experiment, self.out = settings, settings.experiment, Path(settings.out)
        if settings.own:
            images, folds = site.own(settings.own, self.experiment, settings.seed, SERVER, self.experiment.rounds + 1)
            pretrain, *public = folds
        else:
            images = images_of(settings.data, self.experiment)
            pretrain, _, public = site.dealt(images, self.experiment, settings.seed)
        self.fed = site.federation(self.experiment, images, settings.seed, SERVER, (), public, pretrain)
        self.roll_call = RollCall(grid, self.fed, settings.deadline)
        self.times: list[tuple[int, float]] = []  # when each round began

    def begin(self) -> None:
        """The set-up, round 0: every client gets the initial model, and the public folds if the arm refines on them."""
        self.times.append((0, time.time()))
        public = messaging.public_folds(self.fed) if self.settings.arm == "dml" else []
        self.roll_call.join(
            [messaging.weights(self.fed, self.fed.server, 0), *public], {"classes": list(self.fed.images.classes)}
        )
        if len(self.roll_call.nodes) < self.settings.enough:
            raise RuntimeError(f"{len(self.roll_call.nodes)} clients have begun; the quorum is {self.settings.enough}")

    def rounds(self):
        for round_index in self.fed.rounds():
            self.times.append((round_index, time.time()))
            yield round_index
            self.write()

    def uploads(self, kind: str, round_index: int, expected: Message) -> list[Any]:
        """The messages of the clients that are believed, in their order; none below the quorum."""

        def check(index: int, message: Message) -> None:
            messaging.check(self.fed, replace(expected, sender=index), message)

        answers = self.roll_call.ask(kind, round_index, check=check)
        if len(answers) < self.settings.enough:
            self.roll_call.event(
                round_index, SERVER, "below quorum", f"{len(answers)} of {self.settings.enough}: no aggregate"
            )
            return []
        return [answer.message for answer in answers.values()]

    def report(self) -> None:
        """The clients' look at the unseen set; and how much they differ on it, where it is the same for all."""
        last = self.experiment.rounds
        self.times.append((last + 1, time.time()))
        answers = self.roll_call.ask("query.report", last + 1)
        shape = (len(self.fed.unseen), 1 if len(self.fed.images.classes) == 2 else len(self.fed.images.classes))
        told = {index: _logits(answer.about, shape) for index, answer in answers.items()}
        logits = {index: logits_of_client for index, logits_of_client in told.items() if logits_of_client is not None}
        if len(logits) > 1:
            for index, value in zip(logits, disagreement(list(logits.values())), strict=True):
                self.fed.record(last, index, "unseen disagreement", value)
        self.times.append((last + 2, time.time()))

    def write(self) -> None:
        """The tables so far."""
        rows = pd.DataFrame(self.fed.rows, columns=["round", "client", "metric", "value"])
        rows.insert(0, "arm", self.settings.arm)
        rows.insert(0, "seed", self.settings.seed)
        flat = [
            (round_index, client, direction, *size) for round_index, client, direction, size in self.roll_call.traffic
        ]
        wire = pd.DataFrame(flat, columns=["round", "client", "direction", "encoded", "about", "framing"])
        tables = {
            "results": rows[results.RESULTS],
            "ledger": ledger.table(self.fed.post.ledger),
            "events": pd.DataFrame(self.roll_call.events, columns=["round", "client", "event", "detail"]),
            "wire": wire.groupby(["round", "client", "direction"], as_index=False).sum(),
            "times": pd.DataFrame(self.times, columns=["round", "began"]),
        }
        for name, table in tables.items():
            with replacing(self.out / f"{name}.csv") as part:
                table.to_csv(part, index=False)


def _logits(about: dict, shape: tuple[int, int]) -> torch.Tensor | None:
    """What a client reports of its model, if it does and can be read."""
    try:
        logits = torch.tensor(about["logits"], dtype=torch.float32)
    except (KeyError, TypeError, ValueError, RuntimeError):
        return None
    return logits if tuple(logits.shape) == shape else None


def carry_out_here(fed: Federation, fits: list) -> None:
    fed.history.extend(epoch for history in carry_out(fits) for epoch in history)


def dml(run: Session) -> None:
    """Distributed mutual learning: losses on the public fold go up, one sum comes down, every client refines."""
    answer = answers.of(run.settings, run.fed, run.roll_call)
    for round_index in run.rounds():
        if run.settings.secure:
            members, total = secure_total(run, round_index)
            down: Mapping[int, Message] = dict.fromkeys(members, total) if total else {}
        else:
            expected = messaging.predictions(run.fed, run.fed.server, round_index)
            down = answer(run.uploads("query.predict", round_index, expected))
        run.roll_call.ask("train.refine", round_index, down)
    run.report()


def secure_total(run: Session, round_index: int) -> tuple[list[int], Aggregate | None]:
    """Whose tables are in the sum, and the sum, by the stages of dml/exchange/secure; [] and None without a quorum."""
    labels = messaging.public_labels(run.fed, round_index)
    adder = Adder(round_index, run.experiment.clients, (len(labels), len(run.fed.images.classes)))

    def hear(index: int, message: Message) -> None:
        if message.sender != index:
            raise MessageError(f"sender {message.sender}, expected {index}")
        adder.receive(message)

    def stage(kind: str, down: Mapping[int, Message]) -> None:
        run.roll_call.ask(kind, round_index, down, hear, to=down)

    try:
        run.roll_call.ask("query.predict", round_index, check=hear)
        roster = adder.roster()
        stage("query.share", dict.fromkeys(roster.members.tolist(), roster))
        stage("query.mask", adder.inboxes())
        survivors = adder.survivors()
        members = survivors.members.tolist()
        stage("query.unmask", dict.fromkeys(members, survivors))
        total = adder.total().float()
        if len(members) < run.settings.enough:
            raise TooFewMembers(f"{len(members)} tables of {run.settings.enough}")
    except (TooFewMembers, MessageError) as error:
        run.roll_call.event(round_index, SERVER, "below quorum", f"{error}: no aggregate")
        return [], None
    return members, Aggregate(round=round_index, sender=SERVER, total=total, clients=len(members))


def fedavg(run: Session) -> None:
    """Federated averaging: the plain mean of all weights, or what a rule makes of them, replaces every client's."""
    combine: Callable[[list[Weights]], dict | None] = mean
    if run.settings.rule != "mean":
        from dml.hostile.arms import Combiner  # an annex

        combine = Combiner(run.fed, run.settings.rule, run.settings.expected)
    for round_index in run.rounds():
        received = run.uploads("train.weights", round_index, messaging.weights(run.fed, run.fed.server, round_index))
        values = combine(received) if received else None
        down = values and Weights(round=round_index, sender=SERVER, values=values)
        run.roll_call.ask("train.load", round_index, dict.fromkeys(run.roll_call.nodes, down) if down else {})
    run.report()


def asynchronous(run: Session) -> None:
    """Partial weights, scaled by accuracy; the global model trains on the public fold before its layers go down."""
    for round_index in run.rounds():
        part, cut = part_of(run.experiment, round_index), run.experiment.asynchronous_share
        received = run.uploads(
            "train.weights", round_index, messaging.weights(run.fed, run.fed.server, round_index, part)
        )
        if received:
            run.fed.server.load(mean(received, [message.accuracy for message in received]))
        carry_out_here(
            run.fed,
            steps.fit_server(run.fed, round_index, "global", split_fold(run.fed.folds.public[round_index - 1], cut)[0]),
        )
        down = messaging.weights(run.fed, run.fed.server, round_index, part)
        run.roll_call.ask("train.load", round_index, dict.fromkeys(run.roll_call.nodes, down) if received else {})
    run.report()


ARMS: dict[str, Callable[[Session], None]] = {"dml": dml, "fedavg": fedavg, "asynchronous": asynchronous}
