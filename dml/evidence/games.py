"""What the games of data/plan_privacy.md say so far: a row an adversary, and the answers to the plan's questions.

The unit is the game; intervals and p values are Student's t over games. The attack of a row is chosen for each game on
all *other* games, so that no game both chooses and counts.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dml.evidence.answers import HELD, OPEN, REFUTED
from dml.evidence.words import progress
from dml.files import read_table
from dml.stats import columns, holm, interval, paired
from dml.studies.privacy import NAME, Plan, Question, plan
from dml.studies.study import STUDIES

ONE, SEVERAL, CHOOSES = "one round, black box", "several rounds, white box", "server chooses"
CRAFTS = "server crafts"
CONTAINED = {ONE: (ONE,), SEVERAL: (ONE, SEVERAL), CHOOSES: (CHOOSES,), CRAFTS: (CRAFTS,)}  # whose attacks one has
RESAMPLES = 1000
ADVERSARIES = {  # (strength, view): who it is, in the order of the table
    (ONE, "weights"): "FedAvg's server",
    (SEVERAL, "weights"): "FedAvg's server",
    (ONE, "partial weights"): "Partial-weight FL's server",
    (SEVERAL, "partial weights"): "Partial-weight FL's server",
    (ONE, "losses"): "DML's server (as published, also peers)",
    (SEVERAL, "losses"): "DML's server (as published, also peers)",
    (CHOOSES, "losses of chosen images"): "DML's server that chooses the images",
    (CHOOSES, "1-bit labels of chosen images"): "the same, with 1-bit labels",
    (CHOOSES, "sums on chosen images"): "the same, with sums only",
    (CHOOSES, "client leaves out what it was shown"): "the same; clients train on nothing they saw",
    (CHOOSES, "client refuses aloud"): "the same; clients say which images they refuse",
    (SEVERAL, "sum of weights"): "FedAvg's server under a secure sum",
    (SEVERAL, "sum of predictions"): "DML's server under a secure sum",
    (SEVERAL, "sum of weights - 1"): "a peer of FedAvg",
    (SEVERAL, "sum of weights - 2"): "two peers of FedAvg",
    (SEVERAL, "sum of weights - 3"): "three peers of FedAvg",
    (SEVERAL, "sum of predictions - 1"): "a peer of DML under a secure sum",
    (SEVERAL, "sum of predictions - 2"): "two peers of DML, secure sum",
    (SEVERAL, "sum of predictions - 3"): "three peers of DML, secure sum",
}
METRICS = ("auc", "tpr", "canaries")


def recorded(folder: Path = STUDIES, name: str = NAME) -> pd.DataFrame | None:
    """The rates of a study's games on record, of two at least; else None."""
    file = folder / name / "rates.csv.gz"
    rates = read_table(file) if file.is_file() else None
    return rates if rates is not None and rates["game"].nunique() > 1 else None


def chosen(rates: pd.DataFrame, strength: str, view: str) -> pd.DataFrame:
    """Of an adversary, by game: the `attack` that is best on the other games (by mean AUC), and its `METRICS`."""
    rows = rates[rates["strength"].isin(CONTAINED[strength]) & (rates["view"] == view)]
    wide = rows.groupby(["game", "attack", "metric"], sort=False)["value"].mean().unstack(sort=False)
    areas = wide["auc"].unstack()
    best = [(game, areas.drop(game).mean().idxmax()) for game in areas.index]
    return wide.loc[best, list(METRICS)].reset_index("attack")


def adversaries(rates: pd.DataFrame) -> pd.DataFrame:
    """A row an adversary: strength, view, who, attack (that most games chose), and of each of `METRICS` its mean over
    games, <metric>, with <metric>_low and <metric>_high; n games.
    """
    made = []
    for (strength, view), who in ADVERSARIES.items():
        games = chosen(rates, strength, view)
        row = {"strength": strength, "view": view, "who": who, "attack": games["attack"].mode()[0], "n": len(games)}
        for metric in METRICS:
            one = interval(games[metric].to_numpy(float))
            row |= {metric: one.mean, f"{metric}_low": one.low, f"{metric}_high": one.high}
        made.append(row)
    return pd.DataFrame(made)


def answers(rates: pd.DataFrame, here: Plan | None = None) -> pd.DataFrame:
    """A plan's questions: columns family, name, asks, mean, low, high, n, p (after Holm in the family), answer."""
    made, here = [], here or plan()
    for family, questions in here.families.items():
        pairs = [_pair(rates, question) for question in questions]
        differences = holm([paired(one["auc"], other["auc"], here.margin) for one, other in pairs])
        for question, one in zip(questions, differences, strict=True):
            answer = {"higher": HELD, "lower": REFUTED, "same": REFUTED, "open": OPEN}[one.verdict]
            keys = {"family": family, "name": question.name, "asks": question.asks}
            made.append(keys | columns(one) | {"p": one.p, "answer": answer})
    return pd.DataFrame(made)


def one_round(rates: pd.DataFrame) -> pd.DataFrame:
    """The plan's questions on honest adversaries asked of one round, black box, which the plan does not (post hoc): as
    `answers`.
    """
    asked = (replace(each, strength=ONE, against=ONE) for each in plan().families["adversaries"])
    return answers(rates, replace(plan(), families={ONE: tuple(asked)}))


def _pair(rates: pd.DataFrame, question: Question) -> tuple[pd.DataFrame, pd.DataFrame]:
    return chosen(rates, question.strength, question.view), chosen(rates, question.against, question.minus)


def resampled(rates: pd.DataFrame, question: Question, folder: Path = STUDIES) -> tuple[float, float]:
    """The 95 % bootstrap interval of a question's difference when victims are drawn anew inside each game."""
    one, other = _pair(rates, question)
    rng, total = np.random.default_rng(0), np.zeros(RESAMPLES)
    for game in one.index:
        scores = read_table(folder / NAME / "scores" / f"{game}.csv.gz")
        victims = scores["target"].nunique()
        drawn = rng.multinomial(victims, np.full(victims, 1 / victims), RESAMPLES)
        inside = scores["member"].to_numpy(bool).reshape(victims, -1)
        for sign, found, strengths in ((1, one, question.strength), (-1, other, question.against)):
            view, attack = question.view if sign > 0 else question.minus, found.loc[game, "attack"]
            names = [f"{strength}; {view}; {attack}" for strength in CONTAINED[strengths]]
            column = next(name for name in names if name in scores)
            total += sign * _areas(scores[column].to_numpy().reshape(victims, -1), inside, drawn)
    low, high = np.quantile(total / len(one), (0.025, 0.975))
    return float(low), float(high)


def _areas(scores: np.ndarray, members: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The area under the ROC curve of [T, N] scores when target t is drawn so many times, [B, T]."""
    wins = np.stack(
        [
            [((own[:, None] > other).sum() + (own[:, None] == other).sum() / 2) for other in map(_of, scores, ~members)]
            for own in map(_of, scores, members)
        ]
    )
    pairs = np.outer(members.sum(1), (~members).sum(1))
    return np.einsum("bi,ij,bj->b", drawn, wins, drawn) / np.einsum("bi,ij,bj->b", drawn, pairs, drawn)


def _of(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return scores[rows]


def checks(folder: Path = STUDIES, name: str = NAME) -> pd.DataFrame:
    """What a client's checks find and cost: columns check, mean, low, high, n, over games."""
    found = read_table(folder / name / "checks.csv")
    rows = [{"check": check, **columns(interval(part["value"].to_numpy()))} for check, part in found.groupby("check")]
    return pd.DataFrame(rows)


def sizes(costs: pd.DataFrame) -> tuple[str, str]:
    """Victims and shadows of a game, in words, from a costs.csv of games."""
    victims, shadows = (" or ".join(map(str, sorted(costs[name].unique()))) for name in ("victims", "shadows"))
    return victims, shadows


def cost(folder: Path = STUDIES, name: str = NAME) -> str:
    """Victims, shadows and CPU hours of a study's games on record, in words."""
    rows = read_table(folder / name / "costs.csv")
    victims, shadows = sizes(rows)
    return f"{victims} victims a game, {shadows} shadows each; {rows['cpu_s'].sum() / 3600:.1f} CPU hours in all"


def interim(rates: pd.DataFrame) -> bool:
    """Whether games are missing."""
    return rates["game"].nunique() < len(plan().games)


def state(rates: pd.DataFrame) -> str:
    """How many of the plan's games are on record, in words."""
    return progress(rates["game"].nunique(), len(plan().games), "games")
