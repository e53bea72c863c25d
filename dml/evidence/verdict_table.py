"""The verdict: a row a claim, with the answer of either protocol and of the studies."""

from pathlib import Path

from dml.config import CLIP, RECORDED
from dml.evidence import (
    crowd_text,
    games_text,
    generalisation,
    hostile,
    published,
    reconstruction,
    skew_text,
    verdicts,
)
from dml.evidence.about import RUNS, About
from dml.evidence.answers import STATUSES, brief
from dml.evidence.findings import deciding
from dml.evidence.transmission import OURS, PUBLISHED, SMALL
from dml.evidence.words import joined, table

STUDIED = "07_accuracy"  # the figure of a row that is there once its study is
CLAIMS = (  # a row: code, system or figure that tells two rows apart, claim, what the paper says
    ("C1", "", "More accurate on unseen images than sharing full or partial weights", ""),
    ("C2", "", "Generalises better: less disagreement, smaller gap to training accuracy", "claimed"),
    ("C3", PUBLISHED, "Fewer bytes than sharing full or partial weights, as published", "claimed"),
    ("C3", OURS, "The same with our one-sum server", ""),
    ("C4", PUBLISHED, "Gives away less of who was in the training data, as published", "claimed"),
    ("C4", OURS, "The same under an ideal secure sum", ""),
    ("F2", "", "Cheaper than compressed weights too, public images counted as files", "future work"),
    ("F3", "", "Helps where clients' classes differ", "future work"),
    ("F4", "", "Helps clients with different models", "future work"),
    ("L1", PUBLISHED, "A client's messages keep their size with many clients, as published", "a limit"),
    ("L1", OURS, "The same with our one-sum server", ""),
    ("L1", "07_fresh", "More accurate than FedAvg with 20 clients", "a limit"),
    ("L1", STUDIED, "More accurate than FedAvg with 1,000 clients that keep their images, drawn faces", "a limit"),
    ("L2", "", f"Sharing losses costs little: under {100 * SMALL:g} % of FedAvg's bytes", "a limit"),
    ("O1", PUBLISHED, "Bears one client of five that vetoes, with the clip as published", "not discussed"),
    ("O1", hostile.CLIPPED, f"The same, where no probability below {CLIP:g} is believed", "not discussed"),
    ("O2", "", "Def-KT: teaching adds less than a point to moving models", "another method"),
)
EXPLORATORY = "exploratory"
# where a claim is treated; of others, where their figure is drawn
NOTEBOOK = {"C1": "02", "C2": "02", "C4": "03", "F3": "05", "F4": "05", "O1": "06", "O2": "05"}
UNPLANNED = {("C4", PUBLISHED), ("C4", OURS), ("L1", "07_fresh")}  # of the recorded runs, with no plan before them
Rows = list[tuple[str, ...]]


def judged(record: Path = RECORDED) -> Rows:
    """The rows of `full`; `answers` shows the first of their cells and the last two."""
    runs = {}
    for one in deciding(record):
        folder = record / RUNS[one.protocol]
        own = verdicts.verdicts(folder, About.read(folder)).to_dict("records")
        fresh = {row["claim"]: row for row in verdicts.accuracy_rows(one.claims)}
        rows = [row | fresh.get(row["claim"], {}) for row in own]
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
    for code, which, claim, said in CLAIMS:
        if which == STUDIED and not crowded:
            continue
        named = {protocol: _row(own, code, which) for protocol, own in runs.items()}
        there = {protocol: row for protocol, row in named.items() if row}
        cells = [row["short"] if row else "not run" for row in named.values()]
        words = {}
        for protocol, row in there.items():
            mark = " (exploratory)" if (code, which) in UNPLANNED or row["short"].startswith(EXPLORATORY) else ""
            words[protocol] = brief({status: row[status] for status in STATUSES}) + mark
        same = set(words.values()) or {"not run"}
        answer = same.pop() if len(same) == 1 else "; ".join(f"{protocol}: {word}" for protocol, word in words.items())
        places = ", ".join(sorted({row["figure"][:2] for row in there.values()}))
        notebook = NOTEBOOK.get(code) or places
        lines.append((f"{claim} ({code})", said or says.get(code, ""), *cells, f"**{answer}**", notebook))
        lines += generalisation.verdict_lines(record / "studies") if code == "C2" else []
        if (code, which) == ("C4", OURS):
            lines += [*games_text.verdict_lines(record / "studies"), *reconstruction.verdict_lines(record / "studies")]
    return lines


def full(rows: Rows) -> str:
    """Every claim in words, what the paper says of it, the numbers of both protocols, and the answer."""
    titles = (f"{protocol} protocol" for protocol in RUNS)
    return joined(table(("claim", "paper", *titles, "answer", "notebook"), rows))


def answers(rows: Rows) -> str:
    """The same without the numbers, for the README."""
    return joined(table(("claim", "answer", "notebook"), ((row[0], *row[-2:]) for row in rows)))


def _row(judged: list[dict], code: str, which: str) -> dict | None:
    """The row on a claim: of the system, or with the figure, that is named."""
    rows = [row for row in judged if row["claim"] == code]
    chosen = [row for row in rows if not which or which in (row["system"], row["figure"]) or which in row["system"]]
    return chosen[0] if chosen else None
