"""Every figure draws from small tables, shows what the tables say, and is the same file each time."""

import json
import re
import zlib
from dataclasses import asdict
from functools import cache
from itertools import combinations
from shutil import copy
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import pytest
from fontTools import subset
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from dml import stats
from dml.arms.catalogue import ARMS, CONTROLS
from dml.config import FIGURES, PROFILES, RECORDED, Experiment
from dml.evidence import many_clients as crowd
from dml.evidence import markdown, published
from dml.evidence.about import About, read
from dml.evidence.accuracy import LATE, measured
from dml.evidence.accuracy import values as values_of
from dml.evidence.generalisation import ASKED
from dml.evidence.skew import TABLES
from dml.files import DataError
from dml.pipeline import redraw
from dml.plots import bandwidth, catalogue, failures, looks, melting, overview, rows, style, waterfall
from dml.plots import data as split
from dml.plots.looks import LOOKS
from dml.studies import crowd as many
from dml.studies import skew
from dml.studies.generalisation import GAPS
from dml.studies.hostile import KEYS
from dml.training import machine

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
                looks = ("public accuracy", "unseen sample accuracy")
                rows += [(seed, arm, r, c, m, random.uniform(0.5, 1)) for r in (1, 2) for c in parties for m in looks]
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


CELLS = {  # of notebook 05: the arms in each
    "label_alpha 0.1; public_fold balanced": ("dml", "local+public", "fedavg+public"),
    "label_alpha 0.1; public_fold unlabelled": ("dml", "local"),
    "label_alpha inf; models visionnet,visionnet-half": ("dml", "local+public"),
}


def skew_tables(seeds):
    random = np.random.default_rng(3)
    rows = [
        (cell, s, arm, c, f"unseen {metric}", random.uniform(0.6, 0.9))
        for cell, arms in CELLS.items()
        for s in seeds
        for arm in arms
        for c in range(EXPERIMENT.clients)
        for metric in ("accuracy", "personal accuracy")
    ]
    apart = [(cell, s, c, 24, 0.3 * ("inf" not in cell)) for cell in CELLS for s in seeds for c in range(2)]
    return pd.DataFrame(rows, columns=skew.RESULTS), pd.DataFrame(apart, columns=skew.CELLS)


def gaps_table(seeds, arms=("dml", "fedavg", "local", "def-kt")):
    random = np.random.default_rng(4)
    rows = [
        (alpha, s, arm, gap, asked, way, form, random.uniform(0.02, 0.2), 0.01)
        for alpha in (1.0, np.inf)
        for s in seeds
        for arm in arms
        for gap, asked in ASKED
        for way, form in (("pooled", "measured"), ("pooled", "root"), ("cellwise", "root"))
    ]
    return pd.DataFrame(rows, columns=GAPS)


def many_table(seeds):
    """Of notebook 07: clients that keep their images, all a round and half of them."""
    rows = [
        ("faces", s, arm, k, 2, share, True, False, c, 0.7 + 0.01 * c + 0.02 * s, 0.6, 0.1, 2, 0)
        for s in seeds
        for share in (1.0, 0.5)
        for arm, k in (("dml", 2), ("dml", 4), ("fedavg", 4), ("self", 4))
        for c in range(k)
    ]
    return pd.DataFrame(rows, columns=many.CLIENTS)


def finished_run(folder, seeds=FOUR_SEEDS, arms=tuple(ARMS), classes=("mask", "no mask"), data="faces"):
    """The folder of a run that has finished."""
    folder.mkdir()
    tables = {"results": results_table(seeds, arms), "history": history_table(seeds, arms)}
    tables |= {"images": images_table(classes), "clients": clients_table(seeds), "lesson": lesson_table()}
    tables |= {"hostile": hostile_table(seeds), "crowd_clients": many_table(seeds)}
    tables |= dict(zip(TABLES, skew_tables(seeds), strict=True))
    tables["generalisation_gaps"] = gaps_table(seeds)
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
    """A figure's files, made once for all tests that look at them; `redrawn` holds the other drawing of it."""
    return catalogue.draw(name, folder, About(experiment, data, "a test", 2, ("mask", "no mask")))


class Laid(NamedTuple):
    """A figure that is not rendered: what most tests ask of it costs a third of its files."""

    fig: Figure
    table: pd.DataFrame
    caption: str


@cache
def laid(name, folder, experiment=EXPERIMENT, data="faces"):
    recipe, about = catalogue.FIGURES[name], About(experiment, data, "a test", 2, ("mask", "no mask"))
    facts = (getattr(about, fact) for fact in recipe.facts)
    with style.house_style():
        return Laid(*style.laid_out(recipe.draw.__wrapped__, *(read(folder, each) for each in recipe.tables), *facts))


COMMITTED = sorted(FIGURES.rglob("*.pdf"))
ONE_A_MODULE = [*{recipe.draw.__module__: name for name, recipe in catalogue.FIGURES.items()}.values()]


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("four") / "run")


@pytest.fixture(scope="module")
def redrawn(four):
    """One figure a module, drawn by another process; all are compared with what is committed, in test_readme.py."""
    others = catalogue.FIGURES.keys() - {*ONE_A_MODULE}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "cores", lambda: 1)
        redraw.carry_out(redraw.drawing(four, four.parent / "figures", [*others]))
    return four.parent / "figures"


def text_of(pdf):
    """The bytes of a PDF outside its compressed streams."""
    return re.sub(rb"stream\r?\n.*?endstream", b"", pdf, flags=re.DOTALL)


# -- files ------------------------------------------------------------------------------------------------------------


def test_redraw_writes_a_figure_its_table_its_caption_and_the_claims(redrawn, four):
    assert {*catalogue.present(four)} == {*catalogue.FIGURES}
    names = {f"{name}.{suffix}" for name in ONE_A_MODULE for suffix in ("pdf", "png", "svg", "csv", "txt")}
    texts = {"claims.md", "privacy.md", "bandwidth.md", "verdicts.md"}
    assert {path.name for path in redrawn.iterdir()} == names | texts


@pytest.mark.parametrize("name", catalogue.FIGURES)
def test_the_caption_stands_beside_the_figure_and_the_alternative_text_says_what_is_seen(name, four, redrawn):
    caption, seen = laid(name, four).caption, catalogue.FIGURES[name].draw.__doc__
    assert len(caption) > 60 and len(seen.partition("\n\n")[0].split()) >= 8 and seen != caption
    if name in ONE_A_MODULE:
        assert (redrawn / f"{name}.txt").read_text(encoding="utf-8") == f"{caption}\n"
        figure = drawn(name, four)
        assert figure._repr_png_() == (figure.png, {"alt": " ".join(seen.partition("\n\n")[0].split())})


def test_a_pdf_holds_glyphs_and_no_table_for_setting_type(four):
    streams = re.findall(rb"stream\r?\n(.*?)endstream", drawn("02_learning", four).pdf, flags=re.DOTALL)
    fonts = [font for font in map(inflated, streams) if b"glyf" in font[:300]]
    assert fonts and not any(tag in font[:300] for font in fonts for tag in (b"GSUB", b"GPOS", b"GDEF"))
    assert "GSUB" not in subset.Options()._drop_tables_default  # others' fonts are as ever


def inflated(stream):
    """A compressed stream's content; of another, nothing."""
    try:
        return zlib.decompressobj().decompress(stream)
    except zlib.error:
        return b""


def test_jupyter_shows_the_picture_and_its_caption_under_it(four, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    figure = drawn("02_learning", four)
    figure._ipython_display_()
    picture, text = shown
    assert picture.data == figure.png and picture.alt == figure.alt
    assert text.data == figure.caption


@pytest.mark.parametrize("name", ONE_A_MODULE)
def test_a_figure_is_the_same_file_each_time(name, four, redrawn):
    again = drawn(name, four)
    assert (redrawn / f"{name}.pdf").read_bytes() == again.pdf
    assert (redrawn / f"{name}.png").read_bytes() == again.png  # drawn by another process
    assert (redrawn / f"{name}.svg").read_bytes() == again.svg


@pytest.mark.parametrize("pdf", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_neither_pdf_nor_svg_states_a_date(pdf):
    """Of the committed figures, which test_readme.py draws again."""
    said = pdf.read_bytes()
    assert said.startswith(b"%PDF-") and said.rstrip().endswith(b"%%EOF") and len(said) > 3000
    assert b"Producer" in text_of(said) and not re.search(rb"CreationDate|ModDate", text_of(said))
    assert b"/Type3" not in text_of(said)  # fonts that publishers refuse
    svg = pdf.with_suffix(".svg").read_bytes()
    assert svg.rstrip().endswith(b"</svg>") and b"<dc:date>" not in svg and len(svg) < 2e6


@pytest.mark.parametrize("name", catalogue.FIGURES)
def test_the_csv_beside_a_figure_is_the_table_drawn(name, four, tmp_path):
    table = laid(name, four).table.reset_index(drop=True)
    style.Drawn(table, b"", b"", b"").save(tmp_path, name)
    kept = read(tmp_path, name)
    assert len(kept) > 1
    pd.testing.assert_frame_equal(kept, table, check_dtype=False, rtol=1e-11)  # 12 significant digits are kept


WIDTHS = (style.SINGLE, style.TEXT, style.DOUBLE)


@pytest.mark.parametrize("pdf", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_figure_is_as_wide_as_a_column_in_every_format_at_300_dots_an_inch(pdf):
    png = pdf.with_suffix(".png").read_bytes()
    width, height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
    narrow = pdf.parent.name == "column"
    assert png.startswith(b"\x89PNG") and width in {round(300 * inches) for inches in WIDTHS}
    assert height > 100 and (width > height) is not narrow and (width == 300 * style.SINGLE) is narrow
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf.read_bytes())
    points = re.search(rb'<svg [^>]*width="([\d.]+)pt"', pdf.with_suffix(".svg").read_bytes())
    assert float(box[1]) == pytest.approx(0.24 * width, abs=0.1) == float(points[1])


@pytest.mark.parametrize("name", catalogue.FIGURES)
def test_every_word_of_a_figure_can_be_read_and_none_is_cut_off(name, four):
    """At the printed width: 6 points or more, on the paper, with a true minus, no arm by its code's name."""
    fig = laid(name, four).fig
    with style.house_style():
        fig.draw_without_rendering()
        words = [text for text in fig.findobj(Text) if text.get_visible() and text.get_text().strip()]
        assert words and min(text.get_fontsize() for text in words) >= style.SMALLEST
        drawn_in, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
        assert width in WIDTHS
        assert min(drawn_in.x0, drawn_in.y0, width - drawn_in.x1, height - drawn_in.y1) > -0.02, "cut off"
    told = [text.get_text() for text in words]
    assert not [word for word in told if re.search(r"(?<![\w.,])-\d", word)], "a hyphen for a minus"
    assert not {*LOOKS} & {*told}, "an arm by its code's name"


def test_saving_twice_leaves_only_the_figure(tmp_path):
    figure = style.Drawn(pd.DataFrame({"x": [0.1 + 0.2]}), b"pdf", b"png", b"svg", "three tenths")
    for _ in range(2):
        figure.save(tmp_path / "new", "one")
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == {
        "one.pdf": b"pdf",
        "one.png": b"png",
        "one.svg": b"svg",
        "one.csv": b"x\n0.3\n",
        "one.txt": b"three tenths\n",
    }


# -- what can be missing ----------------------------------------------------------------------------------------------


def test_one_seed_of_three_classes_draws_every_figure_without_intervals(tmp_path):
    """Three classes have no one-term arm, and one seed has no spread."""
    arms = [arm for arm in ARMS if arm != "dml-one-term"]
    run = finished_run(tmp_path / "run", ONE_SEED, arms, classes=("a", "b", "c"), data="letters")
    assert catalogue.present(run) == list(catalogue.FIGURES)
    figures = {name: laid(name, run) for name in catalogue.FIGURES}
    with style.house_style():
        for figure in figures.values():
            figure.fig.draw_without_rendering()
    tables = {name: figure.table for name, figure in figures.items()}
    for name in ("02_unseen_accuracy", "02_quality", "02_agreement", "02_learning", "02_failures"):
        assert tables[name]["mean"].notna().all() and tables[name][["low", "high"]].isna().all(axis=None)
    assert set(tables["02_kl_forms"]["arm"]) == {"dml", "dml-peer-first"} and set(tables["02_failures"]["called"]) == {
        "any"
    }
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
    table = laid("02_unseen_accuracy", four).table.set_index("arm")
    results = results_table(FOUR_SEEDS, ARMS)
    values = results[results["metric"] == "unseen accuracy"].groupby(["arm", "seed"])["value"].mean()
    for arm, seed in values.index:
        assert table.loc[arm, f"seed {seed}"] == pytest.approx(values[arm, seed], abs=1e-12)
    assert list(table.index) == list(ARMS) and table["n"].eq(4).all()
    assert table.loc["dml", "mean"] == pytest.approx(values["dml"].mean())


def test_reported_numbers_stand_only_beside_the_papers_own_protocol_and_images(four):
    paper = PROFILES["paper"].experiment
    means = published.published().groupby("arm")["accuracy"].mean()
    found = laid("02_unseen_accuracy", four, paper, "facemask").table.set_index("arm")["reported"]
    assert found["dml-one-term"] == pytest.approx(means["dml"])  # the form of the published run
    assert found["fedavg"] == pytest.approx(means["fedavg"]) and found[["dml", "local"]].isna().all()
    for experiment, data in ((paper, "faces"), (EXPERIMENT, "facemask"), (PROFILES["smoke"].experiment, "facemask")):
        assert About(experiment, data, "").reported.empty
    assert laid("02_unseen_accuracy", four).table["reported"].isna().all()


def test_agreement_shows_the_gap_and_leaves_the_pooled_model_out(four):
    table = laid("02_agreement", four).table
    results = results_table(FOUR_SEEDS, ARMS)
    means = results[results["arm"] == "self"].groupby("metric")["value"].mean()
    gap = table[(table["arm"] == "self") & (table["metric"] == "gap")]["mean"].item()
    assert gap == pytest.approx(means["train accuracy"] - means["unseen accuracy"])
    assert "pooled" not in set(table["arm"])


def test_learning_curves_show_the_mean_over_clients_and_count_their_seeds(four):
    table = laid("02_learning", four).table.set_index(["arm", "round"])
    results = results_table(FOUR_SEEDS, ARMS)
    of_arm = results[(results["metric"] == "unseen sample accuracy") & (results["arm"] == "self")]
    seeds = of_arm[of_arm["round"] == 2].groupby("seed")["value"].mean()
    row = table.loc[("self", 2)]
    assert (row["mean"], row["n"]) == pytest.approx((seeds.mean(), 4)) and row["low"] < row["mean"] < row["high"]
    assert len(table) == 2 * (len(ARMS) - 1)
    fewer = results.drop(of_arm.index[of_arm["seed"] == 5])
    figure = catalogue.FIGURES["02_learning"].draw(fewer, "a test")
    counts = figure.table.groupby("arm")["n"].max()
    assert counts["self"] == 3 and counts["dml"] == 4 and style.INTERVAL in figure.caption


def test_errors_follow_from_precision_recall_and_the_numbers_of_images():
    """By hand: of 40 unmasked 36 are found, and 12 of 60 masked are called unmasked: precision 36/48, recall 36/40."""
    images = pd.DataFrame(
        [("unseen", "mask", "count", np.nan, 60), ("unseen", "no mask", "count", np.nan, 40)],
        columns=["set", "class", "measure", "quantile", "value"],
    )
    rows = [(0, "dml", 1, 0, "unseen precision", 36 / 48), (0, "dml", 1, 0, "unseen recall", 36 / 40)]
    table = failures.errors(pd.DataFrame(rows, columns=RESULTS), images).set_index("called")["mean"]
    assert table["first"] == pytest.approx(12 / 60) and table["second"] == pytest.approx(4 / 40)


def test_recorded_errors_and_accuracy_are_of_the_same_images():
    results, images = (read(RECORDED / "paper-facemask", name) for name in ("results", "images"))
    table = failures.errors(results, images).pivot(index="arm", columns="called", values="mean")
    accuracy = stats.summarise(results, "unseen accuracy").set_index("arm")["mean"]
    assert (1 - table.mean(axis=1)).to_dict() == pytest.approx(accuracy.to_dict(), abs=2e-6)  # classes of equal size


def test_the_waterfall_adds_up_and_its_star_is_the_published_difference(four):
    figure = laid("09_story", four)
    steps = figure.table.set_index(["arm", "minus"])
    parts = [("local+public", "local"), ("self", "local+public"), ("dml", "self")]
    assert sum(steps.loc[part, "mean"].item() for part in parts) == pytest.approx(
        steps.loc[("dml", "local"), "mean"].item()
    )
    assert steps.loc[("dml", "self"), "from"].item() == pytest.approx(
        sum(steps.loc[p, "mean"].item() for p in parts[:2])
    )
    means = published.published().groupby("arm")["accuracy"].mean()
    gap = steps.loc[("dml", "fedavg")]
    assert gap["one published"].item() == pytest.approx(means["dml"] - means["fedavg"])
    assert f"{gap['one reached'].item():.0f} of n = 4 seeds reach" in figure.caption
    results = results_table(FOUR_SEEDS, ARMS)
    one_term = steps.loc[("dml-one-term", "fedavg")]
    late = values_of(results, measured(results, LATE))
    assert one_term["mean"].item() == pytest.approx((late["dml-one-term"] - late["fedavg"]).mean())
    assert (
        f"reach the published difference, {one_term['one reached'].item():.0f} in the one-term form" in figure.caption
    )
    some, one = (results_table(seeds, ARMS) for seeds in (FOUR_SEEDS, ONE_SEED))
    both = waterfall.stories([(some, "a", "exploratory"), (one, "b", "confirmatory")])
    assert "n = 4 exploratory and 1 confirmatory seeds" in both.caption
    assert set(both.table["run"]) == {"a", "b"} and len(both.table) == 2 * len(figure.table)


def test_the_ratios_of_bytes_are_those_of_the_ladder(four):
    ladder = read(four, "bandwidth_ladder").set_index("arm")
    table = laid("04_bytes", four).table.dropna(subset="ratio").set_index(["row", "against"])["ratio"]
    dml, fedavg = ladder.loc["dml"], ladder.loc["fedavg"]
    assert table.iloc[0] == pytest.approx((fedavg["up"] + fedavg["down"]) / (dml["up"] + dml["down"]))
    assert table.iloc[1] == pytest.approx((fedavg["up"] + fedavg["down"]) / (dml["up"] * EXPERIMENT.clients))
    whole = ladder["setup"] + ladder["sent"]
    for arm in ("fedavg", "fedavg, 8 bits", "fedavg, top 1 %"):
        assert table["the run, raw pixels", arm] == pytest.approx(whole[arm] / whole["dml"])
        assert table["the run, coded", arm] > 0


def test_bytes_on_the_wire_are_means_of_the_rounds_between(tmp_path):
    columns = ["round", "client", "direction", "encoded", "tls"]
    wires = {}
    for arm, sent in (("dml", 2.0), ("fedavg", 100.0)):
        rows = [(r, 0, way, sent, sent + 50) for r in (1, 2) for way in ("up", "down")]
        wires[arm] = pd.DataFrame([(0, 0, "down", 9e9, 9e9), *rows, (3, 0, "up", 9e9, 9e9)], columns=columns)
    assert melting.on_the_wire(wires)["ratio"].tolist() == pytest.approx([50, 150 / 52])
    assert melting.on_the_wire({"dml": wires["dml"]}).empty


def test_the_areas_of_the_overview_are_the_bytes_of_the_messages(four):
    table = laid("04_overview", four).table.set_index(["arm", "direction"])["bytes"]
    ladder = read(four, "bandwidth_ladder").set_index("arm")
    for arm in ("dml", "fedavg"):
        assert table[arm, "up"].item() == ladder.loc[arm, "up"] and table[arm, "down"].item() == ladder.loc[arm, "down"]
    assert [overview.size_of(count) for count in (983, 1569990, 7452036, 2e9)] == [
        "983 B",
        "1.57 MB",
        "7.45 MB",
        "2 GB",
    ]


def test_an_arm_that_sends_nothing_stands_at_a_real_zero(four):
    """Not at the axis' least power of ten: its place is behind the break, with a 0 below it."""
    table = laid("04_accuracy_for_bytes", four).table
    assert (
        table.loc[table["arm"] == "local", "sent"].eq(0).all() and (table.loc[table["arm"] == "dml", "sent"] > 0).all()
    )
    with style.house_style():
        recipe = catalogue.FIGURES["04_ladder"]
        fig, _, _ = style.laid_out(recipe.draw.__wrapped__, *(read(four, name) for name in recipe.tables), "a test")
    axes = fig.axes[0]
    (zero,) = (text for text in axes.texts if text.get_text() == "0")
    assert axes.get_xlim()[0] < zero.get_position()[0] < min(axes.get_xticks())


# -- counts -----------------------------------------------------------------------------------------------------------


def test_dots_beyond_the_axis_are_counted_at_its_edge_and_in_the_caption():
    ladder, accuracy = (read(RECORDED / "reduced-facemask", f"bandwidth_{name}") for name in ("ladder", "accuracy"))
    values = accuracy.pivot(index="seed", columns="arm", values="value")
    rungs = ladder.dropna(subset="difference")
    off = sum((values[row.arm] - values[row.against]).abs().gt(bandwidth.APART).sum() for row in rungs.itertuples())
    figure = catalogue.FIGURES["04_ladder"].draw(ladder, accuracy, "a test")
    assert off > 7 and f"{off} dots beyond the axis" in figure.caption
    axes = Figure().subplots()
    axes.set_xlim(0, 1)
    assert rows.beyond(axes, 0, np.array([-1, -2, 0.5, 3]), "dml") == 3
    assert [text.get_text() for text in axes.texts] == ["◂2", "1▸"]


def test_equal_dots_stand_one_under_the_other():
    axes = Figure().subplots()
    rows.seeds(axes, 2, np.array([0.5, 0.1, 0.5, 0.5]), "dml")
    assert axes.collections[0].get_offsets()[:, 1].tolist() == pytest.approx([2.24, 2.24, 2.34, 2.44])


def test_an_axis_holds_intervals_and_all_but_far_outliers():
    low, high = rows.reach([np.array([1.0, 2, 3, 4, 100])], [-1, float("nan")])
    assert low < -1 and 4 < high < 100


@pytest.mark.parametrize("name", ["03_membership", "03_canaries", "03_roc", "03_controls", "03_price"])
def test_captions_of_probes_name_every_n_that_is_drawn(name, four):
    figure = laid(name, four)
    assert all(re.search(rf"\b{n:.0f}\b", figure.caption) for n in figure.table["n"].dropna().unique())


def test_controls_that_leave_out_one_half_are_said_not_hidden(four):
    caption = laid("03_controls", four).caption
    assert (
        "at 0.472 [0.456, 0.488], below chance: a fault of the control" in caption and "30 clients (FedMIA)" in caption
    )
    table = laid("03_controls", four).table
    control = table[(table["against"] != "members") & (table["attack"] != "strongest")]
    off = ((control["low"] > 0.5) | (control["high"] < 0.5)).sum()
    assert f"of {len(control)} control intervals {off} leave it out" in caption


def test_the_interval_named_is_the_one_that_is_used():
    values = np.array([0.1, 0.3, 0.2, 0.25, 0.4, 0.6, 0.1, 0.2])
    half = 2.364624 * values.std(ddof=1) / 8**0.5  # Student's t, 7 degrees of freedom
    one = stats.interval(values)
    assert (one.low, one.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert style.INTERVAL == "95 % interval (Student's t)"


# -- one grammar ------------------------------------------------------------------------------------------------------


def luminance(colour):
    return linear(colour) @ np.array([0.2126, 0.7152, 0.0722])


def linear(colour):
    shares = np.array(to_rgb(colour))
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


DEUTERANOPIA = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])  # Machado 2009


def test_every_arm_has_a_name_and_a_look_of_its_own():
    assert set(LOOKS) == set(looks.NAMES) == {*ARMS, *CONTROLS}
    assert (
        len({look["color"] for look in LOOKS.values()})
        == len({look["marker"] for look in LOOKS.values()})
        == len(LOOKS)
    )
    assert len(set(looks.NAMES.values())) == len(looks.NAMES)


def test_colours_stand_out_from_paper_and_from_one_another_even_without_green():
    for arm in LOOKS:
        assert 1.05 / (luminance(LOOKS[arm]["color"]) + 0.05) >= 2.95, arm
    assert all(1.05 / (luminance(looks.ink(arm)) + 0.05) >= 4.5 for arm in {*LOOKS, *looks.RED})
    others = {*CONTROLS, "dml, clipped"} - {"shuffled"}  # which never stands beside the grey one
    for first, second in combinations([*ARMS, *others], 2):
        if not {first, second} <= {"fedavg", "fedavg+mixed", "fedavg, then public"}:
            assert apart(LOOKS[first], LOOKS[second]) > 0.1, (first, second)
    for first, second in combinations([*looks.RED.values(), *(LOOKS[arm] for arm in BESIDE_RELATIVES)], 2):
        assert apart(first, second) > 0.1, (first, second)


BESIDE_RELATIVES = ("dml", "dml-peer-first", "dml, clipped", "fedavg", "local", "local+public", "self")


def apart(first, second):
    seen = [np.cbrt(np.clip(DEUTERANOPIA @ linear(look["color"]), 0, 1)) for look in (first, second)]
    return np.linalg.norm(seen[0] - seen[1])


def test_a_rung_has_its_own_marker_whatever_else_a_run_has():
    planned = {arm for profile in PROFILES.values() for arm in profile.ladder.arms}
    rungs = (planned | set(read(RECORDED / "reduced-facemask", "bandwidth_ladder")["arm"])) - {*LOOKS}
    assert {rung.split(", ", 1)[1] for rung in rungs} == set(looks.RUNGS)
    assert len({marker for _, marker in looks.RUNGS.values()}) == len(looks.RUNGS)
    assert looks.look("dml, 8 bits")["marker"] == looks.look("fedavg, 8 bits")["marker"] == "v"
    assert looks.look("dml, 8 bits")["color"] == LOOKS["dml"]["color"]
    assert (
        looks.name("dml, every 2nd") == "DML, every 2nd round"
        and looks.name("fedavg, then public") in looks.NAMES.values()
    )


def test_names_and_numbers_are_as_in_the_field():
    assert (
        looks.data_name("facemask (3 train, 5 unseen), paper")
        == "Face-mask photos (3 train, 5 unseen), published protocol"
    )
    assert looks.data_name("a test") == "a test"
    assert looks.protocol("facemask (3,832 train, 5,988 unseen), reduced") == "reduced protocol"
    assert (
        looks.name("dsfl+labels") == "DS-FL + public labels"
        and looks.name("def-kt, only moved") == "Def-KT, only moved"
    )
    assert looks.look("fedmd+labels")["color"] == looks.look("fedmd")["color"]
    assert looks.signed(-1.789) == "−1.79" and looks.signed(0.5, "+.1f") == "+0.5"


def test_fold_plan_deals_every_training_image_once(four):
    table = laid("01_fold_plan", four).table
    assert len(table) == EXPERIMENT.folds and table["images"].sum() == 61
    assert table[["images: mask", "images: no mask"]].sum().tolist() == [30, 31]
    assert table["seen by"].value_counts().to_dict() == {"all": 3} | {f"client {i}": 2 for i in range(5)}


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
