"""Claim C4 (sharing predictions is more private than sharing weights) against the tables of the probes.

"Not detected" is all that a failed attack shows, so it is always written with what the probe would have found.
"""

import math

import pandas as pd

from dml.config import Draw
from dml.evidence.answers import HELD, OPEN, REFUTED

ALIKE = Draw().victims  # of a group, which share bystanders and shadows
SSIM = 0.05  # above that of the mean image, for a picture to be clearly a person's and not its class's

QUESTIONS = {  # (view, minus): who asks
    ("weights", "losses"): "server: FedAvg's weights minus DML's losses",
    ("partial weights", "losses"): "server: partial weights minus DML's losses",
    ("weights, average - own", "losses"): "peer: FedAvg's average minus DML's losses, as published",
    ("weights, average", "sum of predictions"): "server under a secure sum: average weights minus summed predictions",
    ("weights, average - own", "sum of predictions - own"): "peer under a secure sum: the same, own share removed",
}


def c4(differences: pd.DataFrame) -> pd.DataFrame:
    """Claim C4 for each adversary, as trained: columns claim, question, mean, low, high, n, answer.

    The mean is the area under the ROC curve for the view that shares weights less that for the view that shares
    predictions: the claim is held when the interval is above zero, refuted when it is below, else open.

    The intervals are those of `as_groups`.
    """
    rows = []
    trained = differences[differences["dial"] == "as trained"].set_index(["view", "minus"])
    for pair, question in QUESTIONS.items():
        difference = trained.loc[pair]
        mean, (low, high) = difference["value"], as_groups(difference)
        answer = HELD if low > 0 else REFUTED if high < 0 else OPEN
        keys = {"claim": "C4", "question": question, "mean": mean}
        rows.append(keys | {"low": low, "high": high, "n": int(difference["n"]), "answer": answer})
    return pd.DataFrame(rows)


def as_groups(difference: pd.Series) -> tuple[float, float]:
    """The interval of a recorded difference, which takes targets to be independent, widened to what it would be if the
    `ALIKE` victims of a group were one: the worst case, as they are dependent and their scores are not on record.
    """
    mean, wider = difference["value"], math.sqrt(ALIKE)
    low, high = (mean + wider * (difference[bound] - mean) for bound in ("low", "high"))
    return low, high


def membership(row) -> str:
    """What the membership probe says of a view (a row of the verdict), in words."""
    measured = f"{row.auc:.2f} [{row.low:.2f}, {row.high:.2f}]"
    return measured if row.low > 0.5 else f"{measured}: not detected (the probe finds AUC ≥ {row.detects:.2f})"


def clearly(pictures: pd.DataFrame) -> pd.Series:
    """Which images are recovered: nearer to their private one than the mean and every public image (the column
    `recovered` of a run's table), and by `SSIM` more like it than the mean image is: a class's mean face can be nearer
    to a private image than any single public one, and shows nobody.
    """
    return pictures["recovered"].astype(bool) & (pictures["ssim"] - pictures["ssim of the mean"] > SSIM)


def recovered(pictures: pd.DataFrame) -> str:
    """What reconstruction says of a view, from its rows, in words: always with the number of victims."""
    if pictures.empty:
        return "not tried"
    most = pictures.groupby("attack")["case"].nunique()
    victims = f"{most.min()} to {most.max()} victims" if most.min() < most.max() else _victims(most.max())
    attacks = "1 attack" if len(most) == 1 else f"{len(most)} attacks"
    told = f"{clearly(pictures).sum()} of {len(pictures)} images, {attacks} on {victims}"
    nearer = pictures["recovered"].sum()
    return told if not nearer else f"{told}; {nearer} nearer than any public image"


def _victims(count: int) -> str:
    return "1 victim" if count == 1 else f"{count} victims"


def balance(row) -> str:
    """What the probe of class balance says of a view, in words."""
    words = f"{100 * row.balance:.1f} (prior {100 * row.prior:.1f})"
    return words if row.balance_gain_low > 0 else f"{words}: not detected"


def readable(verdict: pd.DataFrame, rates: pd.DataFrame, pictures: pd.DataFrame) -> pd.DataFrame:
    """The verdict with a row a view, in words and rounded numbers."""
    own = rates[(rates["metric"] == "auc") & (rates["candidates"] == "all") & (rates["against"] == "members")]
    over_rounds = own[(own["attack"] == "FedMIA") & (own["dial"] == "as trained")].set_index("view")
    overfit = own[(own["attack"] == "strongest") & (own["dial"] == "overfit")].set_index("view")
    return pd.DataFrame(
        {
            "view": row.view,
            "adversary": row.adversary,
            "bytes": f"{row.bytes:,}",
            "one round, AUC": membership(row),
            "canaries": f"{row.canaries:.2f}",
            "TPR at 1 % FPR": "" if pd.isna(row.tpr) else f"{100 * row.tpr:.1f} %",
            "several rounds, FedMIA": _rounds(over_rounds, row.view),
            "overfit control": f"{row.overfit:.2f} (n = {overfit.loc[row.view, 'n']:.0f})",
            "class balance, error in points": balance(row),
            "pictures": recovered(pictures[pictures["view"] == row.view]),
            "formal guarantee": "none",
        }
        for row in verdict.itertuples()
    )


def _rounds(rows: pd.DataFrame, view: str) -> str:
    """What the recorded attack over several rounds found of a view."""
    if view not in rows.index:
        return "not tried"
    row = rows.loc[view]
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}] (n = {row['n']:.0f} clients)"
