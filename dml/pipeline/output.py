"""A folder that a command writes into: never one that holds somebody else's files, one command at a time, and cleared
only of what is listed as ours.
"""

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dml.files import DataError, writing

LIST = ".dml-files"  # marks a folder as ours; a line for every file that was written into it
LOCK, OWNER = ".dml-lock", ".dml-owner"


def claim(folder: Path) -> None:
    """Make a folder ours: a new or empty one, or one that was ours before. Raises DataError for any other."""
    if _ours(folder):
        return
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; choose a folder")
    with writing(folder):
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{folder} holds files that are not of this project: choose a new or an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LIST).touch()


def _ours(folder: Path) -> bool:
    """A folder with a list, or inside one that has it."""
    return any((place / LIST).is_file() for place in (folder, folder.parent))


def note(folder: Path, files: Iterable[Path]) -> None:
    """List files as ours before they are written. Those outside the folder are not listed, and so never removed."""
    inside = {file.relative_to(folder).as_posix(): None for file in files if file.is_relative_to(folder)}
    new = [name for name in inside if name not in listed(folder)]
    with writing(folder / LIST), (folder / LIST).open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(f"{name}\n" for name in new))  # in one piece: several kernels write at a time


def listed(folder: Path) -> list[str]:
    """The names of the files in a folder that are listed as ours."""
    file = folder / LIST
    return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if file.is_file() else []


def clear(folder: Path) -> None:
    """Remove what is listed as ours, and nothing else."""
    for name in listed(folder):
        path = folder / name
        if ".." not in path.parts and path.parent.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)
    with writing(folder / LIST):
        (folder / LIST).write_text("", encoding="utf-8")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder to this process for the block; the system lets go of it when the process ends, however it does.

    Raises DataError naming who holds it.
    """
    lock, owner = FileLock(folder / LOCK), folder / OWNER
    with writing(folder / LOCK):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            by = owner.read_text(encoding="utf-8") if owner.is_file() else "another process"
            raise DataError(f"{folder} is being written by {by}: wait for it, or choose another folder") from None
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
