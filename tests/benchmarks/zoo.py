"""CPU milliseconds of a training step of 32 images on one thread, by kind of model: python tests/benchmarks/zoo.py"""

import time
from dataclasses import replace

import numpy as np
import torch

from dml.config import SMALL
from dml.models import WIDTHS
from dml.training import machine
from dml.training.clients import Client, Fit, fit_one
from dml.training.kinds import build
from dml.zoo.nets import NETS

if __name__ == "__main__":
    machine.settle()
    rng = np.random.default_rng(0)
    for size in (40, 100):
        experiment = replace(SMALL, size=size, epochs=4)
        images = torch.from_numpy(rng.integers(0, 256, (64, size, size, 3), np.uint8))
        labels = torch.from_numpy(rng.integers(0, 2, 64))
        for kind in (*WIDTHS, *NETS):
            model = build(kind, size, 2, rng)
            client = Client(0, model, experiment, 0)
            fit_one(Fit(client, 1, "local", images, labels))  # warm
            began = time.process_time()
            fit_one(Fit(client, 1, "local", images, labels))
            step = 1000 * (time.process_time() - began) / 8
            count = sum(parameter.numel() for parameter in model.parameters())
            print(f"{size:4} px  {kind:18}{count:10,} parameters{step:9.1f} ms a step")
