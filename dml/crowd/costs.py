"""What many clients cost: CPU seconds by phase and the most memory that a process of its own ever held.

The pictures are noise: what a step costs does not depend on what is on them, and none has to be drawn.
"""

import multiprocessing
import resource
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from dml.config import Experiment
from dml.crowd.arms import ARMS
from dml.crowd.federation import Crowd
from dml.data.images import Images, Split
from dml.training import machine
from dml.training.clients import fit_one

PHASES = ("local", "public", "between", "look")  # seconds of each; "between": messages, sums, clients made and moved


def noise(count: int, size: int) -> Images:
    """Images without meaning, of two classes; the first 64 also stand for the unseen ones."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (count, size, size, 3), np.uint8)).permute(0, 3, 1, 2)
    labels = torch.arange(count) % 2
    train, few = (Split(pixels[:n], labels[:n], ("",) * n, ((size, size),) * n) for n in (count, 64))
    return Images("noise", ("a", "b"), train, few, "", "random numbers")


def measure(arm: str, experiment: Experiment, fold: int, on_disk: bool = False) -> dict[str, float]:
    """One seed of an arm, in this process: seconds of `PHASES`, client-epochs, MB before the clients were made and at
    most, and the parameters of a model. With `on_disk` clients that do not train are in a memory-mapped file.
    """
    machine.settle()
    images = noise(fold * (1 + experiment.rounds + experiment.clients), experiment.size)
    spent: dict[str, float] = defaultdict(float)
    with TemporaryDirectory() as folder:
        crowd = Crowd(experiment, images, 0, fold, shelf=Path(folder) / "clients" if on_disk else None)
        before, epochs = resident(), 0
        work, began = ARMS[arm]()(crowd), time.process_time()
        for fits in work:
            spent["between"] += time.process_time() - began
            for fit in fits:
                began = time.process_time()
                epochs += len(fit_one(fit))
                spent[fit.phase] += time.process_time() - began
            began = time.process_time()
        spent["between"] += time.process_time() - began - crowd.look_s
    spent["look"] = crowd.look_s
    size = sum(parameter.numel() for parameter in crowd.server.model.parameters())
    told = {f"{phase}_s": round(spent[phase], 3) for phase in PHASES}
    return {**told, "client_epochs": epochs, "before_mb": before, "peak_mb": peak(), "parameters": size}


def alone(arm: str, experiment: Experiment, fold: int, on_disk: bool = False) -> dict[str, float]:
    """`measure` in a new process, so that its memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, arm, experiment, fold, on_disk).result()


def resident() -> float:
    """Memory that this process holds, MB."""
    return _status("VmRSS") or peak()


def peak() -> float:
    """The most that it ever held, MB. Linux counts from the start of the program; elsewhere what came before counts."""
    unit = 1024**2 if sys.platform == "darwin" else 1024  # of bytes there, of kilobytes elsewhere
    return _status("VmHWM") or round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _status(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024, 1)
    except (OSError, StopIteration):
        return 0.0
