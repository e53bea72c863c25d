"""Arms that exchange nothing, and the one that shares the images themselves: what the others are held against."""

from collections.abc import Iterator

from dml.arms import messaging, record, steps
from dml.arms.federation import Federation
from dml.training.clients import Fit


def local(fed: Federation, public: bool = False) -> Iterator[list[Fit]]:
    """Control: no exchange. With `public`, the same public steps as DML without peers: is it only more labels?"""
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public)
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        if public:
            yield steps.refine(fed, round_index)
        record.sample_accuracy(fed, round_index)
    record.report(fed)


def pooled(fed: Federation) -> Iterator[list[Fit]]:
    """The upper bound that shares the images themselves: one model, trained once on the whole training set."""
    messaging.hand_in(fed)
    yield steps.pool(fed)
    record.report(fed, [fed.server])
