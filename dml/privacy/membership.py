"""Was this image among those the victim trained on? Attacks on the signals of a view, calibrated on shadows.

An attack gets one target's signals, those of the shadows (other victims of the same game, with bystanders of their own
and random halves of their own) and the shadows' halves; it returns a score for each candidate, higher for members.

- `loss threshold`: the log-odds of the candidate's own label, without shadows (Yeom et al. 2018, arXiv 1709.01604).
- `LiRA offline`, `LiRA online`: likelihood ratio of Gaussians, one variance for all candidates, as few shadows demand
  (Carlini et al. 2022, arXiv 2112.03570); offline knows only shadows *without* the candidate.
- `RMIA`: how often the candidate's probability, relative to its usual one, beats that of population points, here the
  public fold (Zarifzadeh et al. 2024, arXiv 2312.03262), with the offline correction `OFFLINE`.
- `public ridge`: membership regressed on the public predictions alone, the candidate itself is never queried
  (the idea of Jagielski et al. 2023, arXiv 2303.03446); the penalty is chosen by leave-one-out on the shadows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logsumexp
from scipy.stats import norm, rankdata
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

OFFLINE = 0.3  # RMIA: the probability of a candidate as if a model had also seen it
ALPHAS = np.logspace(-1, 4, 11)  # ridge penalties


@dataclass(frozen=True, eq=False)
class Signals:
    """One view of M federations: `candidates` log-odds [M, N], `public` features [M, P (C)], `members` bool [M, N]."""

    candidates: np.ndarray
    public: np.ndarray
    members: np.ndarray
    labels: np.ndarray  # of the public fold, [P]

    def pick(self, rows) -> "Signals":
        """Some of the federations."""
        return Signals(self.candidates[rows], self.public[rows], self.members[rows], self.labels)


def loss_threshold(target: Signals, shadows: Signals) -> np.ndarray:
    return target.candidates[0]


def lira_offline(target: Signals, shadows: Signals) -> np.ndarray:
    mean, spread = _moments(shadows, ~shadows.members)
    return (target.candidates[0] - mean) / spread


def lira_online(target: Signals, shadows: Signals) -> np.ndarray:
    inside, outside = _moments(shadows, shadows.members), _moments(shadows, ~shadows.members)
    return norm.logpdf(target.candidates[0], *inside) - norm.logpdf(target.candidates[0], *outside)


def _moments(shadows: Signals, chosen: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean of every candidate over the chosen shadows, and one standard deviation for all candidates."""
    mean = _mean(shadows.candidates, chosen)
    within = np.where(chosen, (shadows.candidates - mean) ** 2, 0).sum() / max(chosen.sum() - chosen.shape[1], 1)
    return mean, np.sqrt(within) + 1e-9


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The mean of each column of [S, N] over its chosen rows; that of all columns where none is (few shadows)."""
    count = chosen.sum(0)
    return np.where(count > 0, np.where(chosen, values, 0).sum(0) / np.maximum(count, 1), values[chosen].mean())


def rmia(target: Signals, shadows: Signals) -> np.ndarray:
    outside = _mean(expit(shadows.candidates), ~shadows.members)
    candidates = expit(target.candidates[0]) / _prior(outside)
    population = expit(_odds(target))[0] / _prior(expit(_odds(shadows)).mean(0))
    return (candidates[:, None] >= population).mean(1)


def _prior(outside: np.ndarray) -> np.ndarray:
    return ((1 + OFFLINE) * outside + 1 - OFFLINE) / 2


def _odds(signals: Signals) -> np.ndarray:
    """The log-odds of the true class of the public images, [M, P]."""
    if signals.public.shape[1] == len(signals.labels):
        return signals.public * (2 * signals.labels - 1)
    logits = signals.public.reshape(len(signals.public), len(signals.labels), -1)
    true = np.arange(logits.shape[-1]) == signals.labels[:, None]
    return logits[:, true] - logsumexp(np.where(true, -np.inf, logits), axis=-1)


def public_ridge(target: Signals, shadows: Signals) -> np.ndarray:
    model, members = make_pipeline(StandardScaler(), RidgeCV(ALPHAS)), shadows.members.astype(float)
    return model.fit(shadows.public, members).predict(target.public)[0] - members.mean(0)


ATTACKS: dict[str, Callable[[Signals, Signals], np.ndarray]] = {
    "loss threshold": loss_threshold,
    "LiRA offline": lira_offline,
    "LiRA online": lira_online,
    "RMIA": rmia,
    "public ridge": public_ridge,
}


def scores(attack: str, signals: Signals, group: np.ndarray, targets: Signals | None = None) -> np.ndarray:
    """Scores [M, N] of every federation as target, with those outside its group as shadows.

    `targets`, when given, are attacked in the place of the federations themselves (a control).
    """
    aims = targets or signals
    return np.stack(
        [ATTACKS[attack](aims.pick([m]), signals.pick(group != group[m])) for m in range(len(signals.members))]
    )


def fedmia(odds: np.ndarray, shift: int = 0) -> np.ndarray:
    """Scores [R, K, n] of membership in a client's fold of a round, from log-odds [R, R, K, K n] as in
    `balance.transcript`: how far the client's model stands out from the *other clients'*, who are sure not to have
    seen the image; one-tailed Gaussian probabilities, one variance for all images, summed over the rounds since
    (FedMIA, Zhu et al. 2025, arXiv 2402.06289, in its loss form). With a `shift`, a control: the model that is judged
    is another client's, and the client's own is left out.
    """
    rounds, _, clients, total = odds.shape
    size = total // clients
    scores = np.zeros((rounds, clients, size))
    for past in range(rounds):
        for now in range(past, rounds):
            if np.isnan(odds[now, past]).any():
                continue
            for client in range(clients):
                odds_of_fold, judged = (
                    odds[now, past, :, client * size : (client + 1) * size],
                    (client + shift) % clients,
                )
                others = np.delete(odds_of_fold, [client, judged], axis=0)
                spread = np.sqrt(others.var(0, ddof=1).mean()) + 1e-9
                scores[past, client] += norm.cdf((odds_of_fold[judged] - others.mean(0)) / spread)
    return scores


def strongest(scores_by_attack: dict[str, np.ndarray], measure: Callable[[np.ndarray, slice], float]) -> np.ndarray:
    """The scores of the best attack, chosen for each half of the targets on the other half alone.

    `scores_by_attack` holds [M, N] each; `measure` rates scores on some of the targets. Scores of different attacks
    are made comparable by their ranks.
    """
    count = len(next(iter(scores_by_attack.values())))
    halves = slice(0, None, 2), slice(1, None, 2)
    chosen = np.empty_like(next(iter(scores_by_attack.values())), dtype=float)
    for here, other in (halves, halves[::-1]):
        best = max(scores_by_attack, key=lambda attack: measure(scores_by_attack[attack], other))
        chosen[here] = (rankdata(scores_by_attack[best]) / scores_by_attack[best].size).reshape(count, -1)[here]
    return chosen
