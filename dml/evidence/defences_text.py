"""The defences of data/plan_defences.md in words: a page, and the lines of notebook 03."""

from collections.abc import Iterator
from math import isinf
from pathlib import Path

import pandas as pd

from dml.evidence import defences
from dml.evidence.words import capital, estimate, joined, table
from dml.studies.defences import plan
from dml.studies.study import STUDIES

NOTHING, FIGURE = "No two games are on record yet.", "03_defences"
PREDICTED = "P1 to P7 of the plan, by the means so far"


def text(folder: Path = STUDIES) -> str:
    """A page: leak and accuracy at every point, what each defence takes and costs, the controls, the predictions."""
    found = defences.recorded(folder)
    if found is None:
        return joined([NOTHING])
    rates, worth = found
    games = defences.by_game(rates, worth)
    rows = defences.points(games, worth)
    head = f"{capital(defences.state(rates))}; {defences.cost(folder)}."
    parts = (_points(rows, worth), _bargains(games), _controls(rates), _predictions(rows, games))
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
        f"{margin:g} of AUC and {100 * margin:g} point. A bargain leaks less, and is as accurate or more."
    )
    yield ""
    rows = []
    for row in defences.bargains(games).to_dict("records"):
        leak, price = _of(row, "leak", 1, "+.3f"), _of(row, "price", 100, "+.2f")
        answers = (f"{row['leak_p']:.2g}", f"**{row['leak_answer']}**", price, f"**{row['price_answer']}**")
        rows.append((row["point"], leak, *answers, "yes" if row["bargain"] else "not shown", row["n"]))
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


def _controls(rates: pd.DataFrame) -> Iterator[str]:
    rows = defences.others(rates)
    off = rows[(rows["low"] > defences.GUESS) | (rows["high"] < defences.GUESS)]
    far = rows.loc[(rows["mean"] - defences.GUESS).abs().idxmax()]
    yield (
        f"Control: random halves of the pool in the place of the members, {len(rows)} attacks at all points. AUC "
        f"{rows['mean'].min():.3f} to {rows['mean'].max():.3f}; {len(off)} intervals leave 0.5 out (about "
        f"{0.05 * len(rows):.0f} would by chance); the furthest is {far['attack']} at {far['view']}."
    )


def _predictions(rows: pd.DataFrame, games: pd.DataFrame) -> Iterator[str]:
    """The plan's predictions against the means; whether a difference is more than chance, the table above says."""
    by_point, minus = rows.set_index("point"), defences.bargains(games).set_index("point")

    def share(point: str) -> str:
        return f"{100 * defences.taken(rows, point):.0f} %"

    noisy, private = dict(by_point.loc["noise 4"]), by_point.loc["DP-SGD 1", "chooses auc"]
    spoilt, kept = (f"{100 * minus.loc[point, 'price']:+.1f}" for point in ("FedAvg, DP-SGD 1", "DP-SGD 1"))
    price = f"{100 * minus.loc['hard labels', 'price']:+.2f} points"
    silent, told = (by_point.loc[point, "chooses auc"] for point in ("every 2nd round", "DML"))
    yield f"{PREDICTED}. The share of the leak is of AUC above 0.5, the server that chooses:"
    yield ""
    yield f"- P1 (one bit takes at least half, for less than a point): takes {share('hard labels')}, {price}."
    yield f"- P2 (4 bits take less than a quarter): {share('4 bits')}."
    yield (
        f"- P3 (noise 4: honest server at chance, the one that chooses above): {_of(noisy, 'honest auc', 1, '.3f')} "
        f"and {_of(noisy, 'chooses auc', 1, '.3f')}."
    )
    yield f"- P4 (a secure sum takes at least half): {share('ideal secure sum')}."
    yield f"- P5 (DP-SGD 0.3 takes as much as one bit): {share('DP-SGD 0.3')}."
    yield (
        f"- P6 (DP-SGD 1 within 0.03 of chance, cheaper for DML than for FedAvg): AUC {private:.3f}; {kept} points for "
        f"DML, {spoilt} for FedAvg."
    )
    yield f"- P7 (images of a silent round leak less): AUC {silent:.3f} against {told:.3f}."


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 03: what each defence takes of the leak, and what it costs."""
    found = defences.recorded(folder)
    pages = "The plan: `data/plan_defences.md`; all points: `figures/defences.md`."
    if found is None:
        return [f"Defences at equal strength: {NOTHING.lower()} {pages}"]
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
        f"games. Which leak less and cost no accuracy: {good}."
    )
    return [head, "\n".join(told), pages]
