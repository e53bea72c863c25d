"""What a server that holds weights can compare with a candidate: the update, layer by layer.

A client that trained on an image moved along that image's gradient. The cosine between the two is a signal of
membership that needs no query of the trained model (the gradient form of FedMIA, Zhu et al. 2025, arXiv 2402.06289).
Adam's steps follow a gradient's sign more than its size, so a second form compares g / (|g| + mean |g|).
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from dml.losses import log_probabilities, model_loss
from dml.models import VisionNet
from dml.training.clients import to_float

LAYERS = ("conv1", "conv2", "conv3", "dense1", "dense2")
FORMS = ("gradient", "sign-like gradient")
CHUNK = 20  # images whose gradients are in memory at once

Values = Mapping[str, Tensor]


def cosines(model: VisionNet, images: Tensor, labels: Tensor, moves: Mapping[int, Values]) -> Tensor:
    """The cosine between -gradient of every image (uint8 [N, size, size, 3]) at `model` and the move of every client,
    {client: {parameter: after - before}}: [2 L, K, N], with the layers `LAYERS` in each of the forms `FORMS`. NaN for a
    layer that did not travel.
    """
    units = [[_unit(_flat(move, layer)[None]) for layer in LAYERS] for move in moves.values()]
    parts = []
    for chunk, truth in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
        gradients = per_image(model, chunk, truth)
        rows = []
        for form in FORMS:
            for place, layer in enumerate(LAYERS):
                if not units[0][place].numel():
                    rows.append(torch.full((len(moves), len(chunk)), torch.nan, device=images.device))
                    continue
                own = -_flat(gradients, layer)
                if form == FORMS[1]:
                    own = own / (own.abs() + own.abs().mean(1, keepdim=True) + 1e-20)
                rows.append(torch.cat([move[place] for move in units]) @ _unit(own).T)
        parts.append(torch.stack(rows))
    return torch.cat(parts, dim=2)


def per_image(model: VisionNet, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The gradient of each image's loss by parameter, [N, ...]."""

    def loss(parameters: Values, image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, dict(parameters), (image[None],))
        return model_loss(log_probabilities(logits), label[None])[0]

    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return vmap(grad(loss), (None, 0, 0))(values, to_float(images), labels)


def _flat(values: Values, layer: str) -> Tensor:
    """A layer's weights and biases in one row; of several images, a row each. Empty where they are not there."""
    own = [values[name] for name in (f"{layer}.weight", f"{layer}.bias") if name in values]
    if not own:
        return torch.empty(0)
    bias = own[-1]
    return torch.cat([part.flatten(1) if bias.dim() == 2 else part.flatten() for part in own], dim=-1)


def _unit(rows: Tensor) -> Tensor:
    return rows / (rows.norm(dim=-1, keepdim=True) + 1e-20)
