"""The picture that opens notebook 04: who sends what to whom, as areas, and who can read what."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, FancyArrowPatch, Rectangle

from dml.config import Experiment
from dml.plots.looks import INK, look
from dml.plots.style import DOUBLE, SMALLEST, about, figure

HEIGHT, HALF, SIDE = 2.95, DOUBLE / 2, 0.92  # inches; SIDE: of the largest square
SERVER, CLIENT, LINE = 2.4, 1.35, 0.12  # heights of the server, the clients and the line of phases
SQUARES = 2.4  # where the squares begin, from the left of a method's half
LENSED = 0.22  # the side of DML's messages under the lens


def size_of(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:,.0f} B"


@figure("04_overview", "bandwidth_ladder", "bandwidth_traffic", facts=("experiment", "title"))
def overview(
    ladder: pd.DataFrame, traffic: pd.DataFrame, experiment: Experiment, data: str
) -> tuple[Figure, pd.DataFrame, str]:
    """Left DML, right FedAvg: clients around a server, arrows with what they send, squares whose areas are the bytes of
    one client in a round, an eye on whoever can read what, and below a round as a line of phases.
    """
    at = ladder.set_index("arm")
    spoken = traffic[(traffic["arm"] == "dml") & (traffic["kind"] == "Examples")]
    fold = spoken["encoded"].sum() / spoken["messages"].sum()
    items = [
        ("dml", "losses", "up"),
        ("dml", "their sum", "down"),
        ("fedavg", "weights", "up"),
        ("fedavg", "average", "down"),
    ]
    table = pd.DataFrame([(arm, what, way, at.loc[arm, way]) for arm, what, way in items], columns=COLUMNS)
    table.loc[len(table)] = ["dml", "public images", "set-up", fold]
    scale = SIDE / table["bytes"].max() ** 0.5
    fig = Figure(figsize=(DOUBLE, HEIGHT))
    fig.set_layout_engine("none")
    axes = fig.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, DOUBLE), ylim=(0, HEIGHT))
    axes.set_axis_off()
    sums = {arm: at.loc[arm, "up"] + at.loc[arm, "down"] for arm in ("dml", "fedavg")}
    epochs = f"{experiment.epochs} epochs,\nown fold"
    halves = (
        ("dml", "a", "DML shares predictions", DML_PHASES, "reads each\nclient's losses", DML_PEERS),
        ("fedavg", "b", "FedAvg shares weights", FEDAVG_PHASES, "reads each\nclient's weights", FEDAVG_PEERS),
    )
    for i, (arm, letter, title, phases, server, peers) in enumerate(halves):
        left, colour = i * HALF + 0.12, look(arm)["color"]
        axes.text(left, HEIGHT - 0.12, letter, fontsize=8, fontweight="bold", va="center")
        axes.text(left + 0.15, HEIGHT - 0.12, title, fontsize=7.5, va="center", color=colour, fontweight="bold")
        of_arm = table[(table["arm"] == arm) & (table["direction"] != "set-up")].itertuples()
        said = [f"{row.what}\n{size_of(row.bytes)}" for row in of_arm]
        _federation(axes, left, colour, said, experiment.clients)
        _eye(axes, left + 1.52, SERVER, server)
        _eye(axes, left + 0.12, CLIENT - 0.4, peers)
        _phases(
            axes, left, [(text.format(epochs=epochs, more=experiment.epochs), width) for text, width in phases], colour
        )
    _small(axes, scale, fold, sums["dml"])
    for row, bottom in ((2, 1.93), (3, 0.93)):
        side = scale * table["bytes"][row] ** 0.5
        text = f"{table['what'][row]}, {table['direction'][row]}\n{size_of(table['bytes'][row])}"
        _square(axes, HALF + 0.12 + SQUARES, bottom, side, look("fedavg")["color"])
        axes.text(HALF + 0.12 + SQUARES + side / 2, bottom + side / 2, text, ha="center", va="center", color="white")
    axes.plot([HALF, HALF], [0.1, HEIGHT - 0.05], color="0.85", linewidth=0.6)
    seeds = traffic["seed"].nunique()
    text = about(
        data,
        f"What one client sends and gets in a round, n = {seeds} seed{'s' if seeds > 1 else ''}; areas are bytes of "
        f"whole messages, measured. With one sum from our server DML's are {size_of(sums['dml'])}, FedAvg's "
        f"{size_of(sums['fedavg'])}; but a fresh public fold, {size_of(fold)} as raw pixels, has to reach every client "
        "of DML for each round. Both methods also send the first model once.",
        "As published, DML forwards every peer's losses instead of their sum. Eyes: who can read what where no secure "
        "sum is used. The line of phases is not to scale.",
    )
    return fig, table, text


COLUMNS = ["arm", "what", "direction", "bytes"]
DML_PHASES = (
    ("{epochs}", 0.75),
    ("predict\npublic fold", 0.72),
    ("send", 0.35),
    ("sum", 0.35),
    ("{more} epochs, public\nfold: labels + peers", 1.12),
)
FEDAVG_PHASES = (("{epochs}", 0.75), ("send", 0.35), ("average", 0.5))
DML_PEERS = "read the sum;\nas published, each other's losses"
FEDAVG_PEERS = "read the average"


def _federation(axes: Axes, left: float, colour: str, said: list[str], clients: int) -> None:
    """A server, up to five of its clients, an arrow up and an arrow down with what they carry."""
    places = np.linspace(left + 0.15, left + 1.75, min(clients, 5))
    middle = left + 0.95
    for place in places:
        axes.plot([place, middle], [CLIENT, SERVER], color=colour, alpha=0.25, linewidth=0.7, zorder=1)
        axes.add_patch(Circle((place, CLIENT), 0.1, facecolor="white", edgecolor=INK, linewidth=0.8, zorder=3))
    axes.add_patch(
        Rectangle((middle - 0.36, SERVER - 0.12), 0.72, 0.24, facecolor="white", edgecolor=INK, linewidth=0.8, zorder=3)
    )
    axes.text(middle, SERVER, "server", ha="center", va="center", zorder=4)
    axes.text(middle, CLIENT - 0.2, f"K = {clients} clients", ha="center", va="center")
    for (start, end), text, x, side in (
        (((places[0], CLIENT + 0.12), (middle - 0.25, SERVER - 0.14)), said[0], left + 0.36, "right"),
        (((middle + 0.25, SERVER - 0.14), (places[-1], CLIENT + 0.12)), said[1], left + 1.54, "left"),
    ):
        keys: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 7, "linewidth": 1.1, "color": colour}
        axes.add_patch(FancyArrowPatch(start, end, **keys, zorder=2, shrinkA=0, shrinkB=0))
        axes.text(x, (SERVER + CLIENT) / 2 + 0.06, text, ha=side, va="center", color=colour)


def _eye(axes: Axes, x: float, y: float, text: str) -> None:
    axes.add_patch(Ellipse((x, y), 0.19, 0.1, facecolor="white", edgecolor=INK, linewidth=0.7))
    axes.add_patch(Circle((x, y), 0.032, facecolor=INK, linewidth=0))
    axes.text(x + 0.13, y, text, va="center", fontsize=SMALLEST, color=INK)


def _square(axes: Axes, left: float, bottom: float, side: float, colour: str) -> None:
    axes.add_patch(Rectangle((left, bottom), side, side, facecolor=colour, linewidth=0))


def _small(axes: Axes, scale: float, fold: float, messages: float) -> None:
    """DML's squares: a public fold, and the messages as a dot, with a lens to see it."""
    blue, left = look("dml")["color"], 0.12 + SQUARES
    side, dot = scale * fold**0.5, scale * messages**0.5
    axes.add_patch(Rectangle((left, 1.95), side, side, facecolor=blue, alpha=0.3, linewidth=0))
    axes.text(left, 1.9, f"public images\n{size_of(fold)}", va="top", color=blue)
    x, y, lens = left + 0.18, 1.18, 1 if dot > LENSED else round(LENSED / dot)
    _square(axes, left - 0.12, y - dot / 2, dot, blue)
    axes.add_patch(Circle((x + 0.14, y), 0.2, facecolor="white", edgecolor="0.5", linewidth=0.8))
    axes.plot([left - 0.12 + dot, x - 0.06], [y, y], color="0.5", linewidth=0.6)
    _square(axes, x + 0.14 - lens * dot / 2, y - lens * dot / 2, lens * dot, blue)
    axes.text(left, y - 0.25, f"losses and sum\n{size_of(messages)} (lens × {lens})", va="top", color=blue)


def _phases(axes: Axes, left: float, phases: list[tuple[str, float]], colour: str) -> None:
    axes.text(left, LINE + 0.38, "one round", va="center", fontsize=SMALLEST, color="0.35")
    for i, (text, width) in enumerate(phases):
        axes.add_patch(
            Rectangle((left, LINE), width - 0.03, 0.3, facecolor=colour, alpha=0.12 + 0.1 * (i % 2), linewidth=0)
        )
        axes.text(left + width / 2 - 0.015, LINE + 0.15, text, ha="center", va="center", fontsize=SMALLEST)
        left += width
