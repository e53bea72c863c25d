"""Time of one training step of the published network at batch 32, against naive PyTorch and against the matrix rate.

    python tests/benchmarks/step.py [--threads 1]

Prints medians of interleaved repetitions and ratios; nothing is asserted. "Memory kept" is the allocator setting of
`machine.settle`, which the project's workers use; what stands above it in the table runs without. The matrix-rate
bound is the step's multiplications and additions (counted by torch) over what a large square product reaches here.
"""

import argparse
import time
from dataclasses import replace
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dml.config import PROFILES
from dml.models import VisionNet
from dml.training import machine
from dml.training.clients import EVALUATION_BATCH, Client, Fit, fit_one, predict

REPEATS, BATCH, SIZE = 9, 32, 100


class Naive(nn.Module):
    """The network written down line by line: contiguous, ReLU before pooling, torch's own dropout."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3)
        self.dense1, self.dense2 = nn.Linear(28_224, 64), nn.Linear(64, 1)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.dropout(F.relu(self.conv3(x)).flatten(1), 0.2)
        return self.dense2(F.dropout(F.relu(self.dense1(x)), 0.2))


def naive_step(memory_format):
    model = Naive().to(memory_format=memory_format)
    images = torch.rand(BATCH, 3, SIZE, SIZE).contiguous(memory_format=memory_format)
    labels, optimiser = torch.randint(0, 2, (BATCH, 1)).float(), torch.optim.Adam(model.parameters())

    def step():
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(model(images), labels).backward()
        optimiser.step()

    return step


def bare_step():
    """Our network with inputs and masks already made: what a loop without any overhead would cost."""
    model = VisionNet()
    images = torch.rand(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    masks = model.dropout_masks(BATCH, np.random.default_rng(0), torch.device("cpu"))
    labels = torch.randint(0, 2, (BATCH, 1)).float()
    optimiser = torch.optim.Adam(model.parameters(), fused=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(model(images, masks), labels).backward()
        optimiser.step()

    return step


def real_step(precision="float32"):
    """One batch through the project's own training loop, peers' table included."""
    experiment = replace(PROFILES["paper"].experiment, epochs=1, precision=precision)
    client = Client(0, VisionNet(), experiment, seed=0)
    images = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8)
    table = torch.full((BATCH, 2), 0.5).log()
    fit = Fit(client, 1, "local", images, torch.arange(BATCH) % 2, "student-first", table)
    return lambda: fit_one(fit)


def timed(steps: dict) -> dict[str, float]:
    """Median seconds of each step, interleaved so that a drifting machine is fair to all."""
    times = {name: [] for name in steps}
    for repeat in range(REPEATS + 2):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if repeat >= 2:  # the first two warm up
                times[name].append(time.perf_counter() - began)
    return {name: median(each) for name, each in times.items()}


def matrix_rate() -> float:
    """Floating-point operations a second of a 2048 x 2048 product."""
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    return 2 * 2048**3 / timed({"product": lambda: a @ b})["product"]


def evaluation(rate: float) -> None:
    """Five clients on the 5,988 unseen images, from the time of a few large batches."""
    client = Client(0, VisionNet(), PROFILES["paper"].experiment, seed=0)
    images = torch.randint(0, 256, (4 * EVALUATION_BATCH, SIZE, SIZE, 3), dtype=torch.uint8)
    seconds = timed({"evaluation": lambda: predict(client, images)})["evaluation"] * 5 * 5988 / len(images)
    with FlopCounterMode(display=False) as counter:
        predict(client, images[:1])
    bound = counter.get_total_flops() * 5 * 5988 / rate
    print(f"evaluation of five clients on 5,988 images: {seconds:.0f} s, x bound {seconds / bound:.2f}")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, default=1)
    threads = options.parse_args().threads
    torch.set_num_threads(threads)
    plain = timed({"naive": naive_step(torch.contiguous_format), "channels-last": naive_step(torch.channels_last)})
    machine.settle()
    torch.set_num_threads(threads)
    rate = matrix_rate()
    ours = timed(
        {
            "naive, memory kept": naive_step(torch.contiguous_format),
            "bare step": bare_step(),
            "training loop": real_step(),
            "training loop, bf16": real_step("bf16"),
        }
    )
    with FlopCounterMode(display=False) as counter:
        bare_step()()
    bound = counter.get_total_flops() / rate
    print(f"{threads} thread(s), batch {BATCH}, median of {REPEATS}; matrix rate {rate / 1e9:.0f} GFLOP/s")
    print(f"{'':22}{'ms':>8}{'x naive':>9}{'x bound':>9}")
    for name, seconds in {**plain, **ours, "matrix-rate bound": bound}.items():
        print(f"{name:22}{1e3 * seconds:8.1f}{plain['naive'] / seconds:9.2f}{seconds / bound:9.2f}")
    print(f"loop overhead: {100 * (ours['training loop'] / ours['bare step'] - 1):.1f} %")
    evaluation(rate)


if __name__ == "__main__":
    main()
