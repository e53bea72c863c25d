"""What a run is about: the values that `flwr run --run-config` sets, the same for the server and every client."""

from dataclasses import dataclass, fields, replace

from dml.config import Experiment, profile

ARMS = ("dml", "fedavg", "asynchronous")
FORM = "student-first"  # of the loss, as in the arm "dml"


@dataclass(frozen=True)
class Terms:
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
    out: str  # the server's folder for tables

    @classmethod
    def read(cls, config: dict) -> "Terms":
        """From Flower's run config. Raises ValueError for values that are not possible."""
        terms = cls(**{each.name: each.type(config[each.name]) for each in fields(cls)})
        if terms.arm not in ARMS:
            raise ValueError(f"arm {terms.arm!r}: choose one of {', '.join(ARMS)}")
        if terms.secure and terms.arm != "dml":
            raise ValueError(f"secure sums are for the arm dml, not {terms.arm}")
        if not 0 <= terms.quorum <= terms.experiment.clients:
            raise ValueError(f"quorum {terms.quorum}: 1 to {terms.experiment.clients} clients, or 0 for a majority")
        if terms.deadline <= 0:
            raise ValueError(f"deadline {terms.deadline}: give seconds, above 0")
        return terms

    @property
    def enough(self) -> int:
        """How many answers make a quorum."""
        return self.quorum or self.experiment.clients // 2 + 1

    @property
    def experiment(self) -> Experiment:
        found = profile(self.profile)
        return replace(found, clients=self.clients or found.clients)


def part_of(experiment: Experiment, round: int) -> str:
    """Which layers move in a round of the asynchronous arm."""
    return "deep" if round % experiment.deep_every == 0 else "shallow"
