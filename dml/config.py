"""The experiment: every default of the project stands here and nowhere else.

Paper symbols: K is `clients`, R is `rounds`. The folds are (K + 1) R + 1: a fresh private fold for every client and a
fresh public fold each round, and one that pre-trains the shared initial model.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
CACHE = Path(  # DML_CACHE: a folder that several machines share, for example
    os.environ.get("DML_CACHE")
    or (DATA / "cache" if os.access(DATA, os.W_OK) else platformdirs.user_cache_dir("dml", appauthor=False))
)
RUNS = DATA / "runs"
RECORDED = DATA / "results"  # runs whose tables are committed: one folder each
FIGURES = ROOT / "figures"
README = ROOT / "README.md"


PUBLIC_FOLDS = ("balanced", "skewed", "unlabelled", "other")
CLIP = 0.02  # the recommended `Experiment.clip`: no single peer can veto an image (data/plan_hostile.md)
FEATURE_SKEWS = ("", "brightness", "blur", "noise", "look")


@dataclass(frozen=True)
class Experiment:
    """What determines a result, besides the data, the arm and the seed."""

    clients: int = 5
    rounds: int = 12
    epochs: int = 10  # of every phase: pre-training, private, public, pooled
    batch: int = 32
    size: int = 100  # pixels a side
    train_images: int = 0  # 0: every image there is; otherwise so many, balanced over the classes
    unseen_images: int = 0
    learning_rate: float = 1e-3
    epsilon: float = 1e-7  # Adam's, Keras' default
    train_share: float = 0.8  # of a private fold; the rest is validation
    asynchronous_share: float = 0.7
    clip: float = 1e-7  # no probability below it is believed of a prediction; as published, Keras' epsilon
    deep_every: int = 3  # rounds between two exchanges of the deep layers (asynchronous arm)
    precision: str = "float32"
    glance: int = 1000  # unseen images on which accuracy is followed over the rounds; never to choose anything
    label_alpha: float | None = None  # Dirichlet concentration of a client's classes; None: all the same, as published
    size_alpha: float | None = None  # and of the clients' sizes
    public_fold: str = "balanced"  # and labelled, as published; "skewed", "unlabelled", or of an "other" domain
    feature_skew: str = ""  # in what clients' pictures differ (dml/data/domains.py); "": nothing, as published
    public_epochs: int | None = None  # of the refinement; None: as many as of every phase, as published
    public_rate: float | None = None  # its learning rate; None: that of every phase
    models: str = "visionnet"  # names with commas between, dealt to clients in turn (dml/training/kinds.py)

    def __post_init__(self):
        if self.clients < 2:
            raise ValueError(f"clients={self.clients}: mutual learning needs at least 2")
        if self.rounds < 1 or self.epochs < 1 or self.batch < 1:
            raise ValueError("rounds, epochs and batch must be at least 1")
        if self.precision not in ("float32", "bf16"):
            raise ValueError(f"precision={self.precision!r}: choose float32 or bf16")
        if not 0 < self.clip < 0.5:
            raise ValueError(f"clip={self.clip}: give a probability above 0 and below 0.5")
        for name in ("public_epochs", "public_rate"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name}={value!r}: give a number above 0, or None for that of every phase")
        for name, known in (("public_fold", PUBLIC_FOLDS), ("feature_skew", FEATURE_SKEWS)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name}={value!r}: choose one of {', '.join(filter(None, known))}")
        for name in ("label_alpha", "size_alpha"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name}={value!r}: give a number above 0, or None for no skew")

    @property
    def folds(self) -> int:
        return (self.clients + 1) * self.rounds + 1

    @property
    def skewed(self) -> bool:
        """Whether clients' class mixtures or sizes differ."""
        return self.label_alpha is not None or self.size_alpha is not None

    @property
    def repainted(self) -> bool:
        """Whether pictures are changed, of some clients or of the public fold."""
        return bool(self.feature_skew) or self.public_fold == "other"


@dataclass(frozen=True)
class Draw:
    """How much of everything a membership game has (dml/privacy/game.py)."""

    groups: int = 16  # sets of other clients; a target's own group is no shadow of it
    victims: int = 4  # in a group: groups * victims are the shadows, and each is the target in turn
    canaries: int = 8  # mislabelled candidates of the pool
    unseen: int = 200  # images of the unseen set, to state the price of a defence
    rounds: int = 1  # whose messages are attacked; the pool's images are trained on in the first, as folds are fresh


@dataclass(frozen=True)
class Probe:
    """How hard the privacy probes of notebook 03 try."""

    draw: Draw = Draw()
    games: int = 2  # of the run's seeds: each is a game with a pool of its own; the first also gets all the controls
    overfit_epochs: int = 40  # of the control in which membership must be found
    private_groups: int = 4  # groups of each differentially private variant
    private_noise: tuple[float, ...] = (0.03, 0.3, 1.0)  # DP-SGD's noise multipliers
    skewed: int = 6  # federations whose folds are not balanced, for the probe of class balance
    overfit_skewed: int = 1  # of them are run again with overfit clients
    skewed_rounds: int = 3
    cases: int = 4  # images that gradient inversion tries to recover, at each batch size
    updates: int = 1  # of them with the slow attack on a whole round's update
    iterations: int = 200  # of every inversion


@dataclass(frozen=True)
class Ladder:
    """What notebook 04 compares: arms and rungs (dml/experiment/ladder.py), and how many of the run's seeds."""

    arms: tuple[str, ...]
    seeds: int = 0  # 0: all


@dataclass(frozen=True)
class ManyClients:
    """How many clients the last notebook tries (dml/evidence/many_clients.py), and with how many of the run's seeds."""

    clients: tuple[int, ...] = ()
    seeds: int = 0  # 0: all


@dataclass(frozen=True)
class Skewed:
    """What notebook 05 runs (dml/studies/small.py): a level of skew, a pair of models, and how many seeds."""

    label_alpha: float = 0.1
    public_folds: tuple[str, ...] = ("balanced", "unlabelled")
    models: str = "visionnet,visionnet-half"
    seeds: int = 1


@dataclass(frozen=True)
class Profile:
    """A size at which everything is run: the experiment, how many seeds unless told otherwise, and its studies."""

    experiment: Experiment
    seeds: int
    ladder: Ladder
    many_clients: ManyClients = ManyClients()
    probe: Probe = Probe()
    skewed: Skewed = Skewed()


SMALL = Experiment(rounds=4, size=40, train_images=600, unseen_images=500)
SMALLEST = replace(SMALL, size=32, epochs=5)  # a third of its time; drawn faces are still learned
SMALL_PROBE = Probe(
    draw=Draw(groups=3, canaries=4, unseen=60),
    games=1,
    overfit_epochs=20,
    private_groups=2,
    private_noise=(0.5,),
    skewed=2,
    skewed_rounds=2,
    cases=2,
    iterations=60,
)
PROFILES = {
    "smoke": Profile(
        SMALLEST,
        seeds=3,
        ladder=Ladder(("dml", "dml, 1 bit", "fedavg", "fedavg, top 1 %", "asynchronous", "self", "local"), seeds=1),
        many_clients=ManyClients((2, 5, 10), seeds=1),
        probe=SMALL_PROBE,
    ),
    "reduced": Profile(  # many seeds and every rung
        SMALL,
        seeds=20,
        ladder=Ladder(
            (
                *("dml", "dml, float16", "dml, 8 bits", "dml, 4 bits", "dml, 1 bit", "dml, every 2nd"),
                *("dml, uncertain half", "dml, random half", "dml, fixed"),
                *("fedavg", "fedavg, float16", "fedavg, 8 bits", "fedavg, top 1 %"),
                *("asynchronous", "self", "local"),
            )
        ),
        many_clients=ManyClients((2, 5, 10, 20), seeds=8),
        probe=SMALL_PROBE,
    ),
    "paper": Profile(  # the published protocol: its 73 folds take every image there is, so none for more clients
        Experiment(),
        seeds=1,
        ladder=Ladder(
            (
                *("dml", "dml, 8 bits", "dml, 1 bit", "fedavg", "fedavg, 8 bits", "fedavg, top 1 %"),
                *("asynchronous", "local"),
            )
        ),
    ),
}


def profile(name: str) -> Profile:
    """The named profile. Raises ValueError naming those there are."""
    if name not in PROFILES:
        raise ValueError(f"profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
