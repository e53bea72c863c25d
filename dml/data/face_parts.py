"""The parts of a drawn face: each function puts one part of a `Scene` on the picture with a `Brush`."""

from __future__ import annotations

import numpy as np

from dml.data.brush import DOME, FRAME, IRIS, PAPER, SKIN, Brush, arch, cloth, curve, oval, pick, shade

MASK, NO_MASK = 0, 1


def behind(brush: Brush, dice):
    """Hair behind the head, shoulders, neck, ears and the bare head."""
    scene, skin, shirt = brush.scene, brush.scene.skin, cloth(dice)
    if scene.long_hair:
        low, wide = dice.uniform(1.2, 2.2), dice.uniform(1.15, 1.3)
        sides = [(wide, low), (0.6, low + 0.25), (-0.6, low + 0.25), (-wide, low)]
        brush.fill([*oval(0, -0.2, wide, 1.2, -np.pi, 0), *sides], shade(scene.hair, -0.25), flat=True)
    shoulders = [*curve((-2.4, 3.6), (-2.2, 1.9), (-0.5, 1.62)), *curve((0.5, 1.62), (2.2, 1.9), (2.4, 3.6))]
    brush.fill(shoulders, shirt, flat=True)
    neck = [(-0.55, 0.8), (0.55, 0.8), (0.62, 1.7), (0, 2.0), (-0.62, 1.7)]
    brush.fill(neck, shade(skin, -0.25), flat=True)
    brush.line(arch(0.66, 1.66, 2.3), shade(shirt, -0.3), 0.12, flat=True)
    if scene.style == "veil":
        brush.fill(oval(0, 1.25, 0.95, 0.75), shade(scene.hair, -0.12), flat=True)
    for x in (-1.0, 1.0) if not scene.long_hair else ():
        brush.fill(oval(x - 0.1 * scene.yaw, 0.12, 0.17, 0.28), shade(skin, -0.1), flat=True)
    right = np.stack([brush.half, brush.y], axis=1)
    brush.fill([*right, *(right * (-1, 1))[::-1]], skin, flat=True)


def features(brush: Brush, dice):
    """Cheeks, beard, eyes, brows, nose and mouth."""
    scene, skin = brush.scene, brush.scene.skin
    hair = shade(skin, -0.65) if scene.style in ("hat", "bald", "veil") else scene.hair
    beard = 0.0 if scene.long_hair or dice.random() < 0.5 else dice.random()
    for x in (-0.55, 0.55):
        brush.fill(oval(x, 0.42, 0.24, 0.17), shade(skin, 0.3, (220, 70, 70)), 90)
    if beard:
        lip = [*curve((0.85, 0.45), (0.6, 0.62), (0, 0.5)), *curve((0, 0.5), (-0.6, 0.62), (-0.85, 0.45))]
        jaw = [*curve((-0.97, 0.1), (-0.95, 1.3), (0, 1.4)), *curve((0, 1.4), (0.95, 1.3), (0.97, 0.1))]
        brush.fill([*jaw, *lip], hair, 70 if beard < 0.5 else 235)
    iris, thick = pick(dice, IRIS), dice.uniform(0.07, 0.12)
    wide, gaze, lift = dice.uniform(0.75, 1.15), dice.uniform(-0.06, 0.06), dice.uniform(-0.5, -0.38)
    for x in (-0.4, 0.4):
        brush.fill(oval(x, 0, 0.27, 0.2 * wide), shade(skin, -0.2), 150)
        brush.fill(oval(x, 0, 0.22, 0.135 * wide), (246, 244, 240))
        brush.fill(oval(x + gaze, 0, 0.12, 0.13 * wide, n=14), iris)
        brush.fill(oval(x + gaze, 0, 0.06, 0.065, n=10), (12, 10, 12))
        brush.fill(oval(x + gaze + 0.05, -0.05, 0.03, 0.03, n=7), (255, 255, 255))
        brush.line(oval(x, 0, 0.23, 0.15 * wide, -np.pi, 0, 8), shade(skin, -0.8), 0.065)
        brush.line(arch(0.24, -0.3, lift, x), shade(hair, -0.2), thick)
    tip, side = 0.22 * np.sin(scene.yaw), -1 if scene.light[0] > 0 else 1
    brush.fill([(0.1 * side, -0.02), (0.2 * side + tip, 0.4), (tip, 0.46), (tip, 0.2)], shade(skin, -0.3), 110)
    brush.line(arch(0.17, 0.4, 0.54, tip), shade(skin, -0.42), 0.06)
    brush.fill(oval(tip - 0.03 * side, 0.33, 0.08, 0.07, n=10), shade(skin, 0.35), 130)
    smile, gap, wide = dice.uniform(-0.06, 0.14), dice.uniform(-0.15, 0.17), dice.uniform(0.27, 0.4)
    red = shade(shade(skin, -0.15), dice.uniform(0.25, 0.75 if scene.long_hair else 0.4), (190, 45, 65))
    ends = 0.78 - smile
    lower = arch(wide, ends, 0.98 + smile + max(gap, 0))[::-1]
    brush.fill([*arch(wide, ends, 0.66 + smile * 0.6), *lower], red)
    if gap > 0.03:
        teeth = arch(wide * 0.8, ends, 0.82 + smile + gap)[::-1]
        brush.fill([*arch(wide * 0.8, ends, 0.74 + smile), *teeth], (250, 246, 240))
    else:
        brush.line(arch(wide, ends, 0.8 + smile), shade(red, -0.5), 0.05)
    if beard > 0.5:
        brush.line(arch(0.42, 0.74, 0.5), hair, 0.13)


def mask(brush: Brush, dice):
    """A mask of the scene's kind, its upper edge at `mask_top`; low ones hang under the nose or the chin."""
    kind, top = brush.scene.mask, brush.scene.mask_top
    choices = {"surgical": PAPER, "dome": DOME, "black": [(36, 38, 43)], "cloth": [cloth(dice, (0.15, 0.8))]}
    colour = pick(dice, choices.get(kind, [shade(pick(dice, SKIN), 0.15)]))
    pattern = pick(dice, ("seam", "dots", "stripes")) if kind == "cloth" else "seam"
    pattern = "pleats" if kind in ("surgical", "skin") else pattern
    ink = shade(colour, pick(dice, (-0.5, 0.75)))
    chin = top > 0.9
    corner, low = (1.0, 1.5) if chin else (max(0.22, top + 0.16), 1.43)
    strap = (30, 30, 34) if kind == "black" else (224, 222, 222)
    for x in (-1, 1):
        brush.line(curve((0.8 * x, corner), (0.95 * x, 0.1), (1.04 * x, 0.0)), strap, 0.05)
        brush.line(curve((0.75 * x, 0.95), (0.98 * x, 0.6), (1.04 * x, 0.3)), strap, 0.05)
    edge = 0.62 if kind in ("dome", "cloth") else 0.78
    nose = curve((0, top), (0.3, corner - 0.02), (0.84, corner))
    right = np.array([*nose, (edge + 0.1, 0.95), *curve((edge, 1.05), (0.4, low), (0, low))])
    shape = [*right, *(right * (-1, 1))[::-1]]
    brush.fill(shape, colour)
    brush.line(shape, shade(colour, -0.28), 0.045)
    if chin:
        return
    high = low - top
    brush.fill(oval(0.0, top + 0.45 * high, 0.45, 0.36 * high), shade(colour, 0.4), 90)
    if pattern == "seam":
        brush.line(curve((0, top), (0.06, top + 0.5 * high), (0, low)), shade(colour, -0.3), 0.05)
    for share in (0.3, 0.5, 0.7, 0.88) if pattern != "seam" else ():
        y = top + share * high
        if pattern == "pleats" and share < 0.8:
            brush.line(arch(0.74, y - 0.02, y + 0.12), shade(colour, -0.24), 0.045)
        elif pattern == "stripes":
            brush.line(arch(0.72, y, y + 0.06), ink, 0.08)
        for x in np.linspace(-0.5, 0.5, 4) * (1.0 if share < 0.8 else 0.5) if pattern == "dots" else ():
            brush.fill(oval(x + 0.08 * (share in (0.3, 0.7)), y, 0.065, 0.065, n=8), ink)


def hair(brush: Brush, dice):
    """What falls over the forehead: hair, a hat or a veil."""
    scene, style = brush.scene, brush.scene.style
    if style == "bald":
        return brush.fill(oval(-0.3, -0.8, 0.25, 0.14), shade(scene.skin, 0.5), 90)
    if style == "hat":
        colour = cloth(dice)
        brush.fill(oval(0, -1.42, 0.26, 0.24), shade(colour, 0.35), flat=True)
        brush.fill(oval(0, -0.45, 1.08, 0.95, -np.pi, 0), colour, flat=True)
        return brush.line(arch(1.1, -0.42, -0.58), shade(colour, 0.3), 0.32, flat=True)
    part = dice.uniform(-0.5, 0.5) if style == "parted" else 0.0
    line = {"fringe": -0.3, "parted": -0.95, "short": -0.65, "curly": -0.6, "veil": -0.72}[style]
    under = [
        *curve((1.02, 0.0), (0.8, -0.75), (part, line)),
        *curve((part, line), (-0.8, -0.75), (-1.02, 0.0)),
    ]
    brush.fill([*oval(0, -0.1, 1.1, 1.3, -np.pi - 0.05, 0.05), *under], scene.hair, flat=True)
    for x in dice.uniform(-0.7, 0.7, 3):
        gloss = curve((x * 0.5, -1.3), (x, -1.2), (x * 1.2, -0.85))
        brush.line(gloss, shade(scene.hair, 0.25), 0.05, 110, flat=True)
    for turn in np.linspace(-np.pi - 0.1, 0.1, 12) if style == "curly" else ():
        x, y = 1.05 * np.cos(turn), -0.15 + 1.1 * np.sin(turn)
        brush.fill(oval(x, y, 0.27, 0.27, n=12), shade(scene.hair, 0.12 * dice.random()), flat=True)


def before(brush: Brush, dice):
    """Scarf, glasses and hand: in front of the face, with or without a mask."""
    scene, skin = brush.scene, brush.scene.skin
    if dice.random() < 0.3:
        wool, top = cloth(dice), dice.uniform(0.98, 1.3)
        brush.fill([*arch(1.02, top - 0.1, top + 0.2), (1.15, 1.9), (0, 2.2), (-1.15, 1.9)], wool, flat=True)
        for y in (top + 0.22, top + 0.5):
            brush.line(arch(1.05, y - 0.1, y + 0.22), shade(wool, -0.3), 0.07, flat=True)
    glasses = pick(dice, {"": 70, "clear": 22, "sun": 8})
    if glasses:
        frame, high = pick(dice, FRAME), dice.uniform(0.22, 0.29)
        glass, alpha = ((25, 25, 30), 225) if glasses == "sun" else ((235, 245, 255), 45)
        for x in (-0.4, 0.4):
            brush.fill(oval(x, 0.03, 0.31, high), glass, alpha)
            brush.line(oval(x, 0.03, 0.31, high), frame, 0.055)
            brush.line([(2.3 * x, -0.02), (1.78 * x, 0.0)], frame, 0.05)
        brush.line(arch(0.1, 0.02, -0.08), frame, 0.055)
    if dice.random() < (0.14 if scene.label == NO_MASK else 0.05):
        side, y = pick(dice, (-1, 1)), dice.uniform(0.5, 0.95)
        brush.line([(1.5 * side, 2.6), (0.85 * side, y + 0.5)], shade(skin, -0.12), 0.62, flat=True)
        brush.fill(oval(0.8 * side, y + 0.35, 0.42, 0.45), shade(skin, -0.06), flat=True)
        for finger in range(4):
            tip = ((-0.15 - 0.1 * (finger in (1, 2))) * side, y - 0.1 + 0.2 * finger)
            for colour, width in ((shade(skin, -0.4), 0.25), (shade(skin, -0.04), 0.19)):
                brush.line([(0.75 * side, y + 0.08 + 0.17 * finger), tip], colour, width, flat=True)
                brush.fill(oval(*tip, width / 2, width / 2, n=12), colour, flat=True)
