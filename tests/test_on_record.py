"""What the notebooks say under their questions is what the recorded tables say; their text keeps the house's rules."""

import ast
import io
import json
import re
import shutil
from functools import cache

import pandas as pd
import papermill
import pytest

from dml.config import FIGURES, PROFILES, RECORDED
from dml.evidence import findings, games, generalisation, on_record, style, verdict_table
from dml.evidence.accuracy import LAST, LATE, values
from dml.files import DataError
from dml.stats import interval, per_seed
from dml.studies import generalisation as study

STEMS = list(on_record.FINDINGS)
NOTEBOOKS = [on_record.NOTEBOOKS / f"{stem}.ipynb" for stem in STEMS]
PAPER, REDUCED = "paper-facemask", "reduced-facemask"
recorded = cache(on_record.block)  # what a notebook says of the tables on record


def texts(notebook):
    """The Markdown cells of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A copy of the recorded runs."""
    folder = tmp_path_factory.mktemp("record") / "results"
    return shutil.copytree(RECORDED, folder, ignore=shutil.ignore_patterns("history.csv", "privacy_curves.csv"))


@pytest.fixture
def changed(record):
    """A function that alters one table of the copy until the test ends."""
    before = {}

    def change(run, name, alter):
        (file,) = (record / run).glob(f"{name}.csv*")
        before.setdefault(file, file.read_bytes())
        packed = "gzip" if file.suffix == ".gz" else None
        alter(pd.read_csv(io.BytesIO(before[file]), compression=packed)).to_csv(file, index=False)
        return record

    yield change
    for file, content in before.items():
        file.write_bytes(content)


# -- the blocks -------------------------------------------------------------------------------------------------------


def test_every_notebook_has_a_finding_in_its_second_cell():
    assert [path.stem for path in sorted(on_record.NOTEBOOKS.glob("*.ipynb"))] == STEMS
    for notebook in NOTEBOOKS:
        first, second, *others = [text for text in texts(notebook) if not text.startswith("## Words")]  # of 00
        assert "**Question.**" in first and second.startswith("## On record\n\n<!-- on record -->\n")
        assert second.endswith("\n<!-- end -->") and not [text for text in others if "on record -->" in text]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=STEMS)
def test_a_notebook_holds_what_the_tables_give_byte_for_byte(notebook):
    assert on_record.refreshed(notebook) == notebook.read_text(encoding="utf-8"), "run `make figures`"


def test_a_block_that_was_typed_is_written_again_and_nothing_else(tmp_path):
    source = NOTEBOOKS[0].read_text(encoding="utf-8")
    typed = re.sub(r"a client of DML sends [\d,]+ bytes", "a client of DML sends 1 byte", source)
    assert typed != source
    for notebook in NOTEBOOKS:
        shutil.copy(notebook, tmp_path)
    (tmp_path / NOTEBOOKS[0].name).write_text(typed, encoding="utf-8")
    on_record.refresh(tmp_path)
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in NOTEBOOKS)


def test_a_notebook_without_a_place_for_it_is_refused(tmp_path):
    (tmp_path / "00_quickstart.ipynb").write_text('{"cells": [{"cell_type": "code", "source": []}]}')
    with pytest.raises(DataError, match=r"00_quickstart\.ipynb has 0 cells"):
        on_record.refreshed(tmp_path / "00_quickstart.ipynb")


def test_pictures_are_committed_and_described():
    blocks = on_record.blocks()
    assert list(blocks) == STEMS
    for notebook, block in blocks.items():
        if not (FIGURES / f"{on_record.FINDINGS[notebook].picture}.txt").is_file():  # a study's, which is to come
            assert notebook[:2] in ("05", "06", "07", "08") and "![" not in block
            continue
        pictures = re.findall(r"!\[([^]]+)\]\(\.\./figures/(\S+)\)", block)
        assert f"{on_record.FINDINGS[notebook].picture}.png" in dict(map(reversed, pictures))
        assert all(len(shown.split()) >= 4 and (FIGURES / picture).is_file() for shown, picture in pictures)


# -- they follow from the tables --------------------------------------------------------------------------------------


def scaled(column, factor, **where):
    """Multiply a column where others have a value."""

    def alter(table):
        chosen = (table[list(where)] == pd.Series(where)).all(axis=1)
        assert chosen.any()
        return table.assign(**{column: table[column].where(~chosen, table[column] * factor)})

    return alter


def moved(arm, points):
    """Add points to an arm's unseen accuracy."""

    def alter(table):
        chosen = (table["arm"] == arm) & table["metric"].isin([LAST, LATE])
        return table.assign(value=table["value"] + chosen * points / 100)

    return alter


@pytest.mark.parametrize(
    ("stem", "run", "table", "alter"),
    [
        ("00_quickstart", PAPER, "bandwidth_ladder", scaled("up", 2, arm="dml")),
        ("00_quickstart", PAPER, "bandwidth_ladder", scaled("down", 2, arm="fedavg")),
        ("01_data_split", PAPER, "images", scaled("value", 9, measure="sharpness", set="unseen", **{"class": "mask"})),
        ("01_data_split", PAPER, "images", scaled("value", 2, measure="count", set="train", **{"class": "mask"})),
        ("02_dml_vs_fedavg", PAPER, "results", moved("dml", 2)),
        ("02_dml_vs_fedavg", PAPER, "results", moved("dml-one-term", 2)),
        ("02_dml_vs_fedavg", REDUCED, "results", moved("fedavg", 2)),
        ("03_privacy_probes", PAPER, "privacy_differences", scaled("low", -1, dial="as trained", minus="losses")),
        ("04_bandwidth", PAPER, "bandwidth_ladder", scaled("up", 2, arm="dml")),
        ("04_bandwidth", PAPER, "bandwidth_ladder", scaled("setup", 2, arm="dml")),
        ("02_dml_vs_fedavg", "studies/published", "results", moved("dml", 6)),
        ("09_claims", "studies/published", "results", moved("dml", -6)),
        ("02_dml_vs_fedavg", "studies/reduced", "results", moved("dml", 6)),
        ("09_claims", "studies/reduced", "results", moved("dml", 6)),
        ("09_claims", REDUCED, "bandwidth_ladder", scaled("up", 1e6, arm="dml")),
        ("09_claims", PAPER, "privacy_differences", lambda table: table.assign(low=-0.1, high=0.1)),
    ],
)
def test_another_table_gives_another_text(stem, run, table, alter, changed):
    assert on_record.block(stem, changed(run, table, alter)) != recorded(stem)


def test_a_sentence_about_accuracy_says_where_the_interval_lies(changed):
    before = recorded("02_dml_vs_fedavg")
    assert before.count("on both sides of zero") == 3 and "not excluded" not in before
    after = on_record.block("02_dml_vs_fedavg", changed(PAPER, "results", moved("dml", 2)))
    assert after.count("on both sides of zero") == 2 and "above zero" in after and after.count("not excluded") == 1
    assert "(one run) is not excluded; for" in after  # DML's own, not the one-term form's


def test_a_sentence_about_privacy_says_who_learns_more(changed):
    assert re.search(r"FedAvg's weights learns more .+\*peer\* of FedAvg, .+ learns less", recorded(STEMS[3]))
    turned = changed(PAPER, "privacy_differences", lambda table: table.assign(low=-table["high"], high=-table["low"]))
    assert re.search(
        r"FedAvg's weights learns less .+\*peer\* of FedAvg, .+ learns more", on_record.block(STEMS[3], turned)
    )
    unsure = changed(PAPER, "privacy_differences", lambda table: table.assign(low=-0.1, high=0.1))
    assert on_record.block(STEMS[3], unsure).count("learns neither surely more nor less") == 2


def test_a_missing_number_is_an_error_and_no_word(changed):
    lost = changed(PAPER, "bandwidth_ladder", lambda table: table.assign(up=float("nan")))
    with pytest.raises(DataError, match="00_quickstart: the recorded tables lack a number"):
        on_record.block("00_quickstart", lost)


# -- their numbers, computed another way ------------------------------------------------------------------------------


def test_the_numbers_about_accuracy():
    parts = [part for part in recorded("02_dml_vs_fedavg").split("\n\n") if "exploratory seeds.**" in part]
    for run, part in zip((PAPER, REDUCED), parts, strict=True):
        table = pd.read_csv(RECORDED / run / "results.csv")
        table = table[(table["metric"] == "unseen accuracy") & (table["round"] == table["round"].max())]
        means = table.groupby(["arm", "seed"])["value"].mean()
        difference = 100 * (means["dml"] - means["fedavg"])
        half = {8: 2.365, 20: 2.093}[len(difference)] * difference.std() / len(difference) ** 0.5  # of a t table
        told = re.search(r"n = (\d+) .*?in points: (\S+) \[(\S+), (\S+)\] \(95 %\)", part).groups()
        assert [float(number) for number in told] == pytest.approx(
            [len(difference), difference.mean(), difference.mean() - half, difference.mean() + half], abs=0.006
        )
    assert "published difference of +1.79 (one run)" in recorded("02_dml_vs_fedavg")  # 94.45 less 92.65, unrounded


def test_the_numbers_about_bytes():
    table = pd.read_csv(RECORDED / PAPER / "bandwidth_traffic.csv")
    rounds = table[table["round"] > 0].groupby(["arm", "direction"])["encoded"].sum() / (3 * 12)
    setup = table[table["round"] == 0].groupby("arm")["encoded"].sum() / 3
    dml, fedavg = rounds["dml"].sum(), rounds["fedavg"].sum()
    block = recorded("04_bandwidth")
    assert f"{dml:,.0f} bytes in a round, one of FedAvg {fedavg:,.0f}: {fedavg / dml:,.0f} times" in block
    run, other = 12 * dml + setup["dml"], 12 * fedavg + setup["fedavg"]
    assert f"{run / 1e6:.1f} MB against {other / 1e6:.1f} MB: {other / run:.2f} times" in block
    forwarded = 5 * rounds["dml", "up"]  # its own message up, four of its peers' down
    assert f"{forwarded:,.0f} bytes (calculated from the same messages): FedAvg's is {fedavg / forwarded:,.0f}" in block
    up, down = (f"{rounds['dml', way]:,.0f}" for way in ("up", "down"))
    assert f"sends {up} bytes" in recorded("00_quickstart") and f"gets {down} from" in recorded(STEMS[0])


def test_the_probability_of_being_sharper():
    tables = {
        part: pd.DataFrame(
            [(part, name, "sharpness", None, value) for name, values in classes.items() for value in values]
            + [(part, name, "count", None, len(values)) for name, values in classes.items()],
            columns=["set", "class", "measure", "quantile", "value"],
        )
        for part, classes in {"a": {"x": [1, 4], "y": [2, 3]}, "b": {"x": [5, 2], "y": [1, 2]}}.items()
    }
    assert style.sharper(tables["a"], "a") == (0.5, "2 and 2")
    assert style.sharper(tables["b"], "b") == ((2 + 1 + 0.5) / 4, "2 and 2")


def test_the_counts_of_verdicts_are_those_of_its_table():
    block = recorded("09_claims")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines() if line[:2] == "| "]
    assert rows[0][3:] == ["published protocol", "reduced protocol"] and len(rows) > 7
    for column, part in enumerate(block.split("\n\n")[:2], 3):
        told = {
            words: int(count) for count, words in re.findall(r"(\d+) ([a-z ]+)[,.]", part.partition("answers: ")[2])
        }
        answers = [row[column] for row in rows[1:] if row[column] != "not asked"]
        assert told == pd.Series(answers).value_counts().to_dict() and f"Of {len(answers)} answers" in part


# -- the notebooks' own text ------------------------------------------------------------------------------------------


def sentences(text):
    """The sentences of a Markdown cell, without comments, tables, formulas and pictures."""
    text = re.sub(r"<!--.*?-->|\$\$.*?\$\$|!\[[^]]*\]\([^)]*\)", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"^\|.*$", "\n", text, flags=re.MULTILINE)
    for part in re.split(r"\n\s*\n|\n(?=- )|\n(?=#)", text):
        yield from filter(None, re.split(r"(?<=[.!?])(?:\*\*)?\s+", " ".join(part.split())))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=STEMS)
def test_sentences_are_short_and_readings_send_nobody_looking(notebook):
    told = [sentence for text in texts(notebook) for sentence in sentences(text)]
    assert len(told) > 15 and [sentence for sentence in told if len(sentence.split()) > 35] == []
    assert not [sentence for sentence in told if re.search(r"\b(look whether|see whether|compare)\b", sentence, re.I)]


def test_nothing_is_said_to_be_older_than_the_runs_but_the_plans():
    for notebook in NOTEBOOKS:
        whole = " ".join(texts(notebook))
        assert "before the runs" not in whole and ("before its confirmatory seeds" not in whole or "plan" in whole)


def test_the_parameters_cell_explains_every_parameter_and_names_every_profile():
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        (source,) = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        names = [statement.targets[0].id for statement in ast.parse(source).body]
        assert len(source.splitlines()) == len(names) and max(map(len, source.splitlines())) <= 120
        assert re.findall(r"^(\w+) = \S.*  # \S", source, re.MULTILINE) == names
        known = papermill.inspect_notebook(str(notebook))
        assert list(known) == names and all(each["help"] for each in known.values())
        told = known["profile"]["help"]
        assert re.findall(r'"(\w+)"', told) == list(PROFILES)
        for name, words in re.findall(r'"(\w+)", ([^;:]+)', told):
            assert re.search(rf"\b{PROFILES[name].seeds} seeds?\b", words)
            assert f"{PROFILES[name].experiment.rounds} rounds" in words


def test_the_reading_of_the_paper_is_short_and_its_paths_are_there():
    (section,) = [text for text in texts(NOTEBOOKS[2]) if text.startswith("## What we found in the paper")]
    bullets = section.split("\n- ")[1:]
    assert 6 <= len(bullets) <= 12
    paths = re.findall(r"`(dml/[\w/.]*)`", section)
    assert len(paths) >= 4 and all((on_record.NOTEBOOKS.parent / path).exists() for path in paths)


def test_confirmatory_seeds_decide_in_the_notebooks_as_in_the_readme():
    decided, blocks = findings.confirmed(), on_record.blocks()
    assert decided
    rows = {row[0]: row[-2] for row in verdict_table.judged()}
    for protocol, one in decided.items():
        gap = interval((values(one.results, LATE)["dml"] - values(one.results, LATE)["fedavg"]).to_numpy())
        unseen = {"published": "all", "reduced": "2,000"}[protocol]
        told = f"**The {gap.n} confirmatory seeds of the {protocol} protocol decide** (facemask ({unseen} unseen)). "
        assert told in blocks["02_dml_vs_fedavg"]
        assert f"DML minus FedAvg {100 * gap.mean:+.2f} [" in blocks["02_dml_vs_fedavg"].partition(told)[2]
        for arm in ("local+public", "fedavg+public"):
            matched = 100 * (values(one.results, LATE)["dml"] - values(one.results, LATE)[arm]).mean()
            assert f"`{arm}` {matched:+.2f} [" in blocks["02_dml_vs_fedavg"].partition(told)[2]
        last = per_seed(one.results, LAST)
        number = f"{100 * (last['dml'] - last['fedavg']).mean():+.2f} ["
        assert f"at the last round alone, the published way, {number}" in blocks["02_dml_vs_fedavg"].partition(told)[2]
        assert f"n = {gap.n} confirmatory seeds of " in blocks["09_claims"]
        (line,) = re.findall(r"\| C1 \|  \| .*", blocks["09_claims"])
        answer = line.strip("| ").split(" | ")[-2 if protocol == "published" else -1]
        (said,) = (words for claim, words in rows.items() if claim.startswith("More accurate on unseen images"))
        assert f"{protocol}: {answer}" in said or said == f"**{answer}**"


def test_newcomers_are_told_against_the_arm_with_the_same_labels_too():
    gaps = generalisation.recorded("gaps")
    rows = gaps[(gaps["form"] == "measured") & (gaps["way"] == "pooled") & (gaps["asked"] == study.OWN)]
    rows = rows[rows["label_alpha"] == gaps["label_alpha"].min()]
    told = on_record.blocks()["08_generalisation"].partition("the same public labels (no verdict): ")[2]
    for gap in (study.OUT_OF_SAMPLE, study.PARTICIPATION):
        wide = rows[rows["gap"] == gap].pivot(index="seed", columns="arm", values="value")
        assert f" {100 * (wide['dml'] - wide['fedavg+public']).mean():+.2f} [" in told


def test_the_question_that_repeats_another_says_so():
    answers = games.answers(games.recorded()).iloc[[0, -1]]
    told = on_record.blocks()["03_privacy_probes"]
    assert answers["mean"].sum() == pytest.approx(0)
    assert f"**{answers['answer'].iloc[1]}** (by construction the first row with its sign turned)" in told
    assert told.count("with its sign turned") == 1
