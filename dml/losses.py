"""The loss of distributed mutual learning, from logits.

    L_i = L_model + L_KL,      L_KL = 1/(K-1) * sum over j != i of KL(P_i || P_j)

Symbols of the paper: L_model is `model_loss` (cross-entropy with the public labels), P_i the student's prediction, P_j
a peer's, frozen before the refinement starts. Three forms of the peer term can be chosen:

- `student-first`  sum_c P_i(c) log(P_i(c) / P_j(c)), the paper's equation read as a divergence over all classes.
- `peer-first`     sum_c P_j(c) log(P_j(c) / P_i(c)), deep mutual learning (Zhang et al. 2018, arXiv 1706.00384).
- `one-term`       P_i(1) log(P_i(1) / P_j(1)), what the author's code computes on its single sigmoid unit. It is no
                   divergence: it can be negative and is smallest at P_i = P_j / e.

Each form depends on the peers only through a *sum* over them, so the server sends one table down instead of K - 1 and
a client takes its own contribution out exactly: mean over peers = (S - own) / (K - 1). For student-first this is the
identity mean_j KL(P || P_j) = KL(P || G) - log Z with G = softmax(mean_j log P_j) and Z = sum_c exp(mean_j log P_j(c)).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FORMS = ("student-first", "peer-first", "one-term")


def log_probabilities(logits: Tensor) -> Tensor:
    """log P [..., N, C] of logits [..., N, 1] (two classes; the logit is class 1's) or [..., N, C]; finite at +-200."""
    if logits.shape[-1] == 1:
        return torch.cat((F.logsigmoid(-logits), F.logsigmoid(logits)), dim=-1)
    return F.log_softmax(logits, dim=-1)


def model_loss(log_p: Tensor, labels: Tensor) -> Tensor:
    """L_model per image [..., N]: the negative log-probability of the true class."""
    return -log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def contribution(form: str, log_q: Tensor) -> Tensor:
    """What one client adds to the table S, from its log-predictions [N, C]: [N, C], or [N, C + 1] for peer-first.

    Raises ValueError for an unknown form, and for `one-term` with more than two classes, where the author's library
    call would have been the student-first divergence.
    """
    if form == "peer-first":  # the extra column makes the value a divergence; its gradient is zero
        q = log_q.exp()
        return torch.cat((q, (q * log_q).sum(-1, keepdim=True)), dim=-1)
    if form == "one-term" and log_q.shape[-1] != 2:
        raise ValueError(f"one-term is defined for two classes, not {log_q.shape[-1]}")
    if form not in FORMS:
        raise ValueError(f"form {form!r}: choose one of {', '.join(FORMS)}")
    return log_q


def without_own(total: Tensor, own: Tensor, clients: int) -> Tensor:
    """The peers' mean table: a client's own contribution leaves the sum over `clients` >= 2 clients."""
    return (total - own) / (clients - 1)


def logit_loss(logits: Tensor, table: Tensor) -> Tensor:
    """The absolute difference to the peers' mean logits per image [..., N], mean over the columns (FedMD's term)."""
    return (logits - table.detach()).abs().mean(-1)


def peer_loss(form: str, log_p: Tensor, table: Tensor) -> Tensor:
    """L_KL per image [..., N], from the student's log-predictions [..., N, C] and the peers' mean table.

    The table is detached: peers teach, they are not taught through it.
    """
    table, p = table.detach(), log_p.exp()
    if form == "student-first":
        return (p * (log_p - table)).sum(-1)
    if form == "peer-first":
        return table[..., -1] - (table[..., :-1] * log_p).sum(-1)
    if form == "one-term":
        return p[..., 1] * (log_p[..., 1] - table[..., 1])
    raise ValueError(f"form {form!r}: choose one of {', '.join(FORMS)}")
