"""A run: an experiment on a data set with its seeds and its folder. The one object that a notebook talks to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from safetensors.torch import save_file

from dml import config
from dml.config import Experiment, Profile, profile
from dml.data import audit
from dml.data.images import Images, folder_name, images_of
from dml.evidence import bandwidth, many_clients, verdicts
from dml.evidence.about import About
from dml.evidence.bandwidth import BandwidthTables
from dml.experiment import cache, lesson, results
from dml.experiment.jobs import Job
from dml.experiment.results import ArmTables
from dml.files import replacing
from dml.plots import catalogue
from dml.plots.style import Drawn
from dml.training import machine

if TYPE_CHECKING:
    from dml.privacy.probes import PrivacyTables


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
    ) -> Run:
        """A run by the values of a notebook's parameters; empty ones mean the profile's own.

        Raises ValueError for an unknown profile, device, or precision, and for repeated or negative seeds.
        """
        chosen = profile(profile_name)
        experiment = replace(chosen.experiment, precision=precision)
        seeds = tuple(seeds) or tuple(range(chosen.seeds))
        if len(set(seeds)) < len(seeds) or any(not isinstance(seed, int) or seed < 0 for seed in seeds):
            raise ValueError(f"seeds {list(seeds)}: give different whole numbers from 0 up")
        target = machine.device(device)
        if precision == "bf16" and not machine.has_bf16(target):
            raise ValueError("precision 'bf16': this processor has no bf16 arithmetic; use float32")
        name = data
        if data not in ("faces", "facemask"):  # a folder: by its whole path, for kernels that start elsewhere
            folder_of_images = Path(data).expanduser().resolve()
            data, name = str(folder_of_images), folder_name(folder_of_images)
        suffix = "" if precision == "float32" else "-bf16"
        where = Path(folder) if folder else config.RUNS / f"{profile_name}-{name}{suffix}"
        shown = Path(figures) if figures else where / "figures"
        return cls(profile_name, data, experiment, seeds, where, shown, device)

    @cached_property
    def images(self) -> Images:
        """The data set, at the experiment's size and counts."""
        return images_of(self.data, self.experiment)

    @property
    def about(self) -> About:
        """What figures and sentences say of the run."""
        return About(self.experiment, self.images.name, self.title, len(self.images.classes))

    @property
    def title(self) -> str:
        """Profile and data set, for captions."""
        counts = f"{len(self.images.train):,} train, {len(self.images.unseen):,} unseen"
        bf16 = ", bf16" if self.experiment.precision == "bf16" else ""
        return f"{self.images.name} ({counts}), {self.profile}{bf16}"

    @property
    def _profile(self) -> Profile:
        return profile(self.profile)

    @property
    def _target(self):
        return machine.device(self.device)

    # -- what notebooks ask for: from the cache where possible, and written as tables ------------------------------

    def accuracy(self) -> ArmTables:
        """Every arm and seed; writes results.csv, history.csv and costs.csv."""
        tables = results.compute(self.data, self.experiment, self.seeds, self.device)
        for name in ("results", "history", "costs"):
            self.write(getattr(tables, name), name)
        return tables

    def privacy(self) -> PrivacyTables:
        """Every privacy probe; writes its tables as privacy_*.csv, and the recovered images, which show private ones,
        as reconstructions.safetensors.
        """
        from dml.privacy import probes  # an annex

        tables = probes.attack(self.data, self.experiment, self._profile.probe, self.seeds, self._target)
        for name, table in tables.tables().items():
            self.write(table, name)
        with replacing(self.folder / f"{catalogue.PICTURES}.safetensors") as part:
            save_file(dict(tables.images), part)
        return tables

    def bandwidth(self) -> BandwidthTables:
        """Bytes and accuracy of the profile's arms and rungs; writes bandwidth_*.csv, with their costs, and ledger.csv,
        every message of the first seed.
        """
        ladder = self._profile.ladder
        seeds = self.seeds[: ladder.seeds or None]
        measured = results.compute(self.data, self.experiment, seeds, self.device, ladder.arms)
        fold = round(len(self.images.train) / self.experiment.folds)
        clients, classes = self.experiment.clients, self.about.classes
        tables = bandwidth.measure(measured.results, measured.ledger, clients, fold, classes)
        for name, table in tables.tables().items():
            self.write(table, name)
        self.write(measured.costs, "bandwidth_costs")
        self.write(measured.ledger[measured.ledger["seed"] == seeds[0]], "ledger")
        return tables

    def many_clients(self) -> pd.DataFrame:
        """The arms with more and fewer clients; writes clients.csv where the profile and the data set leave room for
        more.
        """
        chosen = self._profile.many_clients
        seeds = self.seeds[: chosen.seeds or None]
        table = many_clients.compute(self.data, self.experiment, chosen.clients, seeds, self.device)
        if len(table):
            self.write(table, "clients")
        return table

    def judge(self) -> pd.DataFrame:
        """A verdict on every claim that the tables written so far speak of (see `verdicts.verdicts`)."""
        return verdicts.verdicts(self.folder, self.about)

    def lesson(self, clients: int = 3, public: int = 24) -> lesson.Lesson:
        """One small round on the run's data set, whatever its profile; this process trains it, on one thread."""
        machine.settle()
        return lesson.open_lesson(images_of(self.data, lesson.SMALL), clients, public=public)

    def describe(self) -> pd.DataFrame:
        """What figures 01 are drawn from (see `audit.describe`), also written as images.csv."""
        table = audit.describe(self.images)
        self.write(table, "images")
        return table

    # -- what these need -------------------------------------------------------------------------------------------

    def jobs(self, notebook: str) -> list[Job]:
        """The jobs behind a notebook, by the start of its name ("02"), computed or not; nothing is run.

        Raises DataError when data and experiment do not fit.
        """
        return [job for need in NEEDS.get(notebook[:2], ()) for job in need(self)]

    def forget(self) -> None:
        """Drop what the cache holds of this run, so that it is computed again."""
        for job in (job for notebook in NEEDS for job in self.jobs(notebook)):
            for file in job.files:
                file.unlink(missing_ok=True)

    def _accuracy_jobs(self) -> list[Job]:
        return results.arm_jobs(self.data, self.experiment, self.seeds, self._target)

    def _bandwidth_jobs(self) -> list[Job]:
        ladder = self._profile.ladder
        seeds = self.seeds[: ladder.seeds or None]
        return results.arm_jobs(self.data, self.experiment, seeds, self._target, ladder.arms)

    def _privacy_jobs(self) -> list[Job]:
        from dml.privacy import probes  # an annex

        return probes.probe_jobs(self.data, self.experiment, self._profile.probe, self.seeds, self._target).all()

    def _many_clients_jobs(self) -> list[Job]:
        chosen = self._profile.many_clients
        seeds = self.seeds[: chosen.seeds or None]
        return many_clients.jobs(self.data, self.experiment, chosen.clients, seeds, self._target)

    # -- what is kept ----------------------------------------------------------------------------------------------

    def write(self, table: pd.DataFrame, name: str) -> None:
        """Keep a table as CSV."""
        with replacing(self.folder / f"{name}.csv") as part:
            table.to_csv(part, index=False)

    def figure(self, name: str) -> Drawn:
        """Draw a figure of `plots.FIGURES` from the tables this run has written, keep it, hand it on to be shown."""
        return self.save(catalogue.draw(name, self.folder, self.about), name)

    def save(self, drawn: Drawn, name: str) -> Drawn:
        """Keep a figure as PDF, PNG and CSV."""
        drawn.save(self.figures, name)
        return drawn

    def manifest(self, **more: object) -> dict:
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
            "code_version": cache.code_version(),
            **machine.facts(self._target),
            **more,
        }


NEEDS: dict[str, tuple[Callable[[Run], list[Job]], ...]] = {  # what each notebook computes, by its number
    "02": (Run._accuracy_jobs,),
    "03": (Run._privacy_jobs,),
    "04": (Run._bandwidth_jobs,),
    "09": (Run._accuracy_jobs, Run._privacy_jobs, Run._bandwidth_jobs, Run._many_clients_jobs),
}
