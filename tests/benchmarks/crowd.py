"""A step of many tiny clients on a CPU: one by one, in one stack, and what the processor's matrix rate allows.

    python tests/benchmarks/crowd.py [--clients 16]

Prints CPU milliseconds of one client's step on one thread, and the gain. The bound is the step's multiplications and
additions (counted by torch) over what a large square product reaches here: no engine can be further above the loop.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from stacked import fit_all
from torch.utils.flop_counter import FlopCounterMode

from dml.config import SMALL
from dml.training import machine
from dml.training.clients import Client, Fit, fit_one
from dml.training.kinds import build

EPOCHS, TURNS = 5, 3


def seconds(work) -> float:
    """The least CPU time of some turns, after one to warm up."""
    work()
    times = []
    for _ in range(TURNS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--clients", type=int, default=16)
    count = options.parse_args().clients
    machine.settle()
    square = torch.rand(1024, 1024)
    rate = 2 * 1024**3 / seconds(lambda: square @ square)
    print(
        f"{count} clients, one thread, {machine.processor(torch.device('cpu'))}, matrix rate {rate / 1e9:.0f} GFLOP/s"
    )
    print("size batch   loop ms  stack ms  bound ms  loop/stack  loop/bound")
    for size in (28, 40):
        for batch in (8, 16, 32):
            rng = np.random.default_rng(0)
            experiment = replace(SMALL, size=size, epochs=EPOCHS, batch=batch)
            clients = [Client(i, build("visionnet", size, 2, rng), experiment, 0) for i in range(count)]
            pixels = torch.from_numpy(rng.integers(0, 256, (batch, size, size, 3), np.uint8))
            fits = [Fit(client, 1, "local", pixels, torch.arange(batch) % 2) for client in clients]
            with FlopCounterMode(display=False) as counter:
                fit_one(replace(fits[0], epochs=1))
            loop, stack = (
                1000 * seconds(work) / count / EPOCHS
                for work in (lambda fits=fits: [fit_one(fit) for fit in fits], lambda fits=fits: fit_all(fits))
            )
            bound = 1000 * counter.get_total_flops() / rate
            print(f"{size:4}{batch:6}{loop:10.2f}{stack:10.2f}{bound:10.2f}{loop / stack:12.2f}{loop / bound:12.2f}")


if __name__ == "__main__":
    main()
