"""How figures look, and how they are kept: one style sheet, one colour + line + marker an arm, PDF + PNG + CSV each."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, cast

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from dml.files import replacing
from dml.plots import glyphs

DOUBLE = 7.0  # inches, the width of a journal's two columns
PAD = 0.04  # inches around what is drawn
COLOURS = sns.color_palette("colorblind", 10)
_ARMS = ("dml", "fedavg", "asynchronous", "local+public", "local", "fedavg+public", "self", "dml-one-term")
LOOKS = {
    arm: {"color": COLOURS[i], "linestyle": ("-", "--", "-.", ":")[i % 4], "marker": "osD^vPXh"[i]}
    for i, arm in enumerate(_ARMS)
} | {
    "dml-peer-first": {"color": COLOURS[9], "linestyle": "--", "marker": "<"},
    "pooled": {"color": "0.35", "linestyle": "-", "marker": "*"},
}
CLIENTS = sns.color_palette("colorblind", 10)
INTERVAL = "95 % interval (Student's t)"  # of dml/stats.py, for captions
REPORTED: dict[str, Any] = {"color": "0.5", "linestyle": "--", "linewidth": 1.0}  # the paper's own number, everywhere


@dataclass(frozen=True)
class Drawn:
    """A finished figure: shown by Jupyter as its PNG; `table` is exactly what was drawn, `caption` the text below."""

    table: pd.DataFrame = field(repr=False)
    pdf: bytes = field(repr=False)
    png: bytes = field(repr=False)
    caption: str = ""

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        return self.png, {"alt": self.caption}

    @property
    def csv(self) -> bytes:
        """The table in 12 significant digits: those that follow depend on the processor."""
        return self.table.to_csv(index=False, float_format="%.12g").encode()

    def files(self, folder: Path, name: str) -> dict[Path, bytes]:
        """What `save` writes: name.pdf, name.png, name.csv and the caption, name.txt."""
        contents = {"pdf": self.pdf, "png": self.png, "csv": self.csv, "txt": f"{self.caption}\n".encode()}
        return {folder / f"{name}.{suffix}": content for suffix, content in contents.items()}

    def save(self, folder: Path, name: str) -> None:
        """Write the files, each in one step."""
        for file, content in self.files(folder, name).items():
            with replacing(file) as part:
                part.write_bytes(content)


Draw = Callable[..., tuple[Figure, pd.DataFrame]]


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
    """Make a drawing function return a `Drawn`: house style, and the same bytes whenever the same table is drawn."""

    @wraps(draw)
    def finished(*args, **kwargs) -> Drawn:
        with mpl.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # `glyphs.find` says it, once
            mpl.rcdefaults()  # not what the user has set for figures of their own
            mpl.style.use(Path(__file__).with_name("dml.mplstyle"))
            with mpl.rc_context({"text.parse_math": False}):  # a "$" in a name is a dollar
                fig, table = draw(*args, **kwargs)
            FigureCanvasAgg(fig)
            _powers_of_ten(fig)
            glyphs.find(fig)
            pdf, png = io.BytesIO(), io.BytesIO()
            cast(Any, fig.get_layout_engine()).execute(
                fig
            )  # one layout and frame for both files: they take longer than drawing
            mpl.rcParams["figure.constrained_layout.use"] = False
            fig.set_layout_engine(None)
            frame = fig.get_tightbbox().padded(PAD)
            fig.savefig(pdf, format="pdf", bbox_inches=frame, metadata={"CreationDate": None})
            fig.savefig(png, format="png", bbox_inches=frame, metadata={"Software": None})
        return Drawn(table, pdf.getvalue(), png.getvalue(), fig.get_supxlabel().replace(r"\$", "$"))

    return finished


def _powers_of_ten(fig: Figure) -> None:
    """Make the tick labels of logarithmic axes anew: matplotlib writes them as mathematics."""
    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                axis.reset_ticks()


def caption(fig: Figure, text: str) -> None:
    """n, unit, data set and what "reported" means, under the figure."""
    drawn = fig.supxlabel(text.replace("$", r"\$"), fontsize=6.5, color="0.35", x=0.01, ha="left", wrap=True)
    drawn.set_parse_math(True)  # to break lines, matplotlib reads mathematics whatever is asked: hence the "\$"


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


def percent(axes: Axes, axis: str = "y") -> None:
    """Show shares as per cent."""
    getattr(axes, f"{axis}axis").set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{100 * value:g}"))


def spread(mean: float, low: float, high: float) -> list[list[float]] | None:
    """What `errorbar` wants of an interval; None where there is none."""
    return None if np.isnan(low) else [[mean - low], [high - mean]]
