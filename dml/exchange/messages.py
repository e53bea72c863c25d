"""What one party sends another: frozen messages, each with the checks that a receiver makes.

Bandwidth is counted on these objects and privacy is attacked on them, so arms exchange nothing else. Their byte form
stands in dml/exchange/envelope.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dml.config import Experiment
from dml.exchange import encodings
from dml.exchange.envelope import Message, MessageError, decode

__all__ = ["Aggregate", "Chosen", "Examples", "Losses", "Message", "MessageError", "Predictions", "Weights", "decode"]

FLOOR = Experiment.clip  # keeps sums finite, no more: one lying peer of four outweighs a label (data/plan_hostile.md)


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
    domain: ClassVar[str] = "loss"

    def check(self, count: int, classes: int) -> None:
        """`count` is the size of the public fold. Raises MessageError."""
        if classes != 2:
            raise MessageError(f"a loss says what was predicted for two classes, not for {classes}")
        _expect_shape("losses", self.losses, (count,))
        if (self.losses < 0).any():
            raise MessageError("a negative loss: its probability would be outside [0, 1]")

    def log_probabilities(self, labels: Tensor, clip: float = FLOOR) -> Tensor:
        """log P [N, 2], no lower than log `clip`; p_y = exp(-loss) and the other class has the rest."""
        true = -self.losses
        other = torch.log(-torch.expm1(true))
        table = torch.where(
            labels.unsqueeze(-1) == torch.arange(2, device=labels.device), true[:, None], other[:, None]
        )
        return table.clamp_min(torch.log(torch.tensor(clip)).item())


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions(Message):
    """Per-example class probabilities [N, C] on the public fold."""

    probabilities: Tensor
    domain: ClassVar[str] = "unit"

    def check(self, count: int, classes: int) -> None:
        """`count` is the size of the public fold. Raises MessageError."""
        p = self.probabilities
        _expect_shape("probabilities", p, (count, classes))
        if ((p < 0) | (p > 1)).any():
            raise MessageError(f"a probability outside [0, 1]: {p.min():.3g} to {p.max():.3g}")
        if ((p.sum(-1) - 1).abs() > 1e-3).any():
            raise MessageError("the probabilities of an image do not sum to 1")

    def log_probabilities(self, labels: Tensor | None = None, clip: float = FLOOR) -> Tensor:
        """log P [N, C], no lower than log `clip`."""
        return self.probabilities.clamp_min(clip).log()

    def losses(self, labels: Tensor) -> Losses:
        """The same predictions as losses; with two classes nothing is lost but float32 rounding near certainty."""
        true = self.probabilities.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return Losses(round=self.round, sender=self.sender, losses=-true.log())


@dataclass(frozen=True, kw_only=True, eq=False)
class Aggregate(Message):
    """The one table a server sends down: the sum [N, columns] of `clients` clients' `losses.contribution`."""

    total: Tensor
    clients: int
    scalars: ClassVar[tuple[str, ...]] = ("round", "sender", "clients")

    def check(self, count: int, columns: int) -> None:
        """`count` is the size of the public fold, `columns` the width of a share. Raises MessageError."""
        _expect_shape("total", self.total, (count, columns))
        if not isinstance(self.clients, int) or self.clients < 1:
            raise MessageError(f"a sum of {self.clients!r} clients; expected a whole number from 1 up")


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen(Message):
    """The losses [m] of only those public images that the sender chose: `sent` has a bit for each, uint8 [N / 8]."""

    losses: Tensor
    sent: Tensor
    dtypes: ClassVar[Mapping[str, torch.dtype]] = {"sent": torch.uint8}
    domain: ClassVar[str] = "loss"

    @classmethod
    def pick(cls, losses: Losses, chosen: Tensor) -> "Chosen":
        """`chosen` is bool [N]."""
        bits = torch.from_numpy(encodings.pack_bits(chosen.cpu().numpy().astype("uint8"), 1))
        return cls(round=losses.round, sender=losses.sender, losses=losses.losses[chosen], sent=bits)

    def mask(self, count: int) -> Tensor:
        """bool [count]. Raises MessageError."""
        try:
            bits = encodings.unpack_bits(self.sent.cpu().numpy(), 1, count)
        except ValueError as error:
            raise MessageError(f"sent: {error}") from error
        return torch.from_numpy(bits).bool().to(self.losses.device)

    def check(self, count: int, classes: int) -> None:
        """`count` is the size of the public fold. Raises MessageError."""
        losses = Losses(round=self.round, sender=self.sender, losses=self.losses)
        losses.check(int(self.mask(count).sum()), classes)

    def log_probabilities(self, labels: Tensor, clip: float = FLOOR) -> Tensor:
        """[N, C + 1]: log P and a 1 for an image that was sent, zeros for one that was not; sums count the senders."""
        mask = self.mask(len(labels))
        sent = Losses(round=self.round, sender=self.sender, losses=self.losses)
        known = sent.log_probabilities(labels[mask], clip)
        table = known.new_zeros(len(labels), known.shape[1] + 1)
        table[mask] = torch.cat((known, known.new_ones(len(known), 1)), dim=1)
        return table


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples(Message):
    """Labelled images, uint8 [N, 3, H, W] with uint8 [N]: a public fold on its way to the clients."""

    images: Tensor
    labels: Tensor
    dtypes: ClassVar[Mapping[str, torch.dtype]] = {"images": torch.uint8, "labels": torch.uint8}

    def check(self, size: int, classes: int) -> None:
        """Raises MessageError."""
        count = len(self.labels) if self.labels.dim() == 1 else -1
        _expect_shape("images", self.images, (count, 3, size, size))
        if count < 1 or int(self.labels.max()) >= classes:
            raise MessageError(f"{count} labels; expected at least one, and all below {classes}")


def _expect_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise MessageError(f"{name} has shape {list(value.shape)}, expected {list(shape)}")
