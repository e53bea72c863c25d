"""Clients whose pictures differ, and a public fold of another domain. Pixels change; folds and labels stay.

So every client has as many images of each class as without: what is at stake is how a class looks. Public fold and
unseen set are as they were, unless the public fold itself is the one that is exchanged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from dml.config import Experiment
from dml.data import facemask, faces
from dml.data.images import SEED, Images
from dml.streams import SERVER, stream

if TYPE_CHECKING:
    from dml.data.folds import Folds

STOPS = 2.0  # by how many the last client's images are darker
BLUR = 0.05  # of an image's edge: the standard deviation of its blur
NOISE = 60.0  # of 255: that of its noise


def differ(images: Images, folds: Folds, experiment: Experiment, seed: int) -> Images:
    """The images of an experiment whose clients' pictures differ, or whose public ones are of another domain.

    Raises ValueError for images that it cannot be done to.
    """
    train, pixels = images.train, images.train.images.clone()
    if experiment.public_fold == "other":
        public = np.concatenate(folds.public)
        pixels[public] = drawn(images, train.labels[public], seed)
    private = [np.concatenate(own) for own in zip(*folds.private, strict=True)]
    if experiment.feature_skew == "look":
        everybody = np.concatenate(private)
        pixels[everybody] = pixels[by_look(images, private, seed)]
    elif experiment.feature_skew:
        for client, own in enumerate(private):
            strength = client / (len(private) - 1)
            pixels[own] = RAMPS[experiment.feature_skew](pixels[own], strength, stream(seed, client, "look"))
    return replace(images, train=replace(train, images=pixels))


# -- a ramp over the clients: the first one's images as they are, the last one's at strength 1 -------------------------


def darker(pixels: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Images uint8 [n, 3, size, size], up to `STOPS` stops darker."""
    return (pixels * 2 ** (-STOPS * strength)).round().to(torch.uint8)


def softer(pixels: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Images blurred by a Gaussian of up to `BLUR` of their edge."""
    wide = BLUR * pixels.shape[-1] * strength
    soft = gaussian_filter(pixels.numpy().astype(np.float32), (0, 0, wide, wide))
    return torch.from_numpy(soft.round().astype(np.uint8))


def noisier(pixels: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Images with Gaussian noise of up to `NOISE` in every pixel and colour."""
    drawn = rng.standard_normal(tuple(pixels.shape), dtype=np.float32)
    return (pixels + NOISE * strength * torch.from_numpy(drawn)).round().clamp(0, 255).to(torch.uint8)


RAMPS = {"brightness": darker, "blur": softer, "noise": noisier}


# -- drawn faces -------------------------------------------------------------------------------------------------------


def by_look(images: Images, private: list[np.ndarray], seed: int) -> np.ndarray:
    """Which image comes to each place of the clients' private folds [sum of their sizes], class by class: in the order
    of `look`, the first client gets the first ones. Raises ValueError for images that are not drawn.
    """
    if not images.source.startswith("drawn"):
        raise ValueError("feature_skew='look': only drawn faces have a known look; choose brightness, blur or noise")
    labels, everybody = images.train.labels.numpy(), np.concatenate(private)
    dealt, rng = everybody.copy(), stream(seed, SERVER, "look")
    for label in np.unique(labels):
        alike = np.sort(everybody[labels[everybody] == label])
        ordered = alike[np.argsort([look(index) for index in alike], kind="stable")]
        sizes = [int((labels[own] == label).sum()) for own in private]
        blocks = np.split(ordered, np.cumsum(sizes)[:-1])
        dealt[labels[everybody] == label] = np.concatenate([rng.permutation(block) for block in blocks])
    return dealt


def look(index: int) -> int:
    """The place of a drawn training image in an order: by the kind of its mask, then by its hair or hat."""
    scene = faces.scene(index, SEED, "train")
    kinds, styles = ["", *faces.KINDS["train"]], list(faces.STYLES)
    return kinds.index(scene.mask) * len(styles) + styles.index(scene.style)


def drawn(images: Images, labels: Tensor, seed: int) -> Tensor:
    """A drawn face with each of these labels, uint8 [n, 3, size, size], other ones for another seed. Raises ValueError
    for images of other classes, and for drawn ones.
    """
    if images.classes != facemask.CLASSES or images.source.startswith("drawn"):
        raise ValueError(
            f"public_fold='other': drawn faces stand in for photographs of the classes {', '.join(facemask.CLASSES)}; "
            f"these are {images.source}, of the classes {', '.join(images.classes)}"
        )
    counts = torch.bincount(labels, minlength=2)
    size = images.train.images.shape[-1]
    pictures, classes = faces.draw(2 * int(counts.max()), size=size, seed=seed, domain="train")
    made = torch.empty((len(labels), *pictures.shape[1:]), dtype=torch.uint8)
    for label, count in enumerate(counts.tolist()):
        made[labels == label] = pictures[classes == label][:count]
    return made
