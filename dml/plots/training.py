"""The figures of notebook 02 that follow training: loss by epoch, accuracy by round."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dml.plots.style import CLIENTS, DOUBLE, LOOKS, caption, figure, legend_above, percent, seeds_text


@figure("02_histories", "history")
def histories(history: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Training loss of every client over all epochs, one panel an arm; epochs on the public fold are shaded."""
    seed = history["seed"].min()
    rows = history[(history["seed"] == seed) & (history["arm"] != "pooled")]
    arms = list(rows["arm"].unique())
    fig = Figure(figsize=(DOUBLE, 1.45 * -(-len(arms) // 3) + 0.3))
    grid = fig.subplots(-(-len(arms) // 3), 3, sharex=True, sharey=True, squeeze=False).ravel()
    drawn = []
    for axes, arm in zip(grid, arms, strict=False):
        lines = _timeline(rows[rows["arm"] == arm])
        for client, line in lines.groupby("client"):
            axes.plot(
                line["step"],
                line["loss"],
                color=CLIENTS[client % len(CLIENTS)],
                linewidth=0.6,
                label=f"client {client}",
            )
        for start in lines.loc[lines["shared"] & (lines["epoch"] == 1), "step"].unique():
            axes.axvspan(start - 0.5, start + lines["epoch"].max() - 0.5, color="0.88", linewidth=0, zorder=0)
        axes.set_title(arm)
        drawn.append(lines)
    for axes in grid[len(arms) :]:
        axes.set_visible(False)
    top = pd.concat(drawn)["loss"]
    grid[0].set(yscale="log", ylim=(max(top.quantile(0.01), 1e-4), top.max() * 1.3))
    for column in range(3):
        for axes in grid[column : len(arms) : 3][-1:]:  # the lowest panel of the column that shows something
            axes.set_xlabel("epoch")
            axes.tick_params(labelbottom=True)
    for axes in grid[::3]:
        axes.set_ylabel("training loss")
    legend_above(fig, grid[0])
    caption(fig, f"{data}, seed {seed}, one line a client. Shaded: epochs on the public (or the server's extra) fold.")
    return fig, pd.concat(drawn)


def _timeline(rows: pd.DataFrame) -> pd.DataFrame:
    """The server's epochs belong to every client, as in the published histories; `step` counts a client's epochs."""
    clients = sorted(set(rows["client"]) - {-1})
    parts = []
    for client in clients:
        epochs = rows[rows["client"].isin([client, -1])].reset_index(drop=True)
        epochs = epochs.assign(order=epochs["phase"].map({"pretrain": 0, "local": 1, "public": 2, "global": 2}))
        epochs = epochs.sort_values(["round", "order", "epoch"], kind="stable")
        parts.append(epochs.assign(client=client, step=range(1, len(epochs) + 1), shared=epochs["order"] == 2))
    return pd.concat(parts).drop(columns="order")


@figure("02_rounds", "results")
def rounds(results: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Accuracy on each round's public fold after the private training, before anyone has trained on that fold."""
    rows = results[results["metric"] == "public accuracy"]
    table = rows.groupby(["arm", "round", "seed"], sort=False)["value"].mean().groupby(["arm", "round"], sort=False)
    table = table.agg(["mean", "min", "max"]).reset_index()
    fig = Figure(figsize=(DOUBLE, 2.6))
    axes = fig.subplots()
    for arm, line in table.groupby("arm", sort=False):
        axes.plot(line["round"], line["mean"], label=arm, **LOOKS[arm])
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.set(xlabel="round", ylabel="accuracy, fresh public fold, %")
    percent(axes)
    fig.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    caption(
        fig, f"{data}, {seeds_text(results)}. Mean over clients and seeds, before the round's refinement or averaging."
    )
    return fig, table
