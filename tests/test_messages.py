import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import save

from dml.exchange.envelope import KINDS
from dml.exchange.messages import (
    Aggregate,
    Chosen,
    Examples,
    Losses,
    MessageError,
    Predictions,
    Weights,
    decode,
)
from dml.losses import log_probabilities, model_loss
from dml.models import VisionNet

unit = arrays(np.float32, st.integers(1, 40), elements=st.floats(0, 1, width=32))


def two_classes(p):
    p = torch.from_numpy(p)
    return Predictions(round=3, sender=1, probabilities=torch.stack((1 - p, p), -1))


@settings(max_examples=40, deadline=None)
@given(unit)
def test_round_trip_of_predictions(p):
    message = two_classes(p)
    back = decode(message.encode())
    assert (type(back), back.round, back.sender) == (Predictions, 3, 1)
    assert torch.equal(back.probabilities, message.probabilities)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, 20, elements=st.floats(-15, 15, width=32)))
def test_losses_and_probabilities_interconvert(logits):
    logits, labels = torch.from_numpy(logits)[:, None], torch.arange(20) % 2
    log_p = log_probabilities(logits)
    losses = Losses(round=1, sender=0, losses=model_loss(log_p, labels))
    np.testing.assert_allclose(losses.log_probabilities(labels), log_p, rtol=2e-5, atol=2e-7)
    again = Predictions(round=1, sender=0, probabilities=log_p.exp()).losses(labels)
    np.testing.assert_allclose(again.losses, losses.losses, rtol=1e-3, atol=2e-7)


def test_a_loss_of_zero_or_of_hundreds_stays_finite():
    table = Losses(round=1, sender=0, losses=torch.tensor([0.0, 500.0])).log_probabilities(torch.tensor([0, 0]))
    assert torch.isfinite(table).all() and table.min() == pytest.approx(np.log(1e-7), rel=1e-6)


def test_weights_round_trip_and_bytes_of_the_published_model():
    values = {name: p.detach() for name, p in VisionNet().named_parameters()}
    message = Weights(round=2, sender=4, values=values, accuracy=0.75)
    data = message.encode()
    back = decode(data)
    assert back.accuracy == 0.75 and all(torch.equal(back.values[name], values[name]) for name in values)
    assert message.payload == 4 * 1_862_785
    assert message.nbytes == len(data) and 0 < message.nbytes - message.payload < 1024


def test_bytes_of_a_public_fold():
    losses = Losses(round=1, sender=0, losses=torch.zeros(52))
    table = Aggregate(round=1, sender=-1, total=torch.zeros(52, 2), clients=5)
    assert losses.payload == 4 * 52 and table.payload == 4 * 52 * 2
    assert losses.payload < losses.nbytes < losses.payload + 200
    assert decode(table.encode()).clients == 5


def altered(message, **header):
    """The message with some header fields replaced, as a careless or hostile sender could."""
    fields = {name: getattr(message, name) for name in message.scalars}
    text = {"version": 1, "kind": type(message).__name__, **fields} | header
    return save(dict(message.tensors()), {"dml": json.dumps(text)})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a message"),
        (b"\x80\x04\x95pickle", "not a message"),
        (save({"losses": torch.zeros(3)}), "not a message"),
        (altered(Losses(round=1, sender=0, losses=torch.zeros(3)), version=9), "version 9"),
        (altered(Losses(round=1, sender=0, losses=torch.zeros(3)), kind="Pickle"), "unknown kind 'Pickle'"),
        (altered(Losses(round=1, sender=0, losses=torch.zeros(3)), extra=1), "missing or unknown"),
        (Losses(round=1, sender=0, losses=torch.tensor([1.0, float("nan")])).encode(), "not finite"),
        (Losses(round=1, sender=0, losses=torch.zeros(3, dtype=torch.float64)).encode(), "float64"),
    ],
)
def test_what_is_no_message_is_refused_with_a_reason(data, reason):
    with pytest.raises(MessageError, match=reason):
        decode(data)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(ANY, st.dictionaries(st.sampled_from(["version", "kind", "round", "sender", "group", "accuracy"]), ANY))
def test_whatever_arrives_is_a_message_or_refused(header, fields):
    message = Losses(round=1, sender=0, losses=torch.zeros(3))
    for text in (json.dumps(header), json.dumps({"version": 1, "kind": "Weights", "round": 1, "sender": 0} | fields)):
        try:
            decoded = decode(save(dict(message.tensors()), {"dml": text}))
            if isinstance(decoded, Weights):
                decoded.check({"losses": torch.zeros(3)})
        except MessageError as refusal:
            assert str(refusal)
        else:
            assert decoded.tensors().keys() == {"losses"}


def test_deep_nesting_and_odd_accuracies_are_refused():
    with pytest.raises(MessageError, match="not a message"):
        decode(save({"losses": torch.zeros(3)}, {"dml": "[" * 200_000}))
    for accuracy in ("x", None, [1]):
        with pytest.raises(MessageError, match="no number"):
            Weights(round=1, sender=0, values={}, accuracy=accuracy).check({})


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_nobody_wrote_are_refused(data):
    with pytest.raises(MessageError):
        decode(data)


def test_checks_of_the_receiver():
    with pytest.raises(MessageError, match=r"shape \[2\], expected \[3\]"):
        Losses(round=1, sender=0, losses=torch.zeros(2)).check(3, 2)
    with pytest.raises(MessageError, match="negative loss"):
        Losses(round=1, sender=0, losses=torch.tensor([-0.1])).check(1, 2)
    with pytest.raises(MessageError, match="not for 3"):
        Losses(round=1, sender=0, losses=torch.zeros(1)).check(1, 3)
    with pytest.raises(MessageError, match=r"outside \[0, 1\]"):
        Predictions(round=1, sender=0, probabilities=torch.tensor([[1.5, -0.5]])).check(1, 2)
    with pytest.raises(MessageError, match="sum to 1"):
        Predictions(round=1, sender=0, probabilities=torch.tensor([[0.5, 0.2]])).check(1, 2)
    with pytest.raises(MessageError, match="expected the parameters a"):
        Weights(round=1, sender=0, values={"b": torch.zeros(1)}).check({"a": torch.zeros(1)})
    with pytest.raises(MessageError, match=r"accuracy 1.2 is no number"):
        Weights(round=1, sender=0, values={}, accuracy=1.2).check({})


HEAD, PIXELS = {"round": 1, "sender": 0}, torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
VALID = {  # a message of every kind, and what its receiver checks it with
    "Weights": (Weights(**HEAD, values={"a": torch.zeros(2, 3)}, accuracy=1), ({"a": torch.ones(2, 3)},)),
    "Losses": (Losses(**HEAD, losses=torch.tensor([0.0, 0.7, 300.0])), (3, 2)),
    "Predictions": (Predictions(**HEAD, probabilities=torch.tensor([[0.2, 0.3, 0.5], [1, 0, 0]])), (2, 3)),
    "Aggregate": (Aggregate(**HEAD, total=torch.zeros(2, 3), clients=5), (2, 3)),
    "Chosen": (
        Chosen.pick(Losses(**HEAD, losses=torch.tensor([0.1, 0.2, 0.3])), torch.tensor([True, False, True])),
        (3, 2),
    ),
    "Examples": (Examples(**HEAD, images=PIXELS, labels=PIXELS[:, 0, 0, 0]), (8, 2)),
}


@pytest.mark.parametrize("kind", VALID)
def test_a_valid_message_of_every_kind_passes_its_check(kind):
    message, expected = VALID[kind]
    received = decode(message.encode())
    assert type(received).__name__ == kind and (received.round, received.sender) == (1, 0)
    assert not hasattr(received, "check") or received.check(*expected) is None
    core = {name for name, cls in KINDS.items() if cls.__module__ == "dml.exchange.messages"}
    assert core == set(VALID)


@pytest.mark.parametrize("total", [0.998, 1.002, 0.5, 2.0])
def test_probabilities_that_do_not_sum_to_one_are_refused_and_rounding_is_not(total):
    p = torch.tensor([[0.25, 0.25, 0.5]])
    Predictions(**HEAD, probabilities=p * 1.0005).check(1, 3)
    with pytest.raises(MessageError, match=r"do not sum to 1|outside"):
        Predictions(**HEAD, probabilities=p * total).check(1, 3)
