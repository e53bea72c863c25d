"""Jobs on every core: each is done by a single-threaded worker process, and a bar counts the steps they finish."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for

from tqdm import tqdm

from dml.training import machine


@dataclass(frozen=True)
class Job:
    """`work(*args)`, a function of a module, which calls `advance` `steps` times before it returns."""

    work: Callable[..., None]
    args: tuple
    steps: int = 1


def carry_out(jobs: Sequence[Job], unit: str, title: str = "training") -> None:
    """Do the jobs, in their order, in as many processes as there are cores. What a job raises is raised here.

    After a failure or an interrupt no other job goes on. A worker whose parent dies, dies too.
    """
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    done, others = context.Value("i", 0), set(multiprocessing.active_children())
    with ProcessPoolExecutor(min(machine.cores(), len(jobs)), context, _start, (done,)) as pool:
        left = {pool.submit(job.work, *job.args) for job in jobs}
        try:
            with tqdm(total=sum(job.steps for job in jobs), desc=title, unit=unit, mininterval=2) as bar:
                while left:
                    finished, left = wait(left, timeout=0.5)
                    if done.value > bar.n:
                        bar.update(done.value - bar.n)
                    for job in finished:
                        job.result()
        except BaseException:  # a failure or an interrupt: do not let the others finish what they have begun
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


_done = None  # a worker's view of the shared count of finished steps


def advance() -> None:
    """Count one step of the job at hand; outside a worker, nothing."""
    if _done is not None:
        with _done.get_lock():
            _done.value += 1


def _start(done) -> None:
    global _done
    _done = done
    machine.settle()
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (wait_for([parent.sentinel]), os._exit(1)), daemon=True).start()
