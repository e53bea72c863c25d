"""How many liars a method bears: the tables of the studies read, hand-computed on made-up ones."""

import numpy as np
import pandas as pd
import pytest

from dml.evidence import expectations, hostile, hostile_page, hostile_panels
from dml.plots import style
from dml.plots.hostile import by_liars
from dml.plots.rules import by_rule
from dml.stats import interval
from dml.studies.hostile import KEYS

SEEDS = range(20, 26)


def results(**accuracy):
    """One row a seed: dml with 0, 1 and 2 liars, and the arm that hears nobody."""
    rows = []
    for seed in SEEDS:
        wobble = 0.001 * (seed % 3)
        cells = [("local+public", "mean", 1e-7, 0, "", 0.90), ("dml", "mean", 0.02, 0, "", 0.94)]
        cells += [("dml", "mean", 0.02, int(f[1:]), "veto", value) for f, value in accuracy.items()]
        for arm, rule, clip, f, attack, value in cells:
            noise = wobble if arm == "dml" else -wobble
            rows.append((seed, arm, 5, f, attack, rule, 0, clip, True, 0.0, "accuracy", value + noise))
    return pd.DataFrame(rows, columns=[*KEYS, "metric", "value"])


def test_losses_and_what_cooperating_is_behind():
    rows = hostile.differences(results(f1=0.91, f2=0.80)).set_index("liars")
    assert rows["mean"].tolist() == pytest.approx([0.941, 0.911, 0.801])
    assert rows["lost"].tolist() == pytest.approx([0, 0.03, 0.14])
    assert rows["behind"].tolist() == pytest.approx([-0.042, -0.012, 0.098])
    own = interval(np.array([0.8 + 0.001 * (seed % 3) for seed in SEEDS]))
    assert (rows.loc[2, "low"], rows.loc[2, "high"]) == pytest.approx((own.low, own.high))
    assert rows["n"].tolist() == [6, 6, 6] and rows["attack"].tolist() == ["", "veto", "veto"]


@pytest.mark.parametrize(("second", "expected"), [(0.80, 2), (0.91, None)])
def test_break_even_is_the_fewest_liars_at_which_hearing_nobody_is_better(second, expected):
    assert hostile.break_even(hostile.differences(results(f1=0.92, f2=second))) == expected


def test_a_difference_that_may_be_chance_is_no_break_even():
    table = results(f1=0.92, f2=0.90)
    liars = table["liars"] == 2
    table.loc[liars, "value"] = 0.897 + 0.02 * np.array([1, -1, 1, -1, 1, -1])  # behind on average, surely not
    assert hostile.break_even(hostile.differences(table)) is None


def test_unlabelled_cells_are_another_question():
    table = results(f1=0.92)
    other = table[table["arm"] == "dml"].assign(labels=False, value=0.1)
    both = hostile.differences(pd.concat([table, other]))
    pd.testing.assert_frame_equal(both, hostile.differences(table))


def test_the_page_says_what_is_on_record(tmp_path):
    assert hostile_page.text(tmp_path).count(hostile.NOTHING) == 8
    (tmp_path / "hostile-veto").mkdir()
    results(f1=0.92, f2=0.80).to_csv(tmp_path / "hostile-veto" / "results.csv", index=False)
    page = hostile_page.text(tmp_path)
    assert "**Interim, decides nothing**: 6 of 20 seeds" in page
    assert "| 0 liars | 1 liar | 2 liars | break-even | n |" in page
    (line,) = [line for line in page.splitlines() if line.startswith("| `dml`")]
    assert line.startswith("| `dml` |  | 0.02 | veto | 94.1 [94.0, 94.2] | 92.1") and line.endswith("| 2 | 6 |")
    assert "nan" not in page


def test_the_relatives_stand_beside_the_veto_of_the_same_seeds(tmp_path):
    veto = results(f1=0.92, f2=0.80)
    own = veto[(veto["arm"] == "dml") & (veto["seed"] < 24)].assign(clip=1e-7)
    nets = own[own["liars"] > 0].assign(arm="def-kt", metric="infected", value=2.0 - (own["seed"] % 2))
    own = pd.concat([own.assign(arm=arm) for arm in ("fedmd", "def-kt")] + [nets])
    for name, table in (("hostile-veto", veto), ("hostile-relatives", own)):
        (tmp_path / name).mkdir()
        table.to_csv(tmp_path / name / "results.csv", index=False)
    joined = hostile.recorded("hostile-relatives", tmp_path)
    assert set(joined["seed"]) == set(range(20, 24)) and set(joined["arm"]) == {
        "dml",
        "fedmd",
        "def-kt",
        "local+public",
    }
    page = hostile_page.text(tmp_path).partition("### The same lie")[2]
    assert "4 of 10 seeds" in page and "| `fedmd` |  |  | veto | 94.1" in page
    assert "`def-kt` with 1 liar: 1.50 [0.58, 2.42] of the 4 honest clients" in page
    assert "`def-kt` with 2 liars: 1.50 [0.58, 2.42] of the 3 honest clients" in page
    lines = set(by_liars(joined, "a test").table["line"])
    assert {"FedMD", "Def-KT", "DML, clipped"} <= lines


def test_the_figure_draws_every_line_and_the_level_of_who_hears_nobody():
    drawn = by_liars(results(f1=0.92, f2=0.80), "a test")
    lines = drawn.table.groupby("line")["liars"].agg(list).to_dict()
    assert lines == {"DML, clipped": [0, 1, 2], "Local + public labels": [0]}
    assert "n = 6 seeds." in drawn.caption and "below 0.02" in drawn.caption


def veto(seeds, **taken):
    """A study in which a liar takes so much of each clip, and the clip costs `price`."""
    cells = [("local+public", 1e-7, 0, 0.9), ("dml", 1e-7, 0, 0.93), ("dml", 0.02, 0, 0.93 - taken["price"])]
    cells += [("dml", 1e-7, 1, 0.93 - taken["plain"]), ("dml", 0.02, 1, 0.93 - taken["price"] - taken["clipped"])]
    rows = [
        (seed, arm, 5, f, "veto" if f else "", "mean", 0, clip, True, 0.0, "accuracy", value + 0.002 * (seed % 3) * f)
        for seed in seeds
        for arm, clip, f, value in cells
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "metric", "value"])


def test_a_liar_is_borne_by_the_rule_of_the_plan(tmp_path):
    assert hostile.judged(tmp_path) == []
    file = tmp_path / "hostile-veto" / "results.csv"
    file.parent.mkdir()
    veto(range(20, 40), plain=0.6, clipped=0.02, price=0.003).to_csv(file, index=False)
    published, clipped = hostile.judged(tmp_path)
    assert (published["claim"], published["system"], clipped["system"]) == ("O1", "as published", "clipped")
    assert published["refuted"] and not published["held"] + published["open"]
    assert clipped["held"] == "what one liar of 5 takes, price without a liar" and not clipped["refuted"]
    assert (
        clipped["short"].startswith("points, n = 20: what one liar of 5 takes +1.80 [")
        and "(under 5) held" in clipped["short"]
    )
    veto(range(20, 40), plain=0.05, clipped=0.02, price=0.02).to_csv(file, index=False)
    published, clipped = hostile.judged(tmp_path)
    assert published["held"] and clipped["refuted"] == "price without a liar"
    veto(range(20, 25), plain=0.6, clipped=0.02, price=0.0).to_csv(file, index=False)
    for row in hostile.judged(tmp_path):
        assert row["open"] and row["held"] == row["refuted"] == "" and row["short"].startswith("interim: 5 of 20 seeds")


def by_cell(seeds, values):
    """A study with these accuracies, by (arm, liars, clip, labels); each seed is a bit off in all cells alike."""
    rows = [
        (seed, arm, 5, f, "veto" if f else "", "mean", 0, clip, labels, 0.0, "accuracy", value + 0.001 * (seed % 3))
        for seed in seeds
        for (arm, f, clip, labels), value in values.items()
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "metric", "value"])


def expected(values, complete=True, study="hostile-relatives"):
    """The answer to each expectation, from the lines of the page."""
    lines = list(expectations.lines({study: (by_cell(range(20, 30), values), complete)}))[2:]
    return {line.split(" | ")[0].strip("| "): line.split(" | ")[1].strip("*") for line in lines}


def test_expectations_are_held_failed_or_open_by_whole_intervals():
    plain = {("fedmd", 1): 0.3, ("fedmd+labels", 1): 0.3, ("def-kt", 0): 0.9, ("def-kt", 1): 0.8}
    plain |= {("dsfl", 0): 0.9, ("dsfl", 1): 0.89, ("dsfl+labels", 0): 0.9, ("dsfl+labels", 1): 0.89}
    made = {(*key, 1e-7, True): value for key, value in plain.items()}
    assert expected(made) == {"H9": "held", "H10": "held", "H11": "held"}
    assert expected(made, complete=False) == dict.fromkeys(("H9", "H10", "H11"), "open: interim")
    worse = made | {("dsfl+labels", 1, 1e-7, True): 0.7, ("fedmd", 1, 1e-7, True): 0.499}
    assert expected(worse) == {"H9": "open", "H10": "failed", "H11": "held"}
    assert expected({key: value for key, value in made.items() if key[0] != "def-kt"}).keys() == {"H9", "H10"}


def test_the_first_four_expectations_by_the_veto():
    values = {
        (arm, f, clip, True): 0.9 - 0.02 * f
        for arm in ("dml", "dml-peer-first")
        for f in (0, 1, 2)
        for clip in (1e-7, 0.02)
    }
    values |= {("dml", 1, 1e-7, True): 0.3, ("dml", 2, 1e-7, True): 0.2}
    values |= {("dml", 1, 1e-7, False): 0.2, ("dml-peer-first", 1, 1e-7, False): 0.89}
    assert expected(values, study="hostile-veto") == {"H1": "held", "H2": "held", "H3": "held", "H4": "failed"}
    dear = values | {("dml", 0, 0.02, True): 0.88}
    assert expected(dear, study="hostile-veto")["H3"] == "failed"


def ten(cells, seeds=range(20, 30)):
    """Rows of ten clients, of (arm, rule, clip, liars, attack, metric, value); each seed a bit off, in all alike."""
    rows = [
        (seed, arm, 10, f, attack, rule, 2, clip, True, 0.0, metric, value + 0.001 * (seed % 3))
        for seed in seeds
        for arm, rule, clip, f, attack, metric, value in cells
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "metric", "value"])


def answers(study, table, complete=True):
    found = list(expectations.lines({study: (table, complete)}))[2:]
    return {line.split(" | ")[0].strip("| "): line.split(" | ")[1].strip("*") for line in found}


def test_expectations_of_the_grid_and_of_lies_in_training():
    cells = [("dml", "score", 0.02, 0, "", "accuracy", 0.93), ("dml", "score", 0.02, 4, "veto", "accuracy", 0.90)]
    for arm, lost in (("fedavg", 0.02), ("pdmm, c = 0.1", 0.4)):
        cells += [(arm, "mean", 1e-7, 0, "", "accuracy", 0.93)]
        cells += [(arm, "mean", 1e-7, 2, "scaled", "accuracy", 0.93 - lost)]
    assert answers("hostile", ten(cells)) == {"H5": "held", "H7": "held"}
    assert answers("hostile", ten(cells), complete=False) == {"H5": "open: interim", "H7": "open: interim"}
    worse = [(*cell[:-1], 0.5 if cell[3] == 4 else cell[-1]) for cell in cells]
    robust = [(*cell[:-1], 0.93) if cell[0].startswith("pdmm") else cell for cell in worse]
    assert answers("hostile", ten(robust)) == {"H5": "failed", "H7": "failed"}
    works = {("fedavg", 0): 0.1, ("fedavg", 2): 0.6, ("dml", 0): 0.1, ("dml", 2): 0.12}
    table = ten([(arm, "mean", 1e-7, f, "backdoor", "backdoor", value) for (arm, f), value in works.items()])
    assert answers("hostile-training", table) == {"H8": "held"}
    table.loc[table["arm"] == "fedavg", "value"] = 0.1
    averaging, outputs = list(expectations.lines({"hostile-training": (table, True)}))[2:]
    assert averaging.startswith("| H8 | **failed** | `fedavg`") and averaging.endswith("| failed | 10 |")
    assert outputs.startswith("| H8 | **failed** | `dml`") and outputs.endswith("| held | 10 |")


@pytest.mark.parametrize(("at_two", "word"), [(0.91, "held"), (0.5, "failed")])
def test_the_expectation_on_break_evens_is_a_count(at_two, word):
    cells = [("local+public", "mean", 1e-7, 0, "", "accuracy", 0.9)]
    for arm, clip, lied in (("dml", 1e-7, (0.3, 0.3)), ("dml", 0.02, (0.92, at_two)), ("fedavg", 1e-7, (0.5, 0.5))):
        for f, value in zip((0, 1, 2), (0.93, *lied), strict=True):
            cells.append((arm, "mean", clip, f, "veto" if f else "", "accuracy", value))
    table = ten(cells)
    table.loc[table["arm"] == "local+public", "value"] = 0.9 + 0.001 * (np.arange(10) % 2)
    lines = list(hostile_page.counted(table, True))
    assert len(lines) == 3 and all(line.startswith(f"| H6 | **{word}** | ") for line in lines)
    (clipped,) = (line for line in lines if "clip 0.02" in line)
    assert clipped.endswith(f"| 4 or not reached | {'not reached' if word == 'held' else '2'} | {word} | 10 |")
    assert all("**open: interim**" in line for line in hostile_page.counted(table, False))
    assert list(hostile_page.counted(None, False)) == []


def test_an_arm_without_messages_is_asked_of_no_liar_and_one_seed_draws_nothing(tmp_path):
    cells = [("local+public", "mean", 1e-7, 0, "", "accuracy", 0.9), ("local", "mean", 1e-7, 0, "", "accuracy", 0.8)]
    cells += [("dml", "mean", 0.02, f, "veto" if f else "", "accuracy", 0.9) for f in (0, 1)]
    (tmp_path / "hostile").mkdir()
    for seeds, enough in (([20], False), ([20, 21], True)):
        ten(cells, seeds).to_csv(tmp_path / "hostile" / "results.csv", index=False)
        assert (hostile.several("hostile", tmp_path) is not None) is enough
    (line,) = [line for line in hostile_page.text(tmp_path).splitlines() if line.startswith("| `local` ")]
    assert line.endswith("|  |  | 2 |") and "nan" not in line and "refused" not in line
    assert hostile.several("hostile-veto", tmp_path) is None


def test_the_smaller_studies_in_tables():
    screened = ten(
        [("dml", "mean", 0.02, 2, name, "accuracy", value) for name, value in (("veto", 0.6), ("flip", 0.9))], [0]
    )
    told = "\n".join(hostile_panels.lines("hostile-screen", screened))
    assert told.startswith("All 1 of 1 seeds.") and "| `dml` |  | 0.02 | veto | 60.0 to 90.0 | flip | 2 |" in told
    skewed = [("dml", "mean", 0.02, 0, "", "accuracy", 0.8), ("dml", "mean", 0.02, 2, "veto", "accuracy", 0.7)]
    skewed += [("dml", "median", 0.02, 0, "", "accuracy", 0.77), ("dml", "median", 0.02, 2, "veto", "accuracy", 0.75)]
    told = "\n".join(hostile_panels.lines("hostile-skewed", ten(skewed, range(20, 23))))
    assert told.startswith("**Interim, decides nothing**: 3 of 5 seeds.") and "| +10.0 [+10.0, +10.0] |  | 3 |" in told
    assert "| +2.0 [+2.0, +2.0] | -3.0 [-3.0, -3.0] | 3 |" in told
    trained = [("fedavg", "mean", 1e-7, f, "backdoor", "backdoor", 0.1 + 0.2 * f) for f in (0, 2)]
    trained += [("fedavg", "mean", 1e-7, 2, "label flip", "accuracy", 0.9)]
    told = "\n".join(hostile_panels.lines("hostile-training", ten(trained, range(20, 25))))
    assert "| `fedavg` |  |  | 90.1 [90.0, 90.2] | 10.1 [10.0, 10.2] | 50.1 [50.0, 50.2] |" in told


def test_the_figure_of_the_grid_has_a_row_a_rule_and_says_what_is_refused():
    cells = [("local+public", "mean", 1e-7, 0, "", "accuracy", 0.9), ("local", "mean", 1e-7, 0, "", "accuracy", 0.8)]
    for arm, rule, values in (
        ("dml", "score", (0.94, 0.93)),
        ("dml", "mean", (0.95, 0.3)),
        ("fedavg", "multi-krum", (0.93,)),
    ):
        cells += [(arm, rule, 0.02, 2 * f, "alie" if f else "", "accuracy", value) for f, value in enumerate(values)]
    table = ten(cells)
    table.loc[table["arm"] == "local+public", "value"] = 0.9 + 0.001 * (np.arange(10) % 2)
    with style.house_style():
        fig, drawn, caption = style.laid_out(by_rule.__wrapped__, table, "a test")
    free, lied_to = fig.axes
    rows = [label.get_text() for label in free.get_yticklabels()]
    assert rows == ["DML", "DML, score", "FedAvg, Multi-Krum"]
    assert (free.get_title(loc="left"), lied_to.get_title(loc="left")) == ("no liar", "2 liars")
    said = {text.get_text(): text.get_position()[1] for text in lied_to.texts}
    assert said["ALIE; 2"] == 0 and said["ALIE; –"] == 1 and said["refused"] == free.get_yticks()[2]
    assert "refused" not in {text.get_text() for text in free.texts}
    means = drawn.set_index(["rule", "liars"])["mean"]
    wobble = 0.001 * np.mean([seed % 3 for seed in range(20, 30)])
    assert [means["mean", 2], means["score", 2]] == pytest.approx([0.3 + wobble, 0.93 + wobble])
    assert set(drawn["arm"]) == {"dml", "fedavg"} and "n = 10 seeds." in caption


def test_what_the_clip_and_a_rule_cost_while_nobody_lies():
    free = {("dml", "mean", 1e-7): 0.93, ("dml", "mean", 0.02): 0.928, ("dml", "score", 0.02): 0.898}
    free |= {("fedavg", "mean", 1e-7): 0.94, ("fedavg", "median", 1e-7): 0.94, ("local", "mean", 1e-7): 0.9}
    cells = [(*guard, 0, "", "accuracy", value) for guard, value in free.items()]
    cells += [(*guard, 0, "", way, value) for guard in free for way, value in (("up", 1264), ("down", 480))]
    cells += [("dml", "score", 0.02, f, "flip", "liar weight", 0.05 * f) for f in (1, 4)]
    table = ten(cells)
    noisy = (table["rule"] == "median") & (table["metric"] == "accuracy")
    table.loc[noisy, "value"] += 0.03 * np.array([1, -1] * 5)  # costs nothing on average, but who knows
    told = list(hostile_panels.prices(table))
    assert "weight of 1 liar, % | weight of 4 liars, % | n |" in told[3]
    clip, score, median = told[5:]
    assert clip == "| `dml` |  | 0.02 | no clip | -0.20 [-0.20, -0.20] | yes | 1,264 / 480 |  |  | 10 |"
    assert score == "| `dml` | score | 0.02 | no rule | -3.00 [-3.00, -3.00] | no | 1,264 / 480 | 5.1 | 20.1 | 10 |"
    own = interval(0.03 * np.array([1, -1] * 5))
    assert f"no rule | +0.00 [{100 * own.low:.2f}, +{100 * own.high:.2f}] | not shown |" in median


def test_how_many_of_ten_are_borne_is_said_when_all_seeds_are_there(tmp_path):
    cells = [("local+public", "mean", 1e-7, 0, "", "accuracy", 0.9)]
    for arm, clip, lied in (("dml", 1e-7, (0.3, 0.3)), ("dml", 0.02, (0.92, 0.91)), ("fedavg", 1e-7, (0.92, 0.5))):
        for f, value in zip((0, 1, 2), (0.93, *lied), strict=True):
            cells.append((arm, "mean", clip, f, "veto" if f else "", "accuracy", value))
    table = ten(cells)
    table.loc[table["arm"] == "local+public", "value"] = 0.9 + 0.001 * (np.arange(10) % 2)
    for name, rows in (("hostile", table), ("hostile-veto", veto(range(20, 40), plain=0.6, clipped=0.02, price=0.0))):
        (tmp_path / name).mkdir()
        rows.to_csv(tmp_path / name / "results.csv", index=False)
    said = "Of ten, `local+public` is shown better from 1 (DML), 2 (FedAvg), none to 2 (clipped) liars (10 seeds)."
    assert hostile.brief(tmp_path).endswith(f"(20). {said}") and said in hostile.on_record(tmp_path)[0]
    table[table["seed"] < 29].to_csv(tmp_path / "hostile" / "results.csv", index=False)
    assert hostile.brief(tmp_path).endswith("(20).") and "Of ten" not in hostile.on_record(tmp_path)[0]
    two = rows[rows["liars"] == 1].assign(liars=2)
    two.loc[two["clip"] == 0.02, "value"] -= 0.1
    pd.concat([rows, two]).to_csv(tmp_path / "hostile-veto" / "results.csv", index=False)
    honest, liars = (rows[(rows["clip"] == 0.02) & (rows["liars"] == f)]["value"].mean() for f in (0, 1))
    assert honest > liars and f"; clipped, {100 * liars:.1f}, two {100 * liars - 10:.1f} (20)." in hostile.brief(
        tmp_path
    )
