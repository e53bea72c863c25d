"""What is said of many clients: by hand, from small tables."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dml.crowd import costs
from dml.crowd.cells import Cell
from dml.evidence import crowd, crowd_cost, crowd_page, crowd_text
from dml.evidence.predictions import BETWEEN, MARGIN, answered
from dml.plots import crowd as plots
from dml.studies import crowd as study
from dml.studies import crowd_cost as cost_study

COST = {"turn": 0, "on_disk": False, "size": 28, "fold": 24, "parameters": 1000, "processor": "x", "look_s": 0.0}


def rows(arm, count, values, share=1.0, one_public=False, size=None, turns=4):
    """A row a client: `values` are [seed][client]; `count` clients, of whom so many were run by themselves (`size`)."""
    for seed, of_clients in enumerate(values):
        for client, value in enumerate(of_clients):
            key = ("faces", seed, arm, size or count, 4, share, True, one_public)
            yield (*key, client, value, 1.0, 0.1, turns, client)


def table(*parts):
    return pd.DataFrame([row for part in parts for row in part], columns=study.CLIENTS)


def test_arms_that_hear_nobody_count_the_clients_that_are_there():
    made = table(
        rows("dml", 2, [[0.6, 0.8], [0.5, 0.5]]),
        rows("dml", 1000, [[0.9, 0.9, 0.6], [0.7, 0.7, 0.7]]),
        rows("self", 3, [[0.5, 0.7, 0.9], [0.4, 0.4, 0.7]]),
    )
    values = crowd.by_seed(made)
    assert values.loc[(*crowd.EVERYBODY, 2, 0)].to_dict() == pytest.approx({"dml": 0.7, "self": 0.6})
    assert values.loc[(*crowd.EVERYBODY, 1000, 1)].to_dict() == pytest.approx({"dml": 0.7, "self": 0.5})
    gains = crowd.gains(made).set_index("clients")["mean"]
    assert gains.to_dict() == pytest.approx({2: (0.1 + 0.1) / 2, 1000: (0.1 + 0.2) / 2})


def test_a_run_of_too_few_clients_does_not_stand_for_more():
    made = table(rows("dml", 3, [[0.6, 0.8, 0.7]]), rows("self", 2, [[0.5, 0.7]]))
    assert "self" not in crowd.by_seed(made) or crowd.by_seed(made)["self"].isna().all()


def test_predictions_end_as_held_failed_or_open():
    noise = np.random.default_rng(0).normal(0, 0.0005, 8)

    def seeds(mean):
        return [[mean + one] for one in noise]

    def told(growth, smoother):
        made = table(
            rows("dml", 5, seeds(0.70)),
            rows("dml", 1000, [[0.70 + growth + one * 1.5] for one in noise]),
            rows("self", 50, seeds(0.65)),
            rows("smoothing", 1000, [[0.70 + growth - smoother]] * 8),
            rows("fedavg", 1000, [[0.9]] * 8),
        )
        return [answer for answer, _ in answered(crowd.predictions(made)).values()]

    assert told(0.005, 0.001) == ["held"] * 3 + ["not run"] * 3
    assert told(-0.02, 0.03)[:2] == ["failed"] * 2
    assert told(0.01, 0.01)[:2] == ["open"] * 2  # a point is neither within nor beyond it


def test_a_prediction_fails_by_the_other_sign_and_not_because_zero_is_likely():
    near, above = (pd.Series([mean - 0.001, mean, mean + 0.001]) for mean in (0.0, 0.02))
    assert crowd.OneSided("", "above zero", near).p[1] == 1.0 and crowd.OneSided("", "below zero", above).p[1] < 0.01
    expected = stats.ttest_1samp(above, 0.01, alternative="less").pvalue
    assert crowd.OneSided("", BETWEEN, above).p[0] == pytest.approx(expected)
    assert crowd.MARGIN == MARGIN  # by which they are judged


@pytest.fixture
def whole(tmp_path):
    """Three seeds of fifty clients in both settings, and what they cost."""
    arms = {"fedavg": (0.80, 0.87), "dml": (0.79, 0.69), "self": (0.77, 0.68), "local+public": (0.80, 0.70)}
    made = table(
        *(
            rows(arm, 50, [[mean + (slope if arm == "dml" else 1) * seed / 1000] for seed in range(3)], share=share)
            for arm, means in arms.items()
            for share, mean, slope in zip((1.0, 0.1), means, (2, 3), strict=True)
        )
    )
    keys = ["data", "seed", "arm", "clients", "rounds", "share", "kept", "one_public"]
    spent = {"up": 10.0, "down": 20.0, "setup": 1000.0, "server_in": 1, "server_out": 1, "cpu_s": 2.0, "look_s": 0.5}
    runs = made[keys].drop_duplicates().assign(float32_error=2e-7, **spent)
    (tmp_path / "crowd").mkdir()
    made.to_csv(tmp_path / "crowd" / "clients.csv.gz", index=False)
    runs.to_csv(tmp_path / "crowd" / "costs.csv", index=False)
    return tmp_path


def test_the_page_tells_pairs_what_changes_between_settings_and_bytes_of_a_run(whole, monkeypatch):
    told = crowd_page.text(whole)
    assert "| 50 | -0.90 [-1.15, -0.65] (3) |" in told and "log loss of DML minus `fedavg`'s" in told
    assert "| P5 | **open** |" in told and "any run (K = 50), of an entry" in told and "under 1e-06): **open**." in told
    assert "`fedavg` +7.00 [+7.00, +7.00]; `dml` -9.90 [-10.15, -9.65]; `local+public` -10.00" in told
    assert "| `dml` | 10 % | 50 | 10 | 20 | 1,000 | 1,012 |" in told  # 4 rounds, 0.4 turns of 30 bytes
    monkeypatch.setattr(crowd_page, "complete", lambda _: True)
    told = crowd_page.text(whole)
    assert "| P5 | **held** |" in told and "): **held**." in told
    costs = pd.read_csv(whole / "crowd" / "costs.csv")
    costs.assign(float32_error=2e-6).to_csv(whole / "crowd" / "costs.csv", index=False)
    assert "): **failed**." in crowd_page.text(whole)
    costs.assign(float32_error=np.nan).to_csv(whole / "crowd" / "costs.csv", index=False)
    assert "P7" not in crowd_page.text(whole)


def test_a_run_of_a_tenth_is_told_with_its_bytes(whole):
    said = crowd_text.expectation(whole)
    assert "of 50, a round and the run with its set-up. All a round: DML 30 and 1,120, FedAvg 30 and 1,120." in said
    assert "10 % a round: DML 30 and 1,012" in said and "DML minus public labels alone, in points: -0.90 [" in said


def test_one_seed_decides_nothing():
    made = table(rows("dml", 1000, [[0.1]]), rows("fedavg", 1000, [[0.9]]))
    assert crowd.predictions(made)["P3"][0].found.mean == pytest.approx(-0.8)
    assert {answer for answer, _ in answered(crowd.predictions(made)).values()} == {"not run"}


def measured(seconds, megabytes):
    """A table of cost: functions of K."""
    return pd.DataFrame(
        {**COST, "arm": "dml", "clients": count, "local_s": seconds(count), "public_s": seconds(count)}
        | {"between_s": 0.0, "before_mb": 500.0, "peak_mb": 500 + megabytes(count)}
        for count in (10, 100, 1000)
    )


def test_slopes_and_megabytes_by_hand():
    linear = measured(lambda count: 0.02 * count, lambda count: 1.5 * count)
    found = {one.cost: one.slope for one in crowd_cost.slopes(linear)}
    assert found == pytest.approx({"seconds": 1, "refine_ms": 0, "state_mb": 1}, abs=1e-9)
    assert crowd_cost.megabytes_a_client(linear) == pytest.approx((1.5, 12_000 / 2**20))
    assert crowd_cost.flat(linear) == pytest.approx(1)
    square = {one.cost: one.slope for one in crowd_cost.slopes(measured(lambda k: k**2, lambda k: k))}
    assert square["seconds"] == pytest.approx(2) and square["refine_ms"] == pytest.approx(1)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Two seeds of a small plan, computed for real."""
    planned = study.plan()
    base = replace(planned.bases["faces"], train_images=200, unseen_images=40, epochs=1, size=20)
    cells = (
        Cell("dml", 3, 2),
        Cell("fedavg", 3, 2),
        Cell("self", 3, 2),
        Cell("dml", 3, 2, 0.5),
        Cell("fedavg", 3, 2, 0.5),
    )
    small = study.Plan({"faces": base}, 8, 0.01, (study.Grid("faces", range(200, 203), cells),))
    monkeypatch.setattr(study, "plan", lambda: small)
    monkeypatch.setattr(crowd_text, "plan", lambda: small)
    monkeypatch.setattr("dml.config.CACHE", tmp_path / "cache")
    return tmp_path


def test_a_study_goes_on_where_it_stopped_and_is_told(recorded, no_workers, monkeypatch):
    to = recorded / "studies"
    assert crowd_text.on_record(to)[0] == crowd_text.NOTHING
    study.carry_out([200], to=to)
    assert crowd_text.expectation(to) == ""
    study.carry_out([201, 200], to=to)
    clients, costs = (pd.read_csv(to / "crowd" / name) for name in ("clients.csv.gz", "costs.csv"))
    assert len(costs) == 10 and costs["seed"].tolist() == [200] * 5 + [201] * 5
    assert len(clients) == 30 and not clients.duplicated([*study.KEY, "client"]).any()
    assert (clients.loc[clients["arm"] == "fedavg"].groupby(["seed", "share"])["accuracy"].nunique() == 1).all()
    monkeypatch.setattr(study.jobs, "carry_out", lambda missing: [pytest.fail("computed again") for _ in missing])
    before = (to / "crowd" / "costs.csv").read_bytes()
    study.carry_out([200, 201], to=to)
    assert (to / "crowd" / "costs.csv").read_bytes() == before
    said = crowd_text.expectation(to)
    dml = clients[(clients["arm"] == "dml") & (clients["share"] == 1)].groupby("seed")["accuracy"].mean().mean()
    assert f"3 clients, all a round: DML {100 * dml:.1f}" in said and "Interim" in said and "nan" not in said
    told, gap = (
        crowd_text.brief(to),
        clients[clients["share"] == 1].groupby(["seed", "arm"])["accuracy"].mean().unstack(),
    )
    assert (
        f"3 clients {100 * (gap['dml'] - gap['fedavg']).mean():+.2f} [" in told
        and "kept images (interim): drawn faces, 3 clients" in told
    )
    page = crowd_page.text(to)
    assert "Interim" in page and "Fewer than three seeds: P1" in page and "| never |" in page and "nan" not in page
    drawn = plots.by_clients(clients, "drawn faces, a test")
    assert (
        set(drawn.table["panel"]) == {"accuracy", "difference"} and "DML, all a round: n = 2 at K = " in drawn.caption
    )


def test_cost_is_measured_once_and_told(tmp_path, monkeypatch):
    points = [
        cost_study.Point("dml", count, 20, 4, on_disk, 0)
        for count, on_disk in ((2, False), (3, False), (4, False), (3, True))
    ]
    monkeypatch.setattr(cost_study, "points", lambda: points)
    monkeypatch.setattr(costs, "alone", costs.measure)  # in this process
    cost_study.carry_out(tmp_path)
    found = pd.read_csv(tmp_path / "crowd-cost" / "costs.csv")
    assert found["clients"].tolist() == [2, 3, 3, 4] and (found["peak_mb"] >= found["before_mb"]).all()
    assert (found["client_epochs"] == 1 + 2 * found["clients"]).all() and (found["public_s"] > 0).all()
    monkeypatch.setattr(costs, "alone", lambda *about: pytest.fail("measured again"))
    cost_study.carry_out(tmp_path)
    page = crowd_page.text(tmp_path)
    assert "3 clients of the 20-pixel network in a memory-mapped file" in page
    assert "Slopes" in plots.cost(found, "a test").caption


@pytest.mark.parametrize(("system", "most"), [("linux", 300.0 * 1024), ("darwin", 300.0)])
def test_the_most_memory_is_in_megabytes_on_every_system(system, most, monkeypatch):
    monkeypatch.setattr(costs, "_status", lambda name: 0.0)
    monkeypatch.setattr(costs.sys, "platform", system)
    monkeypatch.setattr(costs.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=300 * 1024**2))
    assert costs.peak() == most


def test_the_verdict_speaks_of_the_largest_crowd_with_two_seeds_once_the_study_is_complete(tmp_path, monkeypatch):
    folder = tmp_path / "crowd"
    folder.mkdir()
    made = table(
        rows("dml", 5, [[0.7], [0.71]]),
        rows("fedavg", 5, [[0.8], [0.82]]),
        rows("dml", 1000, [[0.7]]),
        rows("fedavg", 1000, [[0.9]]),
    )
    made.to_csv(folder / "clients.csv.gz", index=False)
    assert crowd_text.verdict(tmp_path) == []
    more = table(rows("dml", 1000, [[], [0.7]]), rows("fedavg", 1000, [[], [0.9001]]))
    pd.concat([made, more]).to_csv(folder / "clients.csv.gz", index=False)
    (row,) = crowd_text.verdict(tmp_path)
    assert row["short"].startswith("interim, ") and row["open"] == "FedAvg" and row["refuted"] == ""
    monkeypatch.setattr(crowd_text, "complete", lambda _: True)
    (row,) = crowd_text.verdict(tmp_path)
    assert "1,000 clients" in row["short"] and "n = 2" in row["short"] and row["refuted"] == "FedAvg"


def test_the_readme_tells_of_the_most_clients_with_the_most_seeds_and_of_the_most(tmp_path):
    made = table(
        *(rows(arm, 20, [[by], [by + 0.01], [by + 0.02]]) for arm, by in (("dml", 0.7), ("fedavg", 0.8))),
        *(rows(arm, 50, [[by], [by + 0.01], [by]]) for arm, by in (("dml", 0.7), ("fedavg", 0.75))),
        *(rows(arm, 300, [[by], [by]]) for arm, by in (("dml", 0.7), ("fedavg", 0.72))),
        *(rows(arm, 1000, [[by]]) for arm, by in (("dml", 0.7), ("fedavg", 0.72))),
        *(rows(arm, 100, [[by], [by]], share=0.1) for arm, by in (("dml", 0.6), ("fedavg", 0.9))),
    )
    (tmp_path / "crowd").mkdir()
    made.to_csv(tmp_path / "crowd" / "clients.csv.gz", index=False)
    told = crowd_text.brief(tmp_path)
    assert told.startswith(
        "DML minus FedAvg, kept images (interim): drawn faces, 50 clients -5.00 [-5.00, -5.00] (3); "
    )
    assert "; 300 below (2); 100, a tenth a round, -30.00 [-30.00, -30.00] (2)." in told
    some = made[(made["clients"] <= 50) & (made["share"] == 1)].assign(data="facemask")
    pd.concat([made, some]).to_csv(tmp_path / "crowd" / "clients.csv.gz", index=False)
    told = crowd_text.brief(tmp_path)
    assert ": photographs, 20 clients -10.00 [-10.00, -10.00], 50 -5.00 [-5.00, -5.00] (3). Drawn faces, " in told
    photographs = made[(made["clients"] == 20) | (made["clients"] == 300)].assign(data="facemask")
    pd.concat([made[made["clients"] < 300], photographs]).to_csv(tmp_path / "crowd" / "clients.csv.gz", index=False)
    told = crowd_text.brief(tmp_path)
    assert ": photographs, 20 clients -10.00 [-10.00, -10.00] (3). Drawn faces, 50 clients " in told
    assert told.count("clients") == 2 and "below" not in told
