"""The paper's claims against a run's tables, as a table for the notebook and as text for the README."""

import numpy as np
import pandas as pd

from dml.stats import ENOUGH, columns, gaps, paired, per_seed, summarise

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

    Columns claim, measure, against, reported, mean, low, high, n, p, verdict: "holds" or "fails" when the interval is
    on one side of zero and p is below 0.05 (which takes six seeds), else "undecided". Differences are shares;
    `reported` is the paper's, from one seed.
    """
    both, rows = pd.concat([results, gaps(results)]), []
    published = reported.groupby("arm")["accuracy"].mean()
    for claim, measure, against, direction in CLAIMS:
        table = per_seed(both, measure)
        found = paired(table["dml"].to_numpy(), table[against].to_numpy())
        named = measure == "unseen accuracy" and against in published
        verdict = {direction: "holds", "undecided": "undecided"}.get(found.verdict, "fails")
        rows.append(
            {
                "claim": claim,
                "measure": measure,
                "against": against,
                "reported": published["dml"] - published[against] if named else np.nan,
                **columns(found),
                "p": found.p,
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows)


def markdown(results: pd.DataFrame, costs: pd.DataFrame, reported: pd.DataFrame, title: str) -> str:
    """Every arm's accuracy and cost, and every claim, as two tables in Markdown; per cent and percentage points."""
    accuracy = summarise(results, "unseen accuracy")
    published = reported.groupby("arm")["accuracy"].mean()
    seconds = costs.groupby("arm")["cpu_s"].mean()
    n = int(accuracy["n"].max())
    kind = "BCa" if n >= ENOUGH else f"t too (BCa from {ENOUGH} seeds on)"
    lines = [
        f"Data: {title}; n = {n} seeds; intervals are 95 % over seeds: t, and for paired differences {kind}.",
        "",
        "| arm | reported (one seed) | unseen accuracy, %: mean [t interval] | CPU seconds a seed |",
        "|---|---|---|---|",
    ]
    for row in accuracy.itertuples():
        paper = f"{100 * published[row.arm]:.2f}" if row.arm in published else ""
        lines.append(f"| `{row.arm}` | {paper} | {100 * row.mean:.2f} {_range(row, '.2f')} | {seconds[row.arm]:.0f} |")
    lines += [
        "",
        "| claim | DML minus | of | reported | measured: mean [interval], points | sign-flip p | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in claims(results, reported).itertuples():
        paper = "" if np.isnan(row.reported) else f"{100 * row.reported:+.2f}"
        p = "" if np.isnan(row.p) else f"{row.p:.2g}"
        measured = f"{100 * row.mean:+.2f} {_range(row, '+.2f')}"
        lines.append(f"| {row.claim} | `{row.against}` | {row.measure} | {paper} | {measured} | {p} | {row.verdict} |")
    return "\n".join(lines) + "\n"


def _range(row, form: str) -> str:
    return "" if np.isnan(row.low) else f"[{100 * row.low:{form}}, {100 * row.high:{form}}]"
