"""The defences of data/plan_defences.md in words: a page, and the lines of notebook 03."""

from collections.abc import Iterator
from math import isinf
from pathlib import Path

import pandas as pd

from dml.evidence import defence_predictions, defences
from dml.evidence.words import capital, estimate, joined, pages, table
from dml.studies.defences import plan
from dml.studies.study import STUDIES

NOTHING, FIGURE = "No two games are on record yet.", "03_defences"
BY_CONSTRUCTION = (
    "By construction a secure sum changes no number that is learned from, and exact losses tell a server that chooses "
    "what weights would. Of `every 2nd round` images of silent rounds are attacked; those of the others leak as DML's."
)


def text(folder: Path = STUDIES) -> str:
    """A page: leak and accuracy at every point, what each defence takes and costs, the controls, the predictions."""
    found = defences.recorded(folder)
    if found is None:
        return joined([NOTHING])
    rates, worth = found
    games = defences.by_game(rates, worth)
    rows = defences.points(games, worth)
    head = f"{capital(defences.state(rates))}; {defences.cost(folder)}."
    parts = (_points(rows, worth), _bargains(games), _controls(rates), defence_predictions.lines(games, rows))
    return joined([head, *(line for part in parts for line in ("", *part))])


def _points(rows: pd.DataFrame, worth: pd.DataFrame) -> Iterator[str]:
    yield (
        f"Photographs at 40 pixels; means over games, 95 % Student's t over games. Accuracy: the mean of "
        f"{worth['clients'].max()} clients on {worth['unseen'].max():,} unseen photographs after the whole protocol of "
        f"{plan().protocol.rounds} rounds. AUC: of the server that chooses the public images, and of the honest one. "
        "Guessing: AUC 0.5, 1 % of members at 1 % false positives. ε: DP-SGD's; of all else none is known."
    )
    yield ""
    titles = (
        *("point", "ε", "accuracy, %", "AUC, server chooses", "members found at 1 % false positives, %"),
        *("canaries, AUC", "AUC, honest server", "n"),
    )
    made = []
    for row in rows.to_dict("records"):
        chooses, honest, canaries = (
            _of(row, f"{name}", 1, ".3f") for name in ("chooses auc", "honest auc", "chooses canaries")
        )
        cells = (_of(row, "accuracy", 100, ".1f"), chooses, _of(row, "chooses tpr", 100, ".1f"), canaries, honest)
        made.append((row["point"], _epsilon(row["epsilon"]), *cells, row["n"]))
    yield from table(titles, made)


def _of(row: dict, name: str, scale: float, form: str) -> str:
    return estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], form, scale)


def _epsilon(value: float) -> str:
    return "none" if isinf(value) else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _bargains(games: pd.DataFrame) -> Iterator[str]:
    margin = plan().margin
    yield (
        f"Each defence minus its method without one, paired over games; p after Holm among DML's defences; margins "
        f"{margin:g} of AUC and {100 * margin:g} point. A bargain leaks less, and is as accurate or more. "
        f"{BY_CONSTRUCTION}"
    )
    yield ""
    rows = []
    for row in defences.bargains(games).to_dict("records"):
        leak, price = _of(row, "leak", 1, "+.3f"), _of(row, "price", 100, "+.2f")
        answers = (f"{row['leak_p']:.2g}", f"**{row['leak_answer']}**", price, f"**{row['price_answer']}**")
        rows.append((row["point"], leak, *answers, _word(row), row["n"]))
    titles = (
        "defence",
        "leak (AUC, server chooses)",
        "p",
        "leak is",
        "accuracy, points",
        "accuracy is",
        "bargain",
        "n",
    )
    yield from table(titles, rows)


def _word(row: dict) -> str:
    """Whether a defence is a bargain; one that is silent every second round can be for the images of those alone."""
    told = "for silent rounds" if row["point"] == "every 2nd round" else "yes"
    return told if row["bargain"] else "not shown"


def _controls(rates: pd.DataFrame) -> Iterator[str]:
    rows = defences.others(rates)
    off = rows[(rows["low"] > defences.GUESS) | (rows["high"] < defences.GUESS)]
    far = rows.loc[(rows["mean"] - defences.GUESS).abs().idxmax()]
    yield (
        f"Control: random halves of the pool in the place of the members, {len(rows)} attacks at all points. AUC "
        f"{rows['mean'].min():.3f} to {rows['mean'].max():.3f}; {len(off)} intervals leave 0.5 out (about "
        f"{0.05 * len(rows):.0f} would by chance); the furthest is {far['attack']} at {far['view']}."
    )


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 03: what each defence takes of the leak, and what it costs."""
    found = defences.recorded(folder)
    if found is None:
        return [f"Defences at equal strength: {NOTHING.lower()} {pages('defences')}"]
    rates, worth = found
    games = defences.by_game(rates, worth)
    minus = defences.bargains(games)
    told = [
        f"- {row['point']}: leak {_of(row, 'leak', 1, '+.3f')}, **{row['leak_answer']}**; accuracy "
        f"{_of(row, 'price', 100, '+.1f')} points, **{row['price_answer']}**"
        for row in minus.to_dict("records")
    ]
    good = ", ".join(minus.loc[minus["bargain"], "point"]) or "none is shown to be"
    head = (
        f"**Defences at equal strength** ({defences.state(rates)}; {defences.cost(folder)}). Membership AUC of the "
        "server that chooses, and accuracy on all unseen images, minus the same method without a defence, 95 % over "
        f"games. Which leak less and are as accurate within a point, or more: {good}. {BY_CONSTRUCTION}"
    )
    return [head, "\n".join(told), pages("defences")]
