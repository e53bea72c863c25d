"""The cache: keyed by all that matters and nothing else, whole after any accident, the same bytes every time."""

import ast
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from dml import fingerprint
from dml.arms.catalogue import ARMS, run
from dml.arms.federation import Federation
from dml.crowd import cells as crowd
from dml.data import images
from dml.experiment import cache, jobs, results
from dml.files import DataError
from dml.generalisation import federations
from dml.hostile import cells as hostile
from dml.pipeline.run import Run
from dml.privacy import probes
from dml.studies import crafted, defences, privacy, reconstruction
from dml.training import machine

PACKAGE = fingerprint.PACKAGE
ARMS_SOURCE = (PACKAGE / "arms" / "outputs.py").read_text(encoding="utf-8")


@pytest.fixture
def quick(sandbox, no_workers, monkeypatch):
    """The sandbox with two arms, computed in this process."""
    monkeypatch.setattr(results, "arms_for", lambda classes: ("dml", "pooled"))
    return sandbox


def cached(sandbox):
    return sorted((sandbox.cache / "arms").glob("*.json"))


def all_gone(seconds=10):
    """Whether every worker of this process ends within some seconds."""
    until = time.monotonic() + seconds
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.1)
    return not multiprocessing.active_children()


# -- the key ----------------------------------------------------------------------------------------------------------


def test_the_key_changes_with_all_that_can_change_a_number(small, monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(cache.machine, "processor", lambda device: "a processor")  # a GPU's needs a GPU

    def key(experiment=small, sha256="a" * 64, arm="dml", seed=0, device=cpu):
        return cache.place("arms", "x", "json", experiment, sha256, [arm, seed], device).name

    other = {"precision": "bf16", "label_alpha": 1.0, "size_alpha": 1.0, "public_fold": "skewed"}
    other |= {"models": "visionnet-half", "clip": 0.1, "public_epochs": 3, "public_rate": 0.1, "feature_skew": "blur"}
    changed = [replace(small, **{f.name: other.get(f.name) or getattr(small, f.name) + 1}) for f in fields(small)]
    keys = [key(experiment) for experiment in changed]
    keys += [key(), key(sha256="b" * 64), key(arm="self"), key(seed=1), key(device=gpu)]
    for place, name, value in [
        (cache, "code_version", lambda modules: "other code"),
        (cache.machine, "processor", lambda device: "other processor"),
        (cache.machine, "versions", lambda names: dict.fromkeys(names, "1.0")),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, value)
            keys.append(key())
    assert len(set(keys)) == len(keys) == len(fields(small)) + 8
    assert key() == key(replace(small)) and key() in keys


def path_of(module):
    return Path(*module.split(".")).with_suffix(".py")


@pytest.fixture
def version_of(tmp_path, monkeypatch):
    """code_version() of a copy of the code in which one module was edited."""
    for module in cache.CODE:
        (tmp_path / path_of(module)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / path_of(module), tmp_path / path_of(module))
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path)

    def version(module="arms.outputs", edit=lambda source: source):
        file = tmp_path / path_of(module)
        before = file.read_text(encoding="utf-8")
        file.write_text(edit(before), encoding="utf-8")
        try:
            return fingerprint.fingerprint.__wrapped__(cache.CODE)
        finally:
            file.write_text(before, encoding="utf-8")

    return version


def test_code_version_is_blind_to_comments_docstrings_layout_and_imports(version_of):
    first = version_of()
    for edit in (
        lambda source: "# a comment\n" + source + "\n\n# another\n",
        lambda source: source.replace('"""Arms that share outputs', '"""Something else'),
        lambda source: source.replace('"""Distributed mutual learning:', '"""Something else:'),
        lambda source: source.replace("    record.report(fed)\n", "    (  # laid out\n        record.report(fed))\n"),
        lambda source: source.replace("from dml.arms import messaging", "import os\nfrom dml.arms import messaging"),
    ):
        assert edit(ARMS_SOURCE) != ARMS_SOURCE
        assert version_of(edit=edit) == first


def test_code_version_is_blind_to_the_module_in_which_code_stands(version_of, tmp_path):
    """A function moves from one module to another: nothing is computed again."""
    first, file = version_of(), tmp_path / path_of("arms.outputs")
    moved = ARMS_SOURCE[ARMS_SOURCE.index("def self_distillation") :]
    file.write_text(ARMS_SOURCE.replace(moved, ""), encoding="utf-8")
    lost = version_of("arms.controls")
    assert version_of("arms.controls", lambda source: source + "\n\n" + moved) == first != lost


@pytest.mark.parametrize("module", cache.CODE)
def test_code_version_sees_a_change_in_every_module_that_computes(module, version_of):
    assert version_of(module, lambda source: source + "\nEXTRA = 1\n") != version_of()


def test_code_version_sees_a_changed_number_and_a_changed_order(version_of):
    first = version_of()
    text = (PACKAGE / "losses.py").read_text(encoding="utf-8")
    number = next(node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant) and node.value == 1)
    lines = text.splitlines(keepends=True)
    line = lines[number.lineno - 1]
    lines[number.lineno - 1] = line[: number.col_offset] + "2" + line[number.end_col_offset :]
    assert version_of("losses", lambda source: "".join(lines)) != first
    lost = ARMS_SOURCE.replace("        record.public_accuracy(fed, round_index)\n", "", 1)
    assert lost != ARMS_SOURCE and version_of("arms.outputs", lambda source: lost) != first


INPUTS = {"config", "files", "fingerprint", "progress", "training.workers", "training.machine", "experiment.jobs"}
PIXELS = ("images", "decode", "folders", "facemask", "archive", "faces", "face_parts", "brush")
INPUTS |= {f"data.{name}" for name in PIXELS}  # hashed by value or as pixels, or only writes or tells
SCORES = {"privacy.adversaries", "privacy.joint", "privacy.membership"}  # made of what a job has left


def imported(module):
    """The modules of the package that one imports as it is imported."""
    found = set()
    for node in ast.parse((PACKAGE / path_of(module)).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("dml"):
            named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            inside = [name.partition(".")[2] for name in named]
            found |= {name for name in inside if (PACKAGE / path_of(name or "-")).is_file()}
    return found


def test_the_code_that_is_hashed_is_all_the_code_that_arms_import():
    """An annex, which only a function imports, is added by `ladder.code_of` where it is used."""
    found, left = set(), {"experiment.ladder"}
    while left:
        found.add(module := left.pop())
        left |= imported(module) - found
    assert found - INPUTS == set(cache.CODE)


@pytest.mark.parametrize(
    "modules",
    [
        *(probes.GAME, probes.TRANSCRIPT, probes.CASE, privacy.MODULES, crafted.MODULES, defences.MODULES),
        *(reconstruction.MODULES, hostile.MODULES, crowd.MODULES, federations.MODULES),
    ],
)
def test_the_code_of_a_study_that_is_hashed_is_all_that_it_imports(modules):
    found = set().union(*map(imported, modules)) - INPUTS - SCORES - set(cache.CODE) - set(modules)
    assert not {name for name in found if not name.startswith("arms.relatives")}  # added by `ladder.code_of`


def test_the_code_that_draws_faces_is_all_that_it_imports(monkeypatch):
    seen = []
    monkeypatch.setattr(images, "fingerprint", lambda modules: seen.extend(modules))
    images._drawn(20, (2, 2))
    assert set().union(*map(imported, seen)) - {"streams"} <= set(seen) == {f"data.{name}" for name in PIXELS[-3:]}


# -- the cache --------------------------------------------------------------------------------------------------------


def test_tables_are_tidy_and_in_the_order_of_seeds_and_arms(quick):
    tables = results.compute("faces", quick.experiment, [4, 1])
    assert list(tables.results.columns) == ["seed", "arm", "round", "client", "metric", "value"]
    assert list(tables.history.columns) == ["seed", "arm", "round", "phase", "epoch", "client", "loss", "accuracy"]
    order = [(4, "dml"), (4, "pooled"), (1, "dml"), (1, "pooled")]
    for table in (tables.results, tables.history, tables.costs):
        assert list(table[["seed", "arm"]].drop_duplicates().itertuples(index=False, name=None)) == order
        assert not table.isna().any(axis=None)
    assert (tables.costs[["wall_s", "cpu_s"]] >= 0).all(axis=None)
    found = tables.results[tables.results["metric"] == "unseen accuracy"]
    assert found.groupby("arm")["client"].agg(sorted).to_dict() == {"dml": [0, 0, 1, 1], "pooled": [-1, -1]}
    assert set(tables.history["phase"]) == {"pretrain", "local", "public", "pooled"}


def test_what_the_cache_holds_is_not_computed_again(quick, monkeypatch):
    first = results.compute("faces", quick.experiment, [0])
    assert first.summary() == "2 computed, 0 reused (of 2 pairs of arm and seed)"
    both = results.compute("faces", quick.experiment, [0, 1])
    assert both.summary() == "2 computed, 2 reused (of 4 pairs of arm and seed)"
    monkeypatch.setattr(results, "measure", lambda *_: pytest.fail("computed again"))
    again = results.compute("faces", quick.experiment, [0])
    assert again.summary() == "0 computed, 2 reused (of 2 pairs of arm and seed)"
    assert again.results.equals(first.results) and again.history.equals(first.history)
    assert both.results[both.results["seed"] == 0].equals(first.results)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", "cut"])
def test_a_damaged_file_is_computed_again_and_only_it(quick, damage):
    first = results.compute("faces", quick.experiment, [0])
    file, other = cached(quick)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else damage)
    kept = other.stat().st_mtime_ns
    again = results.compute("faces", quick.experiment, [0])
    assert again.summary().startswith("1 computed, 1 reused") and again.results.equals(first.results)
    assert other.stat().st_mtime_ns == kept and json.loads(file.read_text())["rows"] == json.loads(whole)["rows"]


def test_a_failed_job_leaves_nothing_in_the_cache(quick, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(DataError, match="No space left"):
        results.compute("faces", quick.experiment, [0])
    assert [path for path in quick.cache.rglob("*") if path.is_file()] == []


def test_another_experiment_is_another_entry(quick):
    results.compute("faces", quick.experiment, [0])
    results.compute("faces", replace(quick.experiment, epochs=2), [0])
    assert len(cached(quick)) == 4


def test_a_run_computes_the_same_again(quick, tmp_path):
    run = Run.open("smoke", "faces", [0], str(tmp_path / "run"))
    tables = run.accuracy()
    assert sorted(path.name for path in run.folder.glob("*.csv")) == ["costs.csv", "history.csv", "results.csv"]
    before = (run.folder / "results.csv").read_bytes()
    for file in cached(quick):
        file.unlink()
    assert run.accuracy().results.equals(tables.results) and (run.folder / "results.csv").read_bytes() == before


def test_too_few_images_are_an_error_before_anything_is_trained(sandbox, monkeypatch):
    monkeypatch.setattr(results, "measure", lambda *_: pytest.fail("trained"))
    with pytest.raises(DataError, match=r"30 training images, but 31 stratified folds"):
        results.compute("faces", replace(sandbox.experiment, rounds=10), [0])
    assert not (sandbox.cache / "arms").exists()


def test_an_unknown_device_is_an_error_before_anything_is_trained(sandbox, monkeypatch):
    monkeypatch.setattr(results, "measure", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match="choose auto, cpu or cuda"):
        results.compute("faces", sandbox.experiment, [0], device="tpu")


def test_a_folder_of_three_classes_takes_every_arm_but_the_one_of_two_classes(sandbox, no_workers, tmp_path):
    for part in ("train", "unseen"):
        for label, name in enumerate(("red", "green", "blue")):
            inside = tmp_path / "colours" / part / name
            inside.mkdir(parents=True)
            for i in range(8):
                colour = [20 + i] * 3
                colour[label] = 200
                Image.new("RGB", (20, 20), tuple(colour)).save(inside / f"{i}.png")
    experiment = replace(sandbox.experiment, train_images=0, unseen_images=0)
    tables = results.compute(str(tmp_path / "colours"), experiment, [0])
    assert list(tables.costs["arm"]) == [arm for arm in ARMS if arm != "dml-one-term"]
    assert tables.results["value"].notna().all()
    with pytest.raises(DataError, match='"blue" has 8 training images, but 10'):
        results.compute(str(tmp_path / "colours"), replace(experiment, rounds=3), [0])


@pytest.mark.parametrize("arm", ARMS)
def test_the_progress_bar_knows_how_many_phases_an_arm_has(arm, small, pictures):
    fed, phases = Federation(replace(small, rounds=2), pictures, 0), []
    run(arm, fed, lambda: phases.append(1))
    assert len(phases) == results.phases(fed.experiment, arm)


def test_a_gpu_gets_the_same_jobs_from_a_few_processes(quick, monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(machine, "processor", lambda device: "a processor")
    listed = {device: results.arm_jobs("faces", quick.experiment, [0, 1], device) for device in (cpu, gpu)}
    assert [job.title for job in listed[cpu]] == [job.title for job in listed[gpu]]
    assert not {job.files for job in listed[cpu]} & {job.files for job in listed[gpu]}
    asked = []
    monkeypatch.setattr(machine, "cores", lambda: 16)
    monkeypatch.setattr(jobs.workers, "carry_out", lambda tasks, keep, **how: asked.append((len(tasks), how["most"])))
    for device in listed:
        jobs.carry_out(listed[device])
    assert asked == [(len(listed[cpu]), 16), (len(listed[gpu]), machine.ON_A_GPU)]


# -- worker processes -------------------------------------------------------------------------------------------------


def test_an_exception_in_a_worker_arrives_here_and_stops_the_others(sandbox, monkeypatch):
    """The second of many jobs fails at once: nothing waits for the first, and the rest is not begun."""
    arms = ("dml", "no such arm", "self", "local+public", "fedavg+public", "asynchronous")
    monkeypatch.setattr(results, "arms_for", lambda classes: arms)
    with pytest.raises(KeyError, match="no such arm"):
        results.compute("faces", replace(sandbox.experiment, rounds=3, epochs=1000), [0])
    assert all_gone(seconds=15)
    assert len(cached(sandbox)) == 0


COMPUTE = """
from dml.config import PROFILES
from dml.experiment import results
if __name__ == "__main__":
    results.compute("faces", PROFILES["smoke"].experiment, [0])
"""


KILLED = """
import sys
from dml.training import workers
if __name__ == "__main__":
    try:
        workers.carry_out([workers.Task(exec, (sys.argv[1],))])
    except RuntimeError as error:
        print(error)
"""
COUNTS = (
    "import os, signal, time; from dml.training import workers; workers._shared.get_lock().acquire(); time.sleep(2)"
)


def test_a_worker_killed_while_it_counts_does_not_stop_the_others_for_ever(tmp_path):
    (tmp_path / "script.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "script.py"), COUNTS + "; os.kill(os.getpid(), signal.SIGKILL)"]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert "a worker process ended before its task: killed" in done.stdout, done.stderr


def test_a_run_killed_in_the_middle_goes_on_from_there(tmp_path, small, sandbox_in, enter, request):
    """SIGKILL to the run alone: its workers end by themselves, and the next run gives the uninterrupted bytes."""
    place = enter(replace(sandbox_in(tmp_path / "killed"), experiment=replace(small, rounds=2, epochs=5)))
    process = subprocess.Popen(
        [sys.executable, "-c", COMPUTE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    until = time.monotonic() + 60
    while not cached(place) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    try:  # the workers hold the other ends of its pipes: this returns when all have ended
        process.communicate(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    done = len(cached(place))
    assert process.returncode == -signal.SIGKILL and 1 <= done < 10

    resumed = results.compute("faces", place.experiment, [0])
    assert resumed.summary() == f"{10 - done} computed, {done} reused (of 10 pairs of arm and seed)"
    assert all_gone()

    request.getfixturevalue("no_workers")
    enter(replace(place, folder=tmp_path / "whole"))
    whole = results.compute("faces", place.experiment, [0])
    assert whole.summary().startswith("10 computed, 0 reused")
    assert resumed.results.to_csv() == whole.results.to_csv()
    assert resumed.history.to_csv() == whole.history.to_csv()
