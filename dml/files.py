"""Files written in one step, tables read as they were written, and the error that names a file which cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pandas as pd


class DataError(ValueError):
    """Data that cannot be used; the text names the file, count or value and what would be right."""


TEXT = (  # columns of our tables that hold names, some of them the user's: never guessed to be anything else
    *("adversary", "against", "arm", "attack", "candidates", "class", "commit", "defence", "dial", "direction", "kind"),
    *("link", "measure", "metric", "minus", "phase", "processor", "set", "topology", "verdict", "view", "what"),
    *("vector", "mask", "own_losses", "net_losses"),  # digits
)


def read_table(file: Path) -> pd.DataFrame:
    """A table that this project wrote, names as they are: a class may be called 01, True or NA. A cell that was left
    empty is a missing value in any column.
    """
    return pd.read_csv(file, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=[""])


def listing(items: Iterable[str], most: int = 5) -> str:
    """The first `most` items in one line, and how many more there are."""
    items = list(items)
    return ", ".join(items[:most]) + (f" and {len(items) - most:,} more" if len(items) > most else "")


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A scratch path beside `file`, which takes its place if the block succeeds and vanishes if it does not.

    Raises DataError naming `file` when the disk is full or not writable.
    """
    part = file.with_name(f".part-{uuid4().hex}")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """What the system refuses in the block becomes a DataError that names `file`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write {file} ({error}); make room or choose a folder you may write to") from error


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text in one step (see `replacing`)."""
    with replacing(file) as part:
        part.write_text(text, encoding="utf-8")
