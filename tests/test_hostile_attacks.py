"""What liars say: hand-computed, never refused, and with no more knowledge than they are granted."""

import math

import byzfl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dml.arms import messaging, steps
from dml.arms.catalogue import run
from dml.exchange.messages import Losses, Predictions, Weights, decode
from dml.hostile import attacks, poison
from dml.hostile.attacks import KNOWS, PREDICTIONS, WEIGHTS, View
from dml.hostile.liars import Liars, corrupt, flat, liars_of, unflat
from dml.training.memory import carry_out


def margins(scores):
    """Of two classes: class 1 over class 0."""
    return (scores[..., 1] - scores[..., 0]).tolist()


def of_margins(*values):
    return torch.tensor([[-value / 2, value / 2] for value in values], dtype=torch.float64)


@pytest.fixture
def view():
    """Three images, labels 1, 0, 1; the own margins and those of three honest clients."""
    heard = torch.stack([of_margins(2, -1, 1), of_margins(4, -3, 1), of_margins(3, -2, -2)])
    return View(of_margins(1, -2, -3), heard, torch.tensor([1, 0, 1]), None, np.random.default_rng(0))


def test_hand_computed_lies_about_images(view):
    sure = attacks.SURE
    assert margins(attacks.fixed(view)) == [-sure, -sure, -sure]
    assert margins(attacks.veto(view)) == [-sure, sure, -sure]
    assert {abs(margin) for margin in margins(attacks.random(view))} == {sure}
    assert margins(attacks.flip(view)) == [-1, 2, 3]
    assert margins(attacks.scaled_flip(view)) == [-5, 10, 15]
    assert margins(attacks.peak(view)) == pytest.approx([-math.log(9), math.log(9), math.log(9)])
    assert margins(attacks.worst_honest(view)) == [2, -1, -2]
    assert margins(attacks.inner_product(view)) == pytest.approx([-6, 4, 0])
    # mean 3, -2, 0 and deviation 1, 1, sqrt 3, away from the label
    assert margins(attacks.alie(view)) == pytest.approx([3 - 1.5, -2 + 1.5, -1.5 * math.sqrt(3)])
    assert margins(attacks.ignorant(view)) == margins(attacks.repeated(view)) == [0, 0, 0]
    halves = margins(attacks.partial_veto(View(view.own, view.heard, view.labels, None, np.random.default_rng(1))))
    assert all(margin in (own, lie) for margin, own, lie in zip(halves, [1, -2, -3], [-sure, sure, -sure], strict=True))
    last = of_margins(-4, 6)  # what peers said of images of class 0 and of class 1
    assert margins(attacks.repeated(View(view.own, view.heard, view.labels, last, view.rng))) == [6, -4, 6]


def test_more_than_two_classes():
    own = torch.tensor([[0.6, 0.3, 0.1]]).log()
    view = View(own, own[None], torch.tensor([2]), None, np.random.default_rng(0))
    torch.testing.assert_close(attacks.flip(view).exp(), torch.tensor([[0.1, 0.3, 0.6]]))
    torch.testing.assert_close(attacks.peak(view).exp(), torch.tensor([[0.05, 0.05, 0.9]]))
    assert attacks.veto(view).argmax(-1).tolist() == [0]


def test_min_max_is_as_far_as_can_hide():
    heard = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    lie = attacks.hidden(heard, torch.tensor([0.0, -1.0], dtype=torch.float64))
    # from (1, 1/3) downwards until (1, 1) is 2 away, the distance of the first two
    assert lie.tolist() == pytest.approx([1, -1])
    assert attacks.hidden(heard[:1].repeat(3, 1), torch.zeros(2, dtype=torch.float64)).tolist() == [0, 0]


def test_hand_computed_lies_about_weights():
    own, rng = torch.tensor([1.0, -2.0]), np.random.default_rng(0)
    heard = torch.tensor([[1.0, -4.0], [3.0, 0.0]])  # mean 2, -2; deviation sqrt 2, sqrt 8
    said = {name: push(own, heard, rng) for name, (_, push) in WEIGHTS.items()}
    assert said["flip"].tolist() == [-1, 2] and said["scaled"].tolist() == [10, -20]
    assert said["inner product"].tolist() == [-4, 4]
    assert said["alie"].tolist() == pytest.approx([2 - 1.5 * math.sqrt(2), -2 + 1.5 * math.sqrt(8)])
    assert said["noise"].norm().item() == pytest.approx(math.sqrt(5)) and not torch.equal(said["noise"], own)
    span = (heard[0] - heard[1]).norm()
    assert max((said["min-max"] - row).norm() for row in heard).item() == pytest.approx(span.item(), rel=1e-5)


def test_the_shared_attacks_are_those_of_another_library():
    heard = torch.tensor(np.random.default_rng(3).normal(size=(5, 4)))
    inner = attacks.inner_product_update(heard[0], heard, None)
    np.testing.assert_allclose(inner, byzfl.InnerProductManipulation(tau=2.0)(heard), atol=1e-6)
    negative = -heard.abs()  # so that theirs, mean + tau * deviation, is against the sign of the mean as well
    np.testing.assert_allclose(
        attacks.alie_update(heard[0], negative, None), byzfl.ALittleIsEnough(tau=1.5)(negative), atol=1e-6
    )


# -- on the wire -------------------------------------------------------------------------------------------------------

said = arrays(np.float32, 20, elements=st.floats(2**-20, 60, width=32))


@pytest.fixture(scope="module")
def fed(tiny, pictures):
    from dml.arms.federation import Federation

    return Federation(tiny, pictures, 0)


@settings(max_examples=40, deadline=None)
@given(own=said, others=said, attack=st.sampled_from(sorted(PREDICTIONS)))
def test_no_lie_about_images_is_refused(fed, own, others, attack):
    count, wire = len(fed.folds.public[0]), Liars(fed, attack, 1)

    def losses(sender, values):
        return Losses(round=1, sender=sender, losses=torch.from_numpy(np.resize(values, count).copy()))

    for sender, values in ((0, others), (1, own)):
        wire(sender, losses(sender, values).encode())
    lie = decode(wire(2, losses(2, own).encode()))
    messaging.check(fed, losses(2, own), lie)
    assert isinstance(lie, Losses)


def test_lies_in_class_probabilities_are_believed_too(fed):
    count = len(fed.folds.public[0])
    message = Predictions(round=1, sender=2, probabilities=torch.full((count, 2), 0.5))
    lie = decode(Liars(fed, "veto", 1)(2, message.encode()))
    lie.check(count, 2)
    labels = messaging.public_labels(fed, 1)
    assert lie.probabilities.gather(1, labels[:, None]).max() < 1e-12


def test_honest_messages_pass_untouched_and_only_the_last_clients_lie(federation):
    fed = federation()
    corrupt(fed, "veto", 1)
    assert list(liars_of(fed, 2)) == [1, 2]
    run("dml", fed)
    assert fed.refusals == []
    message = Losses(round=1, sender=0, losses=torch.ones(2)).encode()
    assert fed.wire(0, message) == message


def test_a_weight_attack_starts_from_the_last_common_model(federation):
    fed = federation()
    corrupt(fed, "flip", 1)
    carry_out(steps.pretrain(fed))
    messaging.hand_out(fed)
    common = flat(fed.server.parameters())
    fed.clients[2].load({name: value + 0.5 for name, value in fed.server.parameters().items()})
    (lie,) = messaging.upload(fed, [messaging.weights(fed, fed.clients[2], 1)])
    torch.testing.assert_close(flat(lie.values), common - 0.5, atol=1e-5, rtol=0)
    down = {name: value + 1 for name, value in fed.server.parameters().items()}
    messaging.broadcast(fed, Weights(round=1, sender=-1, values=down))
    (lie,) = messaging.upload(fed, [messaging.weights(fed, fed.clients[2], 2)])
    torch.testing.assert_close(flat(lie.values), common + 1.5, atol=1e-5, rtol=0)


def test_vectors_become_the_same_parameters_again(federation):
    values = federation().server.parameters()
    again = unflat(flat(values), values)
    assert all(torch.equal(again[name], value) for name, value in values.items())


@pytest.mark.parametrize(
    ("attack", "liars", "knowledge", "said"),
    [
        ("lie", 1, "all", "attack 'lie': choose one of random"),
        ("veto", 3, "all", "3 liars: 0 to 2"),
        ("alie", 1, "own", "alie has to know all, and may know own"),
        ("flip", 1, "nothing", "flip has to know own"),
        ("alie", 2, "all", "at least two honest"),
        ("veto", 1, "much", "knowledge 'much': choose one of nothing"),
    ],
)
def test_attacks_that_cannot_be_are_refused(federation, attack, liars, knowledge, said):
    with pytest.raises(ValueError, match=said):
        corrupt(federation(), attack, liars, knowledge)


def test_an_attack_says_where_it_is_none(federation):
    fed = federation()
    corrupt(fed, "veto", 1)
    with pytest.raises(ValueError, match="veto is no attack on Weights messages"):
        run("fedavg", fed)


def test_every_attack_says_what_it_knows():
    assert {knows for knows, _ in (*PREDICTIONS.values(), *WEIGHTS.values())} == set(KNOWS)


# -- on training -------------------------------------------------------------------------------------------------------


def test_label_flip_changes_the_liars_labels_alone(federation):
    fed, honest = federation(), federation()
    corrupt(fed, "label flip", 1)
    for round_index in fed.rounds():
        mine = fed.private(round_index, fed.clients[2])
        assert torch.equal(fed.labels[mine], 1 - honest.labels[mine])
        for fold in (fed.private(round_index, fed.clients[0]), fed.folds.public[round_index - 1]):
            assert torch.equal(fed.labels[fold], honest.labels[fold])
    assert torch.equal(fed.train, honest.train)


def test_a_backdoor_marks_half_of_the_liars_images(federation):
    fed, honest = federation(), federation()
    corrupt(fed, "backdoor", 1)
    mine = np.concatenate([fed.private(round_index, fed.clients[2]) for round_index in fed.rounds()])
    marked = (fed.train[mine] != honest.train[mine]).flatten(1).any(1)
    assert 0.2 < marked.float().mean() < 0.8
    assert (fed.train[mine][marked][:, -3:, -3:] == 255).all() and (fed.labels[mine][marked] == poison.TARGET).all()
    others = np.setdiff1d(np.arange(len(fed.train)), mine)
    assert torch.equal(fed.train[others], honest.train[others])


def test_the_success_of_a_trigger_counts_images_of_other_classes(federation):
    fed = federation()
    for bias, expected in ((5.0, 0.0), (-5.0, 1.0)):  # a model that says class 1, or class 0, of everything
        with torch.no_grad():
            for parameter in fed.server.model.parameters():
                parameter.zero_()
            fed.server.model.dense2.bias.fill_(bias)
        assert poison.success(fed, fed.server) == expected


def test_lies_are_drawn_anew_each_round_and_for_each_liar_and_are_the_same_again(federation):
    fed = federation()

    def lie(sender, round_index):
        message = Losses(round=round_index, sender=sender, losses=torch.ones(len(fed.folds.public[round_index - 1])))
        return Liars(fed, "random", 2).lie(message).losses[:8].tolist()

    assert lie(1, 1) == lie(1, 1)
    assert len({tuple(lie(sender, round_index)) for sender in (1, 2) for round_index in (1, 2)}) == 4
