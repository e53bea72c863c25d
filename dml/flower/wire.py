"""How our messages travel inside Flower's, and what each layer weighs.

A Flower message carries the encoded bytes of our messages in the record "message", and in the record "about" what is no
part of the protocol: measurements, and the names of the classes. The round is the group of the message.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from flwr.app import ConfigRecord, RecordDict
from flwr.app import Message as FlowerMessage

from dml.exchange.messages import MessageError


class Size(NamedTuple):
    """Bytes of one Flower message: our messages, what it says about the run, and all the rest that Flower adds."""

    encoded: int
    about: int
    framing: int


def content(encoded: Sequence[bytes] = (), about: dict | None = None) -> RecordDict:
    """Our encoded messages, and facts as JSON (floats survive it exactly)."""
    records = RecordDict({"message": ConfigRecord({"bytes": list(encoded)})})
    if about:
        records["about"] = ConfigRecord({"json": json.dumps(about)})
    return records


def encoded_in(message: FlowerMessage) -> list[bytes]:
    """Our encoded messages. Raises MessageError for content of another form."""
    try:
        items: Any = message.content["message"]["bytes"]
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"no message in the content ({error!r})") from error
    if not isinstance(items, list) or not all(isinstance(item, bytes) for item in items):
        raise MessageError("the content is not a list of bytes")
    return items


def about_in(message: FlowerMessage) -> dict:
    """What a message says about the run; empty if nothing. Raises MessageError for anything but JSON."""
    if "about" not in message.content:
        return {}
    try:
        return dict(json.loads(cast(str, message.content["about"]["json"])))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"facts that are not readable ({error!r})") from error


def size(message: FlowerMessage) -> Size:
    """What a message weighs as Flower serialises it: every object of its tree, without TLS and HTTP."""

    def serialised(thing) -> int:
        return len(thing.deflate()) + sum(serialised(child) for child in (thing.children or {}).values())

    if message.has_error():
        return Size(0, 0, 0)
    encoded = sum(map(len, encoded_in(message)))
    about = message.content["about"].get("json", "") if "about" in message.content else ""
    about = len(about) if isinstance(about, str) else 0
    return Size(encoded, about, serialised(message) - encoded - about)
