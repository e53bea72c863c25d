"""What more clients cost: real messages of up to 1,000 clients through every topology, formulas, and the secure sum."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from dml.evidence.cost_models import losses_round, weights_round
from dml.exchange.envelope import Message
from dml.exchange.ledger import Post
from dml.exchange.messages import FLOOR, Losses, Predictions
from dml.exchange.topologies import TOPOLOGIES
from dml.losses import log_probabilities, model_loss
from dml.streams import SERVER, stream

CLIENTS = (2, 5, 10, 30, 100, 300, 1000)


@dataclass
class Tally(Post):
    """A post that adds up bytes by direction: a thousand clients that hear of each other are a million entries."""

    sent: Counter = field(default_factory=Counter)

    def enter(self, message: Message, data: bytes, receivers: Iterable[int], sender: int | None = None) -> None:
        """Count a message, whose byte form is `data`, once for every receiver (see `Post.enter`)."""
        source = message.sender if sender is None else sender
        for receiver in receivers:
            self.sent["up" if receiver == SERVER else "down" if source == SERVER else "peer"] += len(data)


def scaling(clients: Sequence[int] = CLIENTS, images: int = 52, classes: int = 2) -> pd.DataFrame:
    """Real messages of K clients through the real code of every topology (dml/exchange/topologies.py).

    Columns topology, clients, images, up and down (bytes of one client), server (bytes that it sends and gets), error:
    the largest difference of any client's table to the plain mean over its peers in float64.
    """
    rows, labels, outputs = [], torch.arange(images) % classes, 1 if classes == 2 else classes
    for count in clients:
        logits = stream(count, 0, "game").normal(0, 3, (count, images, outputs)).astype(np.float32)
        log_p = log_probabilities(torch.from_numpy(logits))
        uploads = [
            Losses(round=1, sender=i, losses=model_loss(each, labels))
            if classes == 2
            else Predictions(round=1, sender=i, probabilities=each.exp())
            for i, each in enumerate(log_p)
        ]
        exact = log_p.double()
        means = (exact.sum(0) - exact) / (count - 1)
        for name, exchange in TOPOLOGIES.items():
            post = Tally()
            tables = exchange(uploads, labels, "student-first", post)
            up, down, peer = (post.sent[way] for way in ("up", "down", "peer"))
            error = max((tables[i] - means[i]).abs().max().item() for i in tables)
            each = {"up": (up + peer) / count, "down": (down + peer) / count, "server": up + down, "error": error}
            rows.append({"topology": name, "clients": count, "images": images, **each})
    return pd.DataFrame(rows)


def agreement(ladder: pd.DataFrame, images: int, classes: int, parameters: int) -> pd.DataFrame:
    """Formula against measurement for a client and round of the two arms in float32: columns arm, direction, formula
    and payload (bytes of the numbers), encoded (of the message), header (their difference).
    """
    formulas = {"dml": losses_round(images, classes), "fedavg": weights_round(parameters)}
    rows = []
    for arm, sizes in formulas.items():
        measured = ladder.set_index("arm").loc[arm]
        for way, expected in zip(("up", "down"), sizes, strict=True):
            rows.append(
                (
                    arm,
                    way,
                    expected,
                    measured[f"payload_{way}"],
                    measured[way],
                    measured[way] - measured[f"payload_{way}"],
                )
            )
    return pd.DataFrame(rows, columns=["arm", "direction", "formula", "payload", "encoded", "header"])


def secured(images: int, clients: int = 5) -> pd.DataFrame:
    """What a secure sum of drawn tables costs one client and how far it is off: columns message, direction, bytes, and
    error, the largest difference to the plain sum. Empty without the optional extra `flower`, whose libraries it needs.
    """
    try:
        from dml.exchange.secure.server import secure_sum
    except ImportError:
        return pd.DataFrame(columns=["message", "direction", "bytes", "error"])
    logits = torch.from_numpy(stream(0, 0, "game").normal(0, 3, (clients, images, 1)).astype(np.float32))
    tables = log_probabilities(logits).clamp_min(float(np.log(FLOOR)))
    outcome = secure_sum(list(tables))
    error = (outcome.total - tables.double().sum(0)).abs().max().item()
    ways = {"Roster": "down", "Inbox": "down", "Survivors": "down"}
    rows = [(kind, ways.get(kind, "up"), np.mean(sizes), error) for kind, sizes in outcome.nbytes.items()]
    return pd.DataFrame(rows, columns=["message", "direction", "bytes", "error"])
