"""A run: an experiment on a data set with its seeds and its folder. The one object that a notebook talks to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from safetensors.torch import save_file

from dml import config
from dml.config import Experiment, Profile, profile
from dml.data.images import Images, folder_name, images_of
from dml.evidence import bandwidth, many_clients, style, verdicts
from dml.evidence.about import About
from dml.evidence.bandwidth import BandwidthTables
from dml.evidence.codings import codings
from dml.experiment import cache, results
from dml.experiment.jobs import Job
from dml.experiment.results import ArmTables
from dml.files import DataError, replacing
from dml.pipeline import needs, output
from dml.plots import catalogue
from dml.plots.style import Drawn
from dml.training import machine

if TYPE_CHECKING:
    from dml.experiment.lesson import Lesson
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
    models: str = ""  # of notebook 05; "": the profile's

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
        clients: int = 0,
        rounds: int = 0,
        train_images: int = 0,
        models: str = "",
    ) -> Run:
        """A run by the values of a notebook's parameters; empty ones and zeros mean the profile's own.

        Raises ValueError for an unknown profile, device, or precision, and for repeated or negative seeds; DataError
        when the cache cannot be written.
        """
        chosen = profile(profile_name)
        cache.check()
        sizes = {"clients": clients, "rounds": rounds, "train_images": train_images}
        if short := [f"{size}={value}" for size, value in sizes.items() if value < 0]:
            raise ValueError(f"{', '.join(short)}: give 0 for the profile's own, or more")
        usual = asdict(chosen.experiment)
        own: dict[str, Any] = {size: value for size, value in sizes.items() if value not in (0, usual[size])}
        experiment = replace(chosen.experiment, precision=precision, **own)
        seeds = needs.checked(seeds, chosen.seeds)
        target = machine.device(device)
        machine.check(precision, target)
        name = data
        if data not in ("faces", "facemask"):  # a folder: by its whole path, for kernels that start elsewhere
            folder_of_images = Path(data).expanduser().resolve()
            data, name = str(folder_of_images), folder_name(folder_of_images)
        suffix = "".join(f"-{value}-{size.replace('_', '-')}" for size, value in own.items())
        suffix += "" if precision == "float32" else "-bf16"
        suffix += "-" + re.sub(r"[^\w.-]+", "-", models) if models else ""
        where = Path(folder).expanduser() if folder else config.RUNS / f"{profile_name}-{name}{suffix}"
        shown = Path(figures).expanduser() if figures else where / "figures"
        return cls(profile_name, data, experiment, seeds, where, shown, device, models)

    @cached_property
    def images(self) -> Images:
        """The data set, at the experiment's size and counts."""
        return images_of(self.data, self.experiment)

    @property
    def about(self) -> About:
        """What figures and sentences say of the run."""
        return About(
            self.experiment, self.images.name, self.title, len(self.images.classes), tuple(self.images.classes)
        )

    @property
    def title(self) -> str:
        """Profile and data set, for captions."""
        counts = f"{len(self.images.train):,} train, {len(self.images.unseen):,} unseen"
        usual = self.sizes.experiment
        other = [f"K = {self.experiment.clients}"] if self.experiment.clients != usual.clients else []
        other += [f"R = {self.experiment.rounds}"] if self.experiment.rounds != usual.rounds else []
        other += ["bf16"] if self.experiment.precision == "bf16" else []
        return f"{self.images.name} ({counts}), {', '.join([self.profile, *other])}"

    @property
    def sizes(self) -> Profile:
        """The profile: how large each study of the run is."""
        return profile(self.profile)

    @property
    def target(self) -> torch.device:
        """What it is computed on."""
        return machine.device(self.device)

    def accuracy(self) -> ArmTables:
        """Every arm and seed; writes results.csv, history.csv and costs.csv."""
        tables = results.compute(self.data, self.experiment, self.seeds, self.device)
        for name in ("results", "history", "costs"):
            self.write(getattr(tables, name), name)
        return tables

    def privacy(self) -> PrivacyTables:
        """Every privacy probe; writes its tables as privacy_*.csv, and the recovered images, which show private ones,
        as reconstructions.safetensors. Raises DataError when they cannot run (see `no_privacy`).
        """
        if self.no_privacy:
            raise DataError(self.no_privacy)
        from dml.privacy import probes  # an annex

        tables = probes.attack(self.data, self.experiment, self.sizes.probe, self.seeds, self.target)
        for name, table in tables.tables().items():
            self.write(table, name)
        file = self.folder / f"{catalogue.PICTURES}.safetensors"
        output.note(self.folder, [file])
        with replacing(file) as part:
            save_file(dict(tables.images), part)
        return tables

    def bandwidth(self) -> BandwidthTables:
        """Bytes and accuracy of the ladder, kept as bandwidth_*.csv; the first seed's messages, as ledger.csv."""
        ladder, seeds = self.sizes.ladder, self.seeds[: self.sizes.ladder.seeds or None]
        measured = results.compute(self.data, self.experiment, seeds, self.device, ladder.arms)
        fold = round(len(self.images.train) / self.experiment.folds)
        coded = codings(self.images, self.data, self.experiment, seeds[0])
        sizes = (self.experiment.clients, fold, self.about.classes)
        tables = bandwidth.measure(measured.results, measured.ledger, coded, *sizes)
        for name, table in tables.tables().items():
            self.write(table, name)
        self.write(measured.costs, "bandwidth_costs")
        self.write(measured.ledger[measured.ledger["seed"] == seeds[0]], "ledger")
        return tables

    def many_clients(self) -> pd.DataFrame:
        """The arms with more and fewer clients; writes clients.csv where profile and data set leave room for more."""
        chosen = self.sizes.many_clients
        seeds = self.seeds[: chosen.seeds or None]
        table = many_clients.compute(self.data, self.experiment, chosen.clients, seeds, self.device)
        if len(table):
            self.write(table, "clients")
        return table

    def judge(self) -> pd.DataFrame:
        """A verdict on every claim that the tables written so far speak of (see `verdicts.verdicts`)."""
        return verdicts.verdicts(self.folder, self.about)

    def lesson(self, clients: int = 3, public: int = 24) -> Lesson:
        """One small round on the run's data set, whatever its profile; this process trains it, on one thread."""
        from dml.experiment import lesson  # an annex

        machine.settle()
        return lesson.open_lesson(images_of(self.data, lesson.SMALL), clients, public=public)

    def describe(self) -> pd.DataFrame:
        """What figures 01 are drawn from (see `style.describe`), also written as images.csv."""
        table = style.describe(self.images)
        self.write(table, "images")
        return table

    def jobs(self, notebook: str) -> list[Job]:
        """The jobs behind a notebook, by the start of its name ("02"), computed or not; nothing is run.

        Raises DataError when data and experiment do not fit.
        """
        return [job for need in needs.NEEDS.get(notebook[:2], ()) for job in need(self)]

    @cached_property
    def no_privacy(self) -> str:
        """Why the privacy probes cannot run on these images; "" when they can."""
        return needs.no_privacy(self.images, self.experiment)

    def skipped(self, notebook: str) -> str:
        """Why a notebook cannot run at all on these images while others can; "" when it can."""
        return self.no_privacy if notebook.startswith("03") else ""

    def write(self, table: pd.DataFrame, name: str) -> None:
        """Keep a table as CSV. Raises DataError when the folder holds somebody else's files."""
        file = self.folder / f"{name}.csv"
        output.claim(self.folder)
        output.note(self.folder, [file])
        with replacing(file) as part:
            table.to_csv(part, index=False)

    def figure(self, name: str) -> Drawn:
        """Draw a figure of `catalogue.FIGURES` from the tables this run has written, keep it and hand it on."""
        return self.save(catalogue.draw(name, self.folder, self.about), name)

    def save(self, drawn: Drawn, name: str) -> Drawn:
        """Keep a figure as `Drawn.files` says. Raises DataError when the folder holds somebody else's files."""
        for folder in (self.folder, self.figures):
            output.claim(folder)
        output.note(self.folder, drawn.files(self.figures, name))
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
            "models": self.models,
            "code_version": cache.code_version(),
            **machine.facts(self.target),
            **more,
        }
