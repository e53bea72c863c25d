"""The analysis plan as data: what `data/analysis_plan.md` fixes, from the block at its end."""

import re
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from dml.config import DATA, Experiment, profile

FILE = DATA / "analysis_plan.md"
BLOCK = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Comparison:
    """DML's `measure` minus that of the arm `against`: claimed to be "above" or "below" zero."""

    measure: str
    against: str
    claimed: str


@dataclass(frozen=True)
class Study:
    """A protocol on a data set, the arms that are run, and which seeds decide."""

    name: str
    profile: str
    data: str
    exploratory: range
    confirmatory: range
    arms: tuple[str, ...]
    unseen_images: int | None = None
    precision: str = "float32"

    @property
    def experiment(self) -> Experiment:
        """The profile's, with the study's own precision, and number of unseen images where it has one."""
        own = replace(profile(self.profile).experiment, precision=self.precision)
        return own if self.unseen_images is None else replace(own, unseen_images=self.unseen_images)


@dataclass(frozen=True)
class Tuned:
    """Which arms are tuned over which values, on which seeds they are chosen and on which they run."""

    arms: tuple[str, ...]
    public_epochs: tuple[int, ...]
    learning_rates: tuple[float, ...]
    chosen_on: range
    run_on: range


@dataclass(frozen=True)
class Plan:
    """Level of the intervals, margin of equivalence (a share), families of comparisons by name, studies by name, and
    what of a study is computed again: on a CPU, beside a GPU's; in bf16; the seeds of before the plan, on a GPU.
    """

    level: float
    margin: float
    late_rounds: int
    families: dict[str, tuple[Comparison, ...]]
    studies: dict[str, Study]
    devices: Study
    precision: Study
    earlier: Study
    tuned: Tuned


def block(file: Path) -> dict:
    """What the TOML block of a plan's page says. Raises ValueError when there is none."""
    found = BLOCK.search(file.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{file} has no block of TOML")
    return tomllib.loads(found[1])


@cache
def plan(file: Path = FILE) -> Plan:
    """The plan of a file. Raises ValueError when it holds no TOML block."""
    told = block(file)
    families = {name: tuple(Comparison(**row) for row in rows) for name, rows in told["families"].items()}
    studies = {name: Study(name=name, **_typed(values)) for name, values in told["studies"].items()}
    again = {name: _typed(told[name]) for name in ("devices", "precision", "earlier")}
    repeated = {name: replace(studies[own.pop("study")], name=name, **own) for name, own in again.items()}
    tuned = Tuned(**_typed(told["tuned"]))
    return Plan(told["level"], told["margin"], told["late_rounds"], families, studies, **repeated, tuned=tuned)


def span(told: dict) -> range:
    """Seeds from the first to the last, both of them in it."""
    return range(told["first"], told["last"] + 1)


def within(asked: Sequence[int], planned: Collection[int]) -> Sequence[int]:
    """The seeds asked for, all planned ones where none is. Raises ValueError for a seed that is not planned: chosen
    later, it would stand on record beside those that were fixed before.
    """
    if set(asked) - set(planned):
        told = [", ".join(map(str, seeds)) for seeds in (asked, sorted(planned))]
        raise ValueError(f"seeds {told[0]}: a study is of planned ones alone, here {told[1]}")
    return tuple(asked) or tuple(planned)


def _typed(values: dict) -> dict:
    """Seeds as ranges, lists as tuples."""

    def typed(value: object) -> object:
        if isinstance(value, dict):
            return span(value)
        return tuple(value) if isinstance(value, list) else value

    return {name: typed(value) for name, value in values.items()}
