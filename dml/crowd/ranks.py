"""One federation over several processes: each rank owns a slice of the clients, and what they send is gathered.

The shares of those who are present, N x C numbers a client, go to every rank and are added up in the clients' order, so
1, 2 or 4 ranks end in the same bytes. Start with torchrun, for example

    torchrun --standalone --nproc-per-node 2 -m dml.crowd.ranks OUT.json --clients 100 --share 0.1

torch.distributed neither encrypts nor proves who is who: keep it inside a network that you trust.
"""

import argparse
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from dml.arms import messaging
from dml.config import SMALL, Experiment
from dml.crowd import arms
from dml.crowd.arms import Said, Tables
from dml.crowd.federation import Crowd
from dml.data.images import Images, images_of
from dml.exchange.messages import Losses, Predictions
from dml.files import write_text
from dml.training import machine

FOLD = 24  # images of a client, and of the public fold


def slice_of(clients: int, rank: int, ranks: int) -> range:
    """A rank's clients, next to each other, as many as of any other rank but for one. Raises ValueError when a rank
    would have none.
    """
    if not 0 <= rank < ranks <= clients:
        raise ValueError(f"rank {rank} of {ranks} for {clients} clients: give every rank at least one")
    return range(clients * rank // ranks, clients * (rank + 1) // ranks)


def everybodys(rows: dict[int, Tensor], clients: int, shape: tuple[int, ...]) -> dict[int, Tensor]:
    """What all ranks have by client, in the clients' order. Exact: each number is one rank's, others add zeros."""
    table, there = torch.zeros(clients, *shape), torch.zeros(clients)
    for index, values in rows.items():
        table[index], there[index] = values, 1
    dist.all_reduce(table)
    dist.all_reduce(there)
    return {index: table[index] for index in there.nonzero().flatten().tolist()}


def gathered(crowd: Crowd, round_index: int, said: Said) -> Tables:
    """What `arms.exchanged` makes of what the clients of all ranks sent; the tables of this rank's clients."""
    own = messaging.upload(crowd, said.values())
    images, classes = len(crowd.folds.public[round_index - 1]), len(crowd.images.classes)
    as_losses = classes == 2 and crowd.labelled
    rows = {each.sender: next(iter(each.tensors().values())) for each in own}
    received: list[Losses | Predictions] = []
    for index, values in everybodys(
        rows, crowd.experiment.clients, (images,) if as_losses else (images, classes)
    ).items():
        about = {"round": round_index, "sender": index}
        received.append(Losses(losses=values, **about) if as_losses else Predictions(probabilities=values, **about))
    return arms.from_sum(crowd, round_index, received)


def carry_out(experiment: Experiment, images: Images, seed: int, share: float = 1.0) -> Crowd:
    """DML over the ranks of the process group: this rank's clients, trained."""
    mine = slice_of(experiment.clients, dist.get_rank(), dist.get_world_size())
    crowd = Crowd(experiment, images, seed, FOLD, share, members=mine)
    arms.run(lambda fed: arms.refined(fed, gathered), crowd)
    return crowd


def digests(crowd: Crowd) -> dict[int, str]:
    """The SHA-256 of every client's weights, of all ranks, by client."""
    own = {}
    for index in crowd.everyone:
        (client,) = crowd.store.take([index])
        content = b"".join(value.contiguous().numpy().tobytes() for value in client.parameters().values())
        own[index] = torch.tensor(list(hashlib.sha256(content).digest()), dtype=torch.float32)
    found = everybodys(own, crowd.experiment.clients, (32,))
    return {index: bytes(values.int().tolist()).hex() for index, values in found.items()}


def main() -> None:
    """A small federation on drawn faces; rank 0 writes the digest of every client's weights."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("out", type=Path)
    options.add_argument("--clients", type=int, default=10)
    options.add_argument("--share", type=float, default=1.0)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--size", type=int, default=28)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    machine.settle()
    dist.init_process_group("gloo")
    try:
        count = FOLD * (1 + args.rounds + args.clients)
        base = replace(SMALL, size=args.size, train_images=count, unseen_images=100, glance=0, epochs=5)
        experiment = replace(base, clients=args.clients, rounds=args.rounds)
        found = digests(carry_out(experiment, images_of("faces", experiment), args.seed, args.share))
        if dist.get_rank() == 0:
            write_text(args.out, json.dumps(found, indent=1) + "\n")
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
    os._exit(0)  # while gloo's thread holds a tensor, the interpreter's own end may abort (pytorch #179291)
