"""What images and weights weigh as a person would send them: images as the files they came in or as PNG, messages of
weights compressed without loss. Raw pixels and plain float32 are what the ledger counts.
"""

import io
import lzma
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from dml.arms import messaging, steps
from dml.arms.federation import Federation
from dml.config import Experiment
from dml.data import facemask
from dml.data.images import Images
from dml.exchange.messages import Weights
from dml.training.memory import carry_out

WEIGHTS = {"fedavg": "float32", "fedavg, 8 bits": "8 bits", "fedavg, top 1 %": "top 1 %"}  # arm: encoding
SAMPLE = 500  # images that are written as PNG: to count all takes long and changes nothing
COLUMNS = ["what", "coding", "bytes", "plain", "n"]


def codings(images: Images, data: str, experiment: Experiment, seed: int) -> pd.DataFrame:
    """Columns `COLUMNS`: mean bytes of an image or message in a coding, `plain` the bytes that the ledger counts for it
    (pixels, or the encoded message), n how many were measured.

    Images are those of the training set: "files" (`data` names the folder; drawn faces have none) and "PNG" of the
    pixels that are trained on. Weights are one client's after pre-training and a private fold, in float32, and its
    change in the other encodings of `WEIGHTS`; their coding is xz.
    """
    train = images.train
    pixels = 3 * train.images.shape[-1] ** 2
    rows: list[tuple[str, str, float, int, int]] = []
    if data != "faces":
        folder = facemask.find() if data == "facemask" else Path(data).expanduser()
        sizes = [(folder / name).stat().st_size for name in train.files]
        rows.append(("image", "files", float(np.mean(sizes)), pixels, len(sizes)))
    chosen = train.images[np.linspace(0, len(train) - 1, min(SAMPLE, len(train))).astype(int)]
    rows.append(("image", "PNG", float(np.mean([_png(image) for image in chosen])), pixels, len(chosen)))
    for encoding, message in _weights(images, experiment, seed).items():
        encoded = message.encode(encoding)
        rows.append((f"weights, {encoding}", "xz", len(lzma.compress(encoded)), len(encoded), 1))
    return pd.DataFrame(rows, columns=COLUMNS)


def smaller(table: pd.DataFrame, what: str) -> float:
    """By what the plain bytes are multiplied in the smallest coding there is, at most 1."""
    rows = table[table["what"] == what]
    return min(1.0, (rows["bytes"] / rows["plain"]).min())


def _png(image: Tensor) -> int:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(file, "PNG", optimize=True)
    return file.tell()


def _weights(images: Images, experiment: Experiment, seed: int) -> dict[str, Weights]:
    fed = Federation(experiment, images, seed)
    carry_out(steps.pretrain(fed))
    messaging.hand_out(fed)
    common = {name: value.clone() for name, value in fed.server.parameters().items()}
    carry_out(steps.local(fed, 1)[:1])
    own = fed.clients[0].parameters()
    change = {name: value - common[name] for name, value in own.items()}
    return {
        encoding: Weights(round=1, sender=0, values=own if encoding == "float32" else change)
        for encoding in WEIGHTS.values()
    }
