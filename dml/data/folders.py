"""Folders of images before they are pixels: which images there are, of which class, and which of them to take."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import parent_process
from pathlib import Path

import numpy as np

from dml.files import DataError, listing

log = logging.getLogger(__name__)

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
HOUSEKEEPING = {  # what systems and network drives leave behind without a leading dot
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "__macosx"),
    *("lost+found", "@eadir", "@__thumb", "#recycle"),
}
NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # what following a link says that leads nowhere


@dataclass(frozen=True)
class ImageFile:
    """One image on disk: its name in the data set, where it lies, its label, its original size if known."""

    name: str
    path: Path
    label: int
    size: tuple[int, int] | None = None

    def identity(self) -> tuple[str | int, ...]:
        """Place and label, and what changes with the file: a new one has another inode, and no tool sets a ctime."""
        now = self.path.stat()
        return str(self.path), self.label, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def folder_name(folder: Path) -> str:
    """A short name for a folder of images: never that of another folder, nor of an embedded or known data set.

    Raises DataError when its path is not UTF-8.
    """
    digest = hashlib.sha256(str(_utf8(folder)).encode()).hexdigest()[:6]
    return f"{re.sub(r'[^A-Za-z0-9_]+', '-', folder.name) or 'folder'}-{digest}"


@lru_cache
def tell_apart(data: str) -> None:
    """Warn, once and in no worker process, when a known data set has the name of a folder of images that lies here."""
    if parent_process() is None and all(os.path.isdir(Path(data, split)) for split in ("train", "unseen")):
        log.warning('data "%s" is the known data set, not the folder in %s; for that give ./%s', data, Path.cwd(), data)


def visible(folder: Path) -> dict[str, Path]:
    """Every file at any depth of `folder` by its posix path in it, without hidden and housekeeping files.

    Links are followed. Raises DataError naming what cannot be taken: a name that is not UTF-8, a folder that
    cannot be read, a link to nothing or to a folder that holds it, what is neither a file nor a folder.
    """
    return {path.relative_to(folder).as_posix(): path for path in _files(folder, ())}


def _files(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """`above`: the real places of the folders on the way here."""
    way = (*above, folder.resolve())
    for path in _inside(folder):
        if not is_folder(path):
            yield path
        elif path.is_symlink() and any(place.is_relative_to(path.resolve()) for place in way):
            raise DataError(f"{path} is a link to a folder that holds it; remove the link")
        else:
            yield from _files(path, way)


def _inside(folder: Path) -> list[Path]:
    """What lies visibly in a folder, sorted."""
    try:
        names = sorted(name for name in os.listdir(folder) if not hidden(name))
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}); change its permissions or move it") from error
    return [_utf8(folder / name) for name in names]


def is_folder(path: Path) -> bool:
    """Whether it is a folder, or a link to one; False when there is nothing. Raises DataError (see `visible`)."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno not in NOTHING:
            raise DataError(f"{path} cannot be read ({error.strerror}); change its permissions or move it") from error
        if path.is_symlink():
            raise DataError(f"{path} is a link to nothing; remove it, or bring back what it links to") from error
        return False
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise DataError(f"{path} is neither a file nor a folder; remove it")
    return stat.S_ISDIR(mode)


def _utf8(path: Path) -> Path:
    shown = str(path).encode("utf-8", "backslashreplace").decode()
    if shown != str(path):
        raise DataError(f"{shown} has a name that is not UTF-8; rename it")
    return path


def hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in HOUSEKEEPING


def class_folders(folder: Path) -> tuple[tuple[str, ...], list[list[ImageFile]]]:
    """Class names, sorted, and the entries of folder/train/<class>/... and of folder/unseen/<class>/... .

    Every visible file has to be an image: what is left out silently is found out too late (the published
    run lost six images to a filter on extensions). Names are compared as NFC: some disks decompose accents.
    Raises DataError naming what does not fit.
    """
    train, unseen = (_classes(folder, split) for split in ("train", "unseen"))
    if train.keys() != unseen.keys():
        only = [listing(sorted(names)) or "none" for names in (train.keys() - unseen, unseen.keys() - train)]
        raise DataError(
            f"{folder}: train/ and unseen/ must hold the same classes; "
            f"only in train/: {only[0]}; only in unseen/: {only[1]}"
        )
    if len(train) < 2:
        raise DataError(f"{folder}/train holds {len(train)} class folders; at least 2 are needed")
    classes = tuple(sorted(train))
    return classes, [
        [entry for label, name in enumerate(classes) for entry in _class_entries(folder, paths[name], label)]
        for paths in (train, unseen)
    ]


def _classes(folder: Path, split: str) -> dict[str, Path]:
    """The class folders of one set by their names."""
    if not is_folder(folder / split):
        raise DataError(f"{folder} has no folder {split}/; it must hold train/<class>/ and unseen/<class>/")
    classes: dict[str, Path] = {}
    for path in _inside(folder / split):
        if not is_folder(path):
            raise DataError(f"{path} is in no class; move it into {split}/<class>/")
        if (name := unicodedata.normalize("NFC", path.name)) in classes:
            raise DataError(f'{folder / split} holds two folders "{name}", one with decomposed accents; merge them')
        classes[name] = path
    return classes


def _class_entries(folder: Path, inside: Path, label: int) -> list[ImageFile]:
    start = inside.relative_to(folder).as_posix()
    paths = {f"{start}/{name}": path for name, path in visible(inside).items()}
    if odd := sorted(name for name, path in paths.items() if path.suffix.lower() not in SUFFIXES):
        known = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{folder}: not images by their extension: {listing(odd)}; known are {known}")
    if not paths:
        raise DataError(f"{inside} holds no image; every class needs at least one")
    order = sorted(paths, key=lambda name: unicodedata.normalize("NFC", name))  # the same on every disk
    return [ImageFile(name, paths[name], label) for name in order]


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
