"""Defences: what a client does to its message, or to its training, before anything leaves it.

The defences of a message have no privacy bound: how much a message changes with one private image is not known, as the
model is retrained, so they are *heuristic*. DP-SGD has one: all that is computed from the trained model inherits it.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from dml.config import Experiment
from dml.exchange.messages import Losses, Message, Predictions, Weights
from dml.losses import model_loss
from dml.privacy.game import seed_of
from dml.streams import stream
from dml.training.clients import Fit, adam, objective, to_float

LEVELS = 16  # of a probability sent in 4 bits
SURE = 0.9  # how a receiver reads a hard label
CLIP = 1.0  # L2 norm of an image's gradient in DP-SGD
DELTA = 1e-3  # of the guarantee: below one over the number of a client's images

Alter = Callable[[Message, Tensor, int, int], Message]


def noise(scale: float) -> Alter:
    """Gaussian noise of this standard deviation on every logit."""

    def table(log_p: Tensor, rng: np.random.Generator) -> Tensor:
        drawn = torch.from_numpy(rng.normal(0, scale, (len(log_p), log_p.shape[-1] - 1)).astype(np.float32))
        return log_p + torch.cat((torch.zeros(len(log_p), 1), drawn), dim=-1).to(log_p.device)

    return _message(table)


def four_bits() -> Alter:
    """Probabilities rounded to the middle of one of 16 equal steps."""
    return _message(lambda log_p, _: (((log_p.exp() * LEVELS).floor().clamp(0, LEVELS - 1) + 0.5) / LEVELS).log())


def hard_labels() -> Alter:
    """Only the predicted class, read as a probability of 0.9."""

    def table(log_p: Tensor, _) -> Tensor:
        rest = (1 - SURE) / (log_p.shape[-1] - 1)
        chosen = torch.nn.functional.one_hot(log_p.argmax(-1), log_p.shape[-1])
        return (rest + (SURE - rest) * chosen).log()

    return _message(table)


def weight_noise(scale: float) -> Alter:
    """Gaussian noise of this standard deviation on every weight."""

    def alter(message: Message, labels: Tensor, seed: int, m: int) -> Message:
        if not isinstance(message, Weights):
            return message
        rng = _dice(message, seed, m)
        noisy = {
            name: value + torch.from_numpy(rng.normal(0, scale, tuple(value.shape)).astype(np.float32)).to(value.device)
            for name, value in message.values.items()
        }
        return replace(message, values=noisy)

    return alter


def _dice(message: Message, seed: int, m: int) -> np.random.Generator:
    return stream(seed_of(seed, m), message.sender, "noise")


def _message(table: Callable[[Tensor, np.random.Generator], Tensor]) -> Alter:
    """The defence that changes the log-probabilities of a message; it is sent in the same form again."""

    def alter(message: Message, labels: Tensor, seed: int, m: int) -> Message:
        if not isinstance(message, Losses | Predictions):
            return message
        log_p = table(message.log_probabilities(labels), _dice(message, seed, m)).log_softmax(-1)
        if isinstance(message, Losses):
            return Losses(round=message.round, sender=message.sender, losses=model_loss(log_p, labels))
        return Predictions(round=message.round, sender=message.sender, probabilities=log_p.exp())

    return alter


@dataclass(frozen=True)
class Defence:
    """What clients of an arm do to their uploads; it is attacked through the server's `view` of that arm."""

    arm: str
    view: str
    alter: Alter


MESSAGE = {
    "noise 1": Defence("dml", "losses", noise(1.0)),
    "noise 4": Defence("dml", "losses", noise(4.0)),
    "4 bits": Defence("dml", "losses", four_bits()),
    "hard labels": Defence("dml", "losses", hard_labels()),
    "noise 0.01": Defence("fedavg", "weights", weight_noise(0.01)),
    "noise 0.03": Defence("fedavg", "weights", weight_noise(0.03)),
}


def available() -> bool:
    """Whether opacus, an optional extra, is installed."""
    return find_spec("opacus") is not None


def dp_sgd(multiplier: float) -> Callable[[Sequence[Fit]], None]:
    """Local training by DP-SGD (Abadi et al. 2016), as Adam, with this noise multiplier: an engine for local fits.

    As many steps as without it; every image takes part in a step with the same probability, its gradient is clipped to
    norm `CLIP`. Raises ModuleNotFoundError without opacus.
    """
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    def engine(fits: Sequence[Fit]) -> None:
        for fit in fits:
            client, experiment = fit.client, fit.client.experiment
            count, (rate, steps) = len(fit.labels), sampling(len(fit.labels), experiment)
            rng = client.streams["noise"]
            generator = torch.Generator(client.device).manual_seed(int(rng.integers(2**62)))
            model = GradSampleModule(client.model)
            optimiser = DPOptimizer(
                adam(model.parameters(), experiment),
                noise_multiplier=multiplier,
                max_grad_norm=CLIP,
                expected_batch_size=rate * count,
                generator=generator,
            )
            for _ in range(steps):
                cut = torch.from_numpy(np.flatnonzero(rng.random(count) < rate)).to(client.device)
                masks = client.model.dropout_masks(len(cut), client.streams["local dropout"], client.device)
                optimiser.zero_grad(set_to_none=True)
                loss = objective(fit, model(to_float(fit.images[cut]), masks), fit.labels[cut], None)
                with warnings.catch_warnings():  # torch: its hook of the first layer sees outputs only, as it should
                    warnings.filterwarnings("ignore", "Full backward hook")
                    loss.mean().backward()
                optimiser.step()
            model.remove_hooks()

    return engine


def sampling(count: int, experiment: Experiment) -> tuple[float, int]:
    """The sampling rate of a step and the number of steps of one round's local training."""
    steps = math.ceil(count / experiment.batch)
    return 1 / steps, steps * experiment.epochs


def epsilon(multiplier: float, count: int, experiment: Experiment) -> float:
    """An upper bound of the privacy loss at `DELTA` of one round's local training on `count` images, for adding or
    removing one image: Renyi accounting by opacus. Folds are fresh each round, so no image pays twice.

    Raises ModuleNotFoundError without opacus.
    """
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    rate, steps = sampling(count, experiment)
    accountant.history = [(multiplier, rate, steps)]
    with warnings.catch_warnings():  # that another order might be tighter: true of very little noise, and no matter
        warnings.filterwarnings("ignore", "Optimal order")
        return float(accountant.get_epsilon(delta=DELTA))
