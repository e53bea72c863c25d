"""Every probe of a run as jobs for all cores, whose small files survive a killed run."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dml.config import CACHE, Experiment, Probe
from dml.experiment import results
from dml.files import replacing
from dml.privacy import defences, shadows, transcripts
from dml.privacy import reconstruction as cases
from dml.privacy.game import deal
from dml.training import machine, workers
from dml.training.stack import carry_out

GAME = tuple(f"privacy.{name}" for name in ("game", "views", "shadows", "defences"))
TRANSCRIPT = (*GAME, "privacy.transcripts", "privacy.balance")
CASE = (*GAME, "privacy.reconstruction", "privacy.inversion", "privacy.rates")

Dial = tuple[str, float]  # how clients train locally, and its number
AS_TRAINED: Dial = ("as trained", 0)


@dataclass(frozen=True)
class Part:
    """One job: `measure(name, experiment, probe, *args, device)` returns tensors that are kept in `file`."""

    measure: Callable[..., dict[str, Tensor]]
    args: tuple
    file: Path
    steps: int


def dials(probe: Probe) -> list[Dial]:
    """How the clients of the first game train: as in the experiment; far too long; with differential privacy."""
    noise = probe.private_noise if defences.available() else ()
    return [AS_TRAINED, ("overfit", probe.overfit_epochs), *(("DP-SGD", multiplier) for multiplier in noise)]


def engine(dial: Dial) -> shadows.Engine:
    """What does the local training at this dial."""
    kind, number = dial
    return {
        "as trained": lambda: carry_out,
        "overfit": lambda: shadows.longer(int(number)),
        "DP-SGD": lambda: defences.private(number),
    }[kind]()


def measure_shadows(
    name: str, experiment: Experiment, probe: Probe, seed: int, dial: Dial, group: int, defended: bool, device
) -> dict[str, Tensor]:
    """The signals of one group of a game (see `shadows.signals`)."""
    game, each = deal(name, experiment, probe.draw, seed), probe.draw.victims
    victims = range(group * each, (group + 1) * each)
    return shadows.signals(game, victims, engine(dial), defences.MESSAGE if defended else {}, device)


def shadow_parts(place: Callable, probe: Probe, seeds: Sequence[int]) -> dict[tuple[int, Dial, int], Part]:
    """The jobs of the membership games, by (seed, dial, group)."""
    parts = {}
    for seed in seeds[: probe.games]:
        for dial in dials(probe) if seed == seeds[0] else [AS_TRAINED]:
            groups = probe.private_groups if dial[0] == "DP-SGD" else probe.draw.groups
            for group in range(groups):
                args = (seed, dial, group, seed == seeds[0] and dial == AS_TRAINED)
                file = place(f"shadows-{dial[0]}-{dial[1]:g}-seed{seed}-{group}", [asdict(probe.draw), args], GAME)
                parts[seed, dial, group] = Part(measure_shadows, args, file, probe.draw.victims)
    return parts


def measure_transcript(
    name: str, experiment: Experiment, probe: Probe, seed: int, arm: str, dial: Dial, device
) -> dict[str, Tensor]:
    """One federation with skewed folds (see `transcripts.record`)."""
    return transcripts.record(name, experiment, probe.skewed_rounds, seed, arm, engine(dial), device)


def transcript_parts(place: Callable, probe: Probe, seed: int) -> dict[tuple[Dial, str, int], Part]:
    """The jobs of the probes across rounds, by (dial, arm, federation)."""
    parts = {}
    for dial, count in ((AS_TRAINED, probe.skewed), (("overfit", probe.overfit_epochs), probe.overfit_skewed)):
        for federation in range(count):
            for arm in shadows.METHODS:
                args = (2_000_000 * (seed + 1) + federation, arm, dial)
                title = f"transcript-{arm}-{dial[0]}-seed{seed}-{federation}"
                steps = 1 + probe.skewed_rounds * (1 + (arm != "fedavg"))
                file = place(title, [probe.skewed_rounds, args], TRANSCRIPT)
                parts[dial, arm, federation] = Part(measure_transcript, args, file, steps)
    return parts


def measure_case(
    name: str, experiment: Experiment, probe: Probe, seed: int, m: int, update: bool, device
) -> dict[str, Tensor]:
    """Every reconstruction of one victim (see `cases.attack`)."""
    return cases.attack(deal(name, experiment, probe.draw, seed), m, probe.iterations, update, device)


def case_parts(place: Callable, probe: Probe, seed: int) -> dict[int, Part]:
    """The jobs of reconstruction, by victim."""
    parts = {}
    for m in range(probe.cases):
        args = (seed, m, m < probe.updates)
        file = place(f"case-seed{seed}-{m}", [asdict(probe.draw), probe.iterations, args], CASE)
        parts[m] = Part(measure_case, args, file, cases.STEPS)
    return parts


def placer(name: str, experiment: Experiment, device: torch.device) -> Callable[[str, list, tuple[str, ...]], Path]:
    """Where the cache keeps a part: a function of its title, of what it depends on and of the modules it runs."""
    sha256 = results.images(name, experiment).sha256

    def place(title: str, facts: list, modules: tuple[str, ...]) -> Path:
        key = results.digest([asdict(experiment), sha256, facts], device, results.code_version(modules))
        return CACHE / "probes" / f"{title.replace(' ', '-')}-{key}.safetensors"

    return place


def compute(name: str, experiment: Experiment, probe: Probe, parts: Sequence[Part], device: torch.device) -> int:
    """Do the jobs that the cache does not hold; returns how many those were."""
    missing = [part for part in parts if read(part.file) is None]
    if device.type == "cuda":
        machine.settle_gpu()
        for part in missing:
            work(name, experiment, probe, part, device)
    else:
        jobs = [workers.Job(work, (name, experiment, probe, part, device), part.steps) for part in missing]
        workers.carry_out(jobs, unit="step", title="probing")
    return len(missing)


def work(name: str, experiment: Experiment, probe: Probe, part: Part, device: torch.device) -> None:
    """Measure a part and keep it."""
    found = part.measure(name, experiment, probe, *part.args, device)
    with replacing(part.file) as file:
        save_file({key: value.contiguous() for key, value in found.items()}, file)


def read(file: Path) -> dict[str, Tensor] | None:
    """A part, or None where it is absent or cut short."""
    try:
        return load_file(file)
    except (OSError, SafetensorError):
        return None
