"""From an archive on the net to checked files on disk: downloads that continue, extraction that stays put."""

from __future__ import annotations

import hashlib
import os
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

import pooch
import requests
from tqdm import tqdm

from dml.files import DataError, replacing

BLOCK = 1 << 16  # bytes that arrive together; what an interruption can lose


class Unreadable(DataError):
    """A file that is no archive, or a broken one."""


def download(url: str, folder: Path) -> Path:
    """Download `url` into `folder` and return the file; what arrived before an interruption is continued.

    Raises DataError with the number of bytes that are kept.
    """
    name = "download-" + hashlib.sha256(url.encode()).hexdigest()[:12]
    part = folder / f"{name}.part"
    pooch.get_logger().setLevel("WARNING")  # its hint to pin a hash is for developers; here every file is pinned
    try:
        pooch.retrieve(url, None, name, folder, downloader=lambda url, file, _: _resume(url, part, Path(file)))
    except OSError as error:  # the base of what requests raises, too
        kept = part.stat().st_size if part.exists() else 0
        raise DataError(f"download of {url} stopped ({error}); {kept:,} bytes are kept: run again") from error
    return folder / name


def _resume(url: str, part: Path, file: Path) -> None:
    """Append to `part` what it lacks of `url`, then move it to `file`.

    Starts over when the server sends everything (status 200) or another version (ETag) than the one begun.
    """
    version = part.with_suffix(".etag")
    start = part.stat().st_size if part.exists() and version.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=30) as reply:
        etag = reply.headers.get("ETag", "")
        if start and (reply.status_code == 416 or (reply.status_code == 206 and etag != version.read_text())):
            version.unlink()
            return _resume(url, part, file)
        reply.raise_for_status()
        start = start if reply.status_code == 206 else 0
        version.unlink(missing_ok=True)
        if etag:  # without one, nothing tells whether a rest belongs to this beginning
            version.write_text(etag)
        total = start + int(reply.headers["Content-Length"]) if "Content-Length" in reply.headers else None
        bar = tqdm(desc="download", initial=start, total=total, unit="B", unit_scale=True)
        with bar, part.open("ab" if start else "wb") as out:
            for block in reply.iter_content(BLOCK):
                bar.update(out.write(block))
    os.replace(part, file)
    version.unlink(missing_ok=True)


def extract(archive: Path, wanted: Mapping[str, tuple[int, str]], to: Path) -> set[str]:
    """Write the wanted files of a .zip or .tar archive into `to`; return the paths found with other bytes.

    wanted: posix path of three parts -> (bytes, SHA-256). A member is recognised by its last three path
    parts; the destination is built from `wanted`, never from the member's name, and links are not followed,
    so nothing can escape `to`. Bytes are checked before they are written.
    Raises Unreadable for a broken archive, DataError when a file cannot be written.
    """
    refused, written = set(), set()
    with tqdm(desc="extract", total=len(wanted), unit="file") as bar:
        for path, data in _contents(archive, wanted):
            size, sha256 = wanted[path]
            if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
                refused.add(path)
            elif path not in written:
                with replacing(to / path) as part:
                    part.write_bytes(data)
                written.add(path)
                bar.update()
    return refused - written


def _contents(archive: Path, wanted: Mapping[str, tuple[int, str]]) -> Iterator[tuple[str, bytes]]:
    """(wanted path, bytes) of each wanted member, cut off one byte beyond the size it should have."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as members:
                for info in members.infolist():
                    if path := _recognise(info.filename, wanted):
                        with members.open(info) as file:
                            yield path, file.read(wanted[path][0] + 1)
        else:
            with tarfile.open(archive, "r|*") as entries:
                for entry in entries:
                    if entry.isreg() and (path := _recognise(entry.name, wanted)):
                        content = cast(IO[bytes], entries.extractfile(entry))  # there, as it is a regular file
                        yield path, content.read(wanted[path][0] + 1)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise Unreadable(f"{archive} cannot be read ({error}); it must be a whole .zip, .tar or .tar.gz") from error


def _recognise(name: str, wanted: Container[str]) -> str | None:
    tail = "/".join(name.replace("\\", "/").split("/")[-3:])
    names = [tail]
    with suppress(UnicodeError):  # zip programs that write UTF-8 without saying so are read as code page 437
        names.append(tail.encode("cp437").decode())
    composed = (unicodedata.normalize("NFC", name) for name in names)
    return next((name for name in composed if name in wanted), None)
