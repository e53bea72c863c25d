"""The server that chooses the public images and crafts what it sends back: an active attack on one victim of a game.

In the first round the candidates are the public images. The server reads the victim's losses on them and answers with
a table of its own making, from which the victim refines; after the next private training it asks again. The sum that a
server of DML sends down can hold any such table, as it knows what the victim takes out of it. To push a model off an
image and see whether it comes back is the idea of the active attacks of Nasr et al. 2019 (arXiv 1812.00910).
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dml.arms import steps
from dml.config import CLIP
from dml.exchange.messages import FLOOR
from dml.losses import contribution, log_probabilities, model_loss
from dml.privacy.adversaries import QUERIES, Scored
from dml.privacy.game import VICTIM, Game
from dml.privacy.joint import leave_one_out
from dml.privacy.membership import Signals, scores
from dml.privacy.shadows import accuracy, log_odds, pick
from dml.privacy.views import Tap
from dml.training import workers
from dml.training.clients import Fit, predict
from dml.training.memory import carry_out

CRAFTS, ONE_LOOK = "server crafts", "one look"
FORM = "student-first"
IMAGES = ("fresh", "kept")  # what the victim trains on in the second round
Arrays = Mapping[str, np.ndarray]


def tables(peers: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What the server may send back of images with these labels, each a mean of peers' log-probabilities, [N, C], as
    the client reads it: the `peers`' own mean, certainty of a wrong class at both clips, and every class alike.
    """
    classes = peers.shape[-1]
    wrong = torch.nn.functional.one_hot((labels + 1) % classes, classes).bool()

    def sure(clip: float) -> Tensor:
        return torch.where(wrong, 1 - clip, clip / (classes - 1)).log()

    flat = torch.full_like(peers, 1 / classes).log()
    return {"honest": peers, "wrong": sure(FLOOR), "wrong, clipped": sure(CLIP), "flat": flat}


def signals(game: Game, victims: Iterable[int], device: torch.device) -> dict[str, Tensor]:
    """Tensors whose first dimension is that of the victims: "first" [N], the log-odds of the candidates' labels before
    the table came; "<table>, <images>" [N], those after the second private training; "accuracy/<table>, <images>" on
    the unseen sample then; "loss/<table>", of the table on the labels, and "loss/own"; "members" and "canary".
    """
    images, labels = pick(game, game.pool, device)
    rows = []
    for m in victims:
        row = {"members": torch.from_numpy(game.members[m]), "canary": torch.from_numpy(game.canary)}
        fed = game.federation(m, Tap(), device)
        first, second = steps.local(fed, 1), steps.local(fed, 2)
        carry_out(first)
        said = [log_probabilities(predict(client, images)).clamp_min(np.log(FLOOR)) for client in fed.clients]
        row |= {"first": log_odds(said[VICTIM], labels), "loss/own": model_loss(said[VICTIM], labels).mean()}
        others = torch.stack([contribution(FORM, table) for at, table in enumerate(said) if at != VICTIM]).mean(0)
        victim = fed.clients[VICTIM]
        for name, table in tables(others, labels).items():
            row[f"loss/{name}"] = model_loss(table, labels).mean()
            refined = deepcopy(victim)
            carry_out([Fit(refined, 1, "public", images, labels, FORM, table)])
            for kind, fit in zip(IMAGES, (second[VICTIM], replace(first[VICTIM], round=2)), strict=True):
                fed.clients[VICTIM] = after = deepcopy(refined)
                carry_out([replace(fit, client=after)])
                row[f"{name}, {kind} images"] = log_odds(log_probabilities(predict(after, images)), labels)
                row[f"accuracy/{name}, {kind} images"] = accuracy(fed)
        rows.append(row)
        workers.advance()
    return {name: torch.stack([row[name].cpu() for row in rows]) for name in rows[0]}


def views() -> Iterator[str]:
    """A table and the images of the second round."""
    for table in ("honest", "wrong", "wrong, clipped", "flat"):
        for kind in IMAGES:
            yield f"{table}, {kind} images"


def attacks(game: Arrays) -> Iterator[Scored]:
    """Every attack on a game, from the signals of all its victims."""
    members, first = game["members"], game["first"]
    before = {f"{name}, first look": _query(name, first, members) for name in QUERIES}
    for attack, found in before.items():
        yield Scored(CRAFTS, ONE_LOOK, attack, found)
    for view in views():
        second = game[view]
        after = {f"{name}, second look": _query(name, second, members) for name in QUERIES}
        both = leave_one_out(np.stack([first, second], axis=1), members)
        for attack, found in (before | after | {"likelihood ratio, both looks": both}).items():
            yield Scored(CRAFTS, view, attack, found)


def _query(attack: str, odds: np.ndarray, members: np.ndarray) -> np.ndarray:
    seen = Signals(odds, np.zeros((len(members), 1)), members, np.zeros(1, int))
    return scores(attack, seen, np.arange(len(members)))
