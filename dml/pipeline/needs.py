"""What each notebook needs: the jobs behind it, and what the images must allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dml.config import Experiment
from dml.data.images import Images
from dml.evidence import many_clients
from dml.experiment import results
from dml.experiment.jobs import Job
from dml.files import DataError

if TYPE_CHECKING:
    from dml.pipeline.run import Run


def accuracy_jobs(run: Run) -> list[Job]:
    """Every arm and seed."""
    return results.arm_jobs(run.data, run.experiment, run.seeds, run.target)


def bandwidth_jobs(run: Run) -> list[Job]:
    """The arms and rungs of the profile's ladder."""
    ladder = run.sizes.ladder
    seeds = run.seeds[: ladder.seeds or None]
    return results.arm_jobs(run.data, run.experiment, seeds, run.target, ladder.arms)


def privacy_jobs(run: Run) -> list[Job]:
    """Every privacy probe; none where they cannot run."""
    from dml.privacy import probes  # an annex

    if run.no_privacy:
        return []
    return probes.probe_jobs(run.data, run.experiment, run.sizes.probe, run.seeds, run.target).all()


def no_privacy(images: Images, experiment: Experiment) -> str:
    """Why the privacy probes cannot run on these images; "" when they can."""
    from dml.privacy import game  # an annex

    try:
        game.require(images, experiment)
    except DataError as error:
        return str(error)
    return ""


def many_clients_jobs(run: Run) -> list[Job]:
    """The arms with more and fewer clients."""
    chosen = run.sizes.many_clients
    seeds = run.seeds[: chosen.seeds or None]
    return many_clients.jobs(run.data, run.experiment, chosen.clients, seeds, run.target)


def checked(seeds: Sequence[int], usual: int) -> tuple[int, ...]:
    """The seeds of a run, by default the first `usual` ones. Raises ValueError for what are no seeds."""
    if isinstance(seeds, int):
        raise ValueError(f"seeds = {seeds}: give a list of them, for example [{seeds}]")
    seeds = tuple(seeds) or tuple(range(usual))
    if len(set(seeds)) < len(seeds) or any(not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise ValueError(f"seeds {list(seeds)}: give different whole numbers from 0 up")
    return seeds


def differing_jobs(run: Run) -> list[Job]:
    """Clients that differ, in classes and in models."""
    from dml.pipeline import differing

    return differing.jobs(run)


def hostile_jobs(run: Run) -> list[Job]:
    """A liar or none, in one seed."""
    from dml.pipeline import lies

    return lies.jobs(run)


def newcomers_jobs(run: Run) -> list[Job]:
    """A supersample of clients and images, in one outer draw."""
    from dml.pipeline import newcomers

    return newcomers.jobs(run)


def crowd_jobs(run: Run) -> list[Job]:
    """Clients that keep their images and come and go, and the arms with fresh folds."""
    from dml.pipeline import crowded

    return [*crowded.jobs(run), *many_clients_jobs(run)]


NEEDS: dict[str, tuple[Callable[[Run], list[Job]], ...]] = {  # by the notebook's number
    "02": (accuracy_jobs,),
    "03": (privacy_jobs,),
    "04": (bandwidth_jobs,),
    "05": (differing_jobs,),
    "06": (hostile_jobs,),
    "07": (crowd_jobs,),
    "08": (newcomers_jobs,),
    "09": (accuracy_jobs, privacy_jobs, bandwidth_jobs, many_clients_jobs, hostile_jobs),
}
