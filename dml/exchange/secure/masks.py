"""The parts of the secure sum (dml/exchange/secure): fixed-point numbers, keys and masks, and the messages.

Cryptography is X25519, HKDF-SHA256, ChaCha20 and ChaCha20-Poly1305 of the library `cryptography`. A seed has 128 bits,
which is also the strength of X25519; every key and mask is derived for one purpose, one round and one pair of clients.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor

from dml.exchange.messages import Message, MessageError

STEP = 2.0**-18  # of the fixed-point numbers
LOWEST = -16.2  # just below log 1e-7, the floor of every table
MOST = 1000  # clients: MOST * -LOWEST / STEP < 2^32, so the sum cannot wrap
SEED, KEY, NONCE, TAG = 16, 32, 12, 16  # bytes
SEALED = NONCE + 2 * SEED + TAG


def threshold(clients: int) -> int:
    """t, how many clients must stay to the end: a majority, so that no lie about dropouts collects both kinds of share
    from clients that answer once.
    """
    return clients // 2 + 1


def to_fixed(table: Tensor) -> np.ndarray:
    """-table in steps, uint32 of the same shape. Raises ValueError for NaN and outside [LOWEST, 0]; clips nothing."""
    values = table.detach().cpu().double().numpy()
    if not ((values >= LOWEST) & (values <= 0)).all():
        raise ValueError(f"the values {values.min():.3g} to {values.max():.3g} are not all in [{LOWEST}, 0]")
    return np.rint(-values / STEP).astype(np.uint32)


def from_fixed(total: np.ndarray) -> Tensor:
    """The float64 table of a sum of `to_fixed` tables modulo 2^32."""
    return torch.from_numpy(total.astype(np.float64) * -STEP)


def derive(secret: bytes, purpose: str) -> bytes:
    """32 bytes that tell nothing about those of another purpose (HKDF-SHA256)."""
    return HKDF(SHA256(), KEY, None, f"dml secure sum 1: {purpose}".encode()).derive(secret)


def private_key(seed: bytes) -> X25519PrivateKey:
    """The key pair that a seed of 16 bytes stands for: one Shamir share carries it."""
    return X25519PrivateKey.from_private_bytes(derive(seed, "private key"))


def public_bytes(seed: bytes) -> bytes:
    """The public key of the same pair, 32 bytes."""
    return private_key(seed).public_key().public_bytes_raw()


def agree(seed: bytes, public: bytes, purpose: str) -> bytes:
    """The 32 bytes that only the holders of the two key pairs can compute. Raises MessageError for a bad public key."""
    try:
        return derive(private_key(seed).exchange(X25519PublicKey.from_public_bytes(public)), purpose)
    except ValueError as error:  # a point of low order, with which everybody could compute them
        raise MessageError(f"an unusable public key: {error}") from error


def stretch(key: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """PRG(key): a uniform uint32 mask of a shape, by ChaCha20. A key is used once, so the nonce can be zero."""
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(4 * int(np.prod(shape))))
    return np.frombuffer(stream, "<u4").reshape(shape)


def self_mask(seed: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """PRG(b), uint32, from the seed b of one client in one round."""
    return stretch(derive(seed, "self mask"), shape)


def pair_mask(seed: bytes, own: int, public: bytes, peer: int, round_index: int, shape: tuple[int, ...]) -> np.ndarray:
    """What client `own` adds for `peer`, uint32; `peer` adds the negative for `own`, so in the sum the two cancel."""
    mask = stretch(agree(seed, public, f"mask {round_index} {min(own, peer)} {max(own, peer)}"), shape)
    return mask if own < peer else -mask


def rows(strings: list[bytes]) -> Tensor:
    """uint8 [count, length] from byte strings of one length."""
    return torch.from_numpy(np.frombuffer(b"".join(strings), np.uint8).copy()).reshape(len(strings), -1)


def check(message: Message, kind: type[Message], round_index: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises MessageError unless the message is of this kind and round, with tensors of these shapes."""
    if type(message) is not kind:
        raise MessageError(f"a {type(message).__name__} message, expected {kind.__name__}")
    if message.round != round_index:
        raise MessageError(f"round {message.round!r}, expected {round_index}")
    for name, shape in shapes.items():
        if tuple(getattr(message, name).shape) != shape:
            raise MessageError(f"{name} has shape {list(getattr(message, name).shape)}, expected {list(shape)}")


def parties(listed: Tensor, allowed: Collection[int], least: int) -> list[int]:
    """The clients of a list [n]. Raises MessageError unless they rise, are all allowed, and are at least `least`."""
    clients = listed.tolist()
    if clients != sorted(set(clients) & set(allowed)):
        raise MessageError(f"clients {clients}: expected some of {sorted(allowed)}, each once and in order")
    if len(clients) < least:
        raise MessageError(f"{len(clients)} clients are fewer than the {least} that the threshold asks for")
    return clients


@dataclass(frozen=True, kw_only=True, eq=False)
class Keys(Message):
    """Public keys uint8 [2, 32], for the masks and for the shares, and a commitment to b uint8 [32]."""

    keys: Tensor
    commitment: Tensor
    dtypes: ClassVar[Mapping[str, torch.dtype]] = {"keys": torch.uint8, "commitment": torch.uint8}


@dataclass(frozen=True, kw_only=True, eq=False)
class Roster(Message):
    """Who takes part, int32 [n], and their public keys uint8 [n, 2, 32]."""

    members: Tensor
    keys: Tensor
    dtypes: ClassVar[Mapping[str, torch.dtype]] = {"members": torch.int32, "keys": torch.uint8}


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares(Message):
    """For each peer, int32 [n - 1], what only it can read: its shares of the sender's two seeds, uint8 [n - 1, 60]."""

    peers: Tensor
    sealed: Tensor
    dtypes: ClassVar[Mapping[str, torch.dtype]] = {"peers": torch.int32, "sealed": torch.uint8}


@dataclass(frozen=True, kw_only=True, eq=False)
class Inbox(Shares):
    """The same rows on their way down: what each of `peers` sealed for the receiver."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Masked(Message):
    """y_u, the masked table: uint32 [N, C] as the bits of int32."""

    table: Tensor
    dtypes: ClassVar[Mapping[str, torch.dtype]] = {"table": torch.int32}


@dataclass(frozen=True, kw_only=True, eq=False)
class Survivors(Message):
    """Whose tables arrived, int32 [m]: the server asks for shares of their b, and of the other members' mask keys."""

    members: Tensor
    dtypes: ClassVar[Mapping[str, torch.dtype]] = {"members": torch.int32}


@dataclass(frozen=True, kw_only=True, eq=False)
class Reveal(Message):
    """One share uint8 [n, 16] for each member that sent `Shares`, in their order."""

    shares: Tensor
    dtypes: ClassVar[Mapping[str, torch.dtype]] = {"shares": torch.uint8}
