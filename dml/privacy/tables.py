"""From signals to what is read: class balance, reconstruction, the price of a defence, and the verdict on claim C4."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from dml import stats
from dml.config import Experiment
from dml.privacy import balance, defences
from dml.privacy.membership_tables import STRONGEST, Arrays, Dial, title, views
from dml.privacy.rates import REACH
from dml.privacy.reconstruction import ATTACKS, MEASURES
from dml.privacy.views import ADVERSARIES


def balance_table(transcripts: Mapping[tuple, Arrays]) -> pd.DataFrame:
    """The share of class 1 of every client, true, inferred and guessed from the prior.

    Columns view, federation, round, client, share, inferred, prior. Also a control, "shuffled": the losses of other
    clients.
    """
    rows: list[dict] = []
    for view, adversary in ADVERSARIES.items():
        recorded = [
            transcript
            for (dial, arm, _), transcript in transcripts.items()
            if (dial[0], arm) == ("as trained", adversary.arm)
        ]
        shares, features = (
            np.stack([transcript[name] for transcript in recorded]) for name in ("share", f"{view}/features")
        )
        rows += _infer(view, shares, features)
        if view == "losses":
            rows += _infer("shuffled", shares, np.roll(features, 1, axis=2))
    return pd.DataFrame(rows)


def _infer(view: str, shares: np.ndarray, features: np.ndarray) -> Iterator[dict]:
    federations, rounds, clients = shares.shape
    owner = np.repeat(np.arange(federations), clients)
    for now in range(rounds):
        share = shares[:, now].ravel()
        inferred, prior = balance.infer(features[:, now].reshape(len(owner), -1), share, owner)
        for i, federation in enumerate(owner):
            yield {
                "view": view,
                "federation": int(federation),
                "round": now + 1,
                "client": i % clients,
                "share": share[i],
                "inferred": inferred[i],
                "prior": prior[i],
            }


def balance_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute errors by view and round (0: all), over clients, and by how much they are below the prior's, with a
    95 % interval over federations. Columns view, round, error, prior, gain, low, high, n.
    """
    rows: list[dict] = []
    errors = table.assign(
        error=(table["inferred"] - table["share"]).abs(), guess=(table["prior"] - table["share"]).abs()
    )
    for now in (0, *sorted(table["round"].unique())):
        some = errors if now == 0 else errors[errors["round"] == now]
        for view, rows_of_view in some.groupby("view", sort=False):
            each = rows_of_view.groupby("federation")[["error", "guess"]].mean()
            gain = stats.interval(each["guess"].to_numpy() - each["error"].to_numpy())
            rows.append(
                {
                    "view": view,
                    "round": now,
                    "error": rows_of_view["error"].mean(),
                    "prior": rows_of_view["guess"].mean(),
                    "gain": gain.mean,
                    "low": gain.low,
                    "high": gain.high,
                    "n": gain.n,
                }
            )
    return pd.DataFrame(rows)


def reconstruction_table(cases_by_victim: Mapping[int, Arrays]) -> pd.DataFrame:
    """Every recovered image: attack, view, case, image, its `MEASURES`, and `recovered`: whether it is nearer its
    private image than the mean and than every public image.
    """
    rows: list[dict] = []
    for case, arrays in cases_by_victim.items():
        for attack, view in ATTACKS.items():
            for image, values in enumerate(arrays.get(f"{attack}/scores", ())):
                row = dict(zip(MEASURES, (round(float(value), 4) for value in values), strict=True))
                own, mean, nearest = (row[name] for name in MEASURES[:3])
                recovered = own > max(mean, nearest)
                rows.append(
                    {"attack": attack, "view": view, "case": case, "image": image, **row, "recovered": recovered}
                )
    return pd.DataFrame(rows)


def price_table(games: Mapping[Dial, list[Arrays]], rates: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """What leaks and what a method is worth after the attacked round, by dial and view.

    Columns dial, view, arm, defence, epsilon (of DP-SGD, else NaN), bytes of the message, accuracy, accuracy_low,
    accuracy_high and n over federations, and auc, auc_low, auc_high of the strongest attack.
    """
    rows, best = [], rates[_headline(rates)].set_index(["dial", "view"])
    for dial, games_of_dial in games.items():
        count = int(games_of_dial[0]["members"][0].sum())
        epsilon = defences.epsilon(dial[1], count, experiment) if dial[0] == "DP-SGD" else np.nan
        for view in views(games_of_dial[0]):
            plain, defence = (view, "") if view in ADVERSARIES else view.split(", ")
            arm = ADVERSARIES[plain].arm
            worth = [game.get(f"accuracy/{arm}, {defence}" if defence else f"accuracy/{arm}") for game in games_of_dial]
            accuracy = stats.interval(np.concatenate([game for game in worth if game is not None]))
            leak = best.loc[(title(dial), view)]
            rows.append(
                {
                    "dial": title(dial),
                    "view": view,
                    "arm": arm,
                    "defence": "DP-SGD" if dial[0] == "DP-SGD" else defence,
                    "epsilon": epsilon,
                    "bytes": games_of_dial[0].get(f"bytes/{view}", [np.nan])[0],
                    "accuracy": accuracy.mean,
                    "accuracy_low": accuracy.low,
                    "accuracy_high": accuracy.high,
                    "n": accuracy.n,
                    "auc": leak["value"],
                    "auc_low": leak["low"],
                    "auc_high": leak["high"],
                }
            )
    return pd.DataFrame(rows).round(6)


def _headline(rates: pd.DataFrame, metric: str = "auc", candidates: str = "all", against: str = "members") -> pd.Series:
    """Which rows are those of the strongest attack."""
    wanted = {"attack": STRONGEST, "metric": metric, "candidates": candidates, "against": against}
    return np.logical_and.reduce([rates[column] == value for column, value in wanted.items()])


def verdict(rates: pd.DataFrame, errors: pd.DataFrame, pictures: pd.DataFrame, price: pd.DataFrame) -> pd.DataFrame:
    """One row a view: who holds it, bytes, and what was found there, from the other tables.

    auc, low, high, tpr, canaries (AUC), detects (the AUC that this probe would find four times in five) of the
    strongest attack as trained; overfit, the same attack's AUC where it must be found; untrained and wrong, where it
    must not; balance and prior, the mean absolute errors over all rounds, with the gain's low; recovered, of how many
    images; better, the largest mean gain in dB over the mean image of an attack from this view.
    """
    rows: list[dict] = []
    for view, adversary in ADVERSARIES.items():
        rates_of_view = rates[rates["view"] == view]
        trained, overfit = (
            rates_of_view[rates_of_view["dial"] == "as trained"],
            rates_of_view[rates_of_view["dial"] == "overfit"],
        )
        main = trained[_headline(trained)].iloc[0]
        even = errors[(errors["view"] == view) & (errors["round"] == 0)].iloc[0]
        pictures_of_view = pictures[pictures["view"] == view]
        gains = (
            (pictures_of_view["psnr"] - pictures_of_view["psnr of the mean"]).groupby(pictures_of_view["attack"]).mean()
        )
        cost = price[(price["view"] == view) & (price["dial"] == "as trained")].iloc[0]
        rows.append(
            {
                "view": view,
                "arm": adversary.arm,
                "adversary": adversary.who,
                "bytes": int(cost["bytes"]),
                "accuracy": cost["accuracy"],
                **{name: main[name if name != "auc" else "value"] for name in ("auc", "low", "high", "n", "trials")},
                "detects": 0.5 + REACH * main["error"],
                "tpr": trained[_headline(trained, "tpr")].iloc[0]["value"],
                "canaries": trained[_headline(trained, candidates="canaries")].iloc[0]["value"],
                "overfit": overfit[_headline(overfit)].iloc[0]["value"],
                "wrong": trained[_headline(trained, against="wrong model")].iloc[0]["value"],
                "balance": even["error"],
                "prior": even["prior"],
                "balance_gain_low": even["low"],
                "recovered": int(pictures_of_view["recovered"].sum()),
                "images": len(pictures_of_view),
                "better": gains.max() if len(gains) else np.nan,
            }
        )
    return pd.DataFrame(rows).round(6)
