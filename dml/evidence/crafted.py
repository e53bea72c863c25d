"""The games of data/plan_crafted.md in words: a part of the page on adversaries, and lines of notebook 03."""

from collections.abc import Iterator
from math import inf
from pathlib import Path

import pandas as pd

from dml.evidence import games
from dml.evidence.answers import FAILED, HELD, OPEN, within
from dml.evidence.words import capital, estimate, table
from dml.files import read_table
from dml.stats import Estimate, interval
from dml.studies.crafted import NAME, plan
from dml.studies.study import STUDIES

NOTHING = "The server that also crafts its answer: no two games are on record yet."
ONE_LOOK, TABLES, IMAGES = "one look", ("honest", "wrong", "wrong, clipped", "flat"), ("fresh", "kept")
SEEN = 0.1  # of accuracy: what the plan says is noticed
PREDICTIONS = {
    "P1": "fresh images: no crafted table is shown to tell more than the honest one",
    "P2": "kept images: a wrong table tells more than the honest one",
    "P3": "kept images: the clip does not take that away",
    "P4": "kept images, honest table: a second look tells more than one",
    "P5": "fresh images, honest table: a second look is not shown to tell more",
    "P6": "the wrong table costs the victim more than ten points, fresh images",
}


def judged(rates: pd.DataFrame, folder: Path = STUDIES) -> dict[str, tuple[str, str]]:
    """What was found of each prediction, in words, and whether it held; all open while a game is missing."""
    rows = games.answers(rates, plan()).set_index("name")
    shown = rows.apply(lambda row: _area(row, "+.3f"), axis=1)

    def one(question: str, held: bool) -> tuple[str, str]:
        answer = rows.loc[question, "answer"]
        right = (answer == HELD) == held
        return shown[question], HELD if right else OPEN if answer == OPEN else FAILED

    crafted = [f"{name}, fresh" for name in ("wrong", "clipped", "flat")]
    more = [name for name in crafted if rows.loc[name, "answer"] == HELD]
    wide = read_table(folder / NAME / "checks.csv").pivot(index="game", columns="check", values="value")
    honest, wrong = (wide[f"accuracy/{name}, fresh images"].to_numpy(float) for name in ("honest", "wrong"))
    lost = interval(honest - wrong)
    found = {
        "P1": ("; ".join(shown[crafted]), FAILED if more else HELD),
        "P2": one("wrong, kept", held=True),
        "P3": one("clipped, kept", held=True),
        "P4": one("twice, kept", held=True),
        "P5": one("twice, fresh", held=False),
        "P6": (_estimate(lost, "+.3f"), within(lost, SEEN, inf)),
    }
    return {name: (told, OPEN) for name, (told, _) in found.items()} if games.interim(rates) else found


def _area(row, form: str = ".3f") -> str:
    return estimate(row["mean"], row["low"], row["high"], form, 1)


def _estimate(one: Estimate, form: str = ".3f") -> str:
    return estimate(one.mean, one.low, one.high, form, 1)


def lines(folder: Path = STUDIES) -> Iterator[str]:
    """What a crafted table adds, what a client could notice of it, and the plan's predictions."""
    rates = games.recorded(folder, NAME)
    if rates is None:
        yield NOTHING
        return
    yield (
        "**The server that also crafts its answer**, on the same games (`data/plan_crafted.md`): the candidates are "
        "the public images, the server answers with a table of its own, and asks again after the next private "
        "training, on fresh images (as published) or on the client's own once more. Exact images alone, no near copies "
        f"as above. {capital(games.state(rates))}; "
        f"{games.cost(folder, NAME)}. AUC, and what the client could notice: its accuracy on unseen images after that "
        "training, and the mean loss of the table on the labels it knows."
    )
    yield ""
    seen = games.checks(folder, NAME).set_index("check")
    rows = [["none yet: one look", _estimate(_found(rates, ONE_LOOK)), "", "", "", _area(seen.loc["loss/own"], ".2f")]]
    for name in TABLES:
        cells = []
        for kind in IMAGES:
            view = f"{name}, {kind} images"
            cells += [_estimate(_found(rates, view)), _percent(seen.loc[f"accuracy/{view}"])]
        rows.append([name, *cells, _area(seen.loc[f"loss/{name}"], ".2f")])
    titles = ("table", "AUC, fresh images", "accuracy, %", "AUC, kept images", "accuracy, %", "loss of the table, nats")
    yield from table(titles, rows)
    yield ""
    yield f"Differences of AUC, paired over games, n = {rates['game'].nunique()}; p after Holm within the family."
    yield ""
    answers = games.answers(rates, plan()).to_dict("records")
    yield from table(
        ("question", "difference [95 %]", "p", "answer"),
        [(row["asks"], _area(row, "+.3f"), f"{row['p']:.2g}", f"**{row['answer']}**") for row in answers],
    )
    yield ""
    yield "Its predictions, from before the first game:"
    yield ""
    told = judged(rates, folder).items()
    yield from table(
        ("", "prediction", "found", "answer"),
        [(name, PREDICTIONS[name], found, f"**{answer}**") for name, (found, answer) in told],
    )


def _found(rates: pd.DataFrame, view: str) -> Estimate:
    """The AUC of a view over games."""
    return interval(games.chosen(rates, games.CRAFTS, view)["auc"].to_numpy(float))


def _percent(row) -> str:
    return estimate(row["mean"], row["low"], row["high"], ".1f")


def on_record(folder: Path = STUDIES) -> str:
    """Notebook 03: what a crafted table adds, in a paragraph."""
    rates = games.recorded(folder, NAME)
    if rates is None:
        return NOTHING
    rows = games.answers(rates, plan()).set_index("name")
    state = games.state(rates)

    def area(view: str) -> str:
        return _estimate(_found(rates, view))

    def adds(kind: str) -> str:
        row = rows.loc[f"wrong, {kind}"]
        return f"{area(f'wrong, {kind} images')} against {area(f'honest, {kind} images')}, **{row['answer']}**"

    twice = rows.loc["twice, kept"]
    return (
        f"**The server that also crafts its answer** ({state}; [plan](../data/plan_crafted.md); exact images alone, no "
        "near copies). It reads the losses of candidates, answers with certainty of a wrong class, and asks again "
        "after the next private training. Does it read more then than after an honest answer? AUC on fresh images, as "
        f"published, {adds('fresh')}. Where clients train on their own images again, {adds('kept')}. A second look "
        f"there, after an honest answer, adds to the first ({area(ONE_LOOK)}) {_area(twice, '+.3f')}, "
        f"**{twice['answer']}**."
    )
