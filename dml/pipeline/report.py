"""The executed notebooks of a run as web pages with an index: each one file, readable without Jupyter or network, and
without a word on where on its machine the run was made.
"""

import dml.pipeline.quick  # noqa: F401  # isort: skip

import ast
import base64
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor, TagRemovePreprocessor

from dml.config import FIGURES, ROOT
from dml.evidence.about import has, read
from dml.evidence.answers import STATUSES, brief
from dml.evidence.words import estimate
from dml.files import write_text
from dml.stats import summarise

PAGES = Path(__file__).with_name("pages")
INTERACTIVE = "interactive"  # the tag of a cell whose output needs a kernel: it is left out
INJECTED = "injected-parameters"  # the tag of the cell that says which folders the run has
ARMS = ("dml", "fedavg", "local")  # of the index
VIEWS = {"dml": "losses", "fedavg": "weights"}  # what a server sees of them
QUESTION = re.compile(r"\*\*Question\.\*\* (.+?)\n\n", re.DOTALL)
EMPHASIS = re.compile(r"[*`]")
PICTURE = re.compile(r"\]\(\.\./figures/(\S+\.png)\)")
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)


class Formulas(Preprocessor):
    """LaTeX in Markdown cells becomes MathML, which browsers draw themselves."""

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type == "markdown":
            cell.source = MATH.sub(_mathml, cell.source)
        return cell, resources


def _mathml(match: re.Match) -> str:
    return convert(match[1], display="block") if match[1] else convert(match[2])


class Pictures(Preprocessor):
    """The committed pictures that a Markdown cell shows go into the page; nbconvert embeds none from another folder."""

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type == "markdown":
            cell.source = PICTURE.sub(_embedded, cell.source)
        return cell, resources


def _embedded(match: re.Match) -> str:
    file = FIGURES / match[1]
    return f"](data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()})" if file.is_file() else match[0]


def places(notebook: nbformat.NotebookNode, folder: Path) -> dict[str, str]:
    """Folders of this machine that the notebook of the run in `folder` may name, and what to say instead; an inner one
    before those around it.
    """
    given = {str(path): folder.name for path in (folder.absolute(), folder.resolve())}
    for cell in notebook.cells:
        for node in ast.walk(ast.parse(cell.source)) if INJECTED in cell.metadata.get("tags", []) else ():
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and Path(value).is_absolute() and folder.resolve() not in Path(value).parents:
                given.setdefault(value, Path(value).name)
    around = {str(ROOT): ".", sys.prefix: "python", tempfile.gettempdir(): "tmp", str(Path.home()): "~"}
    every = {place: name for place, name in {**around, **given}.items() if len(Path(place).parts) > 1}
    return dict(sorted(every.items(), key=lambda item: -len(item[0])))


def without(notebook: nbformat.NotebookNode, names: Mapping[str, str]) -> None:
    """Say `names` for folders, in all text of a notebook."""
    # Whole paths alone: /tmp is not in /var/tmp. The code of a colour, which ends in a letter, may stand before one.
    listed = "|".join(map(re.escape, names))
    pattern = re.compile(rf"(?:(?<![\w.~-])|(\x1b\[[\d;]*m))({listed})(?![\w-])")

    def told(text: str) -> str:
        return pattern.sub(lambda match: (match[1] or "") + names[match[2]], text)

    for cell in notebook.cells:
        cell.source = told(cell.source)
        for output in cell.get("outputs", []):
            _change(output, told)


def _change(output: nbformat.NotebookNode, told: Callable[[str], str]) -> None:
    if "text" in output:
        output.text = told(output.text)
    if "traceback" in output:
        output.evalue, output.traceback = told(output.evalue), [told(line) for line in output.traceback]
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = told(content)


def _area(view: pd.Series) -> str:
    return estimate(view["auc"], view["low"], view["high"], ".2f", 1)


def key_figures(folder: Path) -> list[tuple[str, ...]]:
    """The rows of the index that a run has the tables for: what, its value for each of `ARMS`, and n."""
    rows = []
    if has(folder, ["results"]):
        accuracy = summarise(read(folder, "results"), "unseen accuracy").set_index("arm")
        intervals = {arm: accuracy.loc[arm, ["mean", "low", "high"]] for arm in ARMS}
        values = [estimate(mean, low, high, ".2f") for mean, low, high in intervals.values()]
        rows.append(("unseen accuracy at the last round, %", *values, _count(accuracy["n"].max(), "seed")))
    if has(folder, ["bandwidth_ladder"]):
        sizes = read(folder, "bandwidth_ladder").set_index("arm")
        values = [f"{sizes.loc[arm, ['up', 'down']].sum():,.0f}" for arm in ARMS]
        rows.append(("bytes of one client in a round, up and down", *values, _count(sizes["n"].max(), "seed")))
    if has(folder, ["privacy_verdict"]):
        views = read(folder, "privacy_verdict").set_index("view")
        values = [_area(views.loc[VIEWS[arm]]) if arm in VIEWS else "" for arm in ARMS]
        rows.append(("membership, area under ROC, server, one round", *values, _count(views["n"].max(), "target")))
    return rows


def _count(n: float, what: str) -> str:
    return f"{n:.0f} {what}{'s' if n > 1 else ''}"


def report(folder: Path, facts: Mapping[str, Any], verdicts: pd.DataFrame) -> Path:
    """Write folder/report/ from folder/notebooks/ and the run's tables. Returns the index.

    `facts` are those of the run's manifest (title, seeds, device, commit, stages_s); `verdicts` has the columns of
    `verdicts.verdicts`.
    """
    exporter = HTMLExporter(
        template_name="classic",
        template_file="page.html.j2",
        extra_loaders=[FileSystemLoader(PAGES)],
        preprocessors=[TagRemovePreprocessor(remove_all_outputs_tags={INTERACTIVE}), Formulas(), Pictures()],
    )
    pages = []
    for file in sorted((folder / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        without(notebook, places(notebook, folder))
        first = notebook.cells[0].source + "\n\n"
        named, asked = re.search(r"^# (.+)$", first, re.MULTILINE), QUESTION.search(first)
        title, question = named[1] if named else file.stem, EMPHASIS.sub("", asked[1]) if asked else ""
        notebook.metadata["title"] = title
        body, _ = exporter.from_notebook_node(notebook)
        name, seconds = f"{file.stem}.html", facts["stages_s"].get(file.stem, "")
        write_text(folder / "report" / name, body)
        pages.append({"file": name, "title": title, "question": question, "seconds": seconds})
    environment = Environment(loader=FileSystemLoader(PAGES), autoescape=True)
    index = folder / "report" / "index.html"
    rows = [
        (
            row.claim,
            f"{row.says}, {row.system}".rstrip(", "),
            brief({status: getattr(row, status) for status in STATUSES}),
            EMPHASIS.sub("", row.short.partition("; ")[0]),
            row.figure[:2],
        )
        for row in verdicts.itertuples()
    ]
    contents = environment.get_template("contents.html.j2")
    figures = key_figures(folder)
    write_text(index, contents.render(**facts, pages=pages, figures=figures, arms=ARMS, verdicts=rows))
    return index
