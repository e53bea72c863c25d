"""The figure of notebook 04 for claim C3: what becomes of the ratio of bytes when all of a run is counted."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml import stats
from dml.config import Experiment
from dml.evidence import transmission
from dml.evidence.transmission import CODED, OURS, PUBLISHED, ROUND, RUN
from dml.plots.looks import INK, RUNG_FACE, data_name, dot, ink, name, protocol, signed
from dml.plots.style import DOUBLE, INTERVAL, SMALLEST, drawn, figure, folded, legend_above, letters, spread

RIVALS = ("fedavg", "fedavg, 8 bits", "fedavg, top 1 %")  # where the ladder has them
Run = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, int, str]  # ladder, accuracy, codings, results, …
ROWS = {RUN: "the run, raw pixels", CODED: "the run, coded"}
LEAST = 0.07  # of a ratio, on the axis
OFF = 0.03  # accuracy: a mean difference beyond is told in words at the edge


@figure(
    "04_bytes", "bandwidth_ladder", "bandwidth_accuracy", "bandwidth_codings", "results", facts=("experiment", "title")
)
def melting(
    ladder: pd.DataFrame,
    accuracy: pd.DataFrame,
    codings: pd.DataFrame,
    results: pd.DataFrame,
    experiment: Experiment,
    data: str,
) -> tuple[Figure, pd.DataFrame, str]:
    """Left: on one logarithmic axis, how many times DML's bytes the others' are, from the messages of a round to the
    whole run against compressed weights; at 1 both are equal. Right: DML's accuracy minus that of the same rivals.
    """
    return _melting([(ladder, accuracy, codings, results, experiment.clients, data)], {})


@drawn
def meltings(
    runs: Sequence[Run], wires: dict[str, pd.DataFrame], width: float = DOUBLE
) -> tuple[Figure, pd.DataFrame, str]:
    """Left: for two protocols and on one logarithmic axis, how many times DML's bytes the others' are, from the
    messages of a round to the whole run against compressed weights, and for a deployment on the wire; at 1 both are
    equal. Right: DML's accuracy minus that of the same rivals.
    """
    return _melting(runs, wires, width)


def ratios(ladder: pd.DataFrame, codings: pd.DataFrame, clients: int) -> pd.DataFrame:
    """Columns row, against, ratio: a rival's bytes by DML's, of one client."""
    table = transmission.ratios(ladder, codings, clients).set_index(["system", "what", "against"])["ratio"]
    rows = [
        ("a round's messages", "fedavg", table[OURS, ROUND, "fedavg"]),
        ("… all peers' losses forwarded, as published", "fedavg", table[PUBLISHED, ROUND, "fedavg"]),
    ]
    there = [rival for rival in RIVALS if (OURS, RUN, rival) in table]
    rows += [(row, rival, table[OURS, what, rival]) for rival in there for what, row in ROWS.items()]
    return pd.DataFrame(rows, columns=["row", "against", "ratio"])


def on_the_wire(wires: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The same of deployed arms, means over clients and the rounds between the first and the last: of our messages and
    of all bytes on their TLS connections.
    """
    if not {"dml", "fedavg"} <= set(wires):
        return pd.DataFrame(columns=["row", "against", "ratio"])
    means = {arm: transmission.per_round(wires[arm], ("encoded", "tls")).sum() for arm in ("dml", "fedavg")}
    ratio = means["fedavg"] / means["dml"]
    rows = [
        ("a deployed round's messages", "fedavg", ratio["encoded"]),
        ("a deployed round over TLS", "fedavg", ratio["tls"]),
    ]
    return pd.DataFrame(rows, columns=["row", "against", "ratio"])


def _melting(
    runs: Sequence[Run], wires: dict[str, pd.DataFrame], width: float = DOUBLE
) -> tuple[Figure, pd.DataFrame, str]:
    tables = [ratios(ladder, codings, clients).assign(run=data) for ladder, _, codings, _, clients, data in runs]
    wire = on_the_wire(wires).assign(run="deployed")
    table = pd.concat([*tables, wire] if len(wire) else tables, ignore_index=True)
    places = {pair: i for i, pair in enumerate(dict.fromkeys(zip(table["row"], table["against"], strict=True)))}
    wide = width == DOUBLE
    fig = Figure(figsize=(width, 0.85 + 0.3 * len(places)))
    left, *right = fig.subplots(1, 1 + wide, squeeze=False, width_ratios=(1.6, 1)[: 1 + wide], sharey=True)[0]
    shifts = (-0.17, 0.17) if len(runs) > 1 else (0.0,)
    differences = []
    for (_, accuracy, _, results, _, data), some, shift, filled in zip(
        runs, tables, shifts, (True, False), strict=False
    ):
        for row in some.itertuples():
            place = places[row.row, row.against] + shift
            _ratio(left, place, row.ratio, _face(row.against, filled))
        for axes in right:
            differences += _accuracy(axes, _by_seed(accuracy, results), data, places, shift, filled)
        face = "0.3" if filled else RUNG_FACE
        left.plot([], [], "o", color="0.3", markerfacecolor=face, label=protocol(data) or "this run")
    for row in wire.itertuples():
        _ratio(left, places[row.row, row.against], row.ratio, {"marker": "x", "color": "0.3"})
    if len(wire):
        left.plot([], [], "x", color="0.3", label="deployed, small run")
        for axes in (left, *right):
            axes.axhline(len(places) - 2.5, color="0.75", linewidth=0.6)
    left.axvline(1, color=INK, linewidth=0.8)
    room = 1 if wide else 8  # for words beside the first and the last marker
    least, most = LEAST / room, room * max(9e4, 4 * table["ratio"].max())
    left.set(xscale="log", xlim=(least, most), xlabel="times DML's bytes   DML cheaper →")
    left.axvspan(least, 1, color="0.94", zorder=0)
    left.text(least**0.5, 0.5, "DML dearer", ha="center", va="center", color="0.35", rotation=90)
    words = [f"{name(against)}: {row}" if not row.startswith("…") else row for row, against in places]
    left.set_yticks(range(len(places)), [folded(each, width, 20) for each in words])
    left.set_ylim(len(places) - 0.4, -0.7)
    for axes in right:
        axes.axvline(0, color=INK, linewidth=0.7)
        axes.set_xlim(-OFF, OFF)
        axes.set_xlabel("DML − rival, accuracy, pp   DML better →")
        axes.xaxis.set_major_formatter(lambda value, _: signed(round(100 * value, 9), "g"))
        letters((left, axes), left=-6)
    for axes in (left, *right):
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
    legend_above(fig, left, 0 if wide else 1)
    counts = " and ".join(f"n = {ladder['n'].max()} seeds ({data_name(data)})" for ladder, *_, data in runs)
    text = (
        f"Bytes of one client, whole messages with headers; {counts}. Left of 1 DML is the dearer one. The run counts "
        "the first model and, for DML, its public images: as raw pixels, or coded, as files or PNG while all weights "
        "are compressed (xz). "
    )
    if wide:
        text += (
            f"b: accuracy on unseen images at the last round, paired by seed, mean and {INTERVAL}. At the right is on "
            "how many seeds: rungs were run on some, DML and FedAvg count on all. Arrows: means beyond the axis; "
            "intervals may leave it. "
        )
    if len(wire):
        text += "Crosses: arms deployed over TLS in the reduced size, one run each; connections need bytes too."
    return fig, pd.concat([table, pd.DataFrame(differences)], ignore_index=True), " ".join(text.split())


def _face(arm: str, filled: bool) -> dict[str, Any]:
    """An arm's dot; filled for the first run, hollow for the second."""
    return {**dot(arm), "markerfacecolor": dot(arm)["color"] if filled else RUNG_FACE}


def _ratio(axes: Axes, place: float, ratio: float, keys: dict[str, Any]) -> None:
    axes.plot(ratio, place, **({"linestyle": ""} | keys), markersize=5)
    text, side = f"{ratio:,.0f}×" if ratio >= 20 else f"{ratio:.2f}×", ("left", 5) if ratio >= 1 else ("right", -5)
    axes.annotate(text, (ratio, place), (side[1], 0), textcoords="offset points", ha=side[0], va="center")


def _by_seed(accuracy: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, a row a seed and a column an arm: of whole arms on all seeds of a run, of rungs on those they have."""
    whole, some = (
        stats.per_seed(results, "unseen accuracy"),
        accuracy.pivot(index="seed", columns="arm", values="value"),
    )
    return whole.join(some[some.columns.difference(whole.columns)])


def _accuracy(
    axes: Axes, values: pd.DataFrame, data: str, places: dict, shift: float, filled: bool
) -> list[dict[str, Any]]:
    """DML's accuracy minus each rival's, in the rows where all of the run is counted."""
    rows, edge = [], axes.get_yaxis_transform()
    for (row, arm), place in places.items():
        if row != ROWS[RUN] or arm not in values:
            continue
        one = stats.interval((values["dml"] - values[arm]).dropna().to_numpy())
        rows.append({"row": "DML's accuracy minus", "against": arm, "run": data, **stats.columns(one)})
        axes.text(1.01, place + shift, f"n = {one.n}", va="center", fontsize=SMALLEST, transform=edge)
        if abs(one.mean) > OFF:
            words, low = signed(100 * one.mean, "+.1f"), one.mean < 0
            x, side, words = (0.01, "left", f"◂ {words}") if low else (0.99, "right", f"{words} ▸")
            axes.text(x, place + shift, words, ha=side, va="center", color=ink(arm), transform=edge)
        else:
            error = spread(one.mean, one.low, one.high)
            axes.errorbar(one.mean, place + shift, xerr=error, **_face(arm, filled), capsize=1.8, elinewidth=0.9)
    return rows
