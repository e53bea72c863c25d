"""Rules that bear liars: vectors of the clients in, one vector out. Predictions and weights are the same to them.

`x` is [n, D], one row a client; `f` is how many liars a rule is told to expect. A rule depends on the rows and not on
their order. `REQUIRED` says how many clients a rule needs for f liars, and `allow` refuses what it cannot bear.
"""

from collections.abc import Callable

import torch
from torch import Tensor

REQUIRED = {  # rule -> (a, b): at least a f + b clients
    "median": (2, 1),
    "trimmed mean": (2, 1),
    "geometric median": (2, 1),
    "filter": (2, 1),
    "nearest neighbours": (2, 1),
    "krum": (2, 3),
    "multi-krum": (2, 3),
    "bulyan": (4, 3),
    "score": (2, 1),
    "greed": (2, 1),
    "experts": (2, 1),
}
SPREADS = 2.0  # median absolute deviations above the median at which a public loss is believed no more
SMALL = 1e-6


def allow(rule: str, clients: int, f: int) -> None:
    """Raises ValueError, with the arithmetic, when a rule cannot bear f liars among so many clients."""
    factor, more = REQUIRED.get(rule.partition(",")[0], (0, 1))
    if not bears(rule, clients, f):
        raise ValueError(
            f"{rule} with {f} liars needs {factor} * {f} + {more} = {factor * f + more} clients or more, not {clients}"
        )


def bears(rule: str, clients: int, f: int) -> bool:
    """Whether `allow` allows it."""
    factor, more = REQUIRED.get(rule.partition(",")[0], (0, 1))
    return clients >= factor * f + more


def median(x: Tensor) -> Tensor:
    """Coordinate by coordinate; of an even number the mean of the two in the middle (Yin et al. 2018, 1803.01498)."""
    ordered, half = x.sort(dim=0).values, len(x) // 2
    return ordered[half] if len(x) % 2 else (ordered[half - 1] + ordered[half]) / 2


def trimmed_mean(x: Tensor, f: int) -> Tensor:
    """The mean of each coordinate without its f lowest and f highest values (Yin et al. 2018)."""
    allow("trimmed mean", len(x), f)
    return x.sort(dim=0).values[f : len(x) - f].mean(0)


def geometric_median(x: Tensor, steps: int = 100) -> Tensor:
    """The point of the least sum of distances to the rows, by Weiszfeld's iteration from the median."""
    centre = median(x)
    for _ in range(steps):
        nearness = 1 / (x - centre).norm(dim=1).clamp_min(SMALL)
        centre = (nearness / nearness.sum()) @ x
    return centre


def nearest(x: Tensor, f: int) -> Tensor:
    """The sum of squared distances of each row to its n - f - 2 nearest others [n]: Krum's score."""
    near = max(1, len(x) - f - 2)
    return torch.cdist(x, x).square().sort(dim=1).values[:, 1 : 1 + near].sum(1)


def krum(x: Tensor, f: int) -> Tensor:
    """The row that has the nearest neighbours (Blanchard et al. 2017, NeurIPS 30)."""
    allow("krum", len(x), f)
    return x[nearest(x, f).argmin()]


def multi_krum(x: Tensor, f: int) -> Tensor:
    """The mean of the n - f rows that have the nearest neighbours."""
    allow("multi-krum", len(x), f)
    return x[nearest(x, f).argsort(stable=True)[: len(x) - f]].mean(0)


def bulyan(x: Tensor, f: int) -> Tensor:
    """Krum picks n - 2 f rows one by one; then, of each coordinate, the mean of the n - 4 f picked values nearest to
    their median (El Mhamdi et al. 2018, 1802.07927).
    """
    allow("bulyan", len(x), f)
    left, picked = x, []
    for _ in range(len(x) - 2 * f):
        place = int(nearest(left, f).argmin())
        picked.append(left[place])
        left = torch.cat((left[:place], left[place + 1 :]))
    chosen = torch.stack(picked)
    order = (chosen - median(chosen)).abs().argsort(dim=0, stable=True)
    return chosen.gather(0, order[: len(x) - 4 * f]).mean(0)


def filtered(x: Tensor, f: int) -> Tensor:
    """The mean without the f rows that are farthest from it, which are left out one by one (after Cronus, Chang et al.
    2019, 1912.11279, whose filter looks along the top eigenvector).
    """
    allow("filter", len(x), f)
    for _ in range(f):
        far = int((x - x.mean(0)).norm(dim=1).argmax())
        x = torch.cat((x[:far], x[far + 1 :]))
    return x.mean(0)


def nearest_neighbours(x: Tensor, f: int) -> Tensor:
    """Mixing before a rule: every row becomes the mean of its n - f nearest, itself included [n, D] (Allouah et al.
    2023, 2302.01772).
    """
    allow("nearest neighbours", len(x), f)
    order = torch.cdist(x, x).argsort(dim=1, stable=True)[:, : len(x) - f]
    return x[order].mean(1)


def centred_clipping(x: Tensor, centre: Tensor, radius: float, steps: int = 3) -> Tensor:
    """From `centre`, the last common model, moves by the mean of the differences, each cut to length `radius`
    (Karimireddy et al. 2021, 2012.10333).
    """
    for _ in range(steps):
        centre = centre + shortened(x - centre, torch.tensor(radius)).mean(0)
    return centre


def norm_bound(x: Tensor, centre: Tensor) -> Tensor:
    """The mean of the updates, none longer than the median one (Sun et al. 2019, 1911.07963; the bound is ours)."""
    updates = x - centre
    return centre + shortened(updates, median(updates.norm(dim=1, keepdim=True))).mean(0)


def shortened(x: Tensor, bound: Tensor) -> Tensor:
    """The rows, those longer than `bound` scaled down to it."""
    return x * (bound / x.norm(dim=1, keepdim=True).clamp_min(SMALL)).clamp_max(1)


def fltrust(x: Tensor, centre: Tensor, root: Tensor) -> Tensor:
    """The updates scaled to the length of the server's own update on public images, and weighted by the cosine to it
    where that is positive (Cao et al. 2021, 2012.13995). The server's alone when it agrees with nobody.
    """
    updates, own = x - centre, root - centre
    lengths = updates.norm(dim=1).clamp_min(SMALL)
    trust = (updates @ own / (lengths * own.norm().clamp_min(SMALL))).clamp_min(0)
    if trust.sum() == 0:
        return root
    return centre + (trust / trust.sum()) @ (updates * (own.norm() / lengths)[:, None])


# -- weights of the clients in one sum ---------------------------------------------------------------------------------


def score(losses: Tensor) -> Tensor:
    """Weights [n], of sum n, from the clients' mean losses on the public images: none for whose loss is more than
    `SPREADS` median absolute deviations above the median; of the others exp(-loss). Harm and loss share a channel: with
    two classes, who pulls the peers to the wrong class has to claim a loss there.
    """
    middle = median(losses)
    kept = losses <= middle + SPREADS * median((losses - middle).abs()).clamp_min(SMALL)
    return normalised(torch.exp(losses.min() - losses) * kept)


def greed(losses: Tensor, f: int) -> Tensor:
    """Weights [n], of sum n: the same for the n - f of the lowest public loss (after FedGreed, 2508.18060)."""
    allow("greed", len(losses), f)
    kept = torch.zeros_like(losses)
    kept[losses.argsort(stable=True)[: len(losses) - f]] = 1
    return normalised(kept)


def experts(x: Tensor, before: Tensor, rate: float = 1.0) -> Tensor:
    """Weights [n], of sum n: those `before` times exp(-rate * distance to the median row / the median distance). Who is
    far off round after round counts less and less (after ExpGuard, Roux et al. 2025, 2402.12265).
    """
    far = (x - median(x)).norm(dim=1)
    return normalised(before * torch.exp(-rate * far / median(far).clamp_min(SMALL)))


def normalised(weights: Tensor) -> Tensor:
    return weights * (len(weights) / weights.sum().clamp_min(SMALL))


VECTOR: dict[str, Callable[[Tensor, int], Tensor]] = {  # what needs nothing but the rows
    "mean": lambda x, f: x.mean(0),
    "median": lambda x, f: median(x),
    "trimmed mean": trimmed_mean,
    "geometric median": lambda x, f: geometric_median(x),
    "filter": filtered,
    "krum": krum,
    "multi-krum": multi_krum,
    "bulyan": bulyan,
    "nearest neighbours, median": lambda x, f: median(nearest_neighbours(x, f)),
}
