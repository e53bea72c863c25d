"""Jobs: listed before anything runs, split between machines, done by any executor, and never by another code."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dml import fingerprint
from dml.__main__ import main
from dml.config import ROOT
from dml.data.images import images_of
from dml.experiment import jobs, results
from dml.files import DataError
from dml.pipeline import notebooks
from dml.pipeline.needs import NEEDS
from dml.pipeline.run import Run
from dml.plots import catalogue
from dml.progress import Progress
from dml.training import workers

CPU = torch.device("cpu")


@pytest.fixture
def run(sandbox, tmp_path):
    return Run.open("smoke", "faces", (0, 1), str(tmp_path / "run"), device="cpu")


def files_of(listed):
    return {file for job in listed for file in job.files}


def contents(folder):
    """The bytes of every record below a folder, but for the seconds that it took."""
    found = {}
    for file in sorted(folder.rglob("*.json")):
        record = json.loads(file.read_text())
        found[file.name] = {key: value for key, value in record.items() if key not in ("wall_s", "cpu_s")}
    return found | {file.name: file.read_bytes() for file in sorted(folder.rglob("probes/*"))}


# -- the list ---------------------------------------------------------------------------------------------------------


def test_listing_runs_nothing_and_names_each_result_once(run, sandbox, monkeypatch):
    monkeypatch.setattr(results, "measure", lambda *_: pytest.fail("trained"))
    listed = notebooks.listed(run)
    assert len(files_of(listed)) == len(listed) > 30 and not any(job.done for job in listed)
    assert all(job.cost > 0 and job.steps > 0 and job.title for job in listed)
    apart = files_of(job for notebook in NEEDS for job in run.jobs(notebook))
    needed = [files_of(run.jobs(notebook)) for notebook in ("05", "07", "08", "09_claims")]
    assert files_of(listed) == apart == set().union(*needed)
    assert files_of(notebooks.listed(run, "02")) == files_of(run.jobs("02")) < apart and run.jobs("01_data_split") == []
    assert not (sandbox.cache / "arms").exists()


def test_a_notebook_finds_what_its_jobs_have_left(run, no_workers):
    """The jobs behind notebook 02 are all that it needs: it computes nothing, and would without them."""
    assert jobs.carry_out(run.jobs("02")) == len(run.jobs("02")) == 20
    assert run.accuracy().summary() == "0 computed, 20 reused (of 20 pairs of arm and seed)"
    next(iter(files_of(run.jobs("02")))).unlink()
    assert run.accuracy().summary() == "1 computed, 19 reused (of 20 pairs of arm and seed)"


def test_a_longer_arm_costs_more_and_twice_the_rounds_about_twice(small):
    def cost(arm, **changes):
        experiment = replace(small, **changes)
        return results.cost(experiment, images_of("faces", replace(small, rounds=2)), arm)

    assert cost("dml") > cost("fedavg") > 0 and cost("dml", epochs=4) > 2 * cost("dml")
    assert 2 < cost("local", size=40) / cost("local", size=20) < 4.5  # the area is four times as large


def test_the_command_lists_jobs_done_and_missing(sandbox, capsys, no_workers):
    assert main(["jobs", "--seeds", "1", "--only", "02"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("missing  ") == 10 and re.search(r"10 jobs, 10 missing: about [\d,]+ of [\d,]+ CPU s", shown)
    jobs.carry_out(Run.open("smoke", "faces", [0]).jobs("02")[:4])
    assert main(["jobs", "--seeds", "1", "--only", "02"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("done  ") == 4 and "10 jobs, 6 missing" in shown


def test_the_first_result_is_said_when_it_is_there(run, monkeypatch):
    notes, listed = [], run.jobs("02")[:2]
    monkeypatch.setattr(
        workers.Progress, "to", lambda self, done, note="", at_once=False: notes.append((note, at_once))
    )
    with ThreadPoolExecutor(1) as executor:
        jobs.carry_out(listed, executor)
    told = []
    for job in listed:
        rows = json.loads(job.files[0].read_text())["rows"]
        right = [row["value"] for row in rows if row["metric"] == "unseen accuracy"]
        told.append(f"1 of 2 jobs ({job.title}: {50 * sum(right):.1f} % right)")
    first = next(note for note, _ in notes if "right" in note)
    assert len(right) == 2 and first in told and notes[-1][0] == "2 of 2 jobs"
    assert [note for note, at_once in notes if at_once] == [first]  # also in a log, which has a line now and then


def test_a_line_that_may_not_wait_stands_in_a_log_at_once(caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # no terminal
    with caplog.at_level("INFO", "dml"), Progress("training", 2.0) as progress:
        progress.to(0.5, "nothing yet")
        progress.to(1.0, "the first", at_once=True)
        assert [record.message.partition(", about")[0] for record in caplog.records] == ["training: 50 %, the first"]


PREPARED = """
import sys
from dml.pipeline import ahead
if __name__ == "__main__":
    heavy = {name for name in sys.modules if name.partition(".")[0] in ("torch", "pandas", "matplotlib")}
    ahead.prepare("dml.losses")
    from dml.training import workers
    workers.carry_out([workers.Task(exec, (LOOK,))], lambda task, result: print(sorted(heavy), result))
"""
LOOK = "import os, sys; assert 'dml.losses' in sys.modules and os.environ['PYTHONPATH'].startswith(ROOT), sys.modules"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers import for themselves")
def test_workers_are_copies_of_a_process_that_has_imported_what_they_need(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PREPARED.replace("LOOK", repr(LOOK.replace("ROOT", repr(str(ROOT))))))
    elsewhere = {**os.environ, "PYTHONPATH": "/elsewhere"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=elsewhere)
    assert done.stdout == "[] None\n", done.stderr


def test_help_is_there_before_anything_heavy_is_imported():
    code = "import sys; from dml.__main__ import parser; parser().format_help(); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "dml.config" in loaded and not any(f"'{heavy}'" in loaded for heavy in ("torch", "pandas", "matplotlib"))


def test_no_grammar_of_addresses_is_built_and_a_users_kernel_is_left_as_it_is():
    """In a fork a module, so that what all need is imported once."""
    code = """
import importlib, os, sys
import dml.pipeline.run
print("rfc3987_syntax" in sys.modules, flush=True)
for module in ("notebooks", "report"):
    if os.fork() == 0:
        importlib.import_module(f"dml.pipeline.{module}")
        print(sys.modules["rfc3987_syntax"], "jsonschema" in sys.modules)
        sys.exit()
    os.wait()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout == "False\nNone True\nNone True\n", ran.stderr


# -- parts for several machines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_shards_are_disjoint_complete_balanced_and_the_same_on_every_machine(run, parts):
    listed = notebooks.listed(run)
    shards = [jobs.shard(listed, part, parts) for part in range(1, parts + 1)]
    assert sum(map(len, shards)) == len(listed) == len(set().union(*map(files_of, shards)))
    backwards = [jobs.shard(listed[::-1], part, parts) for part in range(1, parts + 1)]
    assert [[job.files for job in some] for some in shards] == [[job.files for job in some] for some in backwards]
    costs = [sum(job.cost for job in some) for some in shards]
    assert max(costs) - min(costs) <= max(job.cost for job in listed)


def test_shards_fill_a_shared_cache_with_the_bytes_of_one_machine(sandbox, enter, tmp_path, capsys, no_workers):
    options = ["reproduce", "--seeds", "1", "--only", "02"]
    for part in (1, 2, 3):
        assert main([*options, "--shard", f"{part}/3"]) == 0
    assert "0 of 10 jobs are left: run it without --shard" in capsys.readouterr().out
    shared = contents(sandbox.cache)
    enter(replace(sandbox, folder=tmp_path / "alone"))
    jobs.carry_out(Run.open("smoke", "faces", [0]).jobs("02"))
    assert contents(tmp_path / "alone" / "cache") == shared and len(shared) == 10


def test_a_gpu_takes_no_part_of_the_jobs(sandbox, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert main(["reproduce", "--device", "cuda", "--shard", "1/2"]) == 1
    assert "--shard on a GPU: the parts would overlap" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_an_impossible_shard_is_a_usage_error(text, capsys):
    with pytest.raises(SystemExit) as end:
        main(["reproduce", f"--shard={text}"])
    assert end.value.code == 2 and "from 1/8 to 8/8" in capsys.readouterr().err


# -- any executor -----------------------------------------------------------------------------------------------------


def test_any_executor_gives_the_bytes_of_a_process(run, sandbox, enter, tmp_path, monkeypatch):
    listed = run.jobs("02")[:3]
    with ThreadPoolExecutor(1) as pool:
        assert jobs.carry_out(listed, pool) == 3
    threads = contents(sandbox.cache)
    enter(replace(sandbox, folder=tmp_path / "process"))
    monkeypatch.setattr(workers.machine, "cores", lambda: 1)
    assert jobs.carry_out(run.jobs("02")[:3]) == 3
    assert contents(tmp_path / "process" / "cache") == threads and len(threads) == 3


def test_other_images_are_refused_by_name(small, sandbox):
    images_of("faces", small)
    with pytest.raises(DataError, match=r'data "faces" on .+ are other images .*give every machine the same files'):
        jobs.same_images("faces", small, "0" * 64)


def test_what_a_finished_task_returned_is_kept_although_a_later_one_fails():
    kept = []
    tasks = [workers.Task(str, (1,), cost=2.0), workers.Task(int, ("no number",), cost=1.0)]
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="no number"):
        workers.carry_out(tasks, lambda task, result: kept.append(result), executor=pool)
    assert kept == ["1"]


def test_the_first_task_goes_first_and_then_the_longest():
    begun = []
    tasks = [workers.Task(begun.append, (cost,), cost=cost) for cost in (2.0, 1.0, 5.0, 3.0)]
    with ThreadPoolExecutor(1) as pool:
        workers.carry_out(tasks, executor=pool)
    assert begun == [2.0, 5.0, 3.0, 1.0]


# -- Dask: a real scheduler, real workers -----------------------------------------------------------------------------


@pytest.fixture
def cluster(sandbox, tmp_path, request):
    """A scheduler and workers, two of them, as processes on loopback: its address and the workers' processes."""
    pytest.importorskip("distributed", reason="Dask is not installed (the extra `cluster`)")
    environment = sandbox.environment() | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3"}
    address, started = tmp_path / "scheduler.json", []

    def start(*command):
        log = (tmp_path / f"{len(started)}.log").open("wb")
        command = [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]]
        started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path))
        return started[-1]

    start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(address))
    options = ("--scheduler-file", str(address), "--nthreads", "1", "--no-nanny", "--no-dashboard")
    crew = [start("dask_worker", *options, "--name", name) for name in ("one", "two")[: getattr(request, "param", 2)]]
    until = time.monotonic() + 60
    while not address.is_file() and time.monotonic() < until:
        time.sleep(0.1)
    yield json.loads(address.read_text())["address"], crew
    for process in started:
        process.kill()
        process.wait()


def test_a_cluster_that_loses_a_worker_gives_the_bytes_of_this_machine(cluster, run, sandbox, enter, tmp_path, request):
    from dml.cluster.scheduler import connected

    address, crew = cluster
    listed = run.jobs("02")[::2] + run.jobs("03")[:2]
    with connected(address) as executor:
        executor.inner._client.wait_for_workers(2, timeout=60)

        def kill(job, contents, write=jobs._write):
            write(job, contents)
            if crew[0].poll() is None:
                crew[0].send_signal(signal.SIGKILL)

        workers.carry_out(listed, kill, executor=executor)
    assert crew[0].wait(10) == -signal.SIGKILL and crew[1].poll() is None
    far = contents(sandbox.cache)
    enter(replace(sandbox, folder=tmp_path / "near"))
    request.getfixturevalue("no_workers")
    jobs.carry_out(run.jobs("02")[::2] + run.jobs("03")[:2])
    near = contents(tmp_path / "near" / "cache")
    assert far.keys() == near.keys() and len(far) == len(files_of(listed)) > 6
    assert far == near


@pytest.mark.parametrize("cluster", [1], indirect=True, ids=["one worker"])
def test_a_worker_with_other_code_or_images_is_refused_by_name(cluster, sandbox, monkeypatch, capsys):
    from dml.cluster import scheduler

    address, _ = cluster
    options = ["reproduce", "--seeds", "1", "--only", "02", "--shard", "1/10", "--scheduler", address]
    expected = scheduler.surroundings() | {"code": "other code"}
    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "surroundings", lambda: expected)
        assert main(options) == 1
    shown = capsys.readouterr().err
    assert re.search(
        r"error: worker .+ \(process \d+\) would not give the same bytes: code '.+', expected 'other", shown
    )
    assert list(sandbox.cache.rglob("*.json")) == [] and main(options) == 0


@pytest.mark.parametrize("module", ["losses.py", "privacy/game.py", "evidence/words.py"])
def test_all_code_of_the_package_has_to_be_the_same_on_a_cluster(module, tmp_path, monkeypatch):
    from dml.cluster import scheduler

    here = scheduler.surroundings()
    shutil.copytree(fingerprint.PACKAGE, tmp_path / "dml", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "dml" / module).open("a").write("EXTRA = 1\n")
    for place in (fingerprint, scheduler):
        monkeypatch.setattr(place, "PACKAGE", tmp_path / "dml")
    fingerprint.fingerprint.cache_clear()
    there = scheduler.surroundings()
    fingerprint.fingerprint.cache_clear()
    assert there["code"] != here["code"] and there["versions"] == here["versions"]


def test_no_scheduler_is_an_error_that_names_the_address(sandbox, monkeypatch, capsys):
    pytest.importorskip("distributed")
    from dml.cluster import scheduler

    monkeypatch.setattr(scheduler, "TIMEOUT", 1.0)
    assert main(["reproduce", "--seeds", "1", "--only", "01", "--scheduler", "tcp://127.0.0.1:9"]) == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err


# -- the core alone ---------------------------------------------------------------------------------------------------


CELLS = """
import json, sys
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
from dml.training import workers

def here(tasks, keep=lambda task, result: None, **_):  # no workers: they would import all of it once more
    for task in tasks:
        keep(task, task.work(*task.args))

workers.carry_out = here
shell, book = InteractiveShell.instance(), json.loads(Path("notebooks/02_dml_vs_fedavg.ipynb").read_text())
for cell in (cell for cell in book["cells"] if cell["cell_type"] == "code"):
    shell.run_cell("".join(cell["source"])).raise_error()
    if "parameters" in cell["metadata"].get("tags", []):
        shell.run_cell(sys.argv[1]).raise_error()
"""


def test_notebook_02_runs_with_the_annexes_taken_away(tmp_path, sandbox_in):
    """A copy of the project without privacy, flower, cluster and the secure sum: its code, in one process."""
    copy = tmp_path / "project"
    annexes = shutil.ignore_patterns(
        *("privacy", "hostile", "flower", "secure", "cluster", "relatives", "zoo", "partition.py", "__pycache__")
    )
    shutil.copytree(ROOT / "dml", copy / "dml", ignore=lambda folder, names: annexes(folder, names) - {"privacy.py"})
    shutil.copytree(ROOT / "notebooks", copy / "notebooks")
    (copy / "data").mkdir()
    for file in [*(ROOT / "data").glob("*.csv"), *(ROOT / "data").glob("*.md")]:
        shutil.copy(file, copy / "data")
    assert (copy / "dml" / "plots" / "privacy.py").is_file() and not (copy / "dml" / "privacy").exists()
    environment = sandbox_in(tmp_path).environment()
    environment["PYTHONPATH"] = os.pathsep.join((str(copy), environment["PYTHONPATH"]))
    out, figures = tmp_path / "out", tmp_path / "figures"
    given = f"seeds, rounds, results, figures, device = [0], 2, {str(out)!r}, {str(figures)!r}, 'cpu'"
    command = [sys.executable, "-c", CELLS, given]
    done = subprocess.run(command, env=environment, cwd=copy, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    assert (out / "results.csv").is_file() and (out / "history.csv").is_file()
    assert len(list(figures.glob("02_*.png"))) == len([name for name in catalogue.FIGURES if name.startswith("02")])


def test_a_kernel_with_another_package_is_refused(monkeypatch):
    """As when another checkout is installed and the kernel's interpreter ignores what it is handed."""
    spec = notebooks.get_kernel_spec("python3")
    fake = Path(sys.executable)
    spec.argv = [str(fake), "-c", "pass"]
    real = subprocess.run

    def elsewhere(command, **options):
        if command[1:2] == ["-c"]:
            return subprocess.CompletedProcess(command, 0, stdout="/another/checkout/dml\n", stderr="")
        return real(command, **options)

    monkeypatch.setattr(notebooks.subprocess, "run", elsewhere)
    with pytest.raises(
        notebooks.PipelineError, match=r"does not import the package of this checkout.*/another/checkout"
    ):
        notebooks.same_package()
