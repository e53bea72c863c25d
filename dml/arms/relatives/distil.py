"""FedDF (Lin et al. 2020, 2006.07242): weights go up, and the server distils the clients' ensemble on public images."""

from collections.abc import Iterator
from copy import deepcopy

import torch

from dml.arms import messaging, record, steps
from dml.arms.federation import Federation
from dml.arms.weights import mean
from dml.losses import contribution, log_probabilities
from dml.training.clients import Fit, predict


def feddf(fed: Federation, labels: bool = False) -> Iterator[list[Fit]]:
    """Of every kind of model the server takes the mean of its clients' weights, and trains it on the round's public
    images toward the mean logits of *all* clients: KL(ensemble || server), temperature 1, with DML's public epochs and
    optimiser. With `labels` their loss is added, where they have any.
    """
    yield steps.pretrain(fed)
    messaging.hand_out(fed)
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        uploads = (messaging.weights(fed, client, round_index) for client in fed.clients)
        received = {message.sender: message for message in messaging.upload(fed, uploads)}
        images, truth = fed.train[fed.public(round_index)], messaging.public_labels(fed, round_index)
        logits, fits = [], []
        for starter, alike in fed.groups():
            own = [received[client.index] for client in alike if client.index in received]
            for message in own:
                teacher = deepcopy(starter)
                teacher.load(message.values)
                logits.append(predict(teacher, images))
            if own:
                starter.load(mean(own))
        if logits:
            table = contribution("peer-first", log_probabilities(torch.stack(logits).mean(0)))
            told = (round_index, "public", images, truth, "peer-first", table, labels and fed.labelled)
            schedule = fed.experiment.public_epochs, fed.experiment.public_rate
            fits = [Fit(starter, *told, *schedule) for starter in fed.starters.values()]
        yield fits
        for starter, alike in fed.groups():
            down = messaging.broadcast(fed, messaging.weights(fed, starter, round_index), to=alike)
            for client in alike:
                client.load(down.values)
        record.sample_accuracy(fed, round_index)
    record.report(fed)
