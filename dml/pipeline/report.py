"""The executed notebooks of a run as web pages with an index: each one file, readable without Jupyter or network."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor, TagRemovePreprocessor

from dml.files import write_text

PAGES = Path(__file__).with_name("pages")
INTERACTIVE = "interactive"  # the tag of a cell whose output needs a kernel: it is left out
QUESTION = re.compile(r"\*\*Question\.\*\* (.+?)\n\n", re.DOTALL)
EMPHASIS = re.compile(r"[*`]")
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)


class Formulas(Preprocessor):
    """LaTeX in Markdown cells becomes MathML, which browsers draw themselves."""

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type == "markdown":
            cell.source = MATH.sub(_mathml, cell.source)
        return cell, resources


def _mathml(found: re.Match) -> str:
    return convert(found[1], display="block") if found[1] else convert(found[2])


def report(folder: Path, facts: Mapping[str, Any], verdicts: pd.DataFrame) -> Path:
    """Write folder/report/ from folder/notebooks/. Returns the index.

    `facts` are those of the run's manifest (title, seeds, device, commit, stages_s); `verdicts` has columns claim,
    says, verdict, why.
    """
    exporter = HTMLExporter(
        template_name="classic",
        template_file="page.html.j2",
        extra_loaders=[FileSystemLoader(PAGES)],
        preprocessors=[TagRemovePreprocessor(remove_all_outputs_tags={INTERACTIVE}), Formulas()],
    )
    pages = []
    for file in sorted((folder / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        first = notebook.cells[0].source + "\n\n"
        title, question = re.search(r"^# (.+)$", first, re.MULTILINE), QUESTION.search(first)
        title, question = title[1] if title else file.stem, EMPHASIS.sub("", question[1]) if question else ""
        notebook.metadata["title"] = title
        body, _ = exporter.from_notebook_node(notebook)
        name, seconds = f"{file.stem}.html", facts["stages_s"].get(file.stem, "")
        write_text(folder / "report" / name, body)
        pages.append({"file": name, "title": title, "question": question, "seconds": seconds})
    environment = Environment(loader=FileSystemLoader(PAGES), autoescape=True)
    index = folder / "report" / "index.html"
    rows = verdicts.to_dict("records")
    write_text(index, environment.get_template("contents.html.j2").render(**facts, pages=pages, verdicts=rows))
    return index
