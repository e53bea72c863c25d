"""What a liar says, in messages that no receiver can refuse; the formulas in our terms, one function each.

On predictions, *scores* [N, C] are log-probabilities without their mean over the classes: of two classes (-m/2, m/2)
with the margin m. A lie is any scores; the softmax makes probabilities of it. On weights, everything is a flat *update*
[D] since the last common model. `heard` [h, ...] is what the honest say in this round. What an attack has to know is
part of it (`KNOWS`): nothing but what is public, as the labels of the public images are; its own client's data; or what
all honest clients say. With less it is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

KNOWS = ("nothing", "own", "all")
SURE = 30.0  # nats that separate the classes of a lie that is certain
Z = 1.5  # standard deviations of ALIE: its own formula gives 0 for 1 of 5 and 2 of 10 and would be no attack


@dataclass(frozen=True)
class View:
    """What a liar looks at. `last` [C, C]: by label, the peers' mean scores of the last round, if there was one."""

    own: Tensor
    heard: Tensor
    labels: Tensor
    last: Tensor | None
    rng: np.random.Generator

    @property
    def true(self) -> Tensor:
        """One where a class is the image's own [N, C]."""
        return torch.nn.functional.one_hot(self.labels, self.own.shape[-1]).to(self.own)

    @property
    def away(self) -> Tensor:
        """The direction from the truth to the other classes [N, C]."""
        return 1 - 2 * self.true


Lie = Callable[[View], Tensor]
Push = Callable[[Tensor, Tensor, np.random.Generator], Tensor]  # own update, honest updates [h, D]


def scores(log_p: Tensor) -> Tensor:
    """Log-probabilities [..., N, C] without their mean over the classes."""
    return log_p - log_p.mean(-1, keepdim=True)


def sure(classes: Tensor, view: View) -> Tensor:
    """Certainty of one class an image."""
    return SURE * torch.nn.functional.one_hot(classes, view.own.shape[-1]).to(view.own)


# -- predictions -------------------------------------------------------------------------------------------------------


def random(view: View) -> Tensor:
    """Certain of a class drawn for each image."""
    count, classes = view.own.shape
    return sure(torch.from_numpy(view.rng.integers(classes, size=count)), view)


def fixed(view: View) -> Tensor:
    """Certain of class 0, always."""
    return sure(torch.zeros_like(view.labels), view)


def veto(view: View) -> Tensor:
    """Certain of a wrong class, the one after the label: with two classes also the runner-up, the least likely and the
    least similar one, which are three attacks elsewhere (Roux et al. 2025, 2402.12265).
    """
    return sure((view.labels + 1) % view.own.shape[-1], view)


def partial_veto(view: View) -> Tensor:
    """The veto on half of the images, drawn; the truth on the others."""
    half = torch.from_numpy(view.rng.random(len(view.own)) < 0.5)
    return torch.where(half[:, None], veto(view), view.own)


def flip(view: View) -> Tensor:
    """The own confidences in reverse order (FDLA, 2401.03685): m = -m_own."""
    order = view.own.argsort(dim=-1)
    return torch.empty_like(view.own).scatter(-1, order, view.own.sort(dim=-1, descending=True).values)


def peak(view: View, confidence: float = 0.9) -> Tensor:
    """A chosen confidence in the class that the own model finds least likely (PCFDLA, 2407.18039): m = -logit c."""
    rest = (1 - confidence) / (view.own.shape[-1] - 1)
    least = torch.nn.functional.one_hot(view.own.argmin(-1), view.own.shape[-1])
    return torch.where(least == 1, confidence, rest).to(view.own).log()


def scaled_flip(view: View, factor: float = 5.0) -> Tensor:
    """The reversed confidences, made surer (after 2401.17746): m = -s m_own."""
    return factor * flip(view)


def worst_honest(view: View) -> Tensor:
    """Of each image, what that honest client says that believes least in the label (HIPS, 2402.12265): never outside of
    what honest clients say.
    """
    belief = (view.heard * view.true).sum(-1)  # [h, N]
    return view.heard[belief.argmin(0), torch.arange(len(view.own))]


def alie(view: View) -> Tensor:
    """A little is enough (Baruch et al. 2019, 1902.06156), away from the label: mean + z * deviation."""
    return view.heard.mean(0) + Z * view.heard.std(0) * view.away


def inner_product(view: View, factor: float = 2.0) -> Tensor:
    """Minus the honest mean (Xie et al. 2020, 1903.03936): -tau * mean."""
    return -factor * view.heard.mean(0)


def min_max(view: View) -> Tensor:
    """As far from the label as a lie can be that is no farther from any honest client than two of them are from each
    other (Shejwalkar and Houmansadr, NDSS 2021).
    """
    flat = view.heard.flatten(1)
    return hidden(flat, (view.heard.std(0) * view.away).flatten()).reshape(view.own.shape)


def ignorant(view: View) -> Tensor:
    """A free rider that has not looked: every class is as likely."""
    return torch.zeros_like(view.own)


def repeated(view: View) -> Tensor:
    """A free rider that repeats what its peers said in the last round, on average, of images with this label."""
    return ignorant(view) if view.last is None else view.last[view.labels]


def hidden(heard: Tensor, direction: Tensor) -> Tensor:
    """mean + lambda * direction with the largest lambda that keeps every distance to a row of `heard` [h, D] within the
    largest distance between two rows: a quadratic in lambda for each row.
    """
    mean, square = heard.mean(0), direction.square().sum()
    if square == 0:
        return mean
    apart, largest = mean - heard, torch.cdist(heard, heard).square().max()
    half = apart @ direction
    steps = (-half + (half.square() - square * (apart.square().sum(1) - largest)).clamp_min(0).sqrt()) / square
    return mean + steps.min() * direction


# -- weights -----------------------------------------------------------------------------------------------------------


def reverse_update(own: Tensor, heard: Tensor, rng: np.random.Generator) -> Tensor:
    """Minus the own update: sign flip."""
    return -own


def scaled_update(own: Tensor, heard: Tensor, rng: np.random.Generator, factor: float = 10.0) -> Tensor:
    """The own update many times, as a model replacement does (Bagdasaryan et al. 2020, 1807.00459)."""
    return factor * own


def noise(own: Tensor, heard: Tensor, rng: np.random.Generator) -> Tensor:
    """A Gaussian in every coordinate, as long as the own *update*: matched, and still no weights of anybody."""
    drawn = torch.from_numpy(rng.standard_normal(len(own))).to(own)
    return drawn * (own.norm() / drawn.norm())


def alie_update(own: Tensor, heard: Tensor, rng: np.random.Generator) -> Tensor:
    """mean + z * deviation, against the sign of the mean."""
    mean = heard.mean(0)
    return mean - Z * heard.std(0) * mean.sign()


def inner_product_update(own: Tensor, heard: Tensor, rng: np.random.Generator, factor: float = 2.0) -> Tensor:
    """-tau * mean; tau as in ByzFL."""
    return -factor * heard.mean(0)


def min_max_update(own: Tensor, heard: Tensor, rng: np.random.Generator) -> Tensor:
    """As far against the mean as hides among the honest."""
    return hidden(heard, -heard.mean(0))


# name -> (what it has to know, what it says)
PREDICTIONS: dict[str, tuple[str, Lie]] = {
    "random": ("nothing", random),
    "fixed": ("nothing", fixed),
    "veto": ("nothing", veto),
    "ignorant": ("nothing", ignorant),
    "repeated": ("nothing", repeated),
    "partial veto": ("own", partial_veto),
    "flip": ("own", flip),
    "peak": ("own", peak),
    "scaled flip": ("own", scaled_flip),
    "worst honest": ("all", worst_honest),
    "alie": ("all", alie),
    "inner product": ("all", inner_product),
    "min-max": ("all", min_max),
}
WEIGHTS: dict[str, tuple[str, Push]] = {
    "flip": ("own", reverse_update),
    "scaled": ("own", scaled_update),
    "noise": ("own", noise),
    "alie": ("all", alie_update),
    "inner product": ("all", inner_product_update),
    "min-max": ("all", min_max_update),
}
