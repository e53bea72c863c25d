"""All relatives by name; a new one is one function and one line."""

from collections.abc import Callable, Iterator
from functools import partial

from dml.arms.federation import Federation
from dml.arms.relatives import outputs
from dml.arms.relatives.defkt import defkt, participants
from dml.arms.relatives.distil import feddf
from dml.arms.relatives.weights import fedprox, heterofl
from dml.training.clients import Fit

RELATIVES: dict[str, Callable[[Federation], Iterator[list[Fit]]]] = {
    **outputs.ARMS,
    "feddf": feddf,
    "feddf+labels": partial(feddf, labels=True),
    "fedprox": fedprox,
    "fedprox+public": partial(fedprox, public="before"),
    "heterofl": heterofl,
    "heterofl+public": partial(heterofl, public=True),
    "def-kt": defkt,
    "def-kt, own kept": partial(defkt, keep="own"),
    "def-kt, as published": partial(defkt, matched=False),
    "def-kt, only moved": partial(defkt, weight=0.0),
    "def-kt, receiver frozen": partial(defkt, frozen=True),
    "def-kt, averaged": partial(defkt, partner="average"),
    "def-kt, stranger": partial(defkt, partner="stranger"),
    "def-kt's fedavg": participants,
}
