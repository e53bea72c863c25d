"""The secure sum: it is the plain sum, it survives dropouts, and it gives nobody's table away."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

pytest.importorskip("cryptography")  # both come with the optional packages for Flower
Shamir = pytest.importorskip("Crypto.Protocol.SecretSharing").Shamir

from dml.exchange.messages import FLOOR, MessageError, decode  # noqa: E402
from dml.exchange.secure.masks import LOWEST, MOST, SEED, STEP, Inbox, Survivors, from_fixed, rows, self_mask, to_fixed  # noqa: E402
from dml.exchange.secure.server import Adder, Member, TooFewMembers, secure_sum, threshold  # noqa: E402


def tables(clients, images=7, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.uniform(np.log(FLOOR), 0, (images, classes))).float() for _ in range(clients)]


def plain(tables):
    return torch.stack(list(tables)).double().sum(0)


class Sum:
    """A protocol run by hand up to a stage: 1 after the keys, 2 after the shares, 3 after the tables."""

    def __init__(self, clients, stage, silent=(), own=None):
        self.tables = own or tables(clients)
        self.members = [Member(1, index, clients) for index in range(clients)]
        self.adder = Adder(1, clients, tuple(self.tables[0].shape))
        for member in self.members:
            self.adder.receive(member.advertise())
        self.roster = self.adder.roster()
        if stage > 1:
            for member in self.members:
                self.adder.receive(member.share(self.roster))
            self.inboxes = self.adder.inboxes()
        if stage > 2:
            for member, table in zip(self.members, self.tables, strict=True):
                if member.index not in silent:
                    self.adder.receive(member.mask(self.inboxes[member.index], table))
            self.survivors = self.adder.survivors()


@pytest.mark.parametrize(("clients", "images", "classes"), [(2, 1, 2), (3, 52, 2), (5, 52, 2), (20, 3, 7)])
def test_the_sum_is_the_plain_sum(clients, images, classes):
    own = tables(clients, images, classes)
    outcome = secure_sum(own)
    assert outcome.members == tuple(range(clients)) and outcome.total.shape == (images, classes)
    assert (outcome.total - plain(own)).abs().max() <= clients * STEP / 2
    assert torch.equal(outcome.total, secure_sum(own).total)  # the keys and the masks were other ones


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, (3, 4), elements=st.floats(LOWEST, 0)))
def test_fixed_point_is_off_by_half_a_step_at_most(values):
    table = torch.from_numpy(values)
    assert (from_fixed(to_fixed(table)) - table).abs().max() <= STEP / 2


def test_the_largest_sum_does_not_wrap():
    largest = to_fixed(torch.full((1, 1), LOWEST, dtype=torch.float64))
    assert MOST * int(largest[0, 0]) < 2**32
    total = np.sum([largest] * MOST, axis=0, dtype=np.uint32)
    assert from_fixed(total).item() == pytest.approx(MOST * LOWEST, abs=MOST * STEP / 2)


@pytest.mark.parametrize("value", [1e-6, -16.3, float("nan"), float("-inf")])
def test_a_value_outside_the_range_is_an_error_and_changes_nothing(value):
    run = Sum(3, stage=2)
    bad = run.tables[0].clone()
    bad[2, 1] = value
    before = run.members[0].to_bytes()
    with pytest.raises(ValueError, match="not all in"):
        run.members[0].mask(run.inboxes[0], bad)
    assert run.members[0].to_bytes() == before


@pytest.mark.parametrize(
    "sends", [{0: 0}, {4: 1}, {2: 2}, {3: 3}, {0: 0, 4: 1}, {1: 1, 2: 2}, {0: 2, 4: 2}, {0: 2, 1: 3}, {0: 3, 4: 3}]
)
def test_dropouts_leave_the_sum_of_the_tables_that_came(sends):
    own = tables(5)
    outcome = secure_sum(own, sends)
    came = [index for index in range(5) if sends.get(index, 4) > 2]
    assert outcome.members == tuple(came)
    assert (outcome.total - plain(own[index] for index in came)).abs().max() <= len(came) * STEP / 2


@pytest.mark.parametrize(("stage", "kind"), list(enumerate(["Keys", "Shares", "Masked", "Reveal"])))
def test_below_the_threshold_there_is_no_sum(stage, kind):
    with pytest.raises(TooFewMembers, match=f"2 of 5 clients sent {kind}; 3 are needed"):
        secure_sum(tables(5), {0: stage, 1: stage, 3: stage})


def test_a_client_refuses_too_small_a_company():
    few = {"members": torch.tensor([0, 1], dtype=torch.int32)}
    run = Sum(5, stage=1)
    with pytest.raises(MessageError, match="2 clients are fewer than the 3"):
        run.members[0].share(replace(run.roster, **few, keys=run.roster.keys[:2]))
    run = Sum(5, stage=2)
    with pytest.raises(MessageError, match="1 clients are fewer than the 2"):
        run.members[0].mask(
            replace(run.inboxes[0], peers=run.inboxes[0].peers[:1], sealed=run.inboxes[0].sealed[:1]), 0
        )
    run = Sum(5, stage=3)
    with pytest.raises(MessageError, match="2 clients are fewer than the 3"):
        run.members[0].unmask(replace(run.survivors, **few))


def test_a_client_tells_one_kind_of_share_only():
    run = Sum(5, stage=3)
    first = run.members[0].unmask(run.survivors)
    other = Survivors(round=1, sender=-1, members=torch.tensor([0, 1, 2], dtype=torch.int32))
    for again in (other, run.survivors):
        with pytest.raises(MessageError, match="out of turn"):
            run.members[0].unmask(again)
    assert first.shares.shape == (5, SEED)
    assert all(2 * threshold(clients) > clients for clients in range(2, MOST + 1))  # nor do two halves hear two lies


def test_a_client_masks_one_table_only():
    run = Sum(3, stage=2)
    run.members[0].mask(run.inboxes[0], run.tables[0])
    with pytest.raises(MessageError, match="out of turn"):
        run.members[0].mask(run.inboxes[0], run.tables[0] / 2)


def test_a_masked_table_is_noise():
    """The same constant table many times: no two cells alike, and its bytes are uniform (chi-square)."""
    own = [torch.full((400, 2), -1.0)] * 3
    sums = [Sum(3, stage=3, own=own) for _ in range(20)]
    masked = [run.adder.received[2][0].table.numpy().view(np.uint32) for run in sums]
    assert len(np.unique(masked)) > 0.999 * np.size(masked)
    for byte in np.stack(masked).view(np.uint8).reshape(-1, 4).T:
        assert stats.chisquare(np.bincount(byte, minlength=256)).pvalue > 1e-6
    other = np.stack(masked[:10]).astype(float).ravel(), np.stack(masked[10:]).astype(float).ravel()
    assert abs(stats.pearsonr(*other).statistic) < 0.06  # 5 standard errors of 8,000 pairs


def test_one_share_too_few_unmasks_nothing():
    """All that the server ever has, but from t - 1 clients: the joined seed is wrong and the table stays noise."""
    run = Sum(5, stage=3)
    shares = [(member.index + 1, member.unmask(run.survivors).shares[0].numpy().tobytes()) for member in run.members]
    masked = run.adder.received[2][0].table.numpy().view(np.uint32)
    shape, seed = masked.shape, Shamir.combine(shares[:3])
    assert seed == Shamir.combine(shares[2:]) != Shamir.combine(shares[:2])
    for known in (seed, Shamir.combine(shares[:2])):  # even b itself does not show a table without the pairwise masks
        assert (from_fixed(masked - self_mask(known, shape)) - run.tables[0]).abs().max() > 20


def test_a_late_table_of_a_client_declared_silent_stays_hidden():
    """Its pairwise masks are removed by then; double masking is for this."""
    run = Sum(3, stage=3, silent={2})
    late = run.members[2].mask(run.inboxes[2], run.tables[2])
    for member in run.members[:2]:
        run.adder.receive(member.unmask(run.survivors))
    with pytest.raises(MessageError, match="expected Reveal"):
        run.adder.receive(late)
    assert (run.adder.total() - plain(run.tables[:2])).abs().max() <= 2 * STEP / 2


def test_state_survives_between_messages():
    own, adder = tables(4), Adder(3, 4, (7, 2))
    states = [Member(3, index, 4).to_bytes() for index in range(4)]

    def step(act):
        for index, state in enumerate(states):
            member = Member.from_bytes(state)
            adder.receive(decode(act(member).encode()))
            states[index] = member.to_bytes()

    step(lambda member: member.advertise())
    roster = adder.roster()
    step(lambda member: member.share(roster))
    inboxes = adder.inboxes()
    step(lambda member: member.mask(inboxes[member.index], own[member.index]))
    survivors = adder.survivors()
    step(lambda member: member.unmask(survivors))
    assert (adder.total() - plain(own)).abs().max() <= 4 * STEP / 2
    assert b'"seeds": {}' in states[0] and b'"held": {}' in states[0]  # nothing secret is left behind


@pytest.mark.parametrize("state", [b"", b"[]", b"{}", b'{"seeds": 1}', b'{"seeds": {"b": "xy"}}', b"\x80\x04N."])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(ValueError):
        Member.from_bytes(state)


def test_a_log_shows_no_secret():
    member = Member(1, 0, 3)
    assert member.seeds["b"].hex() not in repr(member) and str(member.seeds["b"]) not in repr(member)


def test_every_message_round_trips_and_every_truncation_is_refused():
    run = Sum(3, stage=3)
    sent = [*(stage[0] for stage in run.adder.received[:3]), run.roster, run.inboxes[0], run.survivors]
    for message in [*sent, run.members[0].unmask(run.survivors)]:
        data = message.encode()
        back = decode(data)
        assert type(back) is type(message) and back.encode() == data and message.nbytes == len(data)
        for end in range(0, len(data), 7):
            with pytest.raises(MessageError):
                decode(data[:end])


def test_altered_shares_are_refused_by_the_receiver():
    run = Sum(3, stage=2)
    for column in (0, 20, 59):  # the nonce, the shares, the tag
        bad = run.inboxes[0].sealed.clone()
        bad[1, column] ^= 1
        with pytest.raises(MessageError, match="from client 2 were altered"):
            run.members[0].mask(replace(run.inboxes[0], sealed=bad), run.tables[0])
    swapped = replace(run.inboxes[0], sealed=run.inboxes[1].sealed)  # sealed for client 1
    with pytest.raises(MessageError, match="were altered or sealed for somebody else"):
        run.members[0].mask(swapped, run.tables[0])


@pytest.mark.parametrize("silent", [(), (1,)])
def test_an_altered_reveal_does_not_become_a_wrong_sum(silent):
    run = Sum(3, stage=3, silent=silent)
    for member in run.members:
        if member.index not in silent:
            reveal = member.unmask(run.survivors)
            reveal.shares[1, 5] ^= member.index == 0
            run.adder.receive(reveal)
    with pytest.raises(MessageError, match="shares of client 1 do not join"):
        run.adder.total()


def test_the_server_refuses_what_does_not_fit():
    run, adder = Sum(3, stage=1), Adder(1, 3, (7, 2))
    keys = run.members[0].advertise()
    adder.receive(keys)
    for bad, reason in [
        (keys, "has sent its Keys already"),
        (replace(keys, sender=3), "no part in this stage"),
        (replace(keys, sender=[1]), "no part in this stage"),
        (replace(keys, sender=1, round=2), "round 2, expected 1"),
        (replace(keys, sender=1, keys=keys.keys[:1]), r"keys has shape \[1, 32\]"),
        (run.roster, "a Roster message, expected Keys"),
    ]:
        with pytest.raises(MessageError, match=reason):
            adder.receive(bad)
    with pytest.raises(RuntimeError, match="not the stage"):
        adder.inboxes()
    shares = run.members[0].share(run.roster)
    with pytest.raises(MessageError, match="expected some of"):
        run.adder.receive(replace(shares, peers=torch.tensor([0, 1], dtype=torch.int32)))
    with pytest.raises(MessageError, match="table has shape"):
        masking = Sum(3, stage=2)
        masking.adder.receive(masking.members[0].mask(masking.inboxes[0], torch.zeros(6, 2)))


def test_a_client_refuses_what_does_not_fit():
    run = Sum(3, stage=1)
    roster, keys = run.roster, run.roster.keys.clone()
    keys[2] = keys[1]
    weak = torch.cat((roster.keys[:2], torch.zeros(1, 2, 32, dtype=torch.uint8)))
    weak[2, 0, 0] = 1  # both points are of low order
    for bad, reason in [
        (replace(roster, keys=roster.keys.flip(0)), "does not have the keys of client 0"),
        (replace(roster, keys=keys), "two keys in the roster are the same"),
        (replace(roster, keys=weak), "unusable public key"),
        (replace(roster, members=torch.tensor([0, 0, 1], dtype=torch.int32)), "each once and in order"),
        (replace(roster, members=torch.tensor([0, 1, 9], dtype=torch.int32)), "expected some of"),
        (replace(roster, sender=2), "not the server"),
        (replace(roster, round=2), "round 2, expected 1"),
        (run.members[1].advertise(), "a Keys message, expected Roster"),
    ]:
        with pytest.raises(MessageError, match=reason):
            run.members[0].share(bad)
    empty = Inbox(round=1, sender=-1, peers=torch.zeros(0, dtype=torch.int32), sealed=rows([b""]))
    with pytest.raises(MessageError, match="out of turn"):
        run.members[0].mask(empty, run.tables[0])
    for clients, index in ((1, 0), (3, 3), (3, -1), (MOST + 1, 0)):
        with pytest.raises(ValueError, match="can sum"):
            Member(1, index, clients)


def test_bytes_of_each_stage():
    nbytes = secure_sum(tables(5, 52), {4: 1}).nbytes
    sent = {kind: len(each) for kind, each in nbytes.items()}
    assert sent == {"Keys": 5, "Roster": 4, "Shares": 4, "Inbox": 4, "Masked": 4, "Survivors": 4, "Reveal": 4}
    assert 52 * 2 * 4 < nbytes["Masked"][0] < 52 * 2 * 4 + 200  # a number costs what it costs unmasked
