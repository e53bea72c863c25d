"""Folders of images before they are pixels: which images there are, of which class, and which of them to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dml.files import DataError, listing

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
HOUSEKEEPING = {"thumbs.db", "desktop.ini"}  # hidden by an attribute on Windows, not by a leading dot


@dataclass(frozen=True)
class ImageFile:
    """One image on disk: its name in the data set, where it lies, its label, its original size if known."""

    name: str
    path: Path
    label: int
    size: tuple[int, int] | None = None


def visible(folder: Path) -> dict[str, Path]:
    """Every file at any depth of `folder` by its posix path in it, without hidden and housekeeping files."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    named = ((path.relative_to(folder), path) for path in paths)
    return {name.as_posix(): path for name, path in named if not any(map(hidden, name.parts))}


def hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in HOUSEKEEPING


def class_folders(folder: Path) -> tuple[tuple[str, ...], list[list[ImageFile]]]:
    """Class names, sorted, and the entries of folder/train/<class>/... and of folder/unseen/<class>/... .

    Every visible file has to be an image: what is left out silently is found out too late (the published
    run lost six images to a filter on extensions). Raises DataError naming what does not fit.
    """
    names = []
    for split in ("train", "unseen"):
        if not (folder / split).is_dir():
            raise DataError(f"{folder} has no folder {split}/; it must hold train/<class>/ and unseen/<class>/")
        inside = [path for path in (folder / split).iterdir() if not hidden(path.name)]
        if stray := sorted(path.name for path in inside if not path.is_dir()):
            raise DataError(f"{folder / split / stray[0]} is in no class; move it into {split}/<class>/")
        names.append({path.name for path in inside})
    train, unseen = names
    if train != unseen:
        only = [listing(sorted(names)) or "none" for names in (train - unseen, unseen - train)]
        raise DataError(
            f"{folder}: train/ and unseen/ must hold the same classes; "
            f"only in train/: {only[0]}; only in unseen/: {only[1]}"
        )
    if len(train) < 2:
        raise DataError(f"{folder}/train holds {len(train)} class folders; at least 2 are needed")
    classes = tuple(sorted(train))
    return classes, [
        [entry for label, name in enumerate(classes) for entry in _class_entries(folder, f"{split}/{name}", label)]
        for split in ("train", "unseen")
    ]


def _class_entries(folder: Path, inside: str, label: int) -> list[ImageFile]:
    paths = visible(folder / inside)
    if odd := sorted(f"{inside}/{name}" for name, path in paths.items() if path.suffix.lower() not in SUFFIXES):
        known = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{folder}: not images by their extension: {listing(odd)}; known are {known}")
    if not paths:
        raise DataError(f"{folder / inside} holds no image; every class needs at least one")
    return [ImageFile(f"{inside}/{name}", path, label) for name, path in sorted(paths.items())]


def subset(entries: Sequence[ImageFile], count: int, classes: int, seed: Sequence[int]) -> list[ImageFile]:
    """`count` entries (0: all), evenly per class; what a small class lacks goes to the larger ones.

    The choice is drawn from `seed` and a larger count contains a smaller one, class by class.
    """
    if count == 0 or count >= len(entries):
        return list(entries)
    if count < classes:
        raise DataError(f"{count} images cannot cover {classes} classes; take at least {classes}, or 0 for all")
    groups = [[entry for entry in entries if entry.label == label] for label in range(classes)]
    chosen: list[ImageFile] = []
    for done, group in enumerate(sorted(groups, key=len)):
        take = min(len(group), (count - len(chosen)) // (classes - done))
        order = np.random.default_rng([*seed, group[0].label]).permutation(len(group))
        chosen += [group[index] for index in sorted(order[:take])]
    return sorted(chosen, key=lambda entry: entry.label)  # stable: inside a class the order stays
