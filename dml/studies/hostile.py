"""The studies of data/plan_hostile.md: their cells, computed seed by seed and added to the tables on record."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dml.config import CLIP, SMALL, Experiment
from dml.data.images import images_of, require
from dml.experiment import cache, jobs, results
from dml.experiment.jobs import Job
from dml.experiment.ladder import code_of
from dml.files import DataError, read_table
from dml.studies import tables
from dml.studies.plan import within
from dml.studies.study import STUDIES
from dml.training import machine

if TYPE_CHECKING:  # an annex: imported inside functions alone
    from dml.hostile.cells import Cell

BASE = replace(SMALL, unseen_images=2000, glance=0)  # the reduced protocol; only the end is looked at
OF = 10  # clients of the grid
FIELDS = ("arm", "clients", "liars", "attack", "rule", "expected", "clip", "labels", "label_alpha")
KEYS = ["seed", *FIELDS]
GUARDED = (  # arm, rule, clip: what is put to the test
    ("dml", "mean", SMALL.clip),
    ("dml", "mean", CLIP),
    ("dml-peer-first", "mean", CLIP),
    *(("dml", rule, CLIP) for rule in ("score", "experts", "median")),
    ("fedavg", "mean", SMALL.clip),
    *(
        ("fedavg", rule, SMALL.clip)
        for rule in (
            *("median", "trimmed mean", "multi-krum", "centred clipping", "fltrust"),
            "nearest neighbours, median",
        )
    ),
    ("pdmm, c = 0.1", "mean", SMALL.clip),
)
ON_OUTPUTS = ("veto", "partial veto", "scaled flip", "worst honest", "min-max", "inner product", "label flip")
ON_WEIGHTS = ("flip", "scaled", "noise", "alie", "min-max", "inner product", "label flip")
LIARS, RELATIVES = (1, 2, 4), ("fedmd", "dsfl", "def-kt", "fedprox")


def attacks_on(arm: str) -> tuple[str, ...]:
    """What is tried on an arm."""
    return ON_OUTPUTS if arm.startswith("dml") else ON_WEIGHTS


@dataclass(frozen=True)
class Study:
    """A name, the seeds that decide, and the cells; on the data set `data`."""

    name: str
    seeds: range
    cells: Callable[[], "list[Cell]"]
    data: str = "facemask"


def veto_cells() -> "list[Cell]":
    """Form x clip x labels x liars, 0 to 2 of 5, and the arm that hears nobody."""
    from dml.hostile.cells import Cell

    made = [Cell("local+public", 5)]
    for arm, clip, liars in product(("dml", "dml-peer-first"), (SMALL.clip, CLIP), (0, 1, 2)):
        made.append(Cell(arm, 5, liars, "veto" if liars else "", clip=clip))
        if liars < 2:
            made.append(replace(made[-1], labels=False))
    return made


def screen_cells() -> "list[Cell]":
    """Every attack on every guarded arm, 2 of 10: which is its worst one?"""
    return [_cell(guard, 2, attack) for guard in GUARDED for attack in attacks_on(guard[0])]


def grid_cells(screen: pd.DataFrame | None = None) -> "list[Cell]":
    """Every guarded arm at its worst attack of the screen, with 0, 1, 2 and 4 liars of 10 as far as the rule
    bears them; and what hears nobody. Raises DataError before the screen is on record.
    """
    from dml.hostile.cells import Cell

    worst = worst_attacks(_screened() if screen is None else screen)
    made = [Cell("local", OF), Cell("local+public", OF), *(_cell(guard, 0, "") for guard in GUARDED)]
    for guard in GUARDED:
        made += [_cell(guard, liars, worst[guard]) for liars in LIARS if _bears(guard, liars)]
    return made


def training_cells() -> "list[Cell]":
    """The same lie for every method: 2 of 10 train on flipped labels; the backdoor on the plain arms, and how often its
    trigger works where nobody has planted it.
    """
    others = [(arm, "mean", SMALL.clip) for arm in RELATIVES]
    plain = [_cell(guard, liars, "backdoor") for guard in GUARDED if guard[1] == "mean" for liars in (0, 2)]
    return plain + [_cell(guard, 2, "label flip") for guard in (*GUARDED, *others)]


def relatives_cells() -> "list[Cell]":
    """The veto in what FedMD and DS-FL send, with and without labels, and a sender of Def-KT whose net is a lie: 0 to 2
    of 5, on seeds of `hostile-veto`, whose cells stand beside these.
    """
    from dml.hostile.cells import Cell

    attacks = dict.fromkeys(("fedmd", "dsfl", "fedmd+labels", "dsfl+labels"), "veto") | {"def-kt": "flip"}
    return [Cell(arm, 5, liars, attacks[arm] if liars else "") for arm in attacks for liars in (0, 1, 2)]


def skewed_cells() -> "list[Cell]":
    """Honest outliers look hostile: the same rules where clients hold different classes (Dirichlet, 0.3)."""
    chosen = [guard for guard in GUARDED if guard[1] in ("mean", "score", "median") and guard[2:] != (SMALL.clip,)]
    return [
        replace(_cell(guard, liars, "veto" if liars else ""), label_alpha=0.3) for guard in chosen for liars in (0, 2)
    ]


STUDIES_BY_NAME = {
    study.name: study
    for study in (
        Study("hostile-veto", range(20, 40), veto_cells),
        Study("hostile-screen", range(1), screen_cells),
        Study("hostile", range(20, 30), grid_cells),
        Study("hostile-training", range(20, 25), training_cells),
        Study("hostile-skewed", range(20, 25), skewed_cells),
        Study("hostile-relatives", range(20, 30), relatives_cells),
    )
}


def worst_attacks(screen: pd.DataFrame) -> dict[tuple[str, str, float], str]:
    """The attack with the lowest mean accuracy on each guarded arm, by (arm, rule, clip)."""
    rows = screen[screen["metric"] == "accuracy"]
    means = rows.groupby(["arm", "rule", "clip", "attack"], sort=False)["value"].mean().reset_index()
    lowest = means.loc[means.groupby(["arm", "rule", "clip"], sort=False)["value"].idxmin()]
    return {(row.arm, row.rule, row.clip): row.attack for row in lowest.itertuples()}


def _screened() -> pd.DataFrame:
    file = STUDIES / "hostile-screen" / "results.csv"
    if not file.is_file():
        raise DataError(f"{file} is not there: the screen comes first (python -m dml study hostile-screen)")
    return read_table(file)


def _cell(guard: tuple[str, str, float], liars: int, attack: str) -> "Cell":
    """A rule is told how many lie, and 2 where nobody does or one: what it costs then is part of the question."""
    from dml.hostile.cells import Cell

    arm, rule, clip = guard
    return Cell(arm, OF, liars, attack, rule, 0 if rule == "mean" else max(2, liars), clip)


def _bears(guard: tuple[str, str, float], liars: int) -> bool:
    try:
        _cell(guard, liars, "").begin()
    except ValueError:
        return False
    return True


def jobs_of(
    data: str, cells: "Sequence[Cell]", seeds: Sequence[int], base: Experiment, device: str = "auto"
) -> "dict[tuple[int, Cell], Job]":
    """A job for every seed and cell. Raises DataError when the data do not fit."""
    from dml.hostile.cells import MODULES, measure

    target, made = machine.device(device), {}
    for cell in cells:
        experiment = cell.experiment(base)
        images = images_of(data, experiment)
        require(images, experiment.folds)
        cost = results.cost(experiment, images, "fedavg" if cell.arm.startswith("pdmm") else cell.arm)
        modules = (*MODULES, *code_of(experiment, cell.arm))
        for seed in seeds:
            about = (f"{cell.arm}-seed{seed}", "json", experiment, images.sha256, [asdict(cell), seed])
            file = cache.place("hostile", *about, target, modules)
            made[seed, cell] = Job(
                measure,
                (data, images.sha256, experiment, cell, seed, target.type),
                results.phases(experiment, cell.arm),
                cost,
                title=f"{cell.title}, seed {seed}",
                files=(file,),
                device=target,
            )
    return made


def carry_out(study: Study, seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES) -> None:
    """Compute what is not on record of a study, seed by seed; after each seed its rows are in `to`/<study>.

    A killed run goes on where it stopped. Raises ValueError for a seed that is not planned, DataError when the data do
    not fit.
    """
    folder = to / study.name
    for seed in within(seeds, study.seeds):
        recorded = tables.there(folder / "costs.csv", KEYS)
        listed = jobs_of(study.data, study.cells(), [seed], BASE, device)
        missing = [job for key, job in listed.items() if (key[0], *asdict(key[1]).values()) not in recorded]
        jobs.carry_out(missing)
        if missing:
            _add(folder, [recorded_by(job) for job in missing])
            _tell(study, folder, device)


def recorded_by(job: Job) -> dict:
    """The record that a job has left."""
    return json.loads(job.files[0].read_text(encoding="utf-8"))


def rows(records: Iterable[dict]) -> pd.DataFrame:
    """Records as a table: columns `KEYS`, metric, value."""
    made = [
        {**{key: record[key] for key in KEYS}, "metric": metric, "value": value}
        for record in records
        for metric, value in record["values"].items()
    ]
    return pd.DataFrame(made, columns=[*KEYS, "metric", "value"])


def _add(folder: Path, records: list[dict]) -> None:
    """Put records into the tables of a folder; costs.csv, which says what is there, last."""
    costs = [
        {**{key: record[key] for key in KEYS}, "cpu_s": round(record["cpu_s"], 2), "commit": record["commit"]}
        for record in records
    ]
    tables.add(folder / "results.csv", rows(records).sort_values("metric", kind="stable"), KEYS)
    tables.add(folder / "costs.csv", pd.DataFrame(costs), KEYS)


def _tell(study: Study, folder: Path, device: str) -> None:
    images = images_of(study.data, BASE)
    facts = {
        "study": study.name,
        "data": images.name,
        "source": images.source,
        "classes": images.classes,
        "experiment": asdict(BASE),
        "code_version": cache.code_version(),
    }
    tables.manifest(folder, facts, machine.device(device))
