"""What the README says was found: sentences chosen by the answer to each comparison, numbers from the recorded tables.

No number and no outcome is typed here: another table gives another sentence, and a test tries it.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dml.config import RECORDED
from dml.evidence import (
    beside,
    confirmatory,
    crowd_text,
    games,
    games_text,
    hostile,
    skew_text,
    tuned,
)
from dml.evidence.about import RUNS, About, read
from dml.evidence.accuracy import claims, last_gaps, over_fedavg
from dml.evidence.answers import HELD, OPEN, REFUTED
from dml.evidence.privacy import c4
from dml.evidence.published import prediction
from dml.evidence.transmission import CODED, OURS, ROUND, RUN, ratios
from dml.evidence.words import capital, estimate, joined, points, side
from dml.stats import interval
from dml.studies.plan import plan

TOP = "fedavg, top 1 %"
ONE_SEED = {  # excluded by (the paper's equation, its code)
    (True, True): "and as one seed",
    (True, False): "as one seed by the paper's equation alone",
    (False, True): "as one seed by its code alone",
    (False, False): "not as one seed",
}
SHORT = {HELD: "Yes", REFUTED: "No", OPEN: "Open"}  # a comparison's answer


class Deciding(NamedTuple):
    """The seeds that speak on accuracy in a protocol: the study's, once all of them are on record; until then those of
    the recorded run, which are exploratory.
    """

    protocol: str
    kind: str  # "confirmatory" or "exploratory"
    title: str
    results: pd.DataFrame
    claims: pd.DataFrame
    missing: str  # what of the study is not on record yet

    @property
    def looked_at(self) -> str:
        """The data, and how many unseen images are looked at."""
        return self.title.rpartition(", ")[0]


def deciding(record: Path = RECORDED) -> list[Deciding]:
    """Of the published protocol and of the reduced one."""
    found = []
    for protocol, name in RUNS.items():
        study, about = plan().studies[protocol], About.read(record / name)
        fresh = confirmatory.decisive(study, record / "studies" / protocol)
        done, planned = fresh["seed"].nunique(), len(study.confirmatory)
        if done == planned:
            looked_at = f"{study.unseen_images:,}" if study.unseen_images else "all"
            title = f"{study.data} ({looked_at} unseen), {study.profile}"
            kind, results, missing = "confirmatory", fresh, ""
        else:
            kind, title, results = "exploratory", about.title, read(record / name, "results")
            missing = f"{done} of {planned}"
        found.append(Deciding(protocol, kind, title, results, claims(results, about.reported), missing))
    return found


def confirmed(record: Path = RECORDED) -> dict[str, Deciding]:
    """By protocol, the seeds that decide, where all of them are on record."""
    return {one.protocol: one for one in deciding(record) if not one.missing}


def decided(one: Deciding) -> str:
    """What confirmatory seeds say, as a paragraph: against FedAvg, also at the last round, matched arms, and `self`."""
    fedavg, alone = _asked(one, "C1", "fedavg"), _asked(one, "mechanism", "self")
    matched = (_asked(one, "mechanism", arm) for arm in ("local+public", "fedavg+public"))
    told = "; ".join(f"`{row.against}` {points(row)}, {side(row.low, row.high)}" for row in matched)
    return (
        f"**The {fedavg.n} confirmatory seeds of the {one.protocol} protocol decide** ({one.looked_at}). Mean of the "
        f"last {plan().late_rounds} rounds, in points: DML minus FedAvg {points(fedavg)} (95 %), "
        f"{side(fedavg.low, fedavg.high)}; at the last round alone, the published way, "
        f"{points(over_fedavg(one.results))}. Minus arms with as many labels and steps: {told}. DML minus being its "
        f"own peer {points(alone)}, {side(alone.low, alone.high)}. "
        "[Exploratory seeds beside them](../figures/studies.md)."
    )


def findings(record: Path = RECORDED) -> str:
    """What is on record, question by question, after a line about the seeds: what the recorded runs answer always, what
    a study answers as soon as it says something. The verdict table has every number.
    """
    folder, studies, speaking = record / RUNS["published"], record / "studies", deciding(record)
    about, published = About.read(folder), speaking[0]
    missing = [f"{one.missing} ({one.protocol})" for one in speaking if one.missing]
    state = f" Confirmatory seeds: {', '.join(missing)}." if missing else ""
    ratio = ratios(read(folder, "bandwidth_ladder"), read(folder, "bandwidth_codings"), about.experiment.clients)
    times = ratio.set_index(["system", "what", "against"])["ratio"]
    readers = c4(read(folder, "privacy_differences"))
    asked = {
        "More accurate than FedAvg?": f"{accuracy(speaking, record)} {one_seed(published.results, about.reported)}",
        "Do peers teach?": f"{mechanism(speaking)} {tuned.brief(studies / 'tuned', published.results)}".rstrip(),
        "Where clients differ?": " ".join(filter(None, (skew_text.brief(studies), models(studies)))),
        "With many clients?": crowd_text.brief(studies),
        "Cheaper?": traffic(times),
        "More private?": privacy(readers, studies),
        "With liars?": hostile.brief(studies),
        "When to use it?": advice(speaking, times, heard(readers, studies)),
    }
    told = {question: capital(answer) for question, answer in asked.items() if answer}
    marks = [mark for mark in ("interim", "exploratory") if re.search(rf"{mark}[,)]", " ".join(told.values()))]
    nothing = f"; *{', '.join(marks)}*: decides nothing" if marks else ""
    head = f"Points of accuracy, photographs [95 %] (seeds){nothing}.{state}"
    return joined([head, "", *(f"- **{question}** {answer}" for question, answer in told.items())])


def _asked(one: Deciding, family: str, against: str):
    """A comparison of a family in a protocol."""
    (row,) = one.claims[(one.claims["family"] == family) & (one.claims["against"] == against)].itertuples()
    return row


def _by(one: Deciding, row) -> str:
    """A protocol's answer in a word, and by how much DML is above the other arm; exploratory seeds leave it open."""
    word = SHORT[OPEN if one.missing else row.answer].lower()
    return f"{one.protocol}: {word}, {points(row)}"


def accuracy(speaking: Sequence[Deciding], record: Path) -> str:
    """DML's accuracy on unseen images against FedAvg's, in both protocols; where fresh seeds show a gain, the last
    round, which is the published way, too, and seeds before the plan if they, counted in, leave it open.
    """
    told = []
    for one in speaking:
        row = _asked(one, "C1", "fedavg")
        told.append(f"{capital(_by(one, row))} ({row.n}{' exploratory' if one.missing else ''})")
        if one.missing or row.answer != HELD:
            continue
        told[-1] += f", last round {points(over_fedavg(one.results))}"
        kinds = beside.gap(read(record / RUNS[one.protocol], "results"), one.results, "fedavg")
        if side(kinds.both.low, kinds.both.high) == side(-1, 1):
            before = points(interval(kinds.before.to_numpy()))
            told[-1] += f"; exploratory ({len(kinds.before)}, sample) {before}"
    return f"{'. '.join(told)}."


def mechanism(speaking: Sequence[Deciding]) -> str:
    """What peers add to being held to a client's own predictions, on the same seeds."""
    told = "; ".join(_by(one, _asked(one, "mechanism", "self")) for one in speaking)
    return f"Against itself as peer: {told}."


def one_seed(results: pd.DataFrame, reported: pd.DataFrame) -> str:
    """Whether the published advantage over FedAvg can be the mean, or one seed's, of the paper's equation and of its
    code, by seeds of its protocol.
    """
    means = reported.groupby("arm")["accuracy"].mean()
    theirs = means["dml"] - means["fedavg"]
    ours = [last_gaps(results, form) for form in ("dml", "dml-one-term")]
    if not all(interval(gap).high < theirs for gap in ours):
        return f"Paper's {100 * theirs:+.2f}: not excluded as *mean*."
    first, second = (bool(prediction(gap)["high"] < theirs) for gap in ours)
    return f"Paper's {100 * theirs:+.2f}: excluded as *mean*, {ONE_SEED[first, second]}."


def models(studies: Path) -> str:
    """The answer on clients with different models."""
    return f"Different models: {skew_text.brief_of_models(studies) or 'not run.'}"


def traffic(times: pd.Series) -> str:
    """How many times DML's bytes of one client FedAvg's are, with one sum from the server, the less is left out."""
    whole, top = (f"{times[OURS, CODED, arm]:.2f}" for arm in ("fedavg", TOP))
    return (
        f"FedAvg's bytes, one-sum server: {times[OURS, ROUND, 'fedavg']:,.0f} times DML's a round, {whole} with coded "
        f"set-up; largest 1 %: {top} (raw {times[OURS, RUN, TOP]:.2f})."
    )


def privacy(readers: pd.DataFrame, studies: Path) -> str:
    """Who reads more of who was in the training data, from weights or from DML's losses: over several rounds, and in
    the one of the recorded run, which is exploratory, until all games over several are on record.
    """
    server, _, peer, *_ = readers.itertuples()
    rates, told = games.recorded(studies), ["Membership AUC, weights minus losses, as published."]
    if rates is None or games.interim(rates):
        numbers = f"server {_auc(server)}, peer {_auc(peer)}"
        told.append(f"One round (exploratory, {server.n} targets): {numbers}.")
    return " ".join(filter(None, (*told, games_text.brief(studies))))


READERS = {"server": "honest-but-curious servers", "peer": "curious peers", "peer, sum": "peers with one sum"}


def heard(readers: pd.DataFrame, studies: Path) -> dict[str, set[str]]:
    """The answers on what each of `READERS` reads: in one round and, once no game is missing, in several."""
    (server, _, peer, _, summed), rates = readers["answer"], games.recorded(studies)
    answers = {"server": {server}, "peer": {peer}, "peer, sum": {summed}}
    if rates is not None and not games.interim(rates):
        for reader, answer in games_text.standing(rates)["answer"].loc[list(READERS)].items():
            answers[str(reader)].add(answer)
    return answers


def advice(speaking: Sequence[Deciding], times: pd.Series, readers: dict[str, set[str]]) -> str:
    """When DML is worth it and when not, by the answers above: a reader is named where every answer on it is *held*."""
    answers = [OPEN if one.missing else _asked(one, "C1", "fedavg").answer for one in speaking]
    gained = [one for one, answer in zip(speaking, answers, strict=True) if answer == HELD]
    surely = [reader for reader in READERS if readers[reader] == {HELD}]
    if "peer" in surely:  # with one sum, too
        surely = [reader for reader in surely if reader != "peer, sum"]
    small = ["for small messages"] if times[OURS, ROUND, "fedavg"] > 1 else []
    against = " or ".join(READERS[reader] for reader in surely)
    everywhere = len(gained) == len(speaking)
    reasons = [*(["for accuracy"] if everywhere else []), *small, *([f"against {against}"] if against else [])]
    less = "" if everywhere else "Not for accuracy (no gain shown): FedAvg."
    if gained and not everywhere:
        little = _asked(gained[0], "C1", "fedavg").least < plan().margin
        half = f" ({100 * plan().margin:g} points not shown)" if little else ""
        less = f"For accuracy in the {gained[0].protocol} setting{half}, nowhere else shown."
    return " ".join(filter(None, ("; ".join(reasons) + "." if reasons else "", less)))


def _auc(row) -> str:
    return estimate(row.mean, row.low, row.high, "+.3f", 1)
