"""The processes of a deployment: each in a process group of its own, with a log; all of them end with the block."""

import contextlib
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
        with (self.logs / f"{name}.log").open("wb") as log, _undisturbed():
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
        raise DeploymentError(f"{name} did not succeed: {self.report(name)}")

    def check(self, *names: str) -> None:
        """Raises DeploymentError when one of these processes, by default of all, has ended with an error."""
        for name in names or self.running:
            if self.running[name].poll():
                raise DeploymentError(f"{name} has failed: {self.report(name)}")

    def report(self, name: str) -> str:
        """How a process ended, where its log is, and the last lines; of an empty log, the command instead."""
        process, file = self.running[name], self.logs / f"{name}.log"
        how = _end_of(process.poll())
        last = file.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-15:]
        if not last:
            return f"{how}, and {file} is empty; the command was {shlex.join(process.args)}"  # type: ignore[arg-type]  # a list
        return "\n".join([f"{how}; {file} ends with:", *last])

    def kill(self, *names: str) -> None:
        """End processes and all that they started: politely first, then for certain."""
        with _undisturbed():
            processes = [self.running.pop(name) for name in names]
            for process in processes:
                _signal(process, signal.SIGTERM)
            end = time.monotonic() + GRACE
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, end - time.monotonic()))
                _signal(process, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals that end this process wait for the end of the block, so that no process is started and not known, or
    known and not ended. (And Python drops what a signal raises in the midst of a fork.)
    """
    waiting: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda got, _: waiting.append(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])


def _end_of(code: int | None) -> str:
    if code is None:
        return "it still runs"
    if code < 0:
        return f"it was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"it ended with exit code {code}"


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
