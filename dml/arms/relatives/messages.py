"""What only the relatives send: scores up with a number about the sender, one weighted sum down."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dml.exchange.messages import Message, MessageError


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores(Message):
    """Numbers about each public image, [N, columns]: logits or probabilities; `merit` says how good the sender is."""

    values: Tensor
    merit: float = 0.0
    scalars: ClassVar[tuple[str, ...]] = ("round", "sender", "merit")

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises MessageError."""
        if tuple(self.values.shape) != shape:
            raise MessageError(f"values has shape {list(self.values.shape)}, expected {list(shape)}")
        if not isinstance(self.merit, int | float) or not abs(self.merit) < 1e9:
            raise MessageError(f"merit {self.merit!r} is no number")


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedSum(Message):
    """The sum of the clients' tables [N, columns], each times its weight; `weights` [K], in the order of `clients`."""

    total: Tensor
    weights: Tensor
    clients: tuple[int, ...]
    scalars: ClassVar[tuple[str, ...]] = ("round", "sender", "clients")
