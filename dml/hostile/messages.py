"""The one message of this annex: a sum in which not everybody counts alike."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dml.exchange.messages import Message, MessageError

NOTHING = 1e-6  # of the sum's weight: less than that are no peers


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighted(Message):
    """A sum [N, columns] of `clients` clients' contributions, and the weight in it of every one of the K, of sum
    `clients`: so that a client can take its own part out.
    """

    total: Tensor
    weights: Tensor
    clients: int
    scalars: ClassVar[tuple[str, ...]] = ("round", "sender", "clients")

    def check(self, count: int, columns: int, everyone: int) -> None:
        """`count` is the size of the public fold, `columns` the width of a share, `everyone` K. Raises MessageError."""
        if tuple(self.total.shape) != (count, columns) or tuple(self.weights.shape) != (everyone,):
            shapes = f"{list(self.total.shape)} and {list(self.weights.shape)}"
            raise MessageError(f"a weighted sum of shapes {shapes}, expected {[count, columns]} and {[everyone]}")
        if (self.weights < 0).any() or not isinstance(self.clients, int) or self.clients < 1:
            raise MessageError("a weighted sum with a negative weight, or of nobody")

    def without(self, own: Tensor, index: int) -> Tensor | None:
        """The peers' weighted mean: a client's own part leaves the sum. None when nobody else has a weight."""
        weight = self.weights[index]
        others = self.clients - weight
        return (self.total - weight * own) / others if others > NOTHING * self.clients else None
