"""The README prints what `make figures` regenerates from the recorded runs, and nothing else."""

import re

import pytest

from dml import plots
from dml.config import RECORDED, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLES = {"claims": "results.csv", "privacy": "privacy_verdict.csv", "bandwidth": "bandwidth_ladder.csv"}
RUNS = [path.parent.name for path in sorted(RECORDED.glob("*/manifest.json"))]


def test_there_are_recorded_runs_and_the_readme_shows_each():
    assert "paper-facemask" in RUNS
    for kind, table in TABLES.items():
        shown = re.findall(rf"<!-- {kind}: (\S+) -->", README)
        assert shown == [run for run in RUNS if (RECORDED / run / table).is_file()] and shown


@pytest.mark.parametrize("run", RUNS)
def test_tables_of_the_readme_and_committed_figures_are_those_of_the_recorded_run(run, tmp_path):
    names = plots.redraw(RECORDED / run, tmp_path)
    texts = [path.name for path in tmp_path.glob("*.md")]
    for text in texts:
        kind = text.removesuffix(".md")
        block = re.search(rf"<!-- {kind}: {run} -->\n(.*?)<!-- end -->", README, re.DOTALL).group(1)
        assert block == (tmp_path / text).read_text(encoding="utf-8")
    for name in [*(f"{name}.csv" for name in names), *texts]:
        assert (ROOT / "figures" / run / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_the_wire_of_the_readme_is_the_recorded_one(tmp_path):
    plots.redraw_wire(tmp_path)
    block = re.search(r"<!-- wire -->\n(.*?)<!-- end -->", README, re.DOTALL).group(1)
    assert block == (tmp_path / "wire.md").read_text(encoding="utf-8") == (ROOT / "figures" / "wire.md").read_text()
    assert block.count("\n") > 3  # three arms at least


def test_every_picture_of_the_readme_is_there():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)
