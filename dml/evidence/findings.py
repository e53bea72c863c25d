"""What the README says was found: sentences chosen by the answer to each comparison, numbers from the recorded tables.

No number and no outcome is typed here: another table gives another sentence, and a test tries it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dml.config import RECORDED
from dml.evidence import confirmatory, crowd_text, games_text, generalisation, hostile, published, skew_text, verdicts
from dml.evidence.about import About, read
from dml.evidence.accuracy import LATE, claims
from dml.evidence.answers import HELD, OPEN, REFUTED, STATUSES, brief, lists
from dml.evidence.privacy import ALIKE, c4
from dml.evidence.transmission import CODED, GROWTH, OURS, PUBLISHED, ROUND, SMALL, ratios
from dml.evidence.words import estimate, joined, span, table
from dml.stats import interval, per_seed
from dml.studies.hostile import CLIP
from dml.studies.plan import plan

RUNS = {"published": "paper-facemask", "reduced": "reduced-facemask"}  # the recorded ones, by the study of the plan
CLAIMS = (  # a row of `verdict_table`: code, system or figure that tells two rows apart, claim, what the paper says
    ("C1", "", "More accurate on unseen images than sharing weights", ""),
    ("C2", "", "Generalises better: less disagreement, smaller gap to training accuracy", "claimed"),
    ("C3", PUBLISHED, "Fewer bytes than sharing full or partial weights, as published", "claimed"),
    ("C3", OURS, "The same with our one-sum server", ""),
    ("C4", PUBLISHED, "Gives away less of who was in the training data, as published", "claimed"),
    ("C4", OURS, "The same under an ideal secure sum", ""),
    ("F2", "", "Cheaper than compressed weights too, public images counted", "future work"),
    ("F3", "", "Helps where clients' classes differ", "future work"),
    ("F4", "", "Helps clients with different models", "future work"),
    ("L1", PUBLISHED, "Messages stay small with many clients, as published", "not discussed"),
    ("L1", OURS, "The same with our one-sum server", ""),
    ("L1", "07_fresh", "More accurate than FedAvg with many clients", "not discussed"),
    ("L2", "", f"Sharing losses costs little: under {100 * SMALL:g} %", "not analysed"),
    ("O1", PUBLISHED, "Bears one lying client of five, as published", "not discussed"),
    ("O1", hostile.CLIPPED, f"The same, where no probability below {CLIP:g} is believed", "not discussed"),
    ("O2", "", "Def-KT gains by moving models, not by teaching them", "another method"),
)
STUDIED = ("L1", "07_accuracy", "The same with 1,000 clients, in a study of its own", "not discussed")
TOP = "fedavg, top 1 %"
NEAR = 2  # two sizes within this factor are called about as large
# others: where their figure is drawn
NOTEBOOK = {"C1": "02", "C2": "02", "C4": "03", "F3": "05", "F4": "05", "O1": "06", "O2": "05"}


class Deciding(NamedTuple):
    """The seeds that speak on accuracy in a protocol: the study's, once all of them are on record; until then those of
    the recorded run, which are exploratory.
    """

    protocol: str
    kind: str  # "confirmatory" or "exploratory"
    claims: pd.DataFrame
    missing: str  # what of the study is not on record yet


def deciding(record: Path = RECORDED) -> list[Deciding]:
    """Of the published protocol and of the reduced one."""
    found = []
    for protocol, name in RUNS.items():
        study, about = plan().studies[protocol], About.read(record / name)
        fresh = confirmatory.decisive(study, record / "studies" / protocol)
        done, planned = fresh["seed"].nunique(), len(study.confirmatory)
        if done == planned:
            found.append(Deciding(protocol, "confirmatory", claims(fresh, about.reported), ""))
        else:
            judged = claims(read(record / name, "results"), about.reported)
            found.append(Deciding(protocol, "exploratory", judged, f"{done} of {planned}"))
    return found


def findings(record: Path = RECORDED) -> str:
    """What is on record, question by question, after a line about the runs: those on the recorded runs always, those on
    a study as soon as it says something.
    """
    folder, studies, speaking = record / RUNS["published"], record / "studies", deciding(record)
    about, results = About.read(folder), read(folder, "results")
    missing = [f"{one.missing} ({one.protocol} protocol)" for one in speaking if one.missing]
    state = f" Confirmatory seeds on record: {' and '.join(missing)}." if missing else ""
    head = f"Photographs; 95 % intervals; answers as the [plan](data/analysis_plan.md) says.{state}"
    ladder, scaling, codings = (read(folder, f"bandwidth_{name}") for name in ("ladder", "scaling", "codings"))
    asked = {
        "More accurate than sharing weights?": f"{accuracy(speaking)} {one_seed(results, about.reported)}",
        "Do peers teach?": mechanism(speaking),
        "Where clients differ?": skew_text.finding(studies),
        "With many clients?": crowd_text.brief(studies),
        "Cheaper?": traffic(ladder, scaling, codings, about),
        "More private?": privacy(read(folder, "privacy_differences")),
        "If the server picks the public images?": games_text.chooses(studies),
        "With a liar?": hostile.one_liar(studies),
    }
    told = {question: f"{answer[0].upper()}{answer[1:]}" for question, answer in asked.items() if answer}
    return joined([head, "", *(f"- **{question}** {answer}" for question, answer in told.items())])


def _told(one: Deciding, family: str, against: Sequence[str]) -> str:
    """Comparisons of a family in a protocol, each with its answer."""
    rows = one.claims[(one.claims["family"] == family) & one.claims["against"].isin(against)]
    late = f"last {plan().late_rounds} rounds" if rows["measure"].iloc[0] == LATE else "last round"
    numbers = "; ".join(f"{verdicts.name_of(row)} {verdicts.points(row)} {row.answer}" for row in rows.itertuples())
    return f"{one.protocol.capitalize()} protocol ({rows['n'].iloc[0]} {one.kind} seeds, {late}): {numbers}."


def accuracy(speaking: Sequence[Deciding]) -> str:
    """DML's accuracy against FedAvg's and the asynchronous arm's, in both protocols."""
    fedavg = [one.claims[(one.claims["family"] == "C1") & (one.claims["against"] == "fedavg")] for one in speaking]
    headline = {
        (HELD,): "DML is more accurate than FedAvg",
        (REFUTED,): "DML is not more accurate than FedAvg",
        (OPEN,): "Whether DML is more accurate than FedAvg is open",
    }.get(tuple({rows["answer"].iloc[0] for rows in fedavg}), "On FedAvg the two protocols do not say the same")
    told = " ".join(_told(one, "C1", ("fedavg", "asynchronous")) for one in speaking)
    return f"{headline}. Points on unseen images, DML minus another arm. {told}"


def mechanism(speaking: Sequence[Deciding]) -> str:
    """What peers add to the labels of the public images, and to being held to a client's own predictions."""
    against = ("local+public", "self")
    rows = pd.concat([one.claims[one.claims["family"] == "mechanism"] for one in speaking])
    answers = enumerate(rows.loc[rows["against"].isin(against), "answer"])
    word = brief(lists({str(place): answer for place, answer in answers})).capitalize()
    told = " ".join(_told(one, "mechanism", against) for one in speaking)
    return f"{word}. DML minus public labels alone, and minus being held to one's own predictions. {told}"


def one_seed(results: pd.DataFrame, reported: pd.DataFrame) -> str:
    """What becomes of the published advantage over FedAvg among the exploratory seeds of its protocol."""
    means, values = reported.groupby("arm")["accuracy"].mean(), per_seed(results, "unseen accuracy")
    theirs = means["dml"] - means["fedavg"]
    gaps = {form: (values[form] - values["fedavg"]).to_numpy() for form in ("dml", "dml-one-term")}
    kept = "" if all(interval(values).high < theirs for values in gaps.values()) else "not "
    more = published.prediction(gaps["dml-one-term"])
    can = "could be" if theirs <= more["high"] else "would hardly be"
    return (
        f"The published {100 * theirs:+.2f} over FedAvg is one seed's: as a *mean* it is {kept}excluded for either "
        f"form of the loss; it {can} one more seed of the author's form ({span(more['low'], more['high'])})."
    )


def traffic(ladder: pd.DataFrame, scaling: pd.DataFrame, codings: pd.DataFrame, about: About) -> str:
    """Bytes of one client: as published, with one sum from the server, and with the public images counted."""
    clients = about.experiment.clients
    ratio = ratios(ladder, codings, clients).set_index(["system", "what", "against"])["ratio"]
    down = scaling[scaling["topology"] == "server, forwarding"].set_index("clients")["down"]
    grows = "grow" if down.max() > GROWTH * down.min() else "do not grow"
    return (
        f"A client's round is {_times(ratio[OURS, ROUND, 'fedavg'], form=',.0f')} with one sum from our server; as "
        f"published {_times(ratio[PUBLISHED, ROUND, 'fedavg'], form=',.0f')}, where bytes {grows} with the number of "
        "clients. A run with its first model and public images, all coded as one would ship them, is "
        f"{_times(ratio[OURS, CODED, 'fedavg'])} and {_times(ratio[OURS, CODED, TOP], ' with top-1 % updates')}."
    )


def privacy(differences: pd.DataFrame) -> str:
    """Who reads more of who was in the training data: from weights, or from DML's losses."""
    server, partial, peer, server_summed, peer_summed = c4(differences).itertuples()
    unclear = "was not shown to read more or less"
    weights = {HELD: "reads more", REFUTED: "reads less", OPEN: unclear}  # from them than from losses
    losses = {HELD: "reads less", REFUTED: "reads more", OPEN: unclear}

    def end(row) -> str:
        return f"({_auc(row)}){': refuted' if row.answer == REFUTED else ''}. "

    return (
        f"Membership inference, one round, black box, n = {server.n} targets in groups of {ALIKE} that count as one, "
        "difference of AUC. As published, a server "
        f"{weights[server.answer]} from weights than from losses {end(server)}"
        f"From partial weights it {weights[partial.answer]} {end(partial)}"
        f"A peer of DML {losses[peer.answer]} than a peer of FedAvg {end(peer)}"
        f"Under an ideal secure sum the claim is {server_summed.answer} for the server ({_auc(server_summed)}) and "
        f"{peer_summed.answer} for a peer ({_auc(peer_summed)})."
    )


def verdict_table(record: Path = RECORDED) -> str:
    """Every claim in words, what the paper says of it, the numbers of both protocols, and the answer."""
    titles = (f"{protocol} protocol" for protocol in RUNS)
    return joined(table(("claim", "paper", *titles, "answer", "notebook"), _judged(record)))


def answers(record: Path = RECORDED) -> str:
    """The same without the numbers, for the README."""
    return joined(table(("claim", "answer", "notebook"), ((row[0], *row[-2:]) for row in _judged(record))))


def _judged(record: Path) -> list[tuple[str, ...]]:
    """The rows of `verdict_table`."""
    runs = {}
    for one in deciding(record):
        folder = record / RUNS[one.protocol]
        judged = verdicts.verdicts(folder, About.read(folder)).to_dict("records")
        fresh = {row["claim"]: row for row in verdicts.accuracy_rows(one.claims)}
        rows = [row | fresh.get(row["claim"], {}) for row in judged]
        if one.protocol == "reduced":  # the protocol of those studies
            studies = record / "studies"
            rows += [*skew_text.judged(studies), *hostile.judged(studies), *skew_text.def_kt(studies)]
        runs[one.protocol] = [
            row | {"short": f"{one.kind}, {row['short'].removeprefix('points, ')}"} if row["claim"] in fresh else row
            for row in rows
        ]
    crowded = crowd_text.verdict(record / "studies")
    runs["reduced"] += crowded
    means = published.published().groupby("arm")["accuracy"].mean()
    gaps = (
        f"{100 * (means['dml'] - means[arm]):+.2f} over {verdicts.NAMES[arm]}" for arm in ("fedavg", "asynchronous")
    )
    says, lines = {"C1": f"points: {', '.join(gaps)} (one seed)"}, []
    for code, which, claim, said in (*CLAIMS, STUDIED) if crowded else CLAIMS:
        named = {protocol: _row(judged, code, which) for protocol, judged in runs.items()}
        there = {protocol: row for protocol, row in named.items() if row}
        cells = [row["short"] if row else "not run" for row in named.values()]
        words = {protocol: brief({status: row[status] for status in STATUSES}) for protocol, row in there.items()}
        same = set(words.values()) or {"not run"}
        answer = same.pop() if len(same) == 1 else "; ".join(f"{protocol}: {word}" for protocol, word in words.items())
        places = ", ".join(sorted({row["figure"][:2] for row in there.values()}))
        notebook = NOTEBOOK.get(code) or places
        lines.append((f"{claim} ({code})", said or says.get(code, ""), *cells, f"**{answer}**", notebook))
        lines += generalisation.verdict_lines(record / "studies") if code == "C2" else []
    return lines


def _row(judged: list[dict], code: str, which: str) -> dict | None:
    """The row on a claim: of the system, or with the figure, that is named."""
    rows = [row for row in judged if row["claim"] == code]
    chosen = [row for row in rows if not which or which in (row["system"], row["figure"]) or which in row["system"]]
    return chosen[0] if chosen else None


def _auc(row) -> str:
    return estimate(row.mean, row.low, row.high, "+.3f", 1)


def _times(ratio: float, variant: str = "", form: str = ".2f") -> str:
    """How DML's bytes compare with FedAvg's, or a variant's, which are `ratio` times as many."""
    if ratio > NEAR:
        return f"{ratio:{form}} times smaller than FedAvg's{variant}"
    more = f"{1 / ratio:{form}} times"
    return (
        f"{more} larger than FedAvg's{variant}" if 1 / ratio > NEAR else f"about as large as FedAvg's{variant} ({more})"
    )
