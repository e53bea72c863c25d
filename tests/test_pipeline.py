"""The notebooks, run: a stranger's command from end to end, and what happens when a notebook cannot go on."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import asdict, fields

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dml.__main__ import main
from dml.arms.catalogue import ARMS
from dml.config import FIGURES, PROFILES, ROOT
from dml.evidence import bandwidth
from dml.evidence import many_clients as crowd
from dml.pipeline import notebooks as pipeline
from dml.pipeline import output
from dml.pipeline.notebooks import PipelineError
from dml.pipeline.run import Run
from dml.plots import catalogue
from dml.studies import small as small_study
from dml.training import machine

UNDRAWN = {"00_pictures", "01_contact_sheet"}  # figures that show images, which no table holds
SUFFIXES = ("pdf", "png", "svg", "csv", "txt")
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
FIRST = 'data = "faces"  # or another\nseeds = []\n'


def notebook(path, *cells, parameters=FIRST, tags=("parameters",)):
    """Write a notebook whose first code cell holds the parameters."""
    path.parent.mkdir(exist_ok=True)
    first = new_code_cell(parameters, metadata={"tags": list(tags)})
    content = new_notebook(cells=[new_markdown_cell("# A test"), first, *map(new_code_cell, cells)], metadata=KERNEL)
    nbformat.write(content, path)
    return path


def outputs(path):
    """What the code cells of an executed notebook show, as one text."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return json.dumps([cell.get("outputs", []) for cell in cells])


# -- which notebooks, which parameters --------------------------------------------------------------------------------


def test_notebooks_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("10_last", "02_second", "01_first", "draft", "1_odd", "03-dash"):
        (tmp_path / f"{name}.ipynb").touch()
    (tmp_path / "04_text.txt").touch()
    assert [path.stem for path in pipeline.notebooks(folder=tmp_path)] == ["01_first", "02_second", "10_last"]
    assert [path.stem for path in pipeline.notebooks("02", tmp_path)] == ["02_second"]
    assert [path.stem for path in pipeline.notebooks("01_first.ipynb", tmp_path)] == ["01_first"]
    assert [path.stem for path in pipeline.notebooks()][:2] == ["00_quickstart", "01_data_split"]


@pytest.mark.parametrize(("only", "there"), [("99", "01_first"), ("second", "01_first"), ("", "none")])
def test_no_such_notebook_lists_what_there_is(only, there, tmp_path):
    if there != "none":
        (tmp_path / f"{there}.ipynb").touch()
    with pytest.raises(PipelineError, match=f"{only!r}.*there are: {there}"):
        pipeline.notebooks(only, tmp_path)


def test_an_unknown_parameter_is_named_with_the_notebook_and_nothing_runs(tmp_path):
    path = notebook(tmp_path / "01_x.ipynb", "1 / 0")
    with pytest.raises(PipelineError, match=r"01_x\.ipynb has no parameter sedes; it has data, seeds"):
        pipeline.execute(path, {"data": "faces", "sedes": [1]}, tmp_path / "to")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("tags", [(), ("Parameters",), ("parameter", "injected-parameters")])
def test_one_cell_must_be_tagged(tags, tmp_path):
    path = notebook(tmp_path / "01_x.ipynb", tags=tags)
    with pytest.raises(PipelineError, match=r"01_x\.ipynb has 0 cells tagged 'parameters'; it needs exactly one"):
        pipeline.check(path, {"data": "faces"})


def test_two_tagged_cells_are_refused(tmp_path):
    path = notebook(tmp_path / "01_x.ipynb")
    content = nbformat.read(path, 4)
    content.cells.append(new_code_cell("seeds = [1]", metadata={"tags": ["parameters"]}))
    nbformat.write(content, path)
    with pytest.raises(PipelineError, match="has 2 cells tagged"):
        pipeline.check(path, {})


# -- running them -----------------------------------------------------------------------------------------------------


@pytest.fixture
def chain(sandbox, tmp_path, monkeypatch, no_workers):
    """Run notebooks of these cells in place of the real ones, one after the other in this process; returns the run."""

    def reproduce(*notebooks):
        names = ("profile", "data", "seeds", "results", "figures", "device", "precision")
        names += ("clients", "rounds", "train_images", "models")
        parameters = "\n".join(f"{name} = 0" for name in names)
        paths = [
            notebook(tmp_path / "source" / f"{i:02}_x.ipynb", *cells, parameters=parameters)
            for i, cells in enumerate(notebooks, 1)
        ]
        monkeypatch.setattr(pipeline, "notebooks", lambda only="": paths)
        return pipeline.reproduce(run)

    run = Run.open("smoke", "faces", (0, 3), str(tmp_path / "run"), device="cpu")
    output.claim(run.folder)
    (run.folder / "manifest.json").write_text("{}")  # of an earlier run
    reproduce.run = run
    return reproduce


def test_each_notebook_gets_the_parameters_in_a_kernel_of_its_own_and_the_manifest_comes_last(chain):
    show = "import os\nprint(profile, data, seeds, device, precision, 'earlier' in globals())\nearlier = 1"
    there = "from pathlib import Path\nprint((Path(results) / 'manifest.json').exists(), Path(figures).name)"
    file = chain([show, there], [show])
    folder = chain.run.folder
    assert file == folder / "manifest.json" and not list(folder.glob("*.part*"))
    stages = json.loads(file.read_text(encoding="utf-8"))["stages_s"]
    assert list(stages) == ["01_x", "02_x"] and all(0 < seconds < 60 for seconds in stages.values())
    first, second = (outputs(folder / "notebooks" / f"{stem}.ipynb") for stem in stages)
    assert all("smoke faces [0, 3] cpu float32 False" in shown for shown in (first, second))
    assert "False figures" in first
    source = folder.parent / "source"
    assert "smoke faces" not in outputs(source / "01_x.ipynb")  # only copies are executed


def test_several_notebooks_run_side_by_side_in_processes_of_their_own(tmp_path):
    meet = "from pathlib import Path; import time, os\n(Path(figures) / {0!r}).touch()\nend = time.time() + 60\n"
    meet += "while not (Path(figures) / {1!r}).exists(): assert time.time() < end; time.sleep(0.1)"
    cells = [meet.format("a", "b"), meet.format("b", "a")]  # each waits for the other
    paths = [notebook(tmp_path / f"{i:02}_x.ipynb", cell, parameters="figures = ''") for i, cell in enumerate(cells, 1)]
    if machine.cores() < 2:
        pytest.skip("one core: one at a time")
    spent = pipeline.execute_all(paths, {"figures": str(tmp_path)}, tmp_path / "out")
    assert list(spent) == ["01_x", "02_x"] and all(0 < seconds < 60 for seconds in spent.values())


@pytest.mark.parametrize("changed", [{}, {"seeds": [7]}, {"device": "cuda"}, {"models": "resnet8,visionnet"}])
def test_what_another_run_left_in_the_folder_goes_before_this_one_begins(chain, changed):
    file = chain(["1"], ["2"])
    folder, old = file.parent, json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(old | changed), encoding="utf-8")
    left = [
        "results.csv",
        "notebooks/02_x.ipynb",
        "report/02_x.html",
        "figures/02_a.png",
        "reconstructions.safetensors",
    ]
    (folder / "figures").mkdir()
    theirs = ("mine.txt", "results-mine.csv", "figures/02_mine.png")
    for name in (*left, *theirs):
        (folder / name).write_text("of another run")
    output.note(folder, [folder / name for name in left])
    pipeline._clear(chain.run)
    assert not file.exists() and all((folder / name).exists() for name in theirs)
    assert [name for name in left if (folder / name).exists()] == ([] if changed else left)


def test_the_project_is_no_folder_for_a_run(sandbox):
    run = Run.open("smoke", "faces", (0,), str(pipeline.NOTEBOOKS.parent), device="cpu")
    with pytest.raises(PipelineError, match="the project's own notebooks"):
        pipeline.reproduce(run)


def test_a_failing_cell_stops_the_run_and_keeps_what_there_is(chain):
    with pytest.raises(PipelineError) as failure:
        chain(
            ["import time; time.sleep(4); print('went well')"],
            ["print('so far')", "raise KeyError('broken on purpose')"],
            ["print('late')"],
        )
    text = str(failure.value)
    assert re.search(r"02_x\.ipynb, cell \[4\]: KeyError: .*broken on purpose", text)
    executed = chain.run.folder / "notebooks"
    assert str(executed) in text
    assert sorted(path.name for path in executed.iterdir()) == ["01_x.ipynb", "02_x.ipynb"]
    assert "went well" in outputs(executed / "01_x.ipynb")
    assert "so far" in outputs(executed / "02_x.ipynb") and "broken on purpose" in outputs(executed / "02_x.ipynb")
    numbers = [cell.get("execution_count") for cell in nbformat.read(executed / "02_x.ipynb", 4).cells]
    assert max(filter(None, numbers)) == 4  # the number in the message is the one beside the cell
    assert not (chain.run.folder / "manifest.json").exists()


def test_a_kernel_that_dies_is_an_error_that_names_the_cell(chain):
    with pytest.raises(PipelineError, match=r"01_x\.ipynb, cell \[4\]: the kernel died"):
        chain(["print('so far')", "import os; os._exit(9)", "print('late')"])
    assert "so far" in outputs(chain.run.folder / "notebooks" / "01_x.ipynb")
    assert not (chain.run.folder / "manifest.json").exists()


def test_a_bad_notebook_is_found_before_the_first_one_runs(chain, tmp_path, monkeypatch):
    good, bad = notebook(tmp_path / "01_good.ipynb"), notebook(tmp_path / "02_bad.ipynb", tags=())
    monkeypatch.setattr(pipeline, "notebooks", lambda only="": [good, bad])
    monkeypatch.setattr(pipeline, "execute", lambda *_: pytest.fail("something ran"))
    with pytest.raises(PipelineError, match="has no parameter"):
        pipeline.reproduce(chain.run)
    assert (chain.run.folder / "manifest.json").exists()


# -- the whole command ------------------------------------------------------------------------------------------------


def dml(place, *arguments):
    """The command line in the sandbox `place`."""
    command = [sys.executable, "-m", "dml", *map(str, arguments)]
    done = subprocess.run(command, env=place.environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory, sandbox_in):
    """`python -m dml reproduce`, run once for all tests below: its sandbox, its folder and what it said."""
    place = sandbox_in(tmp_path_factory.mktemp("sandbox"))
    committed = contents(FIGURES), contents(ROOT / "notebooks")
    done = dml(place, "reproduce", "--seeds", "1", "--out", place.folder / "out")
    assert (contents(FIGURES), contents(ROOT / "notebooks")) == committed
    return place, place.folder / "out", done


def test_the_command_leaves_all_it_promises(reproduced):
    _, folder, done = reproduced
    figures = {*UNDRAWN, catalogue.RECONSTRUCTION, *catalogue.FIGURES}
    probes = [path.name for path in folder.glob("privacy_*.csv")]
    assert len(probes) == 8
    assert set(contents(folder)) == {
        *("results.csv", "history.csv", "costs.csv", "images.csv", "ledger.csv", "manifest.json"),
        *(output.LIST, output.LOCK),
        *("bandwidth_costs.csv", "lesson.csv", "clients.csv", "crowd_clients.csv", "hostile.csv", "report/index.html"),
        *("skew_results.csv", "skew_cells.csv"),
        *("generalisation_gaps.csv", "generalisation_errors.csv"),
        *(f"bandwidth_{field.name}.csv" for field in fields(bandwidth.BandwidthTables)),
        *(f"notebooks/{path.name}" for path in pipeline.notebooks()),
        *(f"report/{path.stem}.html" for path in pipeline.notebooks()),
        *(*probes, "reconstructions.safetensors"),
        *(f"figures/{name}.{suffix}" for name in figures for suffix in SUFFIXES),
    }
    assert str(folder) in done.stdout and "error:" not in done.stderr  # zmq may log one of its own as a kernel ends
    for said in ("finished 01_data_split.ipynb", "finished 02_dml_vs_fedavg.ipynb", "training"):
        assert said in done.stderr


def test_results_and_history_are_tidy(reproduced, small):
    _, folder, _ = reproduced
    results, history = (pd.read_csv(folder / f"{name}.csv") for name in ("results", "history"))
    assert list(results.columns) == ["seed", "arm", "round", "client", "metric", "value"]
    assert list(history.columns) == ["seed", "arm", "round", "phase", "epoch", "client", "loss", "accuracy"]
    for table in (results, history):
        assert list(table["arm"].unique()) == list(ARMS) and set(table["seed"]) == {0}
        assert table.notna().all(axis=None)
        assert not table.duplicated(subset=[*table.columns[: -1 if table is results else -2]]).any()
    accuracy = results[results["metric"] == "unseen accuracy"].groupby("arm")["client"].agg(list)
    assert accuracy["pooled"] == [-1] and all(accuracy[arm] == [0, 1] for arm in ARMS if arm != "pooled")
    assert results[results["metric"].str.contains("accuracy")]["value"].between(0, 1).all()
    assert history["epoch"].max() == small.epochs and history["round"].max() == small.rounds


def test_the_manifest_tells_how_to_repeat_the_run_and_is_written_last(reproduced, small):
    place, folder, _ = reproduced
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["experiment"] == asdict(small) and manifest["seeds"] == [0]
    assert (manifest["profile"], manifest["data"]) == ("smoke", "faces") and manifest["device"] == "cpu"
    assert manifest["classes"] == ["mask", "no mask"] and manifest["source"] == "drawn, seed 0"
    assert all(re.fullmatch(r"[0-9a-f]{64}", manifest[fact]) for fact in ("data_sha256", "code_version"))
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown", manifest["commit"])
    assert {"torch", "torchvision", "numpy", "matplotlib", "papermill"} <= set(manifest["versions"])
    assert manifest["versions"]["pandas"] == pd.__version__ and manifest["cores"] >= 1 and manifest["processor"]
    assert list(manifest["stages_s"]) == [path.stem for path in pipeline.notebooks()]
    assert all(seconds > 0 for seconds in manifest["stages_s"].values())
    assert [each["arm"] for each in manifest["arms_s"]] == list(ARMS)
    assert str(place.folder) not in json.dumps(manifest)  # nothing of this machine's folders
    last = (folder / "manifest.json").stat().st_mtime_ns
    assert all(path.stat().st_mtime_ns <= last for path in folder.rglob("*") if path.is_file())


def test_executed_notebooks_show_tables_figures_and_no_error(reproduced):
    _, folder, _ = reproduced
    for path in sorted((folder / "notebooks").iterdir()):
        cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        shown = [output for cell in cells for output in cell.outputs]
        told = [cell for cell in cells if "skip-execution" not in cell.metadata.get("tags", [])]
        assert len(cells) - len(told) == (path.stem == "00_quickstart")
        assert all(cell.execution_count for cell in told) and not any(each.output_type == "error" for each in shown)
        pictures = sum("image/png" in each.get("data", {}) for each in shown)
        assert pictures == sum("run.figure(" in cell.source or "run.save(" in cell.source for cell in cells) > 0
        assert any("text/html" in each.get("data", {}) for each in shown)
    shown = outputs(folder / "notebooks" / "02_dml_vs_fedavg.ipynb")
    assert "0 computed, 10 reused (of 10 pairs of arm and seed)" in shown  # the pipeline had done them
    assert "0 parts computed, " in outputs(folder / "notebooks" / "03_privacy_probes.ipynb")


def test_the_report_opens_clean_in_a_browser(reproduced, look):
    _, folder, _ = reproduced
    index = look(folder / "report" / "index.html")
    links = [link.get_attribute("href") for link in index.locator("a").all()]
    assert links == [f"{path.stem}.html" for path in pipeline.notebooks()]
    assert index.locator("table").last.locator("tr").count() > 6  # verdicts: C1 to C4, L1, L2, F2
    for link in links:
        page = look(folder / "report" / link)
        assert page.locator("img").count() >= 2 and page.locator("h1").count() == 1


def test_everything_stayed_in_the_sandbox(reproduced):
    place, _, _ = reproduced
    computed = len({*ARMS, *PROFILES["smoke"].ladder.arms}) + len(crowd.STUDIED)  # these with a third client
    cells = small_study.cells(place.experiment, PROFILES["smoke"].skewed)
    computed += sum(len(arms) for _, arms in cells)  # notebook 05's
    assert len(list((place.cache / "arms").glob("*.json"))) == computed
    assert len(list((place.cache / "images").glob("faces-20-*.safetensors"))) == 2  # for two clients and for three


def test_figures_draws_the_same_bytes_again_from_the_tables_alone(
    reproduced, tmp_path, capsys, monkeypatch, few_rendered, no_workers
):
    """A few figures, as the notebooks drew them; test_readme.py has all of them, of the recorded runs."""
    (_, folder, _), few = reproduced, sorted(few_rendered)[::3]
    drawn = {name.partition(".")[0] for name in contents(folder / "figures")}
    assert drawn - set(catalogue.present(folder)) == UNDRAWN and len(drawn) > len(UNDRAWN) + len(few)
    monkeypatch.setattr(catalogue, "present", lambda _: few)
    assert main(["figures", "--from", str(folder), "--out", str(tmp_path / "again")]) == 0
    assert str(tmp_path / "again") in capsys.readouterr().out
    first, again = contents(folder / "figures"), contents(tmp_path / "again")
    assert again.pop(output.LIST)
    assert all(again.pop(f"{text}.md") for text in ("claims", "privacy", "bandwidth", "verdicts"))
    assert set(again) == {f"{name}.{suffix}" for name in few for suffix in SUFFIXES}
    assert len(few) > 3 and again == {name: first[name] for name in again}


def test_a_second_run_of_one_notebook_reuses_every_result_and_gives_the_same_files(reproduced, enter):
    place, folder, _ = reproduced
    enter(place)
    assert main(["reproduce", "--seeds", "1", "--only", "02", "--out", str(place.folder / "again")]) == 0
    first, again = contents(folder), contents(place.folder / "again")
    assert set(again) == {
        name
        for name in first
        if not re.search("/0[013456789]_|privacy|reconstr|bandwidth|ledger|lesson|clients|skew|hostile|general", name)
    }
    varying = {"costs.csv", "manifest.json", "report/index.html", output.LIST}  # they tell times, or what was run
    varying |= {"notebooks/02_dml_vs_fedavg.ipynb", "report/02_dml_vs_fedavg.html"}
    assert {name for name in again if again[name] != first[name]} <= varying
    shown = outputs(place.folder / "again" / "notebooks" / "02_dml_vs_fedavg.ipynb")
    assert "0 computed, 10 reused (of 10 pairs of arm and seed)" in shown
    assert pd.read_csv(place.folder / "again" / "costs.csv")["reused"].all()


def test_a_run_from_scratch_gives_the_same_bytes(reproduced, enter, sandbox_in, no_workers, tmp_path):
    """Another cache, one process in place of several."""
    enter(sandbox_in(tmp_path / "elsewhere"))
    run = Run.open("smoke", "faces", [0], str(tmp_path / "run"))
    assert run.accuracy().summary() == "10 computed, 0 reused (of 10 pairs of arm and seed)"
    for table in ("results.csv", "history.csv"):
        assert (run.folder / table).read_bytes() == (reproduced[1] / table).read_bytes()
