"""Is the style of an image a cue to its class? Sharpness by set and class."""

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from dml.data.images import Images, Split
from dml.files import DataError

QUANTILES = np.linspace(0, 1, 51)
LITTLE = 0.05  # a probability this near to one half tells next to nothing


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


def sharpness(split: Split) -> np.ndarray:
    """Variance of the Laplacian of the grey pixels (0 to 255) at decoded size, float64 [N]; small is blurred.

    Raises DataError for images under 3 pixels, which have no Laplacian.
    """
    from dml.data.audit import BLOCK, grey  # an annex

    if split.images.shape[-1] < 3:
        raise DataError(f"images of {split.images.shape[-1]} pixels have no Laplacian; decode at 3 or more")
    return np.concatenate([_laplacian(grey(block)).var((1, 2)).double().numpy() for block in split.images.split(BLOCK)])


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


def _laplacian(grey: torch.Tensor) -> torch.Tensor:
    middle = grey[:, 1:-1, 1:-1]
    return grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * middle


def sharper(images: pd.DataFrame, part: str) -> tuple[float, str]:
    """With which probability an image of the first class is sharper than one of the second, from the recorded quantiles
    of a set; and the numbers of images.
    """
    rows = images[images["set"] == part]
    counts = rows[rows["measure"] == "count"]["value"]
    first, second = (
        values["value"].to_numpy() for _, values in rows[rows["measure"] == "sharpness"].groupby("class", sort=False)
    )
    above, equal = first[:, None] > second, first[:, None] == second
    return float(above.mean() + equal.mean() / 2), " and ".join(f"{count:,.0f}" for count in counts)


def told(name: str, images: pd.DataFrame) -> list[str]:
    """How much of the label sharpness alone tells, in either set of a run called `name`."""
    first, second = images["class"].unique()
    (train, dealt), (unseen, kept) = (sharper(images, part) for part in ("train", "unseen"))
    turned = "the other way round" if (train - 0.5) * (unseen - 0.5) < 0 else "the same way round"
    tells = (
        f"tells something of the label, in the unseen set {turned}"
        if max(abs(train - 0.5), abs(unseen - 0.5)) > LITTLE
        else "tells next to nothing of the label"
    )
    return [
        f"**{name}.** Sharpness alone {tells}. A “{first}” picture is sharper than a “{second}” one with "
        f"probability {train:.2f} in the training set (n = {dealt}) and {unseen:.2f} in the unseen set (n = {kept}). "
        "At 0.50 it would tell nothing."
    ]
