"""Clients whose pictures differ, and public images of another domain: the study `pictures` of data/plan_skew.md."""

from collections.abc import Iterator
from math import inf
from pathlib import Path

import pandas as pd

from dml.evidence import predictions
from dml.evidence.predictions import ABOVE, NOT_ABOVE, WITHIN, Part, mean_of
from dml.evidence.skew import NOTHING, RULES, by_seed, fields_of, marked, recorded, to_best
from dml.evidence.words import estimate, table
from dml.studies.study import STUDIES

NAME = "pictures"
TITLE = "Pictures that differ, and public images of another domain"
ARMS = ("dml", "dml-peer-first", *RULES)
RAMPS = ("brightness", "blur", "noise")
WORDS = {
    "brightness": "photographs, darker from client to client",
    "blur": "photographs, more blurred",
    "noise": "photographs, noisier",
    "look": "drawn faces, dealt by mask and hair",
    "other": "photographs, public images drawn",
    "": "drawn faces, alike",
}


def lines(folder: Path = STUDIES, so_far: str = "") -> Iterator[str]:
    """Accuracy of every arm in every cell, DML minus the best rule without outputs, and the three predictions."""
    if (results := recorded(folder, NAME)) is None:
        yield NOTHING
        return
    yield f"{marked(so_far)}Reduced protocol, 5 clients, common accuracy, %; Student's t over seeds."
    yield ""
    arms = (f"`{arm}`" for arm in ARMS)
    titles = ("clients", "classes", *arms, "DML minus the best arm without outputs, points [95 %]", "n")
    yield from table(titles, [_row(cell, arms) for cell, arms in by_seed(results).items()])
    yield from ["", *predictions.shown(predictions.answered(asked(results)))]


def asked(results: pd.DataFrame) -> dict[str, list[Part]]:
    """P10 to P12 of the plan; one whose cells are not there has no parts."""
    made: dict[str, list[Part]] = {"P10": [], "P11": [], "P12": []}
    cells = by_seed(results)
    ramps = [cells.get(f"label_alpha {inf:g}; feature_skew {ramp}") for ramp in RAMPS]
    other = [cells.get(f"label_alpha {alpha:g}; public_fold other") for alpha in (inf, 0.1)]
    if all(cell is not None for cell in ramps):
        made["P10"] = [_part(ramps, arm, "three ramps", WITHIN) for arm in ("local+public", "fedavg+public")]
    if all(cell is not None for cell in other):
        made["P11"] = [_part(other, "local+public", "public images drawn", ABOVE)]
        made["P12"] = [_part(other, "fedavg", "public images drawn", NOT_ABOVE)]
    return made


def _part(cells: list, arm: str, where: str, expected: str) -> Part:
    return Part(
        f"`dml` minus `{arm}`, {where}", expected, mean_of((cell["dml"] - cell[arm]).dropna() for cell in cells)
    )


def _row(cell: str, arms: pd.DataFrame) -> tuple:
    """A cell's accuracies, and DML minus the rule with the highest mean over the same seeds."""
    changed = fields_of(cell)
    what = changed.get("feature_skew") or ("other" if changed.get("public_fold") == "other" else "")
    apart = "the same" if changed["label_alpha"] == "inf" else f"Dirichlet {changed['label_alpha']}"
    full = arms[[arm for arm in ARMS if arm in arms]].dropna()
    best, gain = to_best(full, [arm for arm in RULES if arm in full])
    means = (f"{100 * full[arm].mean():.1f}" if arm in full else "" for arm in ARMS)
    return WORDS[what], apart, *means, f"{estimate(gain.mean, gain.low, gain.high)} to `{best}`", gain.n
