"""Bounds on a gap by the information between a bit and a difference of losses, evaluated from the losses themselves.

With I the mutual information in nats of the bit (which column trained, which client took part) and the difference d,
which is -1, 0 or 1 because one net answers:

- "root":     sqrt(2 I)
- "variance": sqrt(2 (E[d^2] + |E[(-1)^bit d]|) I)
- "fast":     I + sqrt((I + 2 E[d^2]) I)
- "binary":   R - r, R the largest risk with kl(r || (r + R) / 2) <= I of both losses and the bit; r on trained images
- "zero":     I / ln 2 where r = 0, of both losses as well

The first three bound the size of a gap, the last two the gap.

These are the forms in the first author's code for learning in one place (hrayrhar's f-CMI is its ancestor). That the
federated paper plots exactly these is unverified; to pool all cells into one table is ours. So is the use of
"variance" and "fast" for the participation gap, in which T and V stand for D and U.

**An estimate above the measured gap is no finding.** The information is a plug-in estimate and the bit is balanced:
every form then is at least the gap measured on the same draws, whatever the arm did. What can be read is the ratio to
the gap, the excess over the *floor* (the same estimate after whole runs of bits were permuted, so that nothing is
left to be known), and the order of the arms.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import rel_entr

from dml.generalisation.gaps import Cells

FORMS = ("root", "variance", "fast", "binary", "zero")
PERMUTATIONS = 100
MEASURED = "measured"
ESTIMATES = ["way", "form", "value", "floor"]


def information(bits: np.ndarray, chances: Sequence[np.ndarray]) -> np.ndarray:
    """Plug-in mutual information in nats along the last axis, of bits and of an outcome whose `chances` are given for
    each of its values; no correction for bias.
    """
    total = np.zeros(bits.shape[:-1])
    for chance in chances:
        for side in (bits == 0, bits == 1):
            total += rel_entr((chance * side).mean(-1), chance.mean(-1) * side.mean(-1))
    return np.maximum(total, 0)


def evaluate(cells: Cells) -> dict[str, float]:
    """Each of `FORMS`, the mean over the cells of what is conditional on what is given; NaN for what does not apply."""
    zero, one = cells.zero, cells.one
    up, down, both = (1 - zero) * one, zero * (1 - one), zero * one
    known = information(cells.bits, (up, down, 1 - up - down)).mean(-1)
    square = (up + down).mean((-2, -1))
    gap = np.abs(((1 - 2 * cells.bits) * (one - zero)).mean((-2, -1)))
    found = {
        "root": np.sqrt(2 * known).mean(),
        "variance": np.sqrt(2 * (square + gap) * known).mean(),
        "fast": (known + np.sqrt((known + 2 * square) * known)).mean(),
    }
    if not np.isnan(cells.trained):
        of_pair = float(information(cells.bits, (up, down, both, 1 - up - down - both)).mean())
        found["binary"] = _largest_risk(cells.trained, of_pair) - cells.trained
        found["zero"] = of_pair / np.log(2) if cells.trained == 0 else np.nan
    return {form: float(found.get(form, np.nan)) for form in FORMS}


def estimates(cells: Cells, rng: np.random.Generator) -> pd.DataFrame:
    """The gap as measured and every form that applies, from all cells "pooled" and as a mean over cells ("cellwise"),
    each with its floor: columns `ESTIMATES`. The floor of the measured gap is that of its size.
    """
    chance = [cells.permuted(rng) for _ in range(PERMUTATIONS)]
    rows = [("pooled", MEASURED, cells.gap, np.mean([abs(one.gap) for one in chance]))]
    for way, of in (("pooled", Cells.pooled), ("cellwise", lambda one: one)):
        values, noise = evaluate(of(cells)), pd.DataFrame([evaluate(of(one)) for one in chance]).mean()
        rows += [(way, form, value, noise[form]) for form, value in values.items() if not np.isnan(value)]
    return pd.DataFrame(rows, columns=ESTIMATES)


def _largest_risk(error: float, known: float) -> float:
    """The largest R in [error, 1] with kl(error || (error + R) / 2) <= known."""

    def excess(risk: float) -> float:
        middle = (error + risk) / 2
        return float(rel_entr(error, middle) + rel_entr(1 - error, 1 - middle)) - known

    return 1.0 if excess(1.0) <= 0 else brentq(excess, error, 1.0)
