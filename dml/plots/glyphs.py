"""Characters that the figures' font lacks, for example of a class named in Chinese: from any installed font."""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import cast

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

PLACEHOLDER = "Last Resort"  # a font whose every character is a box

log = logging.getLogger(__name__)


def find(fig: Figure) -> None:
    """Give each text of a figure the fonts that its characters need. What no font has is drawn as a box, and said once
    a process.
    """
    for text in cast(list[Text], fig.findobj(Text)):
        own = frozenset(map(ord, text.get_text())) - _characters(findfont(text.get_fontproperties())) - {10}
        if own:
            text.set_fontfamily([*text.get_fontfamily(), *_families(own)])


@cache
def _characters(file: str) -> frozenset[int]:
    return frozenset(get_font(file).get_charmap())


@cache
def _families(lacking: frozenset[int]) -> tuple[str, ...]:
    """Installed fonts that together have these characters, each the one with most of what is left."""
    chosen, left = [], set(lacking)
    candidates = {name: have for name, have in _others() if have & lacking}
    while left and (best := max(candidates, key=lambda name: len(candidates[name] & left), default=None)):
        if not candidates[best] & left:
            break
        chosen.append(best)
        left -= candidates[best]
    if left:
        _say("".join(sorted(map(chr, left))))
    return tuple(chosen)


def _others() -> Iterator[tuple[str, frozenset[int]]]:
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        plain = entry.weight == 400 and entry.style == "normal" and not entry.name.startswith(PLACEHOLDER)
        if plain and Path(entry.fname).is_file():
            yield entry.name, _characters(findfont(FontProperties(family=[entry.name])))


@cache
def _say(characters: str) -> None:
    log.warning("no installed font has %s: figures show boxes instead", characters)
