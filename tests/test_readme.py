"""The README, the other pages with generated blocks, and figures/ are what `make figures` makes from the recorded runs,
and nothing else; the README is a page.
"""

import hashlib
import re
from functools import cache
from shutil import copytree, rmtree

import numpy as np
import pandas as pd
import pytest

from dml.config import FIGURES, README, RECORDED, ROOT
from dml.evidence import (
    beside,
    crowd_text,
    findings,
    games,
    games_text,
    generalisation,
    hostile,
    on_record,
    published,
    reconstruction,
    verdict_table,
)
from dml.evidence.about import read
from dml.pipeline import redraw
from dml.plots import style
from dml.studies.hostile import KEYS
from dml.studies.plan import plan

TEXT = README.read_text(encoding="utf-8")
PAGES = {page: page.read_text(encoding="utf-8") for page in redraw.PAGES}
DEPLOYED = PAGES[ROOT / "dml" / "flower" / "README.md"]
STUDIED = (  # their pages in figures/
    *("skew", "hostile", "crowd", "generalisation"),
    *("adversaries", "defences", "reconstruction"),
)
PAPER, REDUCED = (RECORDED / name for name in findings.RUNS.values())


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_figures_are_rebuilt_byte_for_byte(tmp_path, few_rendered, monkeypatch, no_workers):
    """Every file of figures/ and no other, texts among them. Of the recorded runs' figures one a module is rendered, of
    the others only table and caption are compared. (Only the pinned versions draw the same bytes.)
    """
    draw = redraw.draw

    def draw_some(name, *rest):
        with monkeypatch.context() as patch:
            if name not in few_rendered:
                patch.setattr(style, "_file", lambda fig, **how: b"")
                patch.setattr(style, "laid_out", lambda draw, *args, **kwargs: draw(*args, **kwargs))
            draw(name, *rest)

    monkeypatch.setattr(redraw, "draw", draw_some)
    redraw.redraw_recorded(tmp_path)
    again, there = contents(tmp_path), contents(FIGURES)
    assert again.keys() == there.keys() and sum(name.endswith(".md") for name in there) >= 9
    empty = {name for name, sum_ in again.items() if sum_ == hashlib.sha256(b"").hexdigest()}
    assert {name.rpartition(".")[2] for name in empty} == {"pdf", "png", "svg"} and len(again) > 3 * len(empty) / 2
    assert {name: again[name] for name in again if name not in empty} == {
        name: there[name] for name in there if name not in empty
    }


# -- generated blocks --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told():
    """The texts about all that is on record: as committed, which the test above rebuilds."""
    return {path.stem: path.read_text(encoding="utf-8") for path in FIGURES.glob("*.md")}


def test_every_generated_block_is_its_text(told):
    shown = {page: {(name, run) for _, name, run in redraw.BLOCK.findall(text)} for page, text in PAGES.items()}
    assert shown == {
        README: {("findings", ""), ("answers", "")},
        ROOT / "dml" / "flower" / "README.md": {("wire", "")},
        ROOT / "data" / "analysis_plan.md": {("power", "")},
        RECORDED / "README.md": {(name, "") for name in ("verdict table", "studies", *STUDIED)},
    }
    for text in PAGES.values():
        assert redraw.refreshed(text) == text
    for name, text in told.items():
        (page,) = (page for page in PAGES.values() if f"<!-- {name.replace('_', ' ')} -->\n" in page)
        assert page.count(f"<!-- {name.replace('_', ' ')} -->\n{text}<!-- end -->") == 1


def test_a_changed_table_sentence_or_caption_would_be_seen():
    for old in ("| claim |", "Against itself as peer: ", "Paired means"):
        text = TEXT.replace(old, f"{old}9", 1)
        assert text != TEXT and redraw.refreshed(text) == TEXT


def test_pages_and_notebooks_are_written_again(tmp_path, monkeypatch):
    pages = [tmp_path / f"{number}.md" for number in range(len(PAGES))]
    for page, text in zip(pages, PAGES.values(), strict=True):
        page.write_text(re.sub(r"( -->\n).*?(<!-- end -->)", r"\1old\n\2", text, flags=re.DOTALL), encoding="utf-8")
        assert page.read_text(encoding="utf-8").count("\nold\n") >= 1
    called = []
    monkeypatch.setattr(redraw, "PAGES", pages)
    monkeypatch.setattr(redraw.on_record, "refresh", lambda: called.append(True))
    redraw.rewrite_pages()
    assert [page.read_text(encoding="utf-8") for page in pages] == list(PAGES.values()) and called == [True]


def test_every_long_table_is_linked_and_every_link_leads_somewhere():
    for page, text in PAGES.items():
        links = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
        assert links and all((page.parent / link).exists() for link in links)
    linked = set(re.findall(r"\]\(figures/([^)]+\.md)\)", TEXT))
    tables = {path.relative_to(FIGURES).as_posix() for path in FIGURES.glob("*/*.md")}
    assert linked == {*tables, "wire.md", "studies.md", "verdict_table.md", *(f"{name}.md" for name in STUDIED)}


def test_the_readme_shows_figures_that_are_there():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", TEXT)
    assert len(pictures) >= 1 and all((README.parent / picture).is_file() for picture in pictures)
    assert len(pictures) == len(redraw.PICTURE.findall(TEXT)), "a picture without its caption"
    assert all(caption.strip() for caption in re.findall(r"!\[([^]]*)\]", TEXT))


def test_a_text_that_is_not_there_is_an_error(tmp_path):
    for block in ("claims: nowhere", "verdict table"):
        with pytest.raises(FileNotFoundError):
            redraw.refreshed(f"<!-- {block} -->\n<!-- end -->", tmp_path)


# -- a page ------------------------------------------------------------------------------------------------------------


def sentences(page):
    """The sentences of a page in Markdown, without code, tables and the targets of links."""
    text = re.sub(r"```.*?```|<!--.*?-->", "\n\n", page, flags=re.DOTALL)
    text = re.sub(r"^\|.*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*- )|\n(?=#)", text):
        yield from filter(None, re.split(r"(?<=[.!?])\s+", " ".join(block.split())))


def test_sentences_are_counted():
    page = (
        "# A title\n\nOne two. Three\nfour!\n- five 0.5 six\n- [seven](a/b.md)\n\n| a | b |\n\n```sh\nmake\n```\nEight?"
    )
    assert list(sentences(page)) == ["# A title", "One two.", "Three four!", "- five 0.5 six", "- seven", "Eight?"]


def test_the_readme_is_a_page():
    assert len(README.read_bytes()) <= 12_288
    told = list(sentences(TEXT))
    assert len(told) > 50 and [each for each in told if len(each.split()) > 35] == []


def test_the_readme_names_files_and_commands_that_exist():
    made = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"lab", "reproduce", "test"} <= set(re.findall(r"^make ([a-z]+)", TEXT, re.MULTILINE)) <= made
    listing = (ROOT / "dml" / "README.md").read_text(encoding="utf-8")
    rooms = set(re.findall(r"^ {8}([a-z/]+)/  ", listing, re.MULTILINE))
    folders = {path.relative_to(ROOT / "dml").as_posix() for path in (ROOT / "dml").rglob("__init__.py")}
    assert {room.split("/")[0] for room in rooms} == {name.split("/")[0] for name in folders} - {"__init__.py"}
    assert {f"{room}/__init__.py" for room in rooms} <= folders


# -- the sentences follow from the tables ------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path):
    """A copy of the recorded runs to change."""
    for folder in (PAPER, REDUCED):
        copytree(folder, tmp_path / folder.name)
    return tmp_path


def change(record, name, edit, run=PAPER.name):
    """Edit a table of a run; `edit` gets it and changes it."""
    file = record / run / f"{name}.csv"
    table = pd.read_csv(file)
    edit(table)
    table.to_csv(file, index=False)


def lift_dml(by):
    """An edit that moves the accuracy of DML on unseen images."""

    def edit(table):
        table.loc[(table["arm"] == "dml") & (table["metric"] == "unseen accuracy"), "value"] += by

    return edit


def state(record):
    """What a text of a record depends on: it is made once for each."""
    return record, frozenset((path, path.stat().st_mtime_ns) for path in record.rglob("*") if path.is_file())


@cache
def _told(text, state):
    return text(state[0])


def told_of(record):
    return _told(findings.findings, state(record))


def bullet(record, name):
    """The answer to a question."""
    (found,) = (line for line in told_of(record).splitlines() if line.startswith(f"- **{name}**"))
    return found


def test_the_findings_are_short():
    words = [each for each in findings.findings().split() if any(map(str.isalnum, each))]  # a lone "-" or "=" is none
    assert 100 < len(words) <= 250


@pytest.mark.parametrize(("by", "sign"), [(0.0, "-"), (0.05, "+"), (-0.05, "-")])
def test_the_finding_on_accuracy_turns_with_the_results_and_exploratory_seeds_leave_it_open(record, by, sign):
    for run in (PAPER.name, REDUCED.name):
        change(record, "results", lift_dml(by), run)
    told = bullet(record, "More accurate than FedAvg?")
    assert f"?** Published: open, {sign}" in told and " (8 exploratory). Reduced: open, " in told
    assert (": excluded" in told) == (by < 0.02) and (": not excluded" in told) == (by > 0.02)
    advice = bullet(record, "When to use it?")
    assert "?** For small messages" in advice and advice.count("Not for accuracy (no gain shown): FedAvg.") == 1


def test_two_protocols_that_differ_are_said_to(record):
    change(record, "results", lift_dml(0.05))
    told = bullet(record, "More accurate than FedAvg?")
    assert re.search(r"\?\*\* Published: open, \+4\.\d\d .* Reduced: open, -0\.\d\d .* \(20 exploratory\)\.", told)
    assert "Not for accuracy (no gain shown): FedAvg." in bullet(record, "When to use it?")


def test_the_numbers_on_accuracy_computed_another_way(record):
    results = read(PAPER, "results")
    last = results[(results["metric"] == "unseen accuracy") & (results["round"] == 12)]
    means = last.groupby(["seed", "arm"])["value"].mean().unstack()
    told = bullet(record, "More accurate than FedAvg?")
    for arm, where, end in (
        ("fedavg", told, f" ({len(means)} exploratory). Reduced: "),
        ("self", bullet(record, "Do peers teach?"), "; reduced: "),
    ):
        difference = 100 * (means["dml"] - means[arm])
        half = 2.364624 * difference.std() / 8**0.5  # t(0.975, 7)
        found = f"{difference.mean():+.2f} [{difference.mean() - half:+.2f}, {difference.mean() + half:+.2f}]{end}"
        assert f"ublished: open, {found}open, " in where
    reported = published.published().groupby("arm")["accuracy"].mean()
    theirs = 100 * (reported["dml"] - reported["fedavg"])
    excluded = "excluded as *mean*, as one seed by the paper's equation alone."
    assert f"Paper's {theirs:+.2f}: {excluded}" in told
    for arm in ("dml", "dml-one-term"):  # one more seed
        gap = 100 * (means[arm] - means["fedavg"])
        more = gap.mean() + 2.364624 * gap.std() * (9 / 8) ** 0.5
        assert (more > theirs) == (arm == "dml-one-term")


def test_the_published_gap_is_excluded_only_where_both_forms_of_the_loss_exclude_it(record):
    def lift_one_term(table):
        mine = (table["arm"] == "dml-one-term") & (table["metric"] == "unseen accuracy")
        table.loc[mine, "value"] += 0.02

    change(record, "results", lift_one_term)
    assert ": not excluded as *mean*." in bullet(record, "More accurate than FedAvg?")


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        (0.0, -0.03, "and as one seed"),
        (0.006, 0.0, "not as one seed"),
        (0.006, -0.03, "as one seed by its code alone"),
    ],
)
def test_each_form_of_the_loss_says_for_itself_whether_one_seed_could_be_the_published_one(record, ours, theirs, word):
    def lift(table):
        for arm, by in (("dml", ours), ("dml-one-term", theirs)):
            table.loc[(table["arm"] == arm) & (table["metric"] == "unseen accuracy"), "value"] += by

    change(record, "results", lift)
    assert f": excluded as *mean*, {word}." in bullet(record, "More accurate than FedAvg?")


def complete(record, protocol, **shifts):
    """Put a whole study on record: all its confirmatory seeds; an arm's accuracy is 0.9 and its shift, give or take."""
    study, rows, rng = plan().studies[protocol], [], np.random.default_rng(0)
    for seed in study.confirmatory:
        for arm in study.arms:
            value = 0.9 + shifts.get(arm, 0) + rng.normal(0, 0.001)
            rows += [(seed, arm, 4, 0, "late unseen accuracy", value), (seed, arm, 4, 0, "unseen accuracy", value)]
            rows += [(seed, arm, 4, 0, "train accuracy", 0.95), (seed, arm, 4, 0, "unseen disagreement", 0.1)]
            rows += [(seed, arm, 4, 0, "unseen sample accuracy", value)]
    folder = record / "studies" / protocol
    folder.mkdir(parents=True)
    results = pd.DataFrame(rows, columns=["seed", "arm", "round", "client", "metric", "value"])
    results.to_csv(folder / "results.csv.gz", index=False)


def test_confirmatory_seeds_speak_as_soon_as_all_are_on_record(record):
    assert "seeds: 0 of 12 (published), 0 of 40 (reduced)." in told_of(record).splitlines()[0]
    complete(record, "reduced", dml=0.02, self=0.02)
    head, told = told_of(record).splitlines()[0], bullet(record, "More accurate than FedAvg?")
    assert "0 of 12 (published)." in head and "reduced" not in head
    assert re.search(r" \(8 exploratory\)\. Reduced: yes, \+1\.\d\d \[\S+ \S+\] \(40\), last round \+1\.", told)
    assert re.search(r"published: open, \S+ \S+ \S+; reduced: no, ", bullet(record, "Do peers teach?"))
    assert findings.deciding(record)[1].claims.set_index("against").loc["self", "answer"] == "refuted"
    assert row(record, "C1")[3].startswith("confirmatory, n = 40: FedAvg +1.9")
    shown = [(one.kind, one.title, one.results["seed"].nunique()) for one in findings.deciding(record)]
    assert shown[0][::2] == ("exploratory", 8) and shown[1] == ("confirmatory", "facemask (2,000 unseen), reduced", 40)
    complete(record, "published", dml=-0.02)
    assert "Confirmatory" not in told_of(record).splitlines()[0]
    assert row(record, "C1")[2].startswith("confirmatory, n = 12: FedAvg -2.0")
    assert row(record, "C1")[4] == "**published: refuted; reduced: held**"
    told = bullet(record, "More accurate than FedAvg?")
    assert re.search(r"\?\*\* Published: no, -2\.0\d \[\S+ \S+\] \(12\)\. Reduced: yes, \+", told)
    rmtree(record / "studies" / "published")
    complete(record, "published", dml=0.02)
    told = told_of(record)
    assert "FedAvg?** Published: yes, +1.95 [+1.87, +2.03] (12), last round +1.95 [+1.87, +2.03]. Reduced: yes" in told
    assert "use it?** For accuracy; for small messages" in told and "sample)" not in told


def test_a_gain_that_the_seeds_before_the_plan_leave_open_is_told_with_them(record):
    complete(record, "published", dml=0.004)
    complete(record, "reduced")
    told = bullet(record, "More accurate than FedAvg?")
    one = findings.deciding(record)[0]
    kinds = beside.gap(read(PAPER, "results"), one.results, "fedavg")
    assert kinds.both.n == 20 and kinds.both.low < 0 < kinds.both.high and kinds.p > 0.05
    fresh, before = (f"{100 * each.mean():+.2f}" for each in (kinds.fresh, kinds.before))
    assert f"?** Published: yes, {fresh} [" in told and f" (12), last round {fresh} [" in told
    assert re.search(rf"; exploratory \(8, sample\) {re.escape(before)} \[\S+ \S+\]\. Reduced: ", told)
    assert ": excluded as *mean*, and as one seed." in told
    advice = bullet(record, "When to use it?")
    assert "For accuracy in the published setting (0.5 points not shown), nowhere else shown." in advice


def test_a_liar_is_told_of_as_soon_as_two_seeds_are_on_record(record):
    def study(seeds):
        rows = [
            (s, arm, 5, liars, "veto" if liars else "", "mean", 0, clip, True, 0.0, "accuracy", value + 0.01 * (s % 2))
            for s in seeds
            for arm, clip, liars, value in (
                *(("dml", 1e-7, 0, 0.9), ("dml", 1e-7, 1, 0.3), ("dml", 0.02, 0, 0.91), ("dml", 0.02, 1, 0.88)),
                ("local+public", 1e-7, 0, 0.85),
            )
        ]
        (record / "studies" / "hostile-veto").mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(rows, columns=[*KEYS, "metric", "value"])
        table.to_csv(record / "studies" / "hostile-veto" / "results.csv", index=False)
        return told_of(record)

    assert "**With liars?**" not in study([20])
    told = study([20, 21])
    assert "One veto among five leaves others 30.5 [24.1, 36.9] % right; clipped, 88.5 (2, interim)." in told
    assert "from 90.5 [84.1, 96.9] to 30.5 [24.1, 36.9] %. Where no" in hostile.one_liar(record / "studies")
    assert "interim" not in study(range(20, 40)).partition("**With liars?**")[2]


def test_the_finding_on_bytes_turns_with_the_ladder(record):
    told = bullet(record, "Cheaper?")
    ladder = read(PAPER, "bandwidth_ladder").set_index("arm")
    dml, fedavg = ladder.loc["dml"], ladder.loc["fedavg"]
    times = (fedavg["up"] + fedavg["down"]) / (dml["up"] + dml["down"])
    assert f"one-sum server: {times:,.0f} times DML's a round, " in told
    whole = {arm: ladder.loc[arm, "sent"] + ladder.loc[arm, "setup"] for arm in ladder.index}
    coded = read(PAPER, "bandwidth_codings").set_index("what")
    kept = coded.loc["weights, float32", "bytes"] / coded.loc["weights, float32", "plain"]
    images = (dml["setup"] - fedavg["setup"]) * coded.loc["image", "bytes"].min() / 30_000
    ours = dml["sent"] + images + kept * fedavg["setup"]
    assert f" a round, {kept * whole['fedavg'] / ours:.2f} with coded set-up; largest 1 %: " in told
    assert told.endswith(f"(raw {whole['fedavg, top 1 %'] / whole['dml']:.2f}).")
    assert "?** For small messages" in bullet(record, "When to use it?")

    def dear(table):
        table.loc[table["arm"] == "dml", ["up", "down", "sent", "setup", "amortised"]] *= 1e6

    change(record, "bandwidth_ladder", dear)
    assert ": 0 times DML's a round, " in bullet(record, "Cheaper?")
    assert "small messages" not in bullet(record, "When to use it?")


def test_the_finding_on_privacy_turns_with_the_differences(record):
    told = bullet(record, "More private?")
    assert "One round (exploratory, 128 targets): server +0.081 [+0.062, +0.102], peer -0.024 [-0.041, -0.005]." in told
    advice = bullet(record, "When to use it?")
    assert "; against honest-but-curious servers or peers with one sum." in advice

    def flip(table):
        table[["value", "low", "high"]] = -table[["value", "high", "low"]].to_numpy()

    change(record, "privacy_differences", flip)
    assert "server -0.081 [-0.102, -0.062], peer +0.024" in bullet(record, "More private?")
    advice = bullet(record, "When to use it?")
    assert "; against curious peers." in advice and "server" not in advice and "one sum" not in advice

    def widen(table):
        table[["low", "high"]] = -1.0, 1.0

    change(record, "privacy_differences", widen)
    assert "against" not in bullet(record, "When to use it?")


def test_a_reader_is_named_in_the_advice_only_where_both_studies_say_the_same(record):
    """One round says that a peer of DML reads more, all games over several rounds that it reads less."""
    assert "or peers with one sum." in bullet(record, "When to use it?")
    copytree(RECORDED / "studies" / "privacy", record / "studies" / "privacy")
    advice = bullet(record, "When to use it?")
    assert "; against honest-but-curious servers or peers with one sum." in advice
    told, areas = bullet(record, "More private?"), games_text.standing(games.recorded(record / "studies"))
    assert f"(10 games): server {areas.loc['server', 'mean']:+.3f} [" in told and "peer +0.030" in told
    assert "One round" not in told  # which was exploratory
    rates = record / "studies" / "privacy" / "rates.csv.gz"
    table = pd.read_csv(rates)
    table[table["game"] < 205].to_csv(rates, index=False)
    told = bullet(record, "More private?")
    assert "One round (exploratory, 128" in told and "(5 games, interim): server" in told
    assert "or peers with one sum." in bullet(record, "When to use it?")


def judged_in_full(record):
    return verdict_table.full(verdict_table.judged(record))


def full(record):
    return _told(judged_in_full, state(record))


def row(record, claim):
    """The cells of the first row on a claim."""
    return next(line for line in full(record).splitlines() if f"({claim})" in line).split(" | ")


def test_the_verdict_table_turns_with_the_tables(record):
    before = full(record)
    assert (
        "nan" not in before
        and row(record, "C1")[4] == "**published: held in part (exploratory); reduced: open (exploratory)**"
    )
    for run in (PAPER.name, REDUCED.name):
        change(record, "results", lift_dml(0.2), run)
    assert row(record, "C1")[4] == "**held (exploratory)**" and "FedAvg +19.64 [" in row(record, "C1")[2]
    (record / PAPER.name / "privacy_differences.csv").unlink()
    assert "(C4)" in full(record) and row(record, "C4")[2:4] == ["not run", "not run"]


def test_every_claim_has_short_cells():
    lines = full(RECORDED).splitlines()
    more = generalisation.verdict_lines(), games_text.verdict_lines(), reconstruction.verdict_lines()
    assert crowd_text.verdict()  # whose row is one of the claims
    assert len(lines) == 2 + len(verdict_table.CLAIMS) + sum(map(len, more))
    cells = [line.strip("| ").split(" | ") for line in lines[2:]]
    assert all(len(line) == 6 and max(map(len, line)) <= 300 for line in cells)
    words = {part.partition(": ")[2] or part for line in cells for part in line[4].strip("*").split("; ")}
    assert {word.removesuffix(" (exploratory)") for word in words} <= {*on_record.ORDER, "not run"}
    (many,) = (line for line in cells if "with 20 clients" in line[0])
    assert many[3].startswith("exploratory, 20 clients, ")


def test_what_the_page_on_the_deployment_says_of_its_table():
    """The sentences under the table: 640 bytes, nearly fifty times as much on the socket, 55 and 2,500 times."""
    tables = {name: pd.read_csv(redraw.WIRES / f"{name}.csv") for name in ("dml", "fedavg")}
    per_round = {}
    for name, table in tables.items():
        rounds = table[table["round"].between(1, table["round"].max() - 1)]
        per_round[name] = rounds.groupby("direction")[["encoded", "tls"]].mean().sum()
    dml, fedavg = per_round["dml"], per_round["fedavg"]
    assert dml["encoded"] == 640 and 45 < dml["tls"] / dml["encoded"] < 50
    assert f"{fedavg['tls'] / dml['tls']:.0f}" == "55" and 2500 < fedavg["encoded"] / dml["encoded"] < 2600
    assert all(words in DEPLOYED for words in ("640 bytes", "nearly fifty times", "55 times", "2,500 times"))
