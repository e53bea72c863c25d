"""The paper's claims against a run's tables, as a table for the notebook and as text for the README."""

import numpy as np
import pandas as pd

from dml.stats import columns, gaps, holm, paired, per_seed

CLAIMS = (
    ("C1", "unseen accuracy", "fedavg", "higher"),
    ("C1", "unseen accuracy", "asynchronous", "higher"),
    ("C1", "unseen accuracy", "fedavg+public", "higher"),
    ("C1", "unseen accuracy", "local+public", "higher"),
    ("C1", "unseen accuracy", "self", "higher"),
    ("C2", "unseen disagreement", "asynchronous", "lower"),
    ("C2", "unseen disagreement", "local+public", "lower"),
    ("C2", "gap", "asynchronous", "lower"),
    ("C2", "gap", "fedavg", "lower"),
    ("C2", "gap", "local+public", "lower"),
)


def claims(results: pd.DataFrame, reported: pd.DataFrame) -> pd.DataFrame:
    """Claims C1 (more accurate on unseen data) and C2 (generalises better) as paired differences of DML to an arm.

    Columns claim, measure, against, reported, mean, low, high, n, better, p, verdict: "holds" or "fails" when the
    interval is on one side of zero and p, corrected for the comparisons of the claim (Holm), is below 0.05; else "no
    difference" when the interval is within one percentage point of zero, else "undecided". Differences are shares;
    `better` is the share of seeds on which DML is better, `reported` the paper's difference, from one seed.
    """
    both, rows = pd.concat([results, gaps(results)]), []
    published = reported.groupby("arm")["accuracy"].mean()
    tables = {measure: per_seed(both, measure) for _, measure, _, _ in CLAIMS}
    for claim in dict.fromkeys(claim for claim, *_ in CLAIMS):
        comparisons = [each[1:] for each in CLAIMS if each[0] == claim]
        pairs = [
            (tables[measure]["dml"].to_numpy(), tables[measure][arm].to_numpy()) for measure, arm, _ in comparisons
        ]
        for (measure, arm, direction), estimate in zip(
            comparisons, holm([paired(*pair) for pair in pairs]), strict=True
        ):
            named = measure == "unseen accuracy" and arm in published
            verdict = {direction: "holds", "same": "no difference", "undecided": "undecided"}.get(
                estimate.verdict, "fails"
            )
            better = estimate.above_zero if direction == "higher" else 1 - estimate.above_zero
            reports = published["dml"] - published[arm] if named else np.nan
            row = {"claim": claim, "measure": measure, "against": arm, "reported": reports, **columns(estimate)}
            rows.append(row | {"better": better, "p": estimate.p, "verdict": verdict})
    return pd.DataFrame(rows)
