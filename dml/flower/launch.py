"""A whole deployment on this machine: a SuperLink, a SuperNode for every client, TLS and authenticated nodes.

Everything that Flower writes, and the keys, are in a temporary folder that is deleted; the logs stay with the run.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from dml.files import replacing
from dml.flower import certificates, toml
from dml.flower.processes import DeploymentError, Processes, free_ports, wait_for
from dml.flower.relay import Relay, Relays
from dml.flower.settings import Settings
from dml.pipeline import ahead

APP = Path(__file__).parent / "app"
HOST = "127.0.0.1"
LOOK = 0.3  # seconds between two looks at the progress
BEGIN = 120  # seconds for the slowest of the commands that set up
REGISTER = """
import sys
from flwr.cli.app import app
for key in sys.argv[1:]:
    if code := app(["supernode", "register", key, "here"], standalone_mode=False):
        sys.exit(code)
"""  # all nodes in one process: to import Flower takes ten times as long as to register one


class Deployment:
    """A run that has been submitted. `processes` has superlink, executor, supernode-0, supernode-1, ..."""

    def __init__(self, settings: Settings, processes: Processes, relays: list[Relay]):
        self.settings, self.processes, self.relays, self.out = settings, processes, relays, Path(settings.out)

    def wait(self, progress: Callable[["Deployment", int], None] = lambda deployment, round_index: None) -> None:
        """Until the run has ended; `progress` is called after every round. Completes wire.csv with the bytes of TLS.

        Raises DeploymentError when the run does not come to its end.
        """
        told = 0
        while self.processes.running["run"].poll() is None:
            time.sleep(LOOK)
            self.processes.check("superlink", "executor")  # without them it would wait for ever
            rounds = len(self._times()) - 1  # the set-up is round 0
            while told < min(rounds, self.settings.experiment.rounds):
                told += 1
                progress(self, told)
        if len(self._times()) != self.settings.experiment.rounds + 3:  # set-up, rounds, report, end
            self.processes.check("superlink", "executor", "run")
            raise DeploymentError(f"the run has not come to its end: {self.processes.report('executor')}")
        wire = self.wire()
        with replacing(self.out / "wire.csv") as part:
            wire.to_csv(part, index=False)

    def wire(self) -> pd.DataFrame:
        """wire.csv with the column `tls`: all bytes on the socket of each node, from one round's begin to the next's.

        They include what Flower says besides: polling, heartbeats and, in round 0, how a node connects.
        """
        begins = self._times()[: self.settings.experiment.rounds + 2]  # the last is the report's
        spans = zip([0.0, *begins[1:]], [*begins[1:], float("inf")], strict=True)
        tls = {
            (round_index, client, direction): count
            for round_index, (begin, end) in enumerate(spans)
            for client, relay in enumerate(self.relays)
            for direction, count in zip(("up", "down"), relay.between(begin, end), strict=True)
        }
        table = pd.read_csv(self.out / "wire.csv").set_index(["round", "client", "direction"])
        table = table.reindex(pd.MultiIndex.from_tuples(tls, names=table.index.names), fill_value=0)
        return table.assign(tls=list(tls.values())).reset_index()

    def _times(self) -> list[float]:
        file = self.out / "times.csv"
        return pd.read_csv(file)["began"].tolist() if file.exists() else []


@contextmanager
def deployed(config: dict, clients: int) -> Iterator[Deployment]:
    """Start everything and submit the run of a run config (see settings.py); all processes end with the block."""
    settings = Settings.read(config)
    logs = Path(settings.out) / "logs"
    with ExitStack() as stack:
        work = Path(stack.enter_context(TemporaryDirectory(prefix="dml-flower-")))
        keys = certificates.make(work / "keys", clients, HOST)
        port, *ports = free_ports(1 + 2 * clients)
        relayed, runtime = ports[:clients], ports[clients:]
        connection = {
            "superlink.default": "here",
            "superlink.here.address": f"{HOST}:{port}",
            "superlink.here.root-certificates": str(keys.authority),
        }
        home = toml.write(work / "home" / "config.toml", connection).parent
        processes = stack.enter_context(Processes(logs, environment(home)))
        flwr, secret = _flower("flwr"), ("--superexec-auth-secret-file", keys.secret)
        executor = (sys.executable, "-m", "dml.flower.executor")
        tls = ("--ssl-certfile", keys.certificate, "--ssl-keyfile", keys.key, "--ssl-ca-certfile", keys.authority)
        link = ("--host", HOST, "--port", port, "--enable-supernode-auth", "--disable-runtime-dependency-installation")
        apart = ("--isolation", "process", *secret)
        processes.start("superlink", *_flower("flower-superlink"), *tls, *link, *apart)
        address = ("--runtime-api-address", f"{HOST}:{port}", "--root-certificates", keys.authority)
        beside = [("--beside", f"{HOST}:{runtime[index]}", logs / f"executor-{index}.log") for index in range(clients)]
        processes.start("executor", *executor, *secret, *address, *chain(*beside))
        wait_for(port, processes, BEGIN)
        processes.start("register", sys.executable, "-c", REGISTER, *(f"{node}.pub" for node in keys.nodes))
        processes.finish("register", BEGIN)
        relays = stack.enter_context(Relays(relayed, port, HOST))
        for index, node in enumerate(keys.nodes):
            folder = work / f"site-{index}"
            site = toml.write(folder.with_suffix(".toml"), {"partition-id": index, "folder": str(folder)})
            own = ("--host", HOST, "--port", runtime[index], "--node-config", site, *apart)
            trust = ("--root-certificates", keys.authority, "--auth-supernode-private-key", node)
            through = ("--superlink", f"{HOST}:{relayed[index]}")
            processes.start(f"supernode-{index}", *_flower("flower-supernode"), *through, *trust, *own)
        run = toml.write(work / "run.toml", config)
        processes.start("run", *flwr, "run", APP, "here", "--stream", "--run-config", run)
        yield Deployment(settings, processes, relays)


def environment(home: Path) -> dict[str, str]:
    """The environment of the processes: Flower's home is that folder, and it asks and tells nobody outside.

    Without proxies, as all that is said stays on this machine. To exempt its address is not enough: each library that
    Flower speaks with reads other variables, and one fails at the mere name of a proxy that it does not know.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {
        **inherited,
        "no_proxy": "*",  # nor those of macOS's settings, which count where no variable is set
        "PYTHONPATH": ahead.search_path(),
        "PYTHONIOENCODING": "utf-8:backslashreplace",  # of the logs
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
    }


def _flower(command: str) -> tuple[str, ...]:
    """How to run one of Flower's commands: not by its script, whose first line cannot name every path to a Python."""
    (entry,) = entry_points(group="console_scripts", name=command)
    return sys.executable, "-c", f"import sys; from {entry.module} import {entry.attr}; sys.exit({entry.attr}())"
