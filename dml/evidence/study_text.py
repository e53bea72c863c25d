"""What the studies of the analysis plan show so far, as a page: `figures/studies.md`."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dml.evidence import beside, confirmatory, repeated, tuned
from dml.evidence.accuracy import claims
from dml.evidence.answers import lists, told
from dml.evidence.markdown import compared
from dml.evidence.verdicts import name_of
from dml.evidence.words import counted, estimate, joined, span, table
from dml.files import read_table
from dml.studies.plan import Study, plan
from dml.studies.study import STUDIES, TABLES

FAMILIES = {
    "C1": "More accurate than sharing weights",
    "C2": "Generalises better",
    "mechanism": "What the peers add",
}
NONE = "No seed is complete yet."
ONE = "One seed is complete; a test needs two."


def text(folder: Path = STUDIES) -> str:
    """Both studies, one after the other: how many seeds are on record, the answers, and what stands beside them."""
    lines = []
    for study in plan().studies.values():
        lines += [f"### {study.name.capitalize()} protocol", "", *_study(study, folder / study.name), ""]
    return joined(lines[:-1])


def _study(study: Study, folder: Path) -> Iterator[str]:
    results = confirmatory.decisive(study, folder)
    seeds, planned = sorted(results["seed"].unique()), study.confirmatory
    if len(seeds) < 2:
        yield ONE if seeds else NONE
        return
    state = "All" if len(seeds) == len(planned) else "**Interim, decides nothing**:"
    yield (
        f"{state} {len(seeds)} of {len(planned)} confirmatory seeds are on record ({_listed(seeds)}). DML minus "
        f"another arm, points, paired over n = {len(seeds)} seeds; intervals are Student's t, 95 %; p after Holm "
        f"within the family; margin {100 * plan().margin:g} points. Accuracy: the last {plan().late_rounds} rounds."
    )
    answers = claims(results)
    yield from ["", *compared(answers), ""]
    for family, rows in answers.groupby("family", sort=False):
        asked = dict(zip(map(name_of, rows.itertuples()), rows["answer"], strict=True))
        so_far = "" if len(seeds) == len(planned) else "Open; so far "
        yield f"- {FAMILIES[family]} ({family}). {so_far}{told(lists(asked))}."
    yield from ["", *_images(study, folder, seeds), "", *_secondary(results), "", *beside.text(study, folder, results)]
    if study.name == "published":  # the protocol of which seeds are repeated and arms tuned
        yield from repeated.text(folder.parent, results)
        yield from ["", *tuned.text(folder.parent / "tuned", results)]


def _listed(seeds: Sequence[int]) -> str:
    whole = list(range(seeds[0], seeds[-1] + 1)) == list(seeds)
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _images(study: Study, folder: Path, seeds: Sequence[int]) -> Iterator[str]:
    shares = confirmatory.by_image(read_table(folder / TABLES["right"]))
    copies = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["unseen_copies"]
    arms = ("fedavg", "asynchronous")
    differences = confirmatory.by_seed_and_image(shares, seeds, arms)
    alone = np.broadcast_to(differences.mean(axis=2, keepdims=True), differences.shape)  # no image differs from another
    spans = [span(*ends) for ends in confirmatory.crossed(np.concatenate([differences, alone]))]
    images = differences.shape[2]
    for against, both, seeds_only in zip(arms, spans[: len(arms)], spans[len(arms) :], strict=True):
        yield (
            f"- DML minus `{against}` when seeds and the {images:,} unseen images are both drawn anew: {both} points "
            f"(percentiles; seeds alone, likewise: {seeds_only}); without the {len(copies)} that are exact copies of "
            f"another one: {counted(confirmatory.without(shares, seeds, copies, against))}."
        )


def _secondary(results: pd.DataFrame) -> list[str]:
    rows = []
    for row in confirmatory.secondary(results).itertuples():
        plain = row.measure in ("log loss", "calibration error", "AUC")
        shown = estimate(row.mean, row.low, row.high, "+.3f" if plain else "+.2f", 1 if plain else 100)
        rows.append((row.measure, f"`{row.against}`", shown, row.n))
    return table(("beside it, without a verdict", "DML minus", "mean [95 %]", "n"), rows)
