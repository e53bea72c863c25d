"""A run: an experiment on a data set with its seeds and its folder. The one object that a notebook talks to."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import save_file

from dml import plots
from dml.config import CROWDS, LADDERS, PROBES, RUNS, SEEDS, Experiment, profile
from dml.data import audit
from dml.data.images import Images, folder_name
from dml.evidence import bandwidth, verdicts
from dml.evidence import many_clients as crowd
from dml.experiment import lesson as quickstart
from dml.experiment import results
from dml.experiment.results import Tables
from dml.files import replacing
from dml.plots.style import Drawn
from dml.privacy import suite as privacy
from dml.training import machine

QUANTILES = np.linspace(0, 1, 51)


@dataclass(frozen=True)
class Run:
    """`folder` gets the tables, `figures` the figures; both are made when something is written."""

    profile: str
    data: str
    experiment: Experiment
    seeds: tuple[int, ...]
    folder: Path
    figures: Path
    device: str

    @classmethod
    def open(
        cls,
        profile_name: str,
        data: str,
        seeds: Sequence[int] = (),
        folder: str = "",
        figures: str = "",
        device: str = "auto",
        precision: str = "float32",
    ) -> "Run":
        """A run by the values of a notebook's parameters; empty ones mean the profile's own.

        Raises ValueError for an unknown profile, device, or precision, and for repeated or negative seeds.
        """
        experiment = profile(profile_name, precision)
        chosen = tuple(seeds) or tuple(range(SEEDS[profile_name]))
        if len(set(chosen)) < len(chosen) or any(not isinstance(s, int) or s < 0 for s in chosen):
            raise ValueError(f"seeds {list(chosen)}: give different whole numbers from 0 up")
        target = machine.device(device)
        if precision == "bf16" and not machine.has_bf16(target):
            raise ValueError("precision 'bf16': this processor has no bf16 arithmetic; use float32")
        name = data
        if data not in ("faces", "facemask"):  # a folder: by its whole path, for kernels that start elsewhere
            folder_of_images = Path(data).expanduser().resolve()
            data, name = str(folder_of_images), folder_name(folder_of_images)
        where = Path(folder) if folder else RUNS / f"{profile_name}-{name}{'' if precision == 'float32' else '-bf16'}"
        return cls(
            profile_name, data, experiment, chosen, where, Path(figures) if figures else where / "figures", device
        )

    @cached_property
    def images(self) -> Images:
        return results.images(self.data, self.experiment)

    @property
    def about(self) -> plots.About:
        return plots.About(self.experiment, self.images.name, self.title, len(self.images.classes))

    @property
    def title(self) -> str:
        """Profile and data set, for captions."""
        counts = f"{len(self.images.train):,} train, {len(self.images.unseen):,} unseen"
        bf16 = ", bf16" if self.experiment.precision == "bf16" else ""
        return f"{self.images.name} ({counts}), {self.profile}{bf16}"

    def compute(self) -> Tables:
        """Every arm and seed, from the cache where possible; writes results.csv, history.csv and costs.csv."""
        tables = results.compute(self.data, self.experiment, self.seeds, self.device)
        for name in ("results", "history", "costs"):
            self.write(getattr(tables, name), name)
        return tables

    def attack(self) -> privacy.Tables:
        """Every privacy probe, from the cache where possible; writes its tables as privacy_*.csv, and the recovered
        images, which show private ones, as reconstructions.safetensors.
        """
        probe, target = PROBES[self.profile], machine.device(self.device)
        found = privacy.attack(self.data, self.experiment, probe, self.seeds, target)
        for name, table in found.tables().items():
            self.write(table, name)
        with replacing(self.folder / f"{plots.PICTURES}.safetensors") as part:
            save_file(dict(found.images), part)
        return found

    def count(self) -> bandwidth.Tables:
        """Bytes and accuracy of the profile's arms and rungs, from the cache where possible; writes bandwidth_*.csv,
        with their costs, and ledger.csv, every message of the first seed.
        """
        ladder = LADDERS[self.profile]
        seeds = self.seeds[: ladder.seeds or None]
        found = results.compute(self.data, self.experiment, seeds, self.device, ladder.arms)
        fold = round(len(self.images.train) / self.experiment.folds)
        tables = bandwidth.measure(found.results, found.ledger, self.experiment.clients, fold, self.about.classes)
        for name, table in tables.tables().items():
            self.write(table, name)
        self.write(found.costs, "bandwidth_costs")
        self.write(found.ledger[found.ledger["seed"] == seeds[0]], "ledger")
        return tables

    def multiply(self) -> pd.DataFrame:
        """The arms with more and fewer clients, from the cache where possible; writes clients.csv where the profile and
        the data set leave room for more.
        """
        chosen = CROWDS[self.profile]
        seeds = self.seeds[: chosen.seeds or None]
        table = crowd.compute(self.data, self.experiment, chosen.clients, seeds, self.device)
        if len(table):
            self.write(table, "clients")
        return table

    def judge(self) -> pd.DataFrame:
        """A verdict on every claim that the tables written so far speak of (see `verdicts.verdicts`)."""
        return verdicts.verdicts(self.folder, self.about)

    def lesson(self, clients: int = 3, public: int = 24) -> quickstart.Lesson:
        """One small round on the run's data set, whatever its profile; this process trains it, on one thread."""
        machine.settle()
        return quickstart.open_lesson(results.images(self.data, quickstart.SMALL), clients, public=public)

    def forget(self) -> None:
        """Drop what the cache holds of this run, so that it is computed again."""
        found = [(self.experiment, ()), (self.experiment, LADDERS[self.profile].arms)]
        chosen = CROWDS[self.profile].clients
        found += [(each, crowd.ARMS) for each in crowd.fitting(self.data, self.experiment, chosen).values()]
        files = [
            file
            for experiment, arms in found
            for file in results.files(self.data, experiment, self.seeds, self.device, arms).values()
        ]
        target = machine.device(self.device)
        files += privacy.files(self.data, self.experiment, PROBES[self.profile], self.seeds, target)
        for file in files:
            file.unlink(missing_ok=True)

    def describe(self) -> pd.DataFrame:
        """What figures 01 are drawn from, also written as images.csv: per set and class the number of images and the
        quantiles of their sharpness. Columns set, class, measure, quantile, value.
        """
        rows = []
        for name, split in (("train", self.images.train), ("unseen", self.images.unseen)):
            sharp, labels = audit.sharpness(split), split.labels.numpy()
            for label, title in enumerate(self.images.classes):
                mine = sharp[labels == label]
                rows.append((name, title, "count", np.nan, len(mine)))
                rows += [
                    (name, title, "sharpness", q, v)
                    for q, v in zip(QUANTILES, np.quantile(mine, QUANTILES), strict=True)
                ]
        table = pd.DataFrame(rows, columns=["set", "class", "measure", "quantile", "value"]).round(6)
        self.write(table, "images")
        return table

    def write(self, table: pd.DataFrame, name: str) -> None:
        with replacing(self.folder / f"{name}.csv") as part:
            table.to_csv(part, index=False)

    def figure(self, name: str) -> Drawn:
        """Draw a figure of `plots.FIGURES` from the tables this run has written, keep it, hand it on to be shown."""
        return self.save(plots.draw(name, self.folder, self.about), name)

    def save(self, drawn: Drawn, name: str) -> Drawn:
        """Keep a figure as PDF, PNG and CSV."""
        drawn.save(self.figures, name)
        return drawn

    def manifest(self, **more) -> dict:
        """What a reader needs to repeat or to doubt the run; written by the pipeline, last."""
        return {
            "profile": self.profile,
            "data": self.images.name,
            "source": self.images.source,
            "data_sha256": self.images.sha256,
            "classes": self.images.classes,
            "title": self.title,
            "experiment": asdict(self.experiment),
            "seeds": self.seeds,
            "code_version": results.code_version(),
            **machine.facts(machine.device(self.device)),
            **more,
        }
