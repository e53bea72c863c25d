"""Which predictions held, each by the comparison that its page names: the nine of data/plan_skew.md, and how those of
other studies are judged.

A prediction has one or more parts, each a paired difference by seed. It holds when all of its parts pass, so its p is
the largest of theirs (an intersection-union test); it fails when one of them passes the other way, so that p is the
smallest, times their number. Both are corrected over the predictions (Holm); anything else is open.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from dml.evidence.answers import FAILED, HELD, OPEN
from dml.evidence.mixed import by_kind
from dml.evidence.skew import MARGIN, by_seed, cell_of, recorded, twin_of
from dml.evidence.words import joined, points, table
from dml.stats import ALPHA, Difference, holm_corrected, paired
from dml.studies.study import STUDIES

NOT_RUN = "not run"
ABOVE, BELOW, WITHIN, NOT_ABOVE = "above zero", "below zero", "within a point", "at most a point above zero"
BETWEEN = "above zero, by less than a point"
UNLABELLED = ("dsfl", "scarlet", "rhfl")  # the relatives with a linear pool
LEAST = 3  # seeds


@dataclass(frozen=True)
class Part:
    """A difference by seed, and what the prediction says of it."""

    says: str
    expected: str
    values: pd.Series

    @cached_property
    def found(self) -> Difference:
        """The mean difference over the seeds."""
        return paired(self.values, np.zeros(len(self.values)), MARGIN)

    @property
    def p(self) -> tuple[float, float]:
        """p of what is expected, and p of its contrary."""
        found = self.found
        up, down = (found.p if found.mean > 0 else 1.0), (found.p if found.mean < 0 else 1.0)
        if self.expected == WITHIN:
            beyond = [self._beyond(margin, side) for margin, side in ((MARGIN, "greater"), (-MARGIN, "less"))]
            return found.equivalent, min(1.0, 2 * min(beyond))
        if self.expected == BETWEEN:
            inside = max(self._beyond(0, "greater"), self._beyond(MARGIN, "less"))
            return inside, min(1.0, 2 * min(self._beyond(0, "less"), self._beyond(MARGIN, "greater")))
        if self.expected == NOT_ABOVE:
            return self._beyond(MARGIN, "less"), self._beyond(MARGIN, "greater")
        passes, contrary = (up, down) if self.expected == ABOVE else (down, up)
        return passes, min(contrary, found.equivalent)

    def _beyond(self, margin: float, side: str) -> float:
        return float(stats.ttest_1samp(self.values, margin, alternative=side).pvalue)


class Cells:
    """Unseen accuracy by seed, of an arm in a cell of a study; KeyError where it was not run."""

    def __init__(self, results: pd.DataFrame):
        self.results = results
        self.made = by_seed(results)

    def of(self, arm: str, level: float, fold: str, extra: str = "") -> pd.Series:
        """Of an arm at a level of skew; an arm that uses no public fold is the same whatever that is."""
        named = twin_of if arm in ("local", "fedavg") else cell_of
        return self.made[named(f"{level:g}", fold) + extra][arm].dropna()

    def gap(self, arm: str, other: str, levels: Sequence[float], fold: str, other_fold: str = "") -> pd.Series:
        """An arm minus another, mean over the levels."""
        return mean_of(self.of(arm, level, fold) - self.of(other, level, other_fold or fold) for level in levels)


def mean_of(values: Iterator[pd.Series]) -> pd.Series:
    """The mean of several numbers by seed, of the seeds that have all."""
    return pd.concat(list(values), axis=1).dropna().mean(axis=1)


def _p1(skew: Cells, _: Cells) -> Iterator[Part]:
    for other in ("local+public", "fedavg+public"):
        yield Part(f"`dml` minus `{other}`, alpha inf and 1", WITHIN, skew.gap("dml", other, (inf, 1), "balanced"))


def _p2(skew: Cells, _: Cells) -> Iterator[Part]:
    values = skew.gap("dml", "dml-peer-first", (1, 0.3), "balanced")
    yield Part("`dml` minus `dml-peer-first`, alpha 1 and 0.3", ABOVE, values)


def _p3(skew: Cells, _: Cells) -> Iterator[Part]:
    values = skew.gap("dml", "dml-peer-first", (0.01,), "unlabelled")
    yield Part("`dml` minus `dml-peer-first`, alpha 0.01, unlabelled", BELOW, values)


def _p4(skew: Cells, _: Cells) -> Iterator[Part]:
    for other, expected in (("local", ABOVE), ("fedavg", NOT_ABOVE)):
        values = skew.gap("dml", other, (1, 0.3), "unlabelled")
        yield Part(f"`dml` minus `{other}`, alpha 1 and 0.3, unlabelled", expected, values)


def _p5(skew: Cells, _: Cells) -> Iterator[Part]:
    lost = [skew.gap(arm, arm, (inf, 1, 0.3, 0.1, 0.01), "balanced", "skewed") for arm in ("local+public", "dml")]
    yield Part("what `local+public` loses to a skewed fold minus what `dml` loses", ABOVE, (lost[0] - lost[1]).dropna())


def _p6(skew: Cells, _: Cells) -> Iterator[Part]:
    names = ", ".join(f"`{arm}`" for arm in UNLABELLED)
    blind = mean_of(skew.gap(arm, "dml", (0.1,), "unlabelled") for arm in UNLABELLED)
    yield Part(f"mean of {names} minus `dml`, alpha 0.1, unlabelled", BELOW, blind)
    told = mean_of(skew.gap(f"{arm}+labels", "dml", (0.1,), "balanced") for arm in UNLABELLED)
    yield Part("the same with labels added to all", WITHIN, told)


def _p7(skew: Cells, _: Cells) -> Iterator[Part]:
    values = skew.gap("def-kt", "def-kt, only moved", (0.1, 0.01), "balanced")
    yield Part("Def-KT minus its control that only moves models, alpha 0.1 and 0.01", WITHIN, values)


def _p8(_: Cells, models: Cells) -> Iterator[Part]:
    mixed = [cell for cell, arms in models.made.items() if {"dml", "dml, own kind", "local+public"} <= set(arms)]
    if not mixed:
        raise KeyError("no cell of different models")
    weak = mean_of(_weak_minus_strong(models.results, cell) for cell in mixed)
    yield Part("gain over `local+public` of the two weakest kinds minus that of the two strongest", ABOVE, weak)
    own = mean_of(models.made[cell]["dml"] - models.made[cell]["dml, own kind"] for cell in mixed)
    yield Part("`dml` minus DML among one's own kind", ABOVE, own)


def _p9(skew: Cells, _: Cells) -> Iterator[Part]:
    clipped = skew.of("dml", 0.01, "unlabelled", "; clip 0.02")
    for other in ("dml", "dml-peer-first"):
        values = (clipped - skew.of(other, 0.01, "unlabelled")).dropna()
        yield Part(f"`dml` with clip 0.02 minus `{other}`, alpha 0.01, unlabelled", ABOVE, values)


PREDICTIONS: Mapping[str, Callable[[Cells, Cells], Iterator[Part]]] = {
    f"P{number}": parts for number, parts in enumerate((_p1, _p2, _p3, _p4, _p5, _p6, _p7, _p8, _p9), 1)
}


def _weak_minus_strong(results: pd.DataFrame, cell: str) -> pd.Series:
    """By seed: what DML adds to `local+public` for the two kinds of model that are weakest with it, minus the same for
    the two strongest.
    """
    kinds = by_kind(results, cell)
    gain = pd.DataFrame({kind: both["dml"] - both["local+public"] for kind, both in kinds.items()}).dropna()
    return gain.iloc[:, :2].mean(axis=1) - gain.iloc[:, -2:].mean(axis=1)


def judged(skew: pd.DataFrame, models: pd.DataFrame) -> dict[str, tuple[str, list[Part]]]:
    """The answer to every prediction and the parts that gave it; "not run" where one has fewer than `LEAST` seeds."""
    cells, made = (Cells(skew), Cells(models)), {}
    for name, parts in PREDICTIONS.items():
        try:
            made[name] = list(parts(*cells))
        except KeyError:
            made[name] = []
    return answered(made)


def answered(asked: Mapping[str, list[Part]]) -> dict[str, tuple[str, list[Part]]]:
    """Predictions with their answers, corrected over them; those whose parts have too few seeds are not run."""
    made = {name: parts if all(len(part.values) >= LEAST for part in parts) else [] for name, parts in asked.items()}
    holds = {name: max(part.p[0] for part in parts) for name, parts in made.items() if parts}
    fails = {name: min(1.0, len(parts) * min(part.p[1] for part in parts)) for name, parts in made.items() if parts}
    passed = dict(zip(holds, holm_corrected([*holds.values()]), strict=True))
    contrary = dict(zip(fails, holm_corrected([*fails.values()]), strict=True))
    return {name: (_answer(passed[name], contrary[name]) if parts else NOT_RUN, parts) for name, parts in made.items()}


def _answer(passed: float, contrary: float) -> str:
    return HELD if passed < ALPHA else FAILED if contrary < ALPHA else OPEN


def on_record(folder: Path = STUDIES) -> dict[str, tuple[str, list[Part]]]:
    """The predictions judged by what is on record in `folder` (see `judged`)."""
    found = [recorded(folder, name) for name in ("skew", "models")]
    none = pd.DataFrame(columns=["cell", "seed", "arm", "client", "metric", "value"])
    return judged(*(none if results is None else results for results in found))


def text(folder: Path = STUDIES, interim: bool = False) -> str:
    """A table of the predictions with their answers and differences, from what is on record in `folder`; those of an
    interim study are open.
    """
    return joined(shown(on_record(folder), interim))


def shown(answers: Mapping[str, tuple[str, list[Part]]], interim: bool = False) -> list[str]:
    """Predictions as a table in Markdown, after a line that names those that were not run; all open where interim."""
    if interim:
        answers = {name: (NOT_RUN if told == NOT_RUN else OPEN, parts) for name, (told, parts) in answers.items()}
    rows = [
        (name, f"**{answer}**", part.says, part.expected, points(part.found), len(part.values))
        for name, (answer, parts) in answers.items()
        for part in parts
    ]
    missing = [name for name, (answer, _) in answers.items() if answer == NOT_RUN]
    last = [f"Fewer than three seeds: {', '.join(missing)}.", ""] if missing else []
    titles = ("prediction", "answer", "by", "expected", "points [95 %]", "n")
    return [*last, *(table(titles, rows) if rows else [])]
