"""One image file as pixels: RGB, upright, resized by nearest neighbour, as published."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

DECODER = 1  # raise by one when decode() would give other pixels, so that old caches are not read
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
Image.init()  # load Pillow's decoders once, here: Image.open(formats=...) does not, and threads would race


def decode(path: Path, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels of one file as uint8 [3, size, size], upright, and its (width, height) before resizing.

    Transparency is dropped, not composited: the published run did the same.
    """
    with Image.open(path, formats=FORMATS) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):  # 16-bit grey: convert("RGB") alone would clip it to white
        image = Image.fromarray(np.clip(np.asarray(image) // 256, 0, 255).astype(np.uint8))
    if "transparency" in image.info:  # the same colours as without this step, and no warning about the palette
        image = image.convert("RGBA")
    small = image.convert("RGB").resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(small).transpose(2, 0, 1), image.size
