"""One victim of a game of several rounds: every arm's signals, what a choosing server reads, and what checks cost."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dml.arms import steps
from dml.arms.federation import Federation
from dml.config import Experiment
from dml.data.folds import deal as deal_folds
from dml.data.images import Images
from dml.privacy import chosen
from dml.privacy.game import VICTIM, Game, seed_of
from dml.privacy.several import Reader, by_round, run
from dml.privacy.shadows import accuracy, blind
from dml.privacy.views import Tap
from dml.streams import SERVER, stream
from dml.training import workers
from dml.training.clients import Fit, predict
from dml.training.memory import carry_out

SHOWN = 4  # one candidate in so many is among the public images where a client leaves out what it was shown


@lru_cache(maxsize=1)
def reader(game: Game, device: torch.device) -> Reader:
    return Reader(game, device)


def signals(game: Game, victims: Iterable[int], device: torch.device) -> dict[str, Tensor]:
    """Tensors whose first dimension is that of the victims: the signals of `several`; "chosen/<copy>/own" and ".../sum"
    [N], what a choosing server reads; "near/<copy>", whether the client has an image like that copy; "left out/odds"
    [C, N], what it reads of a client that trains on none of the images it was shown (NaN: not shown); "accuracy/local"
    and "accuracy/left out" on the unseen sample; "pixels" [N], a score from no model; "members" and "canary".
    """
    read, rows = reader(game, device), []
    for m in victims:
        row = {"members": torch.from_numpy(game.members[m]), "canary": torch.from_numpy(game.canary)}

        def watch(fed: Federation, row: dict = row) -> None:
            for name, copy in read.copies.items():
                row[f"chosen/{name}/own"], row[f"chosen/{name}/sum"] = chosen.answers(fed, copy, read.labels)
            row["accuracy/local"] = accuracy(fed)

        for arm, view in (("fedavg", read.weights), ("asynchronous", read.partial), ("dml", read.predictions)):
            tap = Tap()
            run(arm, game.federation(m, tap, device), game.draw.rounds, watch if arm == "dml" else None)
            row |= view(by_round(tap, device))
        own = torch.from_numpy(game.members[m])
        row |= {f"near/{name}": chosen.near(copy, read.images[own]).any(1) for name, copy in read.copies.items()}
        row["pixels"] = blind(game, m)
        rows.append(row | _left_out(game, m, read, device))
        workers.advance()
    return {name: torch.stack([row[name].cpu() for row in rows]) for name in rows[0]}


def _left_out(game: Game, m: int, read: Reader, device: torch.device) -> dict[str, Tensor]:
    """The victim once more, training on none of its images that look like one it was shown."""
    shown = np.zeros(len(game.pool), bool)
    shown[stream(seed_of(game.seed, m), SERVER, "chosen").permutation(len(game.pool))[::SHOWN]] = True
    fed = game.federation(m, Tap(), device)
    (fit, *_) = steps.local(fed, 1)
    kept = ~chosen.near(fit.images, read.images[torch.from_numpy(shown)]).any(1)
    carry_out([Fit(fed.clients[VICTIM], 1, "local", fit.images[kept], fit.labels[kept])])
    everything = torch.cat(list(read.copies.values()))
    odds = read.odds_of_copies(predict(fed.clients[VICTIM], everything))
    odds[:, ~torch.from_numpy(shown)] = torch.nan
    return {"left out/odds": odds, "left out/kept": kept.float().mean(), "accuracy/left out": accuracy(fed)}


def honest(images: Images, experiment: Experiment, seed: int) -> dict[str, float]:
    """How often a client would refuse public images that nobody chose, in the folds of an experiment: the share of all
    public images that look like one of a client's own of that round, and of a client's rounds with any such image.
    """
    folds = deal_folds(images.train.labels.numpy(), experiment, seed)
    pixels = images.train.images.permute(0, 2, 3, 1)
    alike = [
        chosen.near(pixels[torch.from_numpy(public)], pixels[torch.from_numpy(private)]).any(1)
        for public, clients in zip(folds.public, folds.private, strict=True)
        for private in clients
    ]
    return {
        "images": float(torch.cat(alike).float().mean()),
        "rounds": float(torch.stack([each.any() for each in alike]).float().mean()),
    }
