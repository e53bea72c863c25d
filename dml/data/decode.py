"""One image file as pixels: RGB, upright, resized by nearest neighbour, as published."""

import math
import re
from contextlib import nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, ImageFile

from dml.files import DataError

DECODER = 2  # raise by one when decode() would give other pixels, so that old caches are not read
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LARGE = 50_000_000  # pixels; at 4 bytes each and as many again to turn it, no two such pictures are held at once
ONE_LARGE = Lock()
Image.init()  # load Pillow's decoders once, here: Image.open(formats=...) does not, and threads would race


def decode(path: Path, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels of one file as uint8 [3, size, size], upright, and its (width, height) before resizing.

    Transparency is dropped, not composited: the published run did the same. More than 8 bits: see `_eight_bits`.
    Raises DataError for too many megapixels and for values whose range cannot be told, and whatever Pillow raises.
    """
    try:
        file = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        pixels, limit = (int(number) / 1e6 for number in re.findall(r"\d+", str(error)))
        raise DataError(f"it has {pixels:.0f} megapixels, at most {limit:.0f} are read; make it smaller") from error
    with file, ONE_LARGE if math.prod(file.size) > LARGE else nullcontext():
        stored = str(file.tile)  # names the layout in the file, as "I;12" or "RGB;16B"; gone once it is loaded
        image = _upright(file)
        if image.mode.startswith(("I", "F")):
            least = 65535 if file.format == "PPM" else 4095 if "I;12" in stored else 255  # Pillow scales a PPM
            image = Image.fromarray(_eight_bits(np.asarray(image), least))
        elif ";16" in stored and file.format != "BMP":  # 16 bits a pixel there, not a colour
            _check_upper_bits(image)
        small = image.resize((size, size), Image.Resampling.NEAREST)  # first: the rest takes no memory then
    if "transparency" in small.info:  # the same colours as without this step, and no warning about the palette
        small = small.convert("RGBA")
    return np.asarray(small.convert("RGB")).transpose(2, 0, 1), image.size


def _upright(file: ImageFile.ImageFile) -> Image.Image:
    """As `ImageOps.exif_transpose`, which fails on metadata that has nothing to do with the orientation."""
    file.load()  # first: a PNG may hold its orientation behind the pixels, and a TIFF turns itself
    try:
        method = UPRIGHT.get(file.getexif().get(ORIENTATION, 1))
    except Exception:  # malformed metadata raises many types; none says anything against the pixels
        method = None
    return file if method is None else file.transpose(method)


def _check_upper_bits(image: Image.Image) -> None:
    """Pillow keeps the upper 8 of 16 bits a colour. Raises DataError when they are the dark rest of 12-bit colours."""
    colours = image.getbands()[: len(image.mode.rstrip("A"))]
    if all(np.asarray(image.getchannel(colour)).max() < 16 for colour in colours):
        raise DataError("its 16-bit colours are black or use only the lowest 12 bits; save it with 8 bits a colour")


def _eight_bits(values: np.ndarray, least: int) -> np.ndarray:
    """Grey values of more than 8 bits as uint8; few files tell what is white, so their brightest pixel has to.

    Integers: white is 255, 4095 (12 bits) or 65535, the first that is no less than any value nor than `least`.
    Floats: white is 1, or 255 when some value is 16 or more. Raises DataError for what fits neither.
    """
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if low >= 0 and (high <= 1 or 16 <= high <= 255):  # false for NaN; from 1 to 16 it would be nearly black
            return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)
        raise DataError(f"its grey values go from {low:g} to {high:g}, not from 0 to 1 or 255; save it with 8 bits")
    for white in (255, 4095, 65535):
        if low >= 0 and max(high, least) <= white:
            return (values // ((white + 1) // 256)).astype(np.uint8)
    raise DataError(f"its grey values go from {low} to {high}, not from 0 to 255, 4095 or 65535; save it with 8 bits")
