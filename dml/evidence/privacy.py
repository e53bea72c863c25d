"""Claim C4 (sharing predictions is more private than sharing weights) against the tables of the probes.

"Not detected" is all that a failed attack shows, so it is always written with what the probe would have found.
"""

import pandas as pd

from dml.evidence.answers import HELD, OPEN, REFUTED

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
    """
    rows = []
    trained = differences[differences["dial"] == "as trained"].set_index(["view", "minus"])
    for pair, question in QUESTIONS.items():
        difference = trained.loc[pair]
        answer = HELD if difference["low"] > 0 else REFUTED if difference["high"] < 0 else OPEN
        keys = {"claim": "C4", "question": question, "mean": difference["value"]}
        rows.append(
            {
                **keys,
                "low": difference["low"],
                "high": difference["high"],
                "n": int(difference["n"]),
                "answer": answer,
            }
        )
    return pd.DataFrame(rows)


def membership(row) -> str:
    """What the membership probe says of a view (a row of the verdict), in words."""
    measured = f"{row.auc:.2f} [{row.low:.2f}, {row.high:.2f}]"
    return measured if row.low > 0.5 else f"{measured}: not detected (the probe finds AUC ≥ {row.detects:.2f})"


def pictures(row) -> str:
    """What reconstruction says of a view, in words."""
    if not row.images:
        return "not tried"
    if not row.recovered:
        return f"0 of {row.images}"
    return f"{row.recovered} of {row.images}; best attack {row.better:+.1f} dB"


def balance(row) -> str:
    """What the probe of class balance says of a view, in words."""
    words = f"{100 * row.balance:.1f} (prior {100 * row.prior:.1f})"
    return words if row.balance_gain_low > 0 else f"{words}: not detected"


def readable(verdict: pd.DataFrame) -> pd.DataFrame:
    """The verdict with a row a view, in words and rounded numbers."""
    return pd.DataFrame(
        {
            "view": row.view,
            "adversary": row.adversary,
            "bytes": f"{row.bytes:,}",
            "membership, AUC": membership(row),
            "canaries": f"{row.canaries:.2f}",
            "TPR at 1 % FPR": "" if pd.isna(row.tpr) else f"{100 * row.tpr:.1f} %",
            "overfit control": f"{row.overfit:.2f}",
            "class balance, error in points": balance(row),
            "pictures": pictures(row),
            "formal guarantee": "none",
        }
        for row in verdict.itertuples()
    )
