"""The attacks, their scores and their controls, on signals and images whose truth is known."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import roc_auc_score

from dml.data import faces
from dml.models import VisionNet
from dml.privacy import balance, inversion, membership
from dml.privacy import rates as metrics
from dml.privacy.bijection import bijection
from dml.privacy.membership import ATTACKS, Signals

TARGETS, CANDIDATES, PUBLIC = 32, 40, 20


def signals(effect: float, seed: int = 0) -> Signals:
    """Members' log-odds are higher by `effect`; public features shift with one direction a candidate."""
    rng = np.random.default_rng(seed)
    members = rng.permuted(np.tile(np.arange(CANDIDATES) < CANDIDATES // 2, (TARGETS, 1)), axis=1)
    hardness, directions = rng.normal(0, 2, CANDIDATES), rng.normal(size=(CANDIDATES, PUBLIC))
    candidates = hardness + effect * members + rng.normal(0, 0.5, members.shape)
    public = effect * members @ directions / 3 + rng.normal(size=(TARGETS, PUBLIC))
    return Signals(candidates, public, members, rng.integers(0, 2, PUBLIC))


GROUPS = np.arange(TARGETS) // 4


# -- membership -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_finds_members_where_there_is_something_to_find(attack):
    seen = signals(1.5)
    found = metrics.auc(membership.scores(attack, seen, GROUPS), seen.members)
    assert found.low > 0.5


def test_calibrated_attacks_beat_the_loss_threshold():
    """Candidates differ in hardness more than membership changes them."""
    seen = signals(1.5)
    area = {attack: metrics.area(membership.scores(attack, seen, GROUPS), seen.members) for attack in ATTACKS}
    assert min(area["LiRA online"], area["LiRA offline"]) > area["loss threshold"] + 0.1


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_finds_nothing_where_there_is_nothing(attack):
    seen = signals(0)
    found = metrics.auc(membership.scores(attack, seen, GROUPS), seen.members)
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize("attack", ["LiRA online", "RMIA", "public ridge"])
def test_permuted_membership_is_at_chance(attack):
    """What the attacker is told about the shadows is true, what it is scored by is not."""
    seen = signals(1.5)
    permuted = np.random.default_rng(1).permuted(seen.members, axis=1)
    found = metrics.auc(membership.scores(attack, seen, GROUPS), permuted)
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize("attack", ["LiRA offline", "LiRA online", "public ridge"])
def test_a_target_is_attacked_without_its_own_group(attack):
    seen = signals(1.5)
    whole = membership.scores(attack, seen, GROUPS)
    members = seen.members.copy()
    members[GROUPS == 0] = ~members[GROUPS == 0]
    lied = Signals(seen.candidates, seen.public, members, seen.labels)
    assert np.array_equal(membership.scores(attack, lied, GROUPS)[:4], whole[:4])
    assert not np.array_equal(membership.scores(attack, lied, GROUPS)[4:], whole[4:])


def test_the_strongest_attack_is_chosen_on_the_other_half():
    good = np.random.default_rng(0).normal(size=(6, 5))
    found = {"odd": np.where(np.arange(6)[:, None] % 2, good, 0), "even": np.where(np.arange(6)[:, None] % 2, 0, good)}
    chosen = membership.strongest(found, lambda scores, rows: float(np.abs(scores[rows]).sum()))
    assert np.ptp(chosen[0::2]) == 0 and np.ptp(chosen[1::2]) == 0  # the attack that is good there was chosen elsewhere


def test_fedmia_compares_a_client_with_the_others():
    rng = np.random.default_rng(0)
    rounds, clients, size = 2, 5, 12
    members = np.arange(size) < 9
    odds = rng.normal(0, 1, (rounds, rounds, clients, clients * size))
    for client in range(clients):
        odds[:, :, client, client * size : (client + 1) * size] += 2 * members
    odds[0, 1] = np.nan
    truth = np.tile(members, (rounds, clients, 1))
    found = membership.fedmia(odds)
    assert found.shape == (rounds, clients, size) and metrics.area(found, truth) > 0.75
    wrong = metrics.auc(membership.fedmia(odds, 1).reshape(10, size), truth.reshape(10, size))
    assert wrong.low < 0.5 < wrong.high


# -- rates ------------------------------------------------------------------------------------------------------------


def test_areas_are_scikit_learns_and_an_oracle_is_perfect():
    rng = np.random.default_rng(0)
    members = rng.random((9, 30)) < 0.4
    scores = rng.integers(0, 8, members.shape) + 2.0 * members  # with ties
    found = metrics.auc(scores, members)
    assert found.value == pytest.approx(roc_auc_score(members.ravel(), scores.ravel()))
    assert found.low < found.value < found.high and (found.n, found.trials) == (9, 270)
    assert metrics.auc(members.astype(float), members).low == 1
    twice = metrics.auc_difference(scores, scores, members)
    assert (twice.value, twice.low, twice.high) == (0, 0, 0)


def test_the_interval_of_an_area_covers_it_over_targets():
    """Targets differ in how much they leak; an interval over trials would be too narrow."""
    rng, covered = np.random.default_rng(3), 0
    for _ in range(60):
        members = rng.permuted(np.tile(np.arange(20) < 10, (30, 1)), axis=1)
        scores = rng.normal(size=members.shape) + rng.normal(0, 1, (30, 1)) * members
        found = metrics.auc(scores, members)
        covered += found.low <= 0.5 <= found.high
    assert covered >= 51  # 95 % of 60 is 57


def test_true_positives_at_a_false_positive_rate():
    rng = np.random.default_rng(0)
    members = rng.random((20, 50)) < 0.5
    scores = rng.integers(0, 40, members.shape) + 12.0 * members
    for fpr, found in zip((0.01, 0.1, 1), metrics.tpr(scores, members, (0.01, 0.1, 1)), strict=True):
        allowed = [t for t in np.unique(scores) if (scores[~members] >= t).mean() <= fpr]
        assert found.value == pytest.approx((scores[members] >= min(allowed)).mean())
        assert found.low <= found.value <= found.high
    assert np.isnan(metrics.tpr(scores, members, [1e-4])[0].value)  # fewer trials than that rate needs


def test_likeness_is_that_of_scikit_image():
    rng = np.random.default_rng(0)
    image = rng.random((3, 40, 40))
    other = np.clip(image + rng.normal(0, 0.1, image.shape), 0, 1)
    assert metrics.psnr(other, image) == pytest.approx(peak_signal_noise_ratio(image, other, data_range=1))
    keys = {"data_range": 1, "channel_axis": 0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert metrics.ssim(other, image) == pytest.approx(structural_similarity(image, other, **keys), abs=1e-6)
    assert metrics.ssim(image, image) == pytest.approx(1) and np.isinf(metrics.psnr(image, image))


# -- the loss and the prediction --------------------------------------------------------------------------------------


def test_the_loss_is_the_prediction_only_with_two_classes_and_one_client():
    table = bijection()
    same = table.groupby("case")["same"].all()
    assert same["two classes, float64, |logit| to 15"]
    assert same["two classes, float32 losses as received, |logit| to 15"]
    assert not same["two classes, float32 losses as received, |logit| to 30"]  # the receiver's floor
    assert not same.filter(like="three classes").any() and not same.filter(like="mean loss").any()


# -- class balance ----------------------------------------------------------------------------------------------------


def test_balance_is_inferred_from_features_that_carry_it_and_not_from_others():
    rng = np.random.default_rng(0)
    share, owner = rng.uniform(0.2, 0.8, 60), np.repeat(np.arange(12), 5)
    for signal, better in ((1.0, True), (0.0, False)):
        found = np.column_stack((signal * share + rng.normal(0, 0.05, 60), rng.normal(size=(60, 6))))
        inferred, prior = balance.infer(found, share, owner)
        gain = np.abs(prior - share).mean() - np.abs(inferred - share).mean()
        assert gain > 0.05 if better else gain < 0.02


def test_features_of_balance_lean_to_the_class_that_was_seen_more():
    labels = torch.tensor([0, 1, 0, 1])
    tables = [torch.log_softmax(torch.tensor([[0.0, lean]] * 4), 1) for lean in (-1.0, 0.0, 2.0)]
    found = balance.balance_features(tables, labels)
    assert found.shape == (3, 14) and found[:, 2].tolist() == pytest.approx([-1, 0, 2], abs=1e-5)
    assert found[:, 7:].mean(0).abs().max() < 1e-5  # relative to the clients' mean


# -- reconstruction ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    """An untrained model, and drawn faces with their labels."""
    pixels, labels = faces.draw(12, size=40, seed=5, domain="train")
    return VisionNet(40, 2, np.random.default_rng(0)), pixels.float() / 255, labels


def test_one_image_comes_back_from_one_step_of_gradient_descent(lesson):
    model, images, labels = lesson
    sent = inversion.gradient(model, images[:1], labels[:1])
    found = inversion.match(model, sent, labels[:1], 200, np.random.default_rng(0))
    mean = images[1:].mean(0)
    gain = metrics.psnr(found[0].numpy(), images[0].numpy()) - metrics.psnr(mean.numpy(), images[0].numpy())
    assert gain > 6 and found.min() >= 0 and found.max() <= 1


def test_nothing_comes_back_from_a_random_gradient(lesson):
    model, images, labels = lesson
    generator = torch.Generator().manual_seed(0)
    sent = {name: torch.randn(each.shape, generator=generator) for name, each in model.named_parameters()}
    found = inversion.match(model, sent, labels[:1], 60, np.random.default_rng(0))
    mean = images[1:].mean(0)
    assert metrics.psnr(found[0].numpy(), images[0].numpy()) < metrics.psnr(mean.numpy(), images[0].numpy()) + 1


def test_the_input_of_the_dense_layer_is_exact(lesson):
    model, images, labels = lesson
    found = inversion.dense_input(inversion.gradient(model, images[:1], labels[:1]))
    wanted = model.convolve(images[:1])[0]
    assert (found - wanted).norm() / wanted.norm() < 1e-4


def test_the_surrogate_attack_works_on_plain_gradient_descent(lesson):
    """The calibration of the attack on a round's update: several steps, one image."""
    model, images, labels = lesson
    after = inversion.descent(model, images[1:2], labels[1:2], 5)
    found = inversion.match_update(model, after, labels[1:2], 200, np.random.default_rng(0), adaptive=False)
    mean = images[2:].mean(0)
    assert metrics.psnr(found[0].numpy(), images[1].numpy()) > metrics.psnr(mean.numpy(), images[1].numpy()) + 4


def test_a_decoder_of_logits_gives_what_logits_tell(lesson):
    _, images, labels = lesson
    pairs = torch.stack((labels.float(), torch.zeros(len(labels))), 1)
    found = inversion.from_logits(pairs, images, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    for label in (0, 1):
        near, far = (
            metrics.psnr(found[label].numpy(), images[labels == k].mean(0).numpy()) for k in (label, 1 - label)
        )
        assert near > far
