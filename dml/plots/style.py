"""How figures are kept: one style sheet and three widths, PDF + PNG + SVG + CSV each, and the caption as a text beside
them, which is no part of the picture.
"""

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, cast

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
from fontTools import subset
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, LogFormatter
from torch import Tensor

from dml.files import replacing
from dml.plots import glyphs
from dml.plots.looks import data_name, signed

SINGLE, TEXT, DOUBLE = 3.3, 5.5, 7.0  # inches: a column of two, a page of one, a page of two
SMALLEST = 6.0  # points of type at these widths
RASTER = 150  # dots per inch of photographs inside an SVG
BETTER, WORSE = "   better →", "← better   "
RAISED = str.maketrans("-−0123456789", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
INTERVAL = "95 % interval (Student's t)"  # of dml/stats.py


@dataclass(frozen=True)
class Drawn:
    """A finished figure, shown by Jupyter as its PNG with the caption under it. `table` is exactly what was drawn, and
    `alt` says what is to be seen.
    """

    table: pd.DataFrame = field(repr=False)
    pdf: bytes = field(repr=False)
    png: bytes = field(repr=False)
    svg: bytes = field(repr=False)
    caption: str = ""
    alt: str = ""

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        return self.png, {"alt": self.alt}

    def _ipython_display_(self) -> None:
        from IPython.display import Image, Markdown, display  # in a notebook it is there

        display(Image(self.png, alt=self.alt))
        display(Markdown(self.caption.replace("$", r"\$")))

    @property
    def csv(self) -> bytes:
        """The table in 12 significant digits: those that follow depend on the processor."""
        return self.table.to_csv(index=False, float_format="%.12g").encode()

    def files(self, folder: Path, name: str) -> dict[Path, bytes]:
        """What `save` writes: name.pdf, name.png, name.svg, name.csv and the caption, name.txt."""
        contents = {"pdf": self.pdf, "png": self.png, "svg": self.svg, "csv": self.csv}
        contents["txt"] = f"{self.caption}\n".encode()
        return {folder / f"{name}.{suffix}": content for suffix, content in contents.items()}

    def save(self, folder: Path, name: str) -> None:
        """Write the files, each in one step."""
        for file, content in self.files(folder, name).items():
            with replacing(file) as part:
                part.write_bytes(content)


Draw = Callable[..., tuple[Figure, pd.DataFrame, str]]  # figure, what it shows, caption


class Recipe(NamedTuple):
    """How a figure is made: `draw(*tables, *facts)`, of a run's tables and of its `About`, by their names."""

    tables: tuple[str, ...]
    draw: Callable[..., Drawn]
    facts: tuple[str, ...]


FIGURES: dict[str, Recipe] = {}


def figure(name: str, *tables: str, facts: tuple[str, ...] = ("title",)) -> Callable[[Draw], Callable[..., Drawn]]:
    """Put a drawing function into `FIGURES`, and make it return a `Drawn`."""

    def enter(draw: Draw) -> Callable[..., Drawn]:
        FIGURES[name] = Recipe(tables, drawn(draw), facts)
        return FIGURES[name].draw

    return enter


def drawn(draw: Draw) -> Callable[..., Drawn]:
    """Make a drawing function return a `Drawn`: house style, and the same bytes whenever the same table is drawn. The
    first paragraph of its docstring says what is to be seen.
    """
    alt = " ".join((draw.__doc__ or "").split("\n\n")[0].split())

    @wraps(draw)
    def finished(*args, **kwargs) -> Drawn:
        with house_style():
            fig, table, caption = laid_out(draw, *args, **kwargs)
            with _glyphs_alone():
                pdf = _file(fig, format="pdf", metadata={"CreationDate": None})
            png = _file(fig, format="png", metadata={"Software": None})
            svg = _file(fig, format="svg", metadata={"Date": None, "Creator": None}, dpi=RASTER)
        return Drawn(table, pdf, png, svg, caption, alt)

    return finished


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib as our figures have it, not as the user has set it for figures of their own."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # `glyphs.find` says it, once
        mpl.rcdefaults()
        mpl.style.use(Path(__file__).with_name("dml.mplstyle"))
        yield


def laid_out(draw: Draw, *args, **kwargs) -> tuple[Figure, pd.DataFrame, str]:
    """What a drawing function makes, with everything in its final place; one layout for all files, as it takes longer
    than drawing.
    """
    with mpl.rc_context({"text.parse_math": False}):  # a "$" in a name is a dollar
        fig, table, caption = draw(*args, **kwargs)
    FigureCanvasAgg(fig)
    _powers_of_ten(fig)
    glyphs.find(fig)
    if engine := fig.get_layout_engine():
        cast(Any, engine).execute(fig)
    mpl.rcParams["figure.constrained_layout.use"] = False
    fig.set_layout_engine(None)
    return fig, table, caption


def _file(fig: Figure, **how: Any) -> bytes:
    content = io.BytesIO()
    fig.savefig(content, **how)
    return content.getvalue()


@contextmanager
def _glyphs_alone() -> Iterator[None]:
    """Fonts go into a PDF without their tables of ligatures and kerning: text is set before it is written there, and to
    cut these tables down is a sixth of the time of a figure. Matplotlib has no option for it.
    """
    usual = subset.Options._drop_tables_default
    subset.Options._drop_tables_default = [*usual, "GDEF", "GPOS", "GSUB"]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = usual


class _Written(Formatter):
    """Tick labels of a logarithmic axis in plain characters: matplotlib writes powers of ten as mathematics, which
    takes a tenth of the time of a figure.
    """

    def __init__(self, usual: Formatter) -> None:
        self._usual = usual

    def set_axis(self, axis: Any) -> None:
        self._usual.set_axis(axis)

    def set_locs(self, locs: Any) -> None:
        self._usual.set_locs(locs)

    def __call__(self, x: float, pos: int | None = None) -> str:
        text = re.sub(r"\$\\mathdefault\{(.*)\}\$", r"\1", self._usual(x, pos)).replace(r"\times", "×")
        return re.sub(r"\^\{(.*?)\}", lambda match: match[1].translate(RAISED), text)


def _powers_of_ten(fig: Figure) -> None:
    """Write the tick labels of logarithmic axes, unless they have their own."""
    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for ticks in (axis.major, axis.minor):
                if isinstance(ticks.formatter, LogFormatter):
                    ticks.formatter = _Written(ticks.formatter)
                    ticks.formatter.set_axis(axis)


def widths(to: Path) -> tuple[tuple[float, Path], ...]:
    """The widths that the figures of the paper's three claims are drawn at, and where each goes."""
    return (DOUBLE, to), (SINGLE, to / "column")


def folded(text: str, width: float, letters: int) -> str:
    """Words of a figure, in lines of so many letters where it is as wide as a column."""
    return text if width >= DOUBLE else "\n".join(textwrap.wrap(text, letters))


def letters(panels: Sequence[Axes], left: float = -11) -> None:
    """a, b, c at the panels' upper left corners, so many points beside them."""
    for letter, axes in zip("abcdefghijkl", panels, strict=False):
        place: dict[str, Any] = {"xytext": (left, 3.5), "textcoords": "offset points", "xycoords": "axes fraction"}
        axes.annotate(letter, (0, 1), **place, fontsize=8, fontweight="bold", ha="right", va="baseline")


def sheet(axes: Axes, images: Tensor, columns: int) -> None:
    """Pictures, uint8 [n, 3, size, size], in rows of so many."""
    from torchvision.utils import make_grid  # here, not above: it takes a second, which no other figure needs

    axes.imshow(make_grid(images, columns, padding=1, pad_value=255).permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_axis_off()


def legend_above(fig: Figure, axes: Axes, columns: int = 0) -> None:
    """One legend for all panels, over them, from what `axes` shows; in one row unless `columns` are given."""
    handles, names = axes.get_legend_handles_labels()
    fig.legend(handles, names, loc="outside upper center", ncols=columns or len(names))


def seeds_text(results: pd.DataFrame) -> str:
    """How many seeds a figure shows."""
    n = results["seed"].nunique()
    return f"n = {n} seed{'s' if n > 1 else ''}" + ("" if n > 1 else " (no interval from one seed)")


def about(title: str, *sentences: str) -> str:
    """A caption: what is seen, and, last, on which data."""
    return " ".join([*filter(None, sentences), f"Data: {data_name(title)}."])


def percent(axes: Axes, axis: str = "y") -> None:
    """Show shares as per cent, with a true minus sign."""
    ticks = mpl.ticker.FuncFormatter(lambda value, _: signed(round(100 * value, 9), "g"))
    getattr(axes, f"{axis}axis").set_major_formatter(ticks)


def spread(mean: float, low: float, high: float) -> list[list[float]] | None:
    """What `errorbar` wants of an interval; None where there is none."""
    return None if np.isnan(low) else [[mean - low], [high - mean]]
