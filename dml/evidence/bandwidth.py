"""What the ledger says: bytes by arm, accuracy for bytes, and the cost of more clients, as tables.

Sizes are of one client unless a column says otherwise. "set-up" is round 0 of the ledger: the initial model and the
public images, which a client needs before it can say anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import torch

from dml.evidence.cost_models import costs, losses_round, weights_round
from dml.exchange.ledger import Post, table
from dml.exchange.messages import FLOOR, Losses, Predictions
from dml.exchange.topologies import TOPOLOGIES
from dml.losses import log_probabilities, model_loss
from dml.stats import columns, holm, interval, paired, per_seed
from dml.streams import SERVER, stream

TARGETS = (0.85, 0.90, 0.92, 0.94)
CLIENTS = (2, 5, 10, 30, 100, 300, 1000)
SAMPLE = "unseen sample accuracy"
TRAFFIC = ["seed", "arm", "round", "direction", "kind"]
LADDER = [
    *("arm", "mean", "low", "high", "n", "against", "difference", "difference_low", "difference_high", "p", "verdict"),
    *("payload_up", "up", "payload_down", "down", "sent", "setup", "amortised", "ratio", "front"),
]


@dataclass(frozen=True)
class Tables:
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

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by the names of their files."""
        return {f"bandwidth_{field.name}": getattr(self, field.name) for field in fields(self)}


def measure(results: pd.DataFrame, ledger: pd.DataFrame, clients: int, images: int, classes: int = 2) -> Tables:
    """All tables, from the results and the ledger of a run's arms and rungs; `images` is the size of a public fold."""
    moved = traffic(ledger, clients)
    curve, rungs = curves(results, moved), ladder(results, moved)
    return Tables(
        traffic=moved,
        curves=curve,
        accuracy=per_seed(results, "unseen accuracy").melt(ignore_index=False, var_name="arm").reset_index(),
        targets=targets(curve),
        ladder=rungs,
        scaling=scaling(images=images, classes=classes),
        links=costs(rungs),
    )


def less(arm: str) -> str:
    """What an arm's accuracy is compared with: a rung with the float32 arm, an arm with the one that says nothing."""
    silent = {"dml": "self", "fedavg": "local", "asynchronous": "local", "dml, fixed, changes": "dml, fixed"}
    return silent.get(arm, arm.partition(",")[0])


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
    found = rows.groupby(["seed", "arm", "round"], sort=False)["value"].mean().rename("accuracy").reset_index()
    per_round = moved[moved["round"] > 0].groupby(["seed", "arm", "round"])["encoded"].sum()
    setup = moved[moved["round"] == 0].set_index(["seed", "arm", "kind"])[["messages", "encoded"]].sort_index()

    def needed(seed: int, arm: str, round: int) -> float:
        kinds = setup.loc[(seed, arm)]
        share = (round / kinds["messages"]).clip(upper=1).where(kinds.index == "Examples", 1)
        return float((share * kinds["encoded"]).sum())

    keys = list(found[["seed", "arm", "round"]].itertuples(index=False, name=None))
    found["setup"] = [needed(*key) for key in keys]
    found["sent"] = [per_round.get(key, 0.0) for key in keys]
    found["sent"] = found.groupby(["seed", "arm"])["sent"].cumsum()
    return found


def targets(curve: pd.DataFrame) -> pd.DataFrame:
    """For each arm and accuracy of `TARGETS`: columns arm, target, n, reached (seeds), the medians over all n seeds of
    round, `sent` bytes of a client and `with_setup` (NaN when half of them never got there: an arm is not judged by its
    lucky seeds), and the least and most `sent` of those that did.
    """
    rows = []
    for arm, mine in curve.groupby("arm", sort=False):
        for target in TARGETS:
            there = mine[mine["accuracy"] >= target].groupby("seed")[["round", "sent", "setup"]].first()
            there["with_setup"] = there["sent"] + there["setup"]
            seeds = mine["seed"].unique()
            middle = there.reindex(seeds, fill_value=np.inf).median().replace(np.inf, np.nan)
            least, most = there["sent"].min(), there["sent"].max()
            found = (middle["round"], middle["sent"], least, most, middle["with_setup"])
            rows.append((arm, target, len(seeds), len(there), *found))
    names = ["arm", "target", "n", "reached", "round", "sent", "least", "most", "with_setup"]
    return pd.DataFrame(rows, columns=names)


def ladder(results: pd.DataFrame, moved: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: unseen accuracy (mean, low, high, n), its paired difference to `against` (see `less`: difference,
    difference_low, difference_high, p and verdict, corrected for the number of rungs), and a client's bytes: of an
    average round up and down (payload_up, up, payload_down, down), of the whole run without set-up (sent), of the
    set-up (setup), of a round when the set-up is spread over all rounds (amortised), FedAvg's `sent` divided by the
    arm's (ratio), and whether no other arm is both more accurate and cheaper (front).
    """
    accuracy, rounds = per_seed(results, "unseen accuracy"), int(moved["round"].max())
    spoken = moved[moved["round"] > 0]
    sums = spoken.groupby(["arm", "direction"])[["payload", "encoded"]].sum() / (len(accuracy) * rounds)
    setup = moved[moved["round"] == 0].groupby("arm")["encoded"].sum() / len(accuracy)
    pairs = [(arm, less(arm)) for arm in accuracy if less(arm) != arm and less(arm) in accuracy]
    found = holm([paired(accuracy[arm].to_numpy(), accuracy[against].to_numpy()) for arm, against in pairs])
    differences, rows = dict(zip(pairs, found, strict=True)), []
    for arm in accuracy:
        row = {"arm": arm, **columns(interval(accuracy[arm].to_numpy()))}
        if each := differences.get((arm, less(arm))):
            row |= {"against": less(arm), "difference": each.mean}
            row |= {"difference_low": each.low, "difference_high": each.high, "p": each.p, "verdict": each.verdict}
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
    return ~(cheaper & better & strictly).any(0)


def scaling(clients: Sequence[int] = CLIENTS, images: int = 52, classes: int = 2) -> pd.DataFrame:
    """Real messages of K clients through the real code of every topology (dml/exchange.py): columns topology, clients,
    images, up and down (bytes of one client), server (bytes that it sends and gets), error: the largest difference of
    any client's table to the plain mean over its peers in float64.
    """
    rows, labels, outputs = [], torch.arange(images) % classes, 1 if classes == 2 else classes
    for count in clients:
        logits = stream(count, 0, "game").normal(0, 3, (count, images, outputs)).astype(np.float32)
        log_p = log_probabilities(torch.from_numpy(logits))
        uploads = [
            Losses(round=1, sender=i, losses=model_loss(each, labels))
            if classes == 2
            else Predictions(round=1, sender=i, probabilities=each.exp())
            for i, each in enumerate(log_p)
        ]
        exact = log_p.double()
        means = (exact.sum(0) - exact) / (count - 1)
        for name, exchange in TOPOLOGIES.items():
            post = Post()
            tables = exchange(uploads, labels, "student-first", post)
            up = sum(entry.encoded for entry in post.ledger if entry.receiver == SERVER)
            down = sum(entry.encoded for entry in post.ledger if entry.sender == SERVER)
            peer = sum(entry.encoded for entry in post.ledger) - up - down
            error = max((tables[i] - means[i]).abs().max().item() for i in tables)
            each = {"up": (up + peer) / count, "down": (down + peer) / count, "server": up + down, "error": error}
            rows.append({"topology": name, "clients": count, "images": images, **each})
    return pd.DataFrame(rows)


def agreement(ladder: pd.DataFrame, images: int, classes: int, parameters: int) -> pd.DataFrame:
    """Formula against measurement for a client and round of the two arms in float32: columns arm, direction, formula
    and payload (bytes of the numbers), encoded (of the message), header (their difference).
    """
    formulas = {"dml": losses_round(images, classes), "fedavg": weights_round(parameters)}
    rows = []
    for arm, sizes in formulas.items():
        mine = ladder.set_index("arm").loc[arm]
        for way, expected in zip(("up", "down"), sizes, strict=True):
            rows.append((arm, way, expected, mine[f"payload_{way}"], mine[way], mine[way] - mine[f"payload_{way}"]))
    return pd.DataFrame(rows, columns=["arm", "direction", "formula", "payload", "encoded", "header"])


def secured(images: int, clients: int = 5) -> pd.DataFrame:
    """What a secure sum of drawn tables costs one client and how far it is off: columns message, direction, bytes, and
    error, the largest difference to the plain sum. Empty without the optional extra `flower`, whose libraries it needs.
    """
    try:
        from dml.exchange.secure.server import secure_sum
    except ImportError:
        return pd.DataFrame(columns=["message", "direction", "bytes", "error"])
    logits = torch.from_numpy(stream(0, 0, "game").normal(0, 3, (clients, images, 1)).astype(np.float32))
    tables = log_probabilities(logits).clamp_min(float(np.log(FLOOR)))
    found = secure_sum(list(tables))
    error = (found.total - tables.double().sum(0)).abs().max().item()
    ways = {"Roster": "down", "Inbox": "down", "Survivors": "down"}
    rows = [(kind, ways.get(kind, "up"), np.mean(sizes), error) for kind, sizes in found.nbytes.items()]
    return pd.DataFrame(rows, columns=["message", "direction", "bytes", "error"])
