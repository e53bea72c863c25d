"""Small networks of other kinds, each a function of the image size and the number of logits."""

from collections.abc import Callable
from math import gcd

from torch import nn
from torchvision.models import mobilenet_v3_small, squeezenet1_1
from torchvision.models.resnet import BasicBlock

Maker = Callable[[int, int], nn.Module]  # (pixels a side, logits) -> a module


def groups(channels: int) -> nn.GroupNorm:
    """Normalisation that keeps no statistics of anybody's images: at most 8 groups."""
    return nn.GroupNorm(gcd(8, channels), channels)


def resnet8(size: int, outputs: int) -> nn.Module:
    """Three residual blocks of 16, 32 and 64 channels (He et al. 2016, their CIFAR networks, n = 1)."""
    shorter = (nn.Sequential(nn.Conv2d(few, 2 * few, 1, 2, bias=False), groups(2 * few)) for few in (16, 32))
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), groups(16), nn.ReLU()),
        BasicBlock(16, 16, norm_layer=groups),
        BasicBlock(16, 32, 2, next(shorter), norm_layer=groups),
        BasicBlock(32, 64, 2, next(shorter), norm_layer=groups),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, outputs)),
    )


def squeezenet(size: int, outputs: int) -> nn.Module:
    """SqueezeNet 1.1 (Iandola et al. 2016) with a plain head: the original ends in a ReLU, and a single logit that is
    never negative can never say class 0.
    """
    net = squeezenet1_1()
    net.classifier = nn.Sequential(nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, outputs))
    return net


NETS: dict[str, Maker] = {
    "resnet8": resnet8,
    "squeezenet": squeezenet,
    "mobilenet": lambda size, outputs: mobilenet_v3_small(width_mult=0.5, norm_layer=groups, num_classes=outputs),
}
