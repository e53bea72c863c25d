"""Every probe of a run: its jobs, whose small files survive a killed run, and the tables made of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dml.config import Experiment, Probe
from dml.data.images import images_of
from dml.experiment import cache, jobs
from dml.experiment.jobs import Job
from dml.privacy import balance, defences, membership_tables, reconstruction, shadows, tables
from dml.privacy.game import deal
from dml.training.memory import carry_out

GAME = ("data.audit", *(f"privacy.{name}" for name in ("game", "views", "shadows", "surrogate", "defences")))
TRANSCRIPT = (*GAME, "privacy.balance")
CASE = (*GAME, "privacy.reconstruction", "privacy.inversion", "privacy.rates")

Dial = tuple[str, float]  # how clients train locally, and its number
AS_TRAINED: Dial = ("as trained", 0)
CLIPPED = 6  # times as long as without it takes a step of DP-SGD, which needs every image's own gradient
TWICE = 30  # times as long as a training step takes one of an inversion: all of them together, at one image each
Maker = Callable[..., Job]


@dataclass(frozen=True)
class PrivacyTables:
    """What the probes found: tables of `membership_tables` and `tables` by name; and the recovered images with their
    private ones and scores, which are no table, by "<case>/<attack>/<what>".
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
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {f"privacy_{name}": field for name, field in values.items() if isinstance(field, pd.DataFrame)}

    def summary(self) -> str:
        """How much was computed and how much was found in the cache."""
        return f"{self.computed} parts computed, {self.parts - self.computed} reused"


@dataclass(frozen=True)
class ProbeJobs:
    """The jobs of a run's probes, by what they are of: a victim; (dial, arm, federation); (seed, dial, group)."""

    cases: Mapping[int, Job]
    transcripts: Mapping[tuple[Dial, str, int], Job]
    shadows: Mapping[tuple[int, Dial, int], Job]

    def all(self) -> list[Job]:
        """Every job."""
        return [*self.cases.values(), *self.transcripts.values(), *self.shadows.values()]


def probe_jobs(
    data: str, experiment: Experiment, probe: Probe, seeds: Sequence[int], device: torch.device
) -> ProbeJobs:
    """The jobs of every probe on the data set `data`."""
    images = images_of(data, experiment)

    def make(measure: Callable, args: tuple, title: str, facts: list, modules: tuple, steps: int, cost: float) -> Job:
        file = cache.place("probes", title, "safetensors", experiment, images.sha256, [facts], device, modules)
        arguments = (measure, data, images.sha256, experiment, probe, args, str(device))
        return Job(work, arguments, steps, cost, title=title, files=(file,), device=device)

    fold = len(images.train) / experiment.folds
    return ProbeJobs(
        case_jobs(make, probe, seeds[0], jobs.seconds(experiment, fold)),
        transcript_jobs(make, experiment, probe, seeds[0], jobs.seconds(experiment, fold)),
        shadow_jobs(make, experiment, probe, seeds, jobs.seconds(experiment, fold)),
    )


def dials(probe: Probe) -> list[Dial]:
    """How the clients of the first game train: as in the experiment; far too long; with differential privacy."""
    noise = probe.private_noise if defences.available() else ()
    return [AS_TRAINED, ("overfit", probe.overfit_epochs), *(("DP-SGD", multiplier) for multiplier in noise)]


def engine(dial: Dial) -> shadows.Engine:
    """What does the local training at this dial."""
    kind, number = dial
    return {
        "as trained": lambda: carry_out,
        "overfit": lambda: shadows.overfit(int(number)),
        "DP-SGD": lambda: defences.dp_sgd(number),
    }[kind]()


def epochs_of(dial: Dial, experiment: Experiment) -> float:
    """How many epochs of plain training the local training at this dial is worth."""
    kind, number = dial
    return number if kind == "overfit" else experiment.epochs * (CLIPPED if kind == "DP-SGD" else 1)


def measure_shadows(
    data: str, experiment: Experiment, probe: Probe, seed: int, dial: Dial, group: int, defended: bool, device
) -> dict[str, Tensor]:
    """The signals of one group of a game (see `shadows.signals`)."""
    game, victims = deal(data, experiment, probe.draw, seed), probe.draw.victims
    members = range(group * victims, (group + 1) * victims)
    return shadows.signals(game, members, engine(dial), defences.MESSAGE if defended else {}, device)


def shadow_jobs(
    make: Maker, experiment: Experiment, probe: Probe, seeds: Sequence[int], epoch_s: float
) -> dict[tuple[int, Dial, int], Job]:
    """The jobs of the membership games; `epoch_s` is what an epoch on a private fold takes."""
    made, victims = {}, probe.draw.victims
    for seed in seeds[: probe.games]:
        for dial in dials(probe) if seed == seeds[0] else [AS_TRAINED]:
            groups = probe.private_groups if dial[0] == "DP-SGD" else probe.draw.groups
            for group in range(groups):
                defended = seed == seeds[0] and dial == AS_TRAINED
                args = (seed, dial, group, defended)
                title = f"shadows-{dial[0]}-{dial[1]:g}-seed{seed}-{group}"
                local = (victims + experiment.clients - 1) * epochs_of(dial, experiment)
                refined = victims * 2 * experiment.epochs * (1 + defended)
                facts, cost = [asdict(probe.draw), args], epoch_s * (local + refined + 20 * victims)
                made[seed, dial, group] = make(measure_shadows, args, title, facts, GAME, victims, cost)
    return made


def measure_transcript(
    data: str, experiment: Experiment, probe: Probe, seed: int, arm: str, dial: Dial, device
) -> dict[str, Tensor]:
    """One federation with skewed folds (see `balance.transcript`)."""
    return balance.transcript(data, experiment, probe.skewed_rounds, seed, arm, engine(dial), device)


def transcript_jobs(
    make: Maker, experiment: Experiment, probe: Probe, seed: int, epoch_s: float
) -> dict[tuple[Dial, str, int], Job]:
    """The jobs of the probes across rounds."""
    made, rounds = {}, probe.skewed_rounds
    for dial, count in ((AS_TRAINED, probe.skewed), (("overfit", probe.overfit_epochs), probe.overfit_skewed)):
        for federation in range(count):
            for arm in shadows.METHODS:
                args = (2_000_000 * (seed + 1) + federation, arm, dial)
                title = f"transcript-{arm}-{dial[0]}-seed{seed}-{federation}"
                refines = arm != "fedavg"
                local = rounds * experiment.clients * (epochs_of(dial, experiment) + refines * experiment.epochs)
                steps, facts = 1 + rounds * (1 + refines), [rounds, args]
                made[dial, arm, federation] = make(
                    measure_transcript, args, title, facts, TRANSCRIPT, steps, epoch_s * local
                )
    return made


def measure_case(
    data: str, experiment: Experiment, probe: Probe, seed: int, m: int, update: bool, device
) -> dict[str, Tensor]:
    """Every reconstruction of one victim (see `reconstruction.attack`)."""
    return reconstruction.attack(deal(data, experiment, probe.draw, seed), m, probe.iterations, update, device)


def case_jobs(make: Maker, probe: Probe, seed: int, epoch_s: float) -> dict[int, Job]:
    """The jobs of reconstruction."""
    made = {}
    for m in range(probe.cases):
        update = m < probe.updates
        facts = [asdict(probe.draw), probe.iterations, (seed, m, update)]
        cost = epoch_s * probe.iterations * (TWICE / 10 + 6 * update)
        made[m] = make(measure_case, (seed, m, update), f"case-seed{seed}-{m}", facts, CASE, reconstruction.STEPS, cost)
    return made


def work(
    measure: Callable, data: str, sha256: str, experiment: Experiment, probe: Probe, args: tuple, device: str
) -> list[bytes]:
    """One job: what it measured, as safetensors."""
    jobs.same_images(data, experiment, sha256)
    tensors = measure(data, experiment, probe, *args, torch.device(device))
    return [save({key: value.contiguous() for key, value in tensors.items()})]


def read(file: Path) -> dict[str, Tensor] | None:
    """What a job measured, or None where it is absent or cut short."""
    try:
        return load_file(file)
    except (OSError, SafetensorError):
        return None


def attack(
    data: str, experiment: Experiment, probe: Probe, seeds: Sequence[int], device: torch.device
) -> PrivacyTables:
    """Every probe on the data set `data`, from the cache where possible.

    Raises DataError, before anything is trained, when there are too few images for the membership game.
    """
    listed = probe_jobs(data, experiment, probe, seeds, device)
    for job in listed.all():
        if job.done and read(job.files[0]) is None:  # cut short by a full disk
            job.files[0].unlink()
    computed = jobs.carry_out(listed.all())

    signals: dict[Dial, list[membership_tables.Arrays]] = {}
    for seed, dial in dict.fromkeys((seed, dial) for seed, dial, _ in listed.shadows):
        parts = [load_file(job.files[0]) for key, job in listed.shadows.items() if key[:2] == (seed, dial)]
        signals.setdefault(dial, []).append(_joined(parts))
    told = {key: _arrays(load_file(job.files[0])) for key, job in listed.transcripts.items()}
    recovered = {case: load_file(job.files[0]) for case, job in listed.cases.items()}

    rates, curves, differences = membership_tables.membership_tables(signals, probe.draw.victims)
    shares = tables.balance_table(told)
    errors = tables.balance_errors(shares)
    pictures = tables.reconstruction_table({case: _arrays(part) for case, part in recovered.items()})
    price = tables.price_table(signals, rates, experiment)
    return PrivacyTables(
        rates=pd.concat([rates, membership_tables.across_rounds(told)]),
        curves=curves,
        differences=differences,
        balance=shares,
        errors=errors,
        reconstruction=pictures,
        price=price,
        verdict=tables.verdict(rates, errors, pictures, price),
        images={f"{case}/{name}": value for case, part in recovered.items() for name, value in part.items()},
        computed=computed,
        parts=len(listed.all()),
    )


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict:
    return _arrays({name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def _arrays(part: Mapping[str, Tensor]) -> dict:
    return {name: value.numpy() for name, value in part.items()}
