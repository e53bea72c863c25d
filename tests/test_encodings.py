"""The ladder of encodings: what survives it, what it weighs, and what a receiver refuses."""

import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dml.exchange import encodings
from dml.exchange.encodings import ANSWER, ENCODINGS, pack, pack_bits, unpack, unpack_bits
from dml.exchange.envelope import payload_of
from dml.exchange.messages import Aggregate, Chosen, Examples, Losses, MessageError, Predictions, Weights, decode

COUNTS = {"float32": 208, "float16": 104, "8 bits": 52, "4 bits": 26, "1 bit": 7}  # bytes of 52 losses
floats = arrays(np.float32, st.integers(1, 60), elements=st.floats(-20, 20, width=32))


def losses(values=None, round=1):
    values = torch.linspace(0.01, 9, 52) if values is None else torch.as_tensor(values)
    return Losses(round=round, sender=2, losses=values)


@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=40))
def test_cells_pack_into_as_few_bytes_as_there_are_and_back(bits, values):
    cells = (np.array(values, int) % 2**bits).astype(np.uint8)
    packed = pack_bits(cells, bits)
    assert len(packed) == -(-len(cells) * bits // 8)
    assert (unpack_bits(packed, bits, len(cells)) == cells).all()


@pytest.mark.parametrize("encoding", COUNTS)
def test_bytes_of_a_public_fold_are_what_the_formula_says(encoding):
    data = losses().encode(encoding)
    assert payload_of(data) == COUNTS[encoding]
    assert len(data) - payload_of(data) < 250


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 15, width=32)), st.sampled_from([8, 4, 1]))
def test_a_quantised_loss_is_a_probability_within_half_a_cell(values, bits):
    name = "1 bit" if bits == 1 else f"{bits} bits"
    back = decode(losses(values).encode(name))
    p, q = np.exp(-values), np.exp(-back.losses.numpy())
    assert np.abs(p - q).max() <= 0.5 / 2**bits + 1e-6
    assert (back.losses > 0).all() and torch.isfinite(back.losses).all()  # never a certainty, so never a veto
    assert torch.equal(decode(back.encode(name)).losses, back.losses)  # encoding what was decoded changes nothing


def test_one_bit_says_right_or_wrong():
    back = decode(losses([0.1, 3.0]).encode("1 bit"))
    np.testing.assert_allclose(back.losses.exp(), [1 / 0.75, 1 / 0.25], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(floats, st.sampled_from([8, 4, 1]))
def test_numbers_of_any_range_come_back_within_half_a_cell_of_it(values, bits):
    name = "1 bit" if bits == 1 else f"{bits} bits"
    back = unpack(pack(torch.from_numpy(values), name, "range"), values.shape, name, "range")
    assert np.abs(back.numpy() - values).max() <= np.ptp(values) / 2 ** (bits + 1) * 1.001 + 1e-5


@settings(max_examples=40, deadline=None)
@given(floats)
def test_top_share_keeps_the_largest_and_nonzero_keeps_all(values):
    tensor = torch.from_numpy(values)
    top = unpack(pack(tensor, "top 1 %", "range"), values.shape, "top 1 %", "range")
    assert np.count_nonzero(top) <= max(1, round(0.01 * len(values))) and top.abs().max() == tensor.abs().max()
    assert torch.equal(unpack(pack(tensor, "nonzero", "range"), values.shape, "nonzero", "range"), tensor)


MESSAGES = {
    "losses": losses(),
    "predictions": Predictions(round=1, sender=0, probabilities=torch.full((9, 3), 1 / 3)),
    "sum": Aggregate(
        round=1, sender=-1, total=-torch.rand(9, 2, generator=torch.Generator().manual_seed(0)), clients=3
    ),
    "weights": Weights(round=1, sender=0, values={"a": torch.eye(3), "b": torch.tensor(2.0), "c": torch.zeros(0, 4)}),
    "chosen": Chosen.pick(losses(), torch.arange(52) % 2 == 0),
    "examples": Examples(
        round=0,
        sender=-1,
        images=torch.full((2, 3, 18, 18), 7, dtype=torch.uint8),
        labels=torch.tensor([0, 1], dtype=torch.uint8),
    ),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_survives_every_encoding_in_kind_and_shape(name, encoding):
    message = MESSAGES[name]
    back = decode(message.encode(encoding))
    assert type(back) is type(message) and back.round == message.round and back.sender == message.sender
    for key, tensor in message.tensors().items():
        assert back.tensors()[key].shape == tensor.shape and back.tensors()[key].dtype == tensor.dtype
        if key in message.dtypes or encoding in ("float32", "nonzero"):
            assert torch.equal(back.tensors()[key], tensor)


def test_the_answer_is_never_coarser_than_what_it_answers():
    assert set(ANSWER) == set(ENCODINGS) - {"nonzero"}
    for up, down in ANSWER.items():
        weight = [payload_of(losses().encode(name)) for name in (up, down)]
        assert weight[1] >= weight[0]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([(n, e) for n in MESSAGES for e in ENCODINGS]), st.data())
def test_a_damaged_message_is_refused_or_reads_as_numbers_and_never_crashes(which, data):
    name, encoding = which
    good = MESSAGES[name].encode(encoding)
    how = data.draw(st.sampled_from(["cut", "flip", "insert"]))
    place = data.draw(st.integers(0, len(good) - 1))
    if how == "cut":
        bad = good[:place]
    elif how == "flip":
        bad = good[:place] + bytes([good[place] ^ data.draw(st.integers(1, 255))]) + good[place + 1 :]
    else:
        bad = good[:place] + data.draw(st.binary(min_size=1, max_size=9)) + good[place:]
    try:
        found = decode(bad)
    except MessageError as refusal:
        assert str(refusal)
    else:  # a flipped number is still a number; a receiver's `check` judges it
        assert how == "flip"
        assert all(torch.isfinite(tensor).all() for tensor in found.tensors().values())


def rewritten(data: bytes, change) -> bytes:
    """The message with its header's facts changed by `change`."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["dml"])
    change(facts)
    header["__metadata__"]["dml"] = json.dumps(facts)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


LIES = {
    "unknown encoding": (lambda facts: facts.update(encoding="zip"), "unknown encoding 'zip'"),
    "no encoding's name": (lambda facts: facts.update(encoding=[1]), "unknown encoding"),
    "no shapes": (lambda facts: facts.pop("shapes"), "no shapes by name"),
    "a list of shapes": (lambda facts: facts.update(shapes=[52]), "no shapes by name"),
    "a negative edge": (lambda facts: facts.update(shapes={"losses": [-52]}), "no shapes by name"),
    "a fraction": (lambda facts: facts.update(shapes={"losses": [5.2]}), "no shapes by name"),
    "another length": (lambda facts: facts.update(shapes={"losses": [60]}), "52 bytes for 60 numbers"),
    "a bomb": (lambda facts: facts.update(shapes={"losses": [2**40, 2**40]}), "at most"),
    "another tensor": (lambda facts: facts.update(shapes={"loss": [52]}), 'no part ""'),
    "another coarseness": (lambda facts: facts.update(encoding="4 bits"), "52 bytes for 52 numbers of 4 bits"),
    "another type": (lambda facts: facts.update(encoding="float16"), "uint8"),
    "a sum": (lambda facts: facts.update(kind="Aggregate", clients=2), 'no part "range"'),
    "plain": (lambda facts: (facts.pop("encoding"), facts.pop("shapes")), "expected torch.float32"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_does_not_fit_its_numbers_is_refused_with_the_reason(lie):
    change, reason = LIES[lie]
    with pytest.raises(MessageError, match=reason):
        decode(rewritten(losses().encode("8 bits"), change))


BAD_PARTS = {
    "indices out of order": ("top 1 %", {"": np.ones(2, np.float32), "index": np.array([3, 1], np.int32)}, "rise"),
    "an index twice": ("top 1 %", {"": np.ones(2, np.float32), "index": np.array([1, 1], np.int32)}, "rise"),
    "an index too far": ("nonzero", {"": np.ones(1, np.float32), "index": np.array([8], np.int32)}, "below 8"),
    "a negative index": ("nonzero", {"": np.ones(1, np.float32), "index": np.array([-1], np.int32)}, "below 8"),
    "more values than indices": ("nonzero", {"": np.ones(2, np.float32), "index": np.array([1], np.int32)}, "expected"),
    "a range of NaN": ("8 bits", {"": np.zeros(8, np.uint8), "range": np.full(2, np.nan, np.float32)}, "not finite"),
    "a range upside down": ("8 bits", {"": np.zeros(8, np.uint8), "range": np.array([1, 0], np.float32)}, "before"),
    "no range": ("8 bits", {"": np.zeros(8, np.uint8)}, 'no part "range"'),
    "bits to spare": ("1 bit", {"": np.array([255, 1], np.uint8), "range": np.zeros(2, np.float32)}, "2 bytes"),
    "infinite": ("float16", {"": np.full(8, np.inf, np.float16)}, "not finite"),
}


@pytest.mark.parametrize("case", BAD_PARTS)
def test_parts_that_no_sender_makes_are_refused(case):
    encoding, parts, reason = BAD_PARTS[case]
    with pytest.raises(ValueError, match=reason):
        encodings.ENCODINGS[encoding].unpack(parts, 8, "range")


def test_stray_bits_and_too_much_of_everything_are_refused():
    with pytest.raises(ValueError, match="after the last number"):
        unpack_bits(np.array([0b10000001], np.uint8), 1, 4)
    chosen = Chosen(round=1, sender=0, losses=torch.ones(3), sent=torch.tensor([0b11100001], dtype=torch.uint8))
    with pytest.raises(MessageError, match="after the last number"):
        chosen.check(4, 2)
    with pytest.raises(MessageError, match="expected \\[4\\]"):
        Chosen(round=1, sender=0, losses=torch.ones(3), sent=torch.tensor([0b11110000], dtype=torch.uint8)).check(4, 2)


def test_examples_are_checked():
    good = MESSAGES["examples"]
    good.check(18, 2)
    for bad, size in (({"labels": torch.tensor([0, 2], dtype=torch.uint8)}, 18), ({}, 20)):
        with pytest.raises(MessageError):
            Examples(**{"round": 0, "sender": -1, **good.tensors(), **bad}).check(size, 2)
