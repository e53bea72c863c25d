"""Consensus by optimisation: the primal-dual method of multipliers, on a star and on a ring.

Every client minimises f_i(w) + c/2 |w - t|^2, where the target t is what it was last told, and answers with the
reflection 2 w - t. On a star the server's own function is zero: it averages, and tells everybody 2 w_s - (what that
client sent). That is FedSplit (Pathak and Wainwright 2020, 2005.05238); the clients rebuild their targets from one
broadcast w_s, so it takes the bytes of federated averaging. On a ring two targets pull at each client, each with half
of c. The local problems are solved inexactly, by the experiment's own steps from the last common model: from the target
they are known to go wrong (Zhang and Hu, 2107.08809).

Is it robust by itself, as 2503.10792 argues of consensus? A client that always sends v moves the fixed point of the
star to sum_honest grad f_i(w) + c (w - v) = 0: that of federated averaging with one gradient step of rate 1/c.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from dml.arms import messaging, record, steps
from dml.arms.catalogue import Arm
from dml.arms.federation import Federation
from dml.exchange.messages import MessageError, Weights
from dml.streams import SERVER
from dml.training.clients import Epoch, Fit, autocast, correct, objective, to_float

Named = Mapping[str, Tensor]
PENALTY = 0.1


def reflect(solution: Named, target: Named) -> dict[str, Tensor]:
    """2 w - t: what is sent for a solution w that was pulled to the target t."""
    return {name: 2 * value - target[name] for name, value in solution.items()}


def average(sent: Sequence[Named]) -> dict[str, Tensor]:
    """The server's solution: the mean of what it was sent."""
    return {name: torch.stack([each[name] for each in sent]).mean(0) for name in sent[0]}


def solve(fit: Fit, target: Named, penalty: float) -> list[Epoch]:
    """Carry out a fit whose loss has penalty/2 |w - target|^2 besides: else as `clients.fit_one`."""
    client, history = fit.client, []
    named = dict(client.model.named_parameters())
    for epoch in range(1, client.experiment.epochs + 1):
        losses, right = [], []
        for indices, masks in fit.batches():
            labels = fit.labels[indices]
            with autocast(client.device, client.experiment):
                logits = client.model(to_float(fit.images[indices]), masks)
            loss = objective(fit, logits, labels, None).mean()
            pull = sum(((value - target[name]) ** 2).sum() for name, value in named.items())
            client.optimiser.zero_grad(set_to_none=True)
            (loss + penalty / 2 * pull).backward()
            client.optimiser.step()
            losses.append(loss.detach())
            right.append(correct(logits.detach(), labels))
        mean_loss, accuracy = torch.stack(losses).mean().item(), torch.cat(right).float().mean().item()
        history.append(Epoch(fit.round, fit.phase, epoch, client.index, mean_loss, accuracy))
    return history


def star(fed: Federation, penalty: float = PENALTY) -> Iterator[list[Fit]]:
    """PDMM on a star: reflections go up, their mean comes down."""
    yield steps.pretrain(fed)
    messaging.hand_out(fed)
    targets: dict[int, Named] = {client.index: fed.server.parameters() for client in fed.clients}
    for round_index in fed.rounds():
        sent: dict[int, dict[str, Tensor]] = {}
        for fit in steps.local(fed, round_index):
            fed.history.extend(solve(fit, targets[fit.client.index], penalty))
            sent[fit.client.index] = reflect(fit.client.parameters(), targets[fit.client.index])
        record.public_accuracy(fed, round_index)
        uploads = (Weights(round=round_index, sender=index, values=values) for index, values in sent.items())
        received = messaging.upload(fed, uploads)
        if received:
            mean = average([message.values for message in received])
            down = messaging.broadcast(fed, Weights(round=round_index, sender=SERVER, values=mean)).values
            for client in fed.clients:
                targets[client.index] = reflect(down, sent[client.index])
                client.load(down)
        yield []
        record.sample_accuracy(fed, round_index, fed.clients[:1] if received else None)
    record.report(fed)


def ring(fed: Federation, penalty: float = PENALTY) -> Iterator[list[Fit]]:
    """PDMM on a ring, without a server after the set-up: each client sends each of its two neighbours a reflection, and
    keeps its own model.
    """
    yield steps.pretrain(fed)
    messaging.hand_out(fed)
    clients = len(fed.clients)
    edges = {i: ((i - 1) % clients, (i + 1) % clients) for i in range(clients)}
    told = {(i, j): dict(fed.server.parameters()) for i in range(clients) for j in edges[i]}  # by j, to i
    for round_index in fed.rounds():
        for fit in steps.local(fed, round_index):
            pulls: list[Named] = [told[fit.client.index, j] for j in edges[fit.client.index]]
            fed.history.extend(solve(fit, average(pulls), penalty))
        record.public_accuracy(fed, round_index)
        news = dict(told)
        for client in fed.clients:
            for neighbour in edges[client.index]:
                values = reflect(client.parameters(), told[client.index, neighbour])
                message = Weights(round=round_index, sender=client.index, values=values)
                try:
                    check = partial(messaging.check, fed, message)
                    news[neighbour, client.index] = dict(fed.post.carry(message, [neighbour], check=check).values)
                except MessageError as refusal:
                    messaging.refuse(fed, round_index, client.index, refusal)
        told = news
        yield []
        record.sample_accuracy(fed, round_index)
    record.report(fed)


ARMS: dict[str, Arm] = {
    **{f"pdmm, c = {c:g}": partial(star, penalty=c) for c in (0.01, 0.1, 1.0)},
    **{f"pdmm on a ring, c = {c:g}": partial(ring, penalty=c) for c in (0.01, 0.1, 1.0)},
}
