"""Numbers with their intervals, and tables, in words: the one place that says how they look."""

from collections.abc import Iterable, Sequence

import numpy as np


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table in Markdown."""
    head = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return [*head, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def joined(lines: Iterable[str]) -> str:
    """Lines as the text of a file."""
    return "\n".join(lines) + "\n"


def pages(plan: str, page: str = "") -> str:
    """Where the reader of a notebook finds the plan of a study and all its tables: links from notebooks/."""
    return f"[The plan and its expectations](../data/plan_{plan}.md); [all tables](../figures/{page or plan}.md)."


def capital(words: str) -> str:
    """Words as the beginning of a sentence."""
    return words[:1].upper() + words[1:]


def between(counts: Iterable[int]) -> str:
    """The smallest and the largest of some counts, or the one that all are: "2 to 8"."""
    ends = sorted(set(counts))
    return f"{ends[0]}" if len(ends) == 1 else f"{ends[0]} to {ends[-1]}"


def progress(n: int, planned: int, what: str) -> str:
    """How many games or victims of a plan are on record: only all of them decide."""
    return f"all {n} {what}" if n == planned else f"interim, decides nothing: {n} of {planned} {what}"


def span(low: float, high: float, form: str = "+.2f", scale: float = 100) -> str:
    """An interval in brackets, "" where there is none; of shares in per cent or points, unless `scale` is given."""
    return "" if np.isnan(low) else f"[{scale * low:{form}}, {scale * high:{form}}]"


def estimate(mean: float, low: float, high: float, form: str = "+.2f", scale: float = 100) -> str:
    """A mean and its interval, in the same units."""
    return f"{scale * mean:{form}} {span(low, high, form, scale)}".rstrip()


def points(one, form: str = "+.2f") -> str:
    """A mean of shares with its interval, in percentage points: of whatever has a mean, low and high."""
    return estimate(one.mean, one.low, one.high, form)


def counted(one, form: str = "+.2f") -> str:
    """The same with its n; of a single value no interval."""
    return f"{points(one, form)} (n = {one.n})"


def side(low: float, high: float) -> str:
    """Where an interval lies."""
    return "above zero" if low > 0 else "below zero" if high < 0 else "on both sides of zero"
