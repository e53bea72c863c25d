"""What the ledger says: bytes by arm, accuracy for bytes, and the cost of more clients, as tables.

Sizes are of one client unless a column says otherwise. "set-up" is round 0 of the ledger: the initial model and the
public images, which a client needs before it can say anything.
"""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from dml.evidence.cost_models import costs
from dml.evidence.scaling import scaling
from dml.exchange.ledger import table
from dml.stats import columns, holm, interval, paired, per_seed
from dml.studies.plan import plan

TARGETS = (0.85, 0.90, 0.92, 0.94)
SAMPLE = "unseen sample accuracy"
TRAFFIC = ["seed", "arm", "round", "direction", "kind"]
LADDER = [
    *("arm", "mean", "low", "high", "n", "against", "difference", "difference_low", "difference_high", "p", "verdict"),
    *("payload_up", "up", "payload_down", "down", "sent", "setup", "amortised", "ratio", "front"),
]


@dataclass(frozen=True)
class BandwidthTables:
    """What notebook 04 is drawn from; each function below says what its table holds. `accuracy`: seed, arm, value (on
    the unseen set, mean of the clients).
    """

    traffic: pd.DataFrame
    curves: pd.DataFrame
    accuracy: pd.DataFrame
    targets: pd.DataFrame
    ladder: pd.DataFrame
    scaling: pd.DataFrame
    links: pd.DataFrame
    codings: pd.DataFrame

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by the names of their files."""
        return {f"bandwidth_{field.name}": getattr(self, field.name) for field in fields(self)}


def measure(
    results: pd.DataFrame, ledger: pd.DataFrame, codings: pd.DataFrame, clients: int, images: int, classes: int = 2
) -> BandwidthTables:
    """All tables, from the results and the ledger of a run's arms and rungs; `images` is the size of a public fold,
    `codings` the table of dml/evidence/codings.py.
    """
    moved = traffic(ledger, clients)
    curve, rungs = curves(results, moved), ladder(results, moved)
    return BandwidthTables(
        traffic=moved,
        curves=curve,
        accuracy=per_seed(results, "unseen accuracy").melt(ignore_index=False, var_name="arm").reset_index(),
        targets=targets(curve),
        ladder=rungs,
        scaling=scaling(images=images, classes=classes),
        links=costs(rungs),
        codings=codings,
    )


def baseline_of(arm: str) -> str:
    """What an arm's accuracy is compared with: a rung with the float32 arm, an arm with the one that says nothing."""
    silent = {"dml": "self", "fedavg": "local", "asynchronous": "local"}
    return silent.get(arm, arm.rpartition(",")[0] or arm)


def traffic(ledger: pd.DataFrame, clients: int) -> pd.DataFrame:
    """Columns of `TRAFFIC`, messages, payload, encoded: what one client sends or gets in a round, mean over clients."""
    entries = table(ledger.drop(columns=["seed", "arm"]).itertuples(index=False))
    rows = pd.concat([ledger[["seed", "arm"]].reset_index(drop=True), entries], axis=1)
    groups = rows.groupby(TRAFFIC, sort=False)
    sums = groups.agg(messages=("encoded", "size"), payload=("payload", "sum"), encoded=("encoded", "sum"))
    return (sums / clients).reset_index()


def curves(results: pd.DataFrame, moved: pd.DataFrame) -> pd.DataFrame:
    """Columns seed, arm, round, accuracy, setup, sent: accuracy on the unseen sample after a round (mean over clients),
    the bytes that a client had then sent and got, and those of the set-up that it had needed until then: the initial
    model and the public folds of the rounds so far. `moved` is `traffic`'s table.
    """
    rows = results[results["metric"] == SAMPLE]
    table = rows.groupby(["seed", "arm", "round"], sort=False)["value"].mean().rename("accuracy").reset_index()
    per_round = moved[moved["round"] > 0].groupby(["seed", "arm", "round"])["encoded"].sum()
    setup = moved[moved["round"] == 0].set_index(["seed", "arm", "kind"])[["messages", "encoded"]].sort_index()

    def needed(seed: int, arm: str, round_index: int) -> float:
        kinds = setup.loc[(seed, arm)]
        share = (round_index / kinds["messages"]).clip(upper=1).where(kinds.index == "Examples", 1)
        return float((share * kinds["encoded"]).sum())

    keys = list(table[["seed", "arm", "round"]].itertuples(index=False, name=None))
    table["setup"] = [needed(*key) for key in keys]
    table["sent"] = [per_round.get(key, 0.0) for key in keys]
    table["sent"] = table.groupby(["seed", "arm"])["sent"].cumsum()
    return table


def targets(curve: pd.DataFrame) -> pd.DataFrame:
    """For each arm and accuracy of `TARGETS`: columns arm, target, n, reached (seeds), the medians over all n seeds of
    round, `sent` bytes of a client and `with_setup` (NaN when half of them never got there: an arm is not judged by its
    lucky seeds), and the least and most `sent` of those that did.
    """
    rows = []
    for arm, rows_of_arm in curve.groupby("arm", sort=False):
        for target in TARGETS:
            there = rows_of_arm[rows_of_arm["accuracy"] >= target].groupby("seed")[["round", "sent", "setup"]].first()
            there["with_setup"] = there["sent"] + there["setup"]
            seeds = rows_of_arm["seed"].unique()
            middle = there.astype(float).reindex(seeds, fill_value=np.inf).median().replace(np.inf, np.nan)
            least, most = there["sent"].min(), there["sent"].max()
            medians = (middle["round"], middle["sent"], least, most, middle["with_setup"])
            rows.append((arm, target, len(seeds), len(there), *medians))
    names = ["arm", "target", "n", "reached", "round", "sent", "least", "most", "with_setup"]
    return pd.DataFrame(rows, columns=names)


def ladder(results: pd.DataFrame, moved: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: unseen accuracy (mean, low, high, n), its paired difference to `against` (see `baseline_of`:
    difference, difference_low, difference_high, p and verdict, corrected for the number of rungs), and a client's
    bytes: of an average round up and down (payload_up, up, payload_down, down), of the whole run without set-up (sent),
    of the set-up (setup), of a round when the set-up is spread over all rounds (amortised), FedAvg's `sent` divided by
    the arm's (ratio), and whether no other arm is both more accurate and cheaper (front).
    """
    accuracy, rounds = per_seed(results, "unseen accuracy"), int(moved["round"].max())
    spoken = moved[moved["round"] > 0]
    sums = spoken.groupby(["arm", "direction"])[["payload", "encoded"]].sum() / (len(accuracy) * rounds)
    setup = moved[moved["round"] == 0].groupby("arm")["encoded"].sum() / len(accuracy)
    pairs = [(arm, baseline_of(arm)) for arm in accuracy if baseline_of(arm) != arm and baseline_of(arm) in accuracy]
    estimates = [
        paired(accuracy[arm].to_numpy(), accuracy[against].to_numpy(), plan().margin) for arm, against in pairs
    ]
    differences, rows = dict(zip(pairs, holm(estimates), strict=True)), []
    for arm in accuracy:
        row = {"arm": arm, **columns(interval(accuracy[arm].to_numpy()))}
        if estimate := differences.get((arm, baseline_of(arm))):
            row |= {"against": baseline_of(arm), "difference": estimate.mean}
            row |= {
                "difference_low": estimate.low,
                "difference_high": estimate.high,
                "p": estimate.p,
                "verdict": estimate.verdict,
            }
        for way in ("up", "down"):
            payload, encoded = sums.loc[(arm, way)] if (arm, way) in sums.index else (0.0, 0.0)
            row |= {f"payload_{way}": payload, way: encoded}
        row |= {"sent": rounds * (row["up"] + row["down"]), "setup": setup.get(arm, 0.0)}
        row["amortised"] = (row["sent"] + row["setup"]) / rounds
        rows.append(row)
    rungs = pd.DataFrame(rows).reindex(columns=LADDER)
    reference = rungs.loc[rungs["arm"] == "fedavg", "sent"]
    rungs["ratio"] = reference.iloc[0] / rungs["sent"].replace(0, np.nan) if len(reference) else np.nan
    rungs["front"] = front(rungs["sent"].to_numpy(), rungs["mean"].to_numpy())
    return rungs


def front(cost: np.ndarray, value: np.ndarray) -> np.ndarray:
    """bool [n]: for which no other point costs at most as much and is worth at least as much, one of them strictly."""
    cheaper, better = cost[:, None] <= cost, value[:, None] >= value
    strictly = (cost[:, None] < cost) | (value[:, None] > value)
    return np.asarray(~(cheaper & better & strictly).any(0))
