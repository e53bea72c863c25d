"""The command line: python -m dml reproduce | jobs | study | figures | fetch | verify."""

import argparse
import io
import logging
import sys
from contextlib import nullcontext
from pathlib import Path

# No more than this: the rest takes seconds to import, which each command does as it acts.
from dml.config import FIGURES, PROFILES
from dml.pipeline import ahead


def path(text: str) -> Path:
    """A path; the shell leaves `--out=~/x` as it is."""
    return Path(text).expanduser()


def seeds(text: str) -> tuple[int, ...]:
    """ "5" is the first five seeds, 0 to 4; "0,3,7" is those three; "3," only seed 3."""
    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of seeds (5) or a list (0,3,7)") from None
    chosen = numbers if "," in text else tuple(range(*numbers))
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise argparse.ArgumentTypeError(f"{text!r}: seeds are different whole numbers from 0 up, at least one")
    return chosen


def shard(text: str) -> tuple[int, int]:
    """ "2/8" is the second of eight parts."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r}: give the part and the number of parts, from 1/8 to 8/8 for eight")
    return int(part), int(parts)


def _of_a_run(command: argparse.ArgumentParser) -> None:
    """The options that say which run."""
    profile = "smoke: minutes; paper: the published protocol"
    command.add_argument("--profile", choices=PROFILES, default="smoke", help=profile)
    data = "drawn, real, or your own images"
    command.add_argument("--data", default="faces", metavar="faces|facemask|FOLDER", help=data)
    command.add_argument(
        "--seeds", type=seeds, default=(), metavar="N|LIST", help="how many seeds (5), or which (0,3,7)"
    )
    command.add_argument("--only", default="", metavar="NUMBER", help="one notebook, by the start of its name (02)")
    command.add_argument("--out", default="", metavar="DIR", help="the run's folder (data/runs/PROFILE-DATA)")
    for size, what in (("clients", "clients (K)"), ("rounds", "rounds (R)"), ("train-images", "training images")):
        command.add_argument(
            f"--{size}", type=int, default=0, metavar="N", help=f"how many {what}; 0: the profile's own"
        )
    device = "auto: a GPU if there is one"
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help=device)
    reference = "float32 is the reference"
    command.add_argument("--precision", choices=("float32", "bf16"), default="float32", help=reference)
    own = "two kinds of model of notebook 05, a name (resnet8) or your own, package.module:function"
    command.add_argument("--models", default="", metavar="KIND,KIND", help=own)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m dml", description="Companion of the paper on distributed mutual learning."
    )
    commands = top.add_subparsers(dest="command", required=True)

    one = commands.add_parser("reproduce", help="run the notebooks: tables, figures and executed copies in one folder")
    _of_a_run(one)
    one.add_argument(
        "--scheduler", default="", metavar="ADDRESS", help="do the jobs on a Dask cluster (tcp://HOST:PORT)"
    )
    one.add_argument("--shard", type=shard, metavar="I/N", help="do only the I-th of N parts of the jobs, no notebook")
    one.add_argument("--force", action="store_true", help="compute again the jobs of the chosen notebooks")
    one.set_defaults(act=reproduce, workers="dml.pipeline.notebooks")

    listing = commands.add_parser("jobs", help="list what a run computes: done, missing, estimated CPU seconds")
    _of_a_run(listing)
    listing.set_defaults(act=list_jobs)

    planned = commands.add_parser("study", help="compute a study of a plan (data/*plan*.md) and add it to the record")
    planned.add_argument("name", metavar="NAME", help="which one; a name that is none lists them")
    seeds_help = "which seeds (8,9), or how many from 0; all confirmatory ones"
    planned.add_argument("--seeds", type=seeds, default=(), metavar="N|LIST", help=seeds_help)
    planned.set_defaults(act=carry_out_study)

    two = commands.add_parser("figures", help="draw every figure again from a finished run's tables")
    two.add_argument(
        "--from",
        dest="source",
        type=path,
        metavar="DIR",
        help="a run's folder (every recorded run, and the README's tables)",
    )
    two.add_argument("--out", type=path, metavar="DIR", help="where they go (figures/; with --from, figures/ in there)")
    two.set_defaults(act=figures, workers="dml.pipeline.redraw")

    three = commands.add_parser("fetch", help="download and verify the author's face-mask images")
    three.add_argument("--source", metavar="URL|FILE", help="an archive to take them from (the author's repository)")
    three.add_argument("--to", type=path, metavar="DIR", help="where they go (data/facemask)")
    three.set_defaults(act=fetch)

    four = commands.add_parser("verify", help="compare a folder of face-mask images with the manifest")
    four.add_argument("folder", type=path, nargs="?", metavar="DIR", help="default: wherever they are found")
    four.set_defaults(act=verify)
    return top


def reproduce(args: argparse.Namespace) -> int:
    from dml.pipeline import notebooks

    if args.force and args.shard:
        raise ValueError("--force with --shard: each part would forget what the others have computed; choose one")
    run = _opened(args)
    with _executor(args.scheduler) as executor:
        if args.shard:
            return _part(run, args, executor)
        manifest = notebooks.reproduce(run, args.only, executor, args.force)
    index = run.folder / "report" / "index.html"
    print(f"Done. Tables, figures, notebooks: {run.folder}\nTo read: {index}\nManifest: {manifest}")
    return 0


def _opened(args: argparse.Namespace):
    from dml.pipeline.run import Run

    names = ("device", "precision", "clients", "rounds", "train_images", "models")
    options = {name: getattr(args, name) for name in names}
    return Run.open(args.profile, args.data, args.seeds, args.out, **options)


def _executor(address: str):
    """The processes of this machine (None), or a cluster's."""
    if not address:
        return nullcontext()
    from dml.cluster.scheduler import connected  # an annex

    return connected(address)


def _part(run, args: argparse.Namespace, executor) -> int:
    """One part of the jobs, for a cache that several machines share."""
    from dml.experiment import jobs
    from dml.pipeline.notebooks import listed

    if run.target.type == "cuda":  # which seeds share a job there depends on what the cache holds
        raise ValueError("--shard on a GPU: the parts would overlap; give each machine seeds of its own (--seeds)")
    everything = listed(run, args.only)
    part = jobs.shard(everything, *args.shard)
    computed = jobs.carry_out(part, executor)
    left = sum(not job.done for job in everything)
    print(
        f"Part {args.shard[0]} of {args.shard[1]}: {computed} jobs computed, {len(part) - computed} found in the cache."
    )
    print(f"{left} of {len(everything)} jobs are left" + ("." if left else ": run it without --shard."))
    return 0


def list_jobs(args: argparse.Namespace) -> int:
    from dml.pipeline.notebooks import listed
    from dml.training import machine

    everything = listed(_opened(args), args.only)
    for job in sorted(everything, key=lambda job: -job.cost):
        print(f"{'done' if job.done else 'missing':8}{job.cost:9.1f} s  {job.title}")
    missing = [job for job in everything if not job.done]
    seconds, spare = (sum(job.cost for job in some) for some in (missing, everything))
    print(
        f"{len(everything)} jobs, {len(missing)} missing: about {seconds:,.0f} of {spare:,.0f} CPU seconds "
        f"({seconds / machine.cores() / 60:,.0f} minutes on the {machine.cores()} cores here; an estimate)"
    )
    return 0


def carry_out_study(args: argparse.Namespace) -> int:
    from dml.studies import catalogue

    print(f"Tables: {catalogue.carry_out(args.name, args.seeds)}")
    return 0


def figures(args: argparse.Namespace) -> int:
    from dml.evidence.about import About
    from dml.pipeline import output, redraw

    if args.source:
        to = args.out or args.source / "figures"
        About.read(args.source)  # before the folder is made
        output.claim(to)
        redraw.redraw([(args.source, to)])
    else:
        to = args.out or FIGURES
        if to.resolve() != FIGURES:
            output.claim(to)
        redraw.redraw_recorded(to)
    print(f"Figures and tables: {to}")
    return 0


def fetch(args: argparse.Namespace) -> int:
    from dml.pipeline.fetch import fetch as fetched

    report = fetched(args.source, args.to)
    print(report.summary())
    return 0 if report.ok else 1


def verify(args: argparse.Namespace) -> int:
    from dml.data import facemask

    report = facemask.verify(args.folder or facemask.find())
    print(report.summary())
    return 0 if report.ok else 1


def printable() -> None:
    """Let no text fail to print: what the terminal cannot show is escaped. A finished run stays a finished run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(arguments: list[str] | None = None) -> int:
    printable()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("dml").setLevel(logging.INFO)
    args = parser().parse_args(arguments)
    try:
        if arguments is None and "workers" in args:  # a program of its own
            ahead.prepare(args.workers)
        return args.act(args)
    except (ValueError, OSError, RuntimeError) as error:  # a RuntimeError: of a notebook, a worker or a cluster
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
