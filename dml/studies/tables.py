"""Tables of studies: rows are added seed by seed, and equal tables are equal bytes."""

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock

from dml import config
from dml.files import read_table, replacing, write_text
from dml.training import machine


def add(
    file: Path, rows: pd.DataFrame, key: Sequence[str], place: Callable[[pd.DataFrame], pd.Series] | None = None
) -> None:
    """Put rows into a table (CSV or CSV.gz) and take out what it had of the same keys, a killed run's half. The table
    is in the order of the keys, or of what `place` says of each row.
    """
    names = list(key)
    with changing(file):
        old = _read(file, names) if file.is_file() else rows.iloc[:0]
        left = old[~pd.MultiIndex.from_frame(old[names]).isin(pd.MultiIndex.from_frame(rows[names]))]
        table = pd.concat([left, rows], ignore_index=True) if len(left) else rows
        order = place(table).argsort(kind="stable") if place else None
        table = table.iloc[order] if order is not None else table.sort_values(names, kind="stable")
        content = table.to_csv(index=False).encode()
        with replacing(file) as part:  # without its time and name inside, equal tables are equal bytes
            part.write_bytes(gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)


def changing(file: Path) -> FileLock:
    """Keep a file to this process while it is read, changed and written: two that add seeds at a time would lose rows.
    The lock is in the cache, as git keeps all that is beside the file.
    """
    return FileLock(config.CACHE / "locks" / hashlib.sha256(bytes(file.resolve())).hexdigest()[:20])


def there(file: Path, key: Sequence[str]) -> set[tuple]:
    """The keys of the rows in a table; none where there is no table."""
    return set(_read(file, key)[list(key)].itertuples(index=False, name=None)) if file.is_file() else set()


def manifest(folder: Path, facts: Mapping[str, Any], device: torch.device) -> None:
    """Write what a study's tables are of, and the machine that added to them last."""
    write_text(folder / "manifest.json", json.dumps({**facts, **machine.facts(device)}, indent=1) + "\n")


def _read(file: Path, key: Sequence[str]) -> pd.DataFrame:
    """A table; in its keys an empty cell is an empty text and no missing value."""
    table = read_table(file)
    empty = [name for name in key if table[name].isna().any()]
    return table.astype(dict.fromkeys(empty, object)).fillna(dict.fromkeys(empty, ""))
