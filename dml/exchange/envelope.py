"""The byte form of every message, and the checks a receiver makes before it believes one.

It is safetensors: a JSON header and raw numbers. It is never unpickled, and its length is what would be on the wire.
The numbers are float32 unless an encoding (dml/exchange/encodings.py) makes them fewer bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dml.exchange import encodings
from dml.exchange.encodings import ENCODINGS

VERSION = 1
KINDS: dict[str, type["Message"]] = {}


class MessageError(ValueError):
    """A message that a receiver refuses; the text says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Message:
    """`round` counts from 1; `sender` is a client's index, or -1 for the server."""

    round: int
    sender: int
    scalars: ClassVar[tuple[str, ...]] = ("round", "sender")
    domain: ClassVar[str] = "range"  # of its numbers, for an encoding: "loss", "unit" (probabilities) or "range"
    dtypes: ClassVar[Mapping[str, torch.dtype]] = {}  # of tensors that are not float32; no encoding touches them

    def __init_subclass__(cls):
        KINDS[cls.__name__] = cls

    def tensors(self) -> Mapping[str, Tensor]:
        """The numbers of the message by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self.scalars}

    def encode(self, encoding: str = "float32") -> bytes:
        """The byte form."""
        header = {"version": VERSION, "kind": type(self).__name__}
        header |= {name: getattr(self, name) for name in self.scalars}
        if encoding != "float32":
            header |= {"encoding": encoding, "shapes": {name: list(t.shape) for name, t in self.tensors().items()}}
        return save(self._parts(encoding), {"dml": json.dumps(header)})

    def _parts(self, encoding: str) -> dict[str, Tensor]:
        """The tensors as they are sent; a part of a packed tensor is named "tensor:part"."""
        parts = {name: tensor.contiguous() for name, tensor in self.tensors().items()}
        if encoding == "float32":
            return parts
        for name in sorted(parts.keys() - self.dtypes.keys()):
            packed = encodings.pack(parts.pop(name), encoding, self.domain)
            parts |= {f"{name}:{part}": value for part, value in packed.items()}
        return parts

    @property
    def nbytes(self) -> int:
        """Bytes on the wire in float32: the length of `encode()`, header included."""
        return len(self.encode())

    @property
    def payload(self) -> int:
        """Bytes of the numbers alone, in float32."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())

    @classmethod
    def build(cls, header: dict, tensors: dict[str, Tensor]) -> "Message":
        return cls(**(header | tensors))


def payload_of(data: bytes) -> int:
    """Bytes of the numbers in an encoded message: all but its header."""
    return len(data) - 8 - int.from_bytes(data[:8], "little")


def decode(data: bytes, device: torch.device | str = "cpu") -> Any:
    """The message that `encode` wrote, on a device; of which kind, the receiver has to check.

    Raises MessageError, with the reason, for anything else.
    """
    try:
        parts = dict(sorted(load(data).items()))  # load() has no fixed order
        length = int.from_bytes(data[:8], "little")
        header = dict(json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["dml"]))
        version, kind = header.pop("version"), header.pop("kind")
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MessageError(f"not a message: {error}") from error
    if version != VERSION:
        raise MessageError(f"version {version!r}; this side speaks version {VERSION}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise MessageError(f"unknown kind {kind!r}; expected one of {', '.join(KINDS)}")
    tensors = {name: tensor.to(device) for name, tensor in _unpack(header, parts, KINDS[kind]).items()}
    for name, value in tensors.items():
        expected = KINDS[kind].dtypes.get(name, torch.float32)
        if value.dtype != expected:
            raise MessageError(f"{name} is {value.dtype}, expected {expected}")
        if not torch.isfinite(value).all():
            raise MessageError(f"{name} has a value that is not finite (NaN or infinity)")
    try:
        return KINDS[kind].build(header, tensors)
    except TypeError as error:
        raise MessageError(f"a field of {kind} is missing or unknown: {error}") from error


def _unpack(header: dict, parts: dict[str, Tensor], kind: type[Message]) -> dict[str, Tensor]:
    """The tensors that the parts of an encoded message stand for; takes the encoding's own facts out of `header`."""
    encoding, shapes = header.pop("encoding", None), header.pop("shapes", None)
    if encoding is None:
        return parts
    if not isinstance(encoding, str) or encoding not in ENCODINGS:
        raise MessageError(f"unknown encoding {encoding!r}; expected one of {', '.join(ENCODINGS)}")
    tensors = {name: parts.pop(name) for name in kind.dtypes if name in parts}
    if not isinstance(shapes, dict) or any(_is_no_shape(shape) for shape in shapes.values()):
        raise MessageError(f"shapes {shapes!r} are no shapes by name")
    for name in sorted(shapes.keys() - kind.dtypes.keys()):
        named = [part for part in parts if part.rpartition(":")[0] == name]
        try:
            packed = {part.rpartition(":")[2]: parts.pop(part) for part in named}
            tensors[name] = encodings.unpack(packed, tuple(shapes[name]), encoding, kind.domain)
        except ValueError as error:
            raise MessageError(f"{name}: {error}") from error
    if parts:
        raise MessageError(f"parts of no tensor: {', '.join(parts)}")
    return dict(sorted(tensors.items()))


def _is_no_shape(shape: object) -> bool:
    return not isinstance(shape, list) or any(type(edge) is not int or edge < 0 for edge in shape)
