"""What users' folders, machines and habits do to a run: nothing of theirs is lost, and what cannot run says so."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import papermill
import pytest
from PIL import Image

from dml import config
from dml.__main__ import main
from dml.config import ROOT
from dml.data.images import images_of
from dml.evidence import style
from dml.evidence.about import About, read
from dml.experiment import cache
from dml.files import DataError, read_table
from dml.pipeline import ahead, notebooks, output
from dml.pipeline.notebooks import PipelineError
from dml.pipeline.run import Run
from dml.plots import catalogue, glyphs
from dml.plots.data import contact_sheet, fold_plan, style_confound

NASTY = ("a b", "$x_{$", "5$", "10$", "50%", "_under", "#", "口罩", "O'Neil & <b>")


def noise(folder, names, train, unseen=4, size=24):
    """A folder of drawn noise: train/<class>/ with `train` images a class (or one number each), and unseen/<class>/."""
    rng, counts = np.random.default_rng(0), np.broadcast_to(train, len(names))
    for split, each in (("train", counts), ("unseen", np.full(len(names), unseen))):
        for name, count in zip(names, each, strict=True):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index:04}.png")
    return folder


def everything(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- nothing of the user's is touched ----------------------------------------------------------------------------------

THEIRS = (
    {"results.csv": "mine"},
    {"thesis.tex": "mine", "figures/02_rounds.png": "mine"},
    {"manifest.json": '{"name": "an app"}'},
    {"notebooks/02_x.ipynb": "{}"},
)


@pytest.mark.parametrize("files", THEIRS)
@pytest.mark.parametrize("command", ["reproduce --seeds 1 --out", "figures --from data/results/reduced-facemask --out"])
def test_a_folder_with_files_of_others_is_refused_and_stays_as_it_is(command, files, sandbox, tmp_path, capsys):
    for name, text in files.items():
        (tmp_path / "theirs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "theirs" / name).write_text(text)
    before = everything(tmp_path / "theirs")
    words = [str(ROOT / word) if word.startswith("data/") else word for word in command.split()]
    assert main([*words, str(tmp_path / "theirs")]) == 1
    assert "holds files that are not of this project" in capsys.readouterr().err
    assert everything(tmp_path / "theirs") == before


@pytest.mark.parametrize("write", ["write", "save"])
def test_a_notebook_by_hand_does_not_write_among_files_of_others_either(write, sandbox, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "lesson.csv").write_text("mine")
    run = Run.open("smoke", "faces", [0], str(tmp_path / "theirs"))
    thing = contact_sheet(run.images) if write == "save" else pd.DataFrame({"a": [1]})
    with pytest.raises(DataError, match="holds files that are not of this project"):
        getattr(run, write)(thing, "lesson")
    assert everything(tmp_path / "theirs") == {"lesson.csv": b"mine"}


def test_only_what_is_listed_as_ours_is_ever_removed(tmp_path):
    folder, outside = tmp_path / "run", tmp_path / "outside.csv"
    outside.write_text("not in the folder")
    output.claim(folder)
    output.claim(folder)  # again
    output.note(folder, [folder / "ours.csv", folder / "figures" / "ours.png", outside])
    (folder / "figures").mkdir()
    for name in ("ours.csv", "figures/ours.png", "theirs.csv", "figures/theirs.png"):
        (folder / name).write_text("")
    with (folder / output.LIST).open("a") as listed:  # somebody's hand
        listed.write("../outside.csv\nfigures/../../outside.csv\n")
    output.clear(folder)
    assert outside.exists() and set(everything(folder)) == {"theirs.csv", "figures/theirs.png", output.LIST}


def test_a_link_in_our_folder_does_not_lead_a_removal_out_of_it(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.csv").write_text("mine")
    folder = tmp_path / "run"
    output.claim(folder)
    (folder / "figures").symlink_to(tmp_path / "theirs")
    output.note(folder, [folder / "figures" / "a.csv"])
    output.clear(folder)
    assert (tmp_path / "theirs" / "a.csv").read_text() == "mine"


@pytest.mark.parametrize("text", ["[]", "no json", "", '"a string"', "3"])
def test_a_manifest_that_is_none_is_named_and_stays(text, sandbox, tmp_path):
    run = Run.open("smoke", "faces", [0], str(tmp_path / "run"))
    output.claim(run.folder)
    (run.folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json is not what `reproduce` wrote .*remove it or choose"):
        notebooks._clear(run)
    assert (run.folder / "manifest.json").read_text() == text


# -- one run at a time in a folder -------------------------------------------------------------------------------------


def test_a_folder_is_held_by_one_process_and_let_go_when_it_is_killed(tmp_path):
    hold = "import sys, time; from pathlib import Path; from dml.pipeline import output\n"
    hold += "with output.held(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=f"is being written by process {other.pid} on "), output.held(tmp_path):
            pass
        other.kill()
        other.wait()
        with output.held(tmp_path), pytest.raises(DataError, match=f"process {os.getpid()} "), output.held(tmp_path):
            pass
    with output.held(tmp_path):
        pass


# -- names that look like something else -------------------------------------------------------------------------------

GUESSED = (
    ("0", "1"),
    ("01", "1"),
    ("True", "False"),
    ("1e3", "2e3"),
    ("NA", "nan"),
    ("None", "null"),
    ("round", "images"),
)


@pytest.mark.parametrize("names", GUESSED)
def test_classes_are_called_what_their_folders_are_called(names, sandbox, tmp_path):
    run = Run.open("smoke", str(noise(tmp_path / "data", names, 30)), [0], str(tmp_path / "run"))
    run.describe()
    table = read(run.folder, "images")
    assert set(table["class"]) == set(names)
    plan = fold_plan(table, run.experiment, run.title).table
    assert [name for name in plan if name.startswith("images: ")] == [f"images: {name}" for name in sorted(names)]
    per_class = plan.filter(like="images: ")
    assert (per_class.sum(axis=1) == plan["images"]).all() and plan["round"].max() == run.experiment.rounds


def test_an_empty_cell_is_missing_and_a_name_never_is(tmp_path):
    table = pd.DataFrame({"class": ["NA", "007", "a"], "value": [1.5, np.nan, 2], "arm": ["dml", "", "local"]})
    table.to_csv(tmp_path / "t.csv", index=False)
    again = read_table(tmp_path / "t.csv")
    assert again["class"].tolist() == ["NA", "007", "a"] and again["value"].isna().tolist() == [False, True, False]
    assert again["arm"].isna().tolist() == [False, True, False]


@pytest.fixture
def named(sandbox, tmp_path):
    """A run on classes with nasty names, described."""
    run = Run.open("smoke", str(noise(tmp_path / "data", NASTY, 8)), [0], str(tmp_path / "run"), rounds=1)
    run.describe()
    return run


def test_names_are_drawn_as_they_are(named, monkeypatch):
    drawn = []
    monkeypatch.setattr(glyphs, "find", lambda fig: drawn.append(fig))
    table = read(named.folder, "images")
    for draw in (style_confound, fold_plan):
        facts = (named.experiment, named.title) if draw is fold_plan else (named.title,)
        draw(table, *facts)
    contact_sheet(named.images)
    confound, _, sheet = drawn
    assert [text.get_text() for text in confound.axes[0].get_legend().get_texts()] == sorted(NASTY)
    texts = [text for fig in drawn for text in fig.findobj(mpl.text.Text) if "$" in text.get_text()]
    assert texts and not any(text.get_parse_math() for text in texts if text.get_text().replace(r"\$", "").count("$"))
    ticks = {label.get_text() for label in confound.axes[0].get_xticklabels()}
    assert {"10⁴", "10⁵"} <= ticks  # powers of ten are no mathematics either
    assert f"training set: {NASTY[1]}" in [axes.get_title(loc="left") for axes in sheet.axes]
    assert "$x_{$" in fold_plan(table, named.experiment, named.title).caption


def test_characters_that_no_font_has_are_said_once(named, caplog, recwarn):
    table = read(named.folder, "images")
    for cached in (glyphs._families, glyphs._say):
        cached.cache_clear()
    for _ in range(2):
        style_confound(table, named.title)
    told = [record.getMessage() for record in caplog.records if "no installed font" in record.getMessage()]
    covered = glyphs._families(frozenset(map(ord, "口罩"))) != ()
    assert len(told) == (0 if covered else 1) and all("口" in text for text in told)
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_missing_character_comes_from_an_installed_font_that_has_it(monkeypatch):
    lacking = frozenset([ord("a")])
    glyphs._families.cache_clear()
    monkeypatch.setattr(glyphs, "_others", lambda: iter([("Less", frozenset()), ("More", lacking | {0x4E00})]))
    assert glyphs._families(lacking) == ("More",)
    glyphs._families.cache_clear()


SETTINGS = ("text.usetex: True", "font.size: 31\nfont.family: serif", "figure.dpi: 17\naxes.facecolor: red")
CONFOUND = "01_style_confound"


def as_committed(folder):
    """Draw a committed figure into a folder; whether its picture is the committed one."""
    record = config.RECORDED / "paper-facemask"
    catalogue.draw(CONFOUND, record, About.read(record)).save(folder, "drawn")
    committed = config.FIGURES / "paper-facemask" / CONFOUND
    return (folder / "drawn.png").read_bytes() == committed.with_suffix(".png").read_bytes()


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_users_settings_of_matplotlib_do_not_reach_our_figures(settings, tmp_path):
    (tmp_path / "matplotlibrc").write_text(settings)
    with mpl.rc_context(fname=tmp_path / "matplotlibrc"):
        before = dict(mpl.rcParams)
        assert as_committed(tmp_path)
        assert dict(mpl.rcParams) == before  # and ours do not reach theirs


def test_a_matplotlibrc_does_not_reach_a_process_of_ours(tmp_path):
    (tmp_path / "matplotlibrc").write_text("\n".join(SETTINGS))
    code = "import sys; from pathlib import Path; import test_users; assert test_users.as_committed(Path(sys.argv[1]))"
    places = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    environment = os.environ | {"MATPLOTLIBRC": str(tmp_path), "PYTHONPATH": places}
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, env=environment)


# -- what cannot run is said before anything does ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "train", "short"),
    [
        (2, 40, "a client has 3 training images, 2 to train on; the membership game needs 4, two of each of 2 classes"),
        (3, 30, "a client has 3 training images, 2 to train on; the membership game needs 6"),
        (2, (30, 570), 'class "class-00" has 30 training images without near-duplicates; the membership game needs'),
        (10, 60, "a client has 24 training images, 19 to train on; the membership game needs 20"),
    ],
)
def test_probes_that_cannot_run_are_left_out_with_their_reason(names, train, short, sandbox, tmp_path, monkeypatch):
    monkeypatch.setitem(config.PROFILES, "smoke", replace(config.PROFILES["smoke"], experiment=config.SMALL))
    folder = noise(tmp_path / "data", [f"class-{index:02}" for index in range(names)], train)
    run = Run.open("smoke", str(folder), [0], device="cpu")
    assert run.no_privacy.startswith(short) and run.skipped("03_privacy_probes") == run.no_privacy
    assert "--train-images" in run.no_privacy and run.jobs("03") == [] and run.jobs("02")
    assert {job.title for job in run.jobs("09")} >= {job.title for job in run.jobs("02")}
    with pytest.raises(DataError, match="membership game needs"):
        run.privacy()


def test_what_is_left_out_stands_in_the_manifest_and_on_the_index(sandbox, tmp_path, monkeypatch):
    parameters = "\n".join(f"{name} = 0" for name in ("profile", "data", "seeds", "results", "figures"))
    parameters += "".join(f"\n{name} = 0" for name in ("device", "precision", "clients", "rounds", "train_images"))
    parameters += "\nmodels = ''"
    run = Run.open("smoke", str(noise(tmp_path / "data", ["a", "b"], 13)), [0], str(tmp_path / "run"), rounds=4)
    assert run.no_privacy
    paths = [tmp_path / "source" / name for name in ("02_x.ipynb", "03_x.ipynb")]
    paths[0].parent.mkdir()
    for path in paths:
        papermill.iorw.write_ipynb(_notebook(parameters), str(path))
    monkeypatch.setattr(notebooks, "notebooks", lambda only="": [path for path in paths if path.name.startswith(only)])
    monkeypatch.setattr(notebooks, "listed", lambda run, only="": [])
    manifest = json.loads(notebooks.reproduce(run).read_text(encoding="utf-8"))
    assert manifest["skipped"] == {"03_x": run.no_privacy} and list(manifest["stages_s"]) == ["02_x"]
    assert "03_x was left out:" in (run.folder / "report" / "index.html").read_text(encoding="utf-8")
    with pytest.raises(PipelineError, match="nothing is left to run"):
        notebooks.reproduce(run, "03")


def _notebook(parameters):
    import nbformat

    tagged = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    return nbformat.v4.new_notebook(
        cells=[tagged], metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def test_sizes_can_be_chosen_and_every_class_counts(sandbox, tmp_path, monkeypatch):
    names = [f"class-{index:02}" for index in range(26)]
    folder = str(noise(tmp_path / "data", names, 8, 2))
    own = replace(config.SMALL, clients=2, rounds=2, size=20, train_images=60)
    monkeypatch.setitem(config.PROFILES, "smoke", replace(config.PROFILES["smoke"], experiment=own))
    with pytest.raises(DataError, match=r'class "class-00" has 2 training images, but 7 stratified folds need'):
        Run.open("smoke", folder, [0]).jobs("02")
    run = Run.open("smoke", folder, [0], train_images=208, clients=3, rounds=1)
    assert run.experiment.folds == 5 and len(run.images.train) == 208 and run.jobs("02")
    assert run.folder.name.endswith("-3-clients-1-rounds-208-train-images") and "K = 3, R = 1" in run.title
    with pytest.raises(ValueError, match="clients=-1: give 0 for the profile's own"):
        Run.open("smoke", "faces", clients=-1)
    assert Run.open("smoke", "faces", clients=2).folder == Run.open("smoke", "faces").folder  # the profile's own


# -- machines and habits -----------------------------------------------------------------------------------------------


def test_a_cache_that_cannot_be_written_is_said_before_anything_is_computed(sandbox, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(config, "CACHE", tmp_path / "file" / "cache")
    with pytest.raises(DataError, match=r"cannot write to the cache .*file/cache .*: set DML_CACHE"):
        Run.open("smoke", "faces", [0])
    with pytest.raises(DataError, match="set DML_CACHE"):
        cache.check()


def test_a_checkout_that_is_not_ours_to_write_has_its_cache_in_the_users_folder(tmp_path):
    code = "import os; os.access = lambda *_: False; from dml import config; print(config.CACHE)"
    environment = {name: value for name, value in os.environ.items() if name != "DML_CACHE"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert said.stdout.strip().startswith(str(tmp_path)) or sys.platform != "linux"
    assert str(config.DATA) not in said.stdout


def test_what_the_terminal_cannot_show_does_not_fail_a_finished_run():
    code = "from dml.__main__ import printable; printable(); print('Tables: /tmp/é口罩😀')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert said.returncode == 0 and said.stdout == b"Tables: /tmp/\\xe9\\u53e3\\u7f69\\U0001f600\n"


@pytest.mark.parametrize("command", ["reproduce --seeds 1 --out", "figures --from {record} --out", "fetch --to"])
def test_a_folder_that_cannot_be_made_is_one_line(command, sandbox, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = command.format(record=config.RECORDED / "reduced-facemask").split()
    assert main([*words, str(tmp_path / "file" / "out")]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and str(tmp_path / "file") in error


def test_a_full_disk_under_papermill_names_the_copy(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    papermill.iorw.write_ipynb(_notebook("a = 1"), str(tmp_path / "01_x.ipynb"))
    monkeypatch.setattr(papermill, "execute_notebook", full)
    with pytest.raises(PipelineError, match=r"cannot write .*out/01_x\.ipynb .*No space left on device.*make room"):
        notebooks.execute(tmp_path / "01_x.ipynb", {}, tmp_path / "out")


def test_ctrl_c_is_one_line(sandbox, tmp_path):
    command = [sys.executable, "-m", "dml", "reproduce", "--seeds", "1", "--only", "02", "--out", str(tmp_path / "run")]
    place = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    with place as run:
        for line in run.stderr:
            if line.startswith("data: "):
                break
        time.sleep(1.5)  # until the workers start
        os.killpg(run.pid, signal.SIGINT)
        said = run.stderr.read()
    assert run.returncode == 130 and said.strip().splitlines()[-1] == "stopped; the same command goes on from here"
    assert "Traceback" not in said


def test_a_script_without_a_main_guard_is_told_so(sandbox, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from dml.training.workers import Task, carry_out\ncarry_out([Task(print, ())])\n")
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert said.returncode == 1 and "__main__" in said.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("seeds", [1, 0])
def test_a_number_for_a_list_of_seeds_is_explained(seeds, sandbox):
    with pytest.raises(ValueError, match=rf"seeds = {seeds}: give a list of them, for example \[{seeds}\]"):
        Run.open("smoke", "faces", seeds)


def test_a_tilde_is_the_home_folder(sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = Run.open("smoke", "faces", [0], "~/run", "~/pictures")
    assert (run.folder, run.figures) == (tmp_path / "run", tmp_path / "pictures")


def test_one_image_of_a_class_is_named_by_its_class(sandbox, tmp_path):
    folder = noise(tmp_path / "data", ["cat", "dog"], (1, 40))
    run = Run.open("smoke", str(folder), [0])
    with pytest.raises(DataError, match='class "cat" has 1 training images'):
        run.jobs("02")
    with pytest.raises(DataError, match='class "cat" has 1 training images'):
        run.lesson()
    assert style.describe(images_of(str(folder), run.experiment)) is not None


def test_a_module_beside_the_caller_is_found_by_what_we_start(tmp_path, monkeypatch):
    """As `python -m` finds it: a user's own model, from the folder in which the command is given."""
    (tmp_path / "netsofmine.py").write_text("def small(size, logits): ...\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ahead.search_path())
    monkeypatch.chdir(ROOT)  # where kernels start is not where we are
    ask = "import dml, netsofmine; print(dml.__file__, netsofmine.small.__name__)"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, cwd=tmp_path.parent, check=True)
    package, name = told.stdout.split()
    assert name == "small" and package == str(ROOT / "dml" / "__init__.py")
