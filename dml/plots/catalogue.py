"""Every figure by name, drawn from the tables of a run's folder."""

from pathlib import Path

from safetensors.torch import load_file

from dml.evidence.about import About, has, read
from dml.plots import (
    arms,
    bandwidth,
    claims,
    costs,
    crowd,
    data,
    failures,
    generalisation,
    hostile,
    leaks,
    lesson,
    melting,
    mixed,
    overview,
    privacy,
    skew,
    training,
    waterfall,
)
from dml.plots.style import FIGURES, Drawn

ROOMS = (  # imported: each adds its figures to FIGURES
    *(lesson, data, training, arms, failures, privacy, leaks),
    *(overview, melting, bandwidth, costs, skew, mixed, hostile, crowd, generalisation, waterfall, claims),
)
PICTURES = "reconstructions"  # private images and what was recovered of them: not a table, and never recorded of people
RECONSTRUCTION = "03_reconstruction"


def reconstruction(folder: Path, about: About) -> Drawn:
    """The recovered images of a run beside the private ones."""
    pictures = load_file(folder / f"{PICTURES}.safetensors")
    return leaks.reconstruction(pictures, read(folder, "privacy_reconstruction"), about.title)


def draw(name: str, folder: Path, about: About) -> Drawn:
    """The named figure, from the tables in a run's folder that it needs (`FIGURES` says which)."""
    if name == RECONSTRUCTION:
        return reconstruction(folder, about)
    recipe = FIGURES[name]
    tables = (read(folder, table) for table in recipe.tables)
    return recipe.draw(*tables, *(getattr(about, fact) for fact in recipe.facts))


def present(folder: Path) -> list[str]:
    """The figures that a folder has the tables of."""
    names = [name for name, recipe in FIGURES.items() if has(folder, recipe.tables)]
    return names + ([RECONSTRUCTION] if (folder / f"{PICTURES}.safetensors").is_file() else [])
