"""The README prints what `make figures` regenerates from the recorded runs, and nothing else."""

import hashlib
import re

import pytest

from dml import redraw
from dml.config import FIGURES, ROOT
from dml.plots import About

README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS = {folder.name: folder for folder in redraw.recorded()}


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("run", RUNS)
def test_tables_of_the_readme_are_those_of_the_recorded_run(run):
    texts = redraw.texts(RUNS[run], About.read(RUNS[run]))
    blocks = dict(re.findall(rf"<!-- (\w+): {run} -->\n(.*?)<!-- end -->", README, re.DOTALL))
    assert set(blocks) == set(texts) and texts  # each is shown
    assert blocks == texts


def test_the_wire_of_the_readme_is_the_recorded_one():
    block = re.search(r"<!-- wire -->\n(.*?)<!-- end -->", README, re.DOTALL).group(1)
    assert block == (FIGURES / "wire.md").read_text(encoding="utf-8")
    assert block.count("\n") > 3  # three arms at least


def test_figures_are_rebuilt_byte_for_byte(tmp_path):
    """`make figures`: every file of figures/ and no other. Only the pinned versions draw the same bytes."""
    redraw.redraw_recorded(tmp_path)
    assert contents(tmp_path) == contents(FIGURES)


def test_every_picture_of_the_readme_is_there_with_its_caption():
    pictures = re.findall(r"!\[([^]]*)\]\(([^)]+)\.png\)", README)
    assert len(pictures) >= 5
    for alternative, picture in pictures:
        assert (ROOT / f"{picture}.png").is_file()
        assert alternative == (ROOT / f"{picture}.txt").read_text(encoding="utf-8").strip()
