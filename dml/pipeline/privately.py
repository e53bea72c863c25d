"""The figures and pages of the studies of privacy: adversaries, defences at equal strength, pictures."""

from pathlib import Path

import pandas as pd

from dml.evidence import defences, defences_text, games, games_text, reconstruction
from dml.plots import leaks
from dml.plots.adversaries import by_adversary
from dml.plots.defences import leak_and_accuracy
from dml.plots.style import widths
from dml.training.workers import Task


def tasks(to: Path) -> list[Task]:
    """What is to be drawn of those on record."""
    found = {
        draw_adversaries: games.recorded(),
        draw_defences: defences.recorded(),
        draw_pictures: reconstruction.drawn(),
    }
    return [Task(draw, (record, to)) for draw, record in found.items() if record is not None]


def texts() -> dict[str, str]:
    """The pages, by name."""
    return {
        "adversaries": games_text.text(),
        "defences": defences_text.text(),
        "reconstruction": reconstruction.text(),
    }


def draw_adversaries(rates: pd.DataFrame, to: Path) -> None:
    """What every adversary finds."""
    for width, folder in widths(to):
        by_adversary(rates, "facemask, games of data/plan_privacy.md", width).save(folder, games_text.FIGURE)


def draw_defences(tables: tuple[pd.DataFrame, pd.DataFrame], to: Path) -> None:
    """Leakage against accuracy at every point."""
    leak_and_accuracy(*tables, "facemask, games of data/plan_defences.md").save(to, defences_text.FIGURE)


def draw_pictures(kept: tuple[dict, pd.DataFrame], to: Path) -> None:
    """Drawn faces and what attacks made of them."""
    title = "drawn faces, victims of data/plan_reconstruction.md"
    leaks.reconstruction(*kept, title).save(to, reconstruction.FIGURE)
