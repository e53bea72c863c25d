"""The server's side of the wire: who the clients are, what is asked of them, and what is believed of the answers."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import Message as FlowerMessage
from flwr.serverapp import Grid

from dml.arms import messaging
from dml.arms.federation import Federation
from dml.exchange.messages import Message, MessageError, decode
from dml.flower import site, wire
from dml.streams import SERVER

log = logging.getLogger(__name__)
PAUSE = 0.2  # seconds between two looks for answers


class Failure(MessageError):
    """Flower's report that a client failed or is gone."""


class Silence(MessageError):
    """No answer before the deadline."""


EVENTS: dict[type[Exception], str] = {MessageError: "refused", Failure: "failed", Silence: "silent"}


@dataclass
class Heard:
    """What a client said: our message, if one was asked for, and what it tells about the run."""

    message: Message | None
    about: dict


@dataclass
class RollCall:
    """Asks the clients and waits for their answers until a deadline.

    `nodes` has the Flower node of each client. A client that did not answer in time is not asked again until its answer
    has come, too late to be used: so a dead one costs one deadline and a slow one comes back by itself.
    """

    grid: Grid
    fed: Federation
    deadline: float
    nodes: dict[int, int] = field(default_factory=dict)
    events: list[tuple[int, int, str, str]] = field(default_factory=list)  # round, client, event, detail
    traffic: list[tuple[int, int, str, wire.Size]] = field(default_factory=list)  # round, client, direction, size
    _awaited: dict[str, int] = field(default_factory=dict)  # a message's id -> the client that has not answered it

    def event(self, round_index: int, client: int, name: str, detail: object = "") -> None:
        self.events.append((round_index, client, name, str(detail)))
        log.info("round %d, client %d: %s %s", round_index, client, name, detail)

    def join(self, messages: Iterable[Message], about: dict) -> None:
        """Wait for all K nodes, or until the deadline; send them the set-up and learn which client each one is."""
        messages, wanted = list(messages), self.fed.experiment.clients
        end = time.monotonic() + self.deadline
        while len(present := sorted(self.grid.get_node_ids())) < wanted and time.monotonic() < end:
            time.sleep(PAUSE)
        encoded = [message.encode() for message in messages]
        asked = {node: self._flower(node, "query.begin", 0, encoded, about) for node in present}
        for node, reply in self._collect(0, asked).items():
            try:
                index = int(_content(reply)[1]["client"])
                if index in self.nodes or not 0 <= index < wanted:
                    raise MessageError(f"client {index} is taken, or none of {wanted}")
            except (MessageError, KeyError, TypeError, ValueError, OverflowError) as error:
                self.event(0, SERVER, EVENTS.get(type(error), "refused"), f"node {node}: {error}")
                continue
            self.nodes[index] = node
            self._weigh(0, index, "down", asked[node])
            self._weigh(0, index, "up", reply)
        self._awaited.clear()  # who has not begun by now is not in this run
        self.nodes = dict(sorted(self.nodes.items()))
        for message, data in zip(messages, encoded, strict=True):
            self.fed.post.enter(message, data, self.nodes)
        for index in sorted(set(range(wanted)) - set(self.nodes)):
            self.event(0, index, "absent", "has not begun")

    def ask(
        self,
        kind: str,
        round_index: int,
        down: Mapping[int, Message] | None = None,
        check: Callable[[int, Message], None] | None = None,
        to: Iterable[int] | None = None,
    ) -> dict[int, Heard]:
        """What the clients in `to` (all) answer, in their order. Those in `down` get its message, others only the call.

        With `check` an answer has to hold one message that it does not refuse by a MessageError; answers that are not
        believed and clients that are silent go on record and are left out.
        """
        down, silent = down or {}, set(self._awaited.values())
        encoded = {id(message): message.encode() for message in {id(told): told for told in down.values()}.values()}
        asked = {}
        for index in (set(self.nodes) if to is None else set(to)) - silent:
            data = [encoded[id(down[index])]] if index in down else []
            asked[index] = self._flower(self.nodes[index], kind, round_index, data)
            if index in down:
                self.fed.post.enter(down[index], data[0], [index])
        replies, answers = self._collect(round_index, asked), {}
        for index in sorted(asked):
            self._weigh(round_index, index, "down", asked[index])
            try:
                if index not in replies:
                    raise Silence(f"no answer within {self.deadline:g} s")
                self._weigh(round_index, index, "up", replies[index])
                answers[index] = self._read(replies[index], index, check)
            except MessageError as refusal:
                self.event(round_index, index, EVENTS[type(refusal)], refusal)
                if check is not None:
                    messaging.refuse(self.fed, round_index, index, refusal)
        return answers

    def _flower(self, node: int, kind: str, round_index: int, encoded: list[bytes], about: dict | None = None):
        return FlowerMessage(wire.content(encoded, about), node, kind, group_id=str(round_index))

    def _collect(self, round_index: int, asked: dict[int, FlowerMessage]) -> dict[int, FlowerMessage]:
        """Send, and wait for the replies to these messages; what comes of earlier ones is only noted."""
        ids = list(self.grid.push_messages(asked.values())) if asked else []
        new = dict(zip(ids, asked, strict=True))
        self._awaited |= new
        replies, end = {}, time.monotonic() + self.deadline
        while new.keys() & self._awaited.keys():
            for reply in self.grid.pull_messages(list(self._awaited)):
                identity = reply.metadata.reply_to_message_id
                index = self._awaited.pop(identity)
                if identity in new:
                    replies[index] = reply
                else:
                    self.event(round_index, index, "late", "an answer to an earlier message, not used")
            if time.monotonic() > end:
                break
            time.sleep(PAUSE)
        return replies

    def _read(self, reply: FlowerMessage, index: int, check: Callable[[int, Message], None] | None) -> Heard:
        encoded, about = _content(reply)
        try:
            rows = [site.row(values) for values in about.get("rows", ())]
        except (TypeError, ValueError, OverflowError) as error:
            raise MessageError(f"rows that are none ({error})") from error
        message = None
        if check is not None:
            if len(encoded) != 1:
                raise MessageError(f"{len(encoded)} messages, expected one")
            message = decode(encoded[0])
            check(index, message)
            self.fed.post.enter(message, encoded[0], [SERVER])
        self.fed.rows.extend(row for row in rows if row.client == index)
        return Heard(message, about)

    def _weigh(self, round_index: int, index: int, direction: str, message: FlowerMessage) -> None:
        self.traffic.append((round_index, index, direction, wire.size(message)))


def _content(reply: FlowerMessage) -> tuple[list[bytes], dict]:
    """Our messages in a reply, and what it tells. Raises MessageError, also for the error that Flower sends instead."""
    if reply.has_error():
        raise Failure(reply.error.reason)
    return wire.encoded_in(reply), wire.about_in(reply)
