"""What a run is about: the values that `flwr run --run-config` sets, the same for the server and every client."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from dml.config import Experiment, profile

DEPLOYABLE = ("dml", "fedavg", "asynchronous")
FORM = "student-first"  # of the loss, as in the arm "dml"


@dataclass(frozen=True)
class Settings:
    """The defaults stand in app/pyproject.toml. `clients` and `train_images` 0: as many as the profile has."""

    arm: str
    profile: str
    data: str
    own: str  # the server's folder of public images; empty: it deals the named data set
    seed: int
    clients: int
    train_images: int  # that are dealt to public and private folds
    deadline: float  # seconds that the server waits for answers
    quorum: int  # fewer answers than these are not aggregated; 0: a majority
    secure: bool
    clip: float  # no probability below it is believed of a prediction, so that no single client can veto an image
    rule: str  # by which the server believes clients (dml/hostile/arms.py); "mean": everybody alike
    expected: int  # liars that the rule is told to expect
    liars: int  # the last so many clients lie: a rehearsal
    attack: str  # how (dml/hostile/liars.py)
    out: str  # the server's folder for tables

    @classmethod
    def read(cls, config: dict) -> "Settings":
        """From Flower's run config. Raises ValueError for values that are not possible."""
        settings = cls(**{field.name: cast(type, field.type)(config[field.name]) for field in fields(cls)})
        if settings.arm not in DEPLOYABLE:
            raise ValueError(f"arm {settings.arm!r}: choose one of {', '.join(DEPLOYABLE)}")
        if settings.secure:
            settings.check_secure()
        if not 0 <= settings.quorum <= settings.experiment.clients:
            raise ValueError(
                f"quorum {settings.quorum}: 1 to {settings.experiment.clients} clients, or 0 for a majority"
            )
        if settings.rule != "mean":
            settings.check_rule()
        if settings.liars:
            settings.check_attack()
        if not 0 < settings.deadline < math.inf:
            raise ValueError(f"deadline {settings.deadline}: give seconds, above 0")
        if not settings.out:
            raise ValueError("out '': give a folder for the server's tables")
        return settings

    def check_secure(self) -> None:
        """Raises ValueError for what a secure sum is not for."""
        from dml.exchange.secure.masks import LOWEST  # an annex

        if self.arm != "dml":
            raise ValueError(f"secure sums are for the arm dml, not {self.arm}")
        if math.log(self.experiment.clip) < LOWEST:
            raise ValueError(f"clip {self.clip:g}: a secure sum takes no probability below {math.exp(LOWEST):.2g}")

    def check_rule(self) -> None:
        """Raises ValueError for a rule that is not possible in this run."""
        from dml.hostile import arms  # an annex

        if self.secure:
            raise ValueError(f"rule {self.rule!r} compares what clients say, and a secure sum hides it")
        if self.arm == "asynchronous" or self.rule == "fltrust":
            raise ValueError(f"rule {self.rule!r} of {self.arm}: this deployment has it not")
        arms.check(self.arm, self.rule, self.experiment.clients, self.expected)

    def check_attack(self) -> None:
        """Raises ValueError for an attack that a site cannot rehearse with what is its own."""
        from dml.hostile import attacks, poison  # an annex

        tables: dict[str, dict[str, Any]] = {"dml": attacks.PREDICTIONS, "fedavg": attacks.WEIGHTS}
        needs = {name: attack[0] for name, attack in tables.get(self.arm, {}).items()}
        alone = [name for name, knows in needs.items() if knows != "all" and name != "repeated"]
        known = (*alone, *poison.TRAINING)
        if self.attack not in known:
            raise ValueError(f"attack {self.attack!r} of {self.arm}: choose one of {', '.join(known)}")
        if not 0 < self.liars < self.experiment.clients:
            raise ValueError(f"liars {self.liars}: 1 to {self.experiment.clients - 1}, so that somebody is honest")

    @property
    def enough(self) -> int:
        """How many answers make a quorum."""
        return self.quorum or self.experiment.clients // 2 + 1

    @property
    def experiment(self) -> Experiment:
        chosen = profile(self.profile).experiment
        clients, images = self.clients or chosen.clients, self.train_images or chosen.train_images
        return replace(chosen, clients=clients, train_images=images, clip=self.clip)
