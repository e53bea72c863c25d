"""How many of a client's private images are of class 1? Regression from what a round's messages say of the client.

The idea of label distribution inference (Shi et al. 2025, arXiv 2502.08001): a model that saw more of a class leans to
it everywhere, and the public fold shows how much.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

QUANTILES = 0.1, 0.5, 0.9
ALPHAS = np.logspace(-2, 4, 13)


def features(tables: Sequence[Tensor], labels: Tensor, biases: Sequence[Tensor] = ()) -> Tensor:
    """[K, F] numbers about K clients from their log-probabilities [P, C] on the public fold with its labels [P]: the
    log-odds of class 1 (mean over each class and over all, spread, quantiles), the last layer's biases where weights
    are seen, and the same relative to the mean of the clients.
    """
    rows = []
    for client, table in enumerate(tables):
        lean = table[:, 1] - torch.cat((table[:, :1], table[:, 2:]), dim=1).logsumexp(1)
        by_class = [lean[labels == label].mean() for label in range(table.shape[1])]
        quantiles = torch.quantile(lean, torch.tensor(QUANTILES, device=lean.device))
        row = torch.stack([*by_class, lean.mean(), lean.std(), *quantiles])
        rows.append(torch.cat((row, biases[client])) if biases else row)
    found = torch.stack(rows)
    return torch.cat((found, found - found.mean(0)), dim=1)


def infer(found: np.ndarray, share: np.ndarray, federation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of class 1 of each client, [n], as inferred from its features [n, F] and as guessed from the prior: a
    regression on the clients of all *other* federations, and their mean.
    """
    model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS))
    inferred = cross_val_predict(model, found, share, groups=federation, cv=LeaveOneGroupOut())
    prior = np.array([share[federation != each].mean() for each in federation])
    return np.clip(inferred, 0, 1), prior
