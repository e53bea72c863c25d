"""Tables in Markdown, as `make figures` writes them beside the figures."""

from pathlib import Path

import numpy as np
import pandas as pd

from dml.evidence import accuracy, privacy, published, verdicts
from dml.evidence.about import About, read_all
from dml.evidence.answers import STATUSES
from dml.evidence.transmission import per_round, ratios
from dml.evidence.words import estimate, joined, span, table
from dml.stats import summarise
from dml.studies.plan import plan


def claims(results: pd.DataFrame, costs: pd.DataFrame, reported: pd.DataFrame, title: str) -> str:
    """Every arm's accuracy and cost, and every comparison of the analysis plan; per cent and percentage points."""
    summary = summarise(results, "unseen accuracy")
    means = reported.groupby("arm")["accuracy"].mean()
    seconds = costs.groupby("arm")["cpu_s"].mean()
    n = int(summary["n"].max())
    arms = [
        (
            f"`{row.arm}`",
            f"{100 * means[row.arm]:.2f}" if row.arm in means else "",
            f"{100 * row.mean:.2f} {span(row.low, row.high, '.2f')}",
            f"{seconds[row.arm]:.0f}",
        )
        for row in summary.itertuples()
    ]
    head = (
        f"Data: {title}; n = {n} seeds; intervals are Student's t, 95 % over seeds; p of a difference, and of "
        f"equivalence within {100 * plan().margin:g} points, after Holm's correction within the family. The rules are "
        "those of the analysis plan."
    )
    titles = ("arm", "reported (one seed)", "accuracy at the last round, %: mean [interval]", "CPU seconds a seed")
    return joined([head, "", *table(titles, arms), "", *compared(accuracy.claims(results, reported))])


def compared(claimed: pd.DataFrame) -> list[str]:
    """The lines of a table of `accuracy.claims`, in percentage points."""
    rows = [
        (
            row.family,
            f"`{row.against}`",
            row.measure,
            "" if np.isnan(row.reported) else f"{100 * row.reported:+.2f}",
            estimate(row.mean, row.low, row.high),
            f"{row.better * row.n:g} of {row.n}",
            *("" if np.isnan(p) else f"{p:.2g}" for p in (row.p, row.flips, row.equivalent)),
            *("" if np.isnan(bound) else f"{100 * bound:+.2f}" for bound in (row.least, row.most)),
            f"**{row.answer}**",
        )
        for row in claimed.itertuples()
    ]
    tests = ("p", "p of sign flips", "p of equivalence", "at least", "at most", "answer")
    return table(("family", "DML minus", "of", "reported", "mean [95 %]", "better on", *tests), rows)


def comparison(measured: pd.DataFrame, exact: pd.DataFrame) -> str:
    """Published numbers beside measured ones; shares in per cent or percentage points, losses in nats."""
    rows = []
    for row in measured.itertuples():
        scale, form = (1, ".3f") if "loss" in row.what else (100, "+.2f" if "minus" in row.what else ".2f")
        inside = "" if np.isnan(row.low) else "yes" if row.inside else "**no**"
        numbers = (f"{scale * row.published:{form}}", f"{scale * row.mean:{form}}")
        rows.append((f"`{row.arm}`", row.what, *numbers, span(row.low, row.high, form, scale), row.n, inside))
    titles = ("published (one run)", "measured: mean", "one more run, 95 %", "n", "could be one of ours")
    facts = [(row.what, f"{row.published:,}", f"{row.here:,}") for row in exact.itertuples()]
    return joined([*table(("arm", "what", *titles), rows), "", *table(("fact", "published", "here"), facts)])


def probes(
    verdict: pd.DataFrame, differences: pd.DataFrame, rates: pd.DataFrame, reconstruction: pd.DataFrame, title: str
) -> str:
    """The verdict of the privacy probes, claim C4 and the calibration of reconstruction."""
    first, shown = verdict.iloc[0], privacy.readable(verdict, rates, reconstruction)
    gains = reconstruction.assign(
        gain=reconstruction["psnr"] - reconstruction["psnr of the mean"], clearly=privacy.clearly(reconstruction)
    )
    attacks = [
        (
            *(attack, rows["view"].iloc[0], rows["case"].nunique(), len(rows), f"{rows['gain'].mean():+.1f}"),
            *(rows["recovered"].sum(), rows["clearly"].sum()),
        )
        for attack, rows in gains.groupby("attack", sort=False)
    ]
    answers = [
        (row.claim, row.question, f"{row.mean:+.3f} {span(row.low, row.high, '+.3f', 1)}", f"**{row.answer}**")
        for row in privacy.c4(differences).itertuples()
    ]
    head = (
        f"Data: {title}; membership: n = {first['n']:.0f} targets, {first['trials']:,.0f} trials, 95 % over "
        "targets; the strongest attack of each view, chosen on other targets. 0.5 is guessing. Differences: intervals "
        f"as if the {privacy.ALIKE} targets of a group, which share bystanders and shadows, were one."
    )
    criterion = (
        "*Nearer*: to its private image (PSNR) than the mean image and every public image are. *Recovered*: nearer, "
        f"and its SSIM is {privacy.SSIM:g} above that of the mean image; this was chosen after the run, and before the "
        "victims of `figures/reconstruction.md`. *Paired logits* make one picture a class, compared with all private "
        "images of the victim: its mean face, of nobody."
    )
    asked = ("claim", "who looks, one round, black box: AUC, weights minus predictions", "difference", "answer")
    told = ("reconstruction", "from", "victims", "images", "mean gain over the mean image, dB", "nearer", "recovered")
    views = table(list(shown), shown.itertuples(index=False))
    lines = [head, "", *views, "", *table(asked, answers), "", criterion, "", *table(told, attacks)]
    return joined(lines)


def bandwidth(ladder: pd.DataFrame, targets: pd.DataFrame, codings: pd.DataFrame, about: About) -> str:
    """The ladder, what a person's coding makes of it, and claim C3; bytes of one client, accuracies in per cent."""
    n, goal = int(ladder["n"].max()), targets[targets["target"] == 0.92].set_index("arm")
    rows = []
    for row in ladder.itertuples():
        there, compared = goal.loc[row.arm], row.against == row.against
        middle = "" if np.isnan(there["sent"]) else f", {there['sent']:,.0f}"
        points = f"{100 * row.difference:+.2f} {span(row.difference_low, row.difference_high)}" if compared else ""
        rows.append(
            (
                f"`{row.arm}`",
                f"{row.up:,.0f} ({row.payload_up:,.0f})",
                *(f"{size:,.0f}" for size in (row.down, row.setup, row.amortised)),
                "" if np.isnan(row.ratio) else f"{row.ratio:,.1f}",
                f"{there['reached']:.0f} of {there['n']:.0f}{middle}",
                f"{100 * row.mean:.2f} {span(row.low, row.high, '.2f')}",
                f"`{row.against}`" if compared else "",
                points,
            )
        )
    times = [
        (row.system, f"`{row.against}`", row.what, f"{row.other:,.0f}", f"{row.dml:,.0f}", f"{row.ratio:,.2f}")
        for row in ratios(ladder, codings, about.experiment.clients).itertuples()
    ]
    weighed = [
        (row.what, row.coding, f"{row.bytes:,.0f}", f"{row.plain:,.0f}", f"{row.n:,}") for row in codings.itertuples()
    ]
    head = f"Data: {about.title}; n = {n} seeds; bytes of one client, headers included; intervals are 95 % over seeds."
    titles: tuple[str, ...] = (
        "arm",
        "a round, up (numbers alone)",
        "down",
        "set-up",
        "a round, set-up spread",
        "FedAvg's messages / these",
    )
    titles += ("to 92 %: seeds, bytes", "unseen accuracy, %", "minus", "points")
    coded = ("what", "coding", "bytes", "bytes that the ledger counts", "n")
    compared = ("DML", "against", "of", "its bytes", "DML's", "ratio")
    return joined([head, "", *table(titles, rows), "", *table(coded, weighed), "", *table(compared, times)])


def wires(measured: dict[str, pd.DataFrame]) -> str:
    """What crossed the sockets of real deployments (the wire.csv of `make flower` by the run's name).

    Per client and round, up and down: the bytes of our messages, what Flower's serialised messages add to them
    (framing, and measurements that are no part of the protocol), and all bytes on the client's TLS connections.
    """
    rows = []
    for name, wire in measured.items():
        mean = per_round(wire, ("encoded", "framing", "about", "tls"))
        cells = [" / ".join(f"{mean.loc[way, column]:,.0f}" for way in ("up", "down")) for column in mean]
        setup = wire[wire["round"] == 0].groupby("direction")["tls"].mean()
        rows.append((f"`{name}`", wire["client"].nunique(), *cells, f"{setup['up']:,.0f} / {setup['down']:,.0f}"))
    titles = (
        "run",
        "clients",
        "our messages, up / down",
        "Flower's framing",
        "measurements",
        "TLS connection",
        "set-up, TLS",
    )
    return joined(table(titles, rows))


def judged(table_: pd.DataFrame, title: str) -> str:
    """The verdicts of a run."""
    rows = [
        (row.claim, row.system, row.says, *(getattr(row, status) for status in STATUSES), row.why, f"`{row.figure}`")
        for row in table_.itertuples()
    ]
    titles = ("claim", "DML", "the paper says", *STATUSES, "evidence", "figure")
    return joined([f"Data: {title}.", "", *table(titles, rows)])


def texts(folder: Path, about: About) -> dict[str, str]:
    """The texts that a run's folder has the tables for, by name."""
    texts_by_name = {}
    if there := read_all(folder, ("results", "costs")):  # not after `reproduce --only 01`
        results, costs = there
        texts_by_name["claims"] = claims(results, costs, about.reported, about.title)
    if len(about.reported) and (there := read_all(folder, ("results", "history"))):
        texts_by_name["published"] = comparison(published.comparison(*there), published.facts(about.experiment))
    names = ("privacy_verdict", "privacy_differences", "privacy_rates", "privacy_reconstruction")
    if there := read_all(folder, names):
        texts_by_name["privacy"] = probes(*there, about.title)  # type: ignore[call-arg]
    if there := read_all(folder, ("bandwidth_ladder", "bandwidth_targets", "bandwidth_codings")):
        ladder, targets, codings = there
        texts_by_name["bandwidth"] = bandwidth(ladder, targets, codings, about)
    table = verdicts.verdicts(folder, about)
    return texts_by_name | ({"verdicts": judged(table, about.title)} if len(table) else {})
