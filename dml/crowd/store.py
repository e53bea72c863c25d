"""Where clients are while they do not train: in memory, or in a memory-mapped file that takes their place.

A client of DML has a state that nobody else has: its weights, Adam's two moments of each, and where its random streams
are. Who has not trained yet is as it was made, and costs nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dml.training.clients import Client
from dml.training.memory import STREAMS

STATE = ("weights", "exp_avg", "exp_avg_sq")  # numbers that a client keeps of each parameter


class Store(Protocol):
    """What a crowd asks of it."""

    def take(self, indices: Sequence[int]) -> list[Client]:
        """The clients, ready to train."""
        ...

    def put(self, clients: Sequence[Client]) -> None:
        """Keep what became of them."""
        ...


class Memory:
    """All clients that have ever been asked for, as objects."""

    def __init__(self, make: Callable[[int], Client]):
        self.make, self.clients = make, dict[int, Client]()

    def take(self, indices: Sequence[int]) -> list[Client]:
        """The clients themselves."""
        for index in indices:
            if index not in self.clients:
                self.clients[index] = self.make(index)
        return [self.clients[index] for index in indices]

    def put(self, clients: Sequence[Client]) -> None:
        """They are here; but the gradients of the last step, a third of what they need, are no state."""
        for client in clients:
            client.model.zero_grad(set_to_none=True)


class Shelf:
    """Clients in a file, float32 [K, 3, P]: only those that are taken are in memory, and the file is mapped only while
    they are moved, so that its pages are nobody's memory in between.
    """

    def __init__(self, make: Callable[[int], Client], file: Path, clients: int):
        self.make, self.file, self.clients = make, file, clients
        self.about = dict[int, tuple[float, Mapping[str, Any]]]()  # of those on the shelf: Adam's steps, streams

    def take(self, indices: Sequence[int]) -> list[Client]:
        """Copies from the file; what is not there is made."""
        taken = [self.make(index) for index in indices]
        for rows in self._rows(taken):
            for client in (each for each in taken if each.index in self.about):
                _fill(client, torch.from_numpy(np.array(rows[client.index])), *self.about[client.index])
        return taken

    def put(self, clients: Sequence[Client]) -> None:
        """Write them to the file."""
        for rows in self._rows(clients):
            for client in clients:
                rows[client.index] = _flat(client).numpy()
                state = client.optimiser.state.get(next(client.model.parameters()), {})
                streams = {name: client.streams[name].bit_generator.state for name in STREAMS}
                self.about[client.index] = float(state.get("step", 0)), streams

    def _rows(self, clients: Sequence[Client]) -> Iterator[np.memmap]:
        """The file as numbers, once and only while somebody iterates; not at all for no client."""
        for client in clients[:1]:
            shape = self.clients, len(STATE), sum(parameter.numel() for parameter in client.model.parameters())
            yield np.memmap(self.file, np.float32, "r+" if self.file.exists() else "w+", shape=shape)


def _flat(client: Client) -> Tensor:
    """The state as numbers, [3, P]; moments are zero before the first step."""
    rows = []
    for name in STATE:
        parts = []
        for parameter in client.model.parameters():
            moments = client.optimiser.state.get(parameter, {})
            parts.append(parameter.detach() if name == "weights" else moments.get(name, torch.zeros_like(parameter)))
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def _fill(client: Client, numbers: Tensor, steps: float, streams: Mapping[str, Any]) -> None:
    parameters = list(client.model.parameters())
    pieces = [part.split([parameter.numel() for parameter in parameters]) for part in numbers]
    with torch.no_grad():
        for parameter, weights, *moments in zip(parameters, *pieces, strict=True):
            parameter.copy_(weights.view_as(parameter))
            if steps:
                state = {name: torch.empty_like(parameter) for name in STATE[1:]}
                for kept, values in zip(state.values(), moments, strict=True):
                    kept.copy_(values.view_as(parameter))
                client.optimiser.state[parameter] = {"step": torch.tensor(steps), **state}
    for name, position in streams.items():
        client.streams[name].bit_generator.state = position
