"""Saying less: the arms of the bandwidth study, each a rung of one ladder. DML's losses in fewer bits, in fewer rounds,
or for fewer images; and FedAvg's weights in fewer bits, so that the baseline has its chance.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from dml.arms import messaging, record, steps
from dml.arms.catalogue import ARMS, CONTROLS, Arm
from dml.arms.federation import Federation
from dml.arms.outputs import dml
from dml.arms.weights import fedavg, mean
from dml.config import Experiment
from dml.exchange.messages import Chosen, Losses, Weights
from dml.exchange.topologies import add_up, chosen_peers_of
from dml.fingerprint import PACKAGE
from dml.models import WIDTHS
from dml.streams import SERVER, stream
from dml.training.clients import Fit


def fixed(fed: Federation) -> Iterator[list[Fit]]:
    """DML on one public fold for all rounds, which is handed out once. To send on it only the predictions that changed
    (in 8 bits) was tried: it took more bytes than to send all of them (data/results/reduced-facemask), so it is gone.
    """
    steps.keep_public(fed)
    yield from dml(fed)


def chosen(fed: Federation, how: str, share: float = 0.5) -> Iterator[list[Fit]]:
    """DML in which every client sends the losses of only a `share` of the public images: those on which it is least
    certain ("uncertain"), or as many at random ("random"), the control. The sum's last column counts the senders.
    """
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public=True)
    random = {client.index: stream(fed.seed, client.index, "chosen") for client in fed.clients}
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        labels, uploads, own = messaging.public_labels(fed, round_index), [], {}
        for client in fed.clients:
            losses = cast(Losses, messaging.predictions(fed, client, round_index))  # of two classes: see `rungs_for`
            own[client.index] = losses.log_probabilities(labels, fed.experiment.clip)
            doubt = own[client.index].max(-1).values.neg()  # the less probable the decision, the larger
            if how == "random":
                doubt = torch.from_numpy(random[client.index].random(len(labels))).to(doubt)
            uploads.append(Chosen.pick(losses, _largest(doubt, share)))
        sent, total = add_up("student-first", messaging.upload(fed, uploads), labels, fed.experiment.clip)
        tables = {}
        if total is not None:
            down = messaging.broadcast(fed, total)
            tables = {index: chosen_peers_of(part, down, own[index]) for index, part in sent.items()}
        yield steps.refine(fed, round_index, "student-first", tables)
        record.sample_accuracy(fed, round_index)
    record.report(fed)


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
    yield steps.pretrain(fed)
    messaging.hand_out(fed)
    common = {name: value.clone() for name, value in fed.server.parameters().items()}
    lost = {client.index: {name: torch.zeros_like(value) for name, value in common.items()} for client in fed.clients}
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        changes = {
            client.index: {n: p - common[n] + lost[client.index][n] for n, p in client.parameters().items()}
            for client in fed.clients
        }
        uploads = (Weights(round=round_index, sender=index, values=change) for index, change in changes.items())
        received = messaging.upload(fed, uploads, encoding)
        for message in received:  # a client can decode its own message and so knows what was lost
            lost[message.sender] = {
                name: changes[message.sender][name] - value for name, value in message.values.items()
            }
        if received:
            down = messaging.broadcast(fed, Weights(round=round_index, sender=SERVER, values=mean(received)), encoding)
            common = {name: value + down.values[name] for name, value in common.items()}
            for client in fed.clients:
                client.load(common)
        record.sample_accuracy(fed, round_index, fed.clients[:1] if received else None)
    record.report(fed)


RUNGS: dict[str, Arm] = {
    "dml, float16": partial(dml, encoding="float16"),
    "dml, 8 bits": partial(dml, encoding="8 bits"),
    "dml, 4 bits": partial(dml, encoding="4 bits"),
    "dml, 1 bit": partial(dml, encoding="1 bit"),
    "dml, every 2nd": partial(dml, every=2),
    "dml, uncertain half": partial(chosen, how="uncertain"),
    "dml, random half": partial(chosen, how="random"),
    "dml, fixed": fixed,
    "fedavg, float16": partial(fedavg, encoding="float16"),
    "fedavg, 8 bits": partial(updates, encoding="8 bits"),
    "fedavg, top 1 %": partial(updates, encoding="top 1 %"),
}


def find(arm: str) -> Arm:
    """An arm or a rung by name, or one of DML's relatives. Raises KeyError."""
    if arm in (own := ARMS | CONTROLS | RUNGS):
        return own[arm]
    from dml.arms.relatives.catalogue import RELATIVES  # an annex

    return RELATIVES[arm]


def code_of(experiment: Experiment, arm: str) -> tuple[str, ...]:
    """The modules of annexes that a result depends on, beside those of every result (`cache.CODE`)."""
    folders = [] if arm in ARMS | CONTROLS | RUNGS else ["arms/relatives"]
    folders += [] if set(experiment.models.split(",")) <= WIDTHS.keys() else ["zoo"]
    files = [file for folder in folders for file in sorted((PACKAGE / folder).glob("*.py"))]
    drawing = ["data.domains", "data.faces", "data.face_parts", "data.brush"] if experiment.repainted else []
    modules = [".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in files]
    return (
        *modules,
        *drawing,
        *(["data.partition"] if experiment.skewed or experiment.public_fold == "skewed" else []),
    )


def rungs_for(names: Sequence[str], classes: int) -> tuple[str, ...]:
    """Those of the named arms that make sense: a choice of images sends losses, which need two classes."""
    return tuple(name for name in names if classes == 2 or not name.endswith("half"))
