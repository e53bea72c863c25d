"""The whole smoke pipeline, computed again, by stage.

python tests/benchmarks/pipeline.py [--seeds 3]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", default="3")
    seeds = options.parse_args().seeds
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "dml", "reproduce", "--force", "--seeds", seeds, "--out", f"{scratch}/run"]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        total = time.perf_counter() - began
        manifest = json.loads(Path(scratch, "run", "manifest.json").read_text())
    stages = manifest["stages_s"]
    for name, seconds in {**stages, "start-up and manifest": total - sum(stages.values())}.items():
        print(f"{name:24}{seconds:8.1f} s {100 * seconds / total:5.0f} %")
    busy = sum(each["cpu_s"] for each in manifest["arms_s"])
    print(f"{'total':24}{total:8.1f} s; training used {busy:.0f} CPU seconds on {manifest['cores']} cores")


if __name__ == "__main__":
    main()
