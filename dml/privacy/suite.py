"""Every probe on a run's data: all jobs in one queue, then all tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from dml.config import Experiment, Probe
from dml.privacy import membership_tables as report
from dml.privacy import probes
from dml.privacy import tables as verdict


@dataclass(frozen=True)
class Tables:
    """What the probes found: tables of `report` and `verdict` by name; and the recovered images with their private
    ones and scores, which are no table, by "<case>/<attack>/<what>".
    """

    rates: pd.DataFrame
    curves: pd.DataFrame
    differences: pd.DataFrame
    balance: pd.DataFrame
    errors: pd.DataFrame
    reconstruction: pd.DataFrame
    price: pd.DataFrame
    verdict: pd.DataFrame
    images: Mapping[str, Tensor]
    computed: int
    parts: int

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by the name of their file."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {f"privacy_{name}": each for name, each in found.items() if isinstance(each, pd.DataFrame)}

    def summary(self) -> str:
        """How much was computed and how much was found in the cache."""
        return f"{self.computed} parts computed, {self.parts - self.computed} reused"


def _parts(name: str, experiment: Experiment, probe: Probe, seeds: Sequence[int], device: torch.device) -> tuple:
    place = probes.placer(name, experiment, device)
    pictures = probes.case_parts(place, probe, seeds[0])
    return pictures, probes.transcript_parts(place, probe, seeds[0]), probes.shadow_parts(place, probe, seeds)


def files(name: str, experiment: Experiment, probe: Probe, seeds: Sequence[int], device: torch.device) -> list[Path]:
    """Where the cache keeps what the probes measure, computed or not."""
    return [part.file for each in _parts(name, experiment, probe, seeds, device) for part in each.values()]


def attack(name: str, experiment: Experiment, probe: Probe, seeds: Sequence[int], device: torch.device) -> Tables:
    """Every probe on the data set `name`, from the cache where possible.

    Raises DataError, before anything is trained, when there are too few images for the membership game.
    """
    pictures, transcripts, games = _parts(name, experiment, probe, seeds, device)
    parts = [*pictures.values(), *transcripts.values(), *games.values()]  # the longest first
    computed = probes.compute(name, experiment, probe, parts, device)

    signals: dict[probes.Dial, list[dict]] = {}
    for seed, dial in dict.fromkeys((seed, dial) for seed, dial, _ in games):
        mine = [part for key, part in games.items() if key[:2] == (seed, dial)]
        signals.setdefault(dial, []).append(_joined([probes.read(part.file) for part in mine]))
    told = {key: _arrays(probes.read(part.file)) for key, part in transcripts.items()}
    recovered = {case: probes.read(part.file) for case, part in pictures.items()}

    rates, curves, differences = report.membership_tables(signals, probe.draw.victims)
    balance = verdict.balance_table(told)
    errors = verdict.balance_errors(balance)
    reconstruction = verdict.reconstruction_table({case: _arrays(each) for case, each in recovered.items()})
    price = verdict.price_table(signals, rates, experiment)
    return Tables(
        rates=pd.concat([rates, report.across_rounds(told)]),
        curves=curves,
        differences=differences,
        balance=balance,
        errors=errors,
        reconstruction=reconstruction,
        price=price,
        verdict=verdict.verdict(rates, errors, reconstruction, price),
        images={f"{case}/{name}": value for case, each in recovered.items() for name, value in each.items()},
        computed=computed,
        parts=len(parts),
    )


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict:
    return _arrays({name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def _arrays(part: Mapping[str, Tensor]) -> dict:
    return {name: value.numpy() for name, value in part.items()}
