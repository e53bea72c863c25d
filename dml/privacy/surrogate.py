"""A copy of a model that was seen only through its predictions: distilled on the public fold, by the tangent kernel."""

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from dml.models import VisionNet
from dml.privacy.game import VICTIM
from dml.privacy.views import Known
from dml.training.clients import Client, predict, to_float

RIDGE = 1e-3  # of a copy, in units of the kernel's mean diagonal


class TangentCopier:
    """Distils a model that was seen only through its table on the public fold, to ask it about other images.

    The copy is the initial model trained to the end on the table by gradient descent, to first order in its weights:
    kernel regression with the tangent kernel of the initial model (Jacot et al. 2018, arXiv 1806.07572), exact and the
    same for every table, where training a network for each would cost an hour. Outputs are treated one by one.
    """

    def __init__(self, known: Known, images: Tensor):
        self.start = known_logits(known.model(), known, images), known_logits(known.model(), known, known.public)
        self.weights = []
        for output in range(self.start[0].shape[1]):
            public = _gradients(known, known.public, output)
            cross = torch.cat([_gradients(known, part, output) @ public.T for part in images.split(16)])
            self.weights.append(torch.linalg.solve(_kernel(public), cross.T).T)

    def logits(self, table: Tensor) -> Tensor:
        """The copy's logits of the images, [N, 1] or [N, C], from log-probabilities [P, C]."""
        images, public = self.start
        change = [weight @ wanted for weight, wanted in zip(self.weights, _change(table, public).T, strict=True)]
        return images + torch.stack(change, dim=1)


def tangent_copy(known: Known, table: Tensor) -> VisionNet:
    """The copy of `TangentCopier` as a network: the initial model moved by the same step in its weights."""
    model, moved = known.model(), known.model()
    change = _change(table, known_logits(model, known, known.public))
    for output, wanted in enumerate(change.T):
        factors = torch.linalg.solve(_kernel(_gradients(known, known.public, output)), wanted)
        steps = torch.autograd.grad(
            (factors * model(to_float(known.public))[:, output]).sum(), list(model.parameters())
        )
        with torch.no_grad():
            for parameter, step in zip(moved.parameters(), steps, strict=True):
                parameter.add_(step)
    return moved


def _kernel(gradients: Tensor) -> Tensor:
    kernel = gradients @ gradients.T
    return kernel + RIDGE * kernel.diag().mean() * torch.eye(len(kernel), device=kernel.device)


def _change(table: Tensor, logits: Tensor) -> Tensor:
    """How far the logits of log-probabilities [P, C] are from `logits`, [P, 1] or [P, C]."""
    return (table[:, 1:] - table[:, :1] if logits.shape[1] == 1 else table - table.mean(-1, keepdim=True)) - logits


def _gradients(known: Known, images: Tensor, output: int) -> Tensor:
    """The gradient of one output with respect to all weights, for each image: [n, parameters]."""
    model = known.model().requires_grad_(False)  # the graph of these gradients would only hold memory

    def one(parameters, image):
        return functional_call(model, parameters, (image[None],))[0, output]

    gradients = vmap(grad(one), (None, 0))(dict(model.named_parameters()), to_float(images))
    return torch.cat([value.flatten(1) for value in gradients.values()], dim=1)


def known_logits(model: VisionNet, known: Known, images: Tensor) -> Tensor:
    return predict(Client(VICTIM, model, known.experiment, 0), images)
