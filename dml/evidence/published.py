"""What the paper and the author's files report, and where it falls among what was measured here."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from dml.config import DATA, PROFILES, RECORDED, Experiment
from dml.evidence.accuracy import LAST, values
from dml.evidence.cost_models import AUTHOR_JSON
from dml.files import read_table
from dml.models import VisionNet, group
from dml.stats import LEVEL, per_seed

COUNTERPARTS = {
    "dml": "dml",
    "dml-one-term": "dml",
    "fedavg": "fedavg",
    "asynchronous": "asynchronous",
    "pooled": "pooled",
}
PARAMETERS = {"all": 1_862_785, "shallow": 56_320, "deep": 1_806_465}
FOLDS = 73
PHASES = [(arm, phase) for arm in ("dml", "dml-one-term") for phase in ("local", "public")]
PHASES += [("fedavg", "local"), ("asynchronous", "local")]


def published() -> pd.DataFrame:
    """The paper's accuracies on its unseen set, from one seed: columns arm, client, accuracy."""
    table = scores()
    return table[table["metric"] == "accuracy"].drop(columns="metric").rename(columns={"value": "accuracy"})


def scores() -> pd.DataFrame:
    """Every published number about the unseen set: columns arm, client, metric, value; of class 1 where it matters."""
    return read_table(DATA / "published.csv")


def history() -> pd.DataFrame:
    """The published training histories, mean over the clients: columns arm, round, phase, epoch, loss, accuracy; epoch
    0 is a look at the public fold before its first epoch.
    """
    return read_table(DATA / "published_history.csv")


def reported(data: str, experiment: Experiment) -> pd.DataFrame:
    """What the paper reports for a run: `published()` for its protocol on its images, no rows for anything else."""
    same = data == "facemask" and experiment == PROFILES["paper"].experiment
    return published() if same else published().iloc[:0]


def comparison(results: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Every published number beside the measured ones: columns arm, what, published, mean, low, high, n, inside.

    `measured` is the run's training history. The published run of DML used the one-term form, so it stands beside both.
    low and high bound where one more run would fall 95 times in 100 (Student's
    prediction interval, from two seeds on), since the published number is one run; `inside`: it could be one of these.
    """
    rows = []
    for arm, what, number, found in (*_scores(results), *_differences(results), *_histories(results, measured)):
        rows.append({"arm": arm, "what": what, "published": number, **prediction(found)})
    table = pd.DataFrame(rows)
    gap, loss = (table["what"].str.contains(word) for word in ("minus", "loss"))  # the others are shares
    table["low"] = table["low"].clip(lower=np.where(gap, -np.inf, 0))
    table["high"] = table["high"].clip(upper=np.where(gap | loss, np.inf, 1))
    table["inside"] = table["published"].between(table["low"], table["high"]).where(table["low"].notna())
    return table


def prediction(values: np.ndarray) -> dict[str, float]:
    """Mean, bounds of Student's 95 % prediction interval for one more value (NaN from a single one), and n."""
    n, mean = len(values), float(np.mean(values))
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) * (1 + 1 / n) ** 0.5 if n > 1 else np.nan
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def _scores(results: pd.DataFrame):
    table, measured = scores(), per_seed(results, "unseen accuracy")
    for arm, theirs in COUNTERPARTS.items():
        rows_of_arm = table[table["arm"] == theirs]
        if arm != "pooled":
            accuracy = rows_of_arm.loc[rows_of_arm["metric"] == "accuracy", "value"].mean()
            yield arm, "accuracy, mean of the clients", accuracy, measured[arm].to_numpy()
        for row in rows_of_arm.itertuples():
            rows = results[(results["arm"] == arm) & (results["metric"] == f"unseen {row.metric}")]
            client = "" if arm == "pooled" else f", client {row.client}"
            rows = rows if arm == "pooled" else rows[rows["client"] == row.client]
            yield arm, f"{row.metric}{client}", row.value, rows["value"].to_numpy()


def _differences(results: pd.DataFrame):
    measured, means = per_seed(results, "unseen accuracy"), published().groupby("arm")["accuracy"].mean()
    for arm in ("dml", "dml-one-term"):
        for other in ("fedavg", "asynchronous"):
            values = (measured[arm] - measured[other]).to_numpy()
            yield arm, f"accuracy minus {other}'s", means["dml"] - means[other], values


def _histories(results: pd.DataFrame, measured: pd.DataFrame):
    table = history()
    last = table["round"].max()
    for arm, phase in PHASES:
        rows = measured[(measured["arm"] == arm) & (measured["round"] == last) & (measured["phase"] == phase)]
        rows = rows[rows["epoch"] == rows["epoch"].max()].groupby("seed")[["loss", "accuracy"]].mean()
        theirs = table[(table["arm"] == COUNTERPARTS[arm]) & (table["round"] == last) & (table["phase"] == phase)].iloc[
            -1
        ]
        for name in rows:
            yield arm, f"training {name}, last {phase} epoch", theirs[name], rows[name].to_numpy()
    theirs = table[(table["phase"] == "public") & (table["epoch"] == 0)]["accuracy"].mean()
    for arm in ("dml", "dml-one-term"):
        fresh = results[(results["arm"] == arm) & (results["metric"] == "public accuracy")]
        values = fresh.groupby("seed")["value"].mean().to_numpy()
        yield arm, "accuracy on fresh public folds, all rounds", theirs, values


def unseen_candidates(accuracies: Sequence[float], sizes: Sequence[int]) -> pd.DataFrame:
    """Could each accuracy have been measured on each size of set? Only if accuracy x size is a whole number.

    Columns accuracy, size, hits (accuracy x size), distance (of hits to the nearest whole number) and whole
    (distance within what rounding to 7 decimals, or to single precision, can do).
    """
    table = pd.MultiIndex.from_product([accuracies, sizes], names=["accuracy", "size"]).to_frame(index=False)
    table["hits"] = table["accuracy"] * table["size"]
    table["distance"] = (table["hits"] - table["hits"].round()).abs()
    table["whole"] = table["distance"] <= 1e-7 * table["size"]
    return table


def on_record() -> pd.DataFrame:
    """`comparison` for the recorded run of the published protocol."""
    folder = RECORDED / "paper-facemask"
    return comparison(read_table(folder / "results.csv"), read_table(folder / "history.csv"))


def one_seed(results: pd.DataFrame, metric: str = LAST, form: str = "dml") -> pd.DataFrame:
    """How often one seed of DML in a form would have shown a published gap in this metric: columns against, published,
    mean, low, high (of one more seed), n, reached (seeds whose gap is at least the published one), share_low and
    share_high (Wilson's 95 %).
    """
    measured, means, rows = values(results, metric), published().groupby("arm")["accuracy"].mean(), []
    for arm in ("fedavg", "asynchronous"):
        found, gap = (measured[form] - measured[arm]).to_numpy(), means["dml"] - means[arm]
        reached = int((found >= gap).sum())
        low, high = stats.binomtest(reached, len(found)).proportion_ci(method="wilson")
        row = {"against": arm, "published": gap, **prediction(found), "reached": reached}
        rows.append(row | {"share_low": low, "share_high": high})
    return pd.DataFrame(rows)


def facts(experiment: Experiment) -> pd.DataFrame:
    """Published facts that do not vary over seeds: columns what, published, here."""
    sizes = {"all": 0, "shallow": 0, "deep": 0}
    for name, parameter in VisionNet(experiment.size).named_parameters():
        sizes["all"] += parameter.numel()
        sizes[group(name)] += parameter.numel()
    rows = [("folds of the training set", FOLDS, experiment.folds)]
    rows += [(f"parameters, {part}", PARAMETERS[part], count) for part, count in sizes.items()]
    rows += [
        (f"bytes of the weights, {part} (JSON; float32)", size, 4 * sizes[part]) for part, size in AUTHOR_JSON.items()
    ]
    return pd.DataFrame(rows, columns=["what", "published", "here"])
