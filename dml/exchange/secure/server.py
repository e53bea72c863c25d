"""A secure sum: the server learns the sum of the clients' tables of log-probabilities and no client's own table.

Bonawitz et al. 2017, "Practical Secure Aggregation" (ePrint 2017/281), with double masking. Client u sends
y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) - sum over v < u of PRG(s_uv)  modulo 2^32. The pairwise masks s_uv
cancel in the sum. Every b_u, and the key behind s_uv, is split among the clients by Shamir's scheme, so that any t of
them can remove what does not cancel: b_u of a client whose table came, the pairwise masks of one whose table did not,
never both. t = K // 2 + 1 is a majority, so up to K - t clients may fall silent at any stage. Four rounds of messages:

    Keys up, Roster down  ·  Shares up, Inbox down  ·  Masked up, Survivors down  ·  Reveal up

Threat model: a server that follows the protocol and is curious, helped by fewer than t clients. There are no
signatures, so a server that invents clients or swaps keys is not stopped; and the sum, of at least t tables, says what
it says (with K = 2 it tells each client the other's table).

Numbers are fixed-point, modulo 2^32, in steps of 2^-18: the sum of 1,000 tables in [-16.2, 0] (log 1e-7 is -16.1) stays
below 2^32, and its error is at most half a step a client, K * 2^-19 (9.6e-6 for K = 5). Nothing else is lost: the sum
of the integers is exact, so no result depends on the randomness, all of which is the operating system's.

Why not Flower's SecAgg+ (1.41)? It protects no query: flwr/client/mod/secure_aggregation/secaggplus_mod.py hands a
message with `message_type != MessageType.TRAIN` on unmasked and reads a FitRes from the others, and its server side,
server/workflow/secure_aggregation/secaggplus_workflow.py, raises TypeError unless the context is a LegacyContext. Its
parts are no base to build on: pseudo_rand_gen (common/secure_aggregation/secaggplus_utils.py) folds a key into the 28
to 32 bits that seed a Mersenne Twister, few enough to try them all. Here X25519, HKDF and ChaCha20 are those of the
library `cryptography`, Shamir's scheme is pycryptodome's: both come with Flower, and the rest of `dml` needs neither.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from Crypto.Protocol.SecretSharing import Shamir
from torch import Tensor

from dml.exchange.messages import Message, MessageError, decode
from dml.exchange.secure.masks import (
    KEY,
    SEALED,
    SEED,
    Inbox,
    Keys,
    Masked,
    Reveal,
    Roster,
    Shares,
    Survivors,
    check,
    derive,
    from_fixed,
    pair_mask,
    parties,
    public_bytes,
    self_mask,
    threshold,
)
from dml.exchange.secure.member import Member
from dml.streams import SERVER

__all__ = ["Adder", "Member", "Outcome", "TooFewMembers", "secure_sum", "threshold"]


class TooFewMembers(RuntimeError):
    """Fewer clients than the threshold are left: there is no sum, and no table is revealed."""


class Adder:
    """The server of one sum over tables of a shape.

    In each of the four stages it receives one message a client and then answers: `roster`, `inboxes`, `survivors`, and
    at last `total`. A client whose message has not come by then is out.

    The answers raise TooFewMembers when fewer clients than the threshold are left.
    """

    STAGES = (Keys, Shares, Masked, Reveal)

    def __init__(self, round_index: int, clients: int, shape: tuple[int, ...]):
        self.round, self.clients, self.shape = round_index, clients, shape
        self.received: list[dict[int, Any]] = [{}]  # of every stage so far, by sender

    def receive(self, message: Message) -> None:
        """Keeps a message of the present stage. Raises MessageError, with the reason, and keeps no bad one."""
        stage = len(self.received) - 1
        expected = list(self.received[stage - 1] if stage else range(self.clients))
        count = len(expected)
        shapes = (
            {"keys": (2, KEY), "commitment": (KEY,)},
            {"peers": (count - 1,), "sealed": (count - 1, SEALED)},
            {"table": self.shape},
            {"shares": (len(self.received[min(stage, 1)]), SEED)},
        )
        check(message, self.STAGES[stage], self.round, shapes[stage])
        if type(message.sender) is not int or message.sender not in expected:
            raise MessageError(f"sender {message.sender!r} has no part in this stage; expected one of {expected}")
        if message.sender in self.received[stage]:
            raise MessageError(f"client {message.sender} has sent its {type(message).__name__} already")
        if isinstance(message, Shares):
            parties(message.peers, set(expected) - {message.sender}, count - 1)
        self.received[stage][message.sender] = message

    def roster(self) -> Roster:
        """For every client that advertised keys."""
        members = self._close(Keys)
        keys = torch.stack([message.keys for message in members.values()])
        return Roster(round=self.round, sender=SERVER, members=_index(members), keys=keys)

    def inboxes(self) -> dict[int, Inbox]:
        """For each client that sent shares, by its index: those that the others sealed for it."""
        members = self._close(Shares)
        sealed = {
            (sender, peer): row
            for sender, message in members.items()
            for peer, row in zip(message.peers.tolist(), message.sealed, strict=True)
        }
        others = {member: [peer for peer in members if peer != member] for member in members}
        return {
            member: Inbox(
                round=self.round,
                sender=SERVER,
                peers=_index(peers),
                sealed=torch.stack([sealed[peer, member] for peer in peers]),
            )
            for member, peers in others.items()
        }

    def survivors(self) -> Survivors:
        """For every client whose table arrived."""
        return Survivors(round=self.round, sender=SERVER, members=_index(self._close(Masked)))

    def total(self) -> Tensor:
        """The sum of the tables that arrived, float64 [N, C], to K * STEP / 2. Raises MessageError for false shares."""
        keys, members, masked, _ = self.received
        reveals = list(self._close(Reveal).items())[: threshold(self.clients)]  # Shamir's scheme joins exactly t
        total = np.sum([message.table.numpy().view(np.uint32) for message in masked.values()], axis=0, dtype=np.uint32)
        for place, member in enumerate(members):
            seed = Shamir.combine(
                [(peer + 1, reveal.shares[place].numpy().tobytes()) for peer, reveal in reveals], False
            )
            told = derive(seed, "commitment") if member in masked else public_bytes(seed)
            public = keys[member].commitment if member in masked else keys[member].keys[0]
            if told != public.numpy().tobytes():
                raise MessageError(f"the shares of client {member} do not join to its seed: one was altered")
            if member in masked:
                total -= self_mask(seed, self.shape)
            else:  # nobody cancelled what the others added for it
                for peer in masked:
                    public = keys[peer].keys[0].numpy().tobytes()
                    total += pair_mask(seed, member, public, peer, self.round, self.shape)
        return from_fixed(np.asarray(total))

    def _close(self, kind: type[Message]) -> dict[int, Any]:
        """The messages of the stage, in the clients' order; the next stage begins."""
        stage = self.STAGES.index(kind)
        if stage + 1 != len(self.received):
            raise RuntimeError(f"this is not the stage of {kind.__name__}")
        members = self.received[stage] = dict(sorted(self.received[stage].items()))
        if len(members) < threshold(self.clients):
            raise TooFewMembers(
                f"{len(members)} of {self.clients} clients sent {kind.__name__}; {threshold(self.clients)} are needed"
            )
        if kind is not Reveal:
            self.received.append({})
        return members


@dataclass(frozen=True)
class Outcome:
    """`total` float64 [N, C] over the tables of `members`; `nbytes` has the bytes of each message, by its kind."""

    total: Tensor
    members: tuple[int, ...]
    nbytes: dict[str, list[int]]


def secure_sum(tables: Sequence[Tensor], sends: Mapping[int, int] | None = None, round_index: int = 1) -> Outcome:
    """The whole protocol in this process over the clients' tables, float [N, C] each, every message as bytes.

    `sends` says of a client how many of its four messages it sends before it falls silent.
    """
    members = [Member(round_index, index, len(tables)) for index in range(len(tables))]
    adder = Adder(round_index, len(tables), tuple(tables[0].shape))
    nbytes: dict[str, list[int]] = {}

    def carry(message: Message) -> Any:
        data = message.encode()
        nbytes.setdefault(type(message).__name__, []).append(len(data))
        return decode(data)

    def active(stage: int) -> list[Member]:
        return [member for member in members if (sends or {}).get(member.index, 4) > stage]

    for member in active(0):
        adder.receive(carry(member.advertise()))
    roster = adder.roster()
    for member in active(1):
        adder.receive(carry(member.share(carry(roster))))
    inboxes = adder.inboxes()
    for member in active(2):
        adder.receive(carry(member.mask(carry(inboxes[member.index]), tables[member.index])))
    survivors = adder.survivors()
    for member in active(3):
        adder.receive(carry(member.unmask(carry(survivors))))
    return Outcome(adder.total(), tuple(survivors.members.tolist()), nbytes)


def _index(members: Collection[int]) -> Tensor:
    return torch.tensor(list(members), dtype=torch.int32)
