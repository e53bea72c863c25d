"""The federations of the membership game, and what an attacker reads off each: the signals of every view.

Each victim is target and, for the other targets, shadow. Its federation is trained once; then the arms themselves run
over it with a tap on the wire, so that a view holds exactly what they send. What the probes need of a federation are a
few hundred numbers: the logits of every candidate under the model that a view shows (or under a copy distilled from the
predictions it shows), those of the public images, and the accuracy that the method buys.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from dml.arms.catalogue import ARMS
from dml.arms.federation import Federation
from dml.exchange.messages import Message
from dml.losses import log_probabilities
from dml.models import VisionNet
from dml.privacy.defences import Defence
from dml.privacy.game import VICTIM, Game
from dml.privacy.surrogate import TangentCopier, known_logits
from dml.privacy.views import ADVERSARIES, Known, Tap, View
from dml.training import workers
from dml.training.clients import Fit, correct, predict
from dml.training.memory import carry_out

METHODS = ("fedavg", "asynchronous", "dml")
PARTS = 5  # of the cross-validation that looks at pixels alone
Engine = Callable[[Sequence[Fit]], object]


@dataclass
class Trained:
    """The clients of a federation after their local training, kept so that every arm starts from the same ones."""

    engine: Engine
    values: dict[object, dict[str, Tensor]] = field(default_factory=dict)

    def recall(self, fits: Sequence[Fit], keys: Sequence[object]) -> None:
        """Carry out local fits, or load what they led to before."""
        missing = [(fit, key) for fit, key in zip(fits, keys, strict=True) if key not in self.values]
        self.engine([fit for fit, _ in missing])
        for fit, key in missing:
            self.values[key] = {name: value.clone() for name, value in fit.client.parameters().items()}
        for fit, key in zip(fits, keys, strict=True):
            fit.client.load(self.values[key])


def play(arm: str, fed: Federation, trained: Trained, keys: Sequence[object]) -> None:
    """The first round of an arm, as far as the server's and the victim's models go: nobody else is refined."""
    for fits in ARMS[arm](fed):
        if fits[0].round == 2:
            return
        if fits[0].phase == "local":
            trained.recall(fits, keys)
        elif fits[0].phase == "global":
            carry_out(fits)
        elif fits[0].phase == "public":
            carry_out([fits[VICTIM]])
            return


def known(game: Game, device: torch.device) -> Known:
    """Public knowledge of the game."""
    pixels, labels = pick(game, game.public, device)
    return Known(game.experiment, len(game.images.classes), game.initial, pixels, labels)


def pick(game: Game, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images, uint8 [n, size, size, 3], and labels at these places of the game's training set."""
    at, train = torch.from_numpy(indices), game.images.train
    return train.images[at].permute(0, 2, 3, 1).contiguous().to(device), train.labels[at].to(device)


def log_odds(log_p: Tensor, labels: Tensor) -> Tensor:
    """The log-odds log p_y - log (1 - p_y) of the true class, [N], of log-probabilities [N, C] up to a constant."""
    true = F.one_hot(labels, log_p.shape[-1]).bool()
    return log_p[true] - log_p.masked_fill(true, -torch.inf).logsumexp(-1)


def features(log_p: Tensor) -> Tensor:
    """A table [P, C] as one row of numbers: the logits, [P], of two classes; the centred logits, [P C], of more."""
    if log_p.shape[-1] == 2:
        return log_p[:, 1] - log_p[:, 0]
    return (log_p - log_p.mean(-1, keepdim=True)).flatten()


def observe(view: View, copier: TangentCopier, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What a view says of the victim: the log-odds "candidates" [N] of images (uint8 [N, size, size, 3]) with their
    labels, and the "public" features of the public fold. `copier` was made for the same images.
    """
    values, table = view.weights(VICTIM), view.table(VICTIM)
    if values is not None:
        return signals_of(view.known.model(values), view.known, images, labels)
    return {"candidates": log_odds(log_probabilities(copier.logits(table)), labels), "public": features(table)}


def signals_of(model: VisionNet, known: Known, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The log-odds of images and the features of the public fold, of a model."""
    candidates, public = (log_probabilities(known_logits(model, known, pixels)) for pixels in (images, known.public))
    return {"candidates": log_odds(candidates, labels), "public": features(public)}


@lru_cache(maxsize=1)
def attacker(game: Game, device: torch.device) -> tuple[Known, TangentCopier]:
    """What an attacker prepares once for a game."""
    facts = known(game, device)
    return facts, TangentCopier(facts, pick(game, game.pool, device)[0])


def signals(
    game: Game, victims: Iterable[int], engine: Engine, defences: dict[str, Defence], device: torch.device
) -> dict[str, Tensor]:
    """Every signal of the federations of `victims`, which share a group: tensors whose first dimension is theirs.

    "<view>/candidates" [m, N] and "<view>/public" [m, P], with two views that show no trained model ("untrained" and
    "blind"); "bytes/<view>", of the message that tells of the victim; "accuracy/<method>" on the unseen sample after
    the round, "accuracy/local" before it, "accuracy/members" on the victim's own images; and what attacks are scored
    by: "members", "canary", "group" and the public "labels". With `defences` (of messages, by name) their views once
    more under each: "<view>, <name>/..." and "accuracy/<arm>, <name>". `engine` does the local training.
    """
    (facts, copier), trained, rows = attacker(game, device), Trained(engine), []
    images, labels = pick(game, game.pool, device)
    before = {f"untrained/{what}": value for what, value in signals_of(facts.model(), facts, images, labels).items()}
    for m in victims:
        row = {**before, "blind/candidates": blind(game, m), "group": torch.tensor(float(game.group(m)))}
        row |= {"members": torch.from_numpy(game.members[m]), "canary": torch.from_numpy(game.canary)}
        row["labels"] = facts.labels
        keys = [m, *((game.group(m), c) for c in range(1, game.experiment.clients))]
        for method in METHODS:
            tap = Tap()
            fed = game.federation(m, tap, device)
            play(method, fed, trained, keys)
            row[f"accuracy/{method}"] = accuracy(fed)
            for name, adversary in ADVERSARIES.items():
                if adversary.arm == method:
                    view = adversary.view(tap.sent, facts)
                    row |= {f"{name}/{what}": value for what, value in observe(view, copier, images, labels).items()}
                    row[f"bytes/{name}"] = torch.tensor(float(view.about(VICTIM).nbytes))
        fed.clients[VICTIM].load(trained.values[m])
        row["accuracy/local"] = accuracy(fed)
        own = torch.from_numpy(game.members[m]).to(device)
        right = correct(predict(fed.clients[VICTIM], images[own]), labels[own])
        row["accuracy/members"] = right.float().mean()
        for name, defence in defences.items():
            tap = Tap(partial(_altered, defence, facts.labels, game.seed, m))
            fed = game.federation(m, tap, device)
            play(defence.arm, fed, trained, keys)
            row[f"accuracy/{defence.arm}, {name}"] = accuracy(fed)
            seen = observe(ADVERSARIES[defence.view].view(tap.sent, facts), copier, images, labels)
            row |= {f"{defence.view}, {name}/{what}": value for what, value in seen.items()}
        rows.append(row)
        workers.advance()
    return {name: torch.stack([row[name].cpu() for row in rows]) for name in rows[0]}


def _altered(defence: Defence, labels: Tensor, seed: int, m: int, message: Message) -> Message:
    return defence.alter(message, labels, seed, m)


def accuracy(fed: Federation) -> Tensor:
    """The victim's accuracy on the unseen sample."""
    return correct(predict(fed.clients[VICTIM], fed.unseen).cpu(), fed.unseen_labels).float().mean()


def overfit(epochs: int) -> Engine:
    """Local training for far too long: the control in which membership must be found."""

    def engine(fits: Sequence[Fit]) -> None:
        for fit in fits:
            usual = fit.client.experiment
            fit.client.experiment = replace(usual, epochs=epochs)
            carry_out([fit])
            fit.client.experiment = usual

    return engine


def blind(game: Game, m: int) -> Tensor:
    """Scores [N] for membership from pixels alone: cross-validated ridge regression on thumbnails. It sees no model, so
    it must be at chance: otherwise members differ from non-members before any training.

    Every part of the cross-validation holds as many members as others. Where a part holds
    more members, the others that it is judged by hold fewer, and its scores would be low because it has members.
    """
    thumbnails = F.adaptive_avg_pool2d(game.images.train.images[torch.from_numpy(game.pool)].float(), 8)
    model, target = make_pipeline(StandardScaler(), Ridge(len(game.pool))), game.members[m].astype(float)
    count = min(PARTS, int(target.sum()), int(len(target) - target.sum()))  # a part holds both kinds
    inputs, parts = thumbnails.flatten(1).numpy(), StratifiedKFold(count, shuffle=True, random_state=m)
    return torch.from_numpy(cross_val_predict(model, inputs, target, cv=parts.split(inputs, target))).float()
