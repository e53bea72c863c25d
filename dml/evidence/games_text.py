"""The games of data/plan_privacy.md in words: a page, lines of notebook 03, and a finding."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dml.config import FIGURES
from dml.evidence import crafted, game_predictions, games
from dml.evidence.answers import HELD, OPEN, REFUTED, lists
from dml.evidence.answers import brief as brief_answer
from dml.evidence.words import capital, estimate, joined, pages, table
from dml.stats import interval
from dml.studies.privacy import plan
from dml.studies.study import STUDIES

READERS = ["server", "peer"]  # questions of the plan that the README tells
NOTHING, FIGURE = "No two games are on record yet.", "03_adversaries"
LOSSES, BITS, SUMS = "losses of chosen images", "1-bit labels of chosen images", "sums on chosen images"


def text(folder: Path = STUDIES) -> str:
    """A page: a row an adversary, the plan's questions, near copies one by one, and what a client's checks cost."""
    rates = games.recorded(folder)
    if rates is None:
        return joined([NOTHING])
    head = f"{capital(games.state(rates))}; {games.cost(folder)}."
    parts = (
        *(_adversaries(rates), _answers(rates, folder), _one_round(rates)),
        game_predictions.lines(rates),
        *(_copies(rates), _checks(folder), crafted.lines(folder)),
    )
    return joined([head, *(line for part in parts for line in ("", *part))])


def _adversaries(rates: pd.DataFrame) -> Iterator[str]:
    yield (
        "Photographs at 40 pixels, folds as large as published; means over games, 95 % Student's t over games. The "
        "attack is the one that most games chose, each on all other games. Guessing: AUC 0.5, 1 % of members at 1 % "
        "false positives."
    )
    yield ""
    titles = ("strength", "adversary", "attack", "AUC", "members found at 1 % false positives, %", "canaries, AUC", "n")
    yield from table(titles, (_line(row) for row in games.adversaries(rates).itertuples()))


def _line(row) -> tuple:
    found = estimate(row.tpr, row.tpr_low, row.tpr_high, ".1f")
    area = estimate(row.auc, row.auc_low, row.auc_high, ".3f", 1)
    canaries = estimate(row.canaries, row.canaries_low, row.canaries_high, ".3f", 1)
    return row.strength, row.who, row.attack, area, found, canaries, row.n


def _answers(rates: pd.DataFrame, folder: Path) -> Iterator[str]:
    asked = {question.name: question for questions in plan().families.values() for question in questions}
    yield f"Difference of AUC, paired over games; p after Holm within the family; margin {plan().margin:g}."
    yield ""
    rows = []
    for row in games.answers(rates).itertuples():
        low, high = games.resampled(rates, asked[row.name], folder)
        shown = estimate(row.mean, row.low, row.high, "+.3f", 1)
        beside = f"[{low:+.3f}, {high:+.3f}]"
        rows.append(
            (row.family, row.asks, asked[row.name].strength, shown, beside, f"{row.p:.2g}", f"**{row.answer}**")
        )
    titles = ("family", "question", "strength", "difference [95 %]", "victims drawn anew", "p", "answer")
    yield from table(titles, rows)


def _one_round(rates: pd.DataFrame) -> Iterator[str]:
    yield (
        "FedAvg's server and DML's that chooses ask the same model the same questions: their difference is zero by "
        "construction, and the last row repeats the first. A stronger adversary can score lower, as its attack is "
        "chosen on other games. What several rounds add to one comes mostly from near copies, asked of the first "
        "round's model. The same questions of **one round, black box**, are not in the plan's family (post hoc):"
    )
    yield ""
    rows = [(row.asks, _area(row), f"{row.p:.2g}", f"**{row.answer}**") for row in games.one_round(rates).itertuples()]
    yield from table(("question, one round", "difference [95 %]", "p", "answer"), rows)


def _copies(rates: pd.DataFrame) -> Iterator[str]:
    """One attack, LiRA offline, on the answers to each kind of near copy; and what a refusal of it says."""
    yield "The server that chooses, by what it sends: AUC of LiRA offline on the answers, and of a refusal said aloud."
    yield ""
    areas = rates[(rates["strength"] == games.CHOOSES) & (rates["metric"] == "auc")]
    asked = {"losses": (LOSSES, "LiRA offline"), "sums only": (SUMS, "LiRA offline")}
    asked["refused aloud"] = ("client refuses aloud", "refusal")
    refusals = areas.loc[areas["attack"].str.startswith("refusal, "), "attack"]
    rows = []
    for copy in refusals.str.removeprefix("refusal, ").unique():
        cells = []
        for view, attack in asked.values():
            values = areas.loc[(areas["view"] == view) & (areas["attack"] == f"{attack}, {copy}"), "value"]
            one = interval(values.to_numpy())
            cells.append(estimate(one.mean, one.low, one.high, ".3f", 1))
        rows.append((copy, *cells))
    yield from table(("near copy", *asked), rows)


def _checks(folder: Path) -> Iterator[str]:
    yield "What a client's checks find and cost, means over games: shares of images, of rounds, of accuracy."
    yield ""
    rows = (
        (row.check, estimate(row.mean, row.low, row.high, ".1f"), row.n) for row in games.checks(folder).itertuples()
    )
    yield from table(("check", "share, % [95 %]", "n"), rows)


def chooses(folder: Path = STUDIES) -> str:
    """What the server that chooses the public images learns, beside FedAvg's server and one that is honest; "" while no
    two games are on record.
    """
    rates = games.recorded(folder)
    if rates is None:
        return ""
    rows = games.adversaries(rates).set_index(["strength", "view"])
    answers = games.answers(rates).set_index("name")

    def area(strength: str, view: str) -> str:
        row = rows.loc[(strength, view)]
        return estimate(row["auc"], row["auc_low"], row["auc_high"], ".3f", 1)

    gap = answers.loc["losses"]
    word = {HELD: "less than", REFUTED: "no less than"}.get(gap["answer"], "perhaps as much as")
    return (
        "a server that puts copies of candidates among the public images learns from DML's losses "
        f"{word} FedAvg's server from the weights. Membership AUC: {area(games.CHOOSES, LOSSES)} against "
        f"{area(games.SEVERAL, 'weights')}; an honest server {area(games.SEVERAL, 'losses')}. With 1-bit labels "
        f"{area(games.CHOOSES, BITS)}, with sums only {area(games.CHOOSES, SUMS)} ("
        f"{games.state(rates)})."
    )


def brief(folder: Path = STUDIES) -> str:
    """The same in few words, for the README, after what a server and a peer read over several rounds."""
    rates = games.recorded(folder)
    if rates is None:
        return ""
    told = standing(rates).loc[READERS]
    places = (games.CHOOSES, LOSSES), (games.SEVERAL, "weights")
    losses, weights = (games.chosen(rates, *place)["auc"].mean() for place in places)
    numbers = ", ".join(f"{row.Index} {_area(row)}" for row in told.itertuples())
    state = ", interim" if games.interim(rates) else ""
    alike = f"both {losses:.3f}" if losses == weights else f"losses {losses:.3f}, weights {weights:.3f}"
    return f"Several rounds ({told['n'].max()} games{state}): {numbers}. Server-picked images: {alike}."


def standing(rates: pd.DataFrame) -> pd.DataFrame:
    """The plan's questions by name (see `games.answers`); an interim study decides none."""
    rows = games.answers(rates).set_index("name")
    return rows.assign(answer=OPEN) if games.interim(rates) else rows


VERDICTS = {  # the rows on C4 for the verdict table: their claims, and of each question its name and the word for it
    "Over several rounds, white box, as published (C4)": {"server": "server", "server, partial": "partial weights"}
    | {"peer": "peer"},
    "Over several rounds under an ideal secure sum (C4)": {"server, sum": "server", "peer, sum": "peer"},
    "Where the server picks the public images, as published (C4)": {"losses": "losses"},
    "The same with 1-bit labels, or sums (C4)": {"1 bit": "1-bit labels", "sums": "sums"},
}


def verdict_lines(folder: Path = STUDIES) -> list[tuple[str, ...]]:
    """Rows on C4 for the verdict table (see `verdict_table.full`): what the games say; none before two games."""
    rates, lines = games.recorded(folder), list[tuple[str, ...]]()
    if rates is None:
        return lines
    decided = standing(rates)
    for claim, asked in VERDICTS.items():
        rows = decided.loc[list(asked)].assign(word=list(asked.values()))
        numbers = "; ".join(f"{row.word} {_area(row)} {row.answer}{_why(row)}" for row in rows.itertuples())
        answer = brief_answer(lists(dict(zip(rows["word"], rows["answer"], strict=True))))
        said = "claimed" if claim == next(iter(VERDICTS)) else ""
        lines.append(
            (claim, said, "not run", f"own design, {games.state(rates)}, AUC: {numbers}", f"**{answer}**", "03")
        )
    return lines


def _why(row) -> str:
    """Of a difference that is zero in every game: why it is."""
    return " (by construction: the same questions to the same model)" if row.low == row.high == 0 else ""


def _area(row) -> str:
    return estimate(row.mean, row.low, row.high, "+.3f", 1)


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 03: the paper's privacy sentences against each adversary."""
    rates = games.recorded(folder)
    if rates is None:
        return [
            f"Games of several rounds, and the server that chooses: {NOTHING.lower()} {pages('privacy', 'adversaries')}"
        ]
    asked = games.answers(rates)
    told = [f"- {row.asks}: {_area(row)}, **{row.answer}**{_why(row)}" for row in asked.itertuples()]
    if list(asked[["mean", "low", "high"]].iloc[-1]) == list(-asked[["mean", "high", "low"]].iloc[0]):
        told[-1] += " (by construction the first row with its sign turned)"
    head = (
        f"**Several rounds, and the server that chooses** ({games.state(rates)}; difference of AUC, 95 % over games)."
    )
    found = chooses(folder)
    caption, shown = FIGURES / f"{FIGURE}.txt", []
    if caption.is_file():
        shown = [f"![what each adversary finds](../figures/{FIGURE}.png)", caption.read_text(encoding="utf-8").strip()]
    return [
        f"{head} {capital(found)}",
        "*Held*: the first of two is shown to read more. *Refuted*: less, or the same within 0.01. One round, above, "
        "is another design and goes by its interval alone.",
        "\n".join(told),
        *shown,
        crafted.on_record(folder),
        pages("privacy", "adversaries"),
    ]
