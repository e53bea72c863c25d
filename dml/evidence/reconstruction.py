"""What data/plan_reconstruction.md's victims say so far: which attack recovers whose pictures, and in words.

The unit is the victim. One criterion, `privacy.clearly`; beside it the same count for images never trained on.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import load_file
from scipy.stats import binomtest
from torch import Tensor

from dml.evidence.privacy import clearly
from dml.evidence.words import capital, estimate, joined, pages, progress, span, table
from dml.files import read_table
from dml.stats import ALPHA, holm_corrected, interval, paired
from dml.studies.reconstruction import DRAWN, NAME, PICTURES, plan
from dml.studies.study import STUDIES

NOTHING, FIGURE, PEOPLE = "No two victims are on record yet.", "03_reconstruction", "facemask"
CALIBRATION = "calibration"
RECOVERED, NONE, OPEN = "recovers private pictures", "none recovered", "not shown to"
SHOWN = (  # in the figure of drawn faces
    *("SGD step, 1 image, dense input", "SGD step, 4 images", "10 Adam steps, 1 image"),
    *("round's update", "round's update, convolutions", "paired logits"),
)


def recorded(data: str = PEOPLE, folder: Path = STUDIES) -> pd.DataFrame | None:
    """Every picture on record of a data set, of two victims at least, else None, in the order of the attacks; with
    columns `nearer`, than the mean and every public image, and `recovered`, the plan's criterion.
    """
    from dml.privacy.reconstruction import ATTACKS  # an annex

    file = folder / NAME / "pictures.csv.gz"
    rows = read_table(file) if file.is_file() else None
    if rows is None or (rows := rows[rows["data"] == data])["seed"].nunique() < 2:
        return None
    rows = rows.sort_values("attack", key=lambda names: names.map(list(ATTACKS).index), kind="stable")
    nearer = rows["psnr"] > rows[["psnr of the mean", "psnr of the nearest public"]].max(axis=1)
    return rows.assign(nearer=nearer, recovered=clearly(rows.assign(recovered=nearer)))


def drawn(folder: Path = STUDIES) -> tuple[dict[str, dict[int, Tensor]], pd.DataFrame] | None:
    """The kept pictures of drawn faces, by "<victim>/<attack>/<what>" and image, and their rows: what the figure needs;
    None while they are not on record.
    """
    file, rows = folder / NAME / PICTURES, recorded(DRAWN, folder)
    if rows is None or not file.is_file():
        return None
    pictures: dict[str, dict[int, Tensor]] = {}
    for key, picture in load_file(file).items():
        name, _, image = key.rpartition("/")
        pictures.setdefault(name, {})[int(image)] = picture
    own = rows[(rows["against"] == "own") & rows["attack"].isin(SHOWN)].rename(columns={"seed": "case"})
    return pictures, own.drop(columns=["data", "against", "recovered"]).rename(columns={"nearer": "recovered"})


def attacks(rows: pd.DataFrame) -> pd.DataFrame:
    """A row an attack: attack, view, n victims, pictures; `nearer` and `recovered` of them, others_nearer and
    others_recovered of images never trained on; SSIM above the mean image's, mean over victims: `gain`, gain_low and
    gain_high; `victims` with a picture recovered, of n, between victims_low and victims_high (exact, shares); p that
    own images are recovered as often as others (Holm over the attacks on real messages), and the answer.
    """
    made = []
    for (attack, view), here in rows.groupby(["attack", "view"], sort=False):
        own, others = (here[here["against"] == against] for against in ("own", "others"))
        shares = [part.groupby("seed")["recovered"].mean().to_numpy(float) for part in (own, others)]
        gain = interval((own["ssim"] - own["ssim of the mean"]).groupby(own["seed"]).mean().to_numpy())
        victims, n = int((shares[0] > 0).sum()), len(shares[0])
        exact = binomtest(victims, n).proportion_ci()
        row = {"attack": attack, "view": view, "n": n, "pictures": len(own), "victims": victims}
        row |= {"victims_low": exact.low, "victims_high": exact.high}
        row |= {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high}
        for name, part in (("", own), ("others_", others)):
            row |= {f"{name}{what}": int(part[what].sum()) for what in ("nearer", "recovered")}
        one = paired(shares[0], shares[1], plan().margin)
        made.append(row | {"more": one.mean > 0, "p": one.p})
    found = pd.DataFrame(made)
    real = found["view"] != CALIBRATION
    found.loc[real, "p"] = holm_corrected(found.loc[real, "p"])
    told = np.where(found["victims"] == 0, NONE, OPEN)
    return found.assign(answer=np.where(found["more"] & (found["p"] < ALPHA), RECOVERED, told))


def state(rows: pd.DataFrame) -> str:
    """How many of the plan's victims are on record, in words."""
    return progress(rows["seed"].nunique(), len(plan().victims[PEOPLE]), "victims")


def text(folder: Path = STUDIES) -> str:
    """A page: the criterion, and a row an attack."""
    rows = recorded(folder=folder)
    if rows is None:
        return joined([NOTHING])
    costs = read_table(folder / NAME / "costs.csv")
    head = f"{state(rows)}; {costs['cpu_s'].sum() / 60:.0f} CPU minutes with those of drawn faces."
    return joined([capital(head), "", *_rows(rows), "", *_whose(rows)])


def _rows(rows: pd.DataFrame) -> Iterator[str]:
    yield (
        "Photographs at 40 pixels, 40 private images a victim. *Nearer*: to its private image than the mean and every "
        f"public image (PSNR). **Recovered**: nearer, and its SSIM {plan().margin:g} above the mean public image's. "
        "*Never trained on*: the same pictures, matched with other images of the pool, in brackets. Intervals: exact "
        "for victims, Student's t over victims for SSIM."
    )
    yield ""
    made = []
    for row in attacks(rows).itertuples():
        victims = f"{row.victims} of {row.n} {span(row.victims_low, row.victims_high, '.0f')} %"
        counts = (f"{row.nearer} ({row.others_nearer})", f"{row.recovered} ({row.others_recovered})")
        gain = estimate(row.gain, row.gain_low, row.gain_high, "+.3f", 1)
        made.append((row.attack, row.view, row.pictures, *counts, victims, gain, row.answer))
    counted = ("nearer (never trained on)", "recovered (never trained on)", "victims with one recovered")
    yield from table(("attack", "from", "pictures", *counted, "SSIM above the mean image", "answer"), made)


def _whose(rows: pd.DataFrame) -> Iterator[str]:
    """Whose pictures the losses' are, which the word "recovered" once hid."""
    row = attacks(rows).set_index("attack").loc["paired logits"]
    yield (
        "*Paired logits* decode one picture for each class from the losses of a round on the public fold: of "
        f"{row['pictures']} pictures {row['nearer']} are nearer to a private image than any public one is, and "
        f"{row['others_nearer']} to an image that the victim never trained on; recovered are {row['recovered']} and "
        f"{row['others_recovered']}. Victims with one recovered: {row['victims']} of {row['n']} "
        f"{span(row['victims_low'], row['victims_high'], '.0f')} %. They look like a class's mean."
    )


def verdict_lines(folder: Path = STUDIES) -> list[tuple[str, ...]]:
    """The row on C4's pictures for the verdict table (see `verdict_table.full`): held where the update of a round gives
    away private pictures and DML's losses do not, refuted the other way round; none before two victims.
    """
    rows = recorded(folder=folder)
    if rows is None:
        return []
    found = attacks(rows)
    real = found[found["view"] != CALIBRATION]
    told = ", ".join(f"{row.attack} {row.victims}" for row in real.itertuples())
    most = real.loc[real["victims"].idxmax()]
    of = f"at most {most['victims']} of {most['n']} {span(most['victims_low'], most['victims_high'], '.0f')} %"
    gives = {view: (part["answer"] == RECOVERED).any() for view, part in real.groupby("view")}
    losses = gives.get("losses", False)
    weights = any(gave for view, gave in gives.items() if view != "losses")
    whole = rows["seed"].nunique() == len(plan().victims[PEOPLE])
    answer = "open" if weights == losses or not whole else "held" if weights else "refuted"
    claim = "Gives away fewer private pictures: model inversion (C4)"
    cell = f"own design, {state(rows)}, those with one recovered: {told}; {of}"
    return [(claim, "claimed", "not run", cell, f"**{answer}**", "03")]


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 03: how many pictures came back, by what was sent."""
    rows = recorded(folder=folder)
    if rows is None:
        return [f"Pictures: {NOTHING.lower()} {pages('reconstruction')}"]
    found = attacks(rows)
    told = [
        f"- {row.attack} ({row.view}): recovers {row.recovered} of {row.pictures} private images; of images never "
        f"trained on, the control, {row.others_recovered}; victims with one recovered {row.victims} of {row.n} "
        f"{span(row.victims_low, row.victims_high, '.0f')} %, **{row.answer}**"
        for row in found[found["view"] != CALIBRATION].itertuples()
    ]
    head = f"**Pictures** ({state(rows)}), recovered from what is really sent in a round, by one criterion."
    return [head, "\n".join(told), pages("reconstruction")]
