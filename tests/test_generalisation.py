"""The supersample, the two gaps and the bounds on them: by hand where numbers are small, else by algebra."""

import json
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from dml.data.images import load
from dml.files import DataError
from dml.generalisation import federations
from dml.generalisation.bounds import estimates, evaluate, information
from dml.generalisation.gaps import Cells, Losses, errors, out_of_sample, participation
from dml.generalisation.supersample import Design, balanced, draw

DESIGN = Design(pairs=2, rows=6, public=4, label_alpha=1.0, repeats=2)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load("faces", size=20, train_count=300, unseen_count=2, cache=tmp_path_factory.mktemp("cache"))


# -- who trains on what -----------------------------------------------------------------------------------------------


def test_every_vector_is_run_as_often_as_another(images):
    vectors = draw(images, DESIGN, 2, 0).vectors
    assert sorted(map(tuple, vectors)) == sorted(2 * [(0, 0), (0, 1), (1, 0), (1, 1)])
    assert DESIGN.runs == len(vectors) == 8


@settings(max_examples=25, deadline=None)
@given(pairs=some.integers(2, 5), rows=some.integers(1, 7), repeats=some.integers(1, 3), seed=some.integers(0, 99))
def test_masks_are_balanced_in_every_row_whether_a_client_takes_part_or_not(pairs, rows, repeats, seed):
    vectors = np.tile([[(run >> pair) & 1 for pair in range(pairs)] for run in range(2**pairs)], (repeats, 1))
    masks = balanced(vectors, rows, np.random.default_rng(seed))
    half = repeats * 2 ** (pairs - 2)
    for pair in range(pairs):
        for member in (0, 1):
            there = vectors[:, pair] == member
            assert (masks[there, pair, member].sum(0) == half).all() and there.sum() == 2 * half
            assert (masks[~there, pair, member].sum(0) == half).all()


def test_masks_differ_from_row_to_row_and_come_back_with_the_seed():
    vectors = np.array([[run >> pair & 1 for pair in range(5)] for run in range(32)])
    first, again, other = (balanced(vectors, 36, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
    assert len({first[:, 0, 0, row].tobytes() for row in range(36)}) > 30


@pytest.mark.parametrize("run", range(8))
def test_a_ghost_is_in_no_fold_and_every_chosen_image_in_one(images, run):
    made = draw(images, DESIGN, 3, 0)
    folds = made.folds(run, 3)
    trained = np.sort(np.concatenate([fold for dealt in folds.private for fold in dealt]))
    expected = [
        ((pair * 2 + member) * 6 + row) * 2 + made.masks[run, pair, member, row]
        for pair, member in enumerate(made.vectors[run])
        for row in range(6)
    ]
    assert trained.tolist() == sorted(expected) and len(folds.private) == 3
    for pair, member in enumerate(made.vectors[run]):  # in its own client's hands
        own = np.concatenate([dealt[pair] for dealt in folds.private])
        assert set(own // 12) == {pair * 2 + member} and len(own) == 6
    side = np.concatenate((folds.pretrain, *folds.public))
    assert side.tolist() == list(range(48, 48 + 4 * 4))  # no cell of anybody
    labels = made.images.train.labels.numpy()
    assert all(labels[fold].sum() == 2 for fold in (folds.pretrain, *folds.public))


def test_no_image_is_twice_in_a_draw_and_a_class_that_runs_out_is_named(images):
    made = draw(images, DESIGN, 2, 3)
    files = made.images.train.files
    assert len(set(files)) == len(files) == 48 + 3 * 4
    assert torch.equal(made.images.unseen.images, made.images.train.images[:48])
    index = {name: place for place, name in enumerate(images.train.files)}
    places = [index[name] for name in files]
    assert torch.equal(made.images.train.labels, images.train.labels[places])
    with pytest.raises(DataError, match=r"has 150 training images; this draw needs \d+"):
        draw(images, replace(DESIGN, rows=60), 2, 0)


def test_clients_differ_by_the_dirichlet_and_are_alike_without(images):
    skewed, alike, more = (draw(images, replace(DESIGN, label_alpha=alpha), 2, 5) for alpha in (1.0, None, 0.1))
    assert (alike.mixtures == 0.5).all() and np.ptp(skewed.mixtures[..., 0]) > 0.1
    assert (np.abs(more.mixtures - 0.5) > np.abs(skewed.mixtures - 0.5)).all()  # the same draw, further apart
    assert skewed.mixtures.sum(-1) == pytest.approx(1) and (skewed.masks == alike.masks).all()
    many = draw(images, replace(DESIGN, rows=12), 2, 5)
    shares = many.images.unseen.labels.numpy().reshape(4, -1).mean(1)
    assert np.abs(shares - many.mixtures[..., 1].ravel()).max() < 0.3


def test_a_design_that_cannot_be_is_refused():
    for wrong in ({"pairs": 1}, {"pairs": 10}, {"rows": 0}, {"repeats": 0}):
        with pytest.raises(ValueError, match="give 2 to 9 pairs"):
            replace(DESIGN, **wrong)


# -- one federation ---------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(images, small, monkeypatch):
    """The record of run 3 of an arm."""
    monkeypatch.setattr(federations.jobs, "same_images", lambda *_: images)

    def measure(arm):
        experiment = DESIGN.experiment(small)
        return json.loads(federations.measure("", "", experiment, DESIGN, 0, arm, 3, "cpu")[0])

    return measure


def test_the_losses_of_a_run_are_those_of_its_nets_and_the_same_bytes_again(images, small, measured):
    first, again = measured("dml"), measured("dml")
    assert {**first, "cpu_s": 0} == {**again, "cpu_s": 0}
    own = federations.numbers([first["own_losses"]], (2, 6, 2))[0]
    nets = federations.numbers([first["net_losses"]], (2, 2, 6, 2))[0]
    made = draw(images, DESIGN, small.rounds, 0)
    vector, masks = made.vectors[3], made.masks[3]
    assert set(own.ravel()) <= {0, 1} and set(nets.ravel()) <= {0, 1, 2}
    trained, ghosts, newcomers = [], [], []
    for pair, member in enumerate(vector):
        for row in range(6):
            column = masks[pair, member, row]
            trained.append(own[pair, row, column])
            ghosts.append(own[pair, row, 1 - column])
            newcomers.append(nets[pair, 1 - member, row, 1 - masks[pair, 1 - member, row]] / 2)
            assert 0 <= nets[pair, member, row, 0] - own[pair, row, 0] <= 1  # its own net is one of the two
    told = first["0/1"]
    assert [told["trained"], told["ghosts"], told["newcomers"]] == pytest.approx(
        [np.mean(trained), np.mean(ghosts), np.mean(newcomers)]
    )
    assert all(value > 0 for value in first["log"].values())


def test_averaging_leaves_one_net_for_everybody(measured):
    told = measured("fedavg")
    assert set(told["net_losses"]) <= {"0", "2"}


# -- gaps by hand -----------------------------------------------------------------------------------------------------

HAND = Losses(  # two pairs, one row; runs 00, 01, 10, 11; client 0 of each pair trains column 0 first, then column 1
    own=np.array([[[[0, 1]], [[0, 0]]], [[[1, 0]], [[0, 1]]], [[[1, 1]], [[0, 1]]], [[[0, 0]], [[0, 0]]]]),
    wrong=np.array(
        [
            [[[[0, 1]], [[2, 2]]], [[[0, 0]], [[1, 2]]]],
            [[[[1, 0]], [[2, 0]]], [[[0, 1]], [[1, 1]]]],
            [[[[2, 1]], [[1, 1]]], [[[0, 2]], [[0, 0]]]],
            [[[[1, 2]], [[0, 0]]], [[[2, 1]], [[1, 0]]]],
        ]
    ),
    vectors=np.array([[0, 0], [0, 1], [1, 0], [1, 1]]),
    masks=np.array(
        [[[[0], [0]], [[0], [0]]], [[[1], [1]], [[1], [0]]], [[[0], [0]], [[1], [1]]], [[[1], [1]], [[0], [1]]]]
    ),
)


def test_the_gaps_of_a_table_worked_out_by_hand():
    # run, pair: trained column, its loss, the ghost's; the ghost of the client that is absent, in halves
    #  0, 0: 0 0 1  2      0, 1: 0 0 0  2
    #  1, 0: 1 0 1  2      1, 1: 0 0 1  0 (column 0 of client 0)
    #  2, 0: 0 1 1  1      2, 1: 1 1 0  0
    #  3, 0: 1 0 0  1      3, 1: 1 0 0  1
    assert errors(HAND)["trained"].tolist() == [0, 0, 1, 0]
    assert errors(HAND)["ghosts"].tolist() == [0.5, 1, 0.5, 0]
    assert errors(HAND)["newcomers"].tolist() == [1, 0.5, 0.25, 0.5]
    assert out_of_sample(HAND).gap == pytest.approx(2 / 4 - 1 / 4)
    assert participation(HAND).gap == pytest.approx(2.25 / 4 - 2 / 4)
    # asked in the same way: ghosts of those that take part, in halves: 1 0, 1 1, 1 0, 0 1
    assert participation(HAND, common=True).gap == pytest.approx(2.25 / 4 - (0.25 + 0.5 + 0.25 + 0.25) / 4)


def test_cells_hold_each_client_and_each_pair_by_itself():
    inside, outside = out_of_sample(HAND), participation(HAND)
    assert inside.bits.shape == inside.zero.shape == (2, 2, 2) and outside.one.shape == (2, 1, 4)
    assert inside.bits.tolist() == [[[0, 1], [0, 1]], [[0, 1], [0, 1]]]
    assert (inside.one - inside.zero).tolist() == [[[1, -1], [0, 0]], [[0, 1], [1, 0]]]
    assert outside.bits.tolist() == [[[0, 0, 1, 1]], [[0, 1, 0, 1]]]
    assert (outside.one - outside.zero).tolist() == [[[0, 0, 0.5, -0.5]], [[1, 1, 0, -0.5]]]
    assert outside.zero.tolist() == [[[1, 1, 0.5, 0.5]], [[0, 0, 0, 0.5]]]  # a client that is absent: by the chance
    assert inside.trained == 0.25


# -- information and bounds -------------------------------------------------------------------------------------------


def coded(codes):
    """The chances of outcomes that are certain."""
    return [codes == value for value in np.unique(codes)]


def test_information_of_tables_that_are_known():
    bits = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]])
    codes = np.array([[5, 5, 7, 7], [5, 7, 5, 7], [5, 6, 7, 7]])
    assert information(bits, coded(codes)) == pytest.approx([log(2), 0, log(2)])
    half = information(np.array([0, 0, 1, 1]), coded(np.array([0, 1, 0, 0])))
    assert half == pytest.approx(log(2) - 0.75 * (-(1 / 3) * log(1 / 3) - (2 / 3) * log(2 / 3)))
    chance = np.array([0.5, 0.5, 0, 0])  # as if each draw were two, one with the outcome and one without
    assert information(np.array([0, 0, 1, 1]), [chance, 1 - chance]) == pytest.approx(half)


def test_every_form_of_a_net_that_knows_its_images_by_heart():
    """Right on what it trained and wrong on every ghost: the gap is 1, and the information ln 2."""
    bits = np.tile([0, 1], 8).reshape(1, 1, 16)
    found = evaluate(Cells(bits, bits, 1 - bits, 1, 0.0))
    assert found["root"] == pytest.approx((2 * log(2)) ** 0.5)
    assert found["variance"] == pytest.approx((4 * log(2)) ** 0.5)
    assert found["fast"] == pytest.approx(log(2) + ((log(2) + 2) * log(2)) ** 0.5)
    assert found["zero"] == pytest.approx(1) and found["binary"] == pytest.approx(1)


def test_who_is_asked_tells_nothing_by_itself():
    """One net against the mean of several, none better on anybody: as numbers they differ, as answers they do not."""
    vectors = np.tile([0, 1], 2000)
    rng = np.random.default_rng(0)
    own, several = rng.random(4000) < 0.3, rng.binomial(5, 0.3, 4000) / 5
    zero, one = np.where(vectors, several, own), np.where(vectors, own, several)
    found = evaluate(Cells(*(values.reshape(1, 1, -1) for values in (vectors, zero, one)), 1))
    assert found["root"] < 0.05
    as_numbers = information(vectors, coded(one - zero))
    assert (2 * as_numbers) ** 0.5 > 0.3


def test_nothing_known_is_nothing_bounded():
    nothing = np.zeros((1, 1, 4), int)
    found = evaluate(Cells(np.array([[[0, 1, 0, 1]]]), nothing, nothing, 1, 0.25))
    assert [found[form] for form in ("root", "variance", "fast", "binary")] == pytest.approx([0, 0, 0, 0], abs=1e-9)
    assert np.isnan(found["zero"])  # some trained images are wrong


@settings(max_examples=60, deadline=None)
@given(
    losses=arrays(np.int64, (2, 3, 2, 8), elements=some.integers(0, 1)),
    order=some.permutations(range(8)),
)
def test_with_balanced_masks_every_estimate_is_above_the_gap_whatever_was_learned(losses, order):
    """So "the bound held" is no finding: it is true of any losses at all."""
    zero, one = losses
    bits = np.broadcast_to(np.argsort(order) % 2, zero.shape)
    cells = Cells(bits, zero, one, 3, float(np.where(bits, one, zero).mean()))
    for of in (cells, cells.pooled()):
        found = evaluate(of)
        assert min(found["root"], found["variance"], found["fast"]) >= abs(cells.gap) - 1e-9
        assert found["binary"] >= cells.gap - 1e-9
        assert np.isnan(found["zero"]) or found["zero"] >= cells.gap - 1e-9


@settings(max_examples=40, deadline=None)
@given(fifths=arrays(np.int64, (2, 4, 1, 8), elements=some.integers(0, 5)))
def test_the_same_of_the_participation_gap_whose_losses_are_chances(fifths):
    cells = Cells(np.broadcast_to([0, 1] * 4, (4, 1, 8)), *(fifths / 5), 1)
    for of in (cells, cells.pooled()):
        found = evaluate(of)
        assert min(found["root"], found["variance"], found["fast"]) >= abs(cells.gap) - 1e-9
        assert np.isnan([found["binary"], found["zero"]]).all()  # no image is trained on


def coin(gap, seed=0, shape=(40, 2, 16)):
    """Cells whose difference has this mean toward the ghost, and is 0 in nine of ten draws but for that."""
    rng = np.random.default_rng(seed)
    bits = rng.permuted(np.broadcast_to(np.arange(shape[-1]) % 2, shape), axis=-1)
    noise = rng.choice([-1, 0, 0, 0, 0, 0, 0, 0, 0, 1], shape)
    difference = np.where(rng.random(shape) < gap, 1 - 2 * bits, noise)
    return Cells(bits, (difference < 0).astype(int), (difference > 0).astype(int), 5)


def test_at_chance_the_estimate_is_its_floor_and_with_a_gap_it_is_above():
    def rows(gap):
        table = estimates(coin(gap), np.random.default_rng(1)).set_index(["way", "form"])
        return table["value"], table["floor"]

    value, floor = rows(0)
    assert value["cellwise", "root"] == pytest.approx(floor["cellwise", "root"], rel=0.1)
    assert value["cellwise", "root"] > 0.15  # of nothing at all: the noise of sixteen draws
    assert value["pooled", "root"] < 0.1
    value, floor = rows(0.3)
    assert value["pooled", "measured"] == pytest.approx(0.3, abs=0.05)
    assert value["pooled", "root"] > 3 * floor["pooled", "root"]
    assert floor["pooled", "measured"] < 0.05


def test_whole_runs_are_permuted_and_a_partys_rows_together():
    cells = coin(0.3)
    mixed = cells.permuted(np.random.default_rng(4))
    assert (mixed.bits.sum(-1) == cells.bits.sum(-1)).all() and (mixed.bits != cells.bits).any()
    for party in range(5):
        for given_ in (0, 1):
            before = cells.bits[8 * party : 8 * party + 8, given_].T.tolist()
            after = mixed.bits[8 * party : 8 * party + 8, given_].T.tolist()
            assert sorted(before) == sorted(after)
    assert mixed.one is cells.one and mixed.zero is cells.zero
