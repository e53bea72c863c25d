"""The tuned arms of the analysis plan: does a control lose only because it runs another arm's schedule?

For each arm the length and the learning rate of the public phase are chosen by the accuracy on the clients' private
validation images, which train nothing, on exploratory seeds; the chosen pair is run on confirmatory ones.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from dml.experiment import jobs, results
from dml.files import read_table
from dml.studies import tables
from dml.studies.plan import Study, plan
from dml.studies.study import STUDIES
from dml.training import machine

KEY = ["arm", "public_epochs", "public_rate", "seed"]
METRICS = ("late unseen accuracy", "unseen accuracy", "unseen log loss", "validation accuracy")


@dataclass(frozen=True)
class Setting:
    """An arm with the length and the learning rate of its public phase."""

    arm: str
    public_epochs: int
    public_rate: float


def settings() -> list[Setting]:
    """Every arm with every pair of values."""
    tuned = plan().tuned
    return [Setting(*values) for values in product(tuned.arms, tuned.public_epochs, tuned.learning_rates)]


def carry_out(device: str = "auto", to: Path = STUDIES, study: Study | None = None) -> Path:
    """Compute what is not on record: all settings on the seeds that choose, then each arm's choice on those that run;
    by default with the published protocol. Returns the folder of the tables. Raises DataError when data do not fit.
    """
    study, folder, tuned = study or plan().studies["published"], to / "tuned", plan().tuned
    for seed in tuned.chosen_on:
        _compute(study, settings(), seed, folder, machine.device(device))
    chosen = list(choice(read_table(folder / "results.csv"), tuned.chosen_on).values())
    for seed in tuned.run_on:
        _compute(study, chosen, seed, folder, machine.device(device))
    return folder


def choice(measured: pd.DataFrame, seeds: Sequence[int]) -> dict[str, Setting]:
    """Of each arm the setting with the highest mean accuracy on private validation images over the seeds; of equal
    ones the first.
    """
    rows = measured[(measured["metric"] == "validation accuracy") & measured["seed"].isin(seeds)]
    means = rows.groupby(KEY[:3], sort=False)["value"].mean()
    best = means.groupby("arm", sort=False).idxmax()
    return {arm: Setting(arm, int(epochs), float(rate)) for arm, (_, epochs, rate) in best.items()}


def _compute(study: Study, asked: Sequence[Setting], seed: int, folder: Path, device: torch.device) -> None:
    done, listed = tables.there(folder / "costs.csv", KEY), {}
    for setting in asked:
        if (setting.arm, setting.public_epochs, setting.public_rate, seed) not in done:
            epochs, rate = setting.public_epochs, setting.public_rate
            experiment = replace(study.experiment, public_epochs=epochs, public_rate=rate)
            (listed[setting],) = results.arm_jobs(study.data, experiment, [seed], device, [setting.arm])
    jobs.carry_out(listed.values())
    for setting, job in listed.items():
        told = json.loads(job.files[0].read_text(encoding="utf-8"))
        keys = {**vars(setting), "seed": seed}
        rows = pd.DataFrame(told["rows"])
        rows = rows[rows["metric"].isin(METRICS)].groupby(["round", "metric"], as_index=False)["value"].mean()
        facts = {name: told[name] for name in ("wall_s", "cpu_s", "commit")}
        costs = pd.DataFrame([{**keys, **facts, "processor": machine.processor(device)}])
        tables.add(folder / "results.csv", rows.assign(**keys)[[*KEY, *rows]], KEY)
        tables.add(folder / "costs.csv", costs, KEY)
