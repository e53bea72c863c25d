"""One exchange of outputs with switches: DML and its relatives are settings of it (`PRESETS`).

Every client sends scores of the public images; the server pools them with weights; each client learns from the pool.

| | pool | loss | labels | sharpened | own share | weights |
|---|---|---|---|---|---|---|
| dml | log | own first | yes | no | out | equal |
| fedmd (Li, Wang 2019, 1910.03581) | logits | absolute | no | no | in | equal |
| dsfl (Itahara et al. 2021, 2008.06180) | linear | peer first | no | softmax(p / 0.1) | in | equal |
| scarlet (without its cache) | linear | peer first | no | p^2, normalised | in | equal |
| rhfl (Fang, Ye 2022) | linear | peer first | no | no | out | by the private loss's fall |
| kta (ours: weights by public loss alone) | log | peer first | no, but scored by them | no | out | by the public loss |

As the authors' code or, where that was not at hand, its description has it; what we changed for all: one exchange a
round after the private training, Adam as in DML, and DML's public epochs ("our budget") unless `epochs` says else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from dml.arms import messaging, record, steps
from dml.arms.federation import Federation
from dml.arms.relatives.messages import Scores, WeightedSum
from dml.config import CLIP
from dml.exchange.messages import MessageError, Predictions
from dml.losses import contribution, log_probabilities, model_loss
from dml.streams import SERVER
from dml.training.clients import Client, Fit, predict

Sharpen = Callable[[Tensor], Tensor]  # probabilities [N, C] -> probabilities [N, C]
Tables = dict[int, Tensor]
FORMS = {"own first": "student-first", "peer first": "peer-first", "absolute": "logits"}  # of a `Fit`


def era(temperature: float) -> Sharpen:
    """DS-FL's entropy reduction: softmax(p / T). At T = 1/2 two classes stay about as they are."""
    return lambda p: torch.softmax(p / temperature, -1)


def power(exponent: float) -> Sharpen:
    """SCARLET's: p^beta, normalised."""
    return lambda p: p**exponent / (p**exponent).sum(-1, keepdim=True)


@dataclass(frozen=True)
class Rule:
    """The switches. `merit` measures a client for the server, from its log-probabilities of the round's public images
    [N, C]; the server weighs it by softmax(merit). None: all alike. `kin`: only peers with a model of one's own kind.
    `epochs` of the public phase; None: as many as DML's.
    """

    pool: str = "log"  # what is averaged: "log" probabilities, probabilities ("linear"), or "logits"
    loss: str = "own first"  # KL(own || pool), "peer first" KL(pool || own), or "absolute" error on logits
    labels: bool = True  # whether the public labels are learned from, too
    sharpen: Sharpen | None = None
    own: bool = False  # whether a client's own share stays in its pool
    merit: Callable[[Federation, Client, int, Tensor], float] | None = None
    kin: bool = False
    epochs: int | None = None


def contributed(rule: Rule, log_p: Tensor) -> Tensor:
    """What one client adds to the pool [N, columns], from its log-probabilities (logits, for that pool).

    Where nothing is sharpened, it is the column sum of the loss's own form, so that the mean of KLs is exact.
    """
    if rule.pool == "logits":
        return log_p
    if rule.sharpen is None and rule.pool == "linear" and rule.loss == "peer first":
        return contribution("peer-first", log_p)
    return log_p if rule.pool == "log" else log_p.exp()


def learned_from(rule: Rule, pooled: Tensor) -> Tensor:
    """The table of a client's fit, from its pool [N, columns]."""
    plain = rule.pool == "linear" and rule.loss == "peer first" and rule.sharpen is None
    if rule.pool == "logits" or plain or (rule.pool == "log" and rule.loss == "own first" and rule.sharpen is None):
        return pooled
    p = torch.softmax(pooled, -1) if rule.pool == "log" else pooled
    p = rule.sharpen(p) if rule.sharpen else p
    return contribution(FORMS[rule.loss], p.clamp_min(torch.finfo(p.dtype).tiny).log())


def weights_of(merits: Sequence[float], alike: bool) -> Tensor:
    """The server's weights of the clients, which add up to 1."""
    return torch.full((len(merits),), 1 / len(merits)) if alike else torch.softmax(torch.tensor(merits), 0)


def pooled_for(rule: Rule, own: Tensor, weight: Tensor, total: Tensor) -> Tensor:
    """A client's pool, from the sum of everybody's weighted shares (the weights add up to 1) and its own share. RHFL
    leaves the weights of the others as they are when the own one goes; else they are made to add up to 1 again.
    """
    if rule.own:
        return total
    others = total - weight * own
    return others if rule.merit is private_fall else others / (1 - weight)


def exchange(fed: Federation, rule: Rule) -> Iterator[list[Fit]]:
    """Outputs exchanged by a rule, in the rounds of DML."""
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public=True)
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        tables: Tables = {}
        for _, alike in fed.groups() if rule.kin else [(None, fed.clients)]:
            tables |= _tables(fed, rule, round_index, alike)
        yield [
            replace(fit, labelled=rule.labels and fed.labelled, epochs=rule.epochs or fit.epochs)
            for fit in steps.refine(fed, round_index, FORMS[rule.loss], tables)
            if rule.labels or fit.table is not None
        ]
        record.sample_accuracy(fed, round_index)
    record.report(fed)


def _tables(fed: Federation, rule: Rule, round_index: int, clients: Sequence[Client]) -> Tables:
    """Up, pooled and down: the table of every client that was believed; none where fewer than two were."""
    received = _upload(fed, rule, round_index, clients)
    if len(received) < 2:
        return {}
    weights = weights_of([message.merit for message in received], rule.merit is None)
    shares = {message.sender: contributed(rule, _read(rule, message)) for message in received}
    total = torch.stack([w * share for w, share in zip(weights, shares.values(), strict=True)]).sum(0)
    down = WeightedSum(round=round_index, sender=SERVER, total=total, weights=weights, clients=tuple(shares))
    down = messaging.broadcast(fed, down, to=[client for client in clients if client.index in shares])
    return {
        index: learned_from(rule, pooled_for(rule, share, weight, down.total))
        for (index, share), weight in zip(shares.items(), down.weights, strict=True)
    }


def _upload(fed: Federation, rule: Rule, round_index: int, clients: Sequence[Client]) -> list[Scores]:
    """What the server believes of the clients' scores."""
    received = []
    for message in (_scores(fed, rule, client, round_index) for client in clients):
        try:
            received.append(fed.post.carry(message, [SERVER], check=partial(_check, fed, message)))
        except MessageError as refusal:
            messaging.refuse(fed, round_index, message.sender, refusal)
    return received


def _check(fed: Federation, expected: Scores, message: Scores) -> None:
    messaging.check(fed, expected, message)
    message.check(tuple(expected.values.shape))


def _scores(fed: Federation, rule: Rule, client: Client, round_index: int) -> Scores:
    logits = predict(client, fed.train[fed.public(round_index)])
    log_p = log_probabilities(logits)
    values = logits if rule.pool == "logits" else log_p.exp()
    merit = rule.merit(fed, client, round_index, log_p) if rule.merit else 0.0
    return Scores(round=round_index, sender=client.index, values=values, merit=merit)


def _read(rule: Rule, message: Scores) -> Tensor:
    """Log-probabilities as a receiver reads DML's: none below the floor. Logits stay."""
    if rule.pool == "logits":
        return message.values
    return Predictions(round=message.round, sender=message.sender, probabilities=message.values).log_probabilities()


def private_fall(fed: Federation, client: Client, round_index: int, log_p: Tensor) -> float:
    """By how much of itself a client's loss fell in its last private training (RHFL's confidence)."""
    losses = [e.loss for e in fed.history if (e.round, e.phase, e.client) == (round_index, "local", client.index)]
    return (losses[0] - losses[-1]) / max(losses[0], 1e-12) if losses else 0.0


def public_loss(fed: Federation, client: Client, round_index: int, log_p: Tensor) -> float:
    """Minus a client's mean loss on the round's labelled public images. Raises ValueError where they have no labels."""
    if not fed.labelled:
        raise ValueError("public_fold='unlabelled': this arm scores clients by the public labels")
    return -model_loss(log_p, messaging.public_labels(fed, round_index)).mean().item()


def doubt(fed: Federation, client: Client, round_index: int, log_p: Tensor) -> float:
    """Minus five times the share of the round's public images of which a client is certain, beyond the clip: certain of
    all weighs e^-5 of doubting all. Ours, against honest vetoes; the server can work it out from the scores.
    """
    return -5 * (log_p.exp().amax(-1) > 1 - CLIP).double().mean().item()


DML = Rule()
PRESETS: Mapping[str, Rule] = {
    "fedmd": Rule("logits", "absolute", labels=False, own=True),
    "dsfl": Rule("linear", "peer first", labels=False, sharpen=era(0.1), own=True),
    "scarlet": Rule("linear", "peer first", labels=False, sharpen=power(2.0), own=True),
    "rhfl": Rule("linear", "peer first", labels=False, merit=private_fall),
    "kta": Rule("log", "peer first", labels=False, merit=public_loss),
}
AUTHORS = {"fedmd": 1, "dsfl": 5, "scarlet": 5}  # public epochs of a round in the authors' code
ARMS = {name: partial(exchange, rule=rule) for name, rule in PRESETS.items()}
ARMS |= {f"{name}+labels": partial(exchange, rule=replace(rule, labels=True)) for name, rule in PRESETS.items()}
ARMS |= {f"{name}, authors'": partial(exchange, rule=replace(PRESETS[name], epochs=n)) for name, n in AUTHORS.items()}
ARMS |= {"dml, own kind": partial(exchange, rule=replace(DML, kin=True))}
ARMS |= {"dml, certain discounted": partial(exchange, rule=replace(DML, merit=doubt))}
ARMS |= {"dml, log, peer first": partial(exchange, rule=replace(DML, loss="peer first"))}
ARMS |= {"dml, linear, own first": partial(exchange, rule=replace(DML, pool="linear"))}
