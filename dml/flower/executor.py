"""Flower's SuperExec with one change: a task is a fork of this process, which has imported torch already.

Flower starts a new Python for every message that a client answers, and `import torch` alone would take longer than the
answer. Everything else, the isolation of a task in a process of its own included, is Flower's:

    python -m dml.flower.executor --runtime-api-address HOST:PORT --superexec-auth-secret-file FILE

Where several SuperNodes are on one machine, one such process serves them all, each by a fork with a log of its own:
`--beside HOST:PORT LOG` for every other one.
"""

import argparse
import os
import signal
import sys
import traceback
from contextlib import suppress
from importlib.metadata import entry_points

import torch
from flwr.supercore.cli.flower_superexec import flower_superexec
from flwr.supercore.constant import TASK_TYPE_TO_APPIO_API_ADDRESS_ARG, TASK_TYPE_TO_COMMAND, TaskType
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor import LaunchResult
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

from dml.config import Experiment
from dml.training.clients import adam

COMMANDS = {
    kind: entry_points(group="console_scripts")[TASK_TYPE_TO_COMMAND[kind]].load()
    for kind in (TaskType.CLIENT_APP, TaskType.SERVER_APP)
}


class ForkingExecutor(SubprocessExecutor):
    """Runs Flower's own command for a task in a fork instead of in a new interpreter."""

    def launch(self, spec) -> LaunchResult:
        arguments = [TASK_TYPE_TO_APPIO_API_ADDRESS_ARG[spec.task_type], spec.runtime_api_address]
        arguments += ["--token", spec.token, "--parent-pid", str(spec.parent_pid)]
        arguments += ["--insecure"] if spec.insecure else []
        arguments += ["--root-certificates", spec.root_certificates_path] if spec.root_certificates_path else []
        if os.fork() == 0:
            status = 0
            try:
                sys.argv = [TASK_TYPE_TO_COMMAND[spec.task_type], *arguments]
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                COMMANDS[spec.task_type]()
            except Exception:
                traceback.print_exc()
                status = 1
            finally:  # whatever happened, SystemExit included: never go on as a second executor
                with suppress(OSError):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(status)
        return LaunchResult.accepted()


def main() -> None:
    """Serve the tasks of one SuperLink or SuperNode, and of those beside it, until it ends."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--beside", nargs=2, action="append", default=[], metavar=("ADDRESS", "LOG"))
    parser.add_argument("--superexec-auth-secret-file", dest="secret")
    ours, theirs = parser.parse_known_args()

    import dml.flower.client
    import dml.flower.server  # noqa: F401 (both are imported to be inherited by every fork)

    adam([torch.zeros(1, requires_grad=True)], Experiment())  # the first optimiser imports as much as torch itself
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks, so leave no zombies
    first = os.getpid()
    for address, log in ours.beside:
        if os.fork() == 0:
            _write_to(log)
            theirs = ["--insecure", "--runtime-api-address", address, "--parent-pid", str(first)]
            break
    sys.argv = [sys.argv[0], *theirs, *(["--superexec-auth-secret-file", ours.secret] if ours.secret else [])]
    run_superexec.get_executor = lambda *arguments, **options: ForkingExecutor()
    flower_superexec()


def _write_to(log: str) -> None:
    """Let this process print into a file of its own."""
    with open(log, "wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)


if __name__ == "__main__":
    main()
