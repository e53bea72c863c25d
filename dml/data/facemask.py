"""The author's face-mask photographs: find them, check them against the manifest, fetch them.

The manifest names each of the 9,820 images with its size and SHA-256 and is the only authority: nothing else
is loaded, and nothing is written before its bytes were checked.
"""

from __future__ import annotations

import csv
import hashlib
import os
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from dml.config import ROOT
from dml.data.folders import ImageFile, visible
from dml.files import DataError, listing
from dml.progress import counted

MANIFEST = ROOT / "data/facemask_manifest.csv"
HOME = ROOT / "data/facemask"
COMMIT = "999d455537b5b47f88b808a29e5f2244ff38b55c"
SOURCE = (
    "https://github.com/yashgupta1999/Federated_Learning_Framework_via_Distributed_Mutual_Learning"
    f"/archive/{COMMIT}.tar.gz"
)
LABELS = ("mask", "no_mask")  # as the manifest writes them; the position is the label
CLASSES = ("mask", "no mask")
COPY_SIZE = (100, 100)
ORIGINALS, COPY, NEITHER = "originals", "re-encoded 100x100 copy", "neither"


class Row(NamedTuple):
    """One image of the manifest; bytes, sha256, width and height are those of the author's original."""

    split: str
    label: str
    path: str
    bytes: int
    git_blob_sha1: str
    sha256: str
    width: int
    height: int
    mode: str


@dataclass(frozen=True)
class Report:
    """A folder against the manifest: the kind of its files, how many fit, and the paths that do not.

    kind: what most files are (ORIGINALS, COPY or NEITHER). `extra` files are harmless: they are never loaded.
    """

    kind: str
    total: int
    fitting: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    altered: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.fitting == self.total

    def __str__(self) -> str:
        count = f"{self.fitting:,} of {self.total:,}"
        if self.kind == ORIGINALS:
            return f"author's originals, {count} verified"
        if self.kind == COPY:
            return f"{COPY}, {f'{self.total:,}' if self.ok else count} files"
        return f"neither the author's originals nor the {COPY}, {count} files fit"

    def summary(self) -> str:
        """One sentence, and a line for each kind of deviation with its first five paths."""
        groups = {"missing": self.missing, "altered": self.altered, "extra (ignored)": self.extra}
        return "\n".join([str(self), *(f"{len(p):,} {name}: {listing(p)}" for name, p in groups.items() if p)])


def find() -> Path:
    """Folder with Global/ and Test/: $DML_DATA, else data/facemask, else ../shared/data/facemask.

    Raises DataError when there is none, or when $DML_DATA names a folder without them.
    """
    if chosen := os.environ.get("DML_DATA"):
        if not _holds_photographs(Path(chosen)):
            raise DataError(f"DML_DATA={chosen} must name a folder that holds Global/ and Test/")
        return Path(chosen)
    for folder in (HOME, ROOT / "../shared/data/facemask"):
        if _holds_photographs(folder):
            return folder.resolve()
    raise DataError(
        "the face-mask photographs are not here: run `make fetch`, "
        "or set DML_DATA to a folder that holds Global/ and Test/"
    )


def _holds_photographs(folder: Path) -> bool:
    return (folder / "Global").is_dir() and (folder / "Test").is_dir()


def read_manifest() -> list[Row]:
    """The rows of data/facemask_manifest.csv, in its order: by folder, then by path."""
    with MANIFEST.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = ("bytes", "width", "height")
    return [Row(*(int(row[name]) if name in numbers else row[name] for name in Row._fields)) for row in rows]  # type: ignore[arg-type]  # by name


def entries(folder: Path) -> list[list[ImageFile]]:
    """Images of the training and of the unseen set in `folder`, in manifest order, with their original sizes.

    Originals and re-encoded copy give the same images in the same order.
    Raises DataError naming the missing images.
    """
    present, missing, _ = _match(folder, read_manifest())
    if missing:
        raise DataError(f"{folder} lacks {len(missing):,} images: {listing(missing)}; run `make fetch`")
    return [
        [
            ImageFile(path.relative_to(folder).as_posix(), path, LABELS.index(row.label), (row.width, row.height))
            for row, path in present
            if row.split == split
        ]
        for split in ("train", "unseen")
    ]


def _match(folder: Path, rows: list[Row]) -> tuple[list[tuple[Row, Path]], list[str], list[str]]:
    """(found, missing, extra). The re-encoded copy holds Test/*.png as .jpg; some disks decompose accents."""
    present = {
        unicodedata.normalize("NFC", f"{top}/{name}"): path
        for top in ("Global", "Test")
        if (folder / top).is_dir()
        for name, path in visible(folder / top).items()
    }
    named = {row.path for row in rows}
    pairs, missing = [], []
    for row in rows:
        copy = str(PurePosixPath(row.path).with_suffix(".jpg"))
        path = present.pop(row.path, None) or (None if copy in named else present.pop(copy, None))
        if path:
            pairs.append((row, path))
        else:
            missing.append(row.path)
    return pairs, missing, sorted(present)


def verify(folder: Path) -> Report:
    """Compare every file under folder/Global and folder/Test with the manifest, by size and SHA-256.

    The re-encoded copy has no checksums: its files have to open as 100x100 images. A file that is not of the
    kind of most files counts as altered.
    """
    rows = read_manifest()
    pairs, missing, extra = _match(Path(folder), rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda pair: _kind(*pair), pairs)
        kinds = list(counted(results, "verifying", len(pairs), "file"))
    counts = Counter(kinds)
    kind = max((ORIGINALS, COPY), key=counts.__getitem__)
    kind = kind if counts[kind] else NEITHER
    altered = [row.path for (row, _), got in zip(pairs, kinds, strict=True) if got != kind or got == NEITHER]
    fitting = len(pairs) - len(altered)
    return Report(kind, len(rows), fitting, tuple(missing), tuple(extra), tuple(altered))


def _kind(row: Row, path: Path) -> str:
    if original(row, path):
        return ORIGINALS
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            return COPY if image.size == COPY_SIZE else NEITHER
    except (OSError, SyntaxError, ValueError):
        return NEITHER


def original(row: Row, path: Path) -> bool:
    """Whether a file is the one that the manifest describes."""
    if not path.is_file() or path.stat().st_size != row.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == row.sha256
