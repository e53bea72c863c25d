"""The figures and texts of finished runs again, from their tables alone: what the pages show comes from here."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dml import config
from dml.config import DATA, FIGURES, README, RECORDED, ROOT
from dml.data.images import load
from dml.evidence import (
    confirmatory,
    crowd_page,
    crowd_text,
    findings,
    generalisation,
    generalisation_text,
    hostile,
    hostile_page,
    markdown,
    on_record,
    power,
    skew_text,
    study_text,
    verdict_table,
    verdicts,
)
from dml.evidence.about import About, read
from dml.evidence.accuracy import claims as claims_of
from dml.files import read_table, write_text
from dml.pipeline import privately
from dml.plots import catalogue, crowd, melting, studies, waterfall
from dml.plots.data import contact_sheet
from dml.plots.generalisation import gaps
from dml.plots.hostile import by_liars
from dml.plots.mixed import who_gains
from dml.plots.relatives import by_relative
from dml.plots.rules import by_rule
from dml.plots.skew import the_map
from dml.plots.style import widths
from dml.studies.plan import plan
from dml.studies.study import STUDIES
from dml.training import workers
from dml.training.workers import Task

BLOCK = re.compile(r"(<!-- (?!end )([\w ]+?)(?:: (\S+))? -->\n).*?(?=<!-- end -->)", re.DOTALL)  # text, run
PICTURE = re.compile(r"(!\[[^]]+\]\(figures/(\S+)\.png\)\n\n)([^\n]*)")  # and, below it, how its caption begins
PAGES = (
    README,
    ROOT / "dml" / "flower" / "README.md",
    DATA / "analysis_plan.md",
    RECORDED / "README.md",
)  # in which such blocks stand
JOINT = ("09_story", "04_bytes")  # drawn once for all recorded runs
ALIKE = ("01_fold_plan", "01_style_confound", "04_overview", "04_formulas", "04_links", "04_scaling")  # for the first
DIFFERING = {  # of clients that differ: the study, the table beside its results, and what draws both
    "05_map": ("skew", "cells.csv", the_map),
    "05_relatives": ("skew", "costs.csv", by_relative),
    "05_models": ("models", "cells.csv", who_gains),
}
WIRES = RECORDED / "flower"  # what crossed the sockets, one table a deployment (see dml/flower)


def recorded() -> list[Path]:
    """The folders of the recorded runs."""
    return sorted(path.parent for path in RECORDED.glob("*/manifest.json"))


def judged() -> pd.DataFrame:
    """The verdicts of the recorded runs: columns run and those of `verdicts.verdicts`."""
    tables = []
    for folder in recorded():
        about = About.read(folder)
        tables.append(verdicts.verdicts(folder, about).assign(run=about.title))
    return pd.concat(tables, ignore_index=True)[["run", *verdicts.COLUMNS]]


def redraw(runs: Sequence[tuple[Path, Path]]) -> None:
    """Figures and texts of runs, each given as its folder and where they go, with one process a core.

    Raises DataError when a folder holds no finished run.
    """
    carry_out([task for folder, to in runs for task in drawing(folder, to)])


def drawing(folder: Path, to: Path, leave: Sequence[str] = ()) -> list[Task]:
    """What is to be done for one run, but for the figures to leave out."""
    about = About.read(folder)
    names = [name for name in catalogue.present(folder) if name not in leave]
    return [Task(tell, (folder, about, to)), *(Task(draw, (name, folder, about, to)) for name in names)]


def carry_out(tasks: Sequence[Task]) -> None:
    """Do what is to be drawn and told, and say how far it is."""
    workers.carry_out(tasks, title="drawing", unit="figure")


def redraw_recorded(to: Path) -> None:
    """Everything of `figures/`: the recorded runs, the deployments, the drawn faces and the pages' texts. Where the
    figures are the committed ones, the pages and notebooks that show them are written again too.
    """
    folders = recorded()
    tasks = [
        Task(draw_faces, (to,)),
        Task(draw_story, (to,)),
        Task(draw_bytes, (folders, to)),
        Task(draw_studies, (to,)),
    ]
    tasks += [Task(draw_liars, (name, to)) for name in hostile_page.TITLES if hostile.several(name) is not None]
    tasks += [
        Task(draw_differing, (name, to))
        for name, (study, *_) in DIFFERING.items()
        if (STUDIES / study / "costs.csv").is_file()
    ]
    tasks += [Task(draw_gaps, (to,))] if generalisation.recorded("gaps") is not None else []
    tasks += privately.tasks(to)
    tasks += [Task(draw_crowd, (to,))]
    for folder in folders:
        tasks += drawing(folder, to / folder.name, JOINT if folder == folders[0] else (*JOINT, *ALIKE))
    carry_out(tasks)
    for name, text in texts_of_record().items():
        write_text(to / f"{name}.md", text)
    if to.resolve() == FIGURES:
        rewrite_pages()


def texts_of_record() -> dict[str, str]:
    """The texts about all recorded runs and deployments, by name."""
    verdict = verdict_table.judged()
    return {
        "findings": findings.findings(),
        "answers": verdict_table.answers(verdict),
        "verdict_table": verdict_table.full(verdict),
        "wire": markdown.wires(wires()),
        "power": power.text(),
        "studies": study_text.text(),
        "hostile": hostile_page.text(),
        "skew": skew_text.text(),
        "generalisation": generalisation_text.text(),
        **privately.texts(),
        "crowd": crowd_page.text(),
    }


def rewrite_pages() -> None:
    """The generated blocks of `PAGES` and of the notebooks, from what is in `figures/` and on record."""
    for page in PAGES:
        write_text(page, refreshed(page.read_text(encoding="utf-8")))
    on_record.refresh()


def draw(name: str, folder: Path, about: About, to: Path) -> None:
    """One figure of a run."""
    catalogue.draw(name, folder, about).save(to, name)


def tell(folder: Path, about: About, to: Path) -> None:
    """The texts of a run."""
    for name, text in markdown.texts(folder, about).items():
        write_text(to / f"{name}.md", text)


def draw_faces(to: Path) -> None:
    """A contact sheet of the drawn faces at the paper's size; they come from code, so they need no table."""
    faces = load("faces", size=100, train_count=80, unseen_count=80, cache=config.CACHE / "images")
    contact_sheet(faces).save(to, "01_embedded_faces")


def draw_liars(study: str, to: Path) -> None:
    """Accuracy by the number of liars, in a study on record; that of the grid has a row for each of its many rules,
    that of relatives leaves out the form of DML that the figure of the veto has.
    """
    table, title = hostile.recorded(study), f"facemask, reduced protocol, study {study}"
    if table is not None and study == "hostile-relatives":
        table = table[table["arm"] != "dml-peer-first"]
    draw = by_rule if study == "hostile" else by_liars
    draw(table, title, hostile.state(study, table)).save(to, f"06_{study.replace('-', '_')}")


def draw_gaps(to: Path) -> None:
    """The two gaps of every arm, in the study on record."""
    gaps(generalisation.recorded("gaps"), "facemask, study generalisation").save(to, "08_gaps")


def draw_differing(name: str, to: Path) -> None:
    """A figure of `DIFFERING`: the map of skewed clients, DML beside its relatives, or who gains among models."""
    study, more, drawn = DIFFERING[name]
    tables = (read_table(STUDIES / study / table) for table in ("results.csv.gz", more))
    drawn(*tables, f"facemask, reduced protocol, study {study}", skew_text.state(study=study)).save(to, name)


def draw_crowd(to: Path) -> None:
    """Accuracy and cost by the number of clients, as far as they are on record."""
    if (clients := crowd_text.recorded()) is not None:
        drawn = clients[clients["data"] == "faces"]
        state = crowd_text.STATE[crowd_text.complete(clients)]
        crowd.by_clients(drawn, "drawn faces, study crowd", state).save(to, "07_accuracy")
    if (spent := crowd_text.costs()) is not None:
        crowd.cost(spent, "random pixels, study crowd-cost").save(to, "07_cost")


def draw_story(to: Path) -> None:
    """The waterfall of both protocols in one figure, of the seeds that speak."""
    runs = [(one.results, one.title, one.kind) for one in findings.deciding()]
    for width, folder in widths(to):
        waterfall.stories(runs, width).save(folder, "09_story")


def draw_studies(to: Path) -> None:
    """DML minus the other arms, on the seeds seen before the analysis plan and on the fresh ones, in one figure."""
    answers = {}
    for protocol, study in plan().studies.items():
        about = About.read(RECORDED / findings.RUNS[protocol])
        fresh = confirmatory.decisive(study, STUDIES / protocol)
        answers[protocol, "confirmatory"] = claims_of(fresh) if fresh["seed"].nunique() > 1 else fresh
        answers[protocol, "exploratory"] = claims_of(
            read(RECORDED / findings.RUNS[protocol], "results"), about.reported
        )
    studies.studies(answers).save(to, "09_studies")


def draw_bytes(folders: Sequence[Path], to: Path) -> None:
    """The ratios of bytes of all recorded runs and of the deployments in one figure."""
    runs = []
    for folder in folders:
        about = About.read(folder)
        tables = (read(folder, f"bandwidth_{name}") for name in ("ladder", "accuracy", "codings"))
        runs.append((*tables, read(folder, "results"), about.experiment.clients, about.title))
    for width, where in widths(to):
        melting.meltings(runs, wires(), width).save(where, "04_bytes")


def wires() -> dict[str, pd.DataFrame]:
    """What crossed the sockets of the recorded deployments, by name."""
    return {file.stem: read_table(file) for file in sorted(WIRES.glob("*.csv"))}


def refreshed(page: str, figures: Path = FIGURES) -> str:
    """A page with the texts and captions that are in `figures`. Raises OSError when it names one that is not."""

    def text(match: re.Match) -> str:
        file = figures / (match[3] or "") / f"{match[2].replace(' ', '_')}.md"
        return match[1] + file.read_text(encoding="utf-8")

    def picture(match: re.Match) -> str:
        first = (figures / f"{match[2]}.txt").read_text(encoding="utf-8").partition(". ")[0]
        return f"{match[1]}{first}. [Caption](figures/{match[2]}.txt)"

    return PICTURE.sub(picture, BLOCK.sub(text, page))
