"""Every figure draws from small tables, shows what the tables say, and is the same file each time."""

import json
import re
from dataclasses import asdict
from functools import cache
from shutil import copy

import matplotlib
import numpy as np
import pandas as pd
import pytest

from dml.arms.catalogue import ARMS
from dml.config import PROFILES, RECORDED, Experiment
from dml.evidence import many_clients as crowd
from dml.evidence import markdown, published
from dml.evidence.about import About, read
from dml.files import DataError
from dml.pipeline import redraw
from dml.plots import catalogue, style
from dml.plots import data as split
from dml.studies.hostile import KEYS

EXPERIMENT = Experiment(rounds=2, epochs=3)
SCORES = ("accuracy", "precision", "recall", "auc", "log loss", "calibration error")
RESULTS = ["seed", "arm", "round", "client", "metric", "value"]
HISTORY = ["seed", "arm", "round", "phase", "epoch", "client", "loss", "accuracy"]
ONE_SEED, FOUR_SEEDS = (0,), (0, 1, 2, 5)


def results_table(seeds, arms):
    """Random scores in [0.5, 1) of every client in the last round, as an experiment writes them."""
    random, rows = np.random.default_rng(0), []
    for seed in seeds:
        for arm in arms:
            parties = [-1] if arm == "pooled" else range(EXPERIMENT.clients)
            metrics = [f"unseen {score}" for score in SCORES]
            if arm != "pooled":
                metrics += ["train accuracy", "validation accuracy", "unseen disagreement"]
                rows += [(seed, arm, r, c, "public accuracy", random.uniform(0.5, 1)) for r in (1, 2) for c in parties]
            rows += [(seed, arm, 2, c, metric, random.uniform(0.5, 1)) for c in parties for metric in metrics]
    return pd.DataFrame(rows, columns=RESULTS)


def history_table(seeds, arms):
    random, rows = np.random.default_rng(1), []
    for seed in seeds:
        for arm in arms:
            phases = [(0, "pooled", [-1])] if arm == "pooled" else [(0, "pretrain", [-1])]
            for round in (1, 2) if arm != "pooled" else ():
                phases.append((round, "local", range(EXPERIMENT.clients)))
                if arm == "asynchronous":
                    phases.append((round, "global", [-1]))
                elif arm not in ("fedavg", "local"):
                    phases.append((round, "public", range(EXPERIMENT.clients)))
            rows += [
                (seed, arm, round, phase, epoch, party, random.uniform(0.1, 1), 0.5)
                for round, phase, parties in phases
                for party in parties
                for epoch in range(1, EXPERIMENT.epochs + 1)
            ]
    return pd.DataFrame(rows, columns=HISTORY)


def clients_table(seeds):
    random = np.random.default_rng(2)
    rows = [
        (2, k, s, a, c, random.uniform(0.5, 1)) for k in (2, 4) for s in seeds for a in crowd.STUDIED for c in range(k)
    ]
    table = pd.DataFrame(rows, columns=["round", "clients", "seed", "arm", "client", "value"])
    return table.assign(metric="unseen accuracy")[crowd.COLUMNS]


def lesson_table():
    return pd.DataFrame({"client": [0, 1], "before": [0.5, 0.6], "labels only": [0.7, 0.65], "with peers": [0.8, 0.6]})


def images_table(classes):
    rows = []
    for name in ("train", "unseen"):
        for i, title in enumerate(classes):
            rows.append((name, title, "count", np.nan, 30 + i))
            rows += [(name, title, "sharpness", q, 10 * (i + 1) + 100 * q) for q in np.linspace(0, 1, 11)]
    return pd.DataFrame(rows, columns=["set", "class", "measure", "quantile", "value"])


def hostile_table(seeds):
    rows = [
        (s, arm, 5, f, "veto" if f else "", rule, 1, clip, True, 0.0, "accuracy", 0.9 - 0.1 * f - 0.01 * s)
        for s in seeds
        for arm, rule, clip in (("dml", "mean", 1e-7), ("dml", "score", 0.02), ("local+public", "mean", 1e-7))
        for f in ((0,) if arm == "local+public" else (0, 1))
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "metric", "value"])


def finished_run(folder, seeds=FOUR_SEEDS, arms=tuple(ARMS), classes=("mask", "no mask"), data="faces"):
    """The folder of a run that has finished."""
    folder.mkdir()
    tables = {"results": results_table(seeds, arms), "history": history_table(seeds, arms)}
    tables |= {"images": images_table(classes), "clients": clients_table(seeds), "lesson": lesson_table()}
    tables["hostile"] = hostile_table(seeds)
    tables["costs"] = pd.DataFrame([(s, a, 2.0, 1.0, False) for s in seeds for a in arms]).set_axis(
        ["seed", "arm", "wall_s", "cpu_s", "reused"], axis=1
    )
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    for kind in ("privacy", "bandwidth"):
        for table in (RECORDED / "paper-facemask").glob(f"{kind}_*.csv"):
            copy(table, folder)
    manifest = {"experiment": asdict(EXPERIMENT), "data": data, "title": "a test", "classes": list(classes)}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@cache
def drawn(name, folder, experiment=EXPERIMENT, data="faces"):
    """A figure, drawn once for all tests that look at it; `redrawn` holds the other drawing of it."""
    return catalogue.draw(name, folder, About(experiment, data, "a test"))


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("four") / "run")


@pytest.fixture(scope="module")
def redrawn(four):
    redraw.redraw([(four, four.parent / "figures")])
    return four.parent / "figures"


def text_of(pdf):
    """The bytes of a PDF outside its compressed streams."""
    return re.sub(rb"stream\r?\n.*?endstream", b"", pdf, flags=re.DOTALL)


# -- files ------------------------------------------------------------------------------------------------------------


def test_redraw_writes_every_figure_its_table_its_caption_and_the_claims(redrawn):
    names = {f"{name}.{suffix}" for name in catalogue.FIGURES for suffix in ("pdf", "png", "csv", "txt")}
    texts = {"claims.md", "privacy.md", "bandwidth.md", "verdicts.md"}
    assert {path.name for path in redrawn.iterdir()} == names | texts


@pytest.mark.parametrize("name", catalogue.FIGURES)
def test_the_caption_is_kept_beside_the_figure_and_is_its_alternative_text(name, four, redrawn):
    figure = drawn(name, four)
    assert (redrawn / f"{name}.txt").read_text(encoding="utf-8") == f"{figure.caption}\n" and len(figure.caption) > 20
    assert figure._repr_png_() == (figure.png, {"alt": figure.caption})


@pytest.mark.parametrize("name", catalogue.FIGURES)
def test_a_figure_is_the_same_file_each_time(name, four, redrawn):
    again = drawn(name, four)
    assert (redrawn / f"{name}.pdf").read_bytes() == again.pdf
    assert (redrawn / f"{name}.png").read_bytes() == again.png  # drawn by another process


@pytest.mark.parametrize("name", catalogue.FIGURES)
def test_a_pdf_states_no_date(name, redrawn):
    pdf = (redrawn / f"{name}.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF") and len(pdf) > 3000
    assert b"Producer" in text_of(pdf) and not re.search(rb"CreationDate|ModDate", text_of(pdf))
    assert b"/Type3" not in text_of(pdf)  # fonts that publishers refuse


@pytest.mark.parametrize("name", catalogue.FIGURES)
def test_the_csv_beside_a_figure_is_the_table_drawn(name, four, redrawn):
    kept = read(redrawn, name)
    table = drawn(name, four).table.reset_index(drop=True)
    assert len(kept) > 1
    pd.testing.assert_frame_equal(kept, table, check_dtype=False, rtol=1e-11)  # 12 significant digits are kept


@pytest.mark.parametrize("name", catalogue.FIGURES)
def test_a_figure_shows_itself_as_png_and_is_as_wide_as_a_journal_page(name, redrawn):
    png = (redrawn / f"{name}.png").read_bytes()
    width, height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
    assert png.startswith(b"\x89PNG") and width > height > 100
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", (redrawn / f"{name}.pdf").read_bytes())
    assert float(box[1]) / 72 == pytest.approx(style.DOUBLE, abs=0.1)


def test_saving_twice_leaves_only_the_figure(tmp_path):
    figure = style.Drawn(pd.DataFrame({"x": [0.1 + 0.2]}), b"pdf", b"png", "three tenths")
    for _ in range(2):
        figure.save(tmp_path / "new", "one")
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == {
        "one.pdf": b"pdf",
        "one.png": b"png",
        "one.csv": b"x\n0.3\n",
        "one.txt": b"three tenths\n",
    }


# -- what can be missing ----------------------------------------------------------------------------------------------


def test_one_seed_of_three_classes_draws_every_figure_without_intervals(tmp_path):
    """Three classes have no one-term arm, and one seed has no spread."""
    arms = [arm for arm in ARMS if arm != "dml-one-term"]
    run = finished_run(tmp_path / "run", ONE_SEED, arms, classes=("a", "b", "c"), data="letters")
    assert catalogue.present(run) == list(catalogue.FIGURES)
    redraw.redraw([(run, tmp_path / "to")])
    assert all((tmp_path / "to" / f"{name}.pdf").stat().st_size > 3000 for name in catalogue.FIGURES)
    tables = {name: pd.read_csv(tmp_path / "to" / f"{name}.csv") for name in catalogue.FIGURES}
    for name in ("02_unseen_accuracy", "02_paired_differences", "02_quality", "02_agreement"):
        assert tables[name]["mean"].notna().all() and tables[name][["low", "high"]].isna().all(axis=None)
    assert set(tables["02_kl_forms"]["arm"]) == {"dml", "dml-peer-first"}
    assert {"images: a", "images: b", "images: c"} <= set(tables["01_fold_plan"].columns)


@pytest.mark.parametrize("missing", ["images", "history", "results"])
def test_a_table_that_a_run_lacks_leaves_out_its_figures(missing, tmp_path):
    run = finished_run(tmp_path / "run", seeds=(0, 1))
    (run / f"{missing}.csv").unlink()
    assert catalogue.present(run) == [
        name for name, recipe in catalogue.FIGURES.items() if missing not in recipe.tables
    ]
    texts = markdown.texts(run, About.read(run))
    assert ("claims" in texts) == (missing != "results") and {"privacy", "bandwidth", "verdicts"} <= set(texts)


def test_a_folder_that_is_no_finished_run_is_refused(tmp_path):
    run = finished_run(tmp_path / "run", seeds=ONE_SEED)
    (run / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"run has no manifest\.json"):
        redraw.redraw([(run, tmp_path / "to")])
    assert not (tmp_path / "to").exists()


# -- what is drawn ----------------------------------------------------------------------------------------------------


def test_unseen_accuracy_shows_every_seed_as_the_mean_of_its_clients(four):
    table = drawn("02_unseen_accuracy", four).table.set_index("arm")
    results = results_table(FOUR_SEEDS, ARMS)
    values = results[results["metric"] == "unseen accuracy"].groupby(["arm", "seed"])["value"].mean()
    for arm, seed in values.index:
        assert table.loc[arm, f"seed {seed}"] == pytest.approx(values[arm, seed], abs=1e-12)
    assert list(table.index) == list(ARMS) and table["n"].eq(4).all()
    assert table.loc["dml", "mean"] == pytest.approx(values["dml"].mean())


def test_client_accuracy_shows_mean_and_range_over_seeds(four):
    table = drawn("02_client_accuracy", four).table.set_index(["arm", "client"])
    results = results_table(FOUR_SEEDS, ARMS)
    mine = results[(results["metric"] == "unseen accuracy") & (results["arm"] == "dml") & (results["client"] == 3)]
    row = table.loc[("dml", 3)]
    expected = (mine["value"].mean(), mine["value"].min(), mine["value"].max(), 4)
    assert (row["mean"], row["min"], row["max"], row["count"]) == pytest.approx(expected)
    assert len(table) == 3 * EXPERIMENT.clients


def test_reported_numbers_stand_only_beside_the_papers_own_protocol_and_images(four):
    paper = PROFILES["paper"].experiment
    means = published.published().groupby("arm")["accuracy"].mean()
    found = drawn("02_unseen_accuracy", four, paper, "facemask").table.set_index("arm")["reported"]
    assert found["dml"] == pytest.approx(means["dml"]) and found["fedavg"] == pytest.approx(means["fedavg"])
    assert np.isnan(found["local"])
    for experiment, data in ((paper, "faces"), (EXPERIMENT, "facemask"), (PROFILES["smoke"].experiment, "facemask")):
        assert About(experiment, data, "").reported.empty
    for name in ("02_unseen_accuracy", "02_client_accuracy"):
        assert drawn(name, four).table["reported"].isna().all()


def test_paired_differences_are_drawn_against_both_arms(four):
    table = drawn("02_paired_differences", four).table
    assert set(table["against"]) == {"fedavg", "local+public"} and len(table) == 2 * (len(ARMS) - 1)
    both = table.set_index(["arm", "against"])["mean"]
    assert both["fedavg", "local+public"] == pytest.approx(-both["local+public", "fedavg"])


def test_agreement_shows_the_gap_and_leaves_the_pooled_model_out(four):
    table = drawn("02_agreement", four).table
    results = results_table(FOUR_SEEDS, ARMS)
    means = results[results["arm"] == "self"].groupby("metric")["value"].mean()
    gap = table[(table["arm"] == "self") & (table["metric"] == "gap")]["mean"].item()
    assert gap == pytest.approx(means["train accuracy"] - means["unseen accuracy"])
    assert "pooled" not in set(table["arm"])


def test_histories_give_every_client_all_its_epochs_in_order(four):
    table = drawn("02_histories", four).table
    assert set(table["seed"]) == {0} and "pooled" not in set(table["arm"])
    epochs = EXPERIMENT.epochs
    for arm, phases in [
        ("fedavg", ["pretrain", "local", "local"]),
        ("dml", ["pretrain", *["local", "public"] * 2]),
        ("asynchronous", ["pretrain", *["local", "global"] * 2]),
    ]:
        for client in range(EXPERIMENT.clients):
            mine = table[(table["arm"] == arm) & (table["client"] == client)]
            assert mine["step"].tolist() == list(range(1, epochs * len(phases) + 1))
            assert mine["phase"].tolist() == [phase for phase in phases for _ in range(epochs)]
            assert mine["shared"].tolist() == [p in ("public", "global") for p in phases for _ in range(epochs)]
    server = table[(table["arm"] == "asynchronous") & table["shared"]]
    assert server.groupby("step")["loss"].nunique().eq(1).all()


def test_rounds_show_the_mean_over_clients_and_the_range_over_seeds(four):
    table = drawn("02_rounds", four).table.set_index(["arm", "round"])
    results = results_table(FOUR_SEEDS, ARMS)
    mine = results[(results["metric"] == "public accuracy") & (results["arm"] == "self") & (results["round"] == 2)]
    seeds = mine.groupby("seed")["value"].mean()
    row = table.loc[("self", 2)]
    assert (row["mean"], row["min"], row["max"]) == pytest.approx((seeds.mean(), seeds.min(), seeds.max()))
    assert len(table) == 2 * (len(ARMS) - 1)


def test_fold_plan_deals_every_training_image_once(four):
    table = drawn("01_fold_plan", four).table
    assert len(table) == EXPERIMENT.folds and table["images"].sum() == 61
    assert table[["images: mask", "images: no mask"]].sum().tolist() == [30, 31]
    assert table["seen by"].value_counts().to_dict() == {"all": 3} | {f"client {i}": 2 for i in range(5)}


def test_every_arm_has_a_look_of_its_own():
    assert set(style.LOOKS) == set(ARMS)
    looks = {(str(look["color"]), look["linestyle"], look["marker"]) for look in style.LOOKS.values()}
    assert len(looks) == len(ARMS) == len({look["marker"] for look in style.LOOKS.values()})


def test_a_contact_sheet_is_a_seeded_choice(pictures):
    first, second = split.contact_sheet(pictures), split.contact_sheet(pictures)
    assert first.pdf == second.pdf and first.table.equals(second.table)
    labels = dict(zip(pictures.train.files, pictures.train.labels.tolist(), strict=True))
    train = first.table[first.table["set"] == "train"]
    assert all(pictures.classes[labels[row.file]] == row[2] for row in train.itertuples())
    assert not first.table.duplicated().any() and train["file"].tolist() != sorted(train["file"])


def test_drawing_leaves_the_settings_of_matplotlib_alone(four):
    before = dict(matplotlib.rcParams)
    catalogue.draw("01_style_confound", four, About(EXPERIMENT, "faces", "a test"))
    assert dict(matplotlib.rcParams) == before
