"""Flower's settings as TOML files: a text there may hold what its command line would cut, as a quotation mark."""

import json
from collections.abc import Mapping
from pathlib import Path


def write(file: Path, values: Mapping[str, object]) -> Path:
    """Write texts, numbers and truth values; read back, they are the same. Returns the file. Raises as `line` does."""
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{line(name, value)}\n" for name, value in values.items()), encoding="utf-8")
    return file


def line(name: str, value: object) -> str:
    """One value. Raises ValueError naming the character for a text that is not Unicode, as a path can be."""
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON leaves it, TOML forbids it
    try:
        text.encode()
    except UnicodeEncodeError as error:
        wrong = text[error.start]
        raise ValueError(f"{name} {value!r}: Flower cannot take {wrong!r}, which is not Unicode; rename it") from None
    return f"{name} = {text}"
