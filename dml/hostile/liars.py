"""The last clients of a federation lie: in their messages, on the wire, or in the images that they train on.

No arm knows of it. A wire sees what everybody says, so any arm whose messages are predictions or weights can be
attacked; an attacker knows no more than `knowledge` grants. The liars come last, when the honest have spoken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dml.arms import messaging
from dml.arms.federation import Federation
from dml.exchange.messages import Message, Weights, decode
from dml.hostile import wording
from dml.hostile.attacks import KNOWS, PREDICTIONS, WEIGHTS, View
from dml.hostile.poison import TRAINING
from dml.streams import SERVER, stream

ATTACKS = tuple(dict.fromkeys((*PREDICTIONS, *WEIGHTS, *TRAINING)))


def corrupt(fed: Federation, attack: str, liars: int, knowledge: str = "all") -> None:
    """Let the last `liars` clients attack from now on; before the arm begins.

    Raises ValueError for an attack that there is none of, that needs to know more, or that leaves nobody honest.
    """
    if attack not in ATTACKS:
        raise ValueError(f"attack {attack!r}: choose one of {', '.join(ATTACKS)}")
    if not 0 <= liars < fed.experiment.clients:
        raise ValueError(f"{liars} liars: 0 to {fed.experiment.clients - 1}, so that somebody is honest")
    if attack in TRAINING:
        TRAINING[attack](fed, liars_of(fed, liars))
    elif liars:
        fed.wire = Liars(fed, attack, liars, knowledge)


def liars_of(fed: Federation, liars: int) -> range:
    """The liars' indices: the last ones. Folds are dealt at random, so it could be any."""
    return range(fed.experiment.clients - liars, fed.experiment.clients)


def needed(attack: str) -> str:
    """What an attack on messages has to know: of its two forms the more."""
    return max((table[attack][0] for table in (PREDICTIONS, WEIGHTS) if attack in table), key=KNOWS.index)


@dataclass
class Liars:
    """A wire (`Federation.wire`) that lets honest messages pass and puts lies in the place of the others."""

    fed: Federation
    attack: str
    count: int
    knowledge: str = "all"
    common: dict[str, Tensor] = field(default_factory=dict)  # the last common parameters that were told
    _heard: list[Message] = field(default_factory=list)  # of this round
    _last: Tensor | None = None

    def __post_init__(self) -> None:
        if self.knowledge not in KNOWS:
            raise ValueError(f"knowledge {self.knowledge!r}: choose one of {', '.join(KNOWS)}")
        if KNOWS.index(needed(self.attack)) > KNOWS.index(self.knowledge):
            raise ValueError(f"{self.attack} has to know {needed(self.attack)}, and may know {self.knowledge}")
        if needed(self.attack) == "all" and self.fed.experiment.clients - self.count < 2:
            raise ValueError(f"{self.attack} with {self.count} liars: it compares at least two honest clients")
        self.liars = liars_of(self.fed, self.count)

    def __call__(self, sender: int, data: bytes) -> bytes:
        message = decode(data, self.fed.device)
        if sender == SERVER:
            self._hear_server(message)
            return data
        if self._heard and self._heard[0].round != message.round:
            self._heard.clear()
        if sender not in self.liars:
            self._heard.append(message)
            return data
        return self.lie(message).encode()

    def lie(self, message: Message) -> Message:
        """What a liar says instead of a message. Raises ValueError where the attack is none on such a message."""
        rng = stream(self.fed.seed, message.sender, "noise").spawn(message.round)[-1]  # one a round: no state is kept
        if isinstance(message, wording.Said) and self.attack in PREDICTIONS:
            return self._predictions(message, rng)
        if isinstance(message, Weights) and self.attack in WEIGHTS:
            return self._weights(message, rng)
        raise ValueError(f"{self.attack} is no attack on {type(message).__name__} messages")

    def _hear_server(self, message: Message) -> None:
        if isinstance(message, Weights):
            self.common |= message.values
        if isinstance(message, wording.Told):
            classes, labels = len(self.fed.images.classes), messaging.public_labels(self.fed, message.round)
            told = wording.told(message, classes)
            by_label = torch.nn.functional.one_hot(labels, classes).to(told)
            self._last = by_label.T @ told / by_label.sum(0).clamp_min(1)[:, None]

    def _predictions(self, message: wording.Said, rng) -> wording.Said:
        labels = messaging.public_labels(self.fed, message.round)
        said = [wording.said(each, labels) for each in (message, *self._same(message))]
        heard = torch.stack(said[1:] or said)
        lie = PREDICTIONS[self.attack][1](View(said[0], heard, labels, self._last, rng))
        return wording.saying(message, lie, labels)

    def _weights(self, message: Weights, rng) -> Weights:
        first = self.fed.server.parameters()
        common = flat({name: self.common.get(name, first[name]) for name in message.values})
        updates = [flat(each.values) - common for each in (message, *self._same(message))]
        heard = torch.stack(updates[1:] or updates)
        lie = common + WEIGHTS[self.attack][1](updates[0], heard, rng)
        return replace(message, values=unflat(lie, message.values))

    def _same(self, message: Message) -> list:
        """What honest clients said of the same kind in this round, if that may be known."""
        return [said for said in self._heard if type(said) is type(message)] if self.knowledge == "all" else []


def flat(values: Mapping[str, Tensor]) -> Tensor:
    """Named parameters as one vector, in the order of their names: a message and a model have different ones."""
    return torch.cat([values[name].flatten() for name in sorted(values)])


def unflat(vector: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A vector as parameters of the names and shapes of `like`."""
    names = sorted(like)
    parts = vector.split([like[name].numel() for name in names])
    return {name: part.reshape(like[name].shape) for part, name in zip(parts, names, strict=True)}
