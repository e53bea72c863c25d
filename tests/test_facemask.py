"""The photographs are found, compared with the manifest and fetched."""

import csv
import hashlib
import http.server
import io
import re
import shutil
import threading
import unicodedata
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.data import facemask
from dml.files import DataError
from dml.pipeline import archive
from dml.pipeline.fetch import fetch

PATHS = {  # like the real manifest: names that are not ASCII, and one name with two extensions
    "Global/Mask/0_0_œ¬\u2018ÿ.png": "mask",
    "Global/Mask/0_0_≈˙◊¢ 2020-02-23 132115.png": "mask",
    "Global/Mask/0_0_0.jpg": "mask",
    "Global/Mask/0_0_0.png": "mask",
    "Global/NoMask/é.JPEG": "no_mask",
    "Test/Mask/1.png": "mask",
    "Test/NoMask/1.png": "no_mask",
}


def image_bytes(seed, size, form="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(out := io.BytesIO(), form)
    return out.getvalue()


@pytest.fixture
def originals(tmp_path, monkeypatch):
    """{path: bytes} of seven originals, of which a manifest is in force."""
    files = {path: image_bytes(seed, (30, 20 + seed)) for seed, path in enumerate(PATHS)}
    with (tmp_path / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(facemask.Row._fields)
        for seed, (path, raw) in enumerate(files.items()):
            split = "train" if path.startswith("Global") else "unseen"
            digest = hashlib.sha256(raw).hexdigest()
            writer.writerow([split, PATHS[path], path, len(raw), "", digest, 30, 20 + seed, "RGB"])
    monkeypatch.setattr(facemask, "MANIFEST", tmp_path / "manifest.csv")
    return files


def put(folder, files):
    for path, raw in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)
    return folder


def copies(files):
    """The re-encoded copy: 100 x 100, the unseen set as .jpg."""
    return {
        re.sub(r"^(Test/.*)\.png$", r"\1.jpg", path): image_bytes(seed, (100, 100), "JPEG")
        for seed, path in enumerate(files)
    }


def test_the_manifest_in_the_repository():
    rows = facemask.read_manifest()
    assert len(rows) == 9820 and sum(row.bytes for row in rows) == 301_869_520
    assert rows == sorted(rows, key=lambda row: row.path)
    for row in rows:
        assert re.fullmatch(r"(Global|Test)/(Mask|NoMask)/[^/\\]+", row.path) and ".." not in row.path.split("/")
        assert unicodedata.is_normalized("NFC", row.path) and row.label in facemask.LABELS


def test_find(tmp_path, monkeypatch):
    monkeypatch.setattr(facemask, "HOME", tmp_path / "data/facemask")
    monkeypatch.setattr(facemask, "ROOT", tmp_path / "project")
    monkeypatch.delenv("DML_DATA", raising=False)
    with pytest.raises(DataError, match="make fetch"):
        facemask.find()
    for folder in (tmp_path / "shared/data/facemask", tmp_path / "data/facemask", tmp_path / "chosen"):
        (folder / "Global").mkdir(parents=True)
        (folder / "Test").mkdir()
    (tmp_path / "project").mkdir()
    assert facemask.find() == tmp_path / "data/facemask"
    monkeypatch.setattr(facemask, "HOME", tmp_path / "none")
    assert facemask.find() == tmp_path / "shared/data/facemask"
    monkeypatch.setenv("DML_DATA", str(tmp_path / "chosen"))
    assert facemask.find() == tmp_path / "chosen"
    monkeypatch.setenv("DML_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"DML_DATA=.*Global/ and Test/"):
        facemask.find()


def test_verify_originals_and_what_deviates(tmp_path, originals):
    folder = put(tmp_path / "got", originals)
    (folder / "Global/.DS_Store").touch()
    report = facemask.verify(folder)
    assert report.ok and str(report) == report.summary() == "author's originals, 7 of 7 verified"
    (folder / "Test/Mask/1.png").unlink()
    (folder / "Global/Mask/0_0_0.png").unlink()  # its namesake .jpg must not stand in for it
    (folder / "Test/NoMask/1.png").write_bytes(originals["Test/NoMask/1.png"][:-1] + b"x")
    (folder / "Test/NoMask/more.png").touch()
    report = facemask.verify(folder)
    assert not report.ok and report.kind == facemask.ORIGINALS and report.fitting == 4
    assert report.missing == ("Global/Mask/0_0_0.png", "Test/Mask/1.png")
    assert report.altered == ("Test/NoMask/1.png",) and report.extra == ("Test/NoMask/more.png",)
    assert "2 missing: Global/Mask/0_0_0.png, Test/Mask/1.png\n1 altered: " in report.summary()
    with pytest.raises(DataError, match=r"lacks 2 images: Global/Mask/0_0_0\.png.*make fetch"):
        facemask.entries(folder)


def test_verify_the_copy_and_neither(tmp_path, originals):
    folder = put(tmp_path / "copy", copies(originals))
    report = facemask.verify(folder)
    assert report.ok and str(report) == "re-encoded 100x100 copy, 7 files"
    (folder / "Test/Mask/1.jpg").write_bytes(image_bytes(0, (99, 100)))
    assert facemask.verify(folder).altered == ("Test/Mask/1.png",)
    put(folder, {"Global/Mask/0_0_0.jpg": originals["Global/Mask/0_0_0.jpg"]})
    assert str(facemask.verify(folder)) == "re-encoded 100x100 copy, 5 of 7 files"
    put(folder, dict.fromkeys(copies(originals), b"text"))
    report = facemask.verify(folder)
    assert report.kind == facemask.NEITHER and len(report.altered) == 7 and report.fitting == 0
    assert "0 of 7" in str(report)
    assert len(facemask.verify(tmp_path / "nothing").missing) == 7


def test_both_copies_give_the_same_entries(tmp_path, originals):
    both = [
        facemask.entries(put(tmp_path / "a", originals)),
        facemask.entries(put(tmp_path / "b", copies(originals))),
    ]
    for originals_set, copy_set in zip(*both, strict=True):
        assert [entry.name.split(".")[0] for entry in copy_set] == [e.name.split(".")[0] for e in originals_set]
        assert [(e.label, e.size) for e in copy_set] == [(e.label, e.size) for e in originals_set]
    assert [entry.label for entry in both[0][0]] == [0, 0, 0, 0, 1]


def packed(folder, files, kind="zip"):
    """An archive like GitHub's, with one folder on top."""
    put(folder / kind / f"Repository-{facemask.COMMIT}", files)
    return shutil.make_archive(str(folder / "archive"), kind, folder / kind)


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_fetch_from_a_file(tmp_path, originals, kind):
    more = {"Global/Mask/with_mask057.jpg": b"not in the manifest", "README.md": b"hello"}
    source, to = packed(tmp_path, originals | more, kind), tmp_path / "out"
    report = fetch(source, to)
    assert report.ok and str(report) == "author's originals, 7 of 7 verified"
    assert {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()} == set(originals)
    Path(source).unlink()
    assert fetch(source, to).ok  # nothing is wanted: the archive is not opened


def test_altered_images_are_reported_not_written(tmp_path, originals):
    path, other = "Test/Mask/1.png", "Test/NoMask/1.png"
    files = originals | {path: originals[path][:-1] + b"x"}
    del files[other]
    report = fetch(packed(tmp_path, files), tmp_path / "out")
    assert report.altered == (path,) and report.missing == (other,) and report.fitting == 5
    assert not (tmp_path / "out" / path).exists()
    assert fetch(packed(tmp_path, originals), tmp_path / "out").ok  # completed


def test_files_of_others_in_the_place_of_images_stay(tmp_path, originals):
    path, to = "Test/Mask/1.png", tmp_path / "out"
    put(to, {path: b"mine, or a copy of another size"})
    with pytest.raises(DataError, match=rf"out holds files that are not the author's: {path}; move them"):
        fetch(packed(tmp_path, originals), to)
    assert (to / path).read_bytes() == b"mine, or a copy of another size" and len(list(to.rglob("*.png"))) == 1


@pytest.fixture
def url(tmp_path):
    """A local web address under which the files of tmp_path are served."""
    handler = partial(QuietHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_fetch_from_the_net(tmp_path, originals, url):
    packed(tmp_path, originals, "gztar")
    to = tmp_path / "net/facemask"
    assert fetch(f"{url}/archive.tar.gz", to).ok
    assert sorted(path.name for path in to.iterdir()) == ["Global", "Test"]  # the archive is not kept


def test_a_broken_download_is_not_kept(tmp_path, originals, url):
    (tmp_path / "page.zip").write_text("no archive at all")
    to = tmp_path / "net/facemask"
    with pytest.raises(archive.Unreadable):
        fetch(f"{url}/page.zip", to)
    assert list(to.iterdir()) == []


def test_a_source_that_is_nothing(tmp_path, originals):
    for name in ("absent.zip", "."):
        with pytest.raises(DataError, match="neither a file nor a http"):
            fetch(tmp_path / name, tmp_path / "out")


def test_the_real_folder_verifies():
    try:
        folder = facemask.find()
    except DataError as absent:
        pytest.skip(str(absent))
    assert facemask.verify(folder).ok
