"""One file becomes the pixels it shows, whatever its metadata, depth or size; what cannot be told is refused."""

import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin

from dml.data import decode
from dml.data import images as data

FORMATS = ("jpg", "png", "webp", "tif")
SHORT, LONG, RATIONAL, UNDEFINED, SLONG, SRATIONAL = 3, 4, 5, 7, 9, 10  # types of EXIF tags


def halves():
    """8 x 4 blocks of 8 pixels, white on the left."""
    return Image.fromarray(np.repeat(np.array([[255, 0]], np.uint8), 32, 1).repeat(32, 0)).convert("RGB")


def exif(*tags, end=b"\0" * 4):
    """EXIF bytes by hand, as no library writes them: tags are (number, type, count, four bytes or more)."""
    entries, behind, start = b"", b"", 8 + 2 + 12 * len(tags) + 4
    for number, kind, count, value in tags:
        if len(value) > 4:
            value, behind = struct.pack("<L", start + len(behind)), behind + value
        entries += struct.pack("<HHL", number, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + end + behind


TURN = (0x0112, SHORT, 1, b"\x06\0")  # clockwise by 90 degrees: white goes to the top


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("form", FORMATS)
def test_every_orientation_is_as_pillow_turns_it(tmp_path, form, orientation):
    file, tags = tmp_path / f"a.{form}", Image.Exif()
    tags[0x0112] = orientation
    pixels = np.random.default_rng(orientation).integers(0, 256, (21, 37, 3), np.uint8)
    Image.fromarray(pixels).save(file, exif=tags)
    with Image.open(file) as image:
        expected = ImageOps.exif_transpose(image)
    got, size = decode.decode(file, 10)
    assert size == expected.size
    np.testing.assert_array_equal(got.transpose(1, 2, 0), expected.resize((10, 10), Image.Resampling.NEAREST))


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    ("metadata", "turned"),
    [
        (exif(TURN), True),
        (exif(TURN, (0x011A, SRATIONAL, 1, struct.pack("<ll", -1, 0))), True),
        (exif(TURN, (0x011A, RATIONAL, 1, struct.pack("<LL", 1, 0))), True),
        (exif(TURN, (0x011A, UNDEFINED, 2, b"72")), True),
        (exif(TURN, (0x8825, SLONG, 1, struct.pack("<l", -256))), True),
        (exif(TURN, (0x8769, LONG, 1, struct.pack("<L", 1 << 31))), True),
        (exif(TURN, (0x9286, 99, 5, b"?")), True),
        (exif(TURN, end=b""), True),
        (exif((0x0112, SHORT, 2, b"\x06\0\x06\0")), True),
        (exif((0x0112, SHORT, 1, b"\x63\0")), False),
        (exif((0x0112, UNDEFINED, 1, b"6")), False),
        (exif(TURN)[:17], False),
        (exif(TURN)[:8], False),
        (b"Exif\0\0no such thing", False),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_odd_metadata_costs_at_most_the_orientation(tmp_path, form, metadata, turned):
    file = tmp_path / f"a.{form}"
    halves().save(file, exif=metadata)
    pixels, size = decode.decode(file, 4)
    assert size == ((32, 64) if turned else (64, 32))
    assert (pixels[0, 0] > 200).all() if turned else (pixels[0, :, 0] > 200).all()


def test_odd_metadata_of_other_kinds(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n  8\nno hex")
    halves().save(tmp_path / "text.png", pnginfo=text)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112], tags[0x011A], tags[0x8769] = 6, TiffImagePlugin.IFDRational(1, 0), 1 << 31
    halves().save(tmp_path / "turned.tif", tiffinfo=tags)
    assert decode.decode(tmp_path / "text.png", 4)[1] == (64, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode.decode(tmp_path / "turned.tif", 4)[1] == (32, 64)


def grey(file, values, dtype):
    Image.fromarray(np.array([values], dtype)).save(file)
    return file


@pytest.mark.parametrize(
    ("name", "dtype", "values", "expected"),
    [
        ("a.tif", np.int32, (0, 100, 255), (0, 100, 255)),
        ("a.tif", np.int32, (0, 256, 4095), (0, 16, 255)),
        ("a.tif", np.int32, (0, 4096, 65535), (0, 16, 255)),
        ("a.tif", np.uint16, (0, 100, 255), (0, 100, 255)),
        ("a.tif", np.uint16, (0, 256, 4095), (0, 16, 255)),
        ("a.tif", np.uint16, (0, 4096, 65535), (0, 16, 255)),
        ("a.png", np.uint16, (0, 256, 4095), (0, 16, 255)),
        ("a.png", np.uint16, (0, 255, 65535), (0, 0, 255)),
        ("a.pgm", np.uint16, (0, 256, 4095), (0, 1, 15)),  # its header says that 65535 is white
        ("a.tif", np.float32, (0, 0.5, 1), (0, 128, 255)),
        ("a.tif", np.float32, (0, 0.25, 0.9), (0, 64, 230)),
        ("a.tif", np.float32, (0, 100, 255), (0, 100, 255)),
        ("a.tif", np.float32, (0, 0.6, 16), (0, 1, 16)),
        ("a.tif", np.float32, (0, 0, 0), (0, 0, 0)),
    ],
)
def test_white_is_what_the_values_of_a_deep_grey_picture_say(tmp_path, name, dtype, values, expected):
    pixels, _ = decode.decode(grey(tmp_path / name, values, dtype), 3)
    assert pixels[:, 1].tolist() == [list(expected)] * 3


@pytest.mark.parametrize(("values", "expected"), [((100, 200), (6, 12)), ((0, 4095), (0, 255))])
def test_twelve_bits_by_the_file(tmp_path, values, expected):
    tags = ((256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 1), (279, 3))
    entries = b"".join(struct.pack("<HHLL", tag, SHORT, 1, value) for tag, value in tags)
    packed = (values[0] << 12 | values[1]).to_bytes(3, "big")
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    (tmp_path / "a.tif").write_bytes(head + packed)
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 4095\n" + struct.pack(">HH", *values))
    for name in ("a.tif", "a.pgm"):
        assert decode.decode(tmp_path / name, 2)[0][0, 0].tolist() == list(expected)


def png16(values):
    """A PNG of one row of 16-bit colours, which Pillow reads but does not write."""

    def chunk(kind, content):
        return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))

    head = struct.pack(">LLBBBBB", len(values), 1, 16, 2, 0, 0, 0)
    row = b"\0" + b"".join(struct.pack(">HHH", *colour) for colour in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("values", "dtype", "text"),
    [
        ((-1, 5), np.int32, "from -1 to 5, not from 0 to 255, 4095 or 65535"),
        ((0, 65536), np.int32, "from 0 to 65536"),
        ((0, np.nan), np.float32, "nan"),
        ((0, np.inf), np.float32, "from 0 to inf, not from 0 to 1 or 255"),
        ((-0.5, 0.5), np.float32, r"from -0\.5 to 0\.5"),
        ((0, 1.5), np.float32, r"from 0 to 1\.5"),
        ((0, 256), np.float32, "from 0 to 256"),
        (((0, 0, 4095), (0, 9, 0)), None, "16-bit colours .* lowest 12 bits"),
    ],
)
def test_a_range_that_cannot_be_told_is_refused(tmp_path, values, dtype, text):
    file = tmp_path / ("a.tif" if dtype else "a.png")
    if dtype:
        grey(file, values, dtype)
    else:
        file.write_bytes(png16(values))
    with pytest.raises(data.DataError, match=text):
        decode.decode(file, 2)


def test_deep_colours_in_full_range_and_dark_small_ones_stay(tmp_path):
    (tmp_path / "a.png").write_bytes(png16([(0x1034, 0, 0xFFFF)]))
    assert decode.decode(tmp_path / "a.png", 1)[0].ravel().tolist() == [0x10, 0, 255]
    masks = struct.pack("<LLL", 0xF800, 0x07E0, 0x001F)  # 16 bits a pixel: black and almost black
    head = struct.pack("<LLLHHLLLLLL", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<LLL", 70, 0, 66) + head + masks + struct.pack("<HH", 0, 1))
    assert decode.decode(tmp_path / "a.bmp", 2)[0][:, 0].tolist() == [[0, 0], [0, 0], [0, 8]]


@pytest.mark.parametrize(("width", "height", "text"), [(20000, 10000, "200"), (60000, 60000, "3600")])
def test_too_many_megapixels_are_refused_with_the_limit(tmp_path, width, height, text):
    (tmp_path / "a.ppm").write_bytes(b"P6 %d %d 255\n" % (width, height))
    with pytest.raises(data.DataError, match=f"it has {text} megapixels, at most 179 are read; make it smaller"):
        decode.decode(tmp_path / "a.ppm", 2)


def test_large_pictures_are_held_one_at_a_time_and_have_the_same_pixels(tmp_path, monkeypatch):
    files = [tmp_path / f"{index}.jpg" for index in range(6)]
    for index, file in enumerate(files):
        Image.effect_noise((40, 30 + index), 60).save(file)
    usual, held, most = [decode.decode(file, 7)[0] for file in files], [], []
    upright = decode._upright

    def counted(file):
        held.append(file)
        most.append(len(held))
        time.sleep(0.02)
        held.remove(file)
        return upright(file)

    monkeypatch.setattr(decode, "_upright", counted)
    monkeypatch.setattr(decode, "LARGE", 40 * 31)  # the first two are not large
    with ThreadPoolExecutor(6) as pool:
        pixels = list(pool.map(lambda file: decode.decode(file, 7)[0], files[2:]))
    assert max(most) == 1
    np.testing.assert_array_equal(pixels, usual[2:])
