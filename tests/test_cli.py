"""The command line: what it accepts, what it hands on, and errors without a traceback."""

import argparse
import json
import re
import signal

import pytest
import torch
from PIL import Image

from dml import __main__ as cli
from dml.__main__ import main, parser, seeds
from dml.config import FIGURES, Experiment
from dml.data import facemask
from dml.data.images import images_of
from dml.experiment import results
from dml.files import DataError
from dml.pipeline import notebooks as pipeline
from dml.pipeline import output
from dml.pipeline.run import Run
from dml.training import machine


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", (0, 1, 2, 3, 4)), ("1", (0,)), ("0,3,7", (0, 3, 7)), ("3,", (3,)), ("7,0", (7, 0)), (" 2 , 4 ", (2, 4))],
)
def test_seeds_are_a_number_or_a_list(text, expected):
    assert seeds(text) == expected


@pytest.mark.parametrize("text", ["0", "-1", "1,1", "0,-3", ",", "two", "1.5", "1;2"])
def test_impossible_seeds_are_named(text):
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
        seeds(text)


@pytest.mark.parametrize("text", ["", " ", "0", "two"])
def test_impossible_seeds_end_the_command_with_usage(text, capsys):
    with pytest.raises(SystemExit) as end:
        main(["reproduce", "--seeds", text])
    shown = capsys.readouterr().err
    assert end.value.code == 2 and "--seeds" in shown and "Traceback" not in shown


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("reproduce", ["--profile", "--data", "--seeds", "--only", "--out", "--device", "--force", "facemask"]),
        ("figures", ["--from", "--out", "DIR"]),
        ("fetch", ["--source", "--to"]),
        ("verify", ["DIR"]),
    ],
)
def test_help_explains_every_option(command, words, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert [word for word in words if word not in shown] == []
    unexplained = re.findall(r"^  (--?\w\S*)(?: \S+)?$(?!\n {10})", shown, re.MULTILINE)
    assert unexplained == []


def test_help_lists_the_commands_each_with_a_sentence(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    for command in ("reproduce", "jobs", "figures", "fetch", "verify"):
        assert re.search(rf"^    {command}\s+\w+", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "required"),
        (["reproduce", "--profile", "huge"], "'?smoke'?, '?reduced'?, '?paper'?"),
        (["reproduce", "--device", "tpu"], "auto"),
        (["reproduce", "--precision", "int8"], "bf16"),
        (["publish"], "reproduce"),
    ],
)
def test_a_wrong_argument_is_a_usage_error_that_names_the_choices(arguments, text, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and re.search(text, capsys.readouterr().err)


def test_defaults_are_the_smoke_profile_on_drawn_faces():
    args = parser().parse_args(["reproduce"])
    assert (args.profile, args.data, args.seeds, args.only, args.out) == ("smoke", "faces", (), "", "")
    assert (args.device, args.precision, args.force) == ("auto", "float32", False)
    assert parser().parse_args(["figures"]).out is None


def test_reproduce_hands_its_options_to_the_pipeline(sandbox, tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(machine, "has_bf16", lambda device: True)
    monkeypatch.setattr(pipeline, "reproduce", lambda *given: seen.append(given) or tmp_path / "manifest.json")
    options = ["--seeds", "0,3", "--only", "02", "--out", str(tmp_path), "--device", "cpu", "--precision", "bf16"]
    assert main(["reproduce", "--profile", "paper", *options]) == 0
    ((run, only, executor, anew),) = seen
    assert (run.profile, run.data, run.seeds, run.folder, run.device) == ("paper", "faces", (0, 3), tmp_path, "cpu")
    assert only == "02" and executor is None and not anew and run.experiment == Experiment(precision="bf16")
    assert str(tmp_path / "manifest.json") in capsys.readouterr().out


def test_a_run_goes_to_a_folder_of_its_own_and_never_to_the_committed_figures(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "has_bf16", lambda device: True)
    places = {}
    for profile, data, precision in [
        ("smoke", "faces", "float32"),
        ("paper", "faces", "float32"),
        ("smoke", "facemask", "float32"),
        ("smoke", str(tmp_path / "cats"), "float32"),
        ("smoke", "faces", "bf16"),
    ]:
        run = Run.open(profile, data, precision=precision)
        places[run.folder.relative_to(sandbox.runs).as_posix()] = run
        assert FIGURES not in (run.figures, *run.figures.parents) and run.figures.is_relative_to(run.folder)
    own = Run.open("smoke", "faces", models="own.nets:small,visionnet")
    assert own.folder == sandbox.runs / "smoke-faces-own.nets-small-visionnet" and own.figures == own.folder / "figures"
    names = ["smoke-faces", "paper-faces", "smoke-facemask", "smoke-cats", "smoke-faces-bf16"]
    assert [re.sub("(cats).*", r"\1", place) for place in places] == names


def test_force_forgets_the_jobs_of_the_chosen_notebooks_alone_and_while_the_folder_is_held(sandbox, monkeypatch):
    run, images, cpu = Run.open("smoke", "faces", (0, 1)), images_of("faces", sandbox.experiment), torch.device("cpu")
    mine = list(results.places(images, sandbox.experiment, [0, 1], cpu).values())
    others = list(results.places(images, sandbox.experiment, [2], cpu).values())
    others += results.places(images, sandbox.experiment, [0], cpu, arms=["dml, 1 bit"]).values()  # of notebook 04
    next(iter(mine)).parent.mkdir()
    for file in (*mine, *others):
        file.write_text("{}")

    def begin(listed, executor):
        with pytest.raises(DataError, match="is being written by"), output.held(run.folder):
            pass
        raise RuntimeError("enough")

    monkeypatch.setattr(pipeline, "same_package", lambda: None)
    monkeypatch.setattr(pipeline.jobs, "carry_out", begin)
    options = ["reproduce", "--seeds", "2", "--only", "02"]
    assert main(options) == 1 and all(file.exists() for file in mine)
    with output.held(run.folder):  # by another command
        assert main([*options, "--force"]) == 1 and all(file.exists() for file in mine)
    assert main([*options, "--force"]) == 1
    assert not any(file.exists() for file in mine) and all(file.exists() for file in others)


def test_parts_of_a_run_do_not_forget_each_others_jobs(sandbox, capsys):
    assert "--force with --shard" in error_of(["reproduce", "--force", "--shard", "1/2"], capsys)


def error_of(arguments, capsys):
    """What a failing command says on stderr; it must be one message and no traceback."""
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("error: ") == 1 and "Traceback" not in shown.err
    return shown.err


def test_a_data_folder_that_does_not_exist_is_named(sandbox, tmp_path, capsys):
    text = error_of(["reproduce", "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")], capsys)
    assert "nowhere" in text and "facemask" in text
    assert not (tmp_path / "run").exists()


def test_unusable_data_leave_an_earlier_run_complete(sandbox, tmp_path, capsys):
    (tmp_path / "manifest.json").write_text("{}")
    error_of(["reproduce", "--data", str(tmp_path), "--out", str(tmp_path)], capsys)
    assert (tmp_path / "manifest.json").read_text() == "{}"


def test_an_unreadable_image_is_named(sandbox, tmp_path, capsys):
    for split in ("train", "unseen"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("RGB", (5, 5)).save(tmp_path / split / label / "0.png")
    (tmp_path / "unseen" / "b" / "broken.jpg").write_text("no image")
    assert "broken.jpg" in error_of(["reproduce", "--data", str(tmp_path)], capsys)


def test_an_unknown_notebook_lists_those_there_are(sandbox, capsys):
    text = error_of(["reproduce", "--only", "99"], capsys)
    assert "'99'" in text and "01_data_split" in text and "02_dml_vs_fedavg" in text


def test_every_command_says_an_error_in_a_line(sandbox, capsys):
    assert "no notebook starts with '99'" in error_of(["jobs", "--only", "99"], capsys)


def test_ctrl_c_is_heard_again_after_the_first_import_and_ends_in_a_line(monkeypatch, capsys):
    def stopped():
        raise KeyboardInterrupt

    for name in ("set_start_method", "set_forkserver_preload"):  # of this process, for good
        monkeypatch.setattr(f"multiprocessing.{name}", lambda _: None)
    monkeypatch.setattr("multiprocessing.forkserver.ensure_running", stopped)
    monkeypatch.setattr("dml.pipeline.ahead.sys.platform", "linux")
    monkeypatch.setattr("sys.argv", ["dml", "figures", "--from", "nowhere"])
    monkeypatch.setenv("PYTHONPATH", "")
    heard = signal.getsignal(signal.SIGINT)
    assert main() == 130 and signal.getsignal(signal.SIGINT) == heard
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"


def test_cuda_where_there_is_none_is_an_error(sandbox, capsys):
    assert "no CUDA device" in error_of(["reproduce", "--device", "cuda"], capsys)


def test_bf16_without_the_hardware_is_an_error(sandbox, monkeypatch, capsys):
    monkeypatch.setattr(machine, "has_bf16", lambda device: False)
    assert "no bf16 arithmetic" in error_of(["reproduce", "--precision", "bf16"], capsys)


def test_figures_need_a_finished_run(tmp_path, capsys):
    assert "manifest.json" in error_of(["figures", "--from", str(tmp_path), "--out", str(tmp_path / "to")], capsys)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("content", ["{}", "[]", "no json", json.dumps({"experiment": {"colour": 1}})])
def test_figures_refuse_a_foreign_manifest(content, tmp_path, capsys):
    (tmp_path / "manifest.json").write_text(content)
    assert "manifest.json" in error_of(["figures", "--from", str(tmp_path), "--out", str(tmp_path / "to")], capsys)


def test_fetch_without_a_source_that_exists_is_an_error(tmp_path, capsys):
    text = error_of(["fetch", "--source", str(tmp_path / "none.zip"), "--to", str(tmp_path / "to")], capsys)
    assert "none.zip" in text


def test_verify_of_a_bad_folder_reports_and_fails(tmp_path, capsys):
    (tmp_path / "Global" / "Mask").mkdir(parents=True)
    (tmp_path / "Global" / "Mask" / "odd.jpg").write_text("no image")
    assert main(["verify", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "9,820 missing" in shown.out and "Global/Mask/odd.jpg" in shown.out and "Traceback" not in shown.err


def test_verify_where_there_are_no_photographs_says_how_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DML_DATA", raising=False)
    monkeypatch.setattr(facemask, "HOME", tmp_path / "none")
    monkeypatch.setattr(facemask, "ROOT", tmp_path)
    assert "make fetch" in error_of(["verify"], capsys)


def test_every_command_has_an_action():
    for command in (["reproduce"], ["figures"], ["fetch"], ["verify"]):
        assert parser().parse_args(command).act is getattr(cli, command[0])
