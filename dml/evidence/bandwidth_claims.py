"""Claim C3 against the measured bytes, as a table for the notebook and as text for the README."""

import numpy as np
import pandas as pd


def verdicts(ladder: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """Claim C3, that losses need less transmission than weights: columns what, against, dml, other (bytes of one
    client), ratio (other / dml). Counts of bytes do not vary over seeds but in the rounds that a target takes.
    """
    at, goal = ladder.set_index("arm"), targets[targets["target"] == 0.92].set_index("arm")
    rows = []

    def compare(what: str, against: str, dml: float, other: float) -> None:
        rows.append((what, against, dml, other, other / dml))

    for other in ("fedavg", "fedavg, 8 bits", "fedavg, top 1 %", "asynchronous"):
        if other not in at.index:
            continue
        one, two = at.loc["dml"], at.loc[other]
        compare("a round's messages", other, one["up"] + one["down"], two["up"] + two["down"])
        compare("the run, set-up included", other, one["sent"] + one["setup"], two["sent"] + two["setup"])
        compare("to 92 %", other, goal.loc["dml", "sent"], goal.loc[other, "sent"])
        compare("to 92 %, set-up included", other, goal.loc["dml", "with_setup"], goal.loc[other, "with_setup"])
    return pd.DataFrame(rows, columns=["what", "against", "dml", "other", "ratio"])


def markdown(ladder: pd.DataFrame, targets: pd.DataFrame, title: str) -> str:
    """The ladder and the verdicts on C3 as tables in Markdown; bytes of one client, accuracies in per cent."""
    n, goal = int(ladder["n"].max()), targets[targets["target"] == 0.92].set_index("arm")
    lines = [
        f"Data: {title}; n = {n} seeds; bytes of one client, headers included; intervals are 95 % over seeds.",
        "",
        "| arm | a round, up (numbers alone) | down | set-up | a round, set-up spread | FedAvg's messages / these | "
        "to 92 %: seeds, bytes | unseen accuracy, % | minus | points |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ladder.itertuples():
        there = goal.loc[row.arm]
        middle = "" if np.isnan(there["sent"]) else f", {there['sent']:,.0f}"
        reached = f"{there['reached']:.0f} of {there['n']:.0f}{middle}"
        ratio = "" if np.isnan(row.ratio) else f"{row.ratio:,.1f}"
        against = "" if row.against != row.against else f"`{row.against}`"
        points = (
            f"{100 * row.difference:+.2f} {_range(row.difference_low, row.difference_high, '+.2f')}" if against else ""
        )
        lines.append(
            f"| `{row.arm}` | {row.up:,.0f} ({row.payload_up:,.0f}) | {row.down:,.0f} | {row.setup:,.0f} | "
            f"{row.amortised:,.0f} | {ratio} | "
            f"{reached} | {100 * row.mean:.2f} {_range(row.low, row.high, '.2f')} | {against} | {points} |"
        )
    lines += ["", "| C3: `dml` against | of | its bytes | dml's | ratio |", "|---|---|---|---|---|"]
    for row in verdicts(ladder, targets).itertuples():
        if not np.isnan(row.ratio):
            lines.append(f"| `{row.against}` | {row.what} | {row.other:,.0f} | {row.dml:,.0f} | {row.ratio:,.2f} |")
    return "\n".join(lines) + "\n"


def wire_markdown(wires: dict[str, pd.DataFrame]) -> str:
    """What crossed the sockets of real deployments (the wire.csv of `make flower` by the run's name), in Markdown.

    Per client and round, up and down: the bytes of our messages, what Flower's serialised messages add to them
    (framing, and measurements that are no part of the protocol), and all bytes on the client's TLS connections.
    """
    lines = [
        "| run | our messages, up / down | Flower's framing | measurements | TLS connection | set-up, TLS |",
        "|---|---|---|---|---|---|",
    ]
    for name, wire in wires.items():
        rounds = wire[(wire["round"] > 0) & (wire["round"] < wire["round"].max())]
        mean = rounds.groupby("direction")[["encoded", "framing", "about", "tls"]].mean()
        cells = [" / ".join(f"{mean.loc[way, column]:,.0f}" for way in ("up", "down")) for column in mean]
        setup = wire[wire["round"] == 0].groupby("direction")["tls"].mean()
        lines.append(f"| `{name}` | {' | '.join(cells)} | {setup['up']:,.0f} / {setup['down']:,.0f} |")
    return "\n".join(lines) + "\n"


def _range(low: float, high: float, form: str) -> str:
    return "" if np.isnan(low) else f"[{100 * low:{form}}, {100 * high:{form}}]"
