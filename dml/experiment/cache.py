"""Which result may be used again: a key of everything that determines its numbers on this machine."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from dml import config
from dml.config import Experiment
from dml.files import DataError
from dml.fingerprint import fingerprint
from dml.training import machine

NUMERIC = ("torch", "numpy", "scipy", "scikit-learn")  # packages whose version can change a digit
CODE = (
    *("streams", "models", "losses", "data.folds"),
    *("training.clients", "training.kinds", "training.memory", "training.metrics"),
    *("exchange.encodings", "exchange.envelope", "exchange.messages", "exchange.ledger", "exchange.topologies"),
    *("arms.federation", "arms.steps", "arms.messaging", "arms.record"),
    *("arms.outputs", "arms.weights", "arms.controls", "arms.catalogue", "experiment.ladder"),
)


def check() -> None:
    """Make sure that results can be kept, before any is computed. Raises DataError naming the folder."""
    try:
        config.CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=config.CACHE):
            pass
    except OSError as error:
        raise DataError(
            f"cannot write to the cache {config.CACHE} ({error}): set DML_CACHE to another folder"
        ) from error


def code_version(modules: tuple[str, ...] = ()) -> str:
    """A hash of the code that determines results, and of `modules` that do so besides."""
    return fingerprint(CODE + modules)


def place(
    kind: str,
    title: str,
    suffix: str,
    experiment: Experiment,
    sha256: str,
    facts: Sequence[object],
    device: torch.device,
    modules: tuple[str, ...] = (),
) -> Path:
    """Where the cache keeps a result: a file named by its title and a hash of the experiment, the data, further facts,
    the machine and the versions that compute with them, and the code, also of a user's own models. Raises ValueError
    for a model that there is not.
    """
    determined = [asdict(experiment), sha256, *facts, surroundings(device, modules)]
    if ":" in experiment.models:
        from dml.zoo.wrapped import sources  # an annex

        determined += sources(experiment.models)
    key = hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest()[:20]
    return config.CACHE / kind / f"{title.replace(' ', '-')}-{key}.{suffix}"


def surroundings(device: torch.device, modules: tuple[str, ...] = ()) -> dict:
    """What has to be equal for equal bytes, besides the experiment and the data."""
    return {
        "device": device.type,
        "processor": machine.processor(device),
        "versions": machine.versions(NUMERIC),
        "code": code_version(modules),
    }
