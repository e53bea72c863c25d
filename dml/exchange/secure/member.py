"""A client of the secure sum; the protocol, its threat model and its numbers stand in dml/exchange/secure."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from torch import Tensor

from dml.exchange.messages import Message, MessageError
from dml.exchange.secure.masks import (
    KEY,
    MOST,
    NONCE,
    SEALED,
    SEED,
    Inbox,
    Keys,
    Masked,
    Reveal,
    Roster,
    Shares,
    Survivors,
    agree,
    check,
    derive,
    pair_mask,
    parties,
    public_bytes,
    rows,
    self_mask,
    threshold,
    to_fixed,
)
from dml.streams import SERVER


@dataclass(repr=False)  # a log must not show the seeds
class Member:
    """A client in one sum. Make a new one every round: a mask protects one table only.

    `advertise`, `share`, `mask` and `unmask` are called once each, in this order, and send one message each. They raise
    MessageError for a message that this client refuses: it then takes no further part.
    """

    round: int
    index: int
    clients: int
    stage: int = 0  # how many of the server's messages were answered
    seeds: dict[str, bytes] = field(
        default_factory=lambda: {x: secrets.token_bytes(SEED) for x in ("b", "mask", "share")}
    )
    keys: dict[int, bytes] = field(default_factory=dict)  # every member's two public keys
    held: dict[int, bytes] = field(default_factory=dict)  # every member's shares of b and of the mask key's seed

    def __post_init__(self):
        if not 2 <= self.clients <= MOST or not 0 <= self.index < self.clients:
            raise ValueError(f"client {self.index} of {self.clients}: 2 to {MOST} clients can sum, numbered from 0")

    def advertise(self) -> Keys:
        """The client's public keys."""
        commitment = rows([derive(self.seeds["b"], "commitment")])[0]
        return Keys(round=self.round, sender=self.index, keys=rows(self._public_keys()), commitment=commitment)

    def _public_keys(self) -> list[bytes]:
        return [public_bytes(self.seeds["mask"]), public_bytes(self.seeds["share"])]

    def share(self, roster: Roster) -> Shares:
        """Both seeds, split so that any t clients can join them, a sealed pair of shares for every peer."""
        count = roster.members.numel() if isinstance(roster, Roster) else 0
        self._accept(roster, Roster, 0, {"members": (count,), "keys": (count, 2, KEY)})
        members = parties(roster.members, range(self.clients), threshold(self.clients))
        keys = {member: row.numpy().tobytes() for member, row in zip(members, roster.keys, strict=True)}
        if keys.get(self.index) != b"".join(self._public_keys()):
            raise MessageError(f"the roster does not have the keys of client {self.index}")
        if len({key[half : half + KEY] for key in keys.values() for half in (0, KEY)}) < 2 * count:
            raise MessageError("two keys in the roster are the same")
        split = [Shamir.split(threshold(self.clients), self.clients, self.seeds[name], False) for name in ("b", "mask")]
        pairs = {member: b"".join(shares[member][1] for shares in split) for member in members}
        sealed = [self._seal(peer, keys[peer], pairs[peer]) for peer in members if peer != self.index]
        self.stage, self.keys, self.held = 1, keys, {self.index: pairs[self.index]}
        peers = torch.tensor([peer for peer in members if peer != self.index], dtype=torch.int32)
        return Shares(round=self.round, sender=self.index, peers=peers, sealed=rows(sealed))

    def mask(self, inbox: Inbox, table: Tensor) -> Masked:
        """The masked table of log-probabilities [N, C] in [LOWEST, 0]; ValueError outside. Forgets the own seeds."""
        count = inbox.peers.numel() if isinstance(inbox, Inbox) else 0
        self._accept(inbox, Inbox, 1, {"peers": (count,), "sealed": (count, SEALED)})
        peers = parties(inbox.peers, self.keys.keys() - {self.index}, threshold(self.clients) - 1)
        opened = {peer: self._open(peer, row.numpy().tobytes()) for peer, row in zip(peers, inbox.sealed, strict=True)}
        masked = to_fixed(table) + self_mask(self.seeds["b"], tuple(table.shape))
        for peer in peers:
            public = self.keys[peer][:KEY]
            masked += pair_mask(self.seeds["mask"], self.index, public, peer, self.round, tuple(table.shape))
        self.stage, self.held = 2, self.held | opened
        self.seeds.clear()
        return Masked(round=self.round, sender=self.index, table=torch.from_numpy(masked.view(np.int32)))

    def unmask(self, survivors: Survivors) -> Reveal:
        """For each member one share: of b where its table arrived, of its mask key where not. Forgets all of them."""
        count = survivors.members.numel() if isinstance(survivors, Survivors) else 0
        self._accept(survivors, Survivors, 2, {"members": (count,)})
        alive = parties(survivors.members, self.held, threshold(self.clients))
        shares = [self.held[peer][:SEED] if peer in alive else self.held[peer][SEED:] for peer in sorted(self.held)]
        self.stage = 3  # a second request, which could ask for the other kind, is refused
        self.held.clear()
        return Reveal(round=self.round, sender=self.index, shares=rows(shares))

    def _accept(self, message: Message, kind: type[Message], stage: int, shapes: dict[str, tuple[int, ...]]) -> None:
        if self.stage != stage:
            raise MessageError(f"a {kind.__name__} message out of turn: client {self.index} has answered {self.stage}")
        check(message, kind, self.round, shapes)
        if message.sender != SERVER:
            raise MessageError(f"sender {message.sender!r} is not the server")

    def _cipher(self, peer: int, keys: bytes, sender: int) -> ChaCha20Poly1305:
        """Of one direction between this client and a peer: what is sealed for one cannot be passed on to another."""
        purpose = f"share {self.round} {sender} {self.index + peer - sender}"
        return ChaCha20Poly1305(agree(self.seeds["share"], keys[KEY:], purpose))

    def _seal(self, peer: int, keys: bytes, shares: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE)  # random, so that a client restored from an old state repeats none
        return nonce + self._cipher(peer, keys, self.index).encrypt(nonce, shares, None)

    def _open(self, peer: int, sealed: bytes) -> bytes:
        try:
            return self._cipher(peer, self.keys[peer], peer).decrypt(sealed[:NONCE], sealed[NONCE:], None)
        except InvalidTag as error:
            raise MessageError(f"the shares from client {peer} were altered or sealed for somebody else") from error

    def to_bytes(self) -> bytes:
        """The state between two messages, as JSON. It holds secrets: it stays with the client."""
        tables = {name: _hex(getattr(self, name)) for name in ("seeds", "keys", "held")}
        return json.dumps({**{x: getattr(self, x) for x in ("round", "index", "clients", "stage")}, **tables}).encode()

    @classmethod
    def from_bytes(cls, state: bytes) -> "Member":
        """The member that `to_bytes` saved. Raises ValueError for anything else."""
        try:
            saved = json.loads(state)
            saved["seeds"] = {name: bytes.fromhex(value) for name, value in saved["seeds"].items()}
            for name in ("keys", "held"):
                saved[name] = {int(peer): bytes.fromhex(value) for peer, value in saved[name].items()}
            return cls(**saved)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not the state of a member: {error}") from error


def _hex(values: Mapping) -> dict:
    return {name: value.hex() for name, value in values.items()}
