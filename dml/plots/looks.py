"""What every figure shares: the arms' names as the field has them, a colour family for each family of arms and for its
relatives, a marker for each arm and each rung of the ladder, greys for whatever is no arm (clients, rounds, classes).
"""

import re
from typing import Any

from matplotlib.colors import to_rgb

NAMES = {
    "dml": "DML",
    "dml-one-term": "DML, one-term form",
    "dml-peer-first": "DML, peer-first form",
    "dml, clipped": "DML, clipped",
    "fedavg": "FedAvg",
    "fedavg+public": "FedAvg + public labels",
    "fedavg, then public": "FedAvg, then public labels",
    "fedavg+mixed": "FedAvg, public fold mixed in",
    "asynchronous": "Partial-weight FL",
    "local": "Local",
    "local+public": "Local + public labels",
    "self": "Self-distillation control",
    "shuffled": "Shuffled-peers control",
    "smoothing": "Label-smoothing control",
    "pooled": "Centralised",
}
LOOKS: dict[str, dict[str, Any]] = {  # outputs blue, weights orange to brown, controls purple and teal, reference grey
    "dml": {"color": "#0563b2", "linestyle": "-", "marker": "o"},
    "dml-one-term": {"color": "#3d98c9", "linestyle": "--", "marker": "h"},
    "dml-peer-first": {"color": "#113056", "linestyle": "-.", "marker": "<"},
    "dml, clipped": {"color": "#3a1fb8", "linestyle": ":", "marker": (4, 1, 0)},
    "fedavg": {"color": "#e0561a", "linestyle": "-", "marker": "s"},
    "fedavg+public": {"color": "#845a01", "linestyle": "--", "marker": "P"},
    "fedavg, then public": {"color": "#a8781c", "linestyle": ":", "marker": "8"},
    "fedavg+mixed": {"color": "#c9831f", "linestyle": "-.", "marker": "H"},
    "asynchronous": {"color": "#562615", "linestyle": "-.", "marker": "D"},
    "local": {"color": "#962b85", "linestyle": "-", "marker": "v"},
    "local+public": {"color": "#8f2be0", "linestyle": "--", "marker": "^"},
    "self": {"color": "#1f9187", "linestyle": "-", "marker": "X"},
    "shuffled": {"color": "#0d5c55", "linestyle": "--", "marker": ">"},
    "smoothing": {"color": "#00924d", "linestyle": ":", "marker": "d"},
    "pooled": {"color": "0.35", "linestyle": "-", "marker": "p"},
}
RELATIVES = {
    "fedmd": "FedMD",
    "dsfl": "DS-FL",
    "scarlet": "SCARLET",
    "rhfl": "RHFL",
    "kta": "KT-A",
    "feddf": "FedDF",
    "fedprox": "FedProx",
    "heterofl": "HeteroFL",
    "def-kt": "Def-KT",
    "def-kt's fedavg": "FedAvg, Def-KT's clients",
    "pdmm": "PDMM",
}
RED: dict[str, dict[str, Any]] = {  # of relatives that are drawn beside the arms
    "fedmd": {"color": "#ee4768", "linestyle": "-", "marker": "p"},
    "dsfl": {"color": "#7d0a28", "linestyle": "-", "marker": "v"},
    "def-kt": {"color": "#d9628e", "linestyle": "-", "marker": "D"},
}
RUNGS = {  # of the ladder: as shown, and its marker, the same in every figure and run
    "float16": ("float16", "p"),
    "8 bits": ("8 bits", "v"),
    "4 bits": ("4 bits", "d"),
    "1 bit": ("1 bit", "^"),
    "top 1 %": ("top 1 %", "*"),
    "every 2nd": ("every 2nd round", "<"),
    "uncertain half": ("least certain half", ">"),
    "random half": ("random half", "P"),
    "fixed": ("one public fold", "X"),
    "fixed, changes": ("one public fold, changes", "D"),
}
INK, GREYS = "0.15", ("0.2", "0.62", "0.42", "0.75")
STROKES = ("-", ":", "--", "-.")  # with a grey each, for classes
RUNG_FACE = "white"
PUBLISHED: dict[str, Any] = {"color": "#f2c744", "marker": "*", "markeredgecolor": INK, "markeredgewidth": 0.6}
PROTOCOLS = {"paper": "published protocol", "reduced": "reduced protocol", "smoke": "smoke protocol"}


def name(arm: str) -> str:
    """An arm, a rung of one or a relative, as figures call it; another one as it is called in the code."""
    if arm in NAMES:
        return NAMES[arm]
    head, sign, more = re.fullmatch(r"([^,+]*)(, |\+|)(.*)", arm).groups()  # type: ignore[union-attr]
    if sign == "+":
        return f"{RELATIVES.get(head, head)} + public labels"
    return f"{(NAMES | RELATIVES).get(head, head)}{sign}{RUNGS[more][0] if more in RUNGS else more}"


def look(arm: str) -> dict[str, Any]:
    """Colour, line and marker of an arm; a rung has its arm's colour and line, and a hollow marker of its own; a
    relative with public labels is dotted and hollow, one that has no look of its own is black.
    """
    if arm in LOOKS:
        return LOOKS[arm]
    family, _, rung = arm.partition(", ")
    if rung in RUNGS:
        return {**LOOKS[family], "marker": RUNGS[rung][1], "markerfacecolor": RUNG_FACE}
    head, plus, _ = arm.partition("+")
    own = RED.get(head, {"color": INK, "linestyle": "-", "marker": "o"})
    return {**own, "linestyle": ":", "markerfacecolor": RUNG_FACE} if plus else own


def ink(arm: str) -> tuple[float, ...]:
    """An arm's colour for text, a fifth darker: thin strokes need more contrast than marks."""
    return tuple(0.8 * share for share in to_rgb(look(arm)["color"]))


def dot(arm: str) -> dict[str, Any]:
    """A look without its line, for markers that none joins."""
    return {**look(arm), "linestyle": ""}


def data_name(title: str) -> str:
    """A run's title as captions have it: "facemask (…), paper" is "Face-mask photos (…), published protocol"."""
    said = re.sub(r"^facemask\b", "Face-mask photos", title)
    return re.sub(rf", ({'|'.join(PROTOCOLS)})$", lambda match: f", {PROTOCOLS[match[1]]}", said)


def protocol(title: str) -> str:
    """The protocol in a run's title, for a legend: "published protocol"."""
    return data_name(title).rpartition("), ")[2]


def signed(value: float, form: str = "+.2f") -> str:
    """A number with a true minus sign."""
    return f"{value:{form}}".replace("-", "−")
