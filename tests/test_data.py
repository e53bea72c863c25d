"""Images of every kind decode to the right pixels, the cache is honest, and every error names its cause."""

import json
import os
import shutil
import unicodedata
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dml.config import PROFILES
from dml.data import facemask, folders
from dml.data import images as data
from dml.evidence.published import reported
from dml.pipeline.run import Run

RED = (255, 0, 0)


def gradient(width=8, height=6):
    return np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)


def folder_pair(root, classes=("cat", "dog"), count=3):
    """FOLDER/train and FOLDER/unseen with `count` small images a class, each of its own grey."""
    for split in ("train", "unseen"):
        for label, name in enumerate(classes):
            inside = root / split / name
            inside.mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (6, 4), (index, label, len(split))).save(inside / f"{index}.png")
    return root


def load(root, cache, size=5, train=0, unseen=0):
    return data.load(str(root), size=size, train_count=train, unseen_count=unseen, cache=cache)


@pytest.fixture
def pair(tmp_path):
    return folder_pair(tmp_path / "animals")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_a_folder_becomes_tensors_in_order(pair, cache):
    images = load(pair, cache)
    assert images.name.startswith("animals-") and (images.classes, images.source) == (("cat", "dog"), "folder animals")
    assert images.train.images.dtype == torch.uint8 and images.train.images.shape == (6, 3, 5, 5)
    assert images.unseen.labels.dtype == torch.int64 and images.unseen.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.train.files[0] == "train/cat/0.png" and images.train.files == tuple(sorted(images.train.files))
    assert images.train.sizes == ((6, 4),) * 6 and len(images.train) == 6
    assert images.train.images[4, :, 0, 0].tolist() == [1, 1, 5]


def test_more_classes_subfolders_and_hidden_files(tmp_path, cache):
    root = folder_pair(tmp_path / "many", classes=("b", "a", "c"), count=2)
    nested = root / "train" / "c" / "2024" / "may"
    nested.mkdir(parents=True)
    Image.new("L", (3, 3), 7).save(nested / "X.PNG")
    for name in (".DS_Store", "Thumbs.db", ".hidden.png"):
        (root / "train" / "c" / name).write_bytes(b"no image")
    (root / "train" / ".git").mkdir()
    images = load(root, cache)
    assert images.classes == ("a", "b", "c")
    assert images.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert images.train.files[-1] == "train/c/2024/may/X.PNG"


def test_decode_is_nearest_neighbour(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    pixels, size = data.decode(tmp_path / "a.png", 4)
    assert size == (8, 6) and pixels.shape == (3, 4, 4)
    rows, columns = [0, 2, 3, 5], [1, 3, 5, 7]  # the centre of each of the 4 cells, rounded down
    np.testing.assert_array_equal(pixels.transpose(1, 2, 0), gradient()[np.ix_(rows, columns)])


@pytest.mark.parametrize(
    ("mode", "colour", "name", "expected"),
    [
        ("L", 90, "grey.png", (90, 90, 90)),
        ("LA", (90, 5), "grey-alpha.png", (90, 90, 90)),
        ("1", 1, "bit.png", (255, 255, 255)),
        ("I;16", 128 * 256 + 3, "grey16.png", (128, 128, 128)),
        ("I;16", 255 * 256, "grey16.TIFF", (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), "clear.png", (10, 20, 30)),  # transparency is dropped, as published
        ("CMYK", (0, 255, 255, 0), "print.tif", RED),
        ("RGB", RED, "plain.BMP", RED),
        ("RGB", RED, "plain.GIF", RED),
        ("RGB", RED, "plain.PPM", RED),
    ],
)
def test_every_colour_mode(tmp_path, mode, colour, name, expected):
    Image.new(mode, (5, 5), colour).save(tmp_path / name)
    pixels, _ = data.decode(tmp_path / name, 3)
    assert {tuple(p) for p in pixels.reshape(3, -1).T.tolist()} == {expected}


@pytest.mark.parametrize("name", ["a.JPG", "b.jpeg", "c.webp"])
def test_lossy_formats_are_close(tmp_path, name):
    Image.new("RGB", (9, 9), (200, 100, 50)).save(tmp_path / name, quality=95)
    assert np.abs(data.decode(tmp_path / name, 4)[0].mean((1, 2)) - (200, 100, 50)).max() < 4


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparency_keeps_its_colours(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *RED])
    image.save(tmp_path / "p.png", transparency=bytes([255, 0]))
    assert data.decode(tmp_path / "p.png", 2)[0][:, 0, 0].tolist() == list(RED)


def test_a_rotated_photograph_is_set_upright(tmp_path):
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: white goes to the top
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright, size = data.decode(tmp_path / "turned.png", 4)
    assert size == (4, 8)
    assert upright[0, 0].tolist() == [255] * 4 and upright[0, -1].tolist() == [0] * 4


def test_the_cache_is_read_and_the_same(pair, cache, monkeypatch):
    first = load(pair, cache)
    monkeypatch.setattr(data, "decode", lambda *_: pytest.fail("decoded again"))
    second = load(pair, cache)
    assert second.sha256 == first.sha256 and second.train.sizes == first.train.sizes
    assert second.classes == first.classes and second.unseen.files == first.unseen.files
    assert torch.equal(second.unseen.images, first.unseen.images)
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]


def test_a_changed_file_is_decoded_again(pair, cache):
    first = load(pair, cache)
    Image.new("RGB", (6, 4), RED).save(pair / "train" / "cat" / "0.png")
    assert load(pair, cache).sha256 != first.sha256
    assert load(pair, cache, size=6).train.images.shape[-1] == 6


@pytest.mark.parametrize("damage", ["truncated", "not safetensors", "flipped bit", "foreign"])
def test_a_damaged_cache_is_rebuilt(pair, cache, damage):
    first = load(pair, cache)
    (file,) = cache.iterdir()
    raw = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(raw[: len(raw) // 2])
    elif damage == "not safetensors":
        file.write_bytes(b"junk")
    elif damage == "flipped bit":
        file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    else:
        header = json.dumps({}).encode()
        file.write_bytes(len(header).to_bytes(8, "little") + header)
    again = load(pair, cache)
    assert again.sha256 == first.sha256 and file.read_bytes() == raw


def test_bad_files_are_named_and_nothing_is_left_behind(pair, cache):
    good = pair / "train" / "cat" / "0.png"
    Image.fromarray(gradient(64, 64)).save(good)
    good.write_bytes(good.read_bytes()[:-200])
    (pair / "unseen" / "dog" / "note.jpg").write_text("hello")
    (pair / "unseen" / "dog" / "empty.jpg").touch()
    with pytest.raises(data.DataError, match=r"3 of 14 files.*cat.0\.png.*empty\.jpg.*note\.jpg"):
        load(pair, cache)
    for index in range(9):
        (pair / "train" / "dog" / f"bad{index}.png").write_text("hello")
    with pytest.raises(data.DataError, match=r"12 of 23 files.* and 7 more"):
        load(pair, cache)
    assert not cache.exists()


def test_a_failed_write_leaves_nothing(pair, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(data.DataError, match="No space left"):
        load(pair, cache)
    assert list(cache.iterdir()) == []


def test_impossible_requests(pair, cache, tmp_path):
    for text, root, options in [
        ("nowhere", tmp_path / "nowhere", {}),
        ("at least 1", pair, {"size": 0}),
        ("negative", pair, {"train": -1}),
        ("cannot cover 2 classes", pair, {"train": 1}),
        ("no folder train", pair / "train", {}),
    ]:
        with pytest.raises(data.DataError, match=text):
            load(root, cache, **options)


def test_a_cap_takes_a_balanced_fixed_subset_and_decodes_only_it(tmp_path, cache):
    root = folder_pair(tmp_path / "big", classes=("a", "b", "c"), count=7)
    (root / "train" / "a" / "zz-broken.png").write_text("no image")
    for train in (3, 4, 9):
        images = load(root, cache, train=train, unseen=3)
        assert len(images.train) == train and len(images.unseen) == 3
        counts = torch.bincount(images.train.labels)
        assert counts.max() - counts.min() <= 1
        assert images.train.files == load(root, tmp_path / "other", train=train, unseen=3).train.files


@pytest.mark.parametrize(
    ("at", "to", "found"),
    [
        ("train/cat/more", "elsewhere", {"train/cat/more/deep/extra.png"}),
        ("train/cat/2024/may", "elsewhere/deep", {"train/cat/2024/may/extra.png"}),
        ("train/cat/one.png", "elsewhere/deep/extra.png", {"train/cat/one.png"}),
        ("train/cat/twice", "train/dog", {f"train/cat/twice/{index}.png" for index in range(3)}),
        ("train/emu", "elsewhere", {"train/emu/deep/extra.png"}),
    ],
)
def test_links_are_followed(pair, cache, at, to, found):
    usual = set(load(pair, cache).train.files)
    (pair / "elsewhere" / "deep").mkdir(parents=True)
    Image.new("RGB", (6, 4), RED).save(pair / "elsewhere" / "deep" / "extra.png")
    (pair / at).parent.mkdir(exist_ok=True)
    (pair / at).symlink_to(pair / to)
    if at == "train/emu":
        shutil.copytree(pair / to, pair / "unseen" / "emu")
    assert set(load(pair, cache).train.files) == usual | found


@pytest.mark.parametrize("name", ["train", "unseen", "train/cat", ""])
def test_a_folder_may_be_a_link_itself(pair, cache, name):
    usual = load(pair, cache)
    (pair / name).rename(pair.parent / "moved")
    (pair / name).symlink_to(Path("..", *[".."] * name.count("/"), "moved") if name else "moved")
    images = load(pair, cache)
    assert images.sha256 == usual.sha256 and images.train.files == usual.train.files


CYCLE, NOTHING = "is a link to a folder that holds it", "is a link to nothing"


@pytest.mark.parametrize(
    ("at", "to", "text"),
    [
        ("train/cat/loop", ".", rf"cat/loop {CYCLE}"),
        ("train/cat/loop", "../cat", rf"cat/loop {CYCLE}"),
        ("train/cat/loop", "..", rf"cat/loop {CYCLE}"),
        ("train/cat/deep/loop", "../..", rf"deep/loop {CYCLE}"),
        ("train/cat/loop", "../../..", rf"cat/loop {CYCLE}"),
        ("train/cat", "..", rf"train/cat/\S* {CYCLE}"),
        ("train/cat/gone.png", "nowhere.png", rf"gone\.png {NOTHING}"),
        ("train/cat/gone", "nowhere", rf"cat/gone {NOTHING}"),
        ("train/cat/deep/gone.txt", "0.png/nowhere", rf"gone\.txt {NOTHING}"),
        ("train/cat/self", "self", rf"cat/self {NOTHING}"),
        ("unseen/cat", "nowhere", rf"unseen/cat {NOTHING}"),
        ("unseen/emu", "nowhere", rf"unseen/emu {NOTHING}"),
        ("unseen", "nowhere", rf"unseen {NOTHING}"),
    ],
)
def test_links_that_lead_nowhere_are_named(pair, cache, at, to, text):
    link = pair / at
    link.parent.mkdir(exist_ok=True)
    if link.exists():
        shutil.rmtree(link)
    link.symlink_to(to)
    with pytest.raises(data.DataError, match=text):
        load(pair, cache)


def test_links_in_a_ring_are_named(pair, cache):
    (pair / "train" / "cat" / "dogs").symlink_to("../dog")
    (pair / "train" / "dog" / "cats").symlink_to("../cat")
    with pytest.raises(data.DataError, match=f"cat/dogs/cats {CYCLE}"):
        load(pair, cache)


@pytest.mark.parametrize(
    ("of", "call", "name"),
    [
        (os, "listdir", "train"),
        (os, "listdir", "unseen/dog"),
        (os, "listdir", "train/cat/deep"),
        (Path, "stat", ""),
        (Path, "stat", "unseen"),
        (Path, "stat", "train/cat"),
        (Path, "stat", "train/cat/deep"),
    ],
)
def test_a_folder_that_cannot_be_read_is_named(pair, cache, monkeypatch, of, call, name):
    (pair / "train" / "cat" / "deep").mkdir()
    usual = getattr(of, call)

    def refused(path, **options):  # no chmod: the tests may run as root, whom it does not stop
        if Path(path) == pair / name:
            raise PermissionError(13, "Permission denied")
        return usual(path, **options)

    monkeypatch.setattr(of, call, refused)
    with pytest.raises(data.DataError, match=rf"{pair / name} cannot be read \(Permission denied\)"):
        load(pair, cache)


def test_what_is_neither_a_file_nor_a_folder_is_named(pair, cache):
    os.mkfifo(pair / "train" / "cat" / "pipe.png")
    with pytest.raises(data.DataError, match=r"pipe\.png is neither a file nor a folder"):
        load(pair, cache)


@pytest.mark.parametrize("place", ["train/cat/{}.png", "train/cat/{}/0.png", "train/{}/0.png", "../{}/x"])
def test_a_name_that_is_not_utf8_is_refused_at_once(pair, cache, monkeypatch, place):
    monkeypatch.setattr(data, "decode", lambda *_: pytest.fail("decoded"))
    odd = os.fsdecode(b"caf\xff")
    file = pair / place.format(odd)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    root = file.parent if ".." in place else pair
    with pytest.raises(data.DataError, match=r"caf\\udcff\S* has a name that is not UTF-8; rename it") as refused:
        load(root, cache)
    str(refused.value).encode()
    if ".." in place:
        with pytest.raises(data.DataError, match="rename it"):
            Run.open("smoke", str(root))


@pytest.mark.parametrize("split", ["train", "unseen"])
def test_class_names_are_compared_however_their_accents_are_written(tmp_path, cache, split):
    whole, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = folder_pair(tmp_path / "data", classes=(whole, "zoo"), count=2)
    (root / split / whole).rename(root / split / apart)
    images = load(root, cache)
    assert images.classes == (whole, "zoo") and images.train.labels.tolist() == [0, 0, 1, 1]
    shutil.copytree(root / split / apart, root / split / whole)
    with pytest.raises(data.DataError, match=rf'{split} holds two folders "{whole}"'):
        load(root, cache)


@pytest.mark.parametrize(
    "name", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "@eadir", ".Trash"]
)
@pytest.mark.parametrize("place", ["train", "train/cat", "unseen/dog/deep"])
def test_what_systems_leave_behind_is_no_class_and_no_image(pair, cache, name, place):
    inside = pair / place / name / "cat.png"
    inside.mkdir(parents=True)
    Image.new("RGB", (6, 4), RED).save(inside / "SYNOPHOTO_THUMB_M.png")
    (pair / place / name / "index.xml").touch()
    (pair / place / name / "gone").symlink_to("nowhere")
    images = load(pair, cache)
    assert images.classes == ("cat", "dog") and len(images.train) == len(images.unseen) == 6


def swapped(pair):
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (pair / "train" / old).rename(pair / "train" / new)


def copied(pair):
    """Like `cp -p` or `rsync -t --inplace`: other bytes, as many, with the time of the file that was there."""
    file, other = pair / "train" / "cat" / "0.bmp", pair / "train" / "dog" / "0.bmp"
    shutil.copy2(other, file)


def edited(pair):
    file = pair / "train" / "cat" / "0.bmp"
    before = file.stat()
    file.write_bytes(file.read_bytes()[:-3] + b"\xff\xff\xff")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(pair):
    """Like `rsync -t`: a new file takes the name."""
    new = pair / "new.bmp"
    shutil.copy2(pair / "train" / "dog" / "0.bmp", new)
    new.replace(pair / "train" / "cat" / "0.bmp")


def linked_anew(pair):
    shutil.copytree(pair / "train" / "dog", pair / "kept" / "dog")
    shutil.rmtree(pair / "train" / "cat")
    (pair / "train" / "cat").symlink_to(pair / "kept" / "dog")


@pytest.mark.parametrize("change", [swapped, copied, edited, replaced, linked_anew])
def test_a_change_that_keeps_sizes_and_times_is_seen(pair, cache, change):
    for file in sorted(pair.rglob("*.png")):
        with Image.open(file) as image:
            image.save(file.with_suffix(".bmp"))  # all of one size
        file.unlink()
        os.utime(file.with_suffix(".bmp"), (1e9, 1e9))
    first = load(pair, cache)
    change(pair)
    again, fresh = load(pair, cache), load(pair, cache.with_name("other"))
    assert again.sha256 == fresh.sha256 != first.sha256
    assert {file.stat().st_mtime for file in pair.glob("train/*/*.bmp")} == {1e9}


@pytest.mark.filterwarnings("error")
def test_large_pictures_are_decoded_or_named_and_pillow_is_left_as_it_was(pair, cache, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow warns of the 24 pixels of each
    before = list(warnings.filters)
    assert len(load(pair, cache).train) == 6
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    for name in ("train/cat/a.ppm", "unseen/dog/b.ppm"):
        (pair / name).write_bytes(b"P6 2000 1000 255\n")
    with pytest.raises(data.DataError, match=r"2 of 14 files .*a\.ppm \(it has 2 megapixels, at most 1 are read"):
        load(pair, cache)
    assert Image.MAX_IMAGE_PIXELS == 500_000 and list(warnings.filters) == before


@pytest.mark.parametrize("name", ["faces", "facemask"])
def test_a_folder_with_the_name_of_a_known_data_set(tmp_path, cache, monkeypatch, caplog, name):
    def absent():
        raise data.DataError("no photographs here")

    def known():
        with suppress(data.DataError):
            assert data.load(name, size=16, train_count=2, unseen_count=2, cache=cache).classes[0] == "mask"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(facemask, "find", absent)
    folders.tell_apart.cache_clear()
    known()
    assert not caplog.records
    folder_pair(tmp_path / name)
    folders.tell_apart.cache_clear()
    known()
    known()
    assert [record.getMessage() for record in caplog.records] == [
        f'data "{name}" is the known data set, not the folder in {tmp_path}; for that give ./{name}'
    ]
    assert load(f"./{name}", cache).classes == ("cat", "dog")
    assert Run.open("smoke", f"./{name}").data == str(tmp_path / name)


def test_require_names_class_count_and_folds(pair, cache):
    images = load(pair, cache)
    data.require(images, 3)
    with pytest.raises(data.DataError, match=r'"cat" has 3 training images, but 4 stratified folds'):
        data.require(images, 4)


def test_drawn_faces(cache):
    images = data.load("faces", size=16, train_count=6, unseen_count=4, cache=cache)
    assert images.classes == ("mask", "no mask") and images.source == "drawn, seed 0"
    assert images.train.images.shape == (6, 3, 16, 16) and images.unseen.labels.shape == (4,)
    assert images.unseen.files[3] == "unseen/0003" and images.train.sizes[0] == (16, 16)
    assert data.load("faces", size=16, train_count=6, unseen_count=4, cache=cache).sha256 == images.sha256
    with pytest.raises(data.DataError, match="at least 2"):
        data.load("faces", size=16, train_count=0, unseen_count=4, cache=cache)


def test_the_real_photographs(cache):
    try:
        facemask.find()
    except data.DataError as absent:
        pytest.skip(str(absent))
    images = data.load("facemask", size=20, train_count=12, unseen_count=10, cache=cache)
    assert images.classes == ("mask", "no mask") and "9,820" in images.source
    assert images.train.labels.bincount().tolist() == [6, 6] and images.train.files[0].startswith("Global/Mask/")
    assert images.unseen.labels.bincount().tolist() == [5, 5] and images.unseen.files[-1].startswith("Test/NoMask/")
    assert set(images.unseen.sizes) == {(128, 128)}  # of the originals, whichever copy was read


def test_a_folder_of_ones_own_never_passes_for_a_known_data_set(tmp_path):
    mine, other = (data.folder_name(tmp_path / place / "facemask") for place in ("a", "b"))
    assert len({mine, other, "facemask"}) == 3
    assert (
        reported(mine, PROFILES["paper"].experiment).empty
        and len(reported("facemask", PROFILES["paper"].experiment)) == 16
    )
    assert reported("facemask", PROFILES["smoke"].experiment).empty
    runs = [Run.open("paper", str(tmp_path / place / "facemask")) for place in ("a", "b")]
    assert [run.folder.name for run in runs] == [f"paper-{mine}", f"paper-{other}"]


def test_a_home_folder_is_expanded_once_for_all(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Run.open("smoke", "~/pictures").data == str((tmp_path / "pictures").resolve())
