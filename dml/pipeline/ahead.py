"""Before a command imports anything that takes seconds: what its processes can already do meanwhile."""

import multiprocessing
import os
import signal
import sys

from dml.config import ROOT


def prepare(module: str) -> None:
    """Start the process that workers are copies of from now on: it imports `module`, for seconds, while this one goes
    on, and a worker then begins at once. Workers have the environment variables of now, so this is for a program, not
    for a library. Outside Linux a copied process is not safe, and nothing is done.
    """
    if sys.platform != "linux":
        return
    from multiprocessing import forkserver  # not everywhere

    hand_over_package()
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload([module])
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it inherits that: Ctrl-C does not stop it at an import
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, heard)


def hand_over_package() -> None:
    """Let the processes that this one starts find this checkout's package first, whatever else is installed."""
    os.environ["PYTHONPATH"] = search_path()


def search_path() -> str:
    """PYTHONPATH with this checkout first, then the folder we are in: a user's own model may be a module there."""
    paths = [str(ROOT), os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.pathsep.join(dict.fromkeys(paths))
