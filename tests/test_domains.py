"""Clients whose pictures differ, and public images of another domain: which pixels change, and which do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dml.arms import messaging
from dml.arms.catalogue import run
from dml.arms.federation import Federation
from dml.config import FEATURE_SKEWS, Experiment
from dml.data import domains, faces
from dml.experiment.ladder import code_of


@pytest.fixture
def photographs(pictures):
    """The same pixels, as if they were no drawn ones."""
    return replace(pictures, name="facemask", source="photographs of a test")


def own_of(fed, client):
    return np.concatenate([dealt[client] for dealt in fed.folds.private])


@pytest.mark.parametrize("skewed", ["brightness", "blur", "noise"])
def test_a_ramp_leaves_the_first_client_and_everybody_elses_images_as_they_are(tiny, pictures, skewed):
    plain, fed = (Federation(replace(tiny, feature_skew=name), pictures, 0) for name in ("", skewed))
    apart = (plain.train.float() - fed.train.float()).abs().flatten(1).mean(1)
    changed = [apart[own_of(fed, client)].mean().item() for client in range(3)]
    assert changed[0] == 0 and 0 < changed[1] < changed[2]
    others = np.concatenate((fed.folds.pretrain, *fed.folds.public))
    assert not apart[others].any() and torch.equal(fed.unseen, plain.unseen)
    assert torch.equal(fed.labels, plain.labels) and fed.images.sha256 == pictures.sha256
    again = Federation(replace(tiny, feature_skew=skewed), pictures, 0)
    assert torch.equal(again.train, fed.train)


def test_ramps_by_hand():
    rng, grey = np.random.default_rng(0), torch.full((2, 3, 8, 8), 200, dtype=torch.uint8)
    assert domains.darker(grey, 1.0, rng).unique().tolist() == [50]
    assert domains.darker(grey, 0.5, rng).unique().tolist() == [100]
    assert domains.softer(grey, 1.0, rng).unique().tolist() == [200]
    point = torch.zeros((1, 3, 21, 21), dtype=torch.uint8)
    point[:, :, 10, 10] = 255
    soft = domains.softer(point, 1.0, rng)[
        0, 0
    ].float()  # a deviation of 1.05 pixels: 255 / (2 pi 1.05^2) in the middle
    assert soft[10, 10] == pytest.approx(255 / (2 * np.pi * 1.05**2), abs=1.5) and soft.sum() == pytest.approx(
        255, abs=9
    )
    noisy = domains.noisier(torch.full((40, 3, 20, 20), 128, dtype=torch.uint8), 0.5, rng).float()
    assert noisy.std().item() == pytest.approx(30, rel=0.02) and noisy.mean().item() == pytest.approx(128, abs=0.5)


def test_faces_by_look_are_the_same_ones_dealt_in_another_order(tiny, pictures):
    plain, fed = (Federation(replace(tiny, feature_skew=name), pictures, 0) for name in ("", "look"))
    private = [own_of(fed, client) for client in range(3)]
    dealt = np.split(domains.by_look(pictures, private, 0), np.cumsum([len(own) for own in private])[:-1])
    labels = pictures.train.labels.numpy()
    assert sorted(np.concatenate(dealt)) == sorted(np.concatenate(private))
    for own, got in zip(private, dealt, strict=True):
        assert np.array_equal(labels[own], labels[got])  # so that a label still fits its picture
        assert torch.equal(fed.train[own], plain.train[got])
    for label in (0, 1):
        spans = [[domains.look(int(i)) for i in got if labels[i] == label] for got in dealt]
        assert max(spans[0]) <= min(spans[1]) and max(spans[1]) <= min(spans[2]) and spans[0] != sorted(spans[0])
    kinds = {domains.look(int(i)) // len(faces.STYLES) for i in dealt[0] if labels[i] == 0}
    assert kinds == {1}  # the first client's masks are of one kind


def test_the_look_of_a_face_is_that_of_the_one_that_was_drawn():
    """An order by look draws nothing: it casts the same dice again."""
    pixels, labels = faces.draw(8, size=20, seed=0, domain="train")
    index = labels.tolist().index(0)
    scene = faces.sample(0, "train", np.random.default_rng([0, 0, 1, index]))
    assert np.array_equal(pixels[index].permute(1, 2, 0).numpy(), faces.paint(scene, 20))
    place = domains.look(index)
    assert list(faces.STYLES)[place % len(faces.STYLES)] == scene.style
    assert ["", *faces.KINDS["train"]][place // len(faces.STYLES)] == scene.mask


def test_a_public_fold_of_drawn_faces_keeps_its_labels(tiny, photographs):
    plain, fed = (Federation(replace(tiny, public_fold=name), photographs, 3) for name in ("balanced", "other"))
    public = np.concatenate(fed.folds.public)
    rest = np.setdiff1d(np.arange(len(photographs.train)), public)
    assert torch.equal(fed.train[rest], plain.train[rest]) and torch.equal(fed.labels, plain.labels)
    pictures, labels = faces.draw(2 * len(public), size=tiny.size, seed=3, domain="train")
    by_pixels = {picture.numpy().tobytes(): int(label) for picture, label in zip(pictures, labels, strict=True)}
    told = [by_pixels[fed.images.train.images[index].numpy().tobytes()] for index in public]
    assert told == fed.labels[public].tolist() and len(np.unique(fed.train[public].flatten(1), axis=0)) == len(public)
    (first, *_), sent = messaging.public_folds(fed), fed.images.train.images[fed.folds.public[0]]
    assert torch.equal(first.images, sent)  # what is handed out is what is trained on
    assert fed.labelled


@pytest.mark.parametrize("changes", [{"feature_skew": "blur"}, {"public_fold": "other"}])
def test_arms_run_on_such_clients_and_their_results_have_a_key_of_their_own(tiny, photographs, changes):
    fed = Federation(replace(tiny, rounds=1, epochs=1, **changes), photographs, 1)
    run("dml", fed)
    assert all(np.isfinite(row.value) for row in fed.rows) and fed.refusals == []
    assert "data.domains" in code_of(fed.experiment, "dml") and "data.domains" not in code_of(tiny, "dml")


def test_what_cannot_be_is_named(tiny, pictures, photographs):
    with pytest.raises(ValueError, match="feature_skew='colour': choose one of brightness, blur, noise, look"):
        Experiment(feature_skew="colour")
    with pytest.raises(ValueError, match="only drawn faces have a known look"):
        Federation(replace(tiny, feature_skew="look"), photographs, 0)
    with pytest.raises(ValueError, match="these are drawn for a test, of the classes mask, no mask"):
        Federation(replace(tiny, public_fold="other"), pictures, 0)
    assert set(FEATURE_SKEWS) == {"", "look", *domains.RAMPS}
