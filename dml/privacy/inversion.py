"""Pictures from messages: gradient matching, the input of a dense layer, and inversion of a model or of its copy.

All start from what a view holds; batch labels are given to the attacker. A single SGD step is the calibration: nobody
in the experiment sends one, but an attack that fails there would prove nothing by failing on the real messages.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from dml.losses import log_probabilities, model_loss
from dml.models import SHALLOW, VisionNet

RATE = 0.1  # of signed Adam, on pixels in [0, 1]
STEP = 0.01  # learning rate of plain gradient descent, for calibration
VARIATION = 0.1  # weight of total variation against the cosine distance


def gradient(model: VisionNet, images: Tensor, labels: Tensor, values: Mapping[str, Tensor] | None = None, keep=False):
    """The gradient by name of the mean loss on a batch (float [B, 3, size, size]), what one SGD step sends; of the
    model, or of the model with other `values`.
    """
    values = values or {name: parameter.detach().requires_grad_() for name, parameter in model.named_parameters()}
    loss = model_loss(log_probabilities(functional_call(model, dict(values), (images,))), labels).mean()
    return dict(zip(values, torch.autograd.grad(loss, list(values.values()), create_graph=keep), strict=True))


def variation(images: Tensor) -> Tensor:
    """Total variation: the mean absolute difference of neighbouring pixels."""
    return images.diff(dim=-1).abs().mean() + images.diff(dim=-2).abs().mean()


def descend(
    loss: Callable[[Tensor], Tensor], start: Tensor, iterations: int, others: Sequence[Tensor] = ()
) -> tuple[Tensor, float]:
    """Images in [0, 1] that make `loss` small, and that loss: Adam on the sign of the gradient, its rate lowered in
    steps (Geiping et al. 2020, arXiv 2003.14053). `others` are scalars in [0, 1] to be found along with them.
    """
    images = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([images, *others], lr=RATE)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [iterations * k // 8 for k in (3, 5, 7)], 0.1)
    for _ in range(iterations):
        value = loss(images)
        gradients = torch.autograd.grad(value, [images, *others])
        for tensor, slope in zip((images, *others), gradients, strict=True):
            tensor.grad = slope.sign()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for tensor in (images, *others):
                tensor.clamp_(0, 1)
    return images.detach(), float(value.detach())


def match(
    model: VisionNet, sent: Mapping[str, Tensor], labels: Tensor, iterations: int, rng: np.random.Generator
) -> Tensor:
    """Images [B, 3, size, size] whose gradient points as `sent` does (cosine + total variation); `sent` may hold some
    layers only.
    """

    def loss(images: Tensor) -> Tensor:
        here = gradient(model, images, labels, keep=True)
        return 1 - _cosine(here, sent) + VARIATION * variation(images)

    return descend(loss, _noise(model, len(labels), rng), iterations)[0]


def match_update(
    model: VisionNet,
    after: Mapping[str, Tensor],
    labels: Tensor,
    iterations: int,
    rng: np.random.Generator,
    adaptive: bool = True,
) -> Tensor:
    """Images [n, 3, size, size] of a client that trained for many steps from `model` to `after`: as `match`, with the
    gradient taken at a point between the two that is found along with the images (the surrogate model of Zhu et al.
    2023, arXiv 2306.00127). `adaptive` to Adam, whose steps depend on a gradient's sign more than on its size: what is
    compared is the gradient g as g / (|g| + mean |g|).
    """
    before = {name: value.detach() for name, value in model.named_parameters()}
    update = {name: before[name] - value for name, value in after.items()}
    between = torch.tensor(0.5, requires_grad=True)

    def loss(images: Tensor) -> Tensor:
        values = before | {name: before[name] - between * step for name, step in update.items()}
        here = gradient(
            model, images, labels, {name: each.requires_grad_() for name, each in values.items()}, keep=True
        )
        if adaptive:
            here = {name: each / (each.abs() + each.detach().abs().mean()) for name, each in here.items()}
        return 1 - _cosine(here, update) + VARIATION * variation(images)

    return descend(loss, _noise(model, len(labels), rng), iterations, [between])[0]


def descent(model: VisionNet, images: Tensor, labels: Tensor, steps: int) -> dict[str, Tensor]:
    """The weights after some steps of plain gradient descent on a batch: what `match_update` is calibrated on."""
    values = {name: value.detach() for name, value in model.named_parameters()}
    for _ in range(steps):
        change = gradient(model, images, labels, {name: value.requires_grad_() for name, value in values.items()})
        values = {name: (value - STEP * change[name]).detach() for name, value in values.items()}
    return values


def dense_input(sent: Mapping[str, Tensor]) -> Tensor:
    """The input [features] of the first dense layer, exactly, from the gradient of one image: the weight gradient of a
    unit is its bias gradient times the input. From an update of many steps, a mixture.
    """
    weight, bias = sent["dense1.weight"], sent["dense1.bias"]
    unit = bias.abs().argmax()
    return weight[unit] / bias[unit]


def from_features(model: VisionNet, wanted: Tensor, iterations: int, rng: np.random.Generator) -> Tensor:
    """The image [1, 3, size, size] that the convolutions turn into these features."""

    def loss(images: Tensor) -> Tensor:
        distance = (model.convolve(images)[0] - wanted).square().sum() / wanted.square().sum()
        return distance + VARIATION * variation(images)

    return descend(loss, _noise(model, 1, rng), iterations)[0]


def invert_model(model: VisionNet, start: Tensor, label: int, iterations: int) -> Tensor:
    """The image [1, 3, size, size] that a model is surest of in a class, found from `start` (model inversion,
    Fredrikson et al. 2015). It shows what the model knows of the class, and a person only if the class is one.
    """
    labels = torch.tensor([label], device=start.device)

    def loss(images: Tensor) -> Tensor:
        return model_loss(log_probabilities(model(images)), labels).mean() + VARIATION * variation(images)

    return descend(loss, start[None], iterations)[0]


def from_logits(pairs: Tensor, images: Tensor, wanted: Tensor) -> Tensor:
    """Images [k, 3, size, size] for `wanted` [k, F] logits, decoded by a regression from the logits [P, F] that server
    and client give to the public images (the idea of Takahashi et al. 2023, arXiv 2304.11436, with a linear decoder).
    """
    mean, spread = pairs.mean(0), pairs.std(0) + 1e-6
    x = torch.cat(((pairs - mean) / spread, torch.ones(len(pairs), 1)), dim=1)
    penalty = torch.eye(x.shape[1])
    decoder = torch.linalg.solve(x.T @ x + penalty, x.T @ images.flatten(1))
    decoded = torch.cat(((wanted - mean) / spread, torch.ones(len(wanted), 1)), dim=1) @ decoder
    return decoded.unflatten(1, images.shape[1:]).clamp(0, 1)


def shallow(sent: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The convolutions' part of a message."""
    return {name: value for name, value in sent.items() if name.startswith(SHALLOW)}


def _cosine(here: Mapping[str, Tensor], sent: Mapping[str, Tensor]) -> Tensor:
    inner = sum((here[name] * value).sum() for name, value in sent.items())
    norms = [cast(Tensor, sum(part[name].square().sum() for name in sent)).sqrt() for part in (here, sent)]
    return inner / (norms[0] * norms[1] + 1e-12)


def _noise(model: VisionNet, count: int, rng: np.random.Generator) -> Tensor:
    start = torch.from_numpy(rng.random((count, 3, model.size, model.size), np.float32))
    return start.to(model.dense2.weight.device)
