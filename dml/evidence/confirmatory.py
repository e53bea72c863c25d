"""What decides in a study of the analysis plan, and what is told beside it: which seeds count, the secondary measures,
and unseen images as a second source of chance. The comparisons themselves are `accuracy.claims`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dml.evidence.accuracy import values
from dml.files import read_table
from dml.stats import LEVEL, Estimate, columns, interval
from dml.studies.plan import Study
from dml.studies.study import TABLES

SECONDARY = {  # measure: (of which metric, of its clients)
    "last round": ("unseen accuracy", "mean"),
    "log loss": ("unseen log loss", "mean"),
    "calibration error": ("unseen calibration error", "mean"),
    "AUC": ("unseen auc", "mean"),
    "worst client, last round": ("unseen accuracy", "min"),
    "private validation images": ("validation accuracy", "mean"),
}
RESAMPLES, BLOCK = 9999, 500


def decisive(study: Study, folder: Path) -> pd.DataFrame:
    """The results of a study's confirmatory seeds that are complete, from its tables in `folder`; none yet, no rows."""
    file = folder / TABLES["results"]
    if not file.is_file():
        return pd.DataFrame(columns=["seed", "arm", "round", "client", "metric", "value"])
    return complete(read_table(file), study, study.confirmatory)


def complete(results: pd.DataFrame, study: Study, seeds: Sequence[int]) -> pd.DataFrame:
    """The results of those seeds that have every arm of the study: all comparisons then stand on the same seeds."""
    arms = results[results["seed"].isin(seeds)].groupby("seed")["arm"].agg(set)
    whole = [seed for seed, done in arms.items() if done >= set(study.arms)]
    return results[results["seed"].isin(whole)]


def secondary(results: pd.DataFrame, against: Sequence[str] = ("fedavg", "asynchronous")) -> pd.DataFrame:
    """What is told beside the primary endpoint and decides nothing: columns measure, against, mean, low, high, n of
    DML's paired difference.
    """
    rows = []
    for measure, (metric, of_clients) in SECONDARY.items():
        table = values(results, metric, of_clients)
        for arm in against:
            rows.append({"measure": measure, "against": arm, **columns(interval(table["dml"] - table[arm]))})
    return pd.DataFrame(rows)


def by_image(right: pd.DataFrame) -> dict[tuple[int, str], np.ndarray]:
    """For each (seed, arm) the share of models and late rounds that are right on each unseen image [N]."""
    shares: dict[tuple[int, str], list[np.ndarray]] = {}
    for row in right.itertuples():
        counts = np.array(str(row.right).split(), float)
        shares.setdefault((row.seed, row.arm), []).append(counts / row.models)
    return {pair: np.mean(rounds, axis=0) for pair, rounds in shares.items()}


def without(
    shares: dict[tuple[int, str], np.ndarray], seeds: Sequence[int], copies: Sequence[int], against: str
) -> Estimate:
    """DML's late accuracy minus another arm's on the unseen images that are no `copies` of another one."""
    gaps = [np.delete(shares[seed, "dml"] - shares[seed, against], copies).mean() for seed in seeds]
    return interval(np.array(gaps))


def by_seed_and_image(
    shares: dict[tuple[int, str], np.ndarray], seeds: Sequence[int], against: Sequence[str]
) -> np.ndarray:
    """DML's shares minus those of each other arm [A, S, N], by arm, seed and image."""
    return np.stack([[shares[seed, "dml"] - shares[seed, arm] for seed in seeds] for arm in against])


def crossed(differences: np.ndarray) -> np.ndarray:
    """The 95 % intervals [A, 2] of the means of A tables [A, S, N] when seeds *and* unseen images are drawn anew,
    independently of each other, the same for all tables (the pigeonhole bootstrap, Owen 2007).
    """
    tables, seeds, images = differences.shape
    rng, means = np.random.default_rng(0), []
    for start in range(0, RESAMPLES, BLOCK):
        count = min(BLOCK, RESAMPLES - start)
        drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), count) / seeds
        seen = rng.multinomial(images, np.full(images, 1 / images), count) / images
        by_seed = (seen @ differences.reshape(-1, images).T).reshape(count, tables, seeds)
        means.append(np.einsum("bs,bas->ba", drawn, by_seed))
    tail = (1 - LEVEL) / 2
    return np.quantile(np.concatenate(means), (tail, 1 - tail), axis=0).T
