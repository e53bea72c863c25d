"""Run the numbered notebooks in order, each a papermill copy in a kernel of its own; the manifest comes last."""

import json
import logging
import sys
import time
from pathlib import Path

import pandas as pd
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from dml import plots
from dml.config import ROOT
from dml.files import replacing
from dml.pipeline.report import report
from dml.pipeline.run import Run

NOTEBOOKS = ROOT / "notebooks"
TAG = "parameters"
SAME = ("experiment", "seeds", "data_sha256", "code_version", "device", "processor", "versions")  # of one run

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
            cwd=str(notebook.parent),
            progress_bar=False,
            stderr_file=sys.stderr,
            extra_arguments=["--log-level=ERROR"],  # of the kernel: it would warn each time that its TCP is plain
        )
    except (PapermillExecutionError, DeadKernelError) as error:
        if isinstance(error, DeadKernelError):  # it does not say where
            code = [cell for cell in _cells(to / notebook.name) if cell["cell_type"] == "code"]
            begun = [cell for cell in code if cell["metadata"]["papermill"]["start_time"]]
            cell, what = len(begun), "the kernel died (killed, or out of memory?)"
        else:
            cell, what = error.exec_count, f"{error.ename}: {error.evalue}"
        raise PipelineError(f"{notebook.name}, cell [{cell}]: {what}\n(the copy is in {to})") from error
    return time.perf_counter() - began


def reproduce(run: Run, only: str = "") -> Path:
    """Execute the notebooks for a run, write its report and its manifest. Returns the manifest's path.

    Raises DataError for unusable data, PipelineError for a notebook; both before anything runs, where that is possible.
    A manifest from an earlier run is removed first: while it is there, the run is complete. So are the tables of a run
    with other seeds, data, code or machine, its executed notebooks, pages and figures: what lies in the folder belongs
    together.
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
    }
    for notebook in chosen:
        check(notebook, parameters)
    file = run.folder / "manifest.json"
    _clear(run)
    stages = {}
    for notebook in chosen:
        log.info("running %s", notebook.name)
        stages[notebook.stem] = round(execute(notebook, parameters, run.folder / "notebooks"), 1)
        log.info("finished %s in %.0f s", notebook.name, stages[notebook.stem])
    manifest = run.manifest(stages_s=stages, arms_s=_costs(run.folder))
    log.info("writing the report")
    report(run.folder, manifest, run.judge())
    with replacing(file) as part:
        part.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return file


def _clear(run: Run) -> None:
    file = run.folder / "manifest.json"
    old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    new = json.loads(json.dumps(run.manifest()))
    file.unlink(missing_ok=True)
    if all(old.get(name) == new[name] for name in SAME):
        return
    stale = [*run.folder.glob("*.csv"), run.folder / f"{plots.PICTURES}.safetensors"]
    for stem in (path.stem for path in notebooks()):
        stale += [run.folder / "notebooks" / f"{stem}.ipynb", run.folder / "report" / f"{stem}.html"]
        stale += (run.folder / "figures").glob(f"{stem[:3]}*.*")
    for path in stale:
        path.unlink(missing_ok=True)


def _costs(folder: Path) -> list[dict]:
    file = folder / "costs.csv"
    return pd.read_csv(file).to_dict("records") if file.is_file() else []
