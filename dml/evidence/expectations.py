"""Which of the expectations of data/plan_hostile.md came true: H1 to H4 by the study `hostile-veto`, H5 and H7 by the
grid, H8 by `hostile-training`, H9 to H11 by `hostile-relatives`. H6 is a count (`hostile_page.counted`).

Each has one or more parts, a mean that is claimed to lie above or below a bound. It is held when the whole interval of
every part lies on the claimed side, and failed when one lies on the other; anything else is open.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from dml.config import CLIP
from dml.evidence.answers import FAILED, HELD, OPEN
from dml.evidence.words import estimate, table
from dml.stats import Estimate, interval
from dml.studies.hostile import BASE

TITLE = "What was expected"
TITLES = ("expectation", "answer", "by", "expected, %", "found, % [95 %]", "this part", "n")
COIN, BORNE, FREE = 0.5, 0.05, 0.01  # shares: a coin's accuracy; what a liar may take; what a clip may cost
PLAIN, PDMM, TRIGGER = BASE.clip, "pdmm, c = 0.1", 0.1


class Part(NamedTuple):
    """Values by seed, whose mean is expected below `bound`, or above it."""

    says: str
    values: pd.Series
    bound: float
    below: bool = True

    @property
    def found(self) -> Estimate:
        """Their mean."""
        return interval(self.values.dropna().to_numpy())


Cells = Callable[..., pd.Series]  # (arm, liars, ...) -> accuracy by seed; KeyError where it was not run


def cells(results: pd.DataFrame) -> Cells:
    """The accuracies of a study by their cells, or another metric."""
    keys = ["arm", "liars", "clip", "labels", "rule", "metric"]
    made = {key: part.set_index("seed")["value"] for key, part in results.groupby(keys)}

    def of(arm, liars, clip=PLAIN, labels=True, rule="mean", metric="accuracy"):
        return made[arm, liars, clip, labels, rule, metric]

    return of


def taken(of: Cells, arm: str, liars: int, clip: float = PLAIN, **more) -> pd.Series:
    """What so many liars take from an arm."""
    return of(arm, 0, clip, **more) - of(arm, liars, clip, **more)


def _h1(of: Cells) -> Iterator[Part]:
    yield Part("`dml`, clip 1e-7, liars: 2, accuracy", of("dml", 2), COIN)
    for liars in (1, 2):
        yield Part(f"`dml`, clip 0.02, liars: {liars}, accuracy", of("dml", liars, CLIP), COIN, below=False)
    yield Part("`dml`, clip 0.02, liars: 1, what is lost", taken(of, "dml", 1, CLIP), BORNE)


def _h2(of: Cells) -> Iterator[Part]:
    for clip in (PLAIN, CLIP):
        for liars in (1, 2):
            says = f"`dml-peer-first`, clip {clip:g}, liars: {liars}, what is lost"
            yield Part(says, taken(of, "dml-peer-first", liars, clip), BORNE)


def _h3(of: Cells) -> Iterator[Part]:
    yield Part("`dml`: what the clip of 0.02 costs", of("dml", 0) - of("dml", 0, CLIP), FREE)


def _h4(of: Cells) -> Iterator[Part]:
    for arm in ("dml", "dml-peer-first"):
        worse = of(arm, 1) - of(arm, 1, labels=False)
        yield Part(f"`{arm}`, clip 1e-7, liars: 1, labelled minus unlabelled", worse, 0.0, below=False)


def _h5(of: Cells) -> Iterator[Part]:
    lost = taken(of, "dml", 4, CLIP, rule="score")
    yield Part("`dml`, score, clip 0.02, liars: 4 of 10, what is lost", lost, BORNE)


def _h7(of: Cells) -> Iterator[Part]:
    pdmm, fedavg = taken(of, PDMM, 2), taken(of, "fedavg", 2)
    yield Part(f"`{PDMM}`, liars: 2 of 10, what is lost", pdmm, BORNE, below=False)
    yield Part("that minus what `fedavg` loses", pdmm - fedavg, -BORNE, below=False)


def _h8(of: Cells) -> Iterator[Part]:
    for arm, below in (("fedavg", False), ("dml", True)):
        with_, without = (of(arm, liars, metric="backdoor") for liars in (2, 0))
        yield Part(f"`{arm}`, trigger works, 2 liars of 10 minus none", with_ - without, TRIGGER, below)


def _h9(of: Cells) -> Iterator[Part]:
    for arm in ("fedmd", "fedmd+labels"):
        yield Part(f"`{arm}`, liars: 1, accuracy", of(arm, 1), COIN)


def _h10(of: Cells) -> Iterator[Part]:
    for arm in ("dsfl", "dsfl+labels"):
        yield Part(f"`{arm}`, liars: 1, what is lost", taken(of, arm, 1), BORNE)


def _h11(of: Cells) -> Iterator[Part]:
    yield Part("`def-kt`, liars: 1, what is lost", taken(of, "def-kt", 1), BORNE, below=False)


EXPECTED: Mapping[str, Mapping[str, Callable[[Cells], Iterator[Part]]]] = {
    "hostile-veto": {"H1": _h1, "H2": _h2, "H3": _h3, "H4": _h4},
    "hostile": {"H5": _h5, "H7": _h7},
    "hostile-training": {"H8": _h8},
    "hostile-relatives": {"H9": _h9, "H10": _h10, "H11": _h11},
}


def answer(parts: list[Part]) -> str:
    """Of all parts of an expectation."""
    sides = [(found.high < part.bound, found.low > part.bound) for part in parts for found in [part.found]]
    right = [side if part.below else side[::-1] for part, side in zip(parts, sides, strict=True)]
    if any(contrary for _, contrary in right):
        return FAILED
    return HELD if all(passed for passed, _ in right) else OPEN


def lines(studies: Mapping[str, tuple[pd.DataFrame | None, bool]]) -> Iterator[str]:
    """A table of the expectations, from each study's results and whether it is complete: until then all is open."""
    rows = []
    for study, (results, complete) in studies.items():
        for name, parts_of in EXPECTED[study].items() if results is not None else ():
            try:
                parts = list(parts_of(cells(results)))
            except KeyError:
                continue
            said = answer(parts) if complete else f"{OPEN}: interim"
            alone = (answer([part]) if complete else "" for part in parts)
            rows += [(name, f"**{said}**", *_row(*both)) for both in zip(parts, alone, strict=True)]
    yield from table(TITLES, rows) if rows else ()


def _row(part: Part, alone: str) -> tuple[str, str, str, str, int]:
    found, side = part.found, "below" if part.below else "above"
    expected = f"{side} {100 * part.bound:g}"
    return part.says, expected, estimate(found.mean, found.low, found.high, ".1f"), alone, found.n
