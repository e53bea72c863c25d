"""Drawn faces with and without masks: a small stand-in for the photographs of the paper.

A `Scene` is one picture in units that do not depend on pixels; `paint` gives it pixels, at any size. The
two domains differ the way the real data do: in "train" the look of a picture says nothing about its label;
in "unseen" most masked faces are soft, tight snapshots and most bare faces crisp, warm portraits, and
other kinds of mask are common.

Label 0 means that mouth and chin are behind a mask (also where it slipped below the nose). Label 1 is
everything else: also a mask worn under the chin, a scarf up to the lip, a hand before the mouth.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw

from dml.data.brush import HAIR, SKIN, Brush, Scene, cloth, pick, shade
from dml.data.face_parts import MASK, NO_MASK, before, behind, features, hair, mask

DOMAINS = ("train", "unseen")
FINER = 3  # drawn this many times larger, then averaged: Pillow's shapes have hard edges
STYLES = {"short": 25, "fringe": 17, "parted": 20, "curly": 13, "bald": 9, "hat": 9, "veil": 7}
KINDS = {
    "train": {"surgical": 38, "cloth": 28, "dome": 16, "black": 14, "skin": 4},
    "unseen": {"surgical": 43, "cloth": 18, "dome": 22, "black": 15, "skin": 2},
}


def sample(label: int, domain: str, dice: np.random.Generator) -> Scene:
    """One scene of a domain with this label."""
    styled = domain == "unseen" and dice.random() < 0.8
    look = ("snapshot" if label == MASK else "portrait") if styled else "any"
    mask, top = pick(dice, KINDS[domain]), dice.uniform(0.06, 0.24)
    if label == NO_MASK:
        mask, top = (mask, dice.uniform(0.98, 1.06)) if dice.random() < 0.06 else ("", 0.0)
    elif dice.random() < 0.07:
        top = dice.uniform(0.44, 0.52)
    tone, style, angle = dice.random() * (len(SKIN) - 1.001), pick(dice, STYLES), dice.uniform(-np.pi, 0)
    return Scene(
        label=label,
        look=look,
        seed=int(dice.integers(2**62)),
        centre=dice.uniform((0.4, 0.41), (0.6, 0.55)),
        scale=dice.uniform(0.27, 0.34) if look == "snapshot" else dice.uniform(0.22, 0.33),
        tilt=dice.normal(0, 0.19),
        yaw=min(0.5, max(-0.5, dice.normal(0, 0.27))),
        skin=shade(SKIN[int(tone)], tone % 1, SKIN[int(tone) + 1]),
        hair=cloth(dice) if style == "veil" else pick(dice, HAIR[: 4 if tone > 4 else 10]),
        style=style,
        long_hair=style == "veil" or (style != "bald" and dice.random() < 0.42),
        mask=mask,
        mask_top=top,
        light=dice.uniform(0.05, 0.55) * np.array([np.cos(angle), np.sin(angle)]),
    )


def background(scene: Scene, dice, side: int) -> Image.Image:
    plain, base = scene.look == "portrait" or dice.random() < 0.35, cloth(dice, (0.03, 0.4), (0.35, 0.95))
    cells, spread = (2, 16) if plain else (int(dice.integers(3, 7)), 30)
    patches = base + dice.normal(0, spread, (cells, cells, 1)) + dice.normal(0, spread / 3, (cells, cells, 3))
    image = Image.fromarray(np.clip(patches, 10, 248).astype(np.uint8))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(0 if plain else int(dice.integers(0, 7))):
        x, y, w, h = dice.uniform((0, 0, 0.04, 0.04), (1, 1, 0.16, 0.3)) * side
        colour = (*shade(base, 0.5, cloth(dice)), 170)
        pick(dice, (draw.ellipse, draw.rectangle))((x - w, y - h, x + w, y + h), fill=colour)
    return image


def develop(image: Image.Image, scene: Scene, dice, size: int) -> np.ndarray:
    """A lens of limited detail, light on a round head, the colour of the lamp, and sensor noise."""
    low, high = {"snapshot": (26, 56), "portrait": (48, 110), "any": (30, 100)}[scene.look]
    detail = round(low * (high / low) ** dice.random())  # pixels across that the imagined camera resolves
    image = image.reduce(FINER)
    if detail < size:
        soft = image.resize((detail, detail), Image.Resampling.BOX)
        image = soft.resize((size, size), Image.Resampling.BICUBIC)
    here = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size
    x, y = ((here - middle) / scene.scale for middle in scene.centre.astype(np.float32))
    x, y = x[None, :, None], y[:, None, None]
    round_off = x**2 + (y / 1.3) ** 2
    near = np.clip((1.6 - round_off) / 0.6, 0, 1)  # the shading ends a little outside the head
    light = 1 + near * (scene.light[0] * x + scene.light[1] * y - 0.1 * round_off)
    warmth = dice.normal(0.05 if scene.look == "portrait" else 0.0, 0.05)
    tint = min(1.12, max(0.55, np.exp(dice.normal(-0.04, 0.24)))) * np.array([1 + warmth, 1, 1 - warmth])
    grain = dice.uniform(1, 6) * dice.standard_normal((size, size, 3), dtype=np.float32)
    return np.clip(np.asarray(image) * light * tint + grain + 0.5, 0, 255).astype(np.uint8)


def paint(scene: Scene, size: int) -> np.ndarray:
    """The picture of a scene, uint8 [size, size, 3]; at another size it is the same scene."""
    dice = np.random.default_rng(scene.seed)
    image = background(scene, dice, FINER * size)
    brush = Brush(scene, image, jaw=dice.uniform(2, 2.9))
    for part in (behind, features, *([mask] if scene.mask else []), hair, before):
        part(brush, dice)
    return develop(image, scene, dice, size)


def scene(i: int, seed: int, domain: str) -> Scene:
    """What picture i of `draw` shows."""
    # A coin per pair says which of the two wears the mask: balanced, unordered, the same for any count.
    coin = np.random.default_rng([seed, DOMAINS.index(domain), 0, i // 2]).integers(2)
    return sample(int((i + coin) % 2), domain, np.random.default_rng([seed, DOMAINS.index(domain), 1, i]))


def draw(count: int, *, size: int, seed: int, domain: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures, uint8 [count, 3, size, size], and labels, int64 [count] (0 mask, 1 no mask), in random order.

    The classes are balanced to within one. Image i depends on `seed`, `domain` and i alone, so a smaller
    count gives the beginning of a larger one. Raises ValueError for a domain other than "train" and
    "unseen", a count below 2, a size below 16 pixels or a negative seed.
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain is {domain!r}; it must be one of {', '.join(DOMAINS)}")
    for name, value, least in (("count", count, 2), ("size", size, 16), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    images, labels = np.empty((count, size, size, 3), dtype=np.uint8), np.empty(count, dtype=np.int64)
    for i in range(count):
        images[i], labels[i] = _picture(i, size, seed, domain)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


@lru_cache(maxsize=2048)  # a run asks for several counts of the same pictures
def _picture(i: int, size: int, seed: int, domain: str) -> tuple[np.ndarray, int]:
    drawn = scene(i, seed, domain)
    return paint(drawn, size), drawn.label
