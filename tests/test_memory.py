"""Fits that were done before are put back bit for bit, and only where everything that determines them is the same."""

import pytest
import torch

from dml.arms import steps
from dml.arms.catalogue import ARMS, run
from dml.training import memory
from dml.training.clients import fit_one
from dml.training.memory import fit_remembered


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(memory, "_outcomes", type(memory._outcomes)())


def state(client):
    """All that a fit changes: weights, moments and streams."""
    moments = [value for each in memory._moments(client) for value in each.values()]
    streams = [repr(client.streams[name].bit_generator.state) for name in memory.STREAMS]
    return [*client.parameters().values(), *moments], streams


@pytest.mark.parametrize("phase", [steps.pretrain, lambda fed: steps.local(fed, 1), lambda fed: steps.refine(fed, 1)])
def test_a_fit_that_is_put_back_is_the_fit(phase, federation):
    done = []
    for engine in (fit_one, fit_remembered, fit_remembered):
        fed = federation()
        fits = phase(fed)
        done.append(([engine(fit) for fit in fits], [state(fit.client) for fit in fits]))
    for histories, states in done[1:]:
        assert histories == done[0][0] and len(memory._outcomes) == len(histories)
        for (tensors, streams), (others, theirs) in zip(states, done[0][1], strict=True):
            assert streams == theirs and all(map(torch.equal, tensors, others)) and len(tensors) == len(others) > 9


def test_another_seed_form_or_state_is_another_fit(federation, monkeypatch):
    fit_remembered(steps.local(federation(), 1)[0])
    monkeypatch.setattr(memory, "_put_back", lambda *_: pytest.fail("put back"))
    fit_remembered(steps.local(federation(1), 1)[0])  # another seed
    fit_remembered(steps.local(federation(), 1)[1])  # another client
    fed = federation()
    with torch.no_grad():
        fed.clients[0].model.dense2.bias += 1e-3
    fit_remembered(steps.local(fed, 1)[0])  # other weights
    fit_remembered(steps.refine(federation(), 1)[0])  # another phase
    before = len(memory._outcomes)
    fit_remembered(steps.local(federation(), 2)[0])
    assert len(memory._outcomes) == before == 5  # later rounds are not kept


def test_the_oldest_go_when_the_room_is_full(federation, monkeypatch):
    for seed in range(3):
        fit_remembered(steps.local(federation(seed), 1)[0])
    one = next(iter(memory._outcomes.values())).nbytes
    monkeypatch.setattr(memory, "ROOM", 2 * one)
    fit_remembered(steps.local(federation(3), 1)[0])
    assert len(memory._outcomes) == 2


@pytest.mark.parametrize("arm", ["local", "fedavg+public", "asynchronous", "dml"])
def test_an_arm_is_the_same_whichever_arm_ran_before(arm, federation):
    alone, after = federation(), federation()
    run(arm, alone)
    memory._outcomes.clear()
    for other in ("self", "local+public"):
        run(other, federation())
    run(arm, after)
    assert after.rows == alone.rows and after.history == alone.history and arm in ARMS
