"""What a face is drawn with: a `Scene` in units that do not depend on pixels, colours, curves, and a `Brush`."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw


@dataclass(frozen=True)
class Scene:
    """What several parts of a picture share. A detail of one part alone comes from `seed` as it is drawn."""

    label: int
    look: str  # "portrait", "snapshot" or "any"
    seed: int
    centre: np.ndarray  # of the head, x and y, as shares of the side
    scale: float  # half the width of the head, as a share of the side
    tilt: float  # radians, as is yaw
    yaw: float
    skin: tuple
    hair: tuple
    style: str
    long_hair: bool
    mask: str  # its kind, "" for none
    mask_top: float  # in head coordinates, see Brush
    light: np.ndarray  # where it comes from, in head coordinates; its length is its strength


def palette(codes: str) -> list:
    return [tuple(bytes.fromhex(code)) for code in codes.split()]


SKIN = palette("fadcc6 f3cbae eebd98 dda57c c68a5e a66d45 7f4f31 5a3724")
HAIR = palette("1b1513 2e1f18 4a2f20 6b4428 94632f c99a56 dfc285 a23f1c 96969a cfccc8")
IRIS = palette("4a2e1c 3a2416 6b4a2a 4d6b4a 4a7396 6d8590")
FRAME = palette("1c1c20 1c1c20 5a3a22 8a8a90 8c2232")
PAPER = palette("a9d6e8 a9d6e8 8cc4dd b5e0d2 f2f4f5 f3c6d3")
DOME = palette("f5f5f2 f5f5f2 e9ebec d5d8da 4a4d55")
linspace = lru_cache(np.linspace)  # a face has dozens of curves, of a few lengths


def shade(colour: tuple, by: float, towards: tuple | None = None) -> tuple:
    """The colour moved by a share of the way to `towards`; without it to white, or below 0 to black."""
    end = towards or ((255, 251, 246) if by > 0 else (24, 12, 16))
    return tuple(round(a + (b - a) * abs(by)) for a, b in zip(colour, end, strict=True))


def cloth(dice, saturation=(0.1, 0.75), value=(0.25, 0.95)) -> tuple:
    parts = colorsys.hsv_to_rgb(dice.random(), dice.uniform(*saturation), dice.uniform(*value))
    return tuple(round(255 * part) for part in parts)


def pick(dice, items):
    """An item of a sequence, or a key of a dict of weights."""
    if isinstance(items, dict):
        items = [name for name, weight in items.items() for _ in range(weight)]
    return items[int(dice.integers(len(items)))]


def oval(x, y, wide, high, start=0.0, stop=2 * np.pi, n=22) -> np.ndarray:
    """Points [n, 2] on an ellipse; angle 0 is right, a quarter turn is down."""
    turn = linspace(start, stop, n)
    return np.stack([x + wide * np.cos(turn), y + high * np.sin(turn)], axis=1)


def curve(first, pull, last, n=8) -> np.ndarray:
    """Points [n, 2] from `first` to `last`, drawn towards `pull` (a quadratic Bezier curve)."""
    t = linspace(0, 1, n)[:, None]
    return (1 - t) ** 2 * np.array(first) + 2 * t * (1 - t) * np.array(pull) + t**2 * np.array(last)


def arch(wide, ends, middle, x=0.0) -> np.ndarray:
    """A symmetric curve from left to right around `x`, pulled to the height `middle`."""
    return curve((x - wide, ends), (x, middle), (x + wide, ends))


class Brush:
    """Draws in head coordinates: the head is 2 wide, eyes near y = 0, crown near -1.2, chin near 1.3."""

    def __init__(self, scene: Scene, image: Image.Image, jaw: float):
        self.draw, self.scene, self.unit = ImageDraw.Draw(image, "RGBA"), scene, scene.scale * image.width
        sin, cos = np.sin(scene.tilt), np.cos(scene.tilt)
        self.matrix, self.origin = np.array([[cos, sin], [-sin, cos]]) * self.unit, scene.centre * image.width
        self.y = linspace(-1.22, 1.32, 28)
        up, down = np.maximum(-self.y / 1.22, 0), np.maximum(self.y / 1.32, 0)
        self.half = np.sqrt(np.maximum(1 - up**2, 0) * np.maximum(1 - down**jaw, 0))  # half the head's width at y

    def place(self, points, flat: bool) -> list:
        """Pixels of points. Unless `flat`, they lie on a face seen from the front, and turn with the head."""
        points = np.asarray(points, dtype=float)
        if not flat:
            (x, y), points = points.T, points.copy()
            depth = np.sqrt(np.maximum(1 - 0.85 * x**2 - 0.15 * y**2, 0.02))
            edge = 1.03 * np.interp(np.minimum(y, 0.95), self.y, self.half)
            x = x * np.cos(self.scene.yaw) + depth * np.sin(self.scene.yaw)
            points[:, 0] = np.minimum(np.maximum(x, -edge), edge)
        return (points @ self.matrix + self.origin).ravel().tolist()

    def fill(self, points, colour, alpha=255, flat=False):
        self.draw.polygon(self.place(points, flat), fill=(*colour, alpha))

    def line(self, points, colour, width, alpha=255, flat=False):
        width = max(1, round(width * self.unit))
        joint = "curve" if width > 3 else None
        self.draw.line(self.place(points, flat), fill=(*colour, alpha), width=width, joint=joint)
