"""The ledger: every message that was sent, with its size. Nothing is free, the set-up before round 1 included."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import pandas as pd
import torch

from dml.exchange.envelope import Message, decode, payload_of
from dml.streams import SERVER

M = TypeVar("M", bound=Message)
Wire = Callable[[int, bytes], bytes]  # (sender, message) -> what arrives


class LedgerEntry(NamedTuple):
    """One message to one receiver. `round` 0 is the set-up; parties are clients' indices or SERVER; sizes in bytes:
    `payload` of the numbers alone, `encoded` of all that was sent.
    """

    round: int
    sender: int
    receiver: int
    kind: str
    payload: int
    encoded: int


def table(entries: Iterable[LedgerEntry]) -> pd.DataFrame:
    """The ledger as a table, with the column `direction`: up (to the server), down (from it) or peer."""
    rows = pd.DataFrame(entries, columns=LedgerEntry._fields)
    direction = pd.Series("peer", index=rows.index).mask(rows["receiver"] == SERVER, "up")
    rows.insert(3, "direction", direction.mask(rows["sender"] == SERVER, "down"))
    return rows


@dataclass
class Post:
    """Carries messages as bytes and enters each in the ledger."""

    wire: Wire = lambda sender, data: data
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
    ledger: list[LedgerEntry] = field(default_factory=list)

    def carry(
        self,
        message: M,
        receivers: Iterable[int],
        encoding: str = "float32",
        check: Callable[[M], None] = lambda message: None,
    ) -> M:
        """What arrives of a message. Raises MessageError when it cannot be read or `check` refuses it."""
        data = message.encode(encoding)
        self.enter(message, data, receivers)
        arrived = decode(self.wire(message.sender, data), self.device)
        check(arrived)
        return arrived

    def enter(self, message: Message, data: bytes, receivers: Iterable[int], sender: int | None = None) -> None:
        """Enter a message, whose byte form is `data`, once for every receiver; `sender` is who forwards it, if any."""
        kind, sizes = type(message).__name__, (payload_of(data), len(data))
        source = message.sender if sender is None else sender
        self.ledger.extend(LedgerEntry(message.round, source, receiver, kind, *sizes) for receiver in receivers)
