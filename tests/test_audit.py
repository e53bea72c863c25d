"""The audits find what was planted, and the published counts in the manifest."""

import csv
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dml.config import ROOT
from dml.data import audit
from dml.data.images import Images, Split, copies
from dml.evidence import published, style
from dml.files import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (12, 3, 24, 24), np.uint8)


def split(pixels, labels, name):
    files = tuple(f"{name}/{index}" for index in range(len(labels)))
    return Split(torch.from_numpy(np.array(pixels)), torch.tensor(labels), files, ((24, 24),) * len(labels))


@pytest.fixture
def images():
    darker = (NOISE[2] * 0.5 + 20).astype(np.uint8)  # another brightness and contrast: near, not exact
    black = np.zeros_like(NOISE[0])
    train = split([NOISE[0], NOISE[0], NOISE[0], NOISE[1], NOISE[2]], [0, 0, 0, 1, 1], "train")
    unseen = split([NOISE[1], darker, NOISE[3], black, black + 1], [0, 1, 1, 1, 1], "unseen")
    return Images("test", ("a", "b"), train, unseen, "", "")


def test_copies_among_unseen_images_are_counted_from_the_second_on(images):
    assert copies(images) == []
    unseen = split([NOISE[0], NOISE[1], NOISE[0], NOISE[1], NOISE[0]], [0, 1, 0, 1, 1], "unseen")
    assert copies(replace(images, unseen=unseen)) == [2, 3, 4]


def test_planted_duplicates(images):
    exact, near = audit.exact_duplicates(images), audit.near_duplicates(images)
    pairs = set(zip(exact.file_a, exact.file_b, strict=True))
    assert pairs == {
        ("train/0", "train/1"),
        ("train/0", "train/2"),
        ("train/1", "train/2"),
        ("train/3", "unseen/0"),
    }
    assert set(zip(near.file_a, near.file_b, strict=True)) == pairs | {("train/4", "unseen/1")}
    assert near.similarity.between(0.97, 1.0001).all()
    table = audit.count_duplicates(exact, near).set_index(audit.CELL)
    assert table.loc[("train", "a", "train", "a")].tolist() == [2, 2]
    assert table.loc[("train", "b", "unseen", "a")].tolist() == [1, 1]
    assert table.loc[("train", "b", "unseen", "b")].tolist() == [0, 1]
    assert len(table) == 3


def test_near_duplicates_are_the_same_in_blocks(images, monkeypatch):
    whole = audit.near_duplicates(images)
    monkeypatch.setattr(audit, "BLOCK", 3)
    pd.testing.assert_frame_equal(audit.near_duplicates(images), whole, atol=1e-5)


def test_the_manifest_gives_the_published_counts():
    pairs = audit.original_duplicates()
    counts = pairs.groupby(audit.CELL).file_b.nunique()
    assert counts.to_dict() == {
        ("train", "mask", "train", "mask"): 40,
        ("train", "no mask", "train", "no mask"): 45,
        ("unseen", "mask", "unseen", "mask"): 155,
    }


def test_sharpness_is_the_variance_of_the_laplacian():
    point = np.zeros((1, 3, 5, 5), np.uint8)
    point[..., 2, 2] = 100
    expected = np.array([[0, 100, 0], [100, -400, 100], [0, 100, 0]]).var(ddof=1)
    assert style.sharpness(split(point, [0], "x")) == pytest.approx([expected], rel=1e-5)
    with pytest.raises(DataError, match="2 pixels"):
        style.sharpness(split(point[..., :2, :2], [0], "x"))


def test_style_gives_the_class_away():
    flat = NOISE // 16 + 100
    images = Images("test", ("flat", "rough"), split([*flat[:4], *NOISE[:4]], [0] * 4 + [1] * 4, "train"), None, "", "")
    images = Images(**{**vars(images), "unseen": split(NOISE[:8], [0, 1] * 4, "unseen")})
    table = style.style_only_accuracy(images).set_index(["set", "class"])
    assert table.loc[("train", "rough")].tolist() == [1, 1] and table.loc[("train", "flat")].tolist() == [
        0,
        1,
    ]
    assert 0 < table.loc[("unseen", "rough"), "auc"] < 1


def test_the_published_accuracies_are_whole_numbers_of_5988():
    with (ROOT / "data/published.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["arm"] != "pooled" and row["metric"] == "accuracy"]
    assert [row["arm"] for row in rows] == ["fedavg"] * 5 + ["asynchronous"] * 5 + ["dml"] * 5
    table = published.unseen_candidates([float(row["value"]) for row in rows], [5988, 3832, 3827])
    assert table.groupby("size").whole.sum().to_dict() == {5988: 15, 3832: 0, 3827: 0}
    assert table.hits[0] == pytest.approx(5548, abs=1e-3) and table.distance.max() <= 0.5
