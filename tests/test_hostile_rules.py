"""Rules that bear liars: hand-computed, against another library, and what holds for any input."""

import math

import byzfl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dml.hostile import arms, rules

ROWS = torch.tensor([[1.0, 4.0], [2.0, 5.0], [3.0, 3.0], [0.0, 6.0], [100.0, -100.0]])  # the last one lies
VECTOR = {name: rule for name, rule in rules.VECTOR.items() if name not in ("mean", "bulyan")}
tables = arrays(np.float64, st.tuples(st.integers(7, 9), st.integers(1, 4)), elements=st.floats(-50, 50, width=16))


def test_hand_computed_values():
    assert rules.median(ROWS).tolist() == [2.0, 4.0]
    assert rules.median(ROWS[:4]).tolist() == [1.5, 4.5]
    assert rules.trimmed_mean(ROWS, 1).tolist() == [2.0, 4.0]  # of 1, 2, 3 and of 3, 4, 5
    assert rules.filtered(ROWS, 1).tolist() == [1.5, 4.5]
    # squared distances of the first row: 2 to the second, 5 to the third and 5 to the fourth
    assert rules.nearest(ROWS, 1)[:4].tolist() == [7.0, 7.0, 10.0, 10.0]
    assert rules.krum(ROWS, 1).tolist() == [1.0, 4.0]  # of equal ones the first
    assert rules.multi_krum(ROWS, 1).tolist() == [1.5, 4.5]
    line = torch.tensor([[0.0], [1.0], [5.0], [50.0]])
    assert rules.nearest_neighbours(line, 1).flatten().tolist() == [2.0, 2.0, 2.0, pytest.approx(56 / 3)]
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    torch.testing.assert_close(rules.geometric_median(triangle), torch.tensor([0.5, math.sqrt(3) / 6]))


def test_bulyan_picks_and_then_trims():
    rows = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [1000.0]])
    # Krum with f = 1 picks 2 (2 + 2 + 8 to its four nearest, with 4 + 1 + 1 + 4 = 10), and so on; 1000 is never picked
    assert 1.0 <= rules.bulyan(rows, 1).item() <= 4.0
    with pytest.raises(ValueError, match=r"bulyan with 1 liars needs 4 \* 1 \+ 3 = 7 clients or more, not 5"):
        rules.bulyan(ROWS, 1)


def test_rules_around_the_last_common_model():
    centre, x = torch.zeros(2), torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 2.0]])
    assert rules.norm_bound(x, centre).tolist() == pytest.approx([0.4, (1.6 + 1 + 2) / 3])  # the longest cut to 2
    assert rules.centred_clipping(x, centre, 1.0, steps=1).tolist() == pytest.approx([0.2, (0.8 + 1 + 1) / 3])
    root = torch.tensor([0.0, 2.0])
    trusted = rules.fltrust(torch.tensor([[0.0, 5.0], [0.0, -9.0], [1.0, 0.0]]), centre, root)
    assert trusted.tolist() == [0.0, 2.0]  # one opposes it, one is at a right angle
    assert rules.fltrust(-x, centre, root).tolist() == root.tolist()  # nobody agrees


def test_weights_in_the_sum():
    losses = torch.tensor([0.1, 0.2, 0.3, 3.9])
    weights = rules.score(losses)  # median 0.25, deviations 0.15, 0.05, 0.05, 3.65: their median is 0.1
    assert weights[3] == 0 and weights.sum().item() == pytest.approx(4)
    assert (weights[1] / weights[0]).item() == pytest.approx(math.exp(-0.1))
    assert rules.greed(losses, 1).tolist() == pytest.approx([4 / 3, 4 / 3, 4 / 3, 0])
    assert rules.score(torch.full((3,), 0.5)).tolist() == pytest.approx([1, 1, 1])
    first = rules.experts(ROWS, torch.ones(5))
    again = rules.experts(ROWS, first)
    assert first.sum().item() == pytest.approx(5) and again[4] < first[4] < 0.01 and again[0] > 1


@settings(max_examples=60, deadline=None)
@given(tables, st.randoms(use_true_random=False), st.sampled_from(sorted(VECTOR)))
def test_the_order_of_clients_is_irrelevant(x, random, name):
    rows = torch.from_numpy(x + 1e-3 * np.arange(x.size).reshape(x.shape) ** 1.5)  # no two scores are equal
    order = list(range(len(rows)))
    random.shuffle(order)
    torch.testing.assert_close(VECTOR[name](rows, 1), VECTOR[name](rows[order], 1), rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(tables, st.floats(1e3, 1e6), st.sampled_from(["median", "trimmed mean", "krum", "multi-krum", "filter"]))
def test_one_liar_cannot_pull_the_result_out_of_the_honest_range(x, far, name):
    honest = torch.from_numpy(x)
    robust = VECTOR[name](torch.cat((honest, torch.full((1, x.shape[1]), far, dtype=honest.dtype))), 1)
    assert (robust >= honest.min(0).values - 1e-9).all() and (robust <= honest.max(0).values + 1e-9).all()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(rules.REQUIRED)), st.integers(0, 6), st.integers(1, 30))
def test_more_liars_than_a_rule_bears_are_refused_with_the_arithmetic(rule, f, clients):
    factor, more = rules.REQUIRED[rule]
    if clients >= factor * f + more:
        rules.allow(rule, clients, f)
    else:
        with pytest.raises(ValueError, match=rf"{factor} \* {f} \+ {more} = {factor * f + more} .* not {clients}"):
            rules.allow(rule, clients, f)


def test_a_rule_for_each_client_alone_has_one_row_less():
    arms.check("fedavg", "krum", 5, 1)
    with pytest.raises(ValueError, match=r"2 \* 1 \+ 3 = 5 clients or more, not 4"):
        arms.check("dml", "krum", 5, 1)
    with pytest.raises(ValueError, match="rule 'score' of fedavg: choose one of mean, median"):
        arms.check("fedavg", "score", 5, 1)


# -- against another library ------------------------------------------------------------------------------------------

SAMPLE = torch.tensor(np.random.default_rng(7).normal(size=(9, 3)), dtype=torch.float64)


def ours():
    return {
        "Median": rules.median(SAMPLE),
        "TrMean": rules.trimmed_mean(SAMPLE, 2),
        "Krum": rules.krum(SAMPLE, 2),
        "NNM": rules.nearest_neighbours(SAMPLE, 2)[0],
        "CenteredClipping": rules.centred_clipping(SAMPLE, torch.zeros(3, dtype=torch.float64), 1.0, steps=4),
    }


@pytest.mark.parametrize("name", ["Median", "TrMean", "Krum", "NNM", "CenteredClipping"])
def test_the_shared_rules_are_those_of_another_library(name):
    theirs = {
        "Median": byzfl.Median(),
        "TrMean": byzfl.TrMean(f=2),
        "Krum": byzfl.Krum(f=3),  # it counts n - f - 1 neighbours where the paper has n - f - 2
        "NNM": lambda rows: byzfl.NNM(f=2)(rows)[0],
        "CenteredClipping": byzfl.CenteredClipping(L=4, tau=1.0),
    }
    np.testing.assert_allclose(ours()[name], theirs[name](SAMPLE), atol=1e-6)  # it works in float32
