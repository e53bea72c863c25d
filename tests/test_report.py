"""The web pages of a run, opened in a real browser that is told of every request."""

import base64
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dml.config import RECORDED, ROOT
from dml.evidence import verdicts
from dml.pipeline.report import key_figures, report, without
from dml.plots.lesson import one_round

FACTS = {"title": "a <test>", "seeds": [0, 3], "device": "cpu", "commit": "abc", "stages_s": {"01_first": 1.5}}
VERDICTS = pd.DataFrame(
    [
        ("C1", "", "more", "", "`a`", "", "a long `text`", "09_x", "n = 3: `a` & b 1.5; c 2.5"),
        ("C4", "as published", "private", "this", "", "that", "another", "03_y", "0.1"),
    ],
    columns=verdicts.COLUMNS,
)
TABLES = ("results", "bandwidth_ladder", "privacy_verdict")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The report of two small notebooks: a formula, a figure, a table; and a cell for a kernel only."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "notebooks").mkdir()
    for name in TABLES:
        shutil.copy(RECORDED / "paper-facemask" / f"{name}.csv", folder)
    lesson = pd.DataFrame(
        {"client": [0, 1], "before": [0.5, 0.6], "labels only": [0.7, 0.65], "with peers": [0.8, 0.6]}
    )
    png, about = one_round(lesson, "a test")._repr_png_()
    shown = new_output("display_data", {"image/png": base64.b64encode(png).decode()}, metadata={"image/png": about})
    widget = new_output(
        "display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "IntSlider(3)"}
    )
    first = [
        new_markdown_cell("# First\n\n**Question.** What?\n\nWith $P_i$ and\n\n$$L_i = \\frac{1}{K-1}\\sum_j P_j$$"),
        new_markdown_cell("![sharp or not](../figures/paper-facemask/01_style_confound.png)"),
        new_code_cell(
            f'results = "{folder}"\nfigures = "{folder}/figures"\ndata = "/mnt/disk/my photos"',
            metadata={"tags": ["injected-parameters"]},
        ),
        new_code_cell(
            "print(1)",
            outputs=[
                new_output("stream", name="stdout", text=f"{folder}/a.csv of /mnt/disk/my photos/train\n"),
                new_output("stream", name="stderr", text=f"{ROOT}/dml/x.py: {Path.home()}/y.py: slow\n"),
                new_output("display_data", {"text/html": f"<b>{folder}</b>", "text/plain": str(folder)}),
            ],
        ),
        new_code_cell("run.figure(1)", outputs=[shown]),
        new_code_cell("slide()", outputs=[widget], metadata={"tags": ["interactive"]}),
    ]
    for name, cells in {"01_first": first, "02_second": [new_markdown_cell("nothing")]}.items():
        nbformat.write(new_notebook(cells=cells), folder / "notebooks" / f"{name}.ipynb")
    return report(folder, FACTS, VERDICTS).parent


def test_the_index_leads_to_every_notebook_and_shows_the_verdicts(written, look):
    page = look(written / "index.html")
    assert page.locator("a").all_inner_texts() == ["First", "02_second"]
    assert "a <test>" in page.locator("p").first.inner_text() and "Seeds 0, 3" in page.locator("p").first.inner_text()
    rows = [row.locator("td").all_inner_texts() for row in page.locator("table").last.locator("tr").all()]
    assert rows[1:] == [
        ["C1", "more", "refuted", "n = 3: a & b 1.5", "09"],
        ["C4", "private, as published", "held in part", "0.1", "03"],
    ]
    page.get_by_text("First").click()
    assert page.title() == "First" and page.locator("h1").inner_text().startswith("First")
    page.get_by_text("All notebooks").click()
    assert page.title() == "a <test>"


def test_a_page_has_its_figure_its_formulas_and_no_output_that_needs_a_kernel(written, look):
    page = look(written / "01_first.html")
    committed, drawn = page.locator("img").all()
    assert committed.get_attribute("alt") == "sharp or not" and committed.get_attribute("src").startswith("data:")
    assert drawn.get_attribute("alt").startswith("Accuracy of every client on unseen images before")
    assert page.locator("math").count() == 2 and page.locator("math[display=block] mfrac").count() == 1
    assert "$" not in page.locator("body").inner_text() and "slide()" in page.locator("body").inner_text()
    assert "IntSlider" not in page.locator("body").inner_text()


def test_the_index_shows_the_runs_key_figures(written, look):
    page = look(written / "index.html")
    rows = [row.locator("td").all_inner_texts() for row in page.locator("table").first.locator("tr").all()]
    accuracy, sizes, membership = rows[1:]
    table = pd.read_csv(written.parent / "results.csv")
    table = table[(table["metric"] == "unseen accuracy") & (table["round"] == table["round"].max())]
    means = 100 * table.groupby("arm")["value"].mean()
    assert [cell.split(" [")[0] for cell in accuracy[1:4]] == [
        f"{means[arm]:.2f}" for arm in ("dml", "fedavg", "local")
    ]
    assert all(re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", cell) for cell in accuracy[1:4]) and accuracy[4] == "8 seeds"
    assert sizes[1:] == ["983", "14,904,074", "0", "3 seeds"]  # 378 up and 605 down; a model up and down
    assert [cell[:4] for cell in membership[1:]] == ["0.57", "0.65", "", "128 "]
    assert "nan" not in page.locator("body").inner_text() and "`" not in page.locator("body").inner_text()


def test_a_run_without_the_tables_has_no_key_figures(tmp_path):
    assert key_figures(tmp_path) == []


def test_no_page_tells_where_on_its_machine_the_run_was_made(written):
    for page in written.glob("*.html"):
        text = re.sub(r"data:[\w/]+;base64,[A-Za-z0-9+/=]+", "", page.read_text(encoding="utf-8"))
        for place in (written.parent, ROOT, Path.home(), "/mnt/disk"):
            assert str(place) not in text or len(Path(place).parts) < 2
    shown = (written / "01_first.html").read_text(encoding="utf-8")
    run = written.parent.name
    for told in (f"{run}/a.csv of my photos/train", f"<b>{run}</b>", "./dml/x.py: ~/y.py: slow"):
        assert told in shown
    assert "my photos" in shown and f"{run}/figures" in shown


def test_a_place_is_a_whole_path():
    said = "/tmp/a /var/tmp/b ../tmp /tmp-c '/tmp' file:///tmp/d \x1b[0;32m/tmp/e.py\x1b[0m"
    notebook = new_notebook(cells=[new_code_cell(said)])
    without(notebook, {"/tmp": "T"})
    told = "T/a /var/tmp/b ../tmp /tmp-c 'T' file://T/d \x1b[0;32mT/e.py\x1b[0m"
    assert notebook.cells[0].source == told


def test_an_error_cell_would_be_found(look, tmp_path):
    """The check above can fail: an executed notebook that ended in an error shows it."""
    wrong = new_output("error", ename="ValueError", evalue="no", traceback=["\x1b[31mValueError\x1b[0m: no"])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("# x"), new_code_cell("1/0", outputs=[wrong])]),
        tmp_path / "notebooks" / "01_x.ipynb",
    )
    report(tmp_path, FACTS, VERDICTS)
    with pytest.raises(AssertionError):
        look(tmp_path / "report" / "01_x.html")
