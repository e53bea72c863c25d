"""How a claim is answered: each of its comparisons is held, refuted or open, and the claim is these three lists."""

from collections.abc import Iterable, Mapping

from dml.stats import Estimate

HELD, REFUTED, OPEN = "held", "refuted", "open"
FAILED = "failed"  # of a prediction, which is no claim
STATUSES = (HELD, REFUTED, OPEN)


def lists(asked: Mapping[str, str]) -> dict[str, str]:
    """The names of the comparisons by status, in words: keys `STATUSES`, "" where there is none."""
    return {status: ", ".join(name for name, answer in asked.items() if answer == status) for status in STATUSES}


def told(answered: Mapping[str, str]) -> str:
    """The lists that are not empty, one after the other."""
    return "; ".join(f"**{status}**: {answered[status]}" for status in STATUSES if answered[status])


def brief(answered: Mapping[str, str]) -> str:
    """One answer where all comparisons have it; else what is held in part, and what is refuted."""
    there = [status for status in STATUSES if answered[status]]
    return there[0] if len(there) == 1 else f"{' and '.join(each for each in there if each != OPEN)} in part"


def within(one: Estimate, low: float, high: float) -> str:
    """Of a prediction that a value lies between these bounds: held where its whole interval does, failed where that
    lies outside.
    """
    outside = one.high < low or one.low > high
    return HELD if low < one.low and one.high < high else FAILED if outside else OPEN


def together(parts: Iterable[str]) -> str:
    """A prediction of several parts holds when all of them do, and fails when one does."""
    found = set(parts)
    return FAILED if FAILED in found else OPEN if OPEN in found else HELD
