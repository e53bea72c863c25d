"""The command line: python -m dml.flower, one federated run in real processes on this machine."""

from __future__ import annotations

import argparse
import io
import json
import logging
import signal
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from dml.config import CLIP, PROFILES, RUNS
from dml.flower import toml
from dml.flower.processes import DeploymentError
from dml.flower.settings import DEPLOYABLE, Settings

TABLES = ("results", "ledger", "events", "wire", "times")  # that the server writes into the run's folder

if TYPE_CHECKING:  # what takes seconds to import is imported in `run`, where Ctrl-C is expected
    from dml.flower.launch import Deployment


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m dml.flower", description="One run as a Flower deployment, over TLS.")
    top.add_argument("--arm", choices=DEPLOYABLE, default="dml")
    top.add_argument("--seed", type=int, default=0)
    top.add_argument("--profile", choices=PROFILES, default="smoke")
    top.add_argument("--data", default="faces", metavar="faces|facemask|FOLDER")
    top.add_argument("--clients", type=int, default=0, metavar="N", help="default: as many as the profile has")
    top.add_argument("--train-images", type=int, default=0, metavar="N", help="to deal; default: the profile's")
    top.add_argument("--secure", action="store_true", help="the server sees only sums of predictions (arm dml)")
    top.add_argument("--clip", type=float, default=CLIP, metavar="P", help=f"believe no probability below it ({CLIP})")
    top.add_argument("--rule", default="mean", metavar="NAME", help="how the server believes clients (mean: all alike)")
    top.add_argument("--expected", type=int, default=1, metavar="N", help="liars that the rule is told to expect (1)")
    top.add_argument("--liars", type=int, default=0, metavar="N", help="let the last N clients lie: a rehearsal")
    top.add_argument("--attack", default="veto", metavar="NAME", help="how they lie (veto)")
    top.add_argument("--deadline", type=float, default=120, metavar="SECONDS", help="to wait for answers (120)")
    top.add_argument("--quorum", type=int, default=0, metavar="N", help="answers that are enough (a majority)")
    top.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (data/runs/flower-ARM-PROFILE-DATA)")
    return top


def main(arguments: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a finished run stays one where its folder cannot be shown
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    args = parser().parse_args(arguments)
    try:
        return run(args)
    except (ValueError, OSError, DeploymentError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one, while Python ends, changes nothing
        print("stopped; nothing is left running, and the same command begins anew", file=sys.stderr)
        return 130


def run(args: argparse.Namespace) -> int:
    from dml.data.images import folder_name, images_of, require
    from dml.experiment import cache
    from dml.files import replacing
    from dml.flower.launch import deployed
    from dml.pipeline import output
    from dml.training import machine

    began = time.perf_counter()
    named = args.data in ("faces", "facemask")
    source = args.data if named else str(Path(args.data).expanduser().resolve())
    out = (args.out or RUNS).expanduser().resolve()
    for where, path in (("--data", source), ("--out", out), ("TMPDIR", gettempdir())):
        toml.line(where, str(path))  # raises for a path that Flower cannot take, before anything is begun
    secure = "-secure" if args.secure else ""
    if not args.out:
        name = args.data if named else folder_name(Path(source))
        out /= f"flower-{args.arm}{secure}-{args.profile}-{name}"
    config = {
        name: getattr(args, name)
        for name in (
            *("arm", "profile", "seed", "clients", "train_images", "deadline", "quorum", "secure", "clip"),
            *("rule", "expected", "liars", "attack"),
        )
    }
    config |= {"data": source, "own": "", "out": str(out)}
    settings = Settings.read(config)
    images = images_of(source, settings.experiment)  # decoded once, before every site reads it from the cache
    require(images, settings.experiment.folds)
    output.claim(out)
    with output.held(out):
        output.clear(out)
        output.note(out, [out / f"{name}.csv" for name in TABLES] + [out / "manifest.json"])
        print(
            f"{args.arm}{secure}: {settings.experiment.clients} clients, {settings.experiment.rounds} rounds; {out}",
            flush=True,
        )
        with deployed(config, settings.experiment.clients) as deployment:
            deployment.wait(tell)
        tell_bytes(out)
        manifest = {
            **asdict(settings),
            "data": images.name,
            "out": out.name,
            "data_sha256": images.sha256,
            "experiment": asdict(settings.experiment),
            "code_version": cache.code_version(),
            **machine.facts(machine.device("cpu")),
            "flwr": version("flwr"),
            "wall_s": round(time.perf_counter() - began, 1),
        }
        with replacing(out / "manifest.json") as part:
            part.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    print(f"Done in {manifest['wall_s']:.0f} s. Tables and logs: {out}")
    return 0


def tell(deployment: Deployment, round_index: int) -> None:
    """A line for a round that has ended."""
    import pandas as pd

    rows = pd.read_csv(deployment.out / "results.csv").query(f"round == {round_index}")
    means = rows.groupby("metric")["value"].mean()
    shown = [f"{name} {means[name]:.3f}" for name in ("public accuracy", "unseen sample accuracy") if name in means]
    wire = deployment.wire().query(f"round == {round_index}")
    events = pd.read_csv(deployment.out / "events.csv").query(f"round == {round_index}")
    shown += [f"{len(wire['client'].unique())} clients, {wire['tls'].sum():,} bytes on the wire"]
    shown += [f"client {event.client} {event.event}" for event in events.itertuples()]
    print(f"round {round_index}: {'; '.join(shown)}", flush=True)


def tell_bytes(out: Path) -> None:
    """What one client sent and received: in the set-up, and in a round (means)."""
    import pandas as pd

    wire = pd.read_csv(out / "wire.csv")
    last = wire["round"].max()
    wire["when"] = wire["round"].map(
        lambda round_index: "set-up" if round_index == 0 else "report" if round_index == last else "a round"
    )
    table = wire.groupby(["when", "direction"], sort=False)[["encoded", "framing", "about", "tls"]].mean().round()
    titles = {"encoded": "encoded by us", "framing": "Flower's framing", "about": "measurements", "tls": "TLS"}
    print("Bytes of one client, mean:")
    print(table.astype(int).rename(columns=titles).map(lambda count: f"{count:,}").to_string())


if __name__ == "__main__":
    sys.exit(main())
