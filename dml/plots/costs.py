"""The figures of notebook 04 that show models, not measurements: each states its formula in the caption."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dml.config import Experiment
from dml.evidence import cost_models as links
from dml.plots.looks import dot, look, name
from dml.plots.style import DOUBLE, SMALLEST, about, figure, legend_above, letters

SHOWN = ("dml", "dml, 1 bit", "fedavg", "fedavg, 8 bits", "fedavg, top 1 %", "asynchronous")
BLUE, ORANGE = look("dml")["color"], look("fedavg")["color"]
MOMENTS = ((1, "1 s"), (60, "1 min"), (3600, "1 h"))


@figure("04_formulas", "bandwidth_ladder", "bandwidth_scaling", facts=("experiment", "classes"))
def formulas(
    ladder: pd.DataFrame, scaling: pd.DataFrame, experiment: Experiment, classes: int
) -> tuple[Figure, pd.DataFrame, str]:
    """Bytes of one client by formula, on logarithmic axes: against the rounds of a run, the images of a public fold,
    and the parameters of the model; crosses where DML becomes the dearer one.
    """
    images = int(scaling["images"].iloc[0])
    nets, at = links.architectures(experiment.size), ladder.set_index("arm")
    fig = Figure(figsize=(DOUBLE, 2.3))
    by_rounds, by_images, by_model = panels = fig.subplots(1, 3)
    rows: list[tuple] = []

    def curve(axes, what, x, y, **style):
        axes.plot(x, y, **style)
        rows.extend((axes.get_xlabel(), what, *pair) for pair in zip(x, y, strict=True))

    rounds = np.unique(np.geomspace(1, 1000, 40).round())
    fold = links.images_bytes(images, experiment.size)
    round_of = {arm: at.loc[arm, "up"] + at.loc[arm, "down"] for arm in ("dml", "fedavg")}
    model = at.loc["fedavg", "setup"]
    by_rounds.set(xlabel="rounds R, set-up included", ylabel="bytes of one client")
    curve(by_rounds, "dml, fresh folds", rounds, model + rounds * (fold + round_of["dml"]), color=BLUE)
    curve(by_rounds, "dml, one fold", rounds, model + fold + rounds * round_of["dml"], color=BLUE, linestyle="--")
    curve(by_rounds, "fedavg", rounds, model + rounds * round_of["fedavg"], color=ORANGE)

    counts = np.geomspace(1, 1e8, 60).round()
    said = np.array([sum(links.losses_round(int(count), classes)) for count in counts], dtype=float)
    pixels = links.images_bytes(1, experiment.size) * counts
    by_images.set_xlabel("public images N, one round")
    curve(by_images, "dml, fresh folds", counts, said + pixels, color=BLUE)
    curve(by_images, "dml, images at hand", counts, said, color=BLUE, linestyle="--")
    for net, stroke in (("VisionNet", "-"), ("ViT-B/16", ":")):
        line = float(sum(links.weights_round(nets[net])))
        curve(by_images, f"fedavg, {net}", counts, np.full(60, line), color=ORANGE, linestyle=stroke)
        by_images.text(1.0, line / 1.7, net, fontsize=SMALLEST, color=ORANGE, va="top")
        for crossing in links.break_even(nets[net], experiment.size, classes).values():
            by_images.plot(crossing, line, marker="x", color="0.2", markersize=4)

    names = sorted(nets, key=lambda net: nets[net])
    by_model.set_xlabel("parameters P, one round")
    sizes = np.array([nets[net] for net in names])
    curve(by_model, "fedavg", sizes, [sum(links.weights_round(size)) for size in sizes], color=ORANGE, marker="s")
    small = float(sum(links.losses_round(images, classes)))
    flat = np.ones(len(sizes))
    curve(by_model, "dml, fresh folds", sizes, flat * (small + fold), color=BLUE, marker="o")
    curve(by_model, "dml, images at hand", sizes, flat * small, color=BLUE, marker="o", linestyle="--")
    for net in names:
        place, below = (nets[net], sum(links.weights_round(nets[net]))), net == "VisionNet"
        side: dict[str, Any] = {"xytext": (4, -9), "ha": "left"} if below else {"xytext": (-3, 5), "ha": "right"}
        by_model.annotate(net, place, textcoords="offset points", fontsize=SMALLEST, **side)
    by_model.set_xlim(1e4, 4e8)
    for axes in panels:
        axes.set(xscale="log", yscale="log")
    by_rounds.plot([], [], color=BLUE, linestyle="-", label="DML, fresh public images sent")
    by_rounds.plot([], [], color=BLUE, linestyle="--", label="DML, images at hand (or sent once)")
    by_rounds.plot([], [], color=ORANGE, label="FedAvg")
    legend_above(fig, by_rounds)
    letters(panels, left=-16)
    up, down = links.losses_round(1, classes)
    even = links.break_even(nets["VisionNet"], experiment.size, classes)
    text = (
        "Formulas, not measurements. DML's messages never grow with the model, FedAvg's never with the public images. "
        f"Crosses: equal bytes; for VisionNet at {even['fresh images sent']:,.0f} fresh public images in a round, or "
        f"{even['images at hand']:,.0f} that every client has already. Payload of one client in a round: DML {up:.0f} "
        f"N up and {down:.0f} N down with {classes} classes, a raw fold {links.images_bytes(1, experiment.size):,} N, "
        f"FedAvg 4 P up and 4 P down; a adds measured headers and the first model (N = {images:.0f})."
    )
    return fig, pd.DataFrame(rows, columns=["panel", "curve", "x", "bytes"]), text


@figure("04_links", "bandwidth_links")
def on_links(costs: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """One row a link and one marker an arm, on logarithmic axes: left the seconds of one client's round, right the
    joules of the transfer alone and, behind a line, with the radio's tail.
    """
    arms = [arm for arm in SHOWN if arm in set(costs["arm"])]
    names, radios = [link.name for link in links.LINKS], list(links.RADIOS)
    fig = Figure(figsize=(DOUBLE, 2.4))
    time, energy = fig.subplots(1, 2, width_ratios=(1.25, 1))
    for place, arm in enumerate(arms):
        by_link, offset = costs[costs["arm"] == arm].set_index("link"), (place - (len(arms) - 1) / 2) * 0.12
        time.plot(by_link["seconds"][names], np.arange(len(names)) + offset, **dot(arm), label=name(arm))
        joules, y = by_link["joules"][radios], np.arange(len(radios)) + offset
        tail = joules + by_link["tail"][radios]
        energy.hlines(y, joules, tail, color=dot(arm)["color"], linewidth=0.7)
        energy.plot(joules, y, **dot(arm))
        energy.plot(tail, y, linestyle="", marker="|", color=dot(arm)["color"], markersize=5)
    time.set_yticks(range(len(names)), [f"{x.name}, {x.up:g} / {x.down:g}" for x in links.LINKS])
    time.set_ylabel("link, Mbit/s up / down")
    energy.set_yticks(range(len(radios)), [f"{place}:\n{radio.name}" for place, radio in links.RADIOS.items()])
    for axes, what in ((time, "seconds per round"), (energy, "joules per round")):
        axes.set(xscale="log", xlabel=f"← better   {what}")
        axes.set_ylim(len(axes.get_yticks()) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
    for seconds, text in MOMENTS:
        time.axvline(seconds, color="0.6", linewidth=0.7, zorder=0)
        time.text(
            seconds, 1.01, text, ha="center", va="bottom", fontsize=SMALLEST, transform=time.get_xaxis_transform()
        )
    legend_above(fig, time)
    letters((time, energy), left=-14)
    told = "; ".join(_tails(costs, radio) for radio in radios)
    caption = about(
        data,
        f"Models with measured message bytes of one client. FedAvg's energy by DML's: {told}.",
        "Marker: transfer alone; bar at the end of the line: with the tail, in which the radio stays awake "
        "(Huang et al. 2012).",
        "Seconds = bits / rate, without latency or overhead; joules = (alpha rate + beta) seconds. Rates: 3GPP Rel. 13 "
        "(NB-IoT, LTE-M), Huang et al. 2012 (4G), Ofcom 2020 (home), the author's notebook.",
    )
    return fig, costs[costs["arm"].isin(arms)], caption


def _tails(costs: pd.DataFrame, radio: str) -> str:
    """How many times DML's energy FedAvg's is, without the radio's tail and with it."""
    dml, fedavg = (costs[(costs["arm"] == arm) & (costs["link"] == radio)].iloc[0] for arm in ("dml", "fedavg"))
    alone, whole = fedavg["joules"] / dml["joules"], (fedavg["joules"] + fedavg["tail"]) / (dml["joules"] + dml["tail"])
    return f"{alone:,.0f} times without the radio's tail, {whole:,.0f} with it ({radio})"
