"""Rules and rehearsed liars in the deployment: the names and the numbers of the arms in one process."""

import pytest

pytest.importorskip("flwr", reason="Flower is not installed (the extra `flower`)")

from test_flower import Grid, config, names, serve, task, values

from dml.arms.catalogue import run
from dml.arms.federation import Federation
from dml.data.images import images_of
from dml.flower.__main__ import parser
from dml.flower.settings import Settings
from dml.hostile.arms import guarded
from dml.hostile.liars import corrupt

assert config and task  # fixtures


def in_process(settings):
    """The same run in this process, where liars know no more than their own data."""
    fed = Federation(settings.experiment, images_of("faces", settings.experiment), settings.seed)
    if settings.liars:
        corrupt(fed, settings.attack, settings.liars, "own")
    arm = settings.arm if settings.rule == "mean" else guarded(settings.arm, settings.rule, settings.expected)
    run(arm, fed)
    return fed


@pytest.mark.parametrize(
    ("arm", "rule", "attack"),
    [
        ("dml", "mean", "veto"),
        ("dml", "score", "veto"),
        ("dml", "median", "random"),
        ("dml", "mean", "label flip"),
        ("fedavg", "median", "flip"),
        ("fedavg", "norm bound", "noise"),
    ],
)
def test_the_deployment_computes_what_one_process_computes(arm, rule, attack, config, tmp_path):
    clients = 4 if (arm, rule) == ("dml", "median") else 3  # each client's peers have to be three
    config |= {"arm": arm, "rule": rule, "attack": attack, "liars": 1, "clients": clients}
    deployed, one = serve(Grid(tmp_path, config), config), in_process(Settings.read(config))
    assert values(deployed.fed.rows) == values(one.rows)
    assert sorted(deployed.fed.post.ledger) == sorted(one.post.ledger)


def test_who_is_hardly_believed_is_an_event(config, tmp_path):
    config |= {"rule": "score", "attack": "veto", "liars": 1}
    deployed = serve(Grid(tmp_path, config), config)
    assert names(deployed) == [(1, 2, "hardly believed"), (2, 2, "hardly believed")]
    assert deployed.roll_call.events[0][3] == "weight 0.00"


def test_too_few_for_a_rule_go_on_with_the_labels(config, tmp_path):
    config |= {"rule": "score", "expected": 1}
    grid = Grid(tmp_path, config, lambda client, message, reply: None if client == 2 else reply)
    deployed = serve(grid, config | {"quorum": 2})
    assert grid.down("train.refine", 1) == {0: [], 1: []} and len(deployed.fed.rows) > 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rule": "median", "expected": 1}, r"needs 2 \* 1 \+ 1 = 3 clients or more, not 2"),
        ({"rule": "score", "secure": True}, "a secure sum hides it"),
        ({"rule": "median", "arm": "asynchronous"}, "has it not"),
        ({"rule": "fltrust", "arm": "fedavg"}, "has it not"),
        ({"rule": "nothing"}, "choose one of mean, score"),
        ({"liars": 1, "attack": "alie"}, "attack 'alie' of dml: choose one of random"),
        ({"liars": 1, "attack": "veto", "arm": "fedavg"}, "attack 'veto' of fedavg: choose one of flip"),
        ({"liars": 3, "attack": "veto"}, "1 to 2, so that somebody is honest"),
        ({"liars": -1, "attack": "veto"}, "1 to 2"),
        ({"clip": 0.6}, "below 0.5"),
    ],
)
def test_rules_and_lies_that_cannot_be_are_refused(changed, said, config):
    with pytest.raises(ValueError, match=said):
        Settings.read(config | changed)


def test_the_command_line_has_them():
    args = parser().parse_args(["--liars", "1", "--attack", "veto", "--rule", "score", "--expected", "2"])
    assert (args.liars, args.attack, args.rule, args.expected, args.clip) == (1, "veto", "score", 2, 0.02)
