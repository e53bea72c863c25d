"""From everybody's predictions to each client's table of its peers: one server's sum, or the same by longer ways.

`add_up` and `peers_of` are what the arms use: K messages go up, one sum comes down, and each client takes its own
contribution out. `TOPOLOGIES` are whole exchanges by that way and by the two that a literal reading of the paper
allows, where every client gets the K - 1 tables of its peers, forwarded by a server or sent by them. All three end in
the same tables.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dml.exchange.ledger import Post
from dml.exchange.messages import FLOOR, Aggregate, Chosen, Losses, Predictions
from dml.losses import contribution, without_own
from dml.streams import SERVER

Upload = Losses | Predictions | Chosen
PeerTables = dict[int, Tensor]  # of each client, the mean contribution of its peers [N, columns]
Sum = tuple[PeerTables, Aggregate | None]


def add_up(form: str, received: Sequence[Upload], labels: Tensor, clip: float = FLOOR) -> Sum:
    """The contribution of every client that was believed, of probabilities no lower than `clip`, and the server's sum
    of them; nothing ({}, None) when fewer than two were: a sum of one is no sum.
    """
    contributions = {said.sender: contribution(form, said.log_probabilities(labels, clip)) for said in received}
    if len(contributions) < 2:
        return {}, None
    total = torch.stack(list(contributions.values())).sum(0)
    return contributions, Aggregate(round=received[0].round, sender=SERVER, total=total, clients=len(contributions))


def peers_of(own: Tensor, down: Aggregate) -> Tensor:
    """The mean contribution of a client's peers: its own leaves the sum. Only who is in the sum can use it; a client
    that was not believed refines with the labels alone.
    """
    return without_own(down.total, own, down.clients)


def chosen_peers_of(own: Tensor, down: Aggregate, fallback: Tensor) -> Tensor:
    """The same where clients sent only some images: `own` and the sum have a last column that counts the senders
    (`Chosen.log_probabilities`). Where no peer sent an image, `fallback`, the client's own log-predictions, stands in.
    """
    others = down.total - own
    count = others[:, -1:].round()
    return torch.where(count > 0.5, others[:, :-1] / count.clamp_min(1), fallback)


def by_sum(messages: Sequence[Upload], labels: Tensor, form: str, post: Post) -> PeerTables:
    """A server adds up and sends one sum to all: 2 K messages, and what a client gets does not grow with K."""
    received = [post.carry(message, [SERVER]) for message in messages]
    contributions, total = add_up(form, received, labels)
    if total is None:
        return {}
    down = post.carry(total, contributions)
    return {client: peers_of(own, down) for client, own in contributions.items()}


def by_copies(messages: Sequence[Upload], labels: Tensor, form: str, post: Post) -> PeerTables:
    """A server forwards every message to all other clients: K up and K (K - 1) down."""
    received = [post.carry(message, [SERVER]) for message in messages]
    clients = [message.sender for message in received]
    for message in received:
        others = [client for client in clients if client != message.sender]
        post.enter(message, message.encode(), others, sender=SERVER)
    return _means(form, received, labels)


def by_peers(messages: Sequence[Upload], labels: Tensor, form: str, post: Post) -> PeerTables:
    """No server: every client sends its message to every other, K (K - 1) messages."""
    clients = [message.sender for message in messages]
    received = [post.carry(message, [c for c in clients if c != message.sender]) for message in messages]
    return _means(form, received, labels)


def _means(form: str, received: Sequence[Upload], labels: Tensor) -> PeerTables:
    """What each client computes from the messages of all others; their tables are decoded once for all."""
    shares = torch.stack([contribution(form, message.log_probabilities(labels)) for message in received])
    return {
        message.sender: torch.cat((shares[:position], shares[position + 1 :])).mean(0)
        for position, message in enumerate(received)
    }


TOPOLOGIES: dict[str, Callable[[Sequence[Upload], Tensor, str, Post], PeerTables]] = {
    "server, one sum": by_sum,
    "server, forwarding": by_copies,
    "peer to peer": by_peers,
}
