import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dml.models import VisionNet, group


def test_published_size_and_groups():
    counts = {"shallow": 0, "deep": 0}
    for name, parameter in VisionNet(100).named_parameters():
        counts[group(name)] += parameter.numel()
    assert counts == {"shallow": 56_320, "deep": 1_806_465}
    assert sum(counts.values()) == 1_862_785
    assert VisionNet(100).features == 28_224


def test_same_function_as_the_plain_transcription():
    model, images = VisionNet(40), torch.rand(3, 3, 40, 40)
    x = F.max_pool2d(F.relu(model.conv1(images)), 2)
    x = F.max_pool2d(F.relu(model.conv2(x)), 2)
    x = F.relu(model.conv3(x)).permute(0, 2, 3, 1).reshape(3, -1)
    plain = model.dense2(F.relu(model.dense1(x)))
    torch.testing.assert_close(model(images), plain)


@pytest.mark.parametrize(("size", "classes", "outputs"), [(18, 2, 1), (33, 2, 1), (64, 5, 5)])
def test_other_sizes_and_classes(size, classes, outputs):
    assert VisionNet(size, classes)(torch.zeros(2, 3, size, size)).shape == (2, outputs)


def test_initialisation_is_glorot_uniform_and_seeded():
    model = VisionNet(100, rng=np.random.default_rng(1))
    limit = (6 / (28_224 + 64)) ** 0.5
    weight = model.dense1.weight
    assert weight.abs().max() <= limit and weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.01)
    assert not model.dense1.bias.any() and not model.conv1.bias.any()
    twin, other = VisionNet(100, rng=np.random.default_rng(1)), VisionNet(100, rng=np.random.default_rng(2))
    assert torch.equal(model.conv1.weight, twin.conv1.weight)
    assert not torch.equal(model.conv1.weight, other.conv1.weight)


def test_dropout_masks():
    model = VisionNet(40)
    masks = model.dropout_masks(400, np.random.default_rng(0), torch.device("cpu"))
    assert [tuple(m.shape) for m in masks] == [(400, model.features), (400, 64)]
    for mask in masks:
        assert set(mask.unique().tolist()) == {0.0, 1.25}
        assert (mask > 0).float().mean().item() == pytest.approx(0.8, abs=0.01)


def test_impossible_models_are_named():
    with pytest.raises(ValueError, match="size=17"):
        VisionNet(17)
    with pytest.raises(ValueError, match="classes=1"):
        VisionNet(40, 1)
