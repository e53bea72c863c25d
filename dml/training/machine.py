"""The machine a run happens on: its device, its memory allocator, and the facts a manifest states about it."""

import ctypes
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version

import torch

from dml.config import ROOT

ON_A_GPU = 4  # processes: on an H200, a step of one takes two to three times as long to launch as to compute
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)
PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scipy", "scikit-learn", "matplotlib", "seaborn", "papermill")


def settle() -> None:
    """Make this process a worker: one thread, and freed memory kept for the next step.

    One thread a process and one process a core beat one process with many threads here, and results then do not
    depend on the number of cores. By default glibc hands every large activation back to the system, and each step
    pays for its pages again: a fifth of the step time. Elsewhere than on glibc, that is not changed.
    A GPU computes the reference: float32 as float32 (torch's default is TF32), the same way each time.
    """
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(device: torch.device) -> int:
    """How many workers keep a device busy: one a core; few share a GPU, as each takes some of its memory."""
    return min(cores(), ON_A_GPU) if device.type == "cuda" else cores()


def device(name: str = "auto") -> torch.device:
    """ "cpu", "cuda", or whichever is best. Raises ValueError for another name and for cuda where there is none."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {name!r}: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': torch sees no CUDA device here; choose cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def facts(device: torch.device) -> dict:
    """Versions, processor and code revision, for a manifest."""
    return {
        "device": str(device),
        "processor": processor(device),
        "cores": cores(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(PACKAGES),
        "commit": commit(),
    }


def check(precision: str, device: torch.device) -> None:
    """Raises ValueError for bf16 on a device whose hardware has none."""
    if precision == "bf16" and not has_bf16(device):
        raise ValueError("precision 'bf16': this processor has no bf16 arithmetic; use float32")


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is in the hardware; emulated, it would only be slow."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(file.read().split())
    except OSError:
        return False


@lru_cache  # a process asks for every key of the cache, and each answer takes milliseconds to look up
def versions(packages: tuple[str, ...]) -> Mapping[str, str]:
    """The installed versions of packages."""
    return {name: version(name) for name in packages}


@lru_cache
def processor(device: torch.device) -> str:
    """The model name of what computes: the GPU, or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def name() -> str:
    """What this machine is called, and the process: for a message about one of many."""
    return f"{platform.node()} (process {os.getpid()})"


def commit() -> str:
    """The git commit of the code, with "+changes" when the work tree differs from it; "unknown" without git."""
    try:
        ask = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
