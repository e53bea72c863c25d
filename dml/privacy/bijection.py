"""Probe 1: with two classes and a labelled public set, sharing the loss is sharing the prediction; and where that ends.

For a label y and the loss l = -log p_y: p_y = exp(-l), p_other = 1 - p_y, and the logit is -log(exp(l) - 1).
"""

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax

from dml.exchange.messages import Losses, Predictions
from dml.losses import log_probabilities, model_loss


def bijection() -> pd.DataFrame:
    """What survives the way from a logit to a message and back, case by case.

    Columns case, quantity, error (largest absolute), same (whether the message determines the quantity).
    """
    logits, rng = np.linspace(-15, 15, 3001), np.random.default_rng(0)
    loss = np.logaddexp(0, -logits)
    rows = [("two classes, float64, |logit| to 15", "probability", _largest(np.exp(-loss), 1 / (1 + np.exp(-logits))))]
    rows.append(("two classes, float64, |logit| to 15", "logit", _largest(-np.log(np.expm1(loss)), logits)))
    for limit in (5, 15, 30):
        wide = torch.linspace(-limit, limit, 3001)[:, None]
        labels = torch.ones(len(wide), dtype=torch.long)
        log_p = log_probabilities(wide)
        for message in (
            Losses(round=1, sender=0, losses=model_loss(log_p, labels)),
            Predictions(round=1, sender=0, probabilities=log_p.exp()),
        ):
            table = message.log_probabilities(labels)
            error = _largest((table[:, 1] - table[:, 0]).numpy(), wide[:, 0].numpy())
            kind = type(message).__name__.lower()
            rows.append((f"two classes, float32 {kind} as received, |logit| to {limit}", "logit", error))
    same = log_softmax(rng.normal(size=(1000, 3)), axis=1)
    twin = np.column_stack((same[:, 0], same[:, 2], same[:, 1]))  # the same loss for label 0
    rows.append(("three classes: two models of equal loss", "probability", _largest(np.exp(same), np.exp(twin))))
    p, q = rng.uniform(0.05, 0.95, (2, 1000))
    mean = np.sqrt(p * q)  # two models that both predict it have the same mean log p_true as p and q
    rows.append(
        (
            "mean loss of two clients: two pairs of equal mean",
            "mean log p_false",
            _largest(_false(p, q), _false(mean, mean)),
        )
    )
    table = pd.DataFrame(rows, columns=["case", "quantity", "error"])
    return table.assign(same=table["error"] < 1e-3)


def _largest(values: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(values - wanted).max())


def _false(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (np.log1p(-p) + np.log1p(-q)) / 2
