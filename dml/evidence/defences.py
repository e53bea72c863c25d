"""What the games of data/plan_defences.md say so far: leak and accuracy at every point, and each defence's bargain.

The unit is the game; intervals and p values are Student's t over games. The attack of a point is chosen for each game
on all *other* games (`games.chosen`).
"""

from pathlib import Path
from typing import Any

import pandas as pd

from dml.evidence.games import CHOOSES, METRICS, ONE, chosen, sizes
from dml.evidence.words import progress
from dml.files import read_table
from dml.stats import Difference, holm, interval, paired
from dml.studies.defences import NAME, plan
from dml.studies.study import STUDIES

STRENGTHS = {CHOOSES: "chooses", ONE: "honest"}
REFERENCES = {"dml": "DML", "fedavg": "FedAvg"}  # by arm: the point without a defence
LESS, MORE, SAME, OPEN = "less", "more", "same", "open"
SAID = {"lower": LESS, "higher": MORE, "same": SAME, "open": OPEN}
GUESS = 0.5


def recorded(folder: Path = STUDIES) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Rates and accuracies of the games on record, of two at least; else None."""
    files = [folder / NAME / name for name in ("rates.csv.gz", "worth.csv")]
    if not all(file.is_file() for file in files):
        return None
    rates, worth = map(read_table, files)
    return (rates, worth) if rates["game"].nunique() > 1 else None


def by_game(rates: pd.DataFrame, worth: pd.DataFrame) -> pd.DataFrame:
    """A row a point and game: columns point, game, accuracy, and of each strength, "chooses" and "honest",
    <strength> attack and <strength> <metric> of each of `games.METRICS`.
    """
    parts = []
    for point in plan().points:
        found = worth[worth["point"] == point.name].set_index("game")[["accuracy"]]
        for strength, name in STRENGTHS.items():
            found = found.join(chosen(rates, strength, point.name).add_prefix(f"{name} "))
        parts.append(found.rename_axis("game").reset_index().assign(point=point.name))
    table = pd.concat(parts, ignore_index=True)
    numbers = [name for name in table if name.endswith(METRICS) or name == "accuracy"]
    return table.astype(dict.fromkeys(numbers, float))


def points(games: pd.DataFrame, worth: pd.DataFrame) -> pd.DataFrame:
    """A row a point of `by_game`'s table: point, arm, epsilon, n games; of accuracy and of each measure of each
    strength its mean, <measure>_low and <measure>_high; the attacks that most games chose.
    """
    rows = []
    epsilons = worth.groupby("point")["epsilon"].first()
    for point in plan().points:
        here = games[games["point"] == point.name]
        row = {"point": point.name, "arm": point.arm, "epsilon": epsilons[point.name], "n": len(here)}
        for strength in STRENGTHS.values():
            row[f"{strength} attack"] = here[f"{strength} attack"].mode()[0]
        for name in ("accuracy", *(f"{strength} {metric}" for strength in STRENGTHS.values() for metric in METRICS)):
            one = interval(here[name].to_numpy())
            row |= {name: one.mean, f"{name}_low": one.low, f"{name}_high": one.high}
        rows.append(row)
    return pd.DataFrame(rows)


def bargains(games: pd.DataFrame) -> pd.DataFrame:
    """A row a defence: its leak and its price minus those of its arm without one, paired over games. Columns point,
    arm, n; leak, leak_low, leak_high, leak_p, leak_answer, and the same of price; bargain.

    Leak: AUC of the server that chooses; price: accuracy. Among DML's defences, p and answers are corrected by Holm.
    """
    rows = []
    for arm, reference in REFERENCES.items():
        names = [point.name for point in plan().points if point.arm == arm and point.name != reference]
        found = {what: _minus(games, names, reference, column) for what, column in MEASURES.items()}
        for place, name in enumerate(names):
            row: dict[str, Any] = {"point": name, "arm": arm}
            for what, differences in found.items():
                one = differences[place]
                row |= {what: one.mean, f"{what}_low": one.low, f"{what}_high": one.high, f"{what}_p": one.p}
                row |= {f"{what}_answer": SAID[one.verdict], "n": one.n}
            kept = row["price_answer"] in (MORE, SAME)
            rows.append(row | {"bargain": row["leak_answer"] == LESS and kept})
    return pd.DataFrame(rows)


MEASURES = {"leak": "chooses auc", "price": "accuracy"}


def _minus(games: pd.DataFrame, names: list[str], reference: str, column: str) -> list[Difference]:
    wide = games.pivot(index="game", columns="point", values=column)
    return holm([paired(wide[name].to_numpy(), wide[reference].to_numpy(), plan().margin) for name in names])


def taken(table: pd.DataFrame, point: str, reference: str = "DML") -> float:
    """The share of the leak above guessing that a defence takes from the server that chooses, of the means."""
    leak = table.set_index("point")["chooses auc"] - GUESS
    return float(1 - leak[point] / leak[reference])


def others(rates: pd.DataFrame) -> pd.DataFrame:
    """The control: of every point and attack, the AUC for random halves of the pool that nobody trained on. Columns
    strength, view, attack, mean, low, high, n.
    """
    rows = rates[rates["metric"] == "other halves"].groupby(["strength", "view", "attack"], sort=False)["value"]
    made = []
    for keys, values in rows:
        one = interval(values.to_numpy())
        made.append((*keys, one.mean, one.low, one.high, one.n))
    return pd.DataFrame(made, columns=["strength", "view", "attack", "mean", "low", "high", "n"])


def state(rates: pd.DataFrame) -> str:
    """How many of the plan's games are on record, in words."""
    return progress(rates["game"].nunique(), len(plan().games), "games")


def cost(folder: Path = STUDIES) -> str:
    """Victims, shadows and CPU minutes of the games on record, in words."""
    rows = read_table(folder / NAME / "costs.csv")
    victims, shadows = sizes(rows)
    return (
        f"{victims} targets a game, {shadows} shadows each, at every point; {rows['cpu_s'].sum() / 60:.0f} CPU minutes"
    )
