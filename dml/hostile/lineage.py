"""Whose net is it? Def-KT moves nets: a receiver keeps the one that it was sent, so a liar's goes on from there."""

from collections.abc import Collection, Sequence

from dml.arms.federation import Federation

REPLACING = ("def-kt", "def-kt, as published", "def-kt, only moved", "def-kt, receiver frozen")  # keep what was sent

Moves = Sequence[tuple[int, int]]  # of a round: sender and receiver, nobody twice


def moves(fed: Federation) -> list[Moves]:
    """The nets that were sent from client to client and believed, round by round."""
    refused = {(row.round, row.client) for row in fed.rows if row.metric == "refused"}
    sent = [entry for entry in fed.post.ledger if min(entry.sender, entry.receiver) >= 0 and entry.kind == "Weights"]
    return [
        [(e.sender, e.receiver) for e in sent if e.round == index and (index, e.sender) not in refused]
        for index in fed.rounds()
    ]


def infected(rounds: Sequence[Moves], liars: Collection[int]) -> list[int]:
    """After each round, how many honest clients hold a net that descends from one that a liar sent. An honest net that
    arrives replaces such a one; whatever a liar sends is a lie.

    In expectation, with f liars of K, R rounds and s = floor(K / 2) / K: (K - f) (1 - (1 - s f / (K - 1))^R).
    """
    ill, counts = set(liars), []
    for pairs in rounds:
        for sender, receiver in pairs:
            ill = ill | {receiver} if sender in ill else ill - {receiver}
        ill |= set(liars)
        counts.append(len(ill) - len(liars))
    return counts
