"""From signals to rates of membership attacks, with their controls."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dml.privacy import membership
from dml.privacy.membership import ATTACKS, Signals
from dml.privacy.rates import Rate, area, auc, auc_difference, none, tpr
from dml.privacy.views import ADVERSARIES

FPR = 0.01
GRID = np.logspace(-3, 0, 31)  # false positive rates of a curve
OTHERS = 3  # targets whose members a score is wrongly judged by, as a control
CLIENTS = 4  # at least, for other clients to be a distribution, with one left out in the control
STRONGEST = "strongest"  # the best attack, chosen on the other half of the targets
PAIRS = (  # what the paper compares, at the server and at a peer; and what a secure sum changes
    ("weights", "losses"),
    ("partial weights", "losses"),
    ("weights, average - own", "losses"),
    ("weights, average", "sum of predictions"),
    ("weights, average - own", "sum of predictions - own"),
    ("losses", "sum of predictions"),
)
Arrays = Mapping[str, np.ndarray]
Dial = tuple[str, float]


def views(signals: Arrays) -> list[str]:
    """The views that the signals hold: those of `ADVERSARIES`, then the defended ones."""
    names = [name.removesuffix("/public") for name in signals if name.endswith("/public")]
    return [*ADVERSARIES, *(name for name in names if name not in ADVERSARIES and name != "untrained")]


def scored(signals: Arrays, view: str, aims: str | None = None) -> dict[str, np.ndarray]:
    """The scores [M, N] of every attack on a view, `STRONGEST` included; or, for a control, on the signals `aims`."""
    seen, targets = _view(signals, view), _view(signals, aims) if aims else None
    scores_by_attack = {attack: membership.scores(attack, seen, signals["group"], targets) for attack in ATTACKS}
    members = signals["members"]
    best = membership.strongest(scores_by_attack, lambda scores, rows: area(scores[rows], members[rows]))
    return scores_by_attack | {STRONGEST: best}


def _view(signals: Arrays, name: str) -> Signals:
    return Signals(
        signals[f"{name}/candidates"], signals[f"{name}/public"], signals["members"], signals["labels"][0].astype(int)
    )


def membership_tables(
    games: Mapping[Dial, list[Arrays]], victims: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Rates of every attack, curves of the strongest and its differences between views, from the signals of the games
    of each dial.

    Rates: dial, view, attack, against ("members", or a control), candidates ("all", "canaries"), metric ("auc", "tpr"
    at `FPR`), value, low, high, error, n (targets), trials. Curves: dial, view, fpr and the same from value on.
    Differences: dial, view, minus, and the same, of the area under the curve of a view less that of another, over
    the same targets.
    """
    rates, curves, differences = [], [], []
    for dial, games_of_dial in games.items():
        best: dict[str, np.ndarray] = {}
        for view in views(games_of_dial[0]):
            seen = [game for game in games_of_dial if f"{view}/public" in game]
            keys = {"dial": title(dial), "view": view}
            members, canary = (np.concatenate([game[name] for game in seen]) for name in ("members", "canary"))
            others, times = _shifted(seen, victims)
            for attack, scores in _joined(seen, view).items():
                rates += _rates(scores, members, canary, **keys, attack=attack, against="members")
                alike = np.tile(_centred(scores, seen), times)
                rates += _control(alike, others, **keys, attack=attack, against="wrong model")
                if attack == STRONGEST and view in ADVERSARIES:
                    best[view] = scores
                    found_at = tpr(scores, members, GRID)
                    curves += [_row(rate, **keys, fpr=fpr) for fpr, rate in zip(GRID, found_at, strict=True)]
            blank = view in ADVERSARIES and dial == next(iter(games))  # the same model at every dial
            for attack, scores in _joined(seen, view, "untrained").items() if blank else ():
                rates += _control(scores, members, **keys, attack=attack, against="untrained model")
        pixels = np.concatenate([game["blind/candidates"] for game in games_of_dial])
        members, canary = (np.concatenate([game[name] for game in games_of_dial]) for name in ("members", "canary"))
        rates += _rates(pixels, members, canary, dial=title(dial), view="pixels", attack="ridge", against="no model")
        for view, minus in PAIRS:
            rate = auc_difference(best[view], best[minus], members)
            differences.append(_row(rate, dial=title(dial), view=view, minus=minus))
    return pd.DataFrame(rates), pd.DataFrame(curves), pd.DataFrame(differences)


def _joined(games: list[Arrays], view: str, aims: str | None = None) -> dict[str, np.ndarray]:
    scores = [scored(signals, view, aims) for signals in games]
    return {attack: np.concatenate([one[attack] for one in scores]) for attack in scores[0]}


def _rates(scores: np.ndarray, members: np.ndarray, canary: np.ndarray, **keys) -> list[dict]:
    rows = []
    for kind, columns in (("all", np.ones_like(canary)), ("canaries", canary)):
        if not columns.any():  # many classes: too few canaries for two of each
            rows += [_row(none(len(canary)), **keys, candidates=kind, metric=metric) for metric in ("auc", "tpr")]
            continue
        some, true = (values[columns].reshape(len(canary), -1) for values in (scores, members))
        rows.append(_row(auc(some, true), **keys, candidates=kind, metric="auc"))
        if keys["attack"] in (STRONGEST, "FedMIA"):  # resampling a threshold is slow
            rows.append(_row(tpr(some, true, [FPR])[0], **keys, candidates=kind, metric="tpr"))
    return rows


def _control(scores: np.ndarray, members: np.ndarray, **keys) -> list[dict]:
    """The area under the curve for members that are not the scores': it must be 0.5."""
    return [_row(auc(scores, members), **keys, candidates="all", metric="auc")]


def _centred(scores: np.ndarray, games: list[Arrays]) -> np.ndarray:
    """Scores less the mean of their candidate in its game. A candidate that happened to be a member more often scores
    higher on average, and is a member more often in the other targets too: without this, the control would see it.
    """
    parts = np.split(scores, np.cumsum([len(game["members"]) for game in games])[:-1])
    return np.concatenate([part - part.mean(0) for part in parts])


def _shifted(games: list[Arrays], victims: int) -> tuple[np.ndarray, int]:
    """For each target the members of targets of other groups, side by side; and how many there are."""
    groups = min(len(each["members"]) for each in games) // victims
    shifts = [victims * each for each in range(1, groups)][:OTHERS]
    each = [np.concatenate([np.roll(game["members"], shift, axis=0) for shift in shifts], axis=1) for game in games]
    return np.concatenate(each), len(shifts)


def _row(rate: Rate, **keys) -> dict:
    names = ("value", "low", "high", "error", "n", "trials")
    return keys | {name: round(float(getattr(rate, name)), 6) for name in names}


def across_rounds(transcripts: Mapping[tuple, Arrays]) -> pd.DataFrame:
    """Rates of FedMIA, columns as of the rates above, from transcripts by (dial, arm, federation); a target is a client
    of a federation, and the control judges the model of the next client. Nothing with fewer clients than `CLIENTS`.
    """
    rows = []
    for dial in dict.fromkeys(dial for dial, _, _ in transcripts):
        for view, adversary in ADVERSARIES.items():
            recorded = [
                transcript for (d, arm, _), transcript in transcripts.items() if (d, arm) == (dial, adversary.arm)
            ]
            if not adversary.uploads or recorded[0]["share"].shape[1] < CLIENTS:
                continue
            members = np.concatenate([_by_client(transcript["members"]) for transcript in recorded])
            for against, shift in (("members", 0), ("wrong model", 1)):
                scores = [_by_client(membership.fedmia(transcript[f"{view}/odds"], shift)) for transcript in recorded]
                keys = {"dial": title(dial), "view": view, "attack": "FedMIA", "against": against}
                rates = _rates(np.concatenate(scores), members, np.ones_like(members), **keys)
                rows += [row for row in rates if row["candidates"] == "all"]
    return pd.DataFrame(rows)


def _by_client(values: np.ndarray) -> np.ndarray:
    """[R, K, n] as one row a client, [K, R n]."""
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)


def title(dial: Dial) -> str:
    """A dial as text: "as trained", "overfit", "DP-SGD 0.3"."""
    kind, number = dial
    return f"{kind} {number:g}" if kind == "DP-SGD" else kind
