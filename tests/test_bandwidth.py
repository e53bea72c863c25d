"""What is made of the ledger: sums, curves, targets, the front, the verdict; and the models beside them."""

import math

import numpy as np
import pandas as pd
import pytest

from dml.config import Experiment
from dml.evidence import bandwidth, markdown, scaling
from dml.evidence import cost_models as links
from dml.evidence.about import About
from dml.streams import SERVER

SEEDS = range(4)
UP = {"dml": 10, "dml, 1 bit": 5, "fedavg": 1000, "self": 0}
ACCURACY = {"dml": (0.80, 0.93), "dml, 1 bit": (0.80, 0.91), "fedavg": (0.917, 0.94), "self": (0.86, 0.925)}


@pytest.fixture(scope="module")
def ledger():
    """Two clients, two rounds: a set-up of 100, uploads of `UP`, answers twice as large."""
    rows = []
    for seed in SEEDS:
        for arm, size in UP.items():
            for client in (0, 1):
                rows.append((seed, arm, 0, SERVER, client, "Weights", 90, 100))
                for round in (1, 2) if size else ():
                    rows.append((seed, arm, round, client, SERVER, "Losses", size - 1, size))
                    rows.append((seed, arm, round, SERVER, client, "Aggregate", 2 * size - 1, 2 * size))
    return pd.DataFrame(rows, columns=["seed", "arm", "round", "sender", "receiver", "kind", "payload", "encoded"])


@pytest.fixture(scope="module")
def results():
    rows = []
    for seed in SEEDS:
        for arm, by_round in ACCURACY.items():
            for round, value in enumerate(by_round, 1):
                for client in (0, 1):
                    shifted = value + 0.002 * seed + (0.01, -0.01)[client]
                    rows.append((seed, arm, round, client, bandwidth.SAMPLE, shifted))
                    rows += [(seed, arm, round, client, "unseen accuracy", shifted)] if round == 2 else []
    return pd.DataFrame(rows, columns=["seed", "arm", "round", "client", "metric", "value"])


@pytest.fixture(scope="module")
def tables(results, ledger):
    coded = [("image", "PNG", 100, 300)]
    coded += [(f"weights, {encoding}", "xz", 9, 10) for encoding in ("float32", "8 bits", "top 1 %")]
    codings = pd.DataFrame(coded, columns=["what", "coding", "bytes", "plain"]).assign(n=1)
    return bandwidth.measure(results, ledger, codings, clients=2, images=9)


def test_traffic_is_what_one_client_sends_and_gets(tables):
    moved = tables.traffic.set_index(["seed", "arm", "round", "direction"])
    assert moved.loc[(0, "fedavg", 1, "up"), ["messages", "payload", "encoded"]].tolist() == [1, 999, 1000]
    assert moved.loc[(3, "dml", 2, "down"), ["messages", "payload", "encoded"]].tolist() == [1, 19, 20]
    assert moved.loc[(0, "self", 0, "down"), "encoded"] == 100 and (0, "self", 1, "up") not in moved.index


def test_curves_add_up_the_bytes_and_keep_the_set_up_apart(tables):
    mine = tables.curves[(tables.curves["arm"] == "dml") & (tables.curves["seed"] == 1)]
    assert mine["sent"].tolist() == [30, 60] and mine["setup"].tolist() == [100, 100]
    np.testing.assert_allclose(mine["accuracy"], [0.802, 0.932])  # the mean of the clients
    silent = tables.curves[tables.curves["arm"] == "self"]
    assert (silent["sent"] == 0).all() and (silent["setup"] == 100).all()


def test_a_round_needs_the_public_folds_so_far(results, ledger):
    public = pd.DataFrame(
        [(s, "dml", 0, SERVER, c, "Examples", 30, 40) for s in SEEDS for c in (0, 1) for _ in (1, 2)],
        columns=ledger.columns,
    )
    curve = bandwidth.curves(results, bandwidth.traffic(pd.concat([ledger, public]), clients=2))
    mine = curve[(curve["arm"] == "dml") & (curve["seed"] == 0)]
    assert mine["setup"].tolist() == [140, 180]  # the model, and a fold a round


def test_bytes_to_a_target_count_up_to_the_first_round_that_reaches_it(tables):
    goals = tables.targets.set_index(["arm", "target"])
    assert goals.loc[("fedavg", 0.90), ["reached", "sent", "with_setup"]].tolist() == [4, 3000, 3100]
    assert goals.loc[("dml", 0.92), ["reached", "sent"]].tolist() == [4, 60]
    partly = goals.loc[("fedavg", 0.94)]
    assert partly["reached"] == 4 and goals.loc[("dml, 1 bit", 0.92), "reached"] == 0
    assert math.isnan(goals.loc[("dml, 1 bit", 0.92), "sent"])
    assert goals.loc[("self", 0.85), ["reached", "sent"]].tolist() == [4, 0]


def test_an_arm_is_not_judged_by_its_lucky_seeds():
    rows = [(seed, "x", 1, 0.93 if seed < there else 0.5, 0, 10 * seed) for there in (3,) for seed in range(5)]
    curve = pd.DataFrame(rows, columns=["seed", "arm", "round", "accuracy", "setup", "sent"])
    goals = bandwidth.targets(curve).set_index("target")
    assert goals.loc[0.92, ["n", "reached", "sent", "least", "most"]].tolist() == [5, 3, 20, 0, 20]
    goals = bandwidth.targets(curve[curve["seed"] > 0]).set_index("target")  # 10, 20, never, never
    assert goals.loc[0.92, "reached"] == 2 and math.isnan(goals.loc[0.92, "sent"])
    assert goals.loc[0.92, "most"] == 20


def test_the_ladder_pairs_each_rung_with_what_says_more_and_each_arm_with_silence(tables):
    rungs = tables.ladder.set_index("arm")
    assert rungs.loc["dml, 1 bit", "against"] == "dml" and rungs.loc["dml", "against"] == "self"
    assert rungs.loc["dml, 1 bit", "difference"] == pytest.approx(-0.02)
    assert rungs.loc["dml", "difference"] == pytest.approx(0.005)
    assert rungs.loc["fedavg", "against"] != rungs.loc["fedavg", "against"]  # `local` did not run
    assert rungs.loc["dml", ["up", "down", "payload_up", "sent", "setup", "amortised"]].tolist() == [
        10,
        20,
        9,
        60,
        100,
        80,
    ]
    assert rungs.loc["dml", "ratio"] == 100 and math.isnan(rungs.loc["self", "ratio"])
    assert rungs["front"].to_dict() == {"dml": True, "dml, 1 bit": False, "fedavg": True, "self": True}


@pytest.mark.parametrize(
    ("cost", "value", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], [True, True, True]),
        ([1, 2, 3], [3, 2, 1], [True, False, False]),
        ([1, 1, 2], [2, 2, 2], [True, True, False]),
        ([0, 5], [0.5, 0.5], [True, False]),
    ],
)
def test_the_front(cost, value, expected):
    assert bandwidth.front(np.array(cost), np.array(value)).tolist() == expected


def test_markdown_has_a_row_an_arm_and_says_what_was_not_reached(tables):
    about = About(Experiment(), "test", "a test")
    text = markdown.bandwidth(tables.ladder, tables.targets, tables.codings, about)
    assert text.startswith("Data: a test; n = 4 seeds")
    assert all(f"\n| `{arm}` | " in text for arm in UP)
    assert "| 0 of 4 |" in text and "nan" not in text.lower()
    assert "| with our sum | `fedavg` | a round's messages | 3,000 | 30 | 100.00 |" in text


def test_one_client_of_a_thousand_gets_one_sum():
    table = scaling.scaling((2, 3, 60), images=52).set_index(["topology", "clients"])
    one, forwarded, peers = (table.loc[name] for name in ("server, one sum", "server, forwarding", "peer to peer"))
    assert one["up"].nunique() == 1 and one["down"].max() - one["down"].min() < 16  # a digit of K in the header
    assert (forwarded["down"] == (forwarded.index - 1) * forwarded["up"]).all()
    assert (peers["up"] == peers["down"]).all() and (peers["server"] == 0).all()
    assert (one["server"] == one.index * (one["up"] + one["down"])).all()
    assert forwarded["down"][2] < one["down"][2] and forwarded["down"][3] > one["down"][3]
    assert table["error"].max() < 1e-5


def test_three_classes_send_probabilities():
    two, three = (scaling.scaling((2, 5), images=52, classes=classes) for classes in (2, 3))
    assert (three[["up", "down"]] > two[["up", "down"]]).all().all() and three["error"].max() < 1e-5


def test_the_formula_is_the_measurement(tables, ledger):
    sizes = pd.DataFrame({"arm": ["dml", "fedavg"], "payload_up": [208, 40], "payload_down": [416, 40]})
    found = scaling.agreement(sizes.assign(up=400, down=600), images=52, classes=2, parameters=10)
    assert (found["formula"] == found["payload"]).all()
    assert (found["header"] == found["encoded"] - found["payload"]).all()


def test_a_secure_sum_costs_more_and_is_the_sum():
    pytest.importorskip("cryptography")
    pytest.importorskip("Crypto")
    found = scaling.secured(52)
    assert set(found["direction"]) == {"up", "down"} and found["error"].max() <= 5 * 2**-19
    assert found.set_index("message").loc["Masked", "bytes"] > 416


def test_seconds_and_joules_are_their_formulas():
    link = links.Link("x", up=1, down=2, source="")
    assert link.seconds(1_000_000, 0) == 8 and link.seconds(0, 1_000_000) == 4
    radio = links.Radio("y", up=100, down=50, base=1000, tail=3)
    assert radio.joules(link, 1_000_000, 0) == pytest.approx(8 * 1.1)
    assert radio.joules(link, 0, 1_000_000) == pytest.approx(4 * 1.1)
    table = links.costs(pd.DataFrame({"arm": ["a", "b"], "up": [10.0, 0.0], "down": [10.0, 0.0]})).set_index(
        ["arm", "link"]
    )
    assert table["seconds"]["a"].is_monotonic_decreasing is False and (table["seconds"]["b"] == 0).all()
    assert table["tail"]["a", "4G"] > 12 and table["tail"]["b", "4G"] == 0 and math.isnan(table["tail"]["a", "NB-IoT"])


def test_the_authors_estimate_is_reproduced():
    author = links.LINKS[-1]
    assert author.seconds(links.AUTHOR_JSON["all"], 0) == pytest.approx(10.9336, abs=1e-4)
    assert author.seconds(links.AUTHOR_JSON["shallow"], 0) == pytest.approx(0.3212, abs=1e-4)


def test_sizes_of_models_and_the_break_even():
    nets = links.architectures()
    assert nets["VisionNet"] == 1_862_785 and 85e6 < nets["ViT-B/16"] < 87e6
    even = links.break_even(1_862_785)
    for images, fresh in ((even["images at hand"], 0), (even["fresh images sent"], 30_001)):
        assert sum(links.losses_round(images)) + fresh * images == pytest.approx(sum(links.weights_round(1_862_785)))
    assert links.losses_round(10, classes=5) == (200, 200)
    assert links.losses_round(10, clients=4, answer="forwarding") == (40, 120)
