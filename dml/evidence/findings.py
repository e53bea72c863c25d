"""What the README says was found: sentences chosen by the status of each comparison, numbers from the recorded tables.

No number and no outcome is typed here: another table gives another sentence, and a test tries it.
"""

from pathlib import Path

import pandas as pd

from dml.config import RECORDED
from dml.evidence import published, verdicts
from dml.evidence.about import About, read
from dml.evidence.accuracy import claims
from dml.evidence.bandwidth import c3
from dml.evidence.markdown import estimate, joined, span, table
from dml.evidence.privacy import c4
from dml.evidence.verdicts import FAILS, GROWTH, HOLDS, SAME, SMALL, UNDECIDED
from dml.stats import MARGIN, interval, per_seed

RUNS = {"published protocol": "paper-facemask", "reduced": "reduced-facemask"}  # the recorded ones
CLAIMS = (  # a row of `verdict_table`: code, figure that tells the two rows of L1 apart, claim, what the paper says
    ("C1", "", "More accurate on unseen images than sharing weights", ""),
    ("C2", "", "Generalises better: less disagreement, smaller gap to training accuracy", "claimed"),
    ("C3", "", "Fewer bytes than sharing full or partial weights", "claimed"),
    ("C4", "", "Gives away less of who was in the training data", "claimed"),
    ("F2", "", "Cheaper than compressed weights too, public images counted", "future work"),
    ("L1", "04_scaling", "Messages stay small with many clients, with one sum", "not discussed"),
    ("L1", "09_clients", "More accurate than FedAvg with many clients", "not discussed"),
    ("L2", "", f"Sharing losses costs little: under {100 * SMALL:g} %", "not analysed"),
)
NEAR = 2  # two sizes within this factor are called about as large
NOTEBOOK = {"C1": "02", "C2": "02", "C4": "03"}  # others: where their figure is drawn


def findings(record: Path = RECORDED) -> str:
    """What the recorded run of the published protocol shows: a line about the run, a bullet each on accuracy, bytes and
    privacy.
    """
    folder = record / RUNS["published protocol"]
    about, results = About.read(folder), read(folder, "results")
    seeds = sorted(results["seed"].unique())
    head = (
        f"Recorded run: {about.title}; exploratory seeds {seeds[0]} to {seeds[-1]}; 95 % intervals. "
        "Confirmatory seeds are [planned](data/analysis_plan.md)."
    )
    ladder, targets, scaling = (read(folder, f"bandwidth_{name}") for name in ("ladder", "targets", "scaling"))
    bullets = (
        accuracy(results, about),
        traffic(ladder, targets, scaling, about),
        privacy(read(folder, "privacy_differences")),
    )
    return joined([head, "", *(f"- {bullet}" for bullet in bullets)])


def accuracy(results: pd.DataFrame, about: About) -> str:
    """DML's accuracy against FedAvg's and the asynchronous arm's, and what becomes of the published advantage."""
    compared = claims(results, about.reported)
    rows = {row.against: row for row in compared[compared["claim"] == "C1"].itertuples()}
    status = {
        HOLDS: "more accurate, also after correction",
        FAILS: "less accurate, also after correction",
        SAME: f"no difference at a margin of {100 * MARGIN:g} point, which was set after the fact",
        UNDECIDED: f"undecided after correction for {len(rows)} comparisons",
    }
    fedavg, asynchronous, values = rows["fedavg"], rows["asynchronous"], per_seed(results, "unseen accuracy")
    gaps = {form: (values[form] - values["fedavg"]).to_numpy() for form in ("dml", "dml-one-term")}
    means = [interval(each) for each in gaps.values()]
    kept = "" if all(each.high < fedavg.reported for each in means) else "not "
    more = published.prediction(gaps["dml-one-term"])
    can = "can" if fedavg.reported <= more["high"] else "would hardly"
    side = "above" if asynchronous.mean > 0 else "below"
    return (
        f"**Accuracy** on unseen images, last round, n = {fedavg.n} seeds. "
        f"DML minus FedAvg is {_measured(fedavg)} points: {status[fedavg.verdict]}. "
        f"A *mean* advantage of the published size, {100 * fedavg.reported:+.2f} in one seed, is {kept}excluded "
        "for either form of the loss. "
        f"A single seed {can} show it: one more with the author's form falls in {span(more['low'], more['high'])}. "
        f"On average DML is {side} the asynchronous arm, {_measured(asynchronous)}: {status[asynchronous.verdict]}."
    )


def traffic(ladder: pd.DataFrame, targets: pd.DataFrame, scaling: pd.DataFrame, about: About) -> str:
    """Bytes of one client: with one sum from the server, with the public images counted, and as published."""
    ratios = c3(ladder, targets).set_index(["what", "against"])["ratio"]
    messages, run = ratios["a round's messages"], ratios["the run, set-up included"]
    copies = verdicts.forwarded(ladder, about.experiment.clients)
    down = scaling[scaling["topology"] == "server, forwarding"].set_index("clients")["down"]
    grows = "grow" if down.max() > GROWTH * down.min() else "do not grow"
    return (
        "**Bytes** of one client, counted. "
        f"With one sum from our server, a round's messages are {_times(messages['fedavg'], form=',.0f')}. "
        f"With the public images sent first as raw pixels, the whole run is {_times(run['fedavg'])} and "
        f"{_times(run['fedavg, top 1 %'], ' with top-1 % updates')}. "
        f"With every peer's losses forwarded, as published, a round's messages are {_times(copies, form=',.0f')} and "
        f"{grows} with the number of clients."
    )


def privacy(differences: pd.DataFrame) -> str:
    """Who reads more of who was in the training data: from weights, or from DML's losses."""
    server, partial, peer, server_summed, peer_summed = c4(differences).itertuples()
    unclear = "was not shown to read more or less"
    weights = {HOLDS: "reads more", FAILS: "reads less", UNDECIDED: unclear}  # from them than from losses
    losses = {HOLDS: "reads less", FAILS: "reads more", UNDECIDED: unclear}
    status = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "is undecided"}

    def end(row) -> str:
        return f"({_auc(row)}){': there the claim fails' if row.verdict == FAILS else ''}. "

    return (
        f"**Privacy**: membership inference, n = {server.n} targets, one round, differences of AUC. "
        f"A server {weights[server.verdict]} from FedAvg's weights than from one loss vector {end(server)}"
        f"From partial weights it {weights[partial.verdict]} {end(partial)}"
        f"A peer of DML as published {losses[peer.verdict]} than a peer of FedAvg {end(peer)}"
        f"Under an ideal secure sum the claim {status[server_summed.verdict]} for the server ({_auc(server_summed)}) "
        f"and {status[peer_summed.verdict]} for a peer ({_auc(peer_summed)})."
    )


def verdict_table(record: Path = RECORDED) -> str:
    """Every claim in words, what the paper says of it, the numbers of both recorded runs, and the verdict."""
    runs = {}
    for title, name in RUNS.items():
        folder = record / name
        runs[title] = verdicts.verdicts(folder, About.read(folder))
    means = published.published().groupby("arm")["accuracy"].mean()
    gaps = (f"{100 * (means['dml'] - means[arm]):+.2f} over {name}" for arm, name in verdicts.NAMES.items())
    says = {"C1": f"points: {', '.join(gaps)} (one seed)"}
    rows = []
    for code, figure, claim, said in CLAIMS:
        found = {
            title: row
            for title, judged in runs.items()
            for row in judged.itertuples()
            if row.claim == code and figure in row.figure
        }
        cells = [found[title].short if title in found else "not run" for title in RUNS]
        places = {row.figure[:2] for row in found.values()}
        words = {title: verdicts.brief(row.verdict) for title, row in found.items()}
        same = set(words.values())
        verdict = same.pop() if len(same) == 1 else "; ".join(f"{title}: {word}" for title, word in words.items())
        notebook = NOTEBOOK.get(code) or ", ".join(sorted(places))
        rows.append((f"{claim} ({code})", said or says[code], *cells, f"**{verdict}**", notebook))
    return joined(table(("claim", "paper", *RUNS, "verdict", "notebook"), rows))


def _measured(row) -> str:
    return estimate(row.mean, row.low, row.high)


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
