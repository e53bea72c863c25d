"""The Flower app: the same numbers as in one process, and rounds that survive killed, late and lying clients."""

import os
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from PIL import Image

pytest.importorskip("flwr", reason="Flower is not installed (the extra `flower`)")

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.common.config import parse_config_args
from flwr.supercore.task_identity import TaskIdentity

from dml.arms import messaging
from dml.arms.catalogue import run as in_process
from dml.arms.federation import Federation
from dml.config import ROOT
from dml.data.images import images_of
from dml.exchange.messages import decode
from dml.exchange.topologies import add_up
from dml.experiment import results
from dml.files import DataError
from dml.flower import __main__ as command_line
from dml.flower import client, launch, server, toml, wire
from dml.flower import roll_call as roll
from dml.flower.launch import Deployment
from dml.flower.processes import DeploymentError, Processes, free_ports
from dml.flower.relay import Relays
from dml.flower.settings import FORM, Settings
from dml.losses import contribution
from dml.pipeline import output

HONEST = {"rule": "mean", "expected": 1, "liars": 0, "attack": ""}


class Grid:
    """A grid in memory: the ClientApp's own functions answer, each node with a folder of its own.

    `spoil(client, message, reply)` says what arrives instead of a reply; None is silence.
    """

    def __init__(self, folder, config, spoil=lambda client, message, reply: reply, **data):
        self.spoil, self.replies, self.sent, self.received = spoil, {}, [], []
        self.contexts = {
            10 + index: Context(
                run_id=1,
                node_id=10 + index,
                node_config={
                    "partition-id": index,
                    "folder": str(folder / f"site-{index}"),
                    **({"data": str(data[f"site_{index}"])} if data else {}),
                },
                state=RecordDict(),
                run_config=config,
            )
            for index in reversed(range(config["clients"]))
        }

    def get_node_ids(self):
        return list(self.contexts)

    def push_messages(self, messages):
        for message in messages:
            node, identity = message.metadata.dst_node_id, f"message {len(self.sent)}"
            message.metadata.__dict__["_message_id"] = identity
            self.sent.append(message)
            try:
                reply = client.app(message, self.contexts[node])
            except Exception as error:  # what Flower does with it
                reply = Message(Error(code=1, reason=repr(error)), reply_to=message)
            reply = self.spoil(node - 10, message, reply)
            if reply is not None:
                self.replies[identity] = reply
            yield identity

    def pull_messages(self, identities):
        arrived = [self.replies.pop(each) for each in identities if each in self.replies]
        self.received.extend(arrived)
        return arrived

    def down(self, kind, round):
        """Our messages to each client, in messages of a kind and round."""
        return {
            message.metadata.dst_node_id - 10: [decode(each) for each in wire.encoded_in(message)]
            for message in self.sent
            if message.metadata.message_type == kind and message.metadata.group_id == str(round)
        }


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """This process believes to be a task of Flower; and looks for answers often."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(roll, "PAUSE", 0.02)


@pytest.fixture
def config(sandbox):
    """A run config for three clients and two rounds."""
    return {
        **{"arm": "dml", "profile": "smoke", "data": "faces", "own": "", "seed": 0, "clients": 3, "train_images": 0},
        **{"deadline": 0.2, "quorum": 0, "secure": False, "clip": 0.02, **HONEST, "out": str(sandbox.folder / "out")},
    }


def serve(grid, config):
    return server.serve(grid, Settings.read(config))


def alone(arm, config):
    """The same run in this process."""
    experiment = Settings.read(config).experiment
    federation = Federation(experiment, images_of("faces", experiment), config["seed"])
    in_process(arm, federation)
    return federation


def values(rows):
    return sorted((row.round, row.client, row.metric, row.value) for row in rows)


def when(kind, round, client):
    """Whether a message is the one of that kind, round and client."""
    return lambda index, message: (
        index == client and message.metadata.message_type == kind and int(message.metadata.group_id) >= round
    )


def names(run):
    return [(round, client, name) for round, client, name, _ in run.roll_call.events]


# -- the same numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["dml", "fedavg", "asynchronous"])
def test_the_deployment_computes_what_one_process_computes(arm, config, tmp_path):
    config["arm"] = arm
    ran, one = serve(Grid(tmp_path, config), config), alone(arm, config)
    assert values(ran.fed.rows) == values(one.rows)
    assert sorted(ran.fed.post.ledger) == sorted(one.post.ledger)
    assert ran.roll_call.events == []


def test_the_tables_say_what_was_sent(config, tmp_path):
    run = serve(Grid(tmp_path, config), config)
    tables = {name: pd.read_csv(run.out / f"{name}.csv") for name in ("results", "ledger", "wire")}
    assert list(tables["results"]) == results.RESULTS and len(tables["results"]) == len(run.fed.rows)
    ours = tables["ledger"].groupby(["direction", "round"])["encoded"].sum()
    theirs = tables["wire"].groupby(["direction", "round"])["encoded"].sum()
    assert theirs[theirs > 0].to_dict() == ours.to_dict()
    assert (tables["wire"]["framing"] > 100).all()


def test_a_party_holds_no_image_of_another(config, tmp_path):
    grid = Grid(tmp_path, config)
    run = serve(grid, config)
    experiment, images = run.experiment, images_of("faces", run.experiment)
    everything = {bytes(image.numpy()) for image in images.train.images}
    held = {}
    for index, node in ((each - 10, each) for each in grid.contexts):
        message = grid.sent[-1]
        message.metadata.dst_node_id = node
        own = client.Visit(message, grid.contexts[node]).fed
        held[index] = {bytes(image.numpy()) for image in own.images.train.images}
    public = set.intersection(*held.values())
    assert len(public) == sum(map(len, run.fed.folds.public))
    assert not (held[0] & held[1]) - public and not (held[1] & held[2]) - public
    servers = {bytes(image.numpy()) for image in run.fed.images.train.images}
    assert servers < everything and len(servers) == len(public) + len(run.fed.folds.pretrain)
    assert len(run.fed.clients) == 0 and experiment.clients == 3


# -- clients that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["dml", "asynchronous"])
def test_a_dead_client_costs_one_deadline_and_nothing_else(arm, config, tmp_path):
    config["arm"] = arm
    kind = "query.predict" if arm == "dml" else "train.weights"
    dies = when(kind, 2, 1)
    began = time.monotonic()
    grid = Grid(tmp_path, config, lambda index, message, reply: None if dies(index, message) else reply)
    run = serve(grid, config)
    assert names(run) == [(2, 1, "silent")]
    assert len([each for each in grid.sent if each.metadata.dst_node_id == 11]) == 4  # begin, two of round 1, one of 2
    assert time.monotonic() - began < 20
    done = pd.read_csv(run.out / "results.csv").query("metric == 'unseen accuracy'")
    assert sorted(done["client"]) == [0, 2]
    if arm == "dml":
        assert [down.clients for (down,) in grid.down("train.refine", 2).values()] == [2, 2]


LIES = {
    "noise": lambda message: wire.content([b"noise"]),
    "nothing": lambda message: RecordDict(),
    "another form": lambda message: RecordDict({"message": ConfigRecord({"bytes": "text"})}),
    "two messages": lambda message: wire.content(wire.encoded_in(message) * 2),
    "another's name": lambda message: wire.content([replace(ours(message), sender=0).encode()]),
    "an old message": lambda message: wire.content([replace(ours(message), round=1).encode()]),
    "not a number": lambda message: wire.content(
        [replace(ours(message), losses=ours(message).losses * torch.nan).encode()]
    ),
    "too short": lambda message: wire.content([replace(ours(message), losses=ours(message).losses[1:]).encode()]),
    "false facts": lambda message: wire.content(wire.encoded_in(message), {"rows": [["x"]]}),
}


def ours(message):
    return decode(wire.encoded_in(message)[0])


def changed(message, how):
    return wire.content([replace(ours(message), losses=how(ours(message).losses)).encode()])


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_and_the_round_goes_on_without_it(lie, config, tmp_path):
    lies = when("query.predict", 2, 1)

    def spoil(index, message, reply):
        return Message(LIES[lie](reply), reply_to=message) if lies(index, message) else reply

    grid = Grid(tmp_path, config, spoil)
    run = serve(grid, config)
    assert names(run) == [(2, 1, "refused")]
    assert [(row.round, row.client) for row in run.fed.rows if row.metric == "refused"] == [(2, 1)]
    down = grid.down("train.refine", 2)
    assert down[1] == [] and [each.clients for index in (0, 2) for each in down[index]] == [2, 2]


def test_a_report_that_cannot_be_read_stops_nothing(config, tmp_path):
    last = when("query.report", 3, 1)

    def spoil(index, message, reply):
        return Message(wire.content([], {"logits": [["x"]]}), reply_to=message) if last(index, message) else reply

    run = serve(Grid(tmp_path, config, spoil), config)
    rows = pd.read_csv(run.out / "results.csv").query("metric == 'unseen disagreement'")
    assert sorted(rows["client"]) == [0, 2]


def test_a_client_that_fails_says_why(config, tmp_path):
    broken = when("train.refine", 1, 2)

    def spoil(index, message, reply):
        return Message(Error(code=1, reason="out of memory"), reply_to=message) if broken(index, message) else reply

    run = serve(Grid(tmp_path, config, spoil), config)
    assert names(run) == [(1, 2, "failed"), (2, 2, "failed")]
    assert "out of memory" in run.roll_call.events[0][3]


def test_a_late_answer_is_not_used_and_its_client_comes_back(config, tmp_path):
    late, held = when("query.predict", 1, 1), []
    grid = Grid(tmp_path, config)

    def spoil(index, message, reply):
        if late(index, message) and message.metadata.group_id == "1":
            held.append(reply)
            return None
        if held and index == 0 and message.metadata.message_type == "train.refine":
            first = held.pop()
            grid.replies[first.metadata.reply_to_message_id] = first
        return reply

    grid.spoil = spoil
    run = serve(grid, config)
    assert names(run) == [(1, 1, "silent"), (1, 1, "late")]
    assert set(grid.down("train.refine", 1)) == {0, 2}  # it was still at work
    assert [each.clients for (each,) in grid.down("train.refine", 2).values()] == [3, 3, 3]


def test_below_the_quorum_there_is_no_aggregate(config, tmp_path):
    config["quorum"] = 3
    silent = when("query.predict", 2, 0)
    grid = Grid(tmp_path, config, lambda index, message, reply: None if silent(index, message) else reply)
    run = serve(grid, config)
    assert names(run) == [(2, 0, "silent"), (2, -1, "below quorum")]
    assert grid.down("train.refine", 2) == {1: [], 2: []}


def test_too_few_clients_begin_no_run(config, tmp_path):
    grid = Grid(tmp_path, config, lambda index, message, reply: reply if index == 0 else None)
    with pytest.raises(RuntimeError, match="1 clients have begun; the quorum is 2"):
        serve(grid, config)


# -- the secure sum ---------------------------------------------------------------------------------------------------


def aggregate(grid, round):
    return next(each for downs in grid.down("train.refine", round).values() for each in downs)


def tables_of(grid, run, clients):
    """The tables that a plain run would add up in round 1, from the plain messages of those clients."""
    labels = messaging.public_labels(run.fed, 1)
    plain = [ours(each) for each in grid.received if each.metadata.message_type == "query.predict"]
    chosen = sorted(
        (each for each in plain if each.round == 1 and each.sender in clients), key=lambda each: each.sender
    )
    return [contribution(FORM, each.log_probabilities(labels)) for each in chosen], add_up(FORM, chosen, labels)[1]


@pytest.mark.parametrize("dropped", [None, "query.share", "query.mask", "query.unmask"])
def test_the_secure_sum_is_the_plain_sum_of_who_is_in_it(dropped, config, tmp_path):
    plain = Grid(tmp_path / "plain", config)
    run = serve(plain, config)
    gone, config = when(dropped, 1, 1), config | {"secure": True}
    masked = Grid(tmp_path / "masked", config, lambda i, message, reply: None if gone(i, message) else reply)
    hidden = serve(masked, config)
    assert names(hidden) == ([(1, 1, "silent")] if dropped else [])
    inside = [0, 2] if dropped in ("query.share", "query.mask") else [0, 1, 2]
    _, expected = tables_of(plain, run, inside)
    found = aggregate(masked, 1)
    assert found.clients == len(inside)
    assert (found.total - expected.total).abs().max() < 5e-6 + 1e-5  # half a step a client, and float32


def test_the_server_receives_no_clients_table(config, tmp_path):
    plain = Grid(tmp_path / "plain", config)
    tables, _ = tables_of(plain, serve(plain, config), [0, 1, 2])
    losses = [ours(each).losses for each in plain.received if each.metadata.message_type == "query.predict"][:3]
    masked = Grid(tmp_path / "masked", config | {"secure": True})
    serve(masked, config | {"secure": True})
    asked = [each for each in masked.received if each.metadata.group_id in ("0", "1", "2")]
    kinds = {type(decode(data)).__name__ for each in asked for data in wire.encoded_in(each)}
    assert kinds == {"Keys", "Shares", "Masked", "Reveal"}
    seen = []
    for reply in asked:
        assert wire.about_in(reply).get("rows", []) == []  # no measurement of a single client either
        for data in wire.encoded_in(reply):
            assert not any(each.numpy().tobytes() in data for each in (*tables, *losses))
            if type(message := decode(data)).__name__ == "Masked":
                steps = message.table.double().flatten()
                seen.append(steps)
                for table in tables:  # no trace of any: of a bare one it is 1, by chance above it once in 10^7
                    assert torch.corrcoef(torch.stack((steps, table.double().flatten())))[0, 1].abs() < 0.98
    seen = torch.cat(seen)
    assert len(seen) > 50 and seen.abs().median() > 2**28  # of 2^32 values, all alike


# -- images of one's own ----------------------------------------------------------------------------------------------


def folder(place, count, classes=("mask", "no mask")):
    for part in ("train", "unseen"):
        for shade, name in enumerate(classes):
            (place / part / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (8, 8), (100 * shade + index, index, 50)).save(place / part / name / f"{index}.png")
    return place


def test_every_site_can_have_its_own_images(config, tmp_path):
    places = {f"site_{index}": folder(tmp_path / f"images-{index}", 8 + index) for index in range(3)}
    config["own"] = str(folder(tmp_path / "public", 9))
    run = serve(Grid(tmp_path, config, **places), config)
    rows = pd.read_csv(run.out / "results.csv")
    assert run.roll_call.events == []
    assert sorted(rows.query("metric == 'unseen accuracy'")["client"]) == [0, 1, 2]
    assert "unseen disagreement" not in set(rows["metric"])  # the sites' unseen sets are not the same


def test_a_site_with_other_classes_does_not_begin(config, tmp_path):
    places = {f"site_{index}": folder(tmp_path / f"images-{index}", 8) for index in range(2)}
    places["site_2"] = folder(tmp_path / "images-2", 8, classes=("cat", "dog"))
    config["own"] = str(folder(tmp_path / "public", 9))
    run = serve(Grid(tmp_path, config, **places), config)
    assert names(run) == [(0, -1, "failed"), (0, 2, "absent")]
    assert "the classes here are cat, dog" in run.roll_call.events[0][3]


def test_a_site_needs_enough_images(config, tmp_path):
    config["own"] = str(folder(tmp_path / "public", 2))
    with pytest.raises(DataError, match="3 stratified folds"):
        serve(Grid(tmp_path, config), config)


def test_more_clients_can_keep_the_size_of_their_folds(config, small):
    """The images that are dealt, and with them the bytes of a message, are the profile's or as many as one says."""
    usual, chosen = (Settings.read(config | {"clients": 8, "train_images": count}).experiment for count in (0, 510))
    assert (usual.train_images, chosen.train_images) == (small.train_images, 510)
    assert chosen.train_images // chosen.folds > usual.train_images // usual.folds


@pytest.mark.parametrize(
    "wrong",
    [
        *({"arm": "self"}, {"arm": "fedavg", "secure": True}, {"quorum": 4}, {"out": ""}),
        *({"secure": True, "clip": clip} for clip in (1e-8, 0, 0.5)),
        *({"deadline": deadline} for deadline in (0, float("inf"), float("nan"))),
    ],
)
def test_terms_that_cannot_be_are_refused(wrong, config):
    with pytest.raises(ValueError):
        Settings.read(config | wrong)


# -- processes and wires ----------------------------------------------------------------------------------------------


def living(*groups):
    """The processes of process groups, but for those that only wait to be buried. Who was killed and not yet given a
    core to die on is waited for: up to five seconds, less than any of them would live.
    """
    for _ in range(50):
        listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
        found = [line.split(None, 2) for line in listed.splitlines()]
        if not (left := [each for each in found if int(each[0]) in groups and not each[1].startswith("Z")]):
            break
        time.sleep(0.1)
    return left


def test_processes_end_with_their_block_and_their_children_too(tmp_path):
    with Processes(tmp_path, dict(os.environ)) as processes:
        started = processes.start("deaf", "sh", "-c", "trap '' TERM; sleep 60 & echo started; wait; sleep 60")
        while "started" not in (tmp_path / "deaf.log").read_text():
            time.sleep(0.02)
    assert living(started.pid) == []


def test_a_process_that_fails_is_named_with_its_last_words(tmp_path):
    with Processes(tmp_path, dict(os.environ)) as processes:
        processes.start("bad", "sh", "-c", "echo no such luck; exit 3")
        with pytest.raises(DeploymentError, match=r"(?s)bad did not succeed.*no such luck"):
            processes.finish("bad", 10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_process_is_started_or_ended_comes_after_it(number, tmp_path, monkeypatch):
    """Nothing is left behind, and the signal is not lost."""

    class Stop(BaseException):
        pass

    def stop(*_):
        raise Stop

    before = signal.signal(number, stop)
    try:
        with Processes(tmp_path, dict(os.environ)) as processes:
            monkeypatch.setattr(processes, "_die_with_me", lambda: os.kill(os.getppid(), number))
            with pytest.raises(Stop):
                processes.start("one", "sleep", "60")
            one = processes.running["one"]
            monkeypatch.setattr(processes, "_die_with_me", None)
            two = processes.start("two", "sh", "-c", f"trap 'kill -{number} $PPID' TERM; echo ready; sleep 60 & wait")
            while "ready" not in (tmp_path / "two.log").read_text():
                time.sleep(0.02)
            with pytest.raises(Stop):
                processes.kill("two", "one")
        assert living(one.pid, two.pid) == []
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("exit 3", "it ended with exit code 3, and {log} is empty; the command was sh -c 'exit 3'"),
        ("echo; exit 0", "it ended with exit code 0, and {log} is empty; the command was sh -c 'echo; exit 0'"),
        ("kill -9 $$", "it was ended by signal 9 ({killed}), and {log} is empty; the command was sh -c 'kill -9 $$'"),
        ("echo out of luck; kill -9 $$", "it was ended by signal 9 ({killed}); {log} ends with:\nout of luck"),
        (
            r"printf 'gr\303\266ber gr\366ber\n'; exit 1",
            "it ended with exit code 1; {log} ends with:\ngröber gr\ufffdber",
        ),
    ],
)
def test_a_report_says_how_a_process_ended_and_never_shows_nothing(script, end, tmp_path):
    with Processes(tmp_path, dict(os.environ)) as processes:
        processes.start("one", "sh", "-c", script).wait()
        assert processes.report("one") == end.format(log=tmp_path / "one.log", killed=signal.strsignal(9))
        processes.start("two", "sleep", "60")
        assert processes.report("two") == f"it still runs, and {tmp_path}/two.log is empty; the command was sleep 60"


@pytest.mark.parametrize(
    ("superlink", "executor", "run", "told"),
    [
        (
            "sleep 60",
            "sleep 60",
            "echo no such file; exit 1",
            "run has failed: it ended with exit code 1; .*no such file",
        ),
        (
            "sleep 60",
            "sleep 60",
            "exit 2",
            "run has failed: it ended with exit code 2, and .*run.log is empty; .*exit 2",
        ),
        ("sleep 60", "kill -9 $$", "sleep 60", "executor has failed: it was ended by signal 9 .*is empty"),
        ("echo no memory; exit 1", "sleep 60", "exit 1", "superlink has failed: .*no memory"),
        ("sleep 60", "echo no app; sleep 60", "exit 0", "not come to its end: it still runs; .*no app"),
    ],
)
def test_a_run_that_fails_names_the_process_that_has_the_reason(superlink, executor, run, told, config, tmp_path):
    with Processes(tmp_path, dict(os.environ)) as processes:
        for name, script in (("superlink", superlink), ("executor", executor)):
            process = processes.start(name, "sh", "-c", script)
            while "sleep" not in script and process.poll() is None:
                time.sleep(0.02)
        processes.start("run", "sh", "-c", run)
        with pytest.raises(DeploymentError, match=f"(?s){told}"):
            Deployment(Settings.read(config), processes, []).wait()


def test_a_relay_counts_what_passes():
    class Echo(socketserver.BaseRequestHandler):
        def handle(self):
            while data := self.request.recv(1024):
                self.request.sendall(data * 2)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as echo:
        threading.Thread(target=echo.serve_forever, daemon=True).start()
        (port,) = free_ports(1)
        with Relays([port], echo.server_address[1], "127.0.0.1") as (relay,):
            with socket.create_connection(("127.0.0.1", port)) as wire:
                wire.sendall(b"x" * 700)
                received = 0
                while received < 1400:
                    received += len(wire.recv(4096))
            assert relay.between(0, time.time() + 1) == (700, 1400)
            assert relay.between(0, 1) == (0, 0)
        echo.shutdown()


# -- what the user's machine is like ----------------------------------------------------------------------------------

DEAD = "http://127.0.0.1:9"
SPEAK = """
import concurrent.futures, http.server, sys, threading
import grpc, httpx, requests

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

def ready():
    grpc.channel_ready_future(grpc.insecure_channel(f"127.0.0.1:{port}")).result(wait)

wait = float(sys.argv[1])
web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=web.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{web.server_port}"
server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
ways = {"httpx": lambda: httpx.Client(timeout=wait).get(url), "requests": lambda: requests.get(url, timeout=wait)}
for name, way in {**ways, "grpc": ready}.items():
    try:
        way()
        print(name)
    except Exception:
        pass
"""


@pytest.mark.parametrize(
    "proxies",
    [
        {"http_proxy": DEAD, "HTTPS_PROXY": DEAD, "https_proxy": DEAD},
        {"Http_Proxy": DEAD},
        {"https_proxy": DEAD, "no_proxy": "example.org", "NO_PROXY": "127.0.0.1"},
        {"grpc_proxy": DEAD, "no_grpc_proxy": "example.org", "no_proxy": "127.0.0.1,localhost"},
        {"ALL_PROXY": DEAD, "https_proxy": "unknown://127.0.0.1", "no_proxy": "127.0.0.1"},
        {"all_proxy": "socks5://127.0.0.1:9", "no_proxy": "127.0.0.1"},
    ],
)
def test_what_the_processes_say_to_each_other_goes_through_no_proxy(proxies, monkeypatch, tmp_path):
    """Each library that Flower speaks with reaches a server on this machine, and not with the user's settings."""

    def spoken(environment, wait):
        command = [sys.executable, "-c", SPEAK, wait]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in {**proxies, "PYTHONPATH": "/elsewhere"}.items():
        monkeypatch.setenv(name, value)
    assert spoken(os.environ, "1") != ["httpx", "requests", "grpc"]
    cleared = launch.environment(tmp_path)
    assert spoken(cleared, "30") == ["httpx", "requests", "grpc"]
    assert cleared["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)  # whatever else the user has
    assert cleared["FLWR_HOME"] == str(tmp_path) and {"PATH", "HOME"} & os.environ.keys() <= cleared.keys()


ODD = """/a "b" 'c' #d $e `f` \\g \\u0041 é 漢 😀 %h {i} [j]=k,l;m&n ~o*?!|<>:p@"""


@pytest.mark.parametrize(
    "text", ["/plain", "", '"', "'", "\\", ' " ', "a=b c=d", "/x.toml", "/\n\r\t\x01\x7f\x85", ODD]
)
def test_flower_reads_back_every_path(text, tmp_path):
    values = {"partition-id": 3, "folder": text, "deadline": 0.5, "slow": 1e22, "secure": True, "here.address": text}
    file = toml.write(tmp_path / "new" / "settings.toml", values)
    read = tomllib.loads(file.read_bytes().decode())
    assert read == {**{name: values[name] for name in list(values)[:-1]}, "here": {"address": text}}
    assert parse_config_args([str(file)]) == values


@pytest.mark.parametrize("place", ["--out", "--data", "TMPDIR"])
@pytest.mark.parametrize(("name", "said"), [("\udcff", r"'\udcff'"), ('é "😀"\n\udc80', r"'\udc80'")])
def test_a_path_that_flower_cannot_take_is_refused_at_once(place, name, said, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", f"/tmp/{name}" if place == "TMPDIR" else None)
    assert command_line.main([] if place == "TMPDIR" else [place, f"/nowhere/{name}"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith(f"error: {place} '/") and f"cannot take {said}" in error


def test_a_folder_of_a_run_that_goes_on_is_left_alone(sandbox, capsys):
    out = sandbox.folder / "out"
    output.claim(out)
    output.note(out, [out / "results.csv"])
    (out / "results.csv").touch()
    with output.held(out):
        assert command_line.main(["--out", str(out)]) == 1
    assert "is being written by" in capsys.readouterr().err and (out / "results.csv").exists()


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_a_folder_that_cannot_be_made_is_told_in_a_line(below, sandbox, capsys):
    (sandbox.folder / "file").touch()
    assert command_line.main(["--out", str(sandbox.folder / below)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(sandbox.folder / below) in error


STOPPED = "stopped; nothing is left running, and the same command begins anew\n"


@pytest.mark.parametrize("module", ["pandas", "torch"])
def test_ctrl_c_while_it_still_imports_is_one_line(module, tmp_path):
    (tmp_path / f"{module}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "dml.flower", "--out", str(tmp_path / "out")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", STOPPED)


def test_ctrl_c_twice_leaves_nothing_behind(sandbox):
    command = [sys.executable, "-m", "dml.flower", "--out", str(sandbox.folder / "out")]
    environment = {**sandbox.environment(), "TMPDIR": str(sandbox.folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ran:
        while not (sandbox.folder / "out" / "logs" / "executor.log").exists():
            assert ran.poll() is None
            time.sleep(0.05)
        for _ in range(2):
            ran.send_signal(signal.SIGINT)
            time.sleep(0.3)
        assert ran.communicate()[1] == STOPPED and ran.returncode == 130
    listed = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    assert str(sandbox.folder) not in listed and not list(sandbox.folder.glob("dml-flower-*"))


@pytest.mark.parametrize(("work", "status"), [("print('done', end='')", 0), ("1 / 0", 1), ("raise SystemExit", 0)])
def test_a_task_in_a_fork_tells_all_it_printed_and_how_it_ended(work, status, monkeypatch, capfd):
    from dml.flower import executor

    begun, kind = [], executor.TaskType.CLIENT_APP
    monkeypatch.setattr(executor.os, "fork", lambda fork=os.fork: begun.append(fork()) or begun[-1])
    monkeypatch.setitem(executor.COMMANDS, kind, lambda: exec(work))
    task = SimpleNamespace(task_type=kind, runtime_api_address="", token="", parent_pid=0, insecure=True)
    task.root_certificates_path = ""
    executor.ForkingExecutor().launch(task)
    assert os.waitstatus_to_exitcode(os.waitpid(begun[0], 0)[1]) == status
    assert capfd.readouterr().out == ("done" if "done" in work else "")


# -- the real thing ---------------------------------------------------------------------------------------------------


def test_a_deployment_over_tls_survives_a_killed_node_behind_a_proxy_on_odd_paths(config, sandbox, monkeypatch, capsys):
    """A SuperLink, three SuperNodes, authentication; one node dies after round 1, without a word. The images, the
    temporary folder and the run's folder lie where they must be quoted, and the proxies that are set are dead.
    """
    told, started = command_line.tell, []

    def tell(deployment, round):
        told(deployment, round)
        if round == 1:
            started.extend(process.pid for process in deployment.processes.running.values())
            os.killpg(deployment.processes.running.pop("supernode-2").pid, signal.SIGKILL)

    monkeypatch.setattr(command_line, "tell", tell)
    odd = sandbox.folder / """a "b" 'c' 😀 $x #y \\z 漢"""
    images, out, temporary = (odd / name for name in ("images", "out", "temporary"))
    folder(images, 30)
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    proxies = {name: DEAD for name in ("http_proxy", "https_proxy", "HTTPS_PROXY")}
    for name, value in {**proxies, "all_proxy": "socks5://127.0.0.1:9", "TMPDIR": str(temporary)}.items():
        monkeypatch.setenv(name, value)
    arguments = ["--clients", "3", "--deadline", "20", "--data", str(images), "--out", str(out)]
    assert command_line.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "round 1: public accuracy" in shown and "client 2 silent" in shown and "Done in" in shown
    assert pd.read_csv(out / "events.csv")[["round", "client", "event"]].to_numpy().tolist() == [[2, 2, "silent"]]
    experiment = Settings.read(config).experiment
    one = Federation(experiment, images_of(str(images), experiment), config["seed"])
    in_process("dml", one)
    rows = pd.read_csv(out / "results.csv").query("round == 1")[["round", "client", "metric", "value"]]
    assert sorted(rows.itertuples(index=False, name=None)) == values(row for row in one.rows if row.round == 1)
    sent = pd.read_csv(out / "wire.csv").query("round == 1")
    assert (sent["tls"] > sent["encoded"] + sent["framing"] + sent["about"]).all() and len(sent) == 6
    assert {path.name for path in out.iterdir()} >= {"manifest.json", "results.csv", "ledger.csv", "logs"}
    assert living(*started) == [] and not list(temporary.glob("dml-flower-*"))
