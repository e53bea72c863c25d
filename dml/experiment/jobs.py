"""Work whose results are files of the cache: listed before anything runs, and done once, on every core or elsewhere."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import torch

from dml.config import Experiment
from dml.data.images import Images, images_of
from dml.files import DataError, replacing
from dml.training import machine, workers
from dml.training.workers import Task

SECONDS = 4.8e-7  # CPU time to train on one image, a pixel; data/results/README.md says of which machine


@dataclass(frozen=True, kw_only=True)
class Job(Task):
    """A task that returns the contents of its `files`, bytes each; most have one. `says` puts one into words."""

    title: str
    files: tuple[Path, ...]
    device: torch.device
    says: Callable[[bytes], str] | None = None

    @property
    def done(self) -> bool:
        """Whether the cache holds all that this job makes."""
        return all(file.is_file() for file in self.files)


def seconds(experiment: Experiment, trained: float, evaluated: float = 0) -> float:
    """About how many CPU seconds it takes to train on so many images (an image counts once an epoch) and to classify
    others, which takes a quarter.
    """
    return SECONDS * experiment.size**2 * (trained + evaluated / 4)


def unique(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, each once: what several notebooks need is one job."""
    return list({job.files: job for job in jobs}.values())


def shard(jobs: Sequence[Job], part: int, parts: int) -> list[Job]:
    """The part, counted from 1, of the jobs that one of so many machines does: disjoint, of about equal cost, and the
    same on every machine, whatever the cache holds already.
    """
    return sorted(unique(jobs), key=lambda job: (-job.cost, job.files))[part - 1 :: parts]


def carry_out(jobs: Iterable[Job], executor: Executor | None = None) -> int:
    """Do the jobs that the cache does not hold, by processes of this machine or by an executor; returns how many.

    Results are written here, each when it comes and in one step, so that a killed run finds again what was finished.
    """
    missing = [job for job in unique(jobs) if not job.done]
    most = min((machine.processes(job.device) for job in missing), default=0)
    workers.carry_out(missing, _write, executor=executor, most=most)
    return len(missing)


def _write(job: Job, contents: Sequence[bytes]) -> str:
    for file, content in zip(job.files, contents, strict=True):
        with replacing(file) as part:
            part.write_bytes(content)
    return f" ({job.title}: {job.says(contents[-1])})" if job.says else ""


def same_images(data: str, experiment: Experiment, sha256: str) -> Images:
    """The images of a job, where it runs. Raises DataError when they are not those it was listed for."""
    images = images_of(data, experiment)
    if images.sha256 != sha256:
        raise DataError(
            f'data "{data}" on {machine.name()} are other images (SHA-256 {images.sha256[:12]}..., expected '
            f"{sha256[:12]}...): give every machine the same files"
        )
    return images
