"""Liars and rules in a deployment, by the names of dml/hostile (an annex, imported inside functions).

A site that rehearses a lie knows only what is its own; the rules are the server's.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dml.arms import messaging
from dml.arms.federation import Federation
from dml.exchange.messages import Aggregate, Message, MessageError
from dml.exchange.topologies import peers_of
from dml.flower.settings import FORM, Settings
from dml.losses import contribution


def poison(settings: Settings, fed: Federation, index: int) -> None:
    """Change the private images of a site that rehearses an attack on training."""
    if lies(settings, index):
        from dml.hostile.poison import TRAINING

        TRAINING.get(settings.attack, lambda fed, liars: None)(fed, [index])


def lies(settings: Settings, index: int) -> bool:
    """Whether a site is one of the rehearsed liars: the last ones."""
    return index >= settings.experiment.clients - settings.liars


def said(settings: Settings, fed: Federation, message: Any, common: Mapping[str, Tensor] | None = None) -> Any:
    """A site's message, or the lie in its place; `common` are the weights with which the site began the round."""
    if not lies(settings, message.sender):
        return message
    from dml.hostile.liars import Liars
    from dml.hostile.poison import TRAINING

    if settings.attack in TRAINING:
        return message
    return Liars(fed, settings.attack, settings.liars, "own", dict(common or {})).lie(message)


def own_table(fed: Federation, message: Any, round_index: int) -> Tensor:
    """A client's contribution to the sum."""
    labels = messaging.public_labels(fed, round_index)
    return contribution(FORM, message.log_probabilities(labels, fed.experiment.clip))


def peers(settings: Settings, own: Tensor, index: int, down: Any) -> Tensor | None:
    """A client's peers' table, in the server's answer by the run's rule. Raises MessageError for another answer."""
    if settings.rule == "mean":
        expect(down, Aggregate)
        down.check(*own.shape)
        return peers_of(own, down)
    from dml.hostile.arms import ONE_SUM
    from dml.hostile.messages import Weighted

    if settings.rule in ONE_SUM:
        expect(down, Weighted)
        down.check(*own.shape, settings.experiment.clients)
        return down.without(own, index)
    expect(down, Aggregate)
    down.check(*own.shape)
    return down.total


def expect(message: Message, kind: type[Message]) -> None:
    if type(message) is not kind:
        raise MessageError(f"a message {type(message).__name__}, expected {kind.__name__}")
