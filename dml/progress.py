"""How far a long job is: a bar in a terminal, one line that ends in a notebook, a line now and then in a log."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)
LOG_EVERY, SHOW_EVERY = 15.0, 0.5  # seconds between two lines of a log; between two looks of a notebook
T = TypeVar("T")


class Progress:
    """`with Progress("training", total, "phase") as progress: progress.to(done, "3 of 10 jobs")`.

    `total` and `done` are in any unit of work, by which the time left is told.
    """

    def __init__(self, title: str, total: float):
        self.title, self.total, self.done, self.note = title, total, 0.0, ""
        self.began = self.told = time.monotonic()
        self._bar: tqdm | None = None
        self._display: Any = None  # of IPython

    def __enter__(self) -> "Progress":
        if _in_a_notebook():
            from IPython.display import display

            self._display = display(self._line(), display_id=True)
        elif sys.stderr.isatty():
            form = "{desc}: {percentage:3.0f}%|{bar}| {postfix} [{elapsed}<{remaining}]"
            self._bar = tqdm(total=self.total, desc=self.title, bar_format=form, mininterval=0.2)
        return self

    def to(self, done: float, note: str = "", at_once: bool = False) -> None:
        """So much is done; `note` says it in words, in a log only now and then if not `at_once`."""
        self.done, self.note, now = min(done, self.total), note, time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(self.done - self._bar.n)
        elif at_once or now - self.told >= (SHOW_EVERY if self._display is not None else LOG_EVERY):
            self.told = now
            self._tell(self._line())

    def __exit__(self, kind: type | None, *_) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            self._tell(_Text(f"{self.title}: {self.note}, {time.monotonic() - self.began:.0f} s"))

    def _line(self) -> "_Text":
        share, gone = self.done / self.total if self.total else 1.0, time.monotonic() - self.began
        left = f", about {gone * (1 - share) / share:.0f} s left" if share > 0 else ""
        return _Text(f"{self.title}: {100 * share:.0f} %, {self.note or 'beginning'}{left}")

    def _tell(self, line: "_Text") -> None:
        if self._display is not None:
            self._display.update(line)
        else:
            log.info("%s", line)


class _Text(str):
    """Text that a notebook shows as it is, without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _in_a_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def counted(items: Iterable[T], title: str, total: int, unit: str) -> Iterator[T]:
    """The items, while a `Progress` counts them."""
    with Progress(title, total) as progress:
        for count, item in enumerate(items, 1):
            yield item
            progress.to(count, f"{count:,} of {total:,} {unit}s")
