"""A federation small enough for a unit test, on drawn faces."""

import pytest
import torch

from dml import faces
from dml.config import Experiment
from dml.data import Images, Split
from dml.federation import Federation


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny():
    return Experiment(clients=3, rounds=3, epochs=2, batch=8, size=20)


def split(count: int, size: int, domain: str) -> Split:
    pixels, labels = faces.draw(count, size=size, seed=0, domain=domain)
    return Split(pixels, labels, tuple(f"{domain}/{i:04}" for i in range(count)), ((size, size),) * count)


@pytest.fixture(scope="session")
def pictures(tiny):
    train, unseen = split(170, tiny.size, "train"), split(40, tiny.size, "unseen")
    return Images("faces", ("mask", "no mask"), train, unseen, "0" * 64, "drawn for a test")


@pytest.fixture
def federation(tiny, pictures):
    """A maker of federations: same seed, same everything."""
    return lambda seed=0, **changes: Federation(tiny, pictures, seed, **changes)
