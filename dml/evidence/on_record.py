"""What the recorded runs answer to each notebook's question: sentences made of their tables, and a committed picture.

The blocks stand in the notebooks' own text, so that a page on the web shows a finding although outputs are stripped.
`make figures` writes them again; nothing in them is typed.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dml.config import FIGURES, RECORDED, ROOT
from dml.evidence import crowd_text, defences_text, games_text, generalisation, hostile, skew_text, style, verdicts
from dml.evidence import reconstruction as pictures
from dml.evidence import transmission as sizes
from dml.evidence import tuned as schedules
from dml.evidence.about import About, read
from dml.evidence.accuracy import over_fedavg
from dml.evidence.answers import STATUSES, brief
from dml.evidence.findings import confirmed, decided
from dml.evidence.privacy import ALIKE, QUESTIONS, c4
from dml.evidence.words import estimate, points, side, table
from dml.files import DataError, write_text
from dml.stats import Estimate

NOTEBOOKS = ROOT / "notebooks"
START, END = "<!-- on record -->", "<!-- end -->"
BLOCK = re.compile(f"(?<={START}).*?(?={END})", re.DOTALL)
ORDER = ("held", "held in part", "held and refuted in part", "refuted", "refuted in part", "open")  # of answers


@dataclass(frozen=True)
class Recorded:
    """A recorded run, and what its protocol is called."""

    folder: Path
    protocol: str

    @property
    def about(self) -> About:
        return About.read(self.folder)

    @property
    def name(self) -> str:
        """Protocol and data set, for the head of a sentence."""
        return f"{self.protocol.capitalize()} protocol, {self.about.title.rpartition(', ')[0]}"

    @property
    def studies(self) -> Path:
        """The folder of the plans' studies."""
        return self.folder.parent / "studies"

    def read(self, name: str) -> pd.DataFrame:
        return read(self.folder, name)


class Finding(NamedTuple):
    """What stands under a notebook's question: `tell` makes the paragraphs, of the published protocol's run and of the
    reduced one; `picture` is a file of figures/, `shows` says what is on it.
    """

    tell: Callable[[Recorded, Recorded], list[str]]
    picture: str
    shows: str


def excluded(value: float, one: Estimate) -> str:
    """Whether an interval leaves a value out."""
    return "not excluded" if one.low <= value <= one.high else "excluded"


def one_round(published: Recorded, reduced: Recorded) -> list[str]:
    """Notebook 00: the size of what one client says and hears."""
    rungs, rounds = published.read("bandwidth_ladder").set_index("arm"), published.about.experiment.rounds
    dml, fedavg = rungs.loc["dml"], rungs.loc["fedavg"]
    return [
        f"**{published.name}, n = {dml['n']} seeds.** In a round (mean of {rounds}) a client of DML sends "
        f"{dml['up']:,.0f} bytes, {dml['payload_up']:,.0f} of them losses, and gets {dml['down']:,.0f} from our "
        f"one-sum server. A client of FedAvg sends {fedavg['up']:,.0f} bytes and gets {fedavg['down']:,.0f}.",
        "One round of one seed says nothing of accuracy, so nothing of accuracy is on record here.",
    ]


def accuracy(published: Recorded, reduced: Recorded) -> list[str]:
    """Notebook 02: DML minus FedAvg, one paragraph a run, since no claim is about both."""
    paragraphs, newer = [], confirmed(published.studies.parent)
    for run in (published, reduced):
        results, reports = run.read("results"), run.about.reported
        found = over_fedavg(results)
        paragraphs.append(
            f"**{run.name}, n = {found.n} exploratory seeds.** DML minus FedAvg in unseen accuracy at the last "
            f"round, in points: {points(found)} (95 %), {side(found.low, found.high)}."
        )
        if len(reports):
            means = reports.groupby("arm")["accuracy"].mean()
            theirs, one_term = means["dml"] - means["fedavg"], over_fedavg(results, "dml-one-term")
            first, second = excluded(theirs, found), excluded(theirs, one_term)
            paragraphs[-1] += (
                f" As a mean, the published difference of {100 * theirs:+.2f} (one run) is {first}; for the author's "
                f"one-term form, {points(one_term)} (95 %), {'likewise' if first == second else f'it is {second}'}."
            )
        if run.protocol in newer:
            paragraphs.append(decided(newer[run.protocol]))
            if run.protocol == "published":  # of which arms are tuned
                paragraphs += schedules.on_record(run.studies / "tuned", newer[run.protocol].results)
    return paragraphs


def privacy(published: Recorded, reduced: Recorded) -> list[str]:
    """Notebook 03: server against server and peer against peer, in one round; then the studies of stronger attacks."""
    rows = c4(published.read("privacy_differences")).set_index("question")
    more = {"above zero": "more", "below zero": "less", "on both sides of zero": "neither surely more nor less"}
    numbers = rows.apply(lambda row: estimate(row["mean"], row["low"], row["high"], "+.3f", 1), axis=1)
    words = rows.apply(lambda row: more[side(row["low"], row["high"])], axis=1)
    server, _, peer, *_ = QUESTIONS.values()
    rates = published.read("privacy_rates")
    kinds = {"attack": "FedMIA", "against": "members", "metric": "auc", "dial": "as trained"}
    areas = rates[(rates[[*kinds]] == pd.Series(kinds)).all(axis=1)].set_index("view")[["value", "n"]]
    return [
        f"**{published.name}, one round, black box, n = {rows.loc[server, 'n']} targets.** Differences in membership "
        f"AUC, with 95 % intervals as if the {ALIKE} targets of a group were one: a *server* that reads FedAvg's "
        f"weights learns {words[server]} than one that reads DML's losses, {numbers[server]}. A *peer* of FedAvg, who "
        f"gets the average, learns {words[peer]} than a peer of DML as published, who gets everybody's losses, "
        f"{numbers[peer]}. Over three rounds the recorded attack without shadows (FedMIA, n = {areas['n'].max():.0f} "
        f"clients) finds an AUC of {areas.value.weights:.3f} in the weights and {areas.value.losses:.3f} in losses.",
        *games_text.on_record(published.studies),
        *defences_text.on_record(published.studies),
        *pictures.on_record(published.studies),
    ]


def transmission(published: Recorded, reduced: Recorded) -> list[str]:
    """Notebook 04: the bytes of one client with our server, and those of a literal reading of the paper."""
    ladder, clients = published.read("bandwidth_ladder"), published.about.experiment.clients
    table = sizes.ratios(ladder, published.read("bandwidth_codings"), clients)
    rows = table[table["against"] == "fedavg"].set_index(["system", "what"])
    ours, whole, coded = (rows.loc[(sizes.OURS, what)] for what in (sizes.ROUND, sizes.RUN, sizes.CODED))
    copied, n = rows.loc[(sizes.PUBLISHED, sizes.ROUND)], ladder["n"].max()
    return [
        f"**{published.name}, n = {n} seeds.** With our one-sum server a client of DML sends and gets "
        f"{ours['dml']:,.0f} bytes in a round, one of FedAvg {ours['other']:,.0f}: {ours['ratio']:,.0f} times as many. "
        f"Over the run with its set-up (the model, and public images as raw pixels) it is {whole['dml'] / 1e6:.1f} MB "
        f"against {whole['other'] / 1e6:.1f} MB: {whole['ratio']:.2f} times. With images as files and weights "
        f"compressed without loss: {coded['dml'] / 1e6:.1f} MB, {coded['other'] / 1e6:.1f} MB, {coded['ratio']:.2f}.",
        f"Literally as published, with the losses of {clients - 1} peers forwarded to each of {clients} clients, a "
        f"round of DML is {copied['dml']:,.0f} bytes (calculated from the same messages): FedAvg's is "
        f"{copied['ratio']:,.0f} times as many.",
    ]


def verdict(published: Recorded, reduced: Recorded) -> list[str]:
    """Notebook 09: how many answers are held, refuted and open, and which."""
    tables, paragraphs, decisive = [], [], confirmed(published.studies.parent)
    for run in (published, reduced):
        rows = verdicts.verdicts(run.folder, run.about)
        fresh = decisive.get(run.protocol)
        newer = {row["claim"]: row for row in verdicts.accuracy_rows(fresh.claims)} if fresh else {}
        records = [row | newer.get(row["claim"], {}) for row in rows.to_dict("records")]
        answers = [brief({status: row[status] for status in STATUSES}) for row in records]
        tables.append(rows.assign(run=run.protocol, answer=answers))
        counts = tables[-1]["answer"].value_counts()
        told = ", ".join(f"{counts[answer]} {answer}" for answer in ORDER if answer in counts)
        seeds = (fresh.results if fresh else run.read("results"))["seed"].nunique()
        kind = f"confirmatory seeds of {fresh.title.rpartition(', ')[0]}" if fresh else "exploratory seeds"
        asked = f"{run.name}; C1 and C2 by n = {seeds} {kind}, the rest exploratory"
        paragraphs.append(f"**{asked}.** Of {len(rows)} answers: {told}.")
    wide = pd.concat(tables).pivot(index=["claim", "system", "says"], columns="run", values="answer")
    head = ("claim", "DML", "in words", *(f"{protocol} protocol" for protocol in wide))
    rows = wide.fillna("not asked").reset_index().itertuples(index=False)
    return [*paragraphs, "\n".join(table(head, rows))]


FINDINGS = {  # by the stem of the notebook
    "00_quickstart": Finding(
        one_round, "paper-facemask/04_overview", "who sends what to whom, as areas, and who can read what"
    ),
    "01_data_split": Finding(
        lambda published, _: style.told(published.name, published.read("images")),
        "paper-facemask/01_style_confound",
        "sharpness of the pictures by class and set",
    ),
    "02_dml_vs_fedavg": Finding(
        accuracy, "paper-facemask/02_learning", "learning curves of every arm, each with its band"
    ),
    "03_privacy_probes": Finding(
        privacy, "paper-facemask/03_membership", "membership found by each observer of FedAvg, partial weights and DML"
    ),
    "04_bandwidth": Finding(
        transmission, "04_bytes", "how many times DML's bytes the others' are, the more is counted"
    ),
    "05_skew_and_models": Finding(
        lambda published, _: skew_text.on_record(published.studies), "05_map", "where mutual learning helps, as a map"
    ),
    "06_hostile_clients": Finding(
        lambda published, _: hostile.on_record(published.studies), "06_hostile_veto", "accuracy by number of liars"
    ),
    "07_many_clients": Finding(
        lambda published, _: crowd_text.on_record(published.studies), "07_accuracy", "accuracy by number of clients"
    ),
    "08_generalisation": Finding(
        lambda published, _: generalisation.on_record(published.studies), "08_gaps", "two gaps of every arm, and bounds"
    ),
    "09_claims": Finding(
        verdict, "09_story", "what public labels, own predictions and peers add, and DML minus FedAvg by seed"
    ),
}


def block(notebook: str, results: Path = RECORDED) -> str:
    """The text under a notebook's question, in Markdown. Raises DataError when a number in it is missing."""
    finding = FINDINGS[notebook]
    runs = Recorded(results / "paper-facemask", "published"), Recorded(results / "reduced-facemask", "reduced")
    caption, shown = FIGURES / f"{finding.picture}.txt", []
    if caption.is_file():  # a study's figure is there when the study is
        shown = [f"![{finding.shows}](../figures/{finding.picture}.png)", caption.read_text(encoding="utf-8").strip()]
    text = "\n\n".join([*finding.tell(*runs), *shown])
    if re.search(r"\bnan\b", text):
        raise DataError(f"{notebook}: the recorded tables lack a number: {text}")
    return text


def blocks(results: Path = RECORDED) -> dict[str, str]:
    """The text of every notebook, by its stem."""
    return {notebook: block(notebook, results) for notebook in FINDINGS}


def refreshed(notebook: Path, results: Path = RECORDED) -> str:
    """A notebook's file with its block made again, all else as it was. Raises DataError when it has no place for it."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    texts = [cell for cell in content["cells"] if cell["cell_type"] == "markdown"]
    cells = [cell for cell in texts if BLOCK.search("".join(cell["source"]))]
    if len(cells) != 1:
        raise DataError(f"{notebook.name} has {len(cells)} cells with {START} and {END}; it needs one")
    text = f"\n\n{block(notebook.stem, results)}\n\n"
    cells[0]["source"] = BLOCK.sub(lambda _: text, "".join(cells[0]["source"])).splitlines(keepends=True)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def refresh(folder: Path = NOTEBOOKS, results: Path = RECORDED) -> None:
    """Write the blocks into the notebooks again, where they changed."""
    for notebook in FINDINGS:
        file = folder / f"{notebook}.ipynb"
        if (text := refreshed(file, results)) != file.read_text(encoding="utf-8"):
            write_text(file, text)
