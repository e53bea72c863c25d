"""The web pages of a run, opened in a real browser that is told of every request."""

import base64

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dml.pipeline.report import report
from dml.plots.lesson import one_round

FACTS = {"title": "a <test>", "seeds": [0, 3], "device": "cpu", "commit": "abc", "stages_s": {"01_first": 1.5}}
VERDICTS = pd.DataFrame([("C1", "more", "does not hold", "a & b", "05_x")]).set_axis(
    ["claim", "says", "verdict", "why", "figure"], axis=1
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The report of two small notebooks: a formula, a figure, a table; and a cell for a kernel only."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "notebooks").mkdir()
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
    assert "a & b" in page.locator("table").last.inner_text()
    page.get_by_text("First").click()
    assert page.title() == "First" and page.locator("h1").inner_text().startswith("First")
    page.get_by_text("All notebooks").click()
    assert page.title() == "a <test>"


def test_a_page_has_its_figure_its_formulas_and_no_output_that_needs_a_kernel(written, look):
    page = look(written / "01_first.html")
    assert page.locator("img").count() == 1 and "Means of the clients" in page.locator("img").get_attribute("alt")
    assert page.locator("math").count() == 2 and page.locator("math[display=block] mfrac").count() == 1
    assert "$" not in page.locator("body").inner_text() and "slide()" in page.locator("body").inner_text()
    assert "IntSlider" not in page.locator("body").inner_text()


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
