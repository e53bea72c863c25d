import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import kl_div, softmax

from dml.losses import FORMS, contribution, log_probabilities, model_loss, peer_loss, without_own

logits = st.lists(st.floats(-15, 15), min_size=4, max_size=4)


def log_p(*values):
    return torch.tensor(values, dtype=torch.float64).log()


def peers_table(form, peers):
    return sum(contribution(form, peer) for peer in peers) / len(peers)


def test_hand_computed_values():
    student, peer = log_p([0.5, 0.5]), log_p([0.8, 0.2])
    table = {form: contribution(form, peer) for form in FORMS}
    forward = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)  # 0.2231
    backward = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)  # 0.1927
    assert peer_loss("student-first", student, table["student-first"]).item() == pytest.approx(forward)
    assert peer_loss("peer-first", student, table["peer-first"]).item() == pytest.approx(backward)
    assert peer_loss("one-term", student, table["one-term"]).item() == pytest.approx(0.5 * math.log(0.5 / 0.2))
    assert model_loss(log_p([0.8, 0.2]), torch.tensor([1])).item() == pytest.approx(-math.log(0.2))


def test_logits_of_two_classes_are_class_ones():
    table = log_probabilities(torch.tensor([[0.0], [math.log(3)]]))
    np.testing.assert_allclose(table.exp(), [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_finite_value_and_gradient_at_200(form):
    student = torch.tensor([[200.0], [-200.0], [200.0]], requires_grad=True)
    peer = torch.tensor([[-200.0], [200.0], [200.0]])
    loss = peer_loss(form, log_probabilities(student), contribution(form, log_probabilities(peer)))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(student.grad).all()
    assert loss[2].item() == pytest.approx(0, abs=1e-6)
    if form != "one-term":
        assert loss[0].item() == pytest.approx(200 * 2 - 200, rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(logits, min_size=3, max_size=6), st.sampled_from(["student-first", "peer-first"]))
def test_aggregate_equals_explicit_sum_over_peers(values, form):
    """float32, three classes and more, each client's own share removed from one sum."""
    tables = [log_probabilities(torch.tensor([v])) for v in values]
    total = sum(contribution(form, table) for table in tables)
    for i, student in enumerate(tables):
        peers = [t for j, t in enumerate(tables) if j != i]
        pairs = [(student, p) if form == "student-first" else (p, student) for p in peers]
        explicit = sum(kl_div(b, a, reduction="none", log_target=True).sum(-1) for a, b in pairs) / len(peers)
        exact = peer_loss(form, student, without_own(total, contribution(form, student), len(tables)))
        assert exact.item() == pytest.approx(explicit.item(), abs=1e-5, rel=1e-5)


def test_aggregate_to_1e_6_on_typical_predictions():
    rng = np.random.default_rng(0)
    tables = [log_probabilities(torch.from_numpy(rng.normal(0, 3, (200, 1)).astype(np.float32))) for _ in range(5)]
    total = torch.stack(tables).sum(0)
    for i, student in enumerate(tables):
        explicit = sum((student.exp() * (student - p)).sum(-1) for j, p in enumerate(tables) if j != i) / 4
        error = peer_loss("student-first", student, without_own(total, student, 5)) - explicit
        assert error.abs().max() < 1e-6


@settings(max_examples=50, deadline=None)
@given(logits, st.lists(logits, min_size=2, max_size=5))
def test_identity_with_the_geometric_mean(student, peers):
    """mean_j KL(P || P_j) = KL(P || G) - log Z."""
    student = log_probabilities(torch.tensor([student], dtype=torch.float64))
    mean = peers_table("student-first", [log_probabilities(torch.tensor([p], dtype=torch.float64)) for p in peers])
    g, z = softmax(mean, -1), mean.exp().sum(-1)
    divergence = (student.exp() * (student - g.log())).sum(-1) - z.log()
    assert peer_loss("student-first", student, mean).item() == pytest.approx(divergence.item(), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(logits, st.lists(logits, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_never_negative_and_blind_to_the_order_of_peers(student, peers, random):
    student = log_probabilities(torch.tensor([student], dtype=torch.float64))
    peers = [log_probabilities(torch.tensor([p], dtype=torch.float64)) for p in peers]
    shuffled = random.sample(peers, len(peers))
    for form in ("student-first", "peer-first"):
        value = peer_loss(form, student, peers_table(form, peers)).item()
        assert value >= -1e-9
        assert value == pytest.approx(peer_loss(form, student, peers_table(form, shuffled)).item(), abs=1e-9)


def test_one_term_is_smallest_at_q_over_e_and_can_be_negative():
    q = log_p([0.4, 0.6])
    p = torch.linspace(0.01, 0.99, 9801, dtype=torch.float64)
    values = peer_loss("one-term", torch.stack((1 - p, p), -1).log(), q)
    assert p[values.argmin()].item() == pytest.approx(0.6 / math.e, abs=1e-3)
    assert values.min() < 0


def test_peers_are_detached():
    student, peer = torch.zeros(1, 1, requires_grad=True), torch.ones(1, 1, requires_grad=True)
    for form in FORMS:
        peer_loss(form, log_probabilities(student), contribution(form, log_probabilities(peer))).sum().backward()
    assert student.grad.abs().sum() > 0 and peer.grad is None


def test_unknown_forms_are_named():
    with pytest.raises(ValueError, match="'sideways': choose one of student-first"):
        contribution("sideways", log_p([0.5, 0.5]))
    with pytest.raises(ValueError, match="sideways"):
        peer_loss("sideways", log_p([0.5, 0.5]), log_p([0.5, 0.5]))
    with pytest.raises(ValueError, match="two classes, not 3"):
        contribution("one-term", log_p([0.2, 0.3, 0.5]))
