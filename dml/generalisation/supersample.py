"""A supersample: pairs of clients of which one takes part, rows of two images of which one trains.

After the construction that Wang, Long and Mao (ICML 2025, arXiv 2503.04091) add superclients to. Their text was not
readable to us: what is here is written from its abstract and from the centralised construction it extends.

K pairs of clients (i, 0) and (i, 1) are drawn alike from a distribution over clients; V_i says which of the two takes
part. Every client has n rows of two images from its own distribution; U says which column of a row trains, the other
is its *ghost*. An outer draw is the clients and their images; its runs are all vectors V, each with masks U.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch

from dml.config import Experiment
from dml.data.folds import Folds
from dml.data.images import Images, Split
from dml.data.partition import log_dirichlet
from dml.files import DataError
from dml.streams import SERVER, stream


@dataclass(frozen=True)
class Design:
    """How large a supersample is. `repeats`: runs of each vector V, each with masks of its own. `label_alpha`:
    Dirichlet concentration of a client's classes; None: all clients alike, where taking part cannot matter.
    """

    pairs: int
    rows: int
    public: int  # images of a public fold, and of the one that pre-trains
    label_alpha: float | None
    repeats: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.pairs <= 9 or min(self.rows, self.public, self.repeats) < 1:
            raise ValueError(f"{self}: give 2 to 9 pairs, and at least one row, public image and repeat")

    @property
    def runs(self) -> int:
        """How many federations an arm has in one outer draw."""
        return self.repeats * 2**self.pairs

    def experiment(self, base: Experiment) -> Experiment:
        """`base` with a client for each pair, who trains on every row it was given; only the end is looked at."""
        return replace(base, clients=self.pairs, train_share=1.0, glance=0, label_alpha=None)


@dataclass(frozen=True, eq=False)
class Supersample:
    """One outer draw. `vectors` are int [runs, K]; `masks` int [runs, K, 2, n], the training column of every row, also
    of clients that do not take part. `images`: as training set the cells [K, 2, n, 2] one after the other, then what
    pre-trains, then the public folds; as unseen set the cells, trained on or not, because a loss of each is wanted.
    """

    design: Design
    images: Images
    mixtures: np.ndarray  # [K, 2, C], the share of each class by which a client's images were drawn
    vectors: np.ndarray
    masks: np.ndarray

    def folds(self, run: int, rounds: int) -> Folds:
        """The folds of a run: of every row of the clients that take part the training column, and never a ghost."""
        pairs, rows, public = self.design.pairs, self.design.rows, self.design.public
        cells = np.arange(pairs * 2 * rows * 2).reshape(pairs, 2, rows, 2)
        members = cells[np.arange(pairs), self.vectors[run]]  # [K, n, 2]
        columns = self.masks[run][np.arange(pairs), self.vectors[run]]  # [K, n]
        trained = np.take_along_axis(members, columns[..., None], axis=2)[..., 0]
        dealt = [np.array_split(own, rounds) for own in trained]
        first, *others = np.split(np.arange(cells.size, cells.size + (rounds + 1) * public), rounds + 1)
        return Folds(first, tuple(zip(*dealt, strict=True)), tuple(others))


def draw(images: Images, design: Design, rounds: int, seed: int) -> Supersample:
    """The outer draw of a seed, from the training set of `images`, in which no image is twice. Another alpha is the
    same draw, further apart. Raises DataError when a class has too few images.
    """
    classes, labels = len(images.classes), images.train.labels.numpy()
    rng = stream(seed, SERVER, "folds")
    piles = [rng.permutation(np.flatnonzero(labels == label)) for label in range(classes)]
    sides = np.arange(design.public * (rounds + 1)) % classes  # balanced, labelled
    mixtures = _mixtures(design, classes, seed)
    wanted = _labels(design, mixtures, seed)
    everything = np.concatenate((sides, wanted.ravel()))
    for label, name in enumerate(images.classes):
        if (count := (everything == label).sum()) > len(piles[label]):
            raise DataError(
                f'class "{name}" has {len(piles[label])} training images; this draw needs {count}: '
                "take fewer rows or more images"
            )
    chosen = np.empty(len(everything), int)
    for label, pile in enumerate(piles):
        chosen[everything == label] = pile[: (everything == label).sum()]
    first, cells = np.split(chosen, [len(sides)])
    vectors = np.tile(list(product((0, 1), repeat=design.pairs)), (design.repeats, 1))
    return Supersample(
        design,
        replace(images, train=_part(images.train, np.concatenate((cells, first))), unseen=_part(images.train, cells)),
        mixtures,
        vectors,
        balanced(vectors, design.rows, stream(seed, SERVER, "game")),
    )


def balanced(vectors: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Masks [runs, K, 2, n] of 0 and 1: of every row of a client, each column trains in half of the runs in which the
    client takes part, and as often in those in which it does not; which runs, is drawn for each row.
    """
    runs, pairs = vectors.shape
    masks = np.empty((runs, pairs, 2, rows), int)
    for pair, member, there in product(range(pairs), (0, 1), (True, False)):
        here = np.flatnonzero((vectors[:, pair] == member) == there)
        halves = np.broadcast_to(np.arange(len(here)) % 2, (rows, len(here)))
        masks[here, pair, member] = rng.permuted(halves, axis=1).T
    return masks


def _mixtures(design: Design, classes: int, seed: int) -> np.ndarray:
    draws = stream(seed, SERVER, "skew").random((2, 2 * design.pairs, classes))
    logs = log_dirichlet(design.label_alpha, draws)
    shares = np.exp(logs - np.logaddexp.reduce(logs, 1, keepdims=True))
    return shares.reshape(design.pairs, 2, classes)


def _labels(design: Design, mixtures: np.ndarray, seed: int) -> np.ndarray:
    """Independent labels [K, 2, n, 2] of each client's own mixture."""
    levels = mixtures.cumsum(-1)[:, :, None, None, :-1]
    uniform = stream(seed, SERVER, "shuffled").random((design.pairs, 2, design.rows, 2))
    return (uniform[..., None] >= levels).sum(-1)


def _part(split: Split, indices: np.ndarray) -> Split:
    chosen = torch.from_numpy(indices)
    files, sizes = tuple(split.files[index] for index in indices), tuple(split.sizes[index] for index in indices)
    return Split(split.images[chosen], split.labels[chosen], files, sizes)
