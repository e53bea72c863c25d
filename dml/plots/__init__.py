"""Every figure by name, drawn from the tables of a run's folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file

from dml.config import Experiment
from dml.evidence.published import reported
from dml.files import DataError
from dml.plots import arms, bandwidth, costs, lesson, privacy, training
from dml.plots import claims as verdict
from dml.plots import data as split
from dml.plots.style import Drawn


def _quantiles(images: pd.DataFrame) -> pd.DataFrame:
    return images[images["measure"] == "sharpness"].drop(columns="measure").rename(columns={"value": "sharpness"})


def _counts(images: pd.DataFrame) -> pd.DataFrame:
    counts = images[images["measure"] == "count"].drop(columns=["measure", "quantile"])
    return counts.rename(columns={"value": "count"}).astype({"count": int})


@dataclass(frozen=True)
class About:
    """What a figure says of its run besides the table."""

    experiment: Experiment
    data: str
    title: str
    classes: int = 2

    @classmethod
    def read(cls, folder: Path) -> "About":
        """From the manifest of a finished run. Raises DataError when there is none."""
        file = folder / "manifest.json"
        if not file.is_file():
            raise DataError(f"{folder} has no manifest.json; it must be the folder of a finished run (see `reproduce`)")
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            experiment = Experiment(**manifest["experiment"])
            return cls(experiment, manifest["data"], manifest["title"], len(manifest["classes"]))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{file} was not written by this version of `reproduce` ({error!r})") from error

    @property
    def reported(self) -> pd.DataFrame:
        return reported(self.data, self.experiment)


FIGURES: dict[str, tuple[tuple[str, ...], Callable[..., Drawn]]] = {
    "00_one_round": (("lesson",), lambda t, run: lesson.one_round(t, run.data)),
    "01_fold_plan": (("images",), lambda t, run: split.fold_plan(_counts(t), run.experiment, run.title)),
    "01_style_confound": (("images",), lambda t, run: split.style_confound(_quantiles(t), run.title)),
    "02_histories": (("history",), lambda t, run: training.histories(t, run.title)),
    "02_unseen_accuracy": (("results",), lambda t, run: arms.unseen_accuracy(t, run.reported, run.title)),
    "02_client_accuracy": (("results",), lambda t, run: arms.client_accuracy(t, run.reported, run.title)),
    "02_rounds": (("results",), lambda t, run: training.rounds(t, run.title)),
    "02_paired_differences": (("results",), lambda t, run: arms.paired_differences(t, run.title)),
    "02_quality": (("results",), lambda t, run: arms.quality(t, run.title)),
    "02_agreement": (("results",), lambda t, run: arms.agreement(t, run.title)),
    "02_kl_forms": (("results",), lambda t, run: arms.kl_forms(t, run.title)),
    "03_roc": (("privacy_curves",), lambda t, run: privacy.roc(t, run.title)),
    "03_membership": (("privacy_rates",), lambda t, run: privacy.advantage(t, run.title)),
    "03_controls": (("privacy_rates",), lambda t, run: privacy.controls(t, run.title)),
    "03_balance": (("privacy_balance",), lambda t, run: privacy.balance(t, run.title)),
    "03_price": (("privacy_price",), lambda t, run: privacy.price(t, run.title)),
}
FIGURES |= {
    "04_bytes": (("bandwidth_traffic",), lambda t, run: bandwidth.by_arm(t, run.title)),
    "04_accuracy_for_bytes": (("bandwidth_curves",), lambda t, run: bandwidth.accuracy_for_bytes(t, run.title)),
    "04_targets": (("bandwidth_targets",), lambda t, run: bandwidth.to_target(t, run.title)),
    "04_ladder": (("bandwidth_ladder", "bandwidth_accuracy"), lambda t, a, run: bandwidth.front(t, a, run.title)),
    "04_scaling": (("bandwidth_scaling", "bandwidth_ladder"), lambda t, a, run: bandwidth.scaling(t, a, run.title)),
    "04_formulas": (
        ("bandwidth_ladder", "bandwidth_scaling"),
        lambda t, a, run: costs.formulas(t, a, run.experiment, run.classes),
    ),
    "04_links": (("bandwidth_links",), lambda t, run: costs.on_links(t, run.title)),
}
FIGURES |= {
    "05_story": (("results",), lambda t, run: verdict.story(t, run.title)),
    "05_one_seed": (("results",), lambda t, run: verdict.one_seed(t, run.title)),
    "05_histories": (("history",), lambda t, run: verdict.histories(t, len(run.reported) > 0, run.title)),
    "05_clients": (("clients",), lambda t, run: verdict.clients(t, run.title)),
}
PICTURES = "reconstructions"  # private images and what was recovered of them: not a table, and never recorded of people
RECONSTRUCTION = "03_reconstruction"


def read(folder: Path, name: str) -> pd.DataFrame:
    """A table of a run."""
    return pd.read_csv(folder / f"{name}.csv")


def has(folder: Path, names: Sequence[str]) -> bool:
    """Whether a run has all these tables."""
    return all((folder / f"{name}.csv").is_file() for name in names)


def read_all(folder: Path, names: Sequence[str]) -> list[pd.DataFrame] | None:
    """These tables of a run; None when it lacks one of them."""
    return [read(folder, name) for name in names] if has(folder, names) else None


def reconstruction(folder: Path, about: About) -> Drawn:
    """The recovered images of a run beside the private ones."""
    found = load_file(folder / f"{PICTURES}.safetensors")
    return privacy.reconstruction(found, read(folder, "privacy_reconstruction"), about.title)


def draw(name: str, folder: Path, about: About) -> Drawn:
    """The named figure, from the tables in a run's folder that it needs (`FIGURES` says which)."""
    if name == RECONSTRUCTION:
        return reconstruction(folder, about)
    sources, make = FIGURES[name]
    return make(*(read(folder, source) for source in sources), about)


def present(folder: Path) -> list[str]:
    """The figures that a folder has the tables of."""
    names = [name for name, (sources, _) in FIGURES.items() if has(folder, sources)]
    return names + ([RECONSTRUCTION] if (folder / f"{PICTURES}.safetensors").is_file() else [])
