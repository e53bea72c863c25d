"""The jobs of a run on the workers of a Dask scheduler; a worker that would give other bytes is refused by name."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from dml.experiment import cache
from dml.fingerprint import PACKAGE
from dml.training import machine

TIMEOUT = 20.0  # seconds to reach the scheduler


class ClusterError(RuntimeError):
    """A scheduler that cannot be reached, or a worker that would compute something else; the text names it."""


@contextmanager
def connected(address: str) -> Iterator[Executor]:
    """An executor over the workers of the scheduler at `address` (tcp://HOST:PORT). What a lost worker was doing is
    done again by another.

    Raises ClusterError when it cannot be reached or the optional extra `cluster` is missing.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ClusterError("--scheduler needs Dask: pip install -e .[cluster]") from error
    try:
        client = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"no Dask scheduler answers at {address} within {TIMEOUT:.0f} s ({error})") from error
    with client:
        yield Guarded(client.get_executor(pure=False))


class Guarded(Executor):
    """Hands tasks to another executor, whose workers first compare themselves with this machine."""

    def __init__(self, inner: Executor):
        self.inner, self.expected = inner, surroundings()

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """As `Executor.submit`; the result is ClusterError where a worker differs."""
        return self.inner.submit(checked, self.expected, function, *args, **kwargs)


def checked(expected: dict, function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function on a worker that has what this machine has. Raises ClusterError naming the worker and what
    differs.
    """
    settled()
    here = surroundings()
    differs = [f"{name} {here[name]!r}, expected {value!r}" for name, value in expected.items() if here[name] != value]
    if differs:
        raise ClusterError(f"worker {machine.name()} would not give the same bytes: {'; '.join(differs)}")
    return function(*args, **kwargs)


@lru_cache
def settled() -> None:
    """One thread, as every worker of a local run has; once a process."""
    machine.settle()


def surroundings() -> dict:
    """What has to be equal on all machines (see `cache.surroundings`): all code of the package, as jobs are of any
    annex; the images are compared by each job.
    """
    modules = (".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in PACKAGE.rglob("*.py"))
    return cache.surroundings(torch.device("cpu"), tuple(sorted(modules)))
