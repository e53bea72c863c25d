"""The stacked engine against the plain loop, its oracle."""

import pytest
import torch
from stacked import fit_all

from dml.arms import steps
from dml.arms.catalogue import ARMS
from dml.training.clients import fit_one


def run_with(engine, arm, federations):
    for turns in zip(*(ARMS[arm](fed) for fed in federations), strict=True):
        fits = [fit for turn in turns for fit in turn]
        owners = [fed for fed, turn in zip(federations, turns, strict=True) for _ in turn]
        for owner, history in zip(owners, engine(fits), strict=True):
            owner.history.extend(history)


@pytest.mark.parametrize("arm", ["dml", "dml-peer-first", "asynchronous", "fedavg+public", "pooled"])
def test_stack_equals_loop_for_clients_and_seeds(arm, federation):
    loop, stack = ([federation(seed) for seed in (0, 1)] for _ in range(2))
    run_with(lambda fits: [fit_one(fit) for fit in fits], arm, loop)
    run_with(fit_all, arm, stack)
    for one, other in zip(loop, stack, strict=True):
        for a, b in zip(one.history, other.history, strict=True):
            assert (a.round, a.phase, a.epoch, a.client) == (b.round, b.phase, b.epoch, b.client)
            assert a.loss == pytest.approx(b.loss, rel=2e-3, abs=2e-3)
        for a, b in zip([*one.clients, one.server], [*other.clients, other.server], strict=True):
            first, second = (torch.cat([each.flatten() for each in x.parameters().values()]) for x in (a, b))
            apart = torch.linalg.vector_norm(first - second) / torch.linalg.vector_norm(first)
            assert apart < 0.03  # two clients are 0.08 apart; rounding alone, 3e-7 at the start, has given up to 0.007


def test_folds_of_unequal_length_are_padded_without_weight(federation):
    loop, stack = federation(), federation()
    for fed, engine in ((loop, lambda fits: [fit_one(f) for f in fits]), (stack, fit_all)):
        fits = steps.local(fed, 1)
        short = [
            fit.__class__(fit.client, 1, "local", fit.images[: 7 - i], fit.labels[: 7 - i])
            for i, fit in enumerate(fits)
        ]
        fed.history = [row for rows in engine(short) for row in rows]
    for a, b in zip(loop.history, stack.history, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-5) and a.accuracy == pytest.approx(b.accuracy)
    for a, b in zip(loop.clients, stack.clients, strict=True):
        torch.testing.assert_close(
            a.parameters()["dense2.weight"], b.parameters()["dense2.weight"], rtol=1e-4, atol=1e-5
        )
