"""All studies by name, of the plans in data/: analysis_plan.md with its tuned arms, and plan_*.md."""

from collections.abc import Sequence
from pathlib import Path

from dml.studies import crowd, crowd_cost, generalisation, hostile, privacy, skew, study, tuned
from dml.studies.plan import plan


def names() -> tuple[str, ...]:
    """What there is."""
    others = (crowd.NAME, crowd_cost.NAME, generalisation.NAME, privacy.NAME)
    return (*plan().studies, "tuned", *skew.NAMES, *hostile.STUDIES_BY_NAME, *others)


def carry_out(name: str, seeds: Sequence[int] = ()) -> Path:
    """Compute what is not on record of a study, of the named seeds or all that its plan has, and add it to its tables.
    Returns their folder. Raises ValueError for another name, DataError when the data do not fit.
    """
    if name not in names():
        raise ValueError(f"study {name!r}: choose one of {', '.join(names())}")
    if name in plan().studies:
        planned = plan().studies[name]
        study.carry_out(planned, seeds or planned.confirmatory)
    elif name == "tuned":
        tuned.carry_out()
    elif name in skew.NAMES:
        skew.carry_out(name, seeds)
    elif name == generalisation.NAME:
        generalisation.carry_out(seeds)
    elif name == privacy.NAME:
        privacy.carry_out(seeds)
    elif name == crowd.NAME:
        crowd.carry_out(seeds)
    elif name == crowd_cost.NAME:
        crowd_cost.carry_out()
    else:
        hostile.carry_out(hostile.STUDIES_BY_NAME[name], seeds)
    return study.STUDIES / name
