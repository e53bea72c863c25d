"""What an adversary holds: the messages it received, byte for byte, and what everybody knows. Attacks see nothing else.

The messages are recorded on the wire while the arms of the experiment run (`Tap`). A view picks from them what one
adversary gets to see and offers the one reading of it that all attacks start from: a model, where weights were sent, or
a table of log-probabilities on the public fold, where predictions were.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dml.config import Experiment
from dml.exchange.messages import Aggregate, Message, Weights, decode
from dml.losses import contribution, without_own
from dml.models import VisionNet
from dml.streams import SERVER


@dataclass
class Tap:
    """A wire that keeps every message it carries. `alter` is what a client does to its upload first (a defence)."""

    alter: Callable[[Message], Message] = lambda message: message
    sent: list[bytes] = field(default_factory=list)

    def __call__(self, sender: int, data: bytes) -> bytes:
        if sender != SERVER:
            data = self.alter(decode(data)).encode()
        self.sent.append(data)
        return data


@dataclass(frozen=True, eq=False)
class Known:
    """What every adversary knows: the architecture and optimiser (`experiment`, `classes`), the public initial model,
    the public fold (uint8 [P, size, size, 3]) and its labels, and the number of clients.
    """

    experiment: Experiment
    classes: int
    initial: Mapping[str, Tensor]
    public: Tensor
    labels: Tensor

    def model(self, values: Mapping[str, Tensor] | None = None) -> VisionNet:
        """The initial model, with `values` in the place of the parameters they name."""
        model = VisionNet(self.experiment.size, self.classes)
        model.load_state_dict({**self.initial, **(values or {})})
        return model.to(self.public.device)


@dataclass(frozen=True, eq=False)
class View:
    """The messages an adversary holds after a round, and public knowledge."""

    messages: tuple[Message, ...]
    known: Known

    def encode(self) -> bytes:
        """All that an attack's input consists of besides `known`, as bytes."""
        return b"".join(message.encode() for message in self.messages)

    def about(self, client: int) -> Message:
        """The message that tells most of a client: its own, or the server's answer."""
        return next((message for message in self.messages if message.sender == client), self.messages[-1])

    def _of(self, sender: int) -> Any:
        return next(message for message in self.messages if message.sender == sender)

    def weights(self, client: int) -> Any:
        """What the view says of a client's parameters: its own upload; or the average that came down, with the
        adversary's own share taken out where it holds one. None when no weights were sent.
        """
        if not isinstance(self.messages[0], Weights):
            return None
        senders = {message.sender for message in self.messages}
        if client in senders:
            return self._of(client).values
        average, peers, clients = self._of(SERVER).values, senders - {SERVER}, self.known.experiment.clients
        if not peers:
            return average
        own = self._of(*peers).values
        return {name: without_own(clients * value, own[name], clients) for name, value in average.items()}

    def table(self, client: int) -> Any:
        """What the view says of a client's log-probabilities on the public fold, [P, C]; as above, with the mean over
        clients in the place of the average of weights. None when no predictions were sent.
        """
        if isinstance(self.messages[0], Weights):
            return None
        senders = {message.sender for message in self.messages}
        if client in senders:
            return self._of(client).log_probabilities(self.known.labels)
        down = self._of(SERVER)
        if not isinstance(down, Aggregate):
            raise TypeError(f"a {type(down).__name__} message holds no table")
        if len(senders) == 1:
            return down.total / down.clients
        own = self._of(*(senders - {SERVER})).log_probabilities(self.known.labels)
        return without_own(down.total, contribution("student-first", own), down.clients)


@dataclass(frozen=True)
class Adversary:
    """Who looks at which arm: `uploads` of every client or not, the server's `answer` or not, its `own` upload."""

    arm: str
    who: str
    uploads: bool = False
    answer: bool = True
    own: bool = False

    def view(self, sent: list[bytes], known: Known) -> View:
        """The adversary's part of one round's messages; a curious peer is the last client."""
        messages, peer = [decode(data, known.public.device) for data in sent], known.experiment.clients - 1
        seen = [
            message
            for message in messages
            if (message.sender == SERVER and self.answer)
            or (message.sender != SERVER and (self.uploads or (self.own and message.sender == peer)))
        ]
        return View(tuple(seen), known)


ADVERSARIES = {
    "weights": Adversary("fedavg", "server", uploads=True),
    "weights, average": Adversary("fedavg", "server under an ideal secure sum"),
    "weights, average - own": Adversary("fedavg", "peer", own=True),
    "partial weights": Adversary("asynchronous", "server", uploads=True, answer=False),
    "partial weights, global": Adversary("asynchronous", "peer"),
    "losses": Adversary("dml", "server, or peer as published", uploads=True),
    "sum of predictions": Adversary("dml", "server under an ideal secure sum"),
    "sum of predictions - own": Adversary("dml", "peer under an ideal secure sum", own=True),
}
