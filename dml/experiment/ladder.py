"""Saying less: the arms of the bandwidth study, each a rung of one ladder. DML's losses in fewer bits, in fewer rounds,
for fewer images, or only where they changed; and FedAvg's weights in fewer bits, so that the baseline has its chance.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from dml.arms.catalogue import ARMS, Arm, dml, fedavg, mean
from dml.arms.federation import Federation
from dml.exchange.messages import Chosen, Weights
from dml.exchange.topologies import add_up, chosen_peers_of
from dml.streams import SERVER, stream
from dml.training.clients import Fit


def fixed(fed: Federation, encoding: str = "float32") -> Iterator[list[Fit]]:
    """DML on one public fold for all rounds: fresh folds have no earlier prediction that could be left unsaid."""
    fed.keep_public()
    yield from dml(fed, encoding=encoding)


def chosen(fed: Federation, how: str, share: float = 0.5) -> Iterator[list[Fit]]:
    """DML in which every client sends the losses of only a `share` of the public images: those on which it is least
    certain ("uncertain"), or as many at random ("random"), the control. The sum's last column counts the senders.
    """
    yield fed.pretrain()
    fed.hand_out(public=True)
    random = {client.index: stream(fed.seed, client.index, "chosen") for client in fed.clients}
    for round in fed.rounds():
        yield fed.local(round)
        fed.probe(round)
        labels, uploads, own = fed.public_labels(round), [], {}
        for client in fed.clients:
            losses = fed.predictions(client, round)
            own[client.index] = losses.log_probabilities(labels)
            doubt = own[client.index].max(-1).values.neg()  # the less probable the decision, the larger
            if how == "random":
                doubt = torch.from_numpy(random[client.index].random(len(labels))).to(doubt)
            uploads.append(Chosen.pick(losses, _largest(doubt, share)))
        sent, total = add_up("student-first", fed.upload(uploads), labels)
        down = total and fed.broadcast(total)
        tables = {index: chosen_peers_of(share, down, own[index]) for index, share in sent.items()}
        yield fed.refine(round, "student-first", tables)
        fed.glance(round)
    fed.report()


def _largest(values: Tensor, share: float) -> Tensor:
    """bool [N]: the `share` of values that is largest, at least one; of equal ones the first."""
    order = values.argsort(descending=True, stable=True)
    mask = torch.zeros_like(values, dtype=torch.bool)
    mask[order[: max(1, round(share * len(values)))]] = True
    return mask


def updates(fed: Federation, encoding: str) -> Iterator[list[Fit]]:
    """FedAvg that sends encoded changes since the last common model. What the encoding loses of a client's change is
    added to its next one (error feedback: Seide et al. 2014; Karimireddy et al. 2019, arXiv 1901.09847).
    """
    yield fed.pretrain()
    fed.hand_out()
    common = {name: value.clone() for name, value in fed.server.parameters().items()}
    lost = {client.index: {name: torch.zeros_like(value) for name, value in common.items()} for client in fed.clients}
    for round in fed.rounds():
        yield fed.local(round)
        fed.probe(round)
        changes = {
            client.index: {n: p - common[n] + lost[client.index][n] for n, p in client.parameters().items()}
            for client in fed.clients
        }
        uploads = (Weights(round=round, sender=index, values=change) for index, change in changes.items())
        received = fed.upload(uploads, encoding)
        for each in received:  # a client can decode its own message and so knows what was lost
            lost[each.sender] = {name: changes[each.sender][name] - value for name, value in each.values.items()}
        if received:
            down = fed.broadcast(Weights(round=round, sender=SERVER, values=mean(received)), encoding)
            common = {name: value + down.values[name] for name, value in common.items()}
            for client in fed.clients:
                client.load(common)
        fed.glance(round, fed.clients[:1] if received else None)
    fed.report()


RUNGS: dict[str, Arm] = {
    "dml, float16": partial(dml, encoding="float16"),
    "dml, 8 bits": partial(dml, encoding="8 bits"),
    "dml, 4 bits": partial(dml, encoding="4 bits"),
    "dml, 1 bit": partial(dml, encoding="1 bit"),
    "dml, every 2nd": partial(dml, every=2),
    "dml, uncertain half": partial(chosen, how="uncertain"),
    "dml, random half": partial(chosen, how="random"),
    "dml, fixed": fixed,
    "dml, fixed, changes": partial(fixed, encoding="8 bits, changes"),
    "fedavg, float16": partial(fedavg, encoding="float16"),
    "fedavg, 8 bits": partial(updates, encoding="8 bits"),
    "fedavg, top 1 %": partial(updates, encoding="top 1 %"),
}


def find(arm: str) -> Arm:
    """An arm or a rung by name. Raises KeyError."""
    return (ARMS | RUNGS)[arm]


def rungs_for(names: tuple[str, ...], classes: int) -> tuple[str, ...]:
    """Those of the named arms that make sense: a choice of images sends losses, which need two classes."""
    return tuple(name for name in names if classes == 2 or not name.endswith("half"))
