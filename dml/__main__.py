"""The command line: python -m dml reproduce | figures | fetch | verify."""

import argparse
import logging
import sys
from pathlib import Path

from dml.config import FIGURES, PROFILES, README
from dml.data import facemask
from dml.files import DataError
from dml.pipeline import redraw


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


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m dml", description="Companion of the paper on distributed mutual learning."
    )
    commands = top.add_subparsers(dest="command", required=True)

    one = commands.add_parser("reproduce", help="run the notebooks: tables, figures and executed copies in one folder")
    one.add_argument(
        "--profile", choices=PROFILES, default="smoke", help="smoke: minutes; paper: the published protocol"
    )
    one.add_argument("--data", default="faces", metavar="faces|facemask|FOLDER", help="drawn, real, or your own images")
    one.add_argument("--seeds", type=seeds, default=(), metavar="N|LIST", help="how many seeds (5), or which (0,3,7)")
    one.add_argument("--only", default="", metavar="NUMBER", help="one notebook, by the start of its name (02)")
    one.add_argument("--out", default="", metavar="DIR", help="the run's folder (data/runs/PROFILE-DATA)")
    one.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one")
    one.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="float32 is the reference")
    one.add_argument("--force", action="store_true", help="compute again what the cache already holds")
    one.set_defaults(act=reproduce)

    two = commands.add_parser("figures", help="draw every figure again from a finished run's tables")
    two.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="DIR",
        help="a run's folder (every recorded run, and the README's tables)",
    )
    two.add_argument("--out", type=Path, metavar="DIR", help="where they go (figures/; with --from, figures/ in there)")
    two.set_defaults(act=figures)

    three = commands.add_parser("fetch", help="download and verify the author's face-mask images")
    three.add_argument("--source", metavar="URL|FILE", help="an archive to take them from (the author's repository)")
    three.add_argument("--to", type=Path, metavar="DIR", help="where they go (data/facemask)")
    three.set_defaults(act=fetch)

    four = commands.add_parser("verify", help="compare a folder of face-mask images with the manifest")
    four.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="default: wherever they are found")
    four.set_defaults(act=verify)
    return top


def reproduce(args: argparse.Namespace) -> int:
    from dml.pipeline import notebooks as pipeline
    from dml.pipeline.run import Run

    run = Run.open(args.profile, args.data, args.seeds, args.out, device=args.device, precision=args.precision)
    if args.force:
        run.forget()
    try:
        manifest = pipeline.reproduce(run, args.only)
    except pipeline.PipelineError as error:
        return failed(error)
    index = run.folder / "report" / "index.html"
    print(f"Done. Tables, figures, notebooks: {run.folder}\nTo read: {index}\nManifest: {manifest}")
    return 0


def figures(args: argparse.Namespace) -> int:
    if args.source:
        to = args.out or args.source / "figures"
        redraw.redraw([(args.source, to)])
    else:
        to = args.out or FIGURES
        redraw.redraw_recorded(to)
        if to.resolve() == FIGURES:
            redraw.write(README, redraw.refreshed(README.read_text(encoding="utf-8")))
    print(f"Figures and tables: {to}")
    return 0


def fetch(args: argparse.Namespace) -> int:
    report = facemask.fetch(args.source, args.to)
    print(report.summary())
    return 0 if report.ok else 1


def verify(args: argparse.Namespace) -> int:
    report = facemask.verify(args.folder or facemask.find())
    print(report.summary())
    return 0 if report.ok else 1


def failed(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("dml").setLevel(logging.INFO)
    args = parser().parse_args(arguments)
    try:
        return args.act(args)
    except (DataError, ValueError) as error:
        return failed(error)


if __name__ == "__main__":
    sys.exit(main())
