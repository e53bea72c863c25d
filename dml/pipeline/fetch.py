"""The author's images, downloaded and verified."""

import shutil
from dataclasses import replace
from pathlib import Path

from dml.data.facemask import HOME, SOURCE, Report, original, read_manifest, verify
from dml.files import DataError, listing
from dml.pipeline import archive


def fetch(source: str | Path | None = None, to: Path | None = None) -> Report:
    """Bring the author's originals into `to` (default data/facemask) and verify the folder.

    source: URL or file of an archive (.zip, .tar, .tar.gz); default: the author's repository at COMMIT.
    Images already there and verified are kept, so an interrupted fetch goes on where it stopped. An image
    that the archive holds with other bytes is not written and is reported as altered.
    Raises DataError when the archive cannot be had or read, an image cannot be written, or the folder holds other files
    in the place of images.
    """
    to, source = Path(to or HOME), str(source or SOURCE)
    wanted = {r.path: (r.bytes, r.sha256) for r in read_manifest() if not original(r, to / r.path)}
    if others := [path for path in wanted if (to / path).exists()]:
        raise DataError(
            f"{to} holds files that are not the author's: {listing(others)}; move them or choose a new folder"
        )
    remote = source.startswith(("http://", "https://"))
    refused: set[str] = set()
    if wanted and remote:
        begun = to / ".download"  # kept when interrupted; removed, with whatever lies there, once it was read
        file = archive.download(source, begun)
        try:
            refused = archive.extract(file, wanted, to)
        except archive.Unreadable:  # kept, it would be taken for a finished download the next time
            shutil.rmtree(begun)
            raise
        shutil.rmtree(begun)
    elif wanted:
        if not Path(source).is_file():
            raise DataError(f"{source} is neither a file nor a http(s) URL; give an archive (.zip, .tar, .tar.gz)")
        refused = archive.extract(Path(source), wanted, to)
    report = verify(to)
    missing = tuple(path for path in report.missing if path not in refused)
    return replace(report, missing=missing, altered=tuple(sorted(refused.union(report.altered))))
