"""What one party sends another: frozen messages with a byte form, and the checks a receiver makes first.

Bandwidth is counted on these objects and privacy is attacked on them, so arms exchange nothing else. The byte form is
safetensors (a JSON header and raw numbers): it is never unpickled, and its length is what would be on the wire.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

VERSION = 1
FLOOR = 1e-7  # of a probability as a receiver reads it (Keras' epsilon): one peer cannot veto an image for all


class MessageError(ValueError):
    """A message that a receiver refuses; the text says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Message:
    """`round` counts from 1; `sender` is a client's index, or -1 for the server."""

    round: int
    sender: int
    scalars: ClassVar[tuple[str, ...]] = ("round", "sender")

    def tensors(self) -> Mapping[str, Tensor]:
        """The numbers of the message by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self.scalars}

    def encode(self) -> bytes:
        header = {name: getattr(self, name) for name in self.scalars}
        text = json.dumps({"version": VERSION, "kind": type(self).__name__, **header})
        return save({name: each.contiguous() for name, each in self.tensors().items()}, {"dml": text})

    @property
    def nbytes(self) -> int:
        """Bytes on the wire: the length of `encode()`, header included."""
        return len(self.encode())

    @property
    def payload(self) -> int:
        """Bytes of the numbers alone."""
        return sum(each.numel() * each.element_size() for each in self.tensors().values())

    @classmethod
    def build(cls, header: dict, tensors: dict[str, Tensor]) -> "Message":
        return cls(**header, **tensors)


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights(Message):
    """Named parameters: the whole model (FedAvg), or one group of layers and its accuracy (asynchronous)."""

    values: Mapping[str, Tensor]
    group: str = "all"  # "all", "shallow" or "deep"
    accuracy: float = 1.0  # what the asynchronous server scales by
    scalars: ClassVar[tuple[str, ...]] = ("round", "sender", "group", "accuracy")

    def tensors(self) -> Mapping[str, Tensor]:
        return self.values

    @classmethod
    def build(cls, header: dict, tensors: dict[str, Tensor]) -> "Weights":
        return cls(**header, values=tensors)

    def check(self, like: Mapping[str, Tensor]) -> None:
        """`like` holds parameters of the shapes that are expected. Raises MessageError."""
        if self.values.keys() != like.keys():
            raise MessageError(f"expected the parameters {', '.join(like)}, got {', '.join(self.values) or 'none'}")
        for name, value in self.values.items():
            _expect_shape(name, value, tuple(like[name].shape))
        if not isinstance(self.accuracy, int | float) or not 0 <= self.accuracy <= 1:
            raise MessageError(f"accuracy {self.accuracy!r} is no number in [0, 1]")


@dataclass(frozen=True, kw_only=True, eq=False)
class Losses(Message):
    """Per-example losses -log p_y [N] on the public fold: with two classes and public labels, the prediction."""

    losses: Tensor

    def check(self, count: int, classes: int) -> None:
        """`count` is the size of the public fold. Raises MessageError."""
        if classes != 2:
            raise MessageError(f"a loss says what was predicted for two classes, not for {classes}")
        _expect_shape("losses", self.losses, (count,))
        if (self.losses < 0).any():
            raise MessageError("a negative loss: its probability would be outside [0, 1]")

    def log_probabilities(self, labels: Tensor) -> Tensor:
        """log P [N, 2], no lower than log FLOOR; p_y = exp(-loss) and the other class has the rest."""
        true = -self.losses
        other = torch.log(-torch.expm1(true))
        table = torch.where(
            labels.unsqueeze(-1) == torch.arange(2, device=labels.device), true[:, None], other[:, None]
        )
        return table.clamp_min(torch.log(torch.tensor(FLOOR)).item())


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions(Message):
    """Per-example class probabilities [N, C] on the public fold."""

    probabilities: Tensor

    def check(self, count: int, classes: int) -> None:
        """`count` is the size of the public fold. Raises MessageError."""
        p = self.probabilities
        _expect_shape("probabilities", p, (count, classes))
        if ((p < 0) | (p > 1)).any():
            raise MessageError(f"a probability outside [0, 1]: {p.min():.3g} to {p.max():.3g}")
        if ((p.sum(-1) - 1).abs() > 1e-3).any():
            raise MessageError("the probabilities of an image do not sum to 1")

    def log_probabilities(self, labels: Tensor | None = None) -> Tensor:
        """log P [N, C], no lower than log FLOOR."""
        return self.probabilities.clamp_min(FLOOR).log()

    def losses(self, labels: Tensor) -> Losses:
        """The same predictions as losses; with two classes nothing is lost but float32 rounding near certainty."""
        true = self.probabilities.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return Losses(round=self.round, sender=self.sender, losses=-true.log())


@dataclass(frozen=True, kw_only=True, eq=False)
class Aggregate(Message):
    """The one table a server sends down: the sum [N, columns] of `clients` clients' shares (see `losses.share`)."""

    total: Tensor
    clients: int
    scalars: ClassVar[tuple[str, ...]] = ("round", "sender", "clients")


KINDS = {kind.__name__: kind for kind in (Weights, Losses, Predictions, Aggregate)}


def decode(data: bytes, device: torch.device | str = "cpu") -> Message:
    """The message that `encode` wrote, on a device. Raises MessageError, with the reason, for anything else."""
    try:
        tensors = {name: value.to(device) for name, value in sorted(load(data).items())}  # load() has no fixed order
        length = int.from_bytes(data[:8], "little")
        header = dict(json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["dml"]))
        version, kind = header.pop("version"), header.pop("kind")
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MessageError(f"not a message: {error}") from error
    if version != VERSION:
        raise MessageError(f"version {version!r}; this side speaks version {VERSION}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise MessageError(f"unknown kind {kind!r}; expected one of {', '.join(KINDS)}")
    for name, value in tensors.items():
        if value.dtype != torch.float32:
            raise MessageError(f"{name} is {value.dtype}, expected torch.float32")
        if not torch.isfinite(value).all():
            raise MessageError(f"{name} has a value that is not finite (NaN or infinity)")
    try:
        return KINDS[kind].build(header, tensors)
    except TypeError as error:
        raise MessageError(f"a field of {kind} is missing or unknown: {error}") from error


def _expect_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise MessageError(f"{name} has shape {list(value.shape)}, expected {list(shape)}")
