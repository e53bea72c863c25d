"""Tasks on every core: each is done by a single-threaded worker process, under one progress bar.

Where they are done is any `concurrent.futures.Executor`: processes of this machine by default, a cluster's on request.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from typing import Any

from dml.progress import Progress
from dml.training import machine

LOOK = 0.5  # seconds between two looks at the progress


@dataclass(frozen=True)
class Task:
    """`work(*args)`, a function of a module, which calls `advance` `steps` times before it returns; `cost` is about how
    many CPU seconds it takes.
    """

    work: Callable[..., Any]
    args: tuple
    steps: int = 1
    cost: float = 1.0


Keep = Callable[[Any, Any], str | None]  # what is done here with a task and its result; it may say what that is


def carry_out(
    tasks: Sequence[Task],
    keep: Keep = lambda task, result: None,
    title: str = "training",
    unit: str = "job",
    executor: Executor | None = None,
    most: int | None = None,
) -> None:
    """Do the tasks, in as many processes as there are cores (or `most`), or by an executor: the first first, so that
    soon something is there to see, then the longest.

    What a task raises is raised here; after a failure or an interrupt no other task goes on.
    """
    if not tasks:
        return
    count = min(len(tasks), most or machine.cores())
    order = [tasks[0], *sorted(tasks[1:], key=lambda task: -task.cost)]  # stable: equal ones stay in their order
    with (
        Progress(title, sum(task.cost for task in order)) as progress,
        _pool(executor, count) as (pool, shared),
    ):
        with _deaf():
            left = {pool.submit(_run, task): task for task in order}
        done, said = 0.0, ""
        while left:
            finished, _ = wait(left, timeout=LOOK, return_when=FIRST_COMPLETED)
            before = said
            for future in finished:
                task = left.pop(future)
                said = keep(task, _result(future)) or said
                done += task.cost
            # The count without its lock, which a worker that was killed may hold for ever.
            note = f"{len(order) - len(left)} of {len(order)} {unit}s" + (said if left else "")
            progress.to(max(done, shared.get_obj().value if shared else 0), note, at_once=bool(said) and not before)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C is not heard while processes start: they inherit that, and none tells at length where it was stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)


def _result(future: Future) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process ended before its task: killed, out of memory, or started from a script that lacks "
            '`if __name__ == "__main__":`'
        ) from error


@contextmanager
def _pool(executor: Executor | None, count: int) -> Iterator[tuple[Executor, Any]]:
    """The executor, or processes of this machine with the count that `advance` raises. A worker whose parent dies,
    dies too.
    """
    if executor is not None:
        yield executor, None
        return
    chosen = multiprocessing.get_start_method(allow_none=True)  # by a program that has begun one (pipeline.ahead)
    context = multiprocessing.get_context("forkserver" if chosen == "forkserver" else "spawn")
    shared, others = context.Value("d", 0.0), set(multiprocessing.active_children())
    with ProcessPoolExecutor(count, context, _start, (shared,)) as pool:
        try:
            yield pool, shared
        except BaseException:  # a failure or an interrupt: do not let the others finish what they have begun
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


_shared: Any = None  # a worker's view of the work that all of them have done
_share = 0.0  # of the task at hand, what one step is worth


def advance() -> None:
    """Count one step of the task at hand; outside a worker, nothing."""
    if _shared is not None:
        with _shared.get_lock():
            _shared.value += _share


def _run(task: Task) -> Any:
    global _share
    _share = task.cost / task.steps
    return task.work(*task.args)


def _start(shared: Any) -> None:
    global _shared
    _shared = shared
    machine.settle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends its workers, in one line
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process is no worker"
    threading.Thread(target=lambda: (wait_for([parent.sentinel]), os._exit(1)), daemon=True).start()
