"""What a run is about: the values that `flwr run --run-config` sets, the same for the server and every client."""

import math
from dataclasses import dataclass, fields, replace
from typing import cast

from dml.config import Experiment, profile

DEPLOYABLE = ("dml", "fedavg", "asynchronous")
FORM = "student-first"  # of the loss, as in the arm "dml"


@dataclass(frozen=True)
class Settings:
    """The defaults stand in app/pyproject.toml. `clients` 0: as many as the profile has."""

    arm: str
    profile: str
    data: str
    own: str  # the server's folder of public images; empty: it deals the named data set
    seed: int
    clients: int
    deadline: float  # seconds that the server waits for answers
    quorum: int  # fewer answers than these are not aggregated; 0: a majority
    secure: bool
    clip: float  # no probability below it is believed of a prediction, so that no single client can veto an image
    out: str  # the server's folder for tables

    @classmethod
    def read(cls, config: dict) -> "Settings":
        """From Flower's run config. Raises ValueError for values that are not possible."""
        settings = cls(**{field.name: cast(type, field.type)(config[field.name]) for field in fields(cls)})
        if settings.arm not in DEPLOYABLE:
            raise ValueError(f"arm {settings.arm!r}: choose one of {', '.join(DEPLOYABLE)}")
        if settings.secure and settings.arm != "dml":
            raise ValueError(f"secure sums are for the arm dml, not {settings.arm}")
        if not 0 <= settings.quorum <= settings.experiment.clients:
            raise ValueError(
                f"quorum {settings.quorum}: 1 to {settings.experiment.clients} clients, or 0 for a majority"
            )
        if not 0 < settings.deadline < math.inf:
            raise ValueError(f"deadline {settings.deadline}: give seconds, above 0")
        return settings

    @property
    def enough(self) -> int:
        """How many answers make a quorum."""
        return self.quorum or self.experiment.clients // 2 + 1

    @property
    def experiment(self) -> Experiment:
        chosen = profile(self.profile).experiment
        return replace(chosen, clients=self.clients or chosen.clients, clip=self.clip)
