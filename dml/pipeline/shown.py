"""What notebooks show beside figures: the source of functions, what a run is made of, and small tables by hand."""

from __future__ import annotations

import inspect
import platform
import textwrap
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from dml.evidence import cost_models, scaling
from dml.evidence.privacy import clearly
from dml.evidence.published import PARAMETERS

if TYPE_CHECKING:
    from IPython.display import Code

    from dml.pipeline.run import Run

MEASURES = ("psnr", "psnr of the mean", "psnr of the nearest public", "ssim", "ssim of the mean", "nearer", "recovered")


def source(*things: Any) -> Code:
    """The source of functions and methods, one after the other."""
    from IPython.display import Code  # here, not above: only a notebook has it at hand

    text = "\n\n".join(textwrap.dedent(inspect.getsource(thing)) for thing in things)
    return Code(text, language="python")


def made_of(run: Run) -> str:
    """Versions, seeds and data of a run."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, seeds {run.seeds}"
    return f"{versions}\n{run.title}\n{run.images.source}"


def reconstructed(pictures: pd.DataFrame) -> pd.DataFrame:
    """Means by attack and view of what reconstruction measures: `nearer` is the table's own column `recovered`, and
    `recovered` asks for likeness as well.
    """
    table = pictures.rename(columns={"recovered": "nearer"}).assign(recovered=clearly(pictures))
    return table.groupby(["attack", "view"], sort=False)[list(MEASURES)].mean()


def secured(images: int) -> pd.DataFrame:
    """Bytes of one client's messages in a secure sum, by direction, and in the corner how far the sum is off. Empty
    without the optional extra `flower`.
    """
    table = scaling.secured(images)
    off = f"bytes; the sum is off by {table['error'].max():.1e} at most"
    wide = table.pivot_table(index="direction", columns="message", values="bytes", aggfunc="sum", sort=False)
    return wide.assign(All=wide.sum(axis=1)).rename_axis(index=off)


def break_even(size: int) -> pd.DataFrame:
    """For each architecture, the public images a round at which FedAvg becomes the cheaper one."""
    counts = cost_models.architectures(size)
    table = pd.DataFrame({name: cost_models.break_even(count, size) for name, count in counts.items()}).T
    return table.round().astype(int).rename_axis("public images a round at which FedAvg becomes the cheaper one")


def authors_estimate() -> pd.DataFrame:
    """Bytes of the weights, as the author's JSON text and as float32, and seconds on the author's link."""
    link = cost_models.LINKS[-1]
    sizes = {f"{part}, JSON text": size for part, size in cost_models.AUTHOR_JSON.items()}
    sizes |= {f"{part}, float32": cost_models.NUMBER * PARAMETERS[part] for part in cost_models.AUTHOR_JSON}
    rows = [(size, link.seconds(size, 0)) for size in sizes.values()]
    return pd.DataFrame(rows, index=list(sizes), columns=["bytes", f"seconds at {link.up} Mbit/s"])
