"""Is the data what it seems? Duplicates, the style of a class, and which set the published run kept back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch.nn.functional import interpolate, normalize

from dml.data import facemask
from dml.data.images import Images, Split
from dml.files import DataError

# Of the 77 pairs of photographs between 0.97 and 0.99, looked at side by side, 76 show the same photograph;
# below 0.96 different people in the same pose begin.
NEAR = 0.97
THUMBNAIL = 16
BLOCK = 2048  # rows compared at once: 2,048 x 10,000 similarities are 80 MB
QUANTILES = np.linspace(0, 1, 51)
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


def describe(images: Images) -> pd.DataFrame:
    """Per set and class the number of images and the quantiles of their sharpness: columns set, class, measure
    ("count" or "sharpness"), quantile, value.
    """
    rows = []
    for name, split in (("train", images.train), ("unseen", images.unseen)):
        sharp, labels = sharpness(split), split.labels.numpy()
        for label, title in enumerate(images.classes):
            mine = sharp[labels == label]
            rows.append((name, title, "count", np.nan, len(mine)))
            values = zip(QUANTILES, np.quantile(mine, QUANTILES), strict=True)
            rows += [(name, title, "sharpness", quantile, value) for quantile, value in values]
    return pd.DataFrame(rows, columns=["set", "class", "measure", "quantile", "value"]).round(6)


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
    thumbs = torch.cat([_thumbnails(images.train), _thumbnails(images.unseen)])
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


def sharpness(split: Split) -> np.ndarray:
    """Variance of the Laplacian of the grey pixels (0 to 255) at decoded size, float64 [N]; small is blurred.

    Raises DataError for images under 3 pixels, which have no Laplacian.
    """
    if split.images.shape[-1] < 3:
        raise DataError(f"images of {split.images.shape[-1]} pixels have no Laplacian; decode at 3 or more")
    return np.concatenate(
        [_laplacian(_grey(block)).var((1, 2)).double().numpy() for block in split.images.split(BLOCK)]
    )


def style_only_accuracy(images: Images) -> pd.DataFrame:
    """How well sharpness alone tells each class from the others, in each set.

    Columns set, class, auc (chance that an image of the class is sharper than one of the others; 0.5 is no
    information, 0 and 1 are full) and balanced_accuracy (of the best single threshold, in either direction).
    """
    rows = []
    for name in ("train", "unseen"):
        split = getattr(images, name)
        values = sharpness(split)
        for label, title in enumerate(images.classes):
            is_class = split.labels.numpy() == label
            false, true, _ = roc_curve(is_class, values)
            rows.append((name, title, roc_auc_score(is_class, values), 0.5 + np.abs(true - false).max() / 2))
    return pd.DataFrame(rows, columns=["set", "class", "auc", "balanced_accuracy"])


def unseen_candidates(accuracies: Sequence[float], sizes: Sequence[int]) -> pd.DataFrame:
    """Could each accuracy have been measured on each size of set? Only if accuracy x size is a whole number.

    Columns accuracy, size, hits (accuracy x size), distance (of hits to the nearest whole number) and whole
    (distance within what rounding to 7 decimals, or to single precision, can do).
    """
    table = pd.MultiIndex.from_product([accuracies, sizes], names=["accuracy", "size"]).to_frame(index=False)
    table["hits"] = table["accuracy"] * table["size"]
    table["distance"] = (table["hits"] - table["hits"].round()).abs()
    table["whole"] = table["distance"] <= 1e-7 * table["size"]
    return table


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


def _grey(images: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nchw,c->nhw", images.float(), LUMA)


def _thumbnails(split: Split) -> torch.Tensor:
    greys = (_grey(block)[:, None] for block in split.images.split(BLOCK))
    flat = torch.cat([interpolate(grey, (THUMBNAIL, THUMBNAIL), mode="area").flatten(1) for grey in greys])
    return normalize(flat - flat.mean(1, keepdim=True))


def _laplacian(grey: torch.Tensor) -> torch.Tensor:
    middle = grey[:, 1:-1, 1:-1]
    return grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * middle
