"""Defences at equal strength: what a server holds of a victim at each point, and what the whole protocol is worth.

A point is a way to train and a way to speak. Its arm runs as it is, with a tap on the wire, until the first message
that tells of the pool's images; the attacker's shadows are the other victims at the same point.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from dml.arms import messaging
from dml.arms.catalogue import ARMS
from dml.arms.federation import Federation
from dml.arms.outputs import dml
from dml.config import Experiment
from dml.data.images import Images
from dml.exchange.messages import Losses
from dml.losses import log_probabilities, model_loss
from dml.privacy import membership
from dml.privacy.adversaries import CHOOSES, ONE, QUERIES, Scored
from dml.privacy.chosen import COPIES, answers
from dml.privacy.defences import MESSAGE, Alter, dp_sgd
from dml.privacy.game import VICTIM, Game
from dml.privacy.joint import leave_one_out
from dml.privacy.membership import ATTACKS, Signals
from dml.privacy.shadows import Engine, Trained, log_odds, observe, pick
from dml.privacy.surrogate import TangentCopier
from dml.privacy.views import ADVERSARIES, Known, Tap
from dml.training import workers
from dml.training.clients import Fit, predict
from dml.training.memory import carry_out

Arrays = Mapping[str, np.ndarray]
SUM = "sum of predictions"  # the view that needs what the bystanders trained, too


@dataclass(frozen=True)
class Point:
    """`arm` "dml" or "fedavg"; what the server holds of it, a `view` of `views.ADVERSARIES`; what is done to a message
    (a name of `defences.MESSAGE`); the `noise` multiplier of DP-SGD, 0 for plain training; a message `every` so many
    rounds.
    """

    name: str
    arm: str = "dml"
    view: str = "losses"
    message: str = ""
    noise: float = 0.0
    every: int = 1

    def begin(self, fed: Federation) -> Iterator[list[Fit]]:
        """The arm of this point, begun."""
        return (partial(dml, every=self.every) if self.every > 1 else ARMS[self.arm])(fed)

    @property
    def engine(self) -> Engine:
        """What does the private training. Raises ModuleNotFoundError for DP-SGD without opacus."""
        return dp_sgd(self.noise) if self.noise else carry_out

    @property
    def alter(self) -> Alter:
        """What a client does to its message."""
        return MESSAGE[self.message].alter if self.message else lambda message, labels, seed, m: message

    @property
    def protocol(self) -> tuple:
        """What decides its accuracy: points that differ only in who sees what have the same."""
        return self.arm, self.message, self.noise, self.every


@dataclass
class Attacker:
    """What is prepared once for a game: candidates and their near copies, and for each round whose message may be the
    first the public knowledge and a copier of models that are seen by their tables.
    """

    game: Game
    device: torch.device
    known: dict[int, tuple[Known, TangentCopier]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        game = self.game
        self.images, self.labels = pick(game, game.pool, self.device)
        self.copies = torch.cat([make(self.images) for make in COPIES.values()])
        for now, fold in enumerate((game.public, *game.later), 1):
            known = Known(game.experiment, len(game.images.classes), game.initial, *pick(game, fold, self.device))
            self.known[now] = known, TangentCopier(known, self.images)

    def ask(self, fed: Federation, point: Point, m: int) -> Tensor:
        """The log-odds [C, N] of all near copies of the candidates when they are among the public images."""
        labels = self.labels.repeat(len(COPIES))
        if point.view == SUM:
            return answers(fed, self.copies, labels)[1].unflatten(0, (len(COPIES), -1))
        table = log_probabilities(predict(fed.clients[VICTIM], self.copies))
        if point.view == "losses":
            said = Losses(round=point.every, sender=VICTIM, losses=model_loss(table, labels))
            heard = point.alter(said, labels, self.game.seed, m)
            table = heard.log_probabilities(labels)  # type: ignore[attr-defined]  # losses again
        return log_odds(table, labels).unflatten(0, (len(COPIES), -1))


@lru_cache(maxsize=1)
def attacker(game: Game, device: torch.device) -> Attacker:
    return Attacker(game, device)


def signals(game: Game, victims: Iterable[int], points: Iterable[Point], device: torch.device) -> dict[str, Tensor]:
    """What the server holds of each victim, tensors whose first dimension is that of the victims: "members" and
    "canary"; by point "<name>/candidates" [N] and "<name>/public" (`shadows.observe`), and "<name>/asked" [C, N].
    """
    prepared, rows = attacker(game, device), []
    for m in victims:
        row = {"members": torch.from_numpy(game.members[m]), "canary": torch.from_numpy(game.canary)}
        trained: dict[float, Trained] = {}
        for point in points:
            kept = trained.setdefault(point.noise, Trained(point.engine))
            row |= {f"{point.name}/{what}": value for what, value in hear(prepared, m, point, kept).items()}
        rows.append(row)
        workers.advance()
    return {name: torch.stack([row[name].cpu() for row in rows]) for name in rows[0]}


def hear(prepared: Attacker, m: int, point: Point, trained: Trained) -> dict[str, Tensor]:
    """The signals of one victim at one point. Nobody else is trained where nobody else is heard."""
    game, now = prepared.game, point.every
    known, copier = prepared.known[now]
    tap = Tap(lambda message: point.alter(message, known.labels, game.seed, m))
    fed, asked = game.federation(m, tap, prepared.device), torch.empty(0)
    for fits in point.begin(fed):
        phase, here = fits[0].phase, fits[0].round
        if here > now or (here == now and phase == "public"):
            break
        heard = fits if point.view == SUM else [fit for fit in fits if fit.client.index == VICTIM]
        if phase == "local" and now == 1:
            trained.recall(heard, [fit.client.index for fit in heard])
        elif phase != "pretrain":
            (trained.engine if phase == "local" else carry_out)(heard)
        if phase == "local" and here == now:
            asked = prepared.ask(fed, point, m)
    view = ADVERSARIES[point.view].view(tap.sent, known)
    return {**observe(view, copier, prepared.images, prepared.labels), "asked": asked}


def attacks(game: Arrays, points: Iterable[Point], labels: Mapping[int, np.ndarray]) -> Iterator[Scored]:
    """Every attack on a game, from the signals of all its victims and the labels of the public folds by round; the view
    of a score is the point's name.
    """
    members, everyone = game["members"], np.arange(len(game["members"]))
    for point in points:
        told = labels[point.every]
        one = Signals(game[f"{point.name}/candidates"], game[f"{point.name}/public"], members, told)
        for attack in ATTACKS:
            yield Scored(ONE, point.name, attack, membership.scores(attack, one, everyone))
        asked = game[f"{point.name}/asked"]
        exact = Signals(asked[:, 0], np.zeros((len(members), 1)), members, told)
        for attack in QUERIES:
            yield Scored(CHOOSES, point.name, f"{attack}, exact", membership.scores(attack, exact, everyone))
        yield Scored(CHOOSES, point.name, "likelihood ratio, all copies", leave_one_out(asked, members))


def worth(images: Images, experiment: Experiment, seed: int, point: Point, device: torch.device) -> float:
    """The accuracy on the unseen images after the whole protocol at a point, mean over the clients."""
    fed = Federation(experiment, images, seed, device)
    fed.wire = Tap(lambda said: point.alter(said, messaging.public_labels(fed, said.round), seed, said.round))
    for fits in point.begin(fed):
        (point.engine if fits[0].phase == "local" else carry_out)(fits)
        workers.advance()
    return float(np.mean([row.value for row in fed.rows if row.metric == "unseen accuracy"]))
