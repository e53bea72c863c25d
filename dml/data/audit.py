"""Is the data what it seems? How many images there are, and which are duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import interpolate, normalize

from dml.data import facemask
from dml.data.images import Images

# Of the 77 pairs of photographs between 0.97 and 0.99, looked at side by side, 76 show the same photograph;
# below 0.96 different people in the same pose begin.
NEAR = 0.97
THUMBNAIL = 16
BLOCK = 2048  # rows compared at once: 2,048 x 10,000 similarities are 80 MB
LUMA = torch.tensor([0.299, 0.587, 0.114])
IMAGE = ["set", "class", "file"]
CELL = ["set_a", "class_a", "set_b", "class_b"]


def overview(images: Images) -> pd.DataFrame:
    """Per set and class: the number of images, and their width and height in pixels before resizing."""
    table = _table(images)
    table[["width", "height"]] = np.array(images.train.sizes + images.unseen.sizes)
    return table.groupby(["set", "class"], sort=False).agg(
        images=("file", "size"),
        median_width=("width", "median"),
        median_height=("height", "median"),
        smallest=("width", "min"),
        largest=("width", "max"),
    )


def exact_duplicates(images: Images) -> pd.DataFrame:
    """Pairs of images with the same decoded pixels, within and across the two sets.

    Columns set_a, class_a, file_a, set_b, class_b, file_b; image a comes before image b in the data set.
    """
    pixels = torch.cat([images.train.images, images.unseen.images]).numpy()
    return _same(_table(images), [hashlib.sha256(image.tobytes()).digest() for image in pixels])


def original_duplicates() -> pd.DataFrame:
    """Pairs of the author's original files with the same bytes, by the manifest; columns as above."""
    rows = facemask.read_manifest()
    names = dict(zip(facemask.LABELS, facemask.CLASSES, strict=True))
    table = pd.DataFrame([(row.split, names[row.label], row.path) for row in rows], columns=IMAGE)
    return _same(table, [row.sha256 for row in rows])


def near_duplicates(images: Images, threshold: float = NEAR) -> pd.DataFrame:
    """Pairs of images that look the same: cosine similarity of standardised grey thumbnails >= `threshold`.

    Thumbnails are 16 x 16 averages with mean 0 and norm 1, so that brightness and contrast do not count; one
    of a single grey resembles nothing. Exact duplicates are among the pairs. Columns as above + similarity.
    """
    thumbs = torch.cat([thumbnails(images.train.images), thumbnails(images.unseen.images)])
    first, second, values = [], [], []
    for start in range(0, len(thumbs), BLOCK):
        similarity = thumbs[start : start + BLOCK] @ thumbs[start:].T
        a, b = torch.nonzero(similarity.triu(1) >= threshold, as_tuple=True)
        first.append(a + start)
        second.append(b + start)
        values.append(similarity[a, b])
    pairs = _pairs(_table(images), torch.cat(first).numpy(), torch.cat(second).numpy())
    return pairs.assign(similarity=torch.cat(values).numpy())


def count_duplicates(exact: pd.DataFrame, near: pd.DataFrame) -> pd.DataFrame:
    """How many images repeat an earlier one: columns set_a, class_a, set_b, class_b, exact, near.

    Each number counts the images of set_b, class_b that have an earlier duplicate in set_a, class_a. Where a
    and b are the same set and class, `exact` is the number of images minus the number of distinct ones.
    """
    counts = {name: pairs.groupby(CELL)["file_b"].nunique() for name, pairs in (("exact", exact), ("near", near))}
    return pd.DataFrame(counts).fillna(0).astype(int).reset_index()


def _table(images: Images) -> pd.DataFrame:
    """One row per image, training set first."""
    return pd.DataFrame(
        [
            (name, images.classes[label], file)
            for name, split in (("train", images.train), ("unseen", images.unseen))
            for label, file in zip(split.labels.tolist(), split.files, strict=True)
        ],
        columns=IMAGE,
    )


def _same(table: pd.DataFrame, keys: Sequence[str | bytes]) -> pd.DataFrame:
    places = pd.DataFrame({"key": keys, "place": np.arange(len(table))})
    pairs = places.merge(places, on="key").query("place_x < place_y").sort_values(["place_x", "place_y"])
    return _pairs(table, pairs["place_x"], pairs["place_y"])


def _pairs(table: pd.DataFrame, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    a, b = (table.iloc[rows].reset_index(drop=True) for rows in (first, second))
    return pd.concat([a.add_suffix("_a"), b.add_suffix("_b")], axis=1)


def grey(images: torch.Tensor) -> torch.Tensor:
    """Brightness [N, H, W], 0 to 255, of uint8 [N, 3, H, W]."""
    return torch.einsum("nchw,c->nhw", images.float(), LUMA)


def thumbnails(images: torch.Tensor) -> torch.Tensor:
    """16 x 16 averages with mean 0 and norm 1, [N, 256], of uint8 [N, 3, H, W]."""
    greys = (grey(block)[:, None] for block in images.split(BLOCK))
    flat = torch.cat([interpolate(grey, (THUMBNAIL, THUMBNAIL), mode="area").flatten(1) for grey in greys])
    return normalize(flat - flat.mean(1, keepdim=True))
