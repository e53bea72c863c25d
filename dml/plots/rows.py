"""Charts of named rows: the seeds as dots, mean and interval above them, and how many dots lie beyond the axis."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dml.plots.looks import dot, ink, name
from dml.plots.style import SMALLEST, spread

REACH = 3  # interquartile ranges beyond the quartiles: a dot further out does not stretch the axis
COUNTED = 2.5  # times the margin, where dots beyond it are counted at the edge
CLOSE = 0.006  # of the axis: dots that are as good as equal


def names(axes: Axes, arms: Sequence[str], titles: Sequence[str] = (), places: Sequence[float] = ()) -> None:
    """One row an arm, the first on top, by its name or else by its title; one under the other, or at `places`."""
    axes.set_yticks(places or range(len(arms)), titles or [name(arm) for arm in arms])
    axes.set_ylim(places[-1] + 0.65 if places else len(arms) - 0.35, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def seeds(axes: Axes, place: float, values: np.ndarray, arm: str) -> None:
    """One small dot a seed, just under the row's mean; those that would hide one another, one under the other."""
    left, right = axes.get_xlim()
    colour, rounded = dot(arm)["color"], pd.Series(np.round(values / (right - left) / CLOSE))
    under = rounded.groupby(rounded).cumcount().to_numpy()
    step = min(0.1, 0.3 / max(1, under.max()))
    axes.scatter(values, place + 0.24 + step * under, s=5, color=colour, alpha=0.6, linewidth=0)


def mean(axes: Axes, place: float, of: tuple[float, float, float], arm: str, **more: Any) -> None:
    """A mean with its interval (mean, low, high), in the arm's look."""
    keys = {**dot(arm), "capsize": 1.8, "elinewidth": 0.9, "capthick": 0.7, "markersize": 4, **more}
    axes.errorbar(of[0], place, xerr=spread(*of), **keys)


def reach(values: Sequence[np.ndarray], ends: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis that hold every interval (`ends`) and all values but far outliers."""
    inside = [float(end) for end in ends if not np.isnan(end)]
    for some in values:
        first, third = np.quantile(some, (0.25, 0.75))
        far = REACH * (third - first) + 1e-9
        inside += [float(value) for value in some if first - far <= value <= third + far]
    low, high = min(inside), max(inside)
    margin = 0.04 * (high - low) or 0.01
    everything = np.concatenate(list(values))
    below, above = (COUNTED if cut else 1 for cut in (everything.min() < low, everything.max() > high))
    return low - below * margin, high + above * margin


def beyond(axes: Axes, place: float, values: np.ndarray, arm: str) -> int:
    """Say at the axes' edges how many dots of a row lie beyond them. Returns how many."""
    left, right = axes.get_xlim()
    below, above = int((values < left).sum()), int((values > right).sum())
    keys: dict[str, Any] = {"fontsize": SMALLEST, "va": "center", "color": ink(arm)}
    if below:
        axes.text(0.005, place + 0.24, f"◂{below}", ha="left", transform=axes.get_yaxis_transform(), **keys)
    if above:
        axes.text(0.995, place + 0.24, f"{above}▸", ha="right", transform=axes.get_yaxis_transform(), **keys)
    return below + above


def beyond_text(count: int) -> str:
    """For a caption: what the edge counts mean; nothing where all dots are inside."""
    return f"{count} dot{'s' if count > 1 else ''} beyond the axis, counted at its edge (◂, ▸)." if count else ""
