"""Training many clients at once: the stacked engine against the plain loop, for clients and seeds.

    python tests/benchmarks/stack.py [--device auto] [--profile smoke] [--data faces] [--seeds 4]

Prints seconds for one local phase of every client of every seed, and the ratio loop / stack, in one process. On a CPU
the loop wins. One process that loops leaves a GPU idle, so the stack wins there; several that loop beat both, which is
why jobs run in processes on either.
"""

import argparse
import time
from statistics import median

import torch
from stacked import fit_all

from dml.arms import steps
from dml.arms.federation import Federation
from dml.config import PROFILES
from dml.experiment.results import images
from dml.training import machine
from dml.training.clients import fit_one


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--device", default="auto")
    options.add_argument("--profile", choices=PROFILES, default="smoke")
    options.add_argument("--data", default="faces", help="facemask for the profile paper, which takes every image")
    options.add_argument("--seeds", type=int, default=4)
    args = options.parse_args()
    device, experiment = machine.device(args.device), PROFILES[args.profile].experiment
    if device.type == "cpu":
        machine.settle()
    data = images(args.data, experiment)
    federations = [Federation(experiment, data, seed, device) for seed in range(args.seeds)]
    fits = [fit for fed in federations for fit in steps.local(fed, 1)]
    engines = {"loop": lambda: [fit_one(fit) for fit in fits], "stack": lambda: fit_all(fits)}
    times = {name: [] for name in engines}
    for repeat in range(4):
        for name, engine in engines.items():
            began = time.perf_counter()
            engine()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:
                times[name].append(time.perf_counter() - began)
    loop, stack = median(times["loop"]), median(times["stack"])
    speed = f"loop {loop:.2f} s, stack {stack:.2f} s, ratio {loop / stack:.2f}"
    print(f"{device}, {args.profile}: {len(fits)} clients, {speed}")


if __name__ == "__main__":
    main()
