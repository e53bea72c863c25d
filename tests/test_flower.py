"""The Flower app: the same numbers as in one process, and rounds that survive killed, late and lying clients."""

import os
import signal
import socket
import socketserver
import subprocess
import threading
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch
from PIL import Image

pytest.importorskip("flwr", reason="Flower is not installed (the extra `flower`)")

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from dml.arms import messaging
from dml.arms.catalogue import run as in_process
from dml.arms.federation import Federation
from dml.data.images import images_of
from dml.exchange.messages import decode
from dml.exchange.topologies import add_up
from dml.experiment import results
from dml.files import DataError
from dml.flower import __main__ as command_line
from dml.flower import client, server, wire
from dml.flower import roll_call as roll
from dml.flower.processes import DeploymentError, Processes, free_ports
from dml.flower.relay import Relays
from dml.flower.settings import FORM, Settings
from dml.losses import contribution


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
        **{"arm": "dml", "profile": "smoke", "data": "faces", "own": "", "seed": 0, "clients": 3},
        **{"deadline": 0.2, "quorum": 0, "secure": False, "out": str(sandbox.folder / "out")},
    }


def serve(grid, config):
    return server.serve(grid, Settings.read(config))


def alone(arm, config):
    """The same run in this process."""
    experiment = Settings.read(config).experiment
    federation = Federation(experiment, images_of("faces", experiment), config["seed"])
    in_process(arm, [federation])
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
    for reply in asked:
        assert wire.about_in(reply).get("rows", []) == []  # no measurement of a single client either
        for data in wire.encoded_in(reply):
            assert not any(each.numpy().tobytes() in data for each in (*tables, *losses))
            if type(message := decode(data)).__name__ == "Masked":
                steps = message.table.double().flatten()
                for table in tables:  # 2^32 values, all alike: no trace of any table
                    assert torch.corrcoef(torch.stack((steps, table.double().flatten())))[0, 1].abs() < 0.9
                assert steps.abs().median() > 2**28


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


@pytest.mark.parametrize("wrong", [{"arm": "self"}, {"quorum": 4}, {"deadline": 0}, {"arm": "fedavg", "secure": True}])
def test_terms_that_cannot_be_are_refused(wrong, config):
    with pytest.raises(ValueError):
        Settings.read(config | wrong)


# -- processes and wires ----------------------------------------------------------------------------------------------


def living(*groups):
    """The processes of process groups, but for those that only wait to be buried."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    found = [line.split(None, 2) for line in listed.splitlines()]
    return [each for each in found if int(each[0]) in groups and not each[1].startswith("Z")]


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


# -- the real thing ---------------------------------------------------------------------------------------------------


def test_a_deployment_over_tls_survives_a_killed_node(config, sandbox, monkeypatch, capsys):
    """A SuperLink, three SuperNodes, authentication; one node dies after round 1, without a word."""
    told, started = command_line.tell, []

    def tell(deployment, round):
        told(deployment, round)
        if round == 1:
            started.extend(process.pid for process in deployment.processes.running.values())
            for name in ("supernode-2", "executor-2"):
                os.killpg(deployment.processes.running.pop(name).pid, signal.SIGKILL)

    monkeypatch.setattr(command_line, "tell", tell)
    out = sandbox.folder / "out"
    assert command_line.main(["--clients", "3", "--deadline", "12", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "round 1: public accuracy" in shown and "client 2 silent" in shown and "Done in" in shown
    assert pd.read_csv(out / "events.csv")[["round", "client", "event"]].to_numpy().tolist() == [[2, 2, "silent"]]
    one = alone("dml", config)
    rows = pd.read_csv(out / "results.csv").query("round == 1")[["round", "client", "metric", "value"]]
    assert sorted(rows.itertuples(index=False, name=None)) == values(row for row in one.rows if row.round == 1)
    sent = pd.read_csv(out / "wire.csv").query("round == 1")
    assert (sent["tls"] > sent["encoded"] + sent["framing"] + sent["about"]).all() and len(sent) == 6
    assert {path.name for path in out.iterdir()} >= {"manifest.json", "results.csv", "ledger.csv", "logs"}
    assert living(*started) == []
