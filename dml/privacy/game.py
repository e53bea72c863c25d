"""The membership game: who draws what.

One client, the *victim*, trains on a random half of a *pool* of candidates; the attacker has to say which half. The
pool holds no near-duplicates and is drawn and halved class by class, so that neither style nor balance tells the
answer. A few candidates, the *canaries*, carry a wrong label: what a model makes of them it can only have memorised.
The other clients, the *bystanders*, draw from a reserve outside the pool. All start from one public, pre-trained model.
Where several rounds are attacked, everybody trains on other images of the reserve from the second round on: folds are
fresh, as published.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dml.arms import messaging, steps
from dml.arms.federation import Federation, Wire
from dml.config import Draw, Experiment
from dml.data import audit
from dml.data.folds import Folds
from dml.data.images import Images, Split, images_of
from dml.files import DataError
from dml.streams import SERVER, stream
from dml.training.memory import carry_out

VICTIM = 0  # the client that is attacked; the last client is the curious peer
SPARE = 3  # times as many images in the reserve as the bystanders of one group need, where the data allow it


@dataclass(frozen=True, eq=False)
class Game:
    """Index arrays point into `images.train`, which holds the game's images only, labelled as they are trained on.

    pool: [N] candidates; canary: bool [N]; members: bool [M, N], what victim m trained on; public: the public fold of
    the first round, [P], and later: those of the R - 1 others, [R - 1, P]; private[g]: what group g trains on besides,
    [K R - 1, n], the bystanders of the first round first, then everybody's folds round by round; held: a client's
    validation images; initial: the public model.
    """

    experiment: Experiment  # of a round more than are attacked, which never begins
    draw: Draw
    images: Images
    seed: int
    pool: np.ndarray
    canary: np.ndarray
    members: np.ndarray
    public: np.ndarray
    later: np.ndarray
    private: np.ndarray
    held: np.ndarray
    initial: dict[str, Tensor]

    def group(self, m: int) -> int:
        """The group of victim m."""
        return m // self.draw.victims

    def federation(self, m: int, wire: Wire, device: torch.device) -> Federation:
        """Victim m among the bystanders of its group, with randomness of its own, all at the public model."""
        seed = seed_of(self.seed, m)
        fed = Federation(self.experiment, self.images, seed, device, wire)
        own = stream(seed, VICTIM, "game").permutation(self.pool[self.members[m]])
        clients, private = self.experiment.clients, self.private[self.group(m)]
        others = private[clients - 1 :].reshape(len(self.later), clients, private.shape[1])
        rounds = [
            tuple(np.concatenate((fold, self.held)) for fold in folds)
            for folds in ((own, *private[: clients - 1]), *others)
        ]
        public = (self.public, *self.later)
        fed.folds = Folds(self.public, (*rounds, rounds[-1]), (*public, public[-1]))
        fed.server.load(self.initial)
        messaging.hand_out(fed)
        return fed


def seed_of(game: int, m: int) -> int:
    """The seed of victim m's federation in the game of a seed: far from the seeds of the experiment."""
    return 1_000_000 * (game + 1) + m


@lru_cache(maxsize=1)
def deal(name: str, experiment: Experiment, draw: Draw, seed: int) -> Game:
    """The game of a seed on the data set `name`; a client has as many images as in the experiment.

    Raises DataError when they do not suffice (see `require`).
    """
    rng, everything = stream(seed, SERVER, "game"), images_of(name, experiment)
    require(everything, experiment, draw.rounds)
    classes, hands = len(everything.classes), experiment.clients * draw.rounds - 1
    share, counts = _counts(everything, experiment, draw.rounds)
    held = _held(share * classes, experiment.train_share)
    images = _draw(everything, sum(counts) + hands * share, SPARE * hands * share, draw.unseen, rng)
    decks = [np.flatnonzero(images.train.labels.numpy() == label) for label in range(classes)]
    pool, public, pretrain, validation, *later = (_take(decks, count, rng) for count in counts)
    private = [_take(list(decks), hands * share, rng, hands) for _ in range(draw.groups)]

    labels, canary = images.train.labels.clone(), np.zeros(len(pool), bool)
    for label in range(classes):
        members_of_class = np.flatnonzero(labels[pool].numpy() == label)
        canary[rng.choice(members_of_class, 2 * round(draw.canaries / classes / 2), replace=False)] = True
    wrong = torch.from_numpy(pool[canary])
    labels[wrong] = (labels[wrong] + torch.from_numpy(rng.integers(1, classes, len(wrong)))) % classes
    images = replace(images, train=replace(images.train, labels=labels))

    kinds = labels[pool].numpy() + classes * canary
    strata = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    members = np.zeros((draw.groups * draw.victims, len(pool)), bool)
    for row in members:
        for stratum in strata:
            row[rng.choice(stratum, (len(stratum) + rng.integers(2)) // 2, replace=False)] = True

    one_more = replace(experiment, rounds=draw.rounds + 1, asynchronous_share=experiment.train_share)
    server = Federation(one_more, images, seed)
    server.folds = replace(server.folds, pretrain=pretrain)
    carry_out(steps.pretrain(server))
    return Game(
        one_more,
        draw,
        images,
        seed,
        pool,
        canary,
        members,
        public,
        np.reshape(later, (draw.rounds - 1, len(public))),
        np.stack(private),
        validation[:held],
        server.server.parameters(),
    )


def require(images: Images, experiment: Experiment, rounds: int = 1) -> None:
    """Check that these images suffice for the membership game. Raises DataError naming the count that is short."""
    share, counts = _counts(images, experiment, rounds)
    least = sum(counts) + (experiment.clients * rounds - 1) * share
    alone = images.train.labels[torch.from_numpy(_distinct(images))]
    for title, count in zip(images.classes, torch.bincount(alone, minlength=len(images.classes)).tolist(), strict=True):
        if count < least:
            raise DataError(
                f'class "{title}" has {count} training images without near-duplicates; the membership game needs '
                f"{least}: use more images (--train-images), fewer --clients or more --rounds (smaller folds)"
            )


def _counts(images: Images, experiment: Experiment, rounds: int) -> tuple[int, list[int]]:
    """A client's training images of a class, and how many of a class the pool, the public fold, the pre-training, the
    validation and each later public fold take.
    """
    classes, fold = len(images.classes), len(images.train) // experiment.folds
    trained = int(experiment.train_share * fold)
    share = 2 * (trained // classes // 2)  # even, to be halved
    if not share:
        raise DataError(
            f"a client has {fold} training images, {trained} to train on; the membership game needs {2 * classes}, two "
            f"of each of {classes} classes: use more images (--train-images), fewer --clients or fewer --rounds"
        )
    held = _held(share * classes, experiment.train_share)
    public = fold // classes
    return share, [2 * share, public, public, -(-held // classes), *[public] * (rounds - 1)]


def _held(count: int, share: float) -> int:
    """How many validation images a fold needs so that its first `share` are `count` images."""
    size = count
    while int(size * share) < count:
        size += 1
    return size - count


def _draw(everything: Images, least: int, spare: int, unseen: int, rng: np.random.Generator) -> Images:
    """As many images of each class without near-duplicates as the game needs, and up to `spare` more; and some of the
    unseen set, to state accuracies.
    """
    labels, keep = everything.train.labels.numpy(), _distinct(everything)
    decks = (rng.permutation(np.flatnonzero(keep & (labels == label))) for label in range(len(everything.classes)))
    chosen = [deck[: least + spare] for deck in decks]
    few = rng.permutation(len(everything.unseen))[:unseen]
    return replace(
        everything, train=_some(everything.train, np.concatenate(chosen)), unseen=_some(everything.unseen, few)
    )


def _distinct(images: Images) -> np.ndarray:
    """bool [N]: the training images that no earlier one looks like."""
    near = audit.near_duplicates(replace(images, unseen=_some(images.unseen, np.arange(0))))
    return ~np.isin(images.train.files, near["file_b"].unique())


def _some(split: Split, indices: np.ndarray) -> Split:
    """The images of a set at these indices."""
    at = torch.from_numpy(indices)
    files, sizes = (tuple(facts[i] for i in indices) for facts in (split.files, split.sizes))
    return Split(split.images[at], split.labels[at], files, sizes)  # type: ignore[arg-type]  # each of its own kind


def _take(decks: list[np.ndarray], count: int, rng: np.random.Generator, hands: int = 0) -> np.ndarray:
    """`count` random images of each class, taken off the decks and shuffled; dealt evenly to `hands` if given."""
    drawn = []
    for label, deck in enumerate(decks):
        shuffled = rng.permutation(deck)
        drawn.append(shuffled[:count])
        decks[label] = shuffled[count:]
    if not hands:
        return rng.permutation(np.concatenate(drawn))
    return rng.permuted(np.concatenate([hand.reshape(hands, -1) for hand in drawn], axis=1), axis=1)
