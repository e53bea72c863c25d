"""All arms by name, and how one is carried out.

An arm is a generator over a federation. It yields lists of fits (the training that clients can do at the same time)
and goes on when they are carried out; between two yields it exchanges messages. To add an arm, write the function in
one of the rooms beside this and its line in `ARMS`.
"""

from collections.abc import Callable, Iterator
from functools import partial

from dml.arms.controls import local, pooled
from dml.arms.federation import Federation
from dml.arms.outputs import dml, self_distillation, shuffled, smoothing
from dml.arms.weights import asynchronous, fedavg
from dml.config import CLIP
from dml.training.clients import Fit
from dml.training.memory import carry_out

Arm = Callable[[Federation], Iterator[list[Fit]]]

ARMS: dict[str, Arm] = {
    "dml": dml,
    "fedavg": fedavg,
    "asynchronous": asynchronous,
    "pooled": pooled,
    "local": local,
    "local+public": partial(local, public=True),
    "fedavg+public": partial(fedavg, public="before"),
    "self": self_distillation,
    "dml-one-term": partial(dml, form="one-term"),
    "dml-peer-first": partial(dml, form="peer-first"),
}
CONTROLS: dict[str, Arm] = {  # more of them, for the studies of the analysis plan
    "shuffled": shuffled,
    "smoothing": smoothing,
    "fedavg, then public": partial(fedavg, public="after"),
    "fedavg+mixed": partial(fedavg, public="mixed"),
    "dml, clipped": partial(dml, clip=CLIP),
}


def arms_for(classes: int) -> tuple[str, ...]:
    """The arms that make sense: the author's one-term form exists for two classes only."""
    return tuple(name for name in ARMS if classes == 2 or name != "dml-one-term")


def run(arm: str | Arm, fed: Federation, progress: Callable[[], None] = lambda: None) -> None:
    """Carry out an arm (or one of `ARMS` and `CONTROLS` by name) in a federation.

    Rows and training history are left in it. `progress` is called after every batch of fits.
    """
    begin = (ARMS | CONTROLS)[arm] if isinstance(arm, str) else arm
    for fits in begin(fed):
        fed.history.extend(row for history in carry_out(fits) for row in history)
        progress()
