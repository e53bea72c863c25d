"""The figures of notebook 04 that show models, not measurements: each states its formula in the caption."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dml.config import Experiment
from dml.evidence import cost_models as links
from dml.plots.style import COLOURS, DOUBLE, LOOKS, caption, figure, legend_above

SHOWN = ("dml", "dml, 1 bit", "fedavg", "fedavg, 8 bits", "fedavg, top 1 %", "asynchronous")


@figure("04_formulas", "bandwidth_ladder", "bandwidth_scaling", facts=("experiment", "classes"))
def formulas(
    ladder: pd.DataFrame, scaling: pd.DataFrame, experiment: Experiment, classes: int
) -> tuple[Figure, pd.DataFrame]:
    """Bytes of one client against the rounds R, the images N of a public fold, and the parameters P of the model."""
    images = int(scaling["images"].iloc[0])
    nets, at = links.architectures(experiment.size), ladder.set_index("arm")
    fig = Figure(figsize=(DOUBLE, 2.6))
    by_rounds, by_images, by_model = fig.subplots(1, 3)
    rows: list[tuple] = []

    def curve(axes, what, x, y, **style):
        axes.plot(x, y, **style)
        rows.extend((axes.get_title(loc="left"), what, *pair) for pair in zip(x, y, strict=True))

    blue, orange = LOOKS["dml"]["color"], LOOKS["fedavg"]["color"]
    rounds = np.unique(np.geomspace(1, 1000, 40).round())
    fold = links.images_bytes(images, experiment.size)
    round_of = {arm: at.loc[arm, "up"] + at.loc[arm, "down"] for arm in ("dml", "fedavg")}
    model = at.loc["fedavg", "setup"]
    by_rounds.set_title("rounds R, set-up included")
    curve(by_rounds, "dml, fresh folds", rounds, model + rounds * (fold + round_of["dml"]), color=blue)
    curve(by_rounds, "dml, one fold", rounds, model + fold + rounds * round_of["dml"], color=blue, linestyle="--")
    curve(by_rounds, "fedavg", rounds, model + rounds * round_of["fedavg"], color=orange)

    counts = np.geomspace(1, 1e8, 60).round()
    said = np.array([sum(links.losses_round(count, classes)) for count in counts])
    pixels = links.images_bytes(1, experiment.size) * counts
    by_images.set_title("public images N, a round")
    curve(by_images, "dml, fresh folds", counts, said + pixels, color=blue)
    curve(by_images, "dml, images at hand", counts, said, color=blue, linestyle="--")
    for name, color in (("VisionNet", orange), ("ViT-B/16", COLOURS[3])):
        line = float(sum(links.weights_round(nets[name])))
        curve(by_images, f"fedavg, {name}", counts, np.full(60, line), color=color)
        by_images.text(1.3, line * 1.4, name, fontsize=6, color=color)
        for crossing in links.break_even(nets[name], experiment.size, classes).values():
            by_images.plot(crossing, line, marker="x", color="0.2", markersize=4)

    names = sorted(nets, key=lambda name: nets[name])
    by_model.set_title("parameters P, a round")
    sizes = np.array([nets[name] for name in names])
    curve(by_model, "fedavg", sizes, [sum(links.weights_round(size)) for size in sizes], color=orange, marker="s")
    small = float(sum(links.losses_round(images, classes)))
    curve(by_model, f"dml, {images} images", sizes, np.full(len(sizes), small), color=blue, marker="o")
    for name in names:
        place, below = (nets[name], sum(links.weights_round(nets[name]))), name == "VisionNet"
        side = {"xytext": (4, -9), "ha": "left"} if below else {"xytext": (-3, 5), "ha": "right"}
        by_model.annotate(name, place, textcoords="offset points", fontsize=6, **side)
    by_model.set_xlim(3e4, 2e8)
    for axes in (by_rounds, by_images, by_model):
        axes.set(xscale="log", yscale="log")
    by_rounds.set_ylabel("bytes of one client")
    by_rounds.plot([], [], color=blue, linestyle="-", label="dml, fresh public images sent")
    by_rounds.plot([], [], color=blue, linestyle="--", label="dml, images at hand (or sent once)")
    by_rounds.plot([], [], color=orange, label="fedavg")
    legend_above(fig, by_rounds)
    up, down = links.losses_round(1, classes)
    even = links.break_even(nets["VisionNet"], experiment.size, classes)
    caption(
        fig,
        f"Models: a dml round {up:.0f} N up + {down:.0f} N down ({classes} classes); a raw fold "
        f"{links.images_bytes(1, experiment.size):,} N; a fedavg round 4 P + 4 P; left, plus measured headers and "
        f"initial model (N = {images:.0f}). Crosses: break-even, for VisionNet at "
        f"{even['fresh images sent']:,.0f} fresh or {even['images at hand']:,.0f} images at hand.",
    )
    return fig, pd.DataFrame(rows, columns=["panel", "curve", "x", "bytes"])


@figure("04_links", "bandwidth_links")
def on_links(costs: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Seconds and joules of one client's round on published links."""
    arms = [arm for arm in SHOWN if arm in set(costs["arm"])]
    names = [link.name for link in links.LINKS]
    fig = Figure(figsize=(DOUBLE, 2.6))
    time, energy = fig.subplots(1, 2, width_ratios=(1.6, 1))
    for place, arm in enumerate(arms):
        by_link, shown = costs[costs["arm"] == arm].set_index("link"), LOOKS[arm.partition(",")[0]]
        faded = {"color": shown["color"], "alpha": 1 if "," not in arm else 0.3 + 0.2 * (place % 3)}
        offset = (place - (len(arms) - 1) / 2) * 0.13
        time.bar(np.arange(len(names)) + offset, by_link["seconds"][names], width=0.12, label=arm, **faded)
        radios = list(links.RADIOS)
        energy.bar(np.arange(len(radios)) + offset, by_link["joules"][radios], width=0.12, **faded)
        tail = by_link["joules"][radios] + by_link["tail"][radios]
        energy.plot(np.arange(len(radios)) + offset, tail, linestyle="", marker="_", color="0.2", markersize=5)
    time.set_xticks(range(len(names)), [f"{x.name}\n{x.up:g} / {x.down:g}" for x in links.LINKS])
    time.set(yscale="log", ylabel="seconds a round", title="transfer time (Mbit/s up / down)")
    for y, text in ((1, "1 s"), (60, "1 min"), (3600, "1 h")):
        time.axhline(y, color="0.8", linewidth=0.6, zorder=0)
        time.text(len(names) - 0.45, y, text, fontsize=6, color="0.5", va="center")
    energy.set_xticks(range(len(links.RADIOS)), [f"{name}: {radio.name}" for name, radio in links.RADIOS.items()])
    energy.set(yscale="log", ylabel="joules a round", title="energy of the radio (a model)")
    legend_above(fig, time, columns=6)
    caption(
        fig,
        f"{data}. Measured message bytes of one client. Models: seconds = bits / rate, no latency or overhead; joules "
        "= (alpha rate + beta) seconds, dash: with the radio's tail (Huang et al. 2012). Rates: 3GPP Rel. 13 (NB-IoT, "
        "LTE-M), Huang et al. 2012 (4G), Ofcom 2020 (home), the author's notebook.",
    )
    return fig, costs[costs["arm"].isin(arms)]
