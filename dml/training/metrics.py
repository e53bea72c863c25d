"""How good predictions are, and how much the clients differ: numbers about logits on the unseen set."""

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import log_loss, precision_recall_fscore_support, roc_auc_score
from torch import Tensor

BINS = 15  # of confidence, for the calibration error


def probabilities(logits: Tensor) -> np.ndarray:
    """float64 [N, C] from logits [N, 1] or [N, C]."""
    values = logits.double().numpy()
    if values.shape[1] == 1:
        values = np.concatenate((np.zeros_like(values), values), axis=1)
    return np.exp(log_softmax(values, axis=1))


def decisions(logits: Tensor) -> np.ndarray:
    """The predicted class [N]; a tie goes to the lower class."""
    return probabilities(logits).argmax(1)


def scores(logits: Tensor, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, precision, recall, AUC, log loss and calibration error of one model, from its logits on N images.

    Precision and recall are of class 1 ("no mask") when there are two classes, and means over the classes otherwise.
    """
    p = probabilities(logits)
    predicted, two = p.argmax(1), p.shape[1] == 2
    precision, recall, _, _ = precision_recall_fscore_support(
        labels, predicted, average="binary" if two else "macro", zero_division=0
    )
    return {
        "accuracy": float((predicted == labels).mean()),
        "precision": float(precision),
        "recall": float(recall),
        "auc": float(roc_auc_score(labels, p[:, 1] if two else p, multi_class="ovr")),
        "log loss": float(log_loss(labels, p, labels=range(p.shape[1]))),
        "calibration error": calibration_error(p, labels),
    }


def personal_accuracy(logits: Tensor, labels: np.ndarray, shares: np.ndarray) -> float:
    """Accuracy on images mixed as a client's own are: the recall of each class, weighted by its `shares` [C].

    So one common unseen set serves every client, and none is thrown away. A class without an image counts as missed.
    """
    right, counted = decisions(logits) == labels, np.bincount(labels, minlength=len(shares))
    recalled = np.bincount(labels, weights=right, minlength=len(shares)) / np.maximum(1, counted)
    return float(shares @ recalled)


def calibration_error(p: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017): |confidence - accuracy| of a bin, mean over its images."""
    confidence, right = p.max(1), p.argmax(1) == labels
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    bins = np.digitize(confidence, edges, right=True)
    gap = np.bincount(bins, weights=confidence - right, minlength=BINS)
    return float(np.abs(gap).sum() / len(labels))


def disagreement(logits: Sequence[Tensor]) -> list[float]:
    """For each of K >= 2 models, the share of images on which another model decides otherwise, mean over the others."""
    decided = np.stack([decisions(client_logits) for client_logits in logits])
    differs = (decided[:, None] != decided[None]).mean(2)
    return (differs.sum(1) / (len(logits) - 1)).tolist()
