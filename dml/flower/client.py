"""The ClientApp: what one site does with a message. Its images, its model and its random states never leave it.

A site is configured by its SuperNode's `--node-config`: `partition-id`, which client it is; `folder`, a place of its
own for its state; and `data`, the folder of its images (without it, the site deals the run's named data set and keeps
its share).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.app import Message as FlowerMessage
from flwr.clientapp import ClientApp
from torch import Tensor

from dml.arms import messaging, record, steps
from dml.arms.federation import Federation
from dml.arms.weights import part_of
from dml.data.folds import split_fold
from dml.data.images import images_of
from dml.exchange.messages import Examples, Message, MessageError, Weights, decode
from dml.exchange.secure.server import Member
from dml.files import DataError
from dml.flower import rehearsal, site, wire
from dml.flower.settings import FORM, Settings
from dml.models import group
from dml.streams import SERVER
from dml.training import machine
from dml.training.memory import carry_out

app = ClientApp()


@dataclass
class Visit:
    """One message at a site: opens the site's federation, and closes it with the reply."""

    message: FlowerMessage
    context: Context

    def __post_init__(self):
        machine.settle()
        self.settings = Settings.read(self.context.run_config)
        self.experiment = self.settings.experiment
        self.index = int(self.context.node_config["partition-id"])
        if not 0 <= self.index < self.experiment.clients:
            raise ValueError(f"partition-id {self.index}: the run has clients 0 to {self.experiment.clients - 1}")
        self.folder = Path(str(self.context.node_config["folder"]))
        self.round = int(self.message.metadata.group_id)
        self.last = self.round > self.experiment.rounds  # the report
        self.pending: list[list] = []  # rows that were not sent yet

    @property
    def alone(self) -> bool:
        """Whether this site has images of its own, so that nobody else has its unseen set."""
        return "data" in self.context.node_config

    @property
    def received(self) -> list[Any]:
        """The server's messages, checked as far as it can be done without a model. Raises MessageError."""
        messages = [decode(message) for message in wire.encoded_in(self.message)]
        for message in messages:
            if message.sender != SERVER:
                raise MessageError(f"sender {message.sender}, expected the server")
        return messages

    @cached_property
    def fed(self) -> Federation:
        """This client with its folds and those it was sent, in its initial state."""
        folds = [site.fold_of(each) for each in self._set_up if isinstance(each, Examples)]
        if self.alone:
            own = str(self.context.node_config["data"])
            images, private = site.own(own, self.experiment, self.settings.seed, self.index, self.experiment.rounds)
        else:
            images = images_of(self.settings.data, self.experiment)
            _, everyone, public = site.dealt(images, self.experiment, self.settings.seed)
            private = [each[self.index] for each in everyone]
            folds = folds or public  # an arm that sends none: only to measure as the in-process arm does
        fed = site.federation(self.experiment, images, self.settings.seed, self.index, private, folds)
        rehearsal.poison(self.settings, fed, self.index)
        return fed

    @cached_property
    def _set_up(self) -> list[Any]:
        _, encoded, _ = site.read(self.folder / "begin")
        return [decode(encoded[name]) for name in sorted(encoded, key=int)]

    def begin(self) -> None:
        """Keep the set-up that the server sent, and check it: the model's shapes and the public images."""
        encoded = {str(place): each for place, each in enumerate(wire.encoded_in(self.message))}
        site.write(self.folder / "begin", {}, encoded)
        self._set_up = self.received
        named = wire.about_in(self.message).get("classes")
        if named != list(self.fed.images.classes):
            raise DataError(f"the classes here are {', '.join(self.fed.images.classes)}; the server's are {named}")
        like, classes = self.fed.clients[0].parameters(), len(self.fed.images.classes)
        for each in self._set_up:
            each.check(like) if isinstance(each, Weights) else each.check(self.experiment.size, classes)
            if isinstance(each, Weights):
                self.fed.clients[0].load(each.values)

    def resume(self) -> dict[str, bytes]:
        """Go on where the last message left this client; returns the bytes that were kept besides."""
        self.pending, kept = site.restore(self.fed, self.folder / "state")
        return kept

    @property
    def trained_share(self) -> float:
        """Of a private fold, what trains; the rest is for validation."""
        asynchronous = self.settings.arm == "asynchronous"
        return self.experiment.asynchronous_share if asynchronous else self.experiment.train_share

    def train(self) -> None:
        """The round's private fold; then a look at the public one, where it is at hand."""
        self.carry_out(steps.local(self.fed, self.round, self.trained_share))
        if self.fed.folds.public:
            record.public_accuracy(self.fed, self.round)

    def table(self, upload: bytes) -> Tensor:
        """This client's contribution to the sum, from its own predictions."""
        return rehearsal.own_table(self.fed, decode(upload), self.round)

    def carry_out(self, fits: list) -> None:
        self.fed.history.extend(epoch for history in carry_out(fits) for epoch in history)

    def reply(self, *messages: Message, about: dict | None = None, **kept: bytes) -> FlowerMessage:
        """Save the state, then answer with our messages and what was measured on the way.

        In a secure run the measurements wait for the report: they too would tell something of a single client.
        """
        measured, waits = self.pending + site.rows_of(self.fed), self.settings.secure and not self.last
        site.save(self.fed, self.folder / "state", rows=measured if waits else [], **kept)
        about = {"client": self.index, "rows": [] if waits else measured, **(about or {})}
        return FlowerMessage(wire.content([message.encode() for message in messages], about), reply_to=self.message)


@app.query("begin")
def begin(message: FlowerMessage, context: Context) -> FlowerMessage:
    """Take the initial model and, where the arm refines on them, the public folds."""
    visit = Visit(message, context)
    visit.begin()
    return visit.reply()


@app.query("predict")
def predict(message: FlowerMessage, context: Context) -> FlowerMessage:
    """Distributed mutual learning, first half of a round: train on the private fold, predict the public one."""
    visit = Visit(message, context)
    visit.resume()
    visit.train()
    upload = messaging.predictions(visit.fed, visit.fed.clients[0], visit.round)
    upload = rehearsal.said(visit.settings, visit.fed, upload)
    if not visit.settings.secure:
        return visit.reply(upload, upload=upload.encode())
    member = Member(visit.round, visit.index, visit.experiment.clients)
    return visit.reply(member.advertise(), upload=upload.encode(), member=member.to_bytes())


@app.query("share")
def split(message: FlowerMessage, context: Context) -> FlowerMessage:
    """Secure sum: a sealed share of this client's seeds for each peer."""
    return _as_member(message, context, lambda member, down, table: member.share(down))


@app.query("mask")
def mask(message: FlowerMessage, context: Context) -> FlowerMessage:
    """Secure sum: the masked table."""
    return _as_member(message, context, lambda member, down, table: member.mask(down, table))


@app.query("unmask")
def unmask(message: FlowerMessage, context: Context) -> FlowerMessage:
    """Secure sum: what the server needs to remove the masks from the sum."""
    return _as_member(message, context, lambda member, down, table: member.unmask(down))


def _as_member(message: FlowerMessage, context: Context, answer: Callable) -> FlowerMessage:
    visit = Visit(message, context)
    kept = visit.resume()
    member, upload = Member.from_bytes(kept["member"]), kept["upload"]
    (down,) = visit.received
    return visit.reply(answer(member, down, visit.table(upload)), upload=upload, member=member.to_bytes())


@app.train("refine")
def refine(message: FlowerMessage, context: Context) -> FlowerMessage:
    """Second half: train on the public fold, with the peers' mean when this client is in the sum that was sent."""
    visit = Visit(message, context)
    upload = visit.resume()["upload"]
    tables: dict[int, Tensor] = {}
    for down in visit.received:
        _expect(down, type(down), visit.round)
        table = rehearsal.peers(visit.settings, visit.table(upload), visit.index, down)
        tables |= {} if table is None else {visit.index: table}
    visit.carry_out(steps.refine(visit.fed, visit.round, FORM, tables))
    record.sample_accuracy(visit.fed, visit.round)
    return visit.reply()


@app.train("weights")
def weights(message: FlowerMessage, context: Context) -> FlowerMessage:
    """Train on the private fold and send weights: all, or the round's layers with their validation accuracy."""
    visit = Visit(message, context)
    visit.resume()
    fed, (client,) = visit.fed, visit.fed.clients
    common = {name: value.clone() for name, value in client.parameters().items()}
    visit.train()
    if visit.settings.arm == "fedavg":
        upload = messaging.weights(fed, client, visit.round)
        return visit.reply(rehearsal.said(visit.settings, fed, upload, common))
    accuracy = record.accuracy(fed, client, split_fold(fed.private(visit.round, client), visit.trained_share)[1])
    return visit.reply(messaging.weights(fed, client, visit.round, part_of(visit.experiment, visit.round), accuracy))


@app.train("load")
def load(message: FlowerMessage, context: Context) -> FlowerMessage:
    """Take the weights that the server made of all."""
    visit = Visit(message, context)
    visit.resume()
    (client,) = visit.fed.clients
    for down in visit.received:
        _expect(down, Weights, visit.round)
        down.check({name: value for name, value in client.parameters().items() if down.group in ("all", group(name))})
        client.load(down.values)
    if visit.settings.arm == "asynchronous" or visit.index == 0 or not visit.received:  # else all clients are one model
        record.sample_accuracy(visit.fed, visit.round)
    return visit.reply()


@app.query("report")
def report(message: FlowerMessage, context: Context) -> FlowerMessage:
    """The one look at the unseen set. The logits on it go back only where all sites have the same unseen set."""
    visit = Visit(message, context)
    visit.resume()
    (logits,) = record.report(visit.fed, share=visit.trained_share)
    return visit.reply(about={} if visit.alone else {"logits": logits.tolist()})


def _expect(message: Message, kind: type[Message], round_index: int) -> None:
    if type(message) is not kind or message.round != round_index:
        said = f"{type(message).__name__} of round {message.round}"
        raise MessageError(f"a message {said}, expected {kind.__name__} of round {round_index}")
