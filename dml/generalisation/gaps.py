"""The two gaps of one arm in one outer draw, from losses alone; and the differences that evaluated bounds speak of.

Symbols, once: K pairs of clients, n rows. l is a loss in [0, 1], here 0 or 1 for an image classified right or wrong.
The *ghost* of a row is its column that did not train.

- Out-of-sample gap: mean over runs, pairs and rows of l(ghost) - l(trained image), of clients that take part.
- Participation gap: mean of l(ghost of the client that does not take part) - l(ghost of the one of its pair that does).
- D = l(column 1) - l(column 0) of a client that takes part; with U the trained column, the first gap is E[(-1)^U D].
- T = l(ghost of client 1) - l(ghost of client 0) of a pair; the second gap is E[(-1)^V T].

Which net W is asked: a client that takes part has its own (FedAvg's clients hold one and the same). One that does not
is served by a net drawn from the K; its loss is kept as the chance of a wrong answer, the mean over the nets, and no
net is drawn. With `common`, clients that take part are asked in the same way, by any of the K nets.
"""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Losses:
    """Of every run: `own` [runs, K, n, 2], 0 or 1, of the clients that take part by their own nets; `wrong`
    [runs, K, 2, n, 2], how many of the K nets are wrong on each image; `vectors` [runs, K]; `masks` [runs, K, 2, n].
    """

    own: np.ndarray
    wrong: np.ndarray
    vectors: np.ndarray
    masks: np.ndarray

    @property
    def nets(self) -> int:
        """How many nets an image is shown to: K."""
        return self.vectors.shape[1]

    @property
    def trained(self) -> np.ndarray:
        """The training column of every row of the clients that take part, [runs, K, n]."""
        return _of_members(self.masks, self.vectors)


@dataclass(frozen=True, eq=False)
class Cells:
    """What a bound is evaluated from: of every cell, and given what is held fixed, the draws of a balanced bit and of
    two losses, of column or client `zero` and of `one`; arrays [cells, given, draws]. A loss is the chance of a wrong
    answer, 0 or 1 where one net is asked. The cells come in `parties` equal parts, each of one party's rows, whose bits
    were set in the same runs. `trained` is the mean loss of what was trained on, where a bit says that.
    """

    bits: np.ndarray
    zero: np.ndarray
    one: np.ndarray
    parties: int
    trained: float = float("nan")

    @property
    def gap(self) -> float:
        """E[(-1)^bit (one - zero)], the gap itself."""
        return float(np.mean((1 - 2 * self.bits) * (self.one - self.zero)))

    def pooled(self) -> "Cells":
        """All cells as one: the cell is one more thing that is drawn."""
        bits, zero, one = (values.reshape(1, 1, -1) for values in (self.bits, self.zero, self.one))
        return replace(self, bits=bits, zero=zero, one=one, parties=1)

    def permuted(self, rng: np.random.Generator) -> "Cells":
        """Whole runs of bits in another order: of a party, and given what is given, all rows' alike."""
        bits = self.bits.reshape(self.parties, -1, *self.bits.shape[1:]).copy()
        for party, given in np.ndindex(self.parties, bits.shape[2]):
            bits[party, :, given] = bits[party, :, given][:, rng.permutation(bits.shape[-1])]
        return replace(self, bits=bits.reshape(self.bits.shape))


def errors(losses: Losses, common: bool = False) -> dict[str, np.ndarray]:
    """Mean loss of every run, [runs] each: on "trained" images, on "ghosts" of clients that take part, and on
    "newcomers": ghosts of clients that do not.
    """
    ghosts, members = _ghosts(losses, common), _asked(losses, common)
    column = losses.trained[..., None]
    there = np.take_along_axis(ghosts, losses.vectors[:, :, None, None], 2)
    absent = np.take_along_axis(ghosts, 1 - losses.vectors[:, :, None, None], 2)
    return {
        "trained": np.take_along_axis(members, column, -1).mean((1, 2, 3)) / losses.nets,
        "ghosts": there.mean((1, 2, 3)) / losses.nets,
        "newcomers": absent.mean((1, 2, 3)) / losses.nets,
    }


def out_of_sample(losses: Losses) -> Cells:
    """D and U: a cell is a row of a pair, given which of the two takes part; of its own net."""
    values = (losses.trained, losses.own[..., 0], losses.own[..., 1])
    bits, zero, one = (_given(each, losses.vectors) for each in values)
    return Cells(bits, zero, one, losses.nets, float(errors(losses)["trained"].mean()))


def participation(losses: Losses, common: bool = False) -> Cells:
    """T and V: a cell is a row of a pair."""
    ghosts = _ghosts(losses, common).transpose(2, 1, 3, 0) / losses.nets
    zero, one = (of_client.reshape(-1, 1, len(losses.vectors)) for of_client in ghosts)
    bits = np.repeat(losses.vectors.T, ghosts.shape[2], 0)[:, None]
    return Cells(bits, zero, one, 1)


def _asked(losses: Losses, common: bool) -> np.ndarray:
    """Losses of the clients that take part times the number of nets, [runs, K, n, 2]."""
    return _of_members(losses.wrong, losses.vectors) if common else losses.own * losses.nets


def _ghosts(losses: Losses, common: bool) -> np.ndarray:
    """The ghosts' losses of all clients times the number of nets, [runs, K, 2, n]."""
    asked = losses.wrong.copy()
    place = losses.vectors[:, :, None, None, None]
    np.put_along_axis(asked, place, _asked(losses, common)[:, :, None], 2)
    return np.take_along_axis(asked, 1 - losses.masks[..., None], -1)[..., 0]


def _of_members(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Of arrays [runs, K, 2, ...] the part of the clients that take part."""
    runs, pairs = np.indices(vectors.shape)
    return values[runs, pairs, vectors]


def _given(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Arrays [runs, K, n] as [K * n, 2, draws]: the runs in which client 0 of the pair takes part, then client 1's."""
    sides = [[values[vectors[:, pair] == member, pair].T for member in (0, 1)] for pair in range(vectors.shape[1])]
    return np.array(sides).transpose(0, 2, 1, 3).reshape(-1, 2, len(vectors) // 2)
