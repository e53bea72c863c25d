"""The README and figures/ are what `make figures` makes from the recorded runs, and nothing else."""

import hashlib
import re

import pytest

from dml.config import FIGURES, README
from dml.evidence import markdown
from dml.evidence.about import About
from dml.pipeline import redraw

TEXT = README.read_text(encoding="utf-8")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_figures_are_rebuilt_byte_for_byte(tmp_path):
    """Every file of figures/ and no other. (Only the pinned versions draw the same bytes.)"""
    redraw.redraw_recorded(tmp_path)
    assert contents(tmp_path) == contents(FIGURES)


def test_the_readme_shows_every_text_of_every_recorded_run_as_it_is():
    shown = {(name, run) for _, name, run in redraw.BLOCK.findall(TEXT)}
    there = {(name, folder.name) for folder in redraw.recorded() for name in markdown.texts(folder, About.read(folder))}
    assert shown == there | {("wire", "")} and len(there) >= 6
    assert redraw.refreshed(TEXT) == TEXT


def test_a_changed_table_or_caption_would_be_seen():
    for text in (TEXT.replace("| `dml` |", "| `dml` | 99 ", 1), TEXT.replace("![", "![x", 1)):
        assert text != TEXT and redraw.refreshed(text) == TEXT


def test_the_readme_shows_figures_that_are_there():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", TEXT)
    assert len(pictures) >= 5 and all((README.parent / picture).is_file() for picture in pictures)
    assert len(pictures) == len(redraw.PICTURE.findall(TEXT)), "a picture without its caption"


def test_a_text_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        redraw.refreshed("<!-- claims: nowhere -->\n<!-- end -->", tmp_path)
