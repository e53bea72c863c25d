"""Images in, tensors out: any data set decoded once into uint8 pixels and kept in a cache.

Three kinds of data share one shape: the drawn faces ("faces"), the author's photographs ("facemask") and
any folder laid out as FOLDER/train/<class>/... and FOLDER/unseen/<class>/... . Nothing is dropped silently:
a file that cannot be used is an error that names it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dml import config
from dml.config import Experiment
from dml.data import facemask, faces
from dml.data.decode import DECODER, decode
from dml.data.folders import ImageFile, class_folders, folder_name, is_folder, subset, tell_apart
from dml.files import DataError, listing, replacing
from dml.fingerprint import fingerprint
from dml.progress import counted

log = logging.getLogger(__name__)

SEED = 0  # of everything drawn here: which faces, which files of a larger set


@dataclass(frozen=True, eq=False)
class Split:
    """One set of N images: pixels, labels, and where each came from.

    images: uint8 [N, 3, size, size]; labels: int64 [N]; files: N posix paths relative to the data set's
    folder (drawn faces: "train/0007"); sizes: N pairs (width, height) in pixels, before resizing.
    """

    images: torch.Tensor
    labels: torch.Tensor
    files: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True, eq=False)
class Images:
    """A data set: the set to train on and the set no client ever sees.

    classes: class names, in the order of the labels; sha256: of the pixels, labels and class names of both
    sets; source: a sentence for people that says where the pixels come from.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    unseen: Split
    sha256: str
    source: str


def load(data: str, *, size: int, train_count: int, unseen_count: int, cache: Path) -> Images:
    """Load the data set `data` as size x size RGB images, from `cache` when it was decoded before.

    data: "faces" (drawn), "facemask" (see dml.data.facemask) or the path of a folder with train/ and unseen/; a
    folder of these names here is ./faces or ./facemask, and a warning says so.
    train_count, unseen_count: how many faces to draw; for files, at most how many to take, spread evenly
    over the classes and always the same ones (0: all).
    Files are decoded to RGB and resized by nearest neighbour, as published.

    Raises DataError for unusable files (named), classes that differ between the two sets, impossible counts.
    """
    if size < 1:
        raise DataError(f"image size is {size} pixels; it must be at least 1")
    if min(train_count, unseen_count) < 0:
        raise DataError(f"image counts are {train_count} and {unseen_count}; they must not be negative")
    counts = (train_count, unseen_count)
    if data in ("faces", "facemask"):
        tell_apart(data)
    name, inputs, build = _drawn(size, counts) if data == "faces" else _decoded(data, size, counts)
    key = hashlib.sha256(json.dumps([DECODER, size, counts, inputs]).encode()).hexdigest()[:16]
    file = Path(cache) / f"{name}-{size}-{key}.safetensors"
    if (images := _read(file)) is None:
        images = build()
        _write(images, file)
    return images


@lru_cache(maxsize=2)
def images_of(data: str, experiment: Experiment) -> Images:
    """The data set of an experiment, at its size and counts; the last ones stay in memory."""
    return load(
        data,
        size=experiment.size,
        train_count=experiment.train_images,
        unseen_count=experiment.unseen_images,
        cache=config.CACHE / "images",
    )


def require(images: Images, folds: int) -> None:
    """Check that every class has an image for each of `folds` class-stratified folds of the training set.

    Raises DataError naming the class, its count and the number of folds.
    """
    counts = torch.bincount(images.train.labels, minlength=len(images.classes)).tolist()
    for name, count in zip(images.classes, counts, strict=True):
        if count < folds:
            raise DataError(
                f'class "{name}" has {count} training images, but {folds} stratified folds need at least '
                f"{folds}: use more images, fewer clients or fewer rounds"
            )


def _drawn(size: int, counts: tuple[int, int]) -> tuple[str, object, Callable[[], Images]]:
    """Name, what decides the pixels (the source code that draws them), and how to make them."""
    if min(counts) < len(facemask.CLASSES):
        raise DataError(f"{counts[0]} train and {counts[1]} unseen faces are to be drawn; draw at least 2 of each")

    def build() -> Images:
        splits = []
        for domain, count in zip(("train", "unseen"), counts, strict=True):
            pixels, labels = faces.draw(count, size=size, seed=SEED, domain=domain)
            names = tuple(f"{domain}/{index:04d}" for index in range(count))
            splits.append(Split(pixels, labels, names, ((size, size),) * count))
        return _images("faces", facemask.CLASSES, splits, f"drawn, seed {SEED}")

    return "faces", fingerprint(("data.faces", "data.face_parts", "data.brush")), build


def _decoded(data: str, size: int, counts: tuple[int, int]) -> tuple[str, object, Callable[[], Images]]:
    """Name, what decides the pixels (the identity of each file), and how to make them."""
    if data == "facemask":
        folder, name = facemask.find(), data
        classes: tuple[str, ...] = facemask.CLASSES
        entries = facemask.entries(folder)
    else:
        folder = Path(data).expanduser().resolve()
        name = folder_name(folder)
        if not is_folder(folder):
            raise DataError(f'data "{data}" is neither "faces", "facemask" nor a folder')
        classes, entries = class_folders(folder)
    chosen = [subset(entries[i], counts[i], len(classes), seed=(SEED, i)) for i in range(2)]

    def build() -> Images:
        if data != "facemask":
            return _images(name, classes, _decode_all(chosen, size), f"folder {folder.name}")
        report = facemask.verify(folder)
        if not report.ok:
            raise DataError(f"{folder}: {report.summary()}")
        return _images(name, classes, _decode_all(chosen, size), str(report))

    return name, [entry.identity() for split in chosen for entry in split], build


def _decode_all(chosen: Sequence[list[ImageFile]], size: int) -> list[Split]:
    entries = [entry for split in chosen for entry in split]
    pixels = np.empty((len(entries), 3, size, size), np.uint8)

    def place(index: int) -> tuple[int, int] | str:
        try:
            pixels[index], dims = decode(entries[index].path, size)
        except Exception as error:  # decoders raise many types on broken bytes; each means "this file is bad"
            return f"{entries[index].path} ({error})"
        return entries[index].size or dims

    # Threads: Pillow releases the GIL while it decodes. It warns of large pictures and odd tags, which do no harm here.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        results = list(counted(pool.map(place, range(len(entries))), "decoding", len(entries), "image"))
    if bad := [result for result in results if isinstance(result, str)]:
        raise DataError(f"{len(bad)} of {len(entries)} files cannot be decoded as images: {listing(bad)}")
    splits, start = [], 0
    for split in chosen:
        part = slice(start, start := start + len(split))
        labels = torch.tensor([entry.label for entry in split])
        names = tuple(entry.name for entry in split)
        splits.append(
            Split(torch.from_numpy(pixels[part]), labels, names, tuple(cast(list[tuple[int, int]], results[part])))
        )
    return splits


def _images(name: str, classes: Sequence[str], splits: Sequence[Split], source: str) -> Images:
    digest = hashlib.sha256(json.dumps([list(classes), [list(split.images.shape) for split in splits]]).encode())
    for split in splits:
        digest.update(split.images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().data)
    train, unseen = splits
    return Images(name, tuple(classes), train, unseen, digest.hexdigest(), source)


def _write(images: Images, file: Path) -> None:
    """Save to `file` in one step: a run that is killed leaves either the whole cache or none."""
    splits = {"train": images.train, "unseen": images.unseen}
    tensors = {f"{n}.{key}": getattr(split, key) for n, split in splits.items() for key in ("images", "labels")}
    about = {"name": images.name, "classes": images.classes, "sha256": images.sha256, "source": images.source}
    about |= {f"{n}.{key}": getattr(split, key) for n, split in splits.items() for key in ("files", "sizes")}
    with replacing(file) as part:
        try:
            save_file(tensors, part, {"about": json.dumps(about)})  # one entry: several have no fixed order
        except SafetensorError as error:  # its own type for a full disk
            raise OSError(error) from error


def _read(file: Path) -> Images | None:
    """The cached data set, or None when there is none or its bytes are not those written."""
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as cached:
            about = json.loads(cached.metadata()["about"])
            splits = [
                Split(
                    cached.get_tensor(f"{name}.images"),
                    cached.get_tensor(f"{name}.labels"),
                    tuple(about[f"{name}.files"]),
                    tuple(map(tuple, about[f"{name}.sizes"])),
                )
                for name in ("train", "unseen")
            ]
        images = _images(about["name"], about["classes"], splits, about["source"])
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        log.warning("cache %s is damaged (%s); decoding again", file.name, error)
        return None
    if images.sha256 != about["sha256"]:
        log.warning("cache %s does not hold the pixels it was written with; decoding again", file.name)
        return None
    return images


def copies(images: Images) -> list[int]:
    """Which unseen images, by their place, have the same decoded pixels as an earlier unseen one."""
    seen: dict[bytes, int] = {}
    sums = [hashlib.sha256(image.tobytes()).digest() for image in images.unseen.images.numpy()]
    return [place for place, sum_ in enumerate(sums) if seen.setdefault(sum_, place) != place]
