"""VisionNet, the published "VisionNet-like CNN", in the fastest form that is exactly the same function.

Two things differ from a line-by-line transcription and change no value: ReLU follows the pooling (max and ReLU
commute, and a quarter of the numbers remain), and dropout takes its mask as an argument, so that a client owns its
randomness and several clients can be stacked into one batched model.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

DROPOUT = 0.2
WIDTHS = {"visionnet": 1.0, "visionnet-half": 0.5, "visionnet-quarter": 0.25}  # a part of every layer's channels
SHALLOW = ("conv1", "conv2", "conv3")  # the asynchronous arm exchanges these and the dense layers separately


class Net(nn.Module):
    """What a client trains: logits [N, 1] or [N, C] of images of one size. `kind` is its name; models of one kind have
    the same parameters (dml/training/kinds.py).
    """

    def __init__(self, kind: str, size: int, classes: int):
        super().__init__()
        self.kind, self.size, self.classes = kind, size, classes

    def dropout_masks(self, count: int, rng: np.random.Generator, device: torch.device) -> tuple:
        """What dropout needs for `count` images, all of it from `rng`: the second argument of `forward` in training."""
        raise NotImplementedError


class VisionNet(Net):
    """Logits [N, 1] for two classes (positive: class 1), [N, C] for more.

    Input: float [N, 3, size, size] in [0, 1], channels-last for speed. At size 100 and two classes it has 1,862,785
    parameters, 56,320 in the shallow group and 1,806,465 in the deep one (paper, section on the case study).
    Raises ValueError for sizes whose last feature map would be empty (below 18 pixels) and fewer than two classes.
    """

    def __init__(
        self, size: int = 100, classes: int = 2, rng: np.random.Generator | None = None, kind: str = "visionnet"
    ):
        super().__init__(kind, size, classes)
        if size < 18:
            raise ValueError(f"size={size}: VisionNet needs images of at least 18 x 18 pixels")
        if classes < 2:
            raise ValueError(f"classes={classes}: there must be at least 2")
        edge = ((size - 2) // 2 - 2) // 2 - 2
        few, many = (int(WIDTHS[kind] * channels) for channels in (32, 64))
        self.features, self.hidden = edge * edge * many, many
        # torch would fill the weights from its global random state; glorot() fills them from `rng`
        self.conv1 = skip_init(nn.Conv2d, 3, few, 3)
        self.conv2 = skip_init(nn.Conv2d, few, many, 3)
        self.conv3 = skip_init(nn.Conv2d, many, many, 3)
        self.dense1 = skip_init(nn.Linear, self.features, many)
        self.dense2 = skip_init(nn.Linear, many, outputs(classes))
        glorot(self, rng or np.random.default_rng(0))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, masks: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """`masks` (from `dropout_masks`) are given in training only."""
        x = self.convolve(images)
        if masks is not None:
            x = x * masks[0]
        x = F.relu(self.dense1(x))
        if masks is not None:
            x = x * masks[1]
        return self.dense2(x)

    def convolve(self, images: Tensor) -> Tensor:
        """What the first dense layer gets of images, [N, features]."""
        x = F.relu(F.max_pool2d(self.conv1(images), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.conv3(x))
        return x.permute(0, 2, 3, 1).flatten(1)  # Keras' order, and no copy in channels-last

    def dropout_masks(self, count: int, rng: np.random.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """Two masks for `count` images, [count, features] and [count, 64]: 0, or 1 / (1 - DROPOUT) where kept."""
        return keep(count, self.features, rng, device), keep(count, self.hidden, rng, device)


def outputs(classes: int) -> int:
    """How many logits a model has: one for two classes."""
    return 1 if classes == 2 else classes


def keep(count: int, width: int, rng: np.random.Generator, device: torch.device) -> Tensor:
    if device.type == "cuda":  # drawn where it is needed: the transfer would cost more than the step
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        kept = torch.rand(count, width, generator=generator, device=device) >= DROPOUT
    else:  # 16 bits a number are five times faster than torch's bernoulli, and 1e-5 from the exact rate
        kept = torch.from_numpy(rng.integers(0, 2**16, (count, width), np.uint16).view(np.int16))
        kept = kept >= int(DROPOUT * 2**16) - 2**15
    return kept / (1 - DROPOUT)


def glorot(model: nn.Module, rng: np.random.Generator) -> None:
    """Glorot-uniform weights and zero biases, Keras' defaults, in place."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.zero_()
                continue
            area = parameter[0, 0].numel()
            limit = (6 / ((parameter.shape[0] + parameter.shape[1]) * area)) ** 0.5
            values = rng.uniform(-limit, limit, tuple(parameter.shape)).astype(np.float32)
            parameter.copy_(torch.from_numpy(values))


def group(name: str) -> str:
    """The group, "shallow" or "deep", of a parameter's name."""
    return "shallow" if name.startswith(SHALLOW) else "deep"
