"""The claims about bytes, each for the system it is true of: DML as published, whose server forwards every peer's
losses, and DML with our server, which sends one sum.
"""

from collections.abc import Sequence

import pandas as pd

from dml.evidence import cost_models
from dml.evidence.about import About
from dml.evidence.answers import HELD, REFUTED, lists
from dml.evidence.codings import WEIGHTS, smaller
from dml.models import VisionNet

ROUND, RUN = "a round's messages", "the run, set-up included"
CODED = "the run, images and weights coded"
PUBLISHED, OURS = "as published", "with our sum"
NAMES = {
    "fedavg": "FedAvg",
    "asynchronous": "asynchronous",
    "fedavg, 8 bits": "8 bits",
    "fedavg, top 1 %": "top 1 %",
}
PLAIN = ("fedavg", "asynchronous")
GROWTH, EXACT = 1.1, 1e-4  # L1: how much the bytes of a client may grow to K = 1,000, how far off the sum may be
SMALL = 0.01  # of FedAvg's bytes: what L2 calls a small cost


def ratios(ladder: pd.DataFrame, codings: pd.DataFrame, clients: int) -> pd.DataFrame:
    """Other arms' bytes of one client by DML's: columns system, what, against, dml, other, ratio, for every arm of
    `NAMES` that is there. Counts of bytes do not vary over seeds.

    As published, a client gets clients - 1 messages as large as its own instead of one sum. In `CODED` the images of
    the set-up weigh what their files do, or less as PNG, and messages of weights what compression leaves of them.
    """
    at = ladder.set_index("arm")
    dml, model = at.loc["dml"], at.loc["fedavg", "setup"]
    rounds = (dml["sent"] + dml["setup"]) / dml["amortised"]
    images = smaller(codings, "image") * (dml["setup"] - model)
    weights = {arm: smaller(codings, f"weights, {encoding}") for arm, encoding in WEIGHTS.items()}
    weights["asynchronous"] = weights["fedavg"]
    rows = []
    for system, own in ((OURS, dml["up"] + dml["down"]), (PUBLISHED, clients * dml["up"])):
        totals = {ROUND: own, RUN: rounds * own + dml["setup"]}
        totals[CODED] = rounds * own + images + weights["fedavg"] * model
        for arm in (arm for arm in NAMES if arm in at.index):
            other = at.loc[arm]
            theirs = {ROUND: other["up"] + other["down"], RUN: other["sent"] + other["setup"]}
            theirs[CODED] = weights[arm] * other["sent"] + weights["fedavg"] * other["setup"]
            rows += [(system, what, arm, totals[what], theirs[what], theirs[what] / totals[what]) for what in totals]
    return pd.DataFrame(rows, columns=["system", "what", "against", "dml", "other", "ratio"])


def break_even(about: About, codings: pd.DataFrame) -> dict[str, float]:
    """How many public images a round make DML's as costly as FedAvg's: at hand already, or fresh ones sent as raw
    pixels, or coded, against coded weights.
    """
    size, classes = about.experiment.size, about.classes
    parameters = cost_models.parameters(VisionNet(size, classes))
    plain = cost_models.break_even(parameters, size, classes)
    image = smaller(codings, "image") * cost_models.images_bytes(1, size)
    weights = smaller(codings, "weights, float32") * sum(cost_models.weights_round(parameters))
    return plain | {"fresh images and weights coded": weights / (image + sum(cost_models.losses_round(1, classes)))}


def per_round(wire: pd.DataFrame, kinds: Sequence[str]) -> pd.DataFrame:
    """Of a deployment (the wire.csv of `make flower`) bytes of a client in a round: a row a direction, a column each
    of `kinds`, means over the clients and the rounds between the first and the last.
    """
    rounds = wire[(wire["round"] > 0) & (wire["round"] < wire["round"].max())]
    return rounds.groupby("direction")[list(kinds)].mean()


def judged(tables: list[pd.DataFrame], about: About) -> list[dict]:
    """The rows on C3, F2, L1 and L2 (see `verdicts.COLUMNS`), of the tables ladder, scaling and codings."""
    ladder, scaling, codings = tables
    table = ratios(ladder, codings, about.experiment.clients)
    ratio = table.set_index(["system", "what", "against"])["ratio"]
    against = list(dict.fromkeys(table["against"]))
    plain, even = [arm for arm in PLAIN if arm in against], break_even(about, codings)
    at = ladder.set_index("arm").loc["dml"]

    def said(system: str, what: str, arms: list[str], form: str) -> str:
        return ", ".join(f"{NAMES[arm]} {ratio[system, what, arm]:{form}}" for arm in arms)

    def fewer(system: str, whats: dict[str, str], arms: list[str]) -> dict[str, str]:
        return {
            f"{NAMES[arm]}, {words}": HELD if ratio[system, what, arm] > 1 else REFUTED
            for what, words in whats.items()
            for arm in arms
        }

    rows = [
        {
            "claim": "C3",
            "system": system,
            "says": "less transmission than full or partial weights",
            **lists(fewer(system, {ROUND: "a round", CODED: "a run"}, plain)),
            "why": f"times DML's bytes of one client, {system}: {_parts(system, ratio, against)}",
            "figure": "04_bytes",
            "short": f"times a round: {said(system, ROUND, plain, ',.0f')}; a run: {said(system, CODED, plain, '.2f')}",
        }
        for system in (PUBLISHED, OURS)
    ]
    rows.append(
        {
            "claim": "F2",
            "system": OURS,
            "says": "cheaper than weight sharing, the images and compressed weights counted",
            **lists(
                {NAMES[arm]: HELD if ratio[OURS, CODED, arm] > 1 else REFUTED for arm in WEIGHTS if arm in against}
            ),
            "why": f"{_parts(OURS, ratio, against)}. Break-even for VisionNet, public images a round: "
            + ", ".join(f"{count:,.0f} {words}" for words, count in even.items()),
            "figure": "04_ladder",
            "short": f"times a run: {said(OURS, CODED, [arm for arm in WEIGHTS if arm in against], '.2f')}; images as "
            f"raw pixels: {said(OURS, RUN, [arm for arm in WEIGHTS if arm in against], '.2f')}",
        }
    )
    costs = {words: 1 / ratio[OURS, what, "fedavg"] for what, words in ((ROUND, "a round"), (CODED, "a run"))}
    rows.append(
        {
            "claim": "L2",
            "system": OURS,
            "says": "the cost of sharing losses is small (not analysed in the paper)",
            **lists({words: HELD if cost < SMALL else REFUTED for words, cost in costs.items()}),
            "why": f"a round {at['up']:,.0f} bytes up and {at['down']:,.0f} down for a client, "
            f"{100 * costs['a round']:.3f} % of `fedavg`'s; a run {100 * costs['a run']:.0f} %, nearly all of it the "
            f"set-up: the initial model and the public images. Small: under {100 * SMALL:g} %",
            "figure": "04_formulas",
            "short": f"{100 * costs['a round']:.3f} % of FedAvg's round, {100 * costs['a run']:.0f} % of its run",
        }
    )
    return rows + _scales(scaling)


def _parts(system: str, ratio: pd.Series, against: list[str]) -> str:
    return "; ".join(
        f"`{arm}` {ratio[system, ROUND, arm]:,.1f} of the messages, {ratio[system, RUN, arm]:.2f} with the set-up, "
        f"{ratio[system, CODED, arm]:.2f} with images and weights coded"
        for arm in against
    )


def _scales(scaling: pd.DataFrame) -> list[dict]:
    """Whether a client's messages stay as they are when there are more clients, for either server."""
    most, fewest, rows = scaling["clients"].max(), scaling["clients"].min(), []
    for system, topology in ((PUBLISHED, "server, forwarding"), (OURS, "server, one sum")):
        down = scaling[scaling["topology"] == topology].set_index("clients")["down"]
        error = scaling["error"].max()
        scales = down.max() < GROWTH * down.min() and error < EXACT
        rows.append(
            {
                "claim": "L1",
                "system": system,
                "says": "messages scale to many clients (a limit that the paper states)",
                **lists({f"the same bytes with {most:,} clients": HELD if scales else REFUTED}),
                "why": f"a client gets {down[fewest]:,.0f} bytes a round with {fewest} clients, {down[most]:,.0f} with "
                f"{most:,}" + (f"; the same table within {error:.0e}" if system == OURS else ""),
                "figure": "04_scaling",
                "short": f"bytes down a round: {down[fewest]:,.0f} with {fewest} clients, {down[most]:,.0f} with "
                f"{most:,}",
            }
        )
    return rows
