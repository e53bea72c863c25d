"""The lowest probability that is believed of a prediction: a setting, and what it changes."""

import math
from dataclasses import replace

import pytest
import torch

from dml.arms.catalogue import run
from dml.config import Experiment
from dml.exchange.messages import Losses, Predictions, decode
from dml.exchange.topologies import add_up


def weights(fed):
    return [value.sum().item() for client in fed.clients for value in client.parameters().values()]


def sure_of_the_wrong_class(sender, data):
    message = decode(data)
    return data if sender != 2 else replace(message, losses=torch.full_like(message.losses, 30.0)).encode()


def test_nothing_below_the_clip_is_believed():
    labels = torch.tensor([1, 0, 1])
    told = Losses(round=1, sender=0, losses=torch.tensor([30.0, math.log(2), 1e-9]))
    low = math.log(0.02)
    expected = torch.tensor([[0.0, low], [-math.log(2), -math.log(2)], [low, 0.0]])
    torch.testing.assert_close(told.log_probabilities(labels, 0.02), expected)
    assert told.log_probabilities(labels)[0, 1].item() == pytest.approx(math.log(1e-7))  # as published
    sure = Predictions(round=1, sender=0, probabilities=torch.tensor([[0.0, 0.3, 0.7]]))
    torch.testing.assert_close(sure.log_probabilities(clip=0.02).exp(), torch.tensor([[0.02, 0.3, 0.7]]))


def test_one_liar_of_four_peers_outweighs_the_label_only_below_the_clip():
    """The label is worth two nats (logit p = m + 1/p at the free optimum); honest peers of margin 3 are outvoted."""
    labels, honest = torch.tensor([1]), torch.tensor([-math.log(1 / (1 + math.exp(-3)))])
    said = [Losses(round=1, sender=client, losses=honest) for client in range(4)]
    said.append(Losses(round=1, sender=4, losses=torch.tensor([30.0])))
    margin = {}
    for clip in (1e-7, 0.02):
        own, down = add_up("student-first", said, labels, clip)
        peers = (down.total - own[0]) / 4
        margin[clip] = (peers[0, 1] - peers[0, 0]).item()
    assert margin[1e-7] == pytest.approx((3 * 3 - math.log(1e7)) / 4, abs=1e-3)
    assert margin[1e-7] < 0 < 1 < margin[0.02]


def test_the_clipped_arm_is_dml_in_a_clipped_experiment(federation, tiny):
    clipped, plain, preset = (federation(wire=sure_of_the_wrong_class) for _ in range(3))
    clipped.experiment = replace(tiny, clip=0.02)
    run("dml", clipped)
    run("dml", plain)
    run("dml, clipped", preset)
    assert weights(clipped) == weights(preset) != weights(plain)


@pytest.mark.parametrize("clip", [0, -0.1, 0.5, float("nan")])
def test_a_clip_that_cannot_be_is_refused(clip):
    with pytest.raises(ValueError, match=r"above 0 and below 0\.5"):
        Experiment(clip=clip)
