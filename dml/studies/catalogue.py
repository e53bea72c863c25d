"""All studies by name, of the plans in data/: analysis_plan.md with its tuned arms, and plan_*.md."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from dml.studies import (
    crafted,
    crowd,
    crowd_cost,
    defences,
    generalisation,
    hostile,
    privacy,
    reconstruction,
    skew,
    study,
    sweep,
    tuned,
)
from dml.studies.plan import plan

Seeds = Sequence[int]


def _studies() -> Mapping[str, Callable[[Seeds], object]]:
    """What computes the named seeds of each study, or all that its plan has; of two it is all or nothing."""
    return {
        **{name: partial(study.carry_out, planned) for name, planned in plan().studies.items()},
        "devices": partial(study.carry_out, plan().devices, device="cpu"),
        "precision": partial(study.carry_out, plan().precision, device="cuda"),
        "earlier": partial(study.carry_out, plan().earlier, device="cuda"),
        "tuned": lambda _: tuned.carry_out(),
        **{name: partial(skew.carry_out, name) for name in skew.NAMES},
        **{name: partial(hostile.carry_out, asked) for name, asked in hostile.STUDIES_BY_NAME.items()},
        sweep.NAME: sweep.carry_out,
        crowd.NAME: crowd.carry_out,
        crowd_cost.NAME: lambda _: crowd_cost.carry_out(),
        generalisation.NAME: generalisation.carry_out,
        privacy.NAME: privacy.carry_out,
        crafted.NAME: crafted.carry_out,
        defences.NAME: defences.carry_out,
        reconstruction.NAME: reconstruction.carry_out,
    }


def names() -> tuple[str, ...]:
    """What there is."""
    return tuple(_studies())


def carry_out(name: str, seeds: Seeds = ()) -> Path:
    """Compute what is not on record of a study, of the named seeds or all that its plan has, and add it to its tables.
    Returns their folder. Raises ValueError for another name or seed, DataError when the data do not fit.
    """
    if name not in _studies():
        raise ValueError(f"study {name!r}: choose one of {', '.join(names())}")
    _studies()[name](seeds)
    return study.STUDIES / name
