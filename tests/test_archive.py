"""Downloads continue where they stopped, and no archive can write anything else anywhere else."""

import hashlib
import http.server
import io
import os
import tarfile
import threading
import unicodedata
import zipfile
from dataclasses import dataclass, field

import numpy as np
import pytest

from dml.files import DataError
from dml.pipeline.archive import BLOCK, Unreadable, download, extract

TOP = "Repository-999d455/"
FILES = {  # one name of the real manifest; one whose parts differ between composed and decomposed Unicode
    "Global/Mask/0_0_≈˙◊¢ 2020-02-23 132115.png": b"one",
    "Global/NoMask/é.JPEG": b"two",
    "Test/Mask/1.png": b"three",
}
WANTED = {path: (len(raw), hashlib.sha256(raw).hexdigest()) for path, raw in FILES.items()}


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def add(out, name, raw=b"", kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(raw), kind, target
    out.addfile(member, io.BytesIO(raw))


def tar(path, files, top=TOP):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as out:
        for name, raw in files.items():
            add(out, top + name, raw)
    return path


def zipped(path, files, top=TOP):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, raw in files.items():
            out.writestr(top + name, raw)
    return path


@pytest.mark.parametrize(("build", "name"), [(zipped, "a.zip"), (tar, "a.tar"), (tar, "a.tar.gz")])
@pytest.mark.parametrize("top", [TOP, "", "a/b/c/"])
def test_only_what_is_wanted_is_written(tmp_path, build, name, top):
    source = build(tmp_path / name, FILES | {"Global/Mask/other.jpg": b"four", "README.md": b"five"}, top)
    assert extract(source, WANTED, tmp_path / "out") == set()
    assert files_in(tmp_path / "out") == FILES


def test_names_in_other_encodings(tmp_path):
    apart = {unicodedata.normalize("NFD", path): raw for path, raw in FILES.items()}
    assert set(apart) != set(FILES)
    unsaid = {path.encode().decode("cp437").replace("/", "\\"): raw for path, raw in apart.items()}  # no UTF-8 flag
    for build, files in ((tar, apart), (zipped, apart), (zipped, unsaid)):
        out = tmp_path / f"out{len(os.listdir(tmp_path))}"
        assert extract(build(tmp_path / "archive", files), WANTED, out) == set()
        assert files_in(out) == FILES


def test_nothing_escapes(tmp_path):
    names = [
        "../../evil",
        "/etc/evil",
        "../../../Test/Mask/1.png",
        "/Test/Mask/1.png",
        "Test/Mask/../../../evil",
    ]
    zipped(tmp_path / "a.zip", dict.fromkeys(names, b"evil"), top="")
    with tarfile.open(tmp_path / "a.tar", "w") as out:
        for name in names:
            add(out, name, b"evil")
        mask, no_mask, unseen = FILES
        add(out, mask, kind=tarfile.SYMTYPE, target="/etc/passwd")
        add(out, no_mask, kind=tarfile.LNKTYPE, target="../../evil")
        add(out, unseen, kind=tarfile.CHRTYPE)
    before = files_in(tmp_path)
    for source in ("a.zip", "a.tar"):
        assert extract(tmp_path / source, WANTED, tmp_path / "deep/er/out") == {"Test/Mask/1.png"}
        assert files_in(tmp_path) == before
    # The right bytes under a wild name go where they belong, and only there.
    zipped(tmp_path / "a.zip", {"../../../Test/Mask/1.png": b"three"}, top="")
    assert extract(tmp_path / "a.zip", WANTED, tmp_path / "deep/er/out") == set()
    assert files_in(tmp_path / "deep") == {"er/out/Test/Mask/1.png": b"three"}


@pytest.mark.parametrize("wrong", [b"threx", b"thre", b"", b"three" + bytes(5_000_000)])
@pytest.mark.parametrize(("build", "name"), [(zipped, "a.zip"), (tar, "a.tar.gz")])
def test_other_bytes_are_refused(tmp_path, wrong, build, name):
    source = build(tmp_path / name, FILES | {"Test/Mask/1.png": wrong})
    assert extract(source, WANTED, tmp_path / "out") == {"Test/Mask/1.png"}
    assert sorted(files_in(tmp_path / "out")) == sorted(FILES)[:2]


def test_unreadable_archives(tmp_path):
    large = {"Global/Mask/large.png": np.random.default_rng(0).bytes(5000)}
    wanted = {path: (len(raw), hashlib.sha256(raw).hexdigest()) for path, raw in large.items()}
    (tmp_path / "text.zip").write_text("no archive")
    whole = tar(tmp_path / "whole.tar.gz", large).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(zipped(tmp_path / "flipped.zip", large).read_bytes())
    flipped[1000] ^= 255
    (tmp_path / "flipped.zip").write_bytes(flipped)
    for name in ("text.zip", "cut.tar.gz", "flipped.zip", "absent.zip"):
        with pytest.raises(Unreadable, match=f"{name} cannot be read"):
            extract(tmp_path / name, wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"cannot write .*No space left"):
        extract(zipped(tmp_path / "a.zip", FILES), WANTED, tmp_path / "out")
    assert files_in(tmp_path / "out") == {}


BODY = np.random.default_rng(1).bytes(2 * BLOCK + 5000)


@dataclass
class Server:
    """A local web server for BODY; of its first reply only a bit more than one block arrives."""

    etag: str | None = '"one"'
    ranges: bool = True
    missing: bool = False
    asked: list[str | None] = field(default_factory=list)

    def reply(self, handler):
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        if self.missing or start >= len(BODY):
            handler.send_error(404 if self.missing else 416)
            return
        handler.send_response(206 if start else 200)
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.send_header("Content-Length", str(len(BODY) - start))
        handler.end_headers()
        handler.wfile.write(BODY[start : BLOCK + 5000 if len(self.asked) == 1 else None])


@pytest.fixture
def server():
    served = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            served.reply(self)

        def log_message(self, *_):
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
    served.url = f"http://127.0.0.1:{listener.server_port}/archive.tar.gz"
    yield served
    listener.shutdown()
    listener.server_close()


def interrupted(server, folder):
    with pytest.raises(DataError, match=rf"stopped .* {BLOCK:,} bytes are kept: run again"):
        download(server.url, folder)


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({}, [None, f"bytes={BLOCK}-"]),
        ({"ranges": False}, [None, f"bytes={BLOCK}-"]),  # the server sends everything again
        ({"etag": '"two"'}, [None, f"bytes={BLOCK}-", None]),  # another version: start over
        ({"etag": None}, [None, f"bytes={BLOCK}-", None]),
    ],
)
def test_an_interrupted_download_continues(tmp_path, server, change, asked):
    interrupted(server, tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".etag", ".part"]
    vars(server).update(change)
    file = download(server.url, tmp_path)
    assert file.read_bytes() == BODY and server.asked == asked
    assert list(tmp_path.iterdir()) == [file]


def test_without_an_etag_it_starts_over(tmp_path, server):
    server.etag = None
    interrupted(server, tmp_path)
    assert download(server.url, tmp_path).read_bytes() == BODY and server.asked == [None, None]


def test_a_part_that_is_already_whole_starts_over(tmp_path, server):
    interrupted(server, tmp_path)
    next(tmp_path.glob("*.part")).write_bytes(BODY)
    assert download(server.url, tmp_path).read_bytes() == BODY
    assert server.asked == [None, f"bytes={len(BODY)}-", None]


def test_a_page_that_is_not_there(tmp_path, server):
    server.missing = True
    with pytest.raises(DataError, match=r"stopped \(404.* 0 bytes are kept"):
        download(server.url, tmp_path)
