"""The figures and texts of finished runs again, from their tables alone: what the README shows comes from here."""

import gc
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dml import plots
from dml.config import CACHE, FIGURES, RECORDED
from dml.data.images import load
from dml.evidence import accuracy as claims
from dml.evidence import bandwidth_claims, published, verdicts
from dml.evidence import privacy as summary
from dml.files import replacing
from dml.plots import About, read_all
from dml.plots import data as split
from dml.training import workers

BLOCK = re.compile(r"(<!-- (?!end )(\w+)(?:: (\S+))? -->\n).*?(?=<!-- end -->)", re.DOTALL)  # text name, run's name
PICTURE = re.compile(r"!\[[^]]*\]\(figures/(\S+)\.png\)")
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


def redraw(runs: Sequence[tuple[Path, Path]], more: Sequence[workers.Job] = ()) -> None:
    """Figures and texts of runs, each given as its folder and where they go, with one process a core.

    Raises DataError when a folder holds no finished run.
    """
    jobs = list(more)
    for folder, to in runs:
        about = About.read(folder)
        jobs.append(workers.Job(tell, (folder, about, to)))
        jobs += [workers.Job(draw, (name, folder, about, to)) for name in plots.present(folder)]
    workers.carry_out(jobs, "figure", "drawing")


def redraw_recorded(to: Path) -> None:
    """Everything of `figures/`: the recorded runs, the deployments and the drawn faces."""
    runs = [(folder, to / folder.name) for folder in recorded()]
    redraw(runs, [workers.Job(draw_faces, (to,))])
    wires = {file.stem: pd.read_csv(file) for file in sorted(WIRES.glob("*.csv"))}
    write(to / "wire.md", bandwidth_claims.wire_markdown(wires))


def draw(name: str, folder: Path, about: About, to: Path) -> None:
    gc.freeze()
    gc.disable()  # a figure is a million objects, most of its fonts: to look for cycles once is a seventh faster
    plots.draw(name, folder, about).save(to, name)
    gc.enable()
    gc.collect()
    workers.advance()


def tell(folder: Path, about: About, to: Path) -> None:
    for name, text in texts(folder, about).items():
        write(to / f"{name}.md", text)
    workers.advance()


def draw_faces(to: Path) -> None:
    """A contact sheet of the drawn faces at the paper's size; they come from code, so they need no table."""
    faces = load("faces", size=100, train_count=80, unseen_count=80, cache=CACHE / "images")
    split.contact_sheet(faces).save(to, "01_embedded_faces")
    workers.advance()


def texts(folder: Path, about: About) -> dict[str, str]:
    """The Markdown tables that a run's folder has the tables for, by name."""
    found = {}
    if there := read_all(folder, ("results", "costs")):  # not after `reproduce --only 01`
        found["claims"] = claims.markdown(*there, about.reported, about.title)
    if len(about.reported) and (there := read_all(folder, ("results", "history"))):
        found["published"] = published.markdown(published.comparison(*there), published.facts(about.experiment))
    if there := read_all(folder, ("privacy_verdict", "privacy_differences", "privacy_reconstruction")):
        found["privacy"] = summary.markdown(*there, about.title)
    if there := read_all(folder, ("bandwidth_ladder", "bandwidth_targets")):
        found["bandwidth"] = bandwidth_claims.markdown(*there, about.title)
    judged = verdicts.verdicts(folder, about)
    return found | ({"verdicts": verdicts.markdown(judged, about.title)} if len(judged) else {})


def refreshed(readme: str, figures: Path = FIGURES) -> str:
    """The README with the texts and captions that are in `figures`. Raises OSError when it names one that is not."""

    def text(found: re.Match) -> str:
        return found[1] + (figures / (found[3] or "") / f"{found[2]}.md").read_text(encoding="utf-8")

    def picture(found: re.Match) -> str:
        caption = (figures / f"{found[1]}.txt").read_text(encoding="utf-8").strip()
        return f"![{caption}](figures/{found[1]}.png)"

    return PICTURE.sub(picture, BLOCK.sub(text, readme))


def write(file: Path, text: str) -> None:
    with replacing(file) as part:
        part.write_text(text, encoding="utf-8")
