"""What a message says of the public images, as scores (see `attacks`), and such a message that says another thing.

DML sends losses or probabilities; its relatives (dml/arms/relatives) send `Scores`, which are probabilities, or logits,
of which two classes have one column. A reader can tell them apart: an image's probabilities add up to 1.
"""

from dataclasses import replace

from torch import Tensor

from dml.arms.relatives.messages import Scores, WeightedSum
from dml.exchange.messages import FLOOR, Aggregate, Losses, Predictions
from dml.hostile.attacks import scores
from dml.hostile.messages import Weighted
from dml.losses import log_probabilities

Said = Losses | Predictions | Scores
Told = Aggregate | Weighted | WeightedSum


def said(message: Said, labels: Tensor) -> Tensor:
    """What a client says, as scores [N, C]."""
    return read(message.values) if isinstance(message, Scores) else scores(message.log_probabilities(labels))


def told(message: Told, classes: int) -> Tensor:
    """What a server says of the mean of all, as scores [N, C]; peer-first's table has a column more."""
    mean = message.total if isinstance(message, WeightedSum) else message.total / message.clients
    return read(mean[:, :classes])


def saying(message: Said, lie: Tensor, labels: Tensor) -> Said:
    """The message with a lie in it, as scores [N, C], where the truth was."""
    if isinstance(message, Losses):
        true = lie.double().log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return replace(message, losses=-true.float())
    p = lie.double().softmax(-1).float()
    if isinstance(message, Predictions):
        return replace(message, probabilities=p)
    logits = lie[:, 1:] - lie[:, :1] if message.values.shape[1] == 1 else lie
    return replace(message, values=p if probable(message.values) else logits.to(message.values))


def read(table: Tensor) -> Tensor:
    """Scores [N, C] of a table of probabilities, or of logits or log-probabilities."""
    if probable(table):
        return scores(table.clamp_min(FLOOR).log())
    return scores(log_probabilities(table) if table.shape[1] == 1 else table)


def probable(table: Tensor) -> bool:
    """Whether a table [N, columns] is one of probabilities."""
    return table.shape[1] > 1 and bool((table >= 0).all()) and bool(((table.sum(-1) - 1).abs() < 1e-3).all())
