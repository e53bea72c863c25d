"""A run's folder: what it is about, and the tables in it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dml.config import Experiment
from dml.evidence.published import reported
from dml.files import DataError, read_table

RUNS = {"published": "paper-facemask", "reduced": "reduced-facemask"}  # the recorded ones, by the study of the plan


@dataclass(frozen=True)
class About:
    """What a figure or a sentence says of its run besides the tables."""

    experiment: Experiment
    data: str
    title: str
    classes: int = 2
    names: tuple[str, ...] = ()  # of the classes

    @classmethod
    def read(cls, folder: Path) -> "About":
        """From the manifest of a finished run. Raises DataError when there is none."""
        file = folder / "manifest.json"
        if not file.is_file():
            raise DataError(f"{folder} has no manifest.json; it must be the folder of a finished run (see `reproduce`)")
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            experiment = Experiment(**manifest["experiment"])
            return cls(
                experiment, manifest["data"], manifest["title"], len(manifest["classes"]), tuple(manifest["classes"])
            )
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{file} was not written by this version of `reproduce` ({error!r})") from error

    @property
    def positive(self) -> str:
        """The class that precision, recall and shares are of, in words."""
        return f"“{self.names[1]}”" if len(self.names) == 2 else "class 1"

    @property
    def reported(self) -> pd.DataFrame:
        """What the paper reports for such a run (see `published.reported`)."""
        return reported(self.data, self.experiment)


def read(folder: Path, name: str) -> pd.DataFrame:
    """A table of a run."""
    return read_table(folder / f"{name}.csv")


def has(folder: Path, names: Sequence[str]) -> bool:
    """Whether a run has all these tables."""
    return all((folder / f"{name}.csv").is_file() for name in names)


def read_all(folder: Path, names: Sequence[str]) -> Any:
    """These tables of a run, a list; None when it lacks one of them."""
    return [read(folder, name) for name in names] if has(folder, names) else None
