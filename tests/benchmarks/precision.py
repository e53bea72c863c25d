"""What bf16 costs in accuracy: the smoke protocol in float32 and in bf16, paired over seeds.

python tests/benchmarks/precision.py [--seeds 3]
"""

import argparse
from dataclasses import replace

from dml import stats
from dml.config import SMALL
from dml.experiment import results
from dml.training import machine


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=3)
    seeds = range(options.parse_args().seeds)
    machine.check("bf16", machine.device("auto"))
    tables = {kind: results.compute("faces", replace(SMALL, precision=kind), seeds) for kind in ("float32", "bf16")}
    accuracy = {kind: stats.per_seed(each.results, "unseen accuracy") for kind, each in tables.items()}
    seconds = {kind: each.costs.groupby("arm")["wall_s"].mean() for kind, each in tables.items()}
    print(f"unseen accuracy, bf16 - float32, percentage points, n = {len(seeds)} paired seeds, drawn faces (smoke)")
    for arm in accuracy["float32"]:
        found = stats.interval((accuracy["bf16"][arm] - accuracy["float32"][arm]).to_numpy())
        ratio = seconds["bf16"][arm] / seconds["float32"][arm]
        span = f"[{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
        print(f"{arm:16}{100 * found.mean:+6.2f} {span}   time x {ratio:.2f}")
    whole = seconds["bf16"].sum() / seconds["float32"].sum()
    print(f"faster here: {'bf16' if whole < 1 else 'float32'} (all arms, bf16's time by float32's: {whole:.2f})")


if __name__ == "__main__":
    main()
