"""Models of other kinds: what they compute, that their randomness is their own, and what does not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stacked import fit_all
from torch import nn

from dml.arms import messaging, steps
from dml.arms.catalogue import run
from dml.arms.federation import Federation
from dml.config import Experiment
from dml.data.images import Images, Split
from dml.experiment import cache
from dml.models import WIDTHS
from dml.training.clients import fit_one, predict
from dml.training.kinds import build
from dml.training.memory import carry_out
from dml.zoo.nets import NETS
from dml.zoo.wrapped import Drop

ZOO = ("visionnet", "visionnet-half", *NETS)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", ZOO)
@pytest.mark.parametrize(("size", "classes", "outputs"), [(40, 2, 1), (40, 3, 3), (100, 2, 1)])
def test_every_kind_maps_images_to_logits_of_either_sign(kind, size, classes, outputs):
    model = build(kind, size, classes, rng())
    logits = model(torch.rand(64, 3, size, size) if size == 40 else torch.rand(2, 3, size, size))
    assert logits.shape == (len(logits), outputs) and model.kind == kind
    signs = {bool(build(kind, size, classes, rng(s))(torch.rand(2, 3, size, size))[0, 0] > 0) for s in range(12)}
    assert signs == {True, False} or size == 100


@pytest.mark.parametrize("kind", ZOO)
def test_weights_come_from_the_generator_and_the_global_one_is_left_alone(kind):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, same, other = (build(kind, 40, 2, rng(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("kind", ZOO)
def test_no_kind_keeps_statistics_of_images(kind):
    model = build(kind, 40, 2, rng())
    assert not list(model.buffers()) and not any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()
    )


def test_sizes_of_the_zoo():
    counted = {kind: sum(p.numel() for p in build(kind, 40, 2, rng()).parameters()) for kind in ZOO}
    assert counted["visionnet"] == 203_905 and counted["resnet8"] == 77_457
    assert counted["visionnet-half"] < counted["visionnet"] / 3.5
    assert 500_000 < counted["mobilenet"] + counted["squeezenet"] < 1_500_000


@pytest.mark.parametrize("kind", ["squeezenet", "mobilenet"])
def test_dropout_is_drawn_from_what_it_is_given(kind):
    model, images = build(kind, 40, 2, rng()), torch.rand(4, 3, 40, 40)
    assert any(isinstance(module, Drop) for module in model.modules())
    masks = [model.dropout_masks(4, rng(seed), torch.device("cpu")) for seed in (1, 1, 2)]
    first, again, other = (model(images, mask) for mask in masks)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(model(images), model(images))  # none outside training


def test_drop_keeps_the_mean():
    drop = Drop(0.2)
    drop.rng = rng()
    dropped = drop(torch.ones(200, 200))
    assert set(dropped.unique().tolist()) == {0.0, 1.25} and dropped.mean().item() == pytest.approx(1, abs=0.01)


# -- federations of different models ----------------------------------------------------------------------------------


@pytest.fixture
def mixed(pictures):
    """A maker of federations of two kinds: clients 0 and 2 have the first."""
    experiment = Experiment(clients=3, rounds=2, epochs=1, batch=8, size=20, models="visionnet,resnet8")
    return lambda seed=0, **changes: Federation(replace(experiment, **changes), pictures, seed)


def test_kinds_are_dealt_in_turn_and_each_starts_from_the_servers_of_its_kind(mixed):
    fed = mixed()
    assert [client.model.kind for client in fed.clients] == ["visionnet", "resnet8", "visionnet"]
    carry_out(steps.pretrain(fed))
    messaging.hand_out(fed)
    for starter, alike in fed.groups():
        for client in alike:
            for name, value in client.parameters().items():
                assert torch.equal(value, starter.parameters()[name])
    sizes = {(entry.receiver, entry.payload) for entry in fed.post.ledger}
    count = {kind: sum(p.numel() for p in starter.model.parameters()) for kind, starter in fed.starters.items()}
    assert sizes == {(0, 4 * count["visionnet"]), (1, 4 * count["resnet8"]), (2, 4 * count["visionnet"])}


@pytest.mark.parametrize("arm", ["dml", "dml-peer-first", "local+public", "self", "fedavg+public"])
def test_arms_run_with_different_models(arm, mixed):
    fed = mixed()
    run(arm, fed)
    assert {row.client for row in fed.rows if row.metric == "unseen accuracy"} == {0, 1, 2}
    assert all(np.isfinite(row.value) for row in fed.rows)


def test_fedavg_averages_each_kind_and_names_what_it_cannot(mixed):
    fed = mixed()
    run("fedavg", fed)
    one, other, three = (client.parameters() for client in fed.clients)
    assert all(torch.equal(value, three[name]) for name, value in one.items()) and one.keys() != other.keys()
    with pytest.raises(ValueError, match="different kinds have no average"):
        run("asynchronous", mixed())


def test_both_engines_agree_on_a_mixed_federation(mixed):
    loop, stack = mixed(), mixed()
    for fed, engine in ((loop, lambda fits: [fit_one(fit) for fit in fits]), (stack, fit_all)):
        engine(steps.pretrain(fed))
        messaging.hand_out(fed)
        fed.history = [row for rows in engine(steps.local(fed, 1)) for row in rows]
    for a, b in zip(loop.clients, stack.clients, strict=True):
        for name, value in a.parameters().items():
            torch.testing.assert_close(value, b.parameters()[name], rtol=0.02, atol=2e-3)
    assert [e.client for e in loop.history] == [e.client for e in stack.history]


# -- users' own -------------------------------------------------------------------------------------------------------

OWN = """
import torch
from torch import nn


def good(size, outputs):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(16, outputs),
    )


def two_columns(size, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, outputs + 1))


def other_size(size, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, outputs))


def shared(size, outputs):
    drop = nn.Dropout(0.5)
    return nn.Sequential(nn.Flatten(), drop, nn.Linear(3 * size * size, 8), drop, nn.Linear(8, outputs))


def whole_channels(size, outputs):
    return nn.Sequential(nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(3 * size * size, outputs))


def no_module(size, outputs):
    return "a model"


value = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_users_model_runs_beside_another_with_its_statistics_in_the_messages(own, mixed):
    fed = mixed(models="own_models:good,visionnet")
    run("dml", fed)
    mean = fed.clients[0].parameters()["module.1.running_mean"]
    assert mean.abs().sum() > 0  # it has learned on images of this client
    assert "module.1.num_batches_tracked" not in fed.clients[0].parameters()
    averaged = mixed(models="own_models:good")
    run("fedavg", averaged)
    for name, value in averaged.clients[0].parameters().items():
        assert torch.equal(value, averaged.clients[1].parameters()[name]), name
    again = mixed(models="own_models:good,visionnet")
    run("dml", again)
    assert again.rows == fed.rows


def test_an_edited_model_is_computed_again(own, mixed, tmp_path):
    def key(models):
        return cache.place("arms", "x", "json", mixed(models=models).experiment, "a" * 64, [], torch.device("cpu"))

    (tmp_path / "edited_models.py").write_text(OWN)
    first, plain = key("edited_models:good,visionnet"), key("resnet8")
    (tmp_path / "edited_models.py").write_text(OWN.replace("0.5", "0.4"))
    assert key("edited_models:good,visionnet") != first and key("resnet8") == plain
    with pytest.raises(ValueError, match=r"'none\.at_all:f' cannot be imported"):
        cache.place("arms", "x", "json", Experiment(models="none.at_all:f"), "", [], torch.device("cpu"))


def test_a_dropout_layer_with_two_names_draws_from_what_it_is_given(own):
    model, before = build("own_models:shared", 20, 2, rng()), torch.get_rng_state()
    model(torch.zeros(2, 3, 20, 20), model.dropout_masks(2, rng(), torch.device("cpu")))
    assert torch.equal(torch.get_rng_state(), before) and not any(isinstance(m, nn.Dropout) for m in model.modules())


def test_a_users_model_for_three_classes(own, mixed, pictures):
    def three(split):
        return Split(split.images, torch.arange(len(split.labels)) % 3, split.files, split.sizes)

    images = Images("shapes", ("a", "b", "c"), three(pictures.train), three(pictures.unseen), "1" * 64, "test")
    fed = Federation(mixed(models="own_models:good,visionnet-half", label_alpha=0.5).experiment, images, 0)
    run("dml", fed)
    assert predict(fed.clients[0], fed.unseen).shape == (40, 3)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("own_models:two_columns", r"returned \[2, 2\], expected logits \[2, 1\] for 2 classes"),
        ("own_models:other_size", r"cannot take images \[2, 3, 20, 20\]"),
        ("own_models:whole_channels", "has a Dropout2d; of dropout layers only nn.Dropout"),
        ("own_models:no_module", "returned a str; expected a torch.nn.Module"),
        ("own_models:value", "is no function"),
        ("own_models:missing", "cannot be imported"),
        ("no_such_package.at_all:f", "cannot be imported"),
        ("resnet9", "choose one of visionnet, .*resnet8"),
    ],
)
def test_what_does_not_fit_is_named(own, name, says):
    with pytest.raises(ValueError, match=says):
        build(name, 20, 2, rng())


def test_widths_are_a_part_of_every_layer():
    whole, half = (build(kind, 40, 2, rng()) for kind in ("visionnet", "visionnet-half"))
    assert WIDTHS["visionnet-half"] == 0.5 and half.conv1.weight.shape == (16, 3, 3, 3)
    assert half.dense1.weight.shape == (32, whole.features // 2)
