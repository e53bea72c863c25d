"""The README's example for a reader's own loop runs as it stands, and adds the peer term of the paper."""

import re

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from dml.config import README

SECTION = README.read_text(encoding="utf-8").partition("## Use it in your own code")[2].partition("\n## ")[0]
(CODE,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture
def after():
    """The names that the example leaves behind."""
    names = {}
    with torch.random.fork_rng():
        exec(CODE, names)  # our own page
    return names


def test_the_example_is_short_and_uses_the_losses_of_the_project():
    assert len(CODE.splitlines()) <= 15
    assert {"log_probabilities", "contribution", "peer_loss"} <= set(re.findall(r"\w+", CODE.partition("\n\n")[0]))


def test_the_example_adds_the_mean_divergence_to_the_peers(after):
    """Of the last client before its last step: cross-entropy plus the mean KL(P_i || P_j) over its peers."""
    frozen = after["sent"][:-1]  # all that it has peers: the others, clipped
    own = log_softmax(after["logits"], -1)
    divergence = torch.stack([kl_div(other, own, log_target=True, reduction="batchmean") for other in frozen]).mean()
    expected = cross_entropy(after["logits"], after["labels"]) + divergence
    torch.testing.assert_close(after["loss"], expected)


def test_the_example_brings_every_client_closer_to_the_labels_and_to_its_peers(after):
    for place, (net, own) in enumerate(zip(after["clients"], after["sent"], strict=True)):
        peers = torch.stack([table for other, table in enumerate(after["sent"]) if other != place]).mean(0)

        def loss(log_p, peers=peers):
            labels = torch.nn.functional.nll_loss(log_p, after["labels"])
            return labels + (log_p.exp() * (log_p - peers)).sum(-1).mean()

        with torch.no_grad():
            assert loss(log_softmax(net(after["public"]), -1)) < loss(own)
