"""From the signals of one game to the scores of every attack, by adversary.

Three strengths. "one round, black box": the five attacks of notebook 03 on the messages of the first round. "several
rounds, white box": these, and attacks on all rounds and on what was really sent, the update layer by layer. "server
chooses": candidates, or near copies of them, were among the public images.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_curve

from dml.privacy import membership
from dml.privacy.game import VICTIM
from dml.privacy.joint import leave_one_out, stand_out
from dml.privacy.membership import ATTACKS, Signals
from dml.privacy.rates import area
from dml.privacy.several import COLLUDING, summed

ONE, SEVERAL, CHOOSES = "one round, black box", "several rounds, white box", "server chooses"
NO_MODEL = "no model"  # a control
FPR = 0.01
WEIGHTS = ("weights", "partial weights", *(summed("weights", count) for count in COLLUDING))
PREDICTIONS = ("losses", *(summed("predictions", count) for count in COLLUDING))
QUERIES = ("loss threshold", "LiRA offline", "LiRA online")  # on answers to single images
LEAVES_OUT, REFUSES = "client leaves out what it was shown", "client refuses aloud"
Arrays = Mapping[str, np.ndarray]


class Scored(NamedTuple):
    """The scores [M, N] of an attack, NaN where a candidate was not tried."""

    strength: str
    view: str
    attack: str
    scores: np.ndarray


def attacks(game: Arrays, labels: np.ndarray) -> Iterator[Scored]:
    """Every attack on a game, from the signals of all its victims (`trials.signals`) and the labels of the public fold
    of the first round.
    """
    members = game["members"]
    for view in (*WEIGHTS, *PREDICTIONS):
        odds, public = game[f"{view}/odds"], game[f"{view}/public"]
        one = Signals(odds[:, 0, VICTIM], public[:, 0], members, labels)
        yield from _queries(ONE, view, one, tuple(ATTACKS))
        for attack, features in (_of_weights if view in WEIGHTS else _of_tables)(game, view).items():
            yield Scored(SEVERAL, view, f"likelihood ratio, {attack}", leave_one_out(features, members))
        if odds.shape[2] > 1:
            for attack, both in _by_client(game, view).items():
                yield Scored(SEVERAL, view, f"FedMIA, {attack}", stand_out(both))
        rounds = Signals(odds[:, 0, VICTIM], public.reshape(len(public), -1), members, labels)
        yield Scored(SEVERAL, view, "public ridge, all rounds", _scores("public ridge", rounds))
    yield from _chosen(game, labels)
    yield Scored(NO_MODEL, "pixels", "ridge", game["pixels"])


def _of_weights(game: Arrays, view: str) -> dict[str, np.ndarray]:
    """The features [M, F, N] that attacks on weights join: log-odds of near copies, log-odds after and before a round,
    cosines of the update with the candidate's gradient.
    """
    odds, start, cosine, copies = (game[f"{view}/{what}"] for what in ("odds", "start", "cosine", "copies"))
    after, update = odds[:, :, VICTIM], cosine[:, :, :, VICTIM]
    flat = update.reshape(len(update), -1, update.shape[-1])
    losses = np.concatenate([after, start[:, 1:]], axis=1)  # before the first round all are the same
    return {
        "near copies": copies,
        "losses of all rounds": losses,
        "update of one round": _there(np.concatenate([after[:, :1], update[:, 0]], axis=1)),
        "near copies and update of one round": _there(np.concatenate([copies, update[:, 0]], axis=1)),
        "updates of all rounds": _there(flat),
        "everything": _there(np.concatenate([losses, copies[:, 1:], flat], axis=1)),
    }


def _of_tables(game: Arrays, view: str) -> dict[str, np.ndarray]:
    """The features [M, F, N] that attacks on predictions join: log-odds under the surrogates of every round and of all
    rounds, and log-odds of near copies.
    """
    odds, copies = game[f"{view}/odds"][:, :, VICTIM], game[f"{view}/copies"]
    losses = np.concatenate([odds, game[f"{view}/whole"][:, None, VICTIM]], axis=1)
    return {
        "near copies": copies,
        "losses of all rounds": losses,
        "everything": np.concatenate([losses, copies[:, 1:]], axis=1),
    }


def _by_client(game: Arrays, view: str) -> dict[str, np.ndarray]:
    """Signals of all clients, [M, F, K, N], for FedMIA."""
    found = {"losses": game[f"{view}/odds"]}
    if view in WEIGHTS:
        cosine = game[f"{view}/cosine"]
        found["updates"] = _there(cosine.reshape(len(cosine), -1, *cosine.shape[3:]))
        found["losses and updates"] = np.concatenate([found["losses"], found["updates"]], axis=1)
    return found


def _there(features: np.ndarray) -> np.ndarray:
    """Without the features of layers that did not travel."""
    return features[:, ~np.isnan(features[0]).reshape(features.shape[1], -1).any(1)]


def _chosen(game: Arrays, labels: np.ndarray) -> Iterator[Scored]:
    """What a server reads that chose the public images; and what the client's own checks tell it."""
    members, copies = game["members"], [name.split("/")[1] for name in game if name.startswith("near/")]
    nothing = np.zeros((len(members), 1))
    for kind, view in (("own", "losses of chosen images"), ("sum", "sums on chosen images")):
        asked = np.stack([game[f"chosen/{copy}/{kind}"] for copy in copies], axis=1)
        for copy, odds in zip(copies, np.moveaxis(asked, 1, 0), strict=True):
            yield from _queries(CHOOSES, view, Signals(odds, nothing, members, labels), QUERIES, f", {copy}")
        yield Scored(CHOOSES, view, "likelihood ratio, all copies", leave_one_out(asked, members))
        if kind == "own":
            right = np.sign(asked)
            bits, seen = "1-bit labels of chosen images", Signals(right[:, 0], nothing, members, labels)
            yield from _queries(CHOOSES, bits, seen, QUERIES, ", exact")
            yield Scored(CHOOSES, bits, "likelihood ratio, all copies", leave_one_out(right, members))
    usual = np.stack([game[f"chosen/{copy}/own"] for copy in copies], axis=1)
    tried = ~np.isnan(game["left out/odds"])
    aims = np.where(tried, game["left out/odds"], usual)
    one, other = (Signals(odds[:, 0], nothing, members, labels) for odds in (usual, aims))
    left = {f"{name}, exact": membership.scores(name, one, np.arange(len(members)), other) for name in QUERIES[:2]}
    left["likelihood ratio, all copies"] = leave_one_out(usual, members, aims)
    for attack, scores in left.items():
        yield Scored(CHOOSES, LEAVES_OUT, attack, np.where(tried[:, 0], scores, np.nan))
    for copy in copies:
        yield Scored(CHOOSES, REFUSES, f"refusal, {copy}", game[f"near/{copy}"].astype(float))


def _queries(strength: str, view: str, seen: Signals, names: tuple[str, ...], what: str = "") -> Iterator[Scored]:
    for attack in names:
        yield Scored(strength, view, attack + what, _scores(attack, seen))


def _scores(attack: str, seen: Signals) -> np.ndarray:
    return membership.scores(attack, seen, np.arange(len(seen.members)))


def rates(scored: Scored, members: np.ndarray, canary: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """The area under the ROC curve over a game's trials, "auc"; of canaries alone, "canaries"; the true positives at
    `FPR`, "tpr"; and the area for halves of the pool that nobody trained on, "other halves", which must be 0.5.
    """
    tried = ~np.isnan(scored.scores)
    scores, inside = scored.scores[tried], members[tried]
    false, true, _ = roc_curve(inside, scores, drop_intermediate=False)
    marked = tried & canary
    return {
        "auc": area(scores, inside),
        "canaries": area(scored.scores[marked], members[marked]),
        "tpr": float(true[false <= FPR].max()),
        "other halves": area(scores, rng.permuted(members, axis=1)[tried]),
    }
