"""When mutual learning helps, in words: a finding, a table "if your clients ... then ...", and the predictions."""

from pathlib import Path

import pandas as pd

from dml.evidence import mixed, pictures, predictions, relatives, skew
from dml.evidence.answers import HELD, OPEN, REFUTED, STATUSES, lists
from dml.evidence.skew import ABOVE, BELOW, EQUAL, LABELLED, NOTHING, UNDECIDED, alike, marked, skew_map
from dml.evidence.words import between, capital, estimate, joined, pages, points, table
from dml.files import read_table
from dml.studies.skew import plan
from dml.studies.study import STUDIES

WORDS = {predictions.HELD: HELD, predictions.FAILED: REFUTED, predictions.OPEN: OPEN}  # of a prediction, as a verdict
THEN = {
    ABOVE: "DML rather than {against}",
    BELOW: "{against} rather than DML",
    EQUAL: "either: within a point",
    UNDECIDED: "undecided with so many seeds",
}
RULE = (
    "Each row holds DML against one arm without outputs, the best of up to four by its mean on these seeds, which",
    "favours it; 95 % intervals, not corrected over the rows. It does not say that this arm beats the others. Apart:",
    "the mean total variation between a client's classes and the whole's.",
)
JUDGED = (
    'Judged as the plan\'s "Deviations" fixed it before any result was looked at, but for "at most a point above" (P4,',
    "P12), read anew when six of twenty seeds had been seen; no answer changed by that.",
)
DESCRIBES = (
    "Recalls weighted by a client's own mixture of classes. Always to name one's commonest class already scores half",
    "plus the distance, on average: this describes, and advises nothing. Where all clients hold the same classes it",
    "was not recorded.",
)
OWN = "unseen personal accuracy"  # of the unseen images, weighted by a client's own classes
SO_FAR = {ABOVE: "DML so far", BELOW: "{against} so far", EQUAL: "either so far", UNDECIDED: "undecided"}


def the_map(folder: Path = STUDIES, metric: str = "unseen accuracy") -> pd.DataFrame | None:
    """The map of the study on record, if there is one (see `skew.skew_map`)."""
    study = folder / "skew"
    if not (study / "costs.csv").is_file():
        return None
    return skew_map(read_table(study / "results.csv.gz"), read_table(study / "cells.csv"), metric)


def judged(folder: Path = STUDIES) -> list[dict]:
    """The verdict rows of the studies on record, of skewed clients and of different models (see `skew.judged` and
    `mixed.judged`). A study that is not complete decides nothing: all it asks is open.
    """
    rows = []
    for study, judge in (("skew", skew.judged), (mixed.NAME, mixed.judged)):
        if not (folder / study / "costs.csv").is_file():
            continue
        tables = (read_table(folder / study / name) for name in ("results.csv.gz", "cells.csv"))
        for row in judge(tuple(tables)):
            if so_far := state(folder, study):
                asked = ", ".join(filter(None, (row[status] for status in STATUSES)))
                row |= {HELD: "", REFUTED: "", OPEN: asked, "short": f"{so_far}; {row['short']}"}
            rows.append(row)
    return rows


def def_kt(folder: Path = STUDIES) -> list[dict]:
    """The verdict row on a related method: that Def-KT's teaching adds less than a point to moving models. It is P7 of
    the plan, judged as it says; open while the study is not complete, none before the prediction can be judged.
    """
    answer, parts = predictions.on_record(folder)["P7"]
    if not parts:
        return []
    so_far, (part,) = state(folder), parts
    decided = OPEN if so_far else WORDS[answer]
    told = f"points, n = {part.found.n}: Def-KT minus models that only move {points(part.found)} {decided}"
    short = f"{so_far}; {told}" if so_far else told
    says = "Def-KT: teaching adds less than a point to moving models (P7)"
    row = {"claim": "O2", "says": says, **lists({part.says: decided}), "figure": "05_relatives"}
    return [row | {"why": short, "short": short}]


def state(folder: Path = STUDIES, study: str = "skew") -> str:
    """How much of a study is on record, where it is not all of it."""
    file = folder / study / "costs.csv"
    there = read_table(file) if file.is_file() else pd.DataFrame(columns=["cell", "seed", "arm"])
    planned = sum(len(grid.cells) * len(grid.arms) * len(grid.seeds) for grid in plan().grids[study])
    done = len(there.drop_duplicates(["cell", "seed", "arm"]))
    return "" if done == planned else f"interim: {done:,} of {planned:,} runs planned"


def finding(folder: Path = STUDIES) -> str:
    """In how many regimes DML is above, at and below the best rule without outputs; "" while less than
    two seeds are on record.
    """
    map_ = the_map(folder)
    if map_ is None or map_["n"].min() < 2:
        return ""
    so_far, seeds = f"; {state(folder)}" if state(folder) else "", between(map_["n"])
    differ = _differing(map_)
    told = " ".join(
        f"Of the {len(part)} in which clients {are}, DML is above the best arm that exchanges no outputs in "
        f"{_counted(part)}."
        for are, part in (("differ", differ), ("are alike", map_.drop(differ.index)))
        if len(part)
    )
    return (
        f"reduced protocol, n = {seeds} seeds each{so_far}. A regime is a level of skew with one kind of public "
        f"images. {told}{own_classes(folder)}{same(folder, map_)}"
    )


def _counted(map_: pd.DataFrame) -> str:
    """In how many regimes DML is above the best of the others, and in how many not: "0, below it in 11"."""
    counts = map_["state"].value_counts()
    above, below, equal, undecided = (counts.get(state, 0) for state in (ABOVE, BELOW, EQUAL, UNDECIDED))
    return f"{above}, below it in {below}, within a point in {equal}, undecided in {undecided}"


def own_classes(folder: Path = STUDIES) -> str:
    """The same count where each client is asked about its own mixture of classes, in a sentence; "" without it."""
    map_ = the_map(folder, OWN)
    if map_ is None or map_.empty:
        return ""
    return f" On each client's own classes DML is, of {len(map_)}, above the best of them in {_counted(map_)}."


def brief(folder: Path = STUDIES) -> str:
    """The same of the clients that differ, in one sentence, for the README."""
    map_ = the_map(folder)
    if map_ is None or map_["n"].min() < 2:
        return ""
    map_ = _differing(map_)
    counts, so_far = map_["state"].value_counts(), ", interim" if state(folder) else ""
    told = [f"{counts.get(ABOVE, 0)} of {len(map_)} regimes"]
    told += [f"{state} {counts[state]}" for state in (BELOW, EQUAL) if state in counts]
    return f"DML above best arm without outputs: {'; '.join(told)} ({between(map_['n'])}{so_far})."


def _differing(map_: pd.DataFrame) -> pd.DataFrame:
    """The regimes in which clients hold different classes."""
    return map_[~map_["cell"].map(alike)]


def brief_of_models(folder: Path = STUDIES) -> str:
    """The same on clients with different models (see `mixed.brief`)."""
    return mixed.brief(folder, bool(state(folder, mixed.NAME)))


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 05: what to do when clients differ, from the study of data/plan_skew.md."""
    map_, told = the_map(folder), finding(folder)
    if map_ is None or not told:
        return [NOTHING, pages("skew")]
    models = [f"Different models, {unlike}"] if (unlike := brief_of_models(folder)) else []
    return [capital(told), advice(map_, bool(state(folder))), *models, pages("skew")]


def text(folder: Path = STUDIES) -> str:
    """The page on clients that differ: what to do when, which predictions held, relatives, different models, other
    pictures.
    """
    map_, lines = the_map(folder), [NOTHING]
    if map_ is not None:
        so_far = marked(state(folder))
        lines = [f"{so_far}Real photographs, reduced protocol, 5 clients; Student's t over seeds.{same(folder, map_)}"]
        lines += ["", *RULE, "", advice(map_, bool(state(folder)))]
        own = the_map(folder, OWN)
        if own is not None and len(own):
            lines += ["### On each client's own classes", "", *DESCRIBES, "", described(own)]
    told = predictions.text(folder, bool(state(folder))).rstrip()
    lines += ["", "### The predictions", "", *JUDGED, "", told]
    for part in (relatives, mixed, pictures):
        lines += ["", f"### {part.TITLE}", "", *part.lines(folder, state(folder, part.NAME))]
    return joined(lines)


def same(folder: Path, map_: pd.DataFrame) -> str:
    """How much of the map says what another part of it says, in words; and what few seeds do to an interval."""
    cells = read_table(folder / "skew" / "cells.csv")["cell"].unique()
    repeated = sum(map(skew.on_the_map, cells)) - len(map_)
    told = f" {repeated} more repeat the deal of another to the last image and are left out." if repeated else ""
    results = read_table(folder / "skew" / "results.csv.gz")
    shared = {fold: deals for fold in ("balanced", "skewed") if (deals := _shared(results, fold))}
    if shared and not repeated:
        counted = "; ".join(f"{LABELLED[fold]}: {deals}" for fold, deals in shared.items())
        told += f" Levels 0.1 and 0.01 are the very same deal on some seeds ({counted})."
    few = " Of two or three seeds Student's interval can leave what is possible: nothing is known then."
    return told + (few if map_["n"].min() < 4 else "")


def _shared(results: pd.DataFrame, fold: str) -> str:
    """On how many seeds the two highest levels are the same deal, by what the same arms measured: "3 of 4"."""
    levels = [skew.cell_of(alpha, fold) for alpha in ("0.1", "0.01")]
    values = skew.by_seed(results[results["cell"].isin(levels)])
    first, second = map(values.get, levels)
    if first is None or second is None:
        return ""
    arms = [arm for arm in skew.MAIN if arm in first and arm in second]
    one, other = first[arms].dropna().align(second[arms].dropna(), join="inner", axis=0)
    both = (one == other).all(axis=1)
    return f"{both.sum()} of {len(both)}" if arms and any(both) else ""


def described(map_: pd.DataFrame) -> str:
    """The map's rows without advice, in Markdown."""
    rows = [
        (
            f"{row.distance:.3f}",
            LABELLED[row.public_fold],
            f"{100 * row.dml:.1f}",
            row.state,
            f"{estimate(row.mean, row.low, row.high)} to `{row.against}`",
            row.n,
        )
        for row in map_.itertuples()
    ]
    titles = ("apart", "public images", "`dml`, %", "DML is", "DML minus the best of them, points", "n")
    return joined(table(titles, rows))


def advice(map_: pd.DataFrame, interim: bool = False) -> str:
    """The table "if your clients ... then ...", in Markdown; no advice while seeds are missing."""
    rows = [
        (
            "have the same mixture of classes" if alike(row.cell) else f"are {row.distance:.3f} apart from the whole",
            LABELLED[row.public_fold],
            (SO_FAR if interim else THEN)[row.state].format(against=f"`{row.against}`") + _by_little(row),
            f"{estimate(row.mean, row.low, row.high)} to `{row.against}`",
            f"`{row.best}` {100 * row.accuracy:.1f}",
            row.n,
        )
        for row in map_.itertuples()
    ]
    titles = ("if your clients", "and public images are", "then", "DML minus the best arm without outputs, points")
    return joined(table((*titles, "highest mean of the six main arms, %", "n"), rows))


def _by_little(row) -> str:
    small = row.state in (ABOVE, BELOW) and row.low > -skew.MARGIN and row.high < skew.MARGIN
    return ", by less than a point" if small else ""
