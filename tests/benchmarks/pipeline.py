"""The default job, computed from nothing: this checkout against an earlier one, in turns, on one machine.

python tests/benchmarks/pipeline.py [--against REVISION] [--rounds 1]

REVISION is a git revision whose `dml` lies flat in one folder or in rooms; it runs from a work tree of its own. Prints
the wall and CPU seconds of each run and the ratio of the medians. f0f0b14 is the last one in which every notebook had
a pool of its own.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def timed(checkout: Path, scratch: Path) -> tuple[float, float, dict]:
    """Wall and CPU seconds of `reproduce` in a checkout with an empty cache, and the run's manifest."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "DML_CACHE": str(scratch / "cache")}
    command = [sys.executable, "-m", "dml", "reproduce", "--force", "--out", str(scratch / "run")]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=checkout, env=environment)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, json.loads((scratch / "run" / "manifest.json").read_text())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--against", metavar="REVISION", help="an earlier revision to run as well, in turns")
    options.add_argument("--rounds", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkouts = {"this checkout": ROOT}
        if given.against:
            checkouts[given.against] = Path(folder) / "earlier"
            add = ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(checkouts[given.against]), given.against]
            subprocess.run(add, check=True, capture_output=True)
        walls = {name: [] for name in checkouts}
        try:
            for number in range(given.rounds):
                for name, checkout in checkouts.items():
                    wall, cpu, manifest = timed(checkout, Path(folder) / f"{number}-{name}")
                    walls[name].append(wall)
                    stages = ", ".join(f"{stem[:2]} {seconds:.0f}" for stem, seconds in manifest["stages_s"].items())
                    jobs = f"jobs {manifest['jobs_s']:.0f}, " if "jobs_s" in manifest else ""
                    print(f"{name:16} {wall:6.1f} s wall, {cpu:6.1f} s CPU ({jobs}{stages})", flush=True)
        finally:
            if given.against:
                remove = ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(checkouts[given.against])]
                subprocess.run(remove, check=True, capture_output=True)
    medians = {name: statistics.median(seconds) for name, seconds in walls.items()}
    print(f"{manifest['processor']}, {manifest['cores']} cores")
    if given.against:
        ours, theirs = medians["this checkout"], medians[given.against]
        print(f"{ours:.1f} s against {theirs:.1f} s: {ours / theirs:.2f} of the wall time")


if __name__ == "__main__":
    main()
