"""Relatives of federated averaging: FedProx (Li et al. 2020, 1812.06127), HeteroFL (Diao et al. 2021, 2010.01264)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dml.arms import messaging, record, steps
from dml.arms.federation import Federation
from dml.arms.weights import fedavg
from dml.models import WIDTHS, VisionNet
from dml.training.clients import Client, Fit

MU = 0.01  # FedProx's weight of the distance, one of the values its authors tune over


def fedprox(fed: Federation, public: str = "") -> Iterator[list[Fit]]:
    """FedAvg whose private training stays near where it began, the last average."""
    for fits in fedavg(fed, public):
        yield [replace(fit, proximal=MU) if fit.phase == "local" else fit for fit in fits]


def heterofl(fed: Federation, public: bool = False) -> Iterator[list[Fit]]:
    """Widths of one VisionNet: a narrow client has the first channels of every layer of the widest, and an entry of the
    server's model is the mean over the clients that have it. Not here: the original's scaling of narrow activations.

    Raises ValueError for other models, and where the first kind is not the widest.
    """
    widest = fed.server.model
    if not set(fed.starters) <= WIDTHS.keys() or any(WIDTHS[kind] > WIDTHS[widest.kind] for kind in fed.starters):
        raise ValueError(f"models={fed.experiment.models!r}: HeteroFL takes widths of VisionNet, the widest first")
    yield steps.pretrain(fed)[:1]
    for starter in fed.starters.values():
        starter.load(narrow(fed.server, starter))
    messaging.hand_out(fed, public)
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        if public:
            yield steps.refine(fed, round_index)
        uploads = (messaging.weights(fed, client, round_index) for client in fed.clients)
        received = [message.values for message in messaging.upload(fed, uploads)]
        fed.server.load(mean_of_holders(fed.server, received))
        for starter, alike in fed.groups():
            starter.load(narrow(fed.server, starter))
            down = messaging.broadcast(fed, messaging.weights(fed, starter, round_index), to=alike)
            for client in alike:
                client.load(down.values)
        record.sample_accuracy(fed, round_index)
    record.report(fed)


def narrow(wide: Client, like: Client) -> dict[str, Tensor]:
    """The part of a wide client's parameters that a narrower one of the same images has."""
    shapes = {name: value.shape for name, value in like.parameters().items()}
    return {
        name: _as_grid(name, value, wide)[_corner(name, shapes[name], like)].reshape(shapes[name]).clone()
        for name, value in wide.parameters().items()
    }


def mean_of_holders(wide: Client, received: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Every entry of the wide model as the mean over the received models that have it; as it was where none has."""
    means = {}
    for name, value in wide.parameters().items():
        grid = _as_grid(name, value, wide)
        total, count = torch.zeros_like(grid), torch.zeros_like(grid)
        for values in received:
            part = values[name] if name != "dense1.weight" else _grid(values[name], values["conv3.bias"].numel())
            corner = tuple(slice(length) for length in part.shape)
            total[corner] += part
            count[corner] += 1
        means[name] = torch.where(count > 0, total / count.clamp_min(1), grid).reshape(value.shape)
    return means


def _grid(dense1: Tensor, channels: int) -> Tensor:
    """The first dense layer's weights as [out, places, channels]: its inputs are ordered place by place."""
    return dense1.reshape(len(dense1), -1, channels)


def _as_grid(name: str, value: Tensor, owner: Client) -> Tensor:
    return _grid(value, _channels(owner)) if name == "dense1.weight" else value


def _corner(name: str, shape: torch.Size, owner: Client) -> tuple[slice, ...]:
    if name == "dense1.weight":
        shape = torch.Size((shape[0], shape[1] // _channels(owner), _channels(owner)))
    return tuple(slice(length) for length in shape)


def _channels(owner: Client) -> int:
    assert isinstance(owner.model, VisionNet)
    return owner.model.hidden
