"""The processes of a deployment: each in a process group of its own, with a log; all of them end with the block."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

GRACE = 2.0  # seconds between asking a process to end and ending it
PR_SET_PDEATHSIG = 1  # of prctl(2)


class DeploymentError(RuntimeError):
    """A deployment that cannot go on; the text says which part, and where its log is."""


class Processes:
    """`with Processes(logs, environment) as processes: processes.start("name", command, ...)`."""

    def __init__(self, logs: Path, environment: dict[str, str]):
        self.logs, self.environment = logs, environment
        self.running: dict[str, subprocess.Popen] = {}
        self._die_with_me = _die_with_parent()

    def __enter__(self) -> "Processes":
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_) -> None:
        self.kill(*self.running)

    def start(self, name: str, *command: object) -> subprocess.Popen:
        """Start a command that writes to `name`.log."""
        with (self.logs / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
                preexec_fn=self._die_with_me,
            )
        return self.running[name]

    def finish(self, name: str, timeout: float) -> None:
        """Wait for a command to succeed. Raises DeploymentError when it does not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.running[name].wait(timeout) == 0:
                return
        raise DeploymentError(f"{name} did not succeed; {self.log_of(name)}")

    def check(self) -> None:
        """Raises DeploymentError when a process has ended with an error."""
        for name, process in self.running.items():
            if process.poll():
                raise DeploymentError(f"{name} ended with code {process.returncode}; {self.log_of(name)}")

    def log_of(self, name: str) -> str:
        """Where a log is, and its last lines."""
        file = self.logs / f"{name}.log"
        last = file.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        return "\n".join([f"{file} ends with:", *last])

    def kill(self, *names: str) -> None:
        """End processes and all that they started: politely first, then for certain."""
        processes = [self.running.pop(name) for name in names]
        for process in processes:
            _signal(process, signal.SIGTERM)
        end = time.monotonic() + GRACE
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _die_with_parent() -> Callable[[], None] | None:
    """What makes Linux end a child when its parent is killed, so that not even `kill -9` leaves something behind."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


def wait_for(port: int, processes: Processes, timeout: float = 60) -> None:
    """Until somebody listens there. Raises DeploymentError when nobody does in time, or a process has failed."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        processes.check()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise DeploymentError(f"nobody listens on port {port} after {timeout:g} s; see the logs in {processes.logs}")
