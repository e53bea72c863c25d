import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dml.data.faces import DOMAINS, MASK, NO_MASK, draw

ROOT = Path(__file__).resolve().parent.parent


def digest(images: torch.Tensor, labels: torch.Tensor) -> str:
    return hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(("count", "size"), [(2, 16), (5, 33), (4, 100)])
def test_shapes_types_and_balance(domain, count, size):
    images, labels = draw(count, size=size, seed=3, domain=domain)
    assert images.shape == (count, 3, size, size)
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    assert labels.shape == (count,)
    assert labels.dtype == torch.int64
    assert abs(int((labels == MASK).sum()) - int((labels == NO_MASK).sum())) <= 1
    assert images.float().std(dim=(1, 2, 3)).min() > 10  # no blank picture


def test_the_order_of_labels_is_no_pattern():
    labels = draw(64, size=16, seed=0, domain="train")[1]
    assert labels.sum() == 32
    assert len(set(labels[::2].tolist())) == 2
    assert not torch.equal(labels, draw(64, size=16, seed=1, domain="train")[1])


def test_same_arguments_give_the_same_bytes_and_others_do_not():
    one = digest(*draw(6, size=32, seed=1, domain="train"))
    np.random.seed(5)  # noqa: NPY002 - the global generators must not matter
    torch.manual_seed(5)
    assert digest(*draw(6, size=32, seed=1, domain="train")) == one
    assert digest(*draw(6, size=32, seed=2, domain="train")) != one
    assert digest(*draw(6, size=32, seed=1, domain="unseen")) != one


def test_global_generators_are_left_alone():
    before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    draw(4, size=24, seed=0, domain="unseen")
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_another_process_with_other_threads_gives_the_same_bytes():
    code = (
        "import hashlib, torch; torch.set_num_threads(2); from dml.data.faces import draw; "
        "x, y = draw(6, size=32, seed=1, domain='unseen'); "
        "print(hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(*draw(6, size=32, seed=1, domain="unseen"))


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_smaller_count_is_the_beginning_of_a_larger_one(domain):
    images, labels = draw(9, size=24, seed=7, domain=domain)
    for count in (2, 5):
        few, few_labels = draw(count, size=24, seed=7, domain=domain)
        assert torch.equal(few, images[:count])
        assert torch.equal(few_labels, labels[:count])


@pytest.mark.parametrize("domain", DOMAINS)
def test_another_size_is_the_same_scene(domain):
    large, labels = draw(24, size=96, seed=4, domain=domain)
    small, small_labels = draw(24, size=48, seed=4, domain=domain)
    assert torch.equal(labels, small_labels)
    halved = torch.nn.functional.avg_pool2d(large.float(), 2)
    for a, b in zip(halved, small.float(), strict=True):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"domain": "test"}, "domain is 'test'; it must be one of train, unseen"),
        ({"count": 1}, "count is 1; it must be at least 2"),
        ({"size": 15}, "size is 15; it must be at least 16"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    right = {"count": 4, "size": 16, "seed": 0, "domain": "train"} | wrong
    with pytest.raises(ValueError, match=message):
        draw(right.pop("count"), **right)


def ridge(pixels: torch.Tensor) -> torch.Tensor:
    """Pictures [n, 3, s, s] as rows of centred numbers, without the help of a convolution."""
    rows = pixels.double().flatten(1) / 255
    return rows - rows.mean(dim=1, keepdim=True)


def test_pixels_tell_the_classes_apart_but_not_trivially():
    images, labels = draw(600, size=16, seed=0, domain="train")
    unseen, unseen_labels = draw(300, size=16, seed=0, domain="unseen")
    rows, signs = ridge(images), labels.double() * 2 - 1
    weights = torch.linalg.solve(rows.T @ rows + 30 * torch.eye(rows.shape[1]).double(), rows.T @ signs)
    right = ((ridge(unseen) @ weights > 0).long() == unseen_labels).double().mean()
    assert 0.6 < right < 0.97
