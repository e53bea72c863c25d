"""How many of a client's private images are of class 1? Regression from what a round's messages say of the client.

Whole federations run over several rounds whose private folds differ in class balance: every client draws the share of
class 1 in each of its folds anew. The arms run as they are, with a tap on the wire; a round's messages become the
numbers by which balance and, in `membership.fedmia`, membership across rounds are attacked.

The idea of label distribution inference (Shi et al. 2025, arXiv 2502.08001): a model that saw more of a class leans to
it everywhere, and the public fold shows how much.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from dml.arms.catalogue import ARMS
from dml.arms.federation import Federation
from dml.config import Experiment
from dml.data.folds import Folds, split_fold
from dml.data.images import Images, images_of
from dml.files import DataError
from dml.losses import log_probabilities
from dml.privacy.shadows import Engine, log_odds
from dml.privacy.surrogate import TangentCopier, known_logits
from dml.privacy.views import ADVERSARIES, Adversary, Known, Tap
from dml.streams import SERVER, stream
from dml.training import workers
from dml.training.memory import carry_out

QUANTILES = 0.1, 0.5, 0.9
ALPHAS = np.logspace(-2, 4, 13)


def balance_features(tables: Sequence[Tensor], labels: Tensor, biases: Sequence[Tensor] = ()) -> Tensor:
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
    rows_of_clients = torch.stack(rows)
    return torch.cat((rows_of_clients, rows_of_clients - rows_of_clients.mean(0)), dim=1)


def infer(features: np.ndarray, share: np.ndarray, federation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of class 1 of each client, [n], as inferred from its features [n, F] and as guessed from the prior: a
    regression on the clients of all *other* federations, and their mean.
    """
    model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS))
    inferred = cross_val_predict(model, features, share, groups=federation, cv=LeaveOneGroupOut())
    prior = np.array([share[federation != other].mean() for other in federation])
    return np.clip(inferred, 0, 1), prior


SHARES = 0.4, 1.6  # of class 1 in a private fold, in units of its even share: 20 to 80 % of two classes


def transcript(name: str, experiment: Experiment, rounds: int, seed: int, arm: str, engine: Engine, device) -> dict:
    """One federation of an arm for `rounds` rounds; tensors whose first dimensions are rounds and clients:

    "share" [R, K], the true share of class 1 among a client's training images; "<view>/features" [R, K, F];
    "members" [R, K, n], which images of its fold trained a client; and, where uploads are seen, "<view>/odds"
    [R, R, K, K n]: the log-odds, at the end of round t, of client j's model for all images of round r (NaN if unknown).
    """
    fed, tap = _federation(images_of(name, experiment), experiment, rounds, seed, device)
    initial = _run(arm, fed, rounds, engine)
    share = experiment.asynchronous_share if arm == "asynchronous" else experiment.train_share
    folds = [[fed.private(round_index, client) for client in fed.clients] for round_index in range(1, rounds + 1)]
    trained = [[split_fold(fold, share)[0] for fold in each] for each in folds]
    tensors = {
        "share": torch.stack([torch.stack([(fed.labels[i] == 1).float().mean() for i in each]) for each in trained]),
        "members": torch.arange(len(folds[0][0])).expand(rounds, len(fed.clients), -1) < len(trained[0][0]),
    }
    for view, adversary in ADVERSARIES.items():
        if adversary.arm == arm:
            features, odds = _read(fed, tap, adversary, initial, folds)
            tensors[f"{view}/features"] = features
            if adversary.uploads:
                tensors[f"{view}/odds"] = odds
    return {key: value.cpu() for key, value in tensors.items()}


def _federation(images: Images, experiment: Experiment, rounds: int, seed: int, device) -> tuple[Federation, Tap]:
    """A federation with skewed private folds as large as the experiment's, and the tap on its wire."""
    labels, size = images.train.labels.numpy(), len(images.train) // experiment.folds
    classes, rng, clients = len(images.classes), stream(seed, SERVER, "game"), experiment.clients
    decks = [rng.permutation(np.flatnonzero(labels == label)) for label in range(classes)]

    def fold(share: float) -> np.ndarray:
        wanted = np.array_split(np.arange(size - round(share * size)), classes - 1)
        counts = [len(row) for row in wanted]
        counts.insert(1, round(share * size))
        taken = [deck[:count] for deck, count in zip(decks, counts, strict=True)]
        for label, count in enumerate(counts):
            if len(decks[label]) < count:
                title = images.classes[label]
                raise DataError(f'the probe of class balance has used up the images of class "{title}": add images')
            decks[label] = decks[label][count:]
        return rng.permutation(np.concatenate(taken))

    even = 1 / classes
    shares = rng.uniform(SHARES[0] * even, SHARES[1] * even, (rounds, clients))
    pretrain, public = fold(even), tuple(fold(even) for _ in range(rounds))
    private = tuple(tuple(fold(share) for share in row) for row in shares)
    tap = Tap()
    one_more = replace(experiment, rounds=rounds + 1, glance=0)  # never begins, so that nothing is evaluated
    fed = Federation(one_more, images, seed, device, tap)
    fed.folds = Folds(pretrain, (*private, private[-1]), (*public, public[-1]))
    return fed, tap


def _run(arm: str, fed: Federation, rounds: int, engine: Engine) -> dict[str, Tensor]:
    """The rounds of an arm; returns the public model that all clients started from."""
    initial = {}
    for fits in ARMS[arm](fed):
        if fits[0].round > rounds:
            break
        (engine if fits[0].phase == "local" else carry_out)(fits)
        if fits[0].phase == "pretrain":
            initial = {name: value.clone() for name, value in fed.server.parameters().items()}
        workers.advance()
    return initial


def _read(fed: Federation, tap: Tap, adversary: Adversary, initial: dict, folds: list) -> tuple[Tensor, Tensor]:
    """An adversary's features and log-odds (see `transcript`); of partial weights the last seen of every layer."""
    rounds, clients = len(folds), len(fed.clients)
    seen: list[dict[str, Tensor]] = [{} for _ in range(clients)]
    places = [torch.from_numpy(np.concatenate(each)).to(fed.device) for each in folds]
    odds = torch.full((rounds, rounds, clients, len(places[0])), torch.nan, device=fed.device)
    features, each = [], len(tap.sent) // rounds
    for now in range(rounds):
        public = torch.from_numpy(fed.folds.public[now]).to(fed.device)
        known = Known(fed.experiment, len(fed.images.classes), initial, fed.train[public], fed.labels[public])
        view = adversary.view(tap.sent[now * each : (now + 1) * each], known)
        tables, biases, copier = [], [], None
        for client in range(clients):
            values = view.weights(client)
            if values is None:
                tables.append(view.table(client))
                if adversary.uploads:
                    copier = copier or TangentCopier(known, fed.train[places[now]])
                    logits = copier.logits(tables[-1])
                    odds[now, now, client] = log_odds(log_probabilities(logits), fed.labels[places[now]])
                continue
            seen[client] |= values
            model = known.model(seen[client])
            tables.append(log_probabilities(known_logits(model, known, known.public)))
            biases.append(model.dense2.bias.detach())
            for past in range(now + 1) if adversary.uploads else ():
                logits = known_logits(model, known, fed.train[places[past]])
                odds[now, past, client] = log_odds(log_probabilities(logits), fed.labels[places[past]])
        features.append(balance_features(tables, known.labels, biases))
    return torch.stack(features), odds
