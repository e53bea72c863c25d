"""Every figure by name, drawn from the tables of a run's folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from dml.audit import published
from dml.config import Experiment
from dml.files import DataError
from dml.plots import arms, split
from dml.plots.style import Drawn


def _quantiles(images: pd.DataFrame) -> pd.DataFrame:
    return images[images["measure"] == "sharpness"].drop(columns="measure").rename(columns={"value": "sharpness"})


def _counts(images: pd.DataFrame) -> pd.DataFrame:
    counts = images[images["measure"] == "count"].drop(columns=["measure", "quantile"])
    return counts.rename(columns={"value": "count"}).astype({"count": int})


FIGURES: dict[str, tuple[str, Callable[..., Drawn]]] = {
    "01_fold_plan": ("images", lambda t, exp, title: split.fold_plan(_counts(t), exp, title)),
    "01_style_confound": ("images", lambda t, exp, title: split.style_confound(_quantiles(t), title)),
    "02_histories": ("history", lambda t, exp, title: arms.histories(t, title)),
    "02_unseen_accuracy": ("results", lambda t, exp, title: arms.unseen_accuracy(t, published(), title)),
    "02_client_accuracy": ("results", lambda t, exp, title: arms.client_accuracy(t, published(), title)),
    "02_paired_differences": ("results", lambda t, exp, title: arms.paired_differences(t, title)),
    "02_quality": ("results", lambda t, exp, title: arms.quality(t, title)),
    "02_agreement": ("results", lambda t, exp, title: arms.agreement(t, title)),
    "02_kl_forms": ("results", lambda t, exp, title: arms.kl_forms(t, title)),
}


def draw(name: str, folder: Path, experiment: Experiment, title: str) -> Drawn:
    """The named figure, from the table in a run's folder that it needs (`FIGURES` says which)."""
    source, make = FIGURES[name]
    return make(pd.read_csv(folder / f"{source}.csv", float_precision="round_trip"), experiment, title)


def redraw(folder: Path, to: Path) -> list[str]:
    """Every figure again, from the tables in a run's folder alone. Returns the names of the figures drawn.

    Raises DataError when `folder` holds no finished run.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        raise DataError(f"{folder} has no manifest.json; it must be the folder of a finished run (see `reproduce`)")
    manifest = json.loads(file.read_text(encoding="utf-8"))
    experiment = Experiment(**manifest["experiment"])
    present = [name for name, (source, _) in FIGURES.items() if (folder / f"{source}.csv").is_file()]
    for name in tqdm(present, desc="drawing", unit="figure"):
        draw(name, folder, experiment, manifest["title"]).save(to, name)
    return present
