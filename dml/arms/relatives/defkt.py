"""Def-KT (Li, Li, Varshney 2022, 2012.13063): no server; a client's model moves to another client, and the two teach
each other on its private images. With the controls that tell the teaching from the moving.

Two public re-implementations disagree on which of the two models the receiver keeps; both readings are here. Targets
are detached, as in all of this project, and each model has an optimiser of its own.
"""

from collections.abc import Iterator
from copy import deepcopy

import torch

from dml.arms import messaging, record, steps
from dml.arms.federation import Federation
from dml.arms.weights import mean
from dml.exchange.messages import MessageError, Weights
from dml.losses import contribution, log_probabilities, model_loss, peer_loss
from dml.streams import SERVER, stream
from dml.training.clients import Client, Epoch, Fit, adam, correct, to_float


def defkt(
    fed: Federation,
    keep: str = "received",
    weight: float = 1.0,
    partner: str = "sent",
    frozen: bool = False,
    matched: bool = True,
) -> Iterator[list[Fit]]:
    """Each round half of the clients (rounded down) train on their private images and send their model to one other
    each, which trains both models on its own images: CE + `weight` KL(the other || this). An odd client is idle.

    `keep` is what the receiver has afterwards: the "received" model, or its "own", taught by it. `matched`: public
    images and labels join the private ones, as the arms beside it have them. Controls: weight 0, the model merely
    moves; `frozen`, the receiver's model teaches and does not learn; partner "average", the mean of the pair instead
    of two models; "stranger", a new model trained on the receiver's own images instead of a sent one, so that nothing
    is exchanged. Raises ValueError for models of different kinds.
    """
    if len(fed.starters) > 1:
        raise ValueError(f"models={fed.experiment.models!r}: Def-KT moves models, which must be of one kind")
    yield steps.pretrain(fed)
    messaging.hand_out(fed, matched)
    for round_index in fed.rounds():
        fits = {fit.client.index: fit for fit in steps.local(fed, round_index, mixed=matched)}
        pairs = pairs_of(fed, round_index)
        if partner != "stranger":
            yield [fits[sender] for sender, _ in pairs]
        record.public_accuracy(fed, round_index)
        for sender, receiver in pairs:
            own = fed.clients[receiver]
            stranger = partner == "stranger"
            other = _stranger(fed, own) if stranger else _sent(fed, fed.clients[sender], own, round_index)
            if other is None:
                continue
            if stranger:
                yield [_as(fits[receiver], other)]
            if partner == "average":
                both = [Weights(round=round_index, sender=c.index, values=c.parameters()) for c in (own, other)]
                own.load(mean(both))
                yield [fits[receiver]]
                continue
            fed.history.extend(teach(fits[receiver], other, weight, frozen))
            if keep == "received" and not stranger:
                own.load(other.parameters())
        record.sample_accuracy(fed, round_index)
    record.report(fed)


def pairs_of(fed: Federation, round_index: int) -> list[tuple[int, int]]:
    """The round's senders and receivers, drawn anew: disjoint, all but one client where their number is odd."""
    rng = stream(fed.seed, SERVER, "pairs")
    drawn = [rng.permutation(len(fed.clients)) for _ in range(round_index)][-1]
    half = len(drawn) // 2
    return list(zip(drawn[:half].tolist(), drawn[half : 2 * half].tolist(), strict=True))


def participants(fed: Federation) -> Iterator[list[Fit]]:
    """Control: FedAvg of the same clients as Def-KT's, on the same images; who is idle keeps its model."""
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public=True)
    for round_index in fed.rounds():
        chosen = {index for pair in pairs_of(fed, round_index) for index in pair}
        yield [fit for fit in steps.local(fed, round_index, mixed=True) if fit.client.index in chosen]
        record.public_accuracy(fed, round_index)
        active = [client for client in fed.clients if client.index in chosen]
        received = messaging.upload(fed, (messaging.weights(fed, client, round_index) for client in active))
        if received:
            average = Weights(round=round_index, sender=SERVER, values=mean(received))
            down = messaging.broadcast(fed, average, to=active)
            for client in active:
                client.load(down.values)
        record.sample_accuracy(fed, round_index)
    record.report(fed)


def teach(fit: Fit, other: Client, weight: float = 1.0, frozen: bool = False) -> list[Epoch]:
    """Train the client of `fit` and the visiting model on the client's images, each toward labels and the other's
    prediction of the same step; the visitor has fresh moments. The history is the client's.
    """
    own, experiment = fit.client, fit.client.experiment
    guest = adam(other.model.parameters(), experiment)
    history = []
    for epoch in fit.length:
        losses, right = [], []
        for indices, masks in fit.batches():
            images, labels = to_float(fit.images[indices]), fit.labels[indices]
            guest_masks = other.model.dropout_masks(len(labels), own.streams["public dropout"], own.device)
            logits, guests = own.model(images, masks), other.model(images, guest_masks)
            log_p, log_q = log_probabilities(logits), log_probabilities(guests)
            loss = model_loss(log_p, labels) + weight * _toward(log_q, log_p)
            visiting = model_loss(log_q, labels) + weight * _toward(log_p, log_q)
            for optimiser, value in ((own.optimiser, loss), (guest, visiting))[1 if frozen else 0 :]:
                optimiser.zero_grad(set_to_none=True)
                value.mean().backward()
                optimiser.step()
            losses.append(loss.detach().mean())
            right.append(correct(logits.detach(), labels))
        told = torch.stack(losses).mean().item(), torch.cat(right).float().mean().item()
        history.append(Epoch(fit.round, "public", epoch, own.index, *told))
    return history


def _toward(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student) per image; the teacher is not taught through it."""
    return peer_loss("peer-first", student, contribution("peer-first", teacher.detach()))


def _sent(fed: Federation, sender: Client, receiver: Client, round_index: int) -> Client | None:
    """The sender's model as it arrives at the receiver; None where it was refused."""
    message = messaging.weights(fed, sender, round_index)
    try:
        arrived = fed.post.carry(message, [receiver.index], check=lambda got: messaging.check(fed, message, got))
    except MessageError as refusal:
        messaging.refuse(fed, round_index, sender.index, refusal)
        return None
    other = Client(receiver.index, deepcopy(receiver.model), fed.experiment, fed.seed)
    other.load(arrived.values)
    return other


def _stranger(fed: Federation, owner: Client) -> Client:
    """A model of its own initial weights, which has seen nothing yet."""
    return Client(owner.index, fed.model(owner.model.kind, owner.index), fed.experiment, fed.seed)


def _as(fit: Fit, client: Client) -> Fit:
    """The same images for another model."""
    return Fit(client, fit.round, fit.phase, fit.images, fit.labels)
