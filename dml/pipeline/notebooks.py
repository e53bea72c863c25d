"""A run from end to end: its jobs in one queue, then the numbered notebooks, each a papermill copy in a kernel of its
own, then the report; the manifest comes last.
"""

import dml.pipeline.quick  # noqa: F401  # isort: skip

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import papermill
from jupyter_client.kernelspec import get_kernel_spec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from dml.config import ROOT
from dml.experiment import jobs
from dml.experiment.jobs import Job
from dml.files import DataError, read_table, write_text
from dml.pipeline import ahead, output
from dml.pipeline.report import report
from dml.pipeline.run import Run
from dml.training import workers
from dml.training.workers import Task

NOTEBOOKS = ROOT / "notebooks"
TAG = "parameters"
KERNEL = "python3"
SAME = ("experiment", "seeds", "models", "data_sha256", "code_version", "device", "processor", "versions")  # of a run

log = logging.getLogger(__name__)


class PipelineError(RuntimeError):
    """A notebook that cannot be run or that failed; the text names it, the cell and the error."""


def notebooks(only: str = "", folder: Path = NOTEBOOKS) -> list[Path]:
    """The numbered notebooks in order, or the one whose name starts with `only`. Raises PipelineError for none and for
    several.
    """
    numbered = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    chosen = [path for path in numbered if path.name.startswith(only)]
    if not chosen:
        names = ", ".join(path.stem for path in numbered) or "none"
        raise PipelineError(f"no notebook starts with {only!r} in {folder.name}/; there are: {names}")
    if only and len(chosen) > 1:
        raise PipelineError(f"{only!r} names {', '.join(path.stem for path in chosen)}: give more of one name")
    return chosen


def check(notebook: Path, parameters: dict) -> None:
    """Papermill only warns of a parameter that a notebook does not know; here it is an error, as is a missing tag."""
    tagged = [cell for cell in _cells(notebook) if TAG in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise PipelineError(f"{notebook.name} has {len(tagged)} cells tagged {TAG!r}; it needs exactly one")
    known = papermill.inspect_notebook(str(notebook))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise PipelineError(f"{notebook.name} has no parameter {', '.join(unknown)}; it has {', '.join(known)}")


def _cells(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def execute(notebook: Path, parameters: dict, to: Path) -> float:
    """Run a copy of `notebook` and keep it in the folder `to`, also when a cell fails. Returns seconds."""
    check(notebook, parameters)
    to.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    try:
        papermill.execute_notebook(
            str(notebook),
            str(to / notebook.name),
            parameters,
            kernel_name=KERNEL,
            cwd=str(notebook.parent),
            progress_bar=False,
            stderr_file=sys.stderr,
            extra_arguments=["--log-level=CRITICAL"],  # else the kernel tells that its TCP is plain, and how it ends
        )
    except OSError as error:  # papermill writes the copy after every cell
        raise PipelineError(
            f"cannot write {to / notebook.name} ({error}); make room: the same command goes on"
        ) from error
    except (PapermillExecutionError, DeadKernelError) as error:
        if isinstance(error, DeadKernelError):  # it does not say where
            code = [cell for cell in _cells(to / notebook.name) if cell["cell_type"] == "code"]
            begun = [cell for cell in code if cell["metadata"]["papermill"]["start_time"]]
            cell, what = len(begun), "the kernel died (killed, or out of memory?)"
        else:
            cell, what = error.exec_count, f"{error.ename}: {error.evalue}"
        raise PipelineError(f"{notebook.name}, cell [{cell}]: {what}\n(the copy is in {to})") from error
    return time.perf_counter() - began


def execute_all(notebooks: Sequence[Path], parameters: dict, to: Path) -> dict[str, float]:
    """Run the notebooks, as many at a time as there are cores: none needs what another writes. Returns the seconds of
    each, by its stem; raises PipelineError for the first that fails, and the others do not go on.

    Each has a process of its own that drives its kernel: papermill in several threads of one process loses a kernel's
    reply now and then, and waits for ever.
    """
    seconds: dict[str, float] = {}

    def keep(task: Task, spent: float) -> None:
        seconds[task.args[0].stem] = round(spent, 1)
        log.info("finished %s in %.0f s", task.args[0].name, spent)

    tasks = [Task(execute, (notebook, parameters, to)) for notebook in notebooks]
    workers.carry_out(tasks, keep, title="notebooks", unit="notebook")
    return {notebook.stem: seconds[notebook.stem] for notebook in notebooks}


def same_package() -> None:
    """Hand this package to the kernels, and make sure that they take it: in an environment where another checkout is
    installed a kernel would run that one's code and use its cache.

    Raises PipelineError naming both.
    """
    ahead.hand_over_package()
    spec = get_kernel_spec(KERNEL)
    ask = [spec.argv[0], "-c", "import dml; print(dml.__path__[0])"]
    told = subprocess.run(ask, capture_output=True, text=True, env={**os.environ, **spec.env}, cwd=NOTEBOOKS)
    package = told.stdout.strip()
    if told.returncode or Path(package).resolve() != ROOT / "dml":
        says = package or told.stderr.strip().rpartition("\n")[2]
        raise PipelineError(
            f"the kernel {KERNEL!r} ({spec.argv[0]}) does not import the package of this checkout, {ROOT / 'dml'}, "
            f"but: {says}; install this checkout in the environment that the kernel runs in"
        )


def listed(run: Run, only: str = "") -> list[Job]:
    """The jobs behind the chosen notebooks, each once; nothing is run. Raises DataError when the data do not fit."""
    return jobs.unique(job for notebook in notebooks(only) for job in run.jobs(notebook.stem))


def reproduce(run: Run, only: str = "", executor: Executor | None = None, anew: bool = False) -> Path:
    """Do the jobs of a run, by processes of this machine or by an executor; execute the notebooks, which then only
    read; write the report and the manifest. `anew` computes also what the cache holds. Returns the manifest's path.

    Raises DataError for unusable data, PipelineError for a notebook; both before anything runs, where that is possible.
    A manifest from an earlier run is removed first: while it is there, the run is complete. So are the tables of a run
    with other seeds, data, code or machine, its executed notebooks, pages and figures: what lies in the folder belongs
    together. What is not listed there as ours stays.
    """
    chosen = notebooks(only)
    if (run.folder / "notebooks").resolve() == NOTEBOOKS:
        raise PipelineError(f"{run.folder} holds the project's own notebooks: choose another folder for the run")
    log.info("data: %s", run.title)  # loads it
    parameters = {
        "profile": run.profile,
        "data": run.data,
        "seeds": list(run.seeds),
        "results": str(run.folder.resolve()),
        "figures": str(run.figures.resolve()),
        "device": run.device,
        "precision": run.experiment.precision,
        "clients": run.experiment.clients,
        "rounds": run.experiment.rounds,
        "train_images": run.experiment.train_images,
        "models": run.models,
    }
    skipped = {path.stem: why for path in chosen if (why := run.skipped(path.stem))}
    for stem, why in skipped.items():
        log.warning("%s is left out: %s", stem, why)
    chosen = [path for path in chosen if path.stem not in skipped]
    if not chosen:
        raise PipelineError("nothing is left to run")
    for notebook in chosen:
        check(notebook, parameters)
    same_package()
    needed = listed(run, only)
    output.claim(run.folder)
    with output.held(run.folder):
        _clear(run)
        for file in (file for job in needed if anew for file in job.files):
            file.unlink(missing_ok=True)
        began = time.perf_counter()
        computed = jobs.carry_out(needed, executor)
        spent = round(time.perf_counter() - began, 1)
        log.info("%d jobs computed, %d found in the cache", computed, len(needed) - computed)
        copies, pages = run.folder / "notebooks", run.folder / "report"
        output.note(run.folder, [copies / path.name for path in chosen])
        stages = execute_all(chosen, parameters, copies)
        manifest = run.manifest(jobs_s=spent, stages_s=stages, arms_s=_costs(run.folder), skipped=skipped)
        log.info("writing the report")
        output.note(run.folder, [pages / "index.html", *(pages / f"{path.stem}.html" for path in chosen)])
        report(run.folder, manifest, run.judge())
        file = run.folder / "manifest.json"
        write_text(file, json.dumps(manifest, indent=1) + "\n")
    return file


def _clear(run: Run) -> None:
    file = run.folder / "manifest.json"
    try:
        old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        told = {name: old.get(name) for name in SAME}
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"{file} is not what `reproduce` wrote ({error}); remove it or choose another folder"
        ) from error
    new = json.loads(json.dumps(run.manifest()))
    file.unlink(missing_ok=True)
    if any(told[name] != new[name] for name in SAME):
        output.clear(run.folder)


def _costs(folder: Path) -> list[dict]:
    file = folder / "costs.csv"
    return read_table(file).to_dict("records") if file.is_file() else []
