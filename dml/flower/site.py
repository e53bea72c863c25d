"""What one party holds: its own folds, those it was sent, and its state from one message to the next.

A party is a `Federation` of one client (or of the server alone). Images that it does not hold are not in it.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dml.arms.federation import Federation, Row
from dml.config import Experiment
from dml.data.folds import Folds, plan, stratified
from dml.data.images import Images, Split, images_of, require
from dml.exchange.messages import Examples
from dml.files import DataError, replacing
from dml.streams import SERVER, stream
from dml.training.clients import Epoch

Fold = tuple[Tensor, Tensor]  # uint8 [n, 3, size, size] and int64 labels [n]
NONE = np.zeros(0, np.int64)


def dealt(images: Images, experiment: Experiment, seed: int) -> tuple[Fold, list[list[Fold]], list[Fold]]:
    """A named data set dealt as in the reproduction: the pre-training fold, private [round][client], public [round]."""
    whole = plan(images.train.labels.numpy(), experiment, seed)
    private = [[_cut(images, fold) for fold in folds] for folds in whole.private]
    return _cut(images, whole.pretrain), private, [_cut(images, fold) for fold in whole.public]


def own(data: str, experiment: Experiment, seed: int, party: int, folds: int) -> tuple[Images, list[Fold]]:
    """A party's own folder, dealt into so many stratified folds. Raises DataError when a class has too few images."""
    images = images_of(data, replace(experiment, train_images=0, unseen_images=0))
    require(images, folds)
    parts = stratified(images.train.labels.numpy(), folds, stream(seed, party, "folds"))
    return images, [_cut(images, part) for part in parts]


def federation(
    experiment: Experiment,
    images: Images,
    seed: int,
    party: int,
    private: Sequence[Fold] = (),
    public: Sequence[Fold] = (),
    pretrain: Fold | None = None,
) -> Federation:
    """The federation of one party: a client's `private` folds, or the server's `pretrain` fold; the `public` folds."""
    folds = [*([pretrain] if pretrain else []), *private, *public]
    pixels = [fold[0] for fold in folds] or [images.train.images[:0]]
    labels = [fold[1] for fold in folds] or [images.train.labels[:0]]
    ends = np.cumsum([0, *map(len, labels)])
    spans = iter([np.arange(begin, end) for begin, end in pairwise(ends)])
    first = next(spans) if pretrain else NONE
    own_spans = [next(spans) for _ in private] or [NONE] * experiment.rounds
    dealt_to = tuple(
        tuple(fold if client == party else NONE for client in range(experiment.clients)) for fold in own_spans
    )
    held = Folds(first, dealt_to, tuple(next(spans) for _ in public))
    train = Split(torch.cat(pixels), torch.cat(labels), (), ())
    members = () if party == SERVER else (party,)
    return Federation(experiment, replace(images, train=train), seed, folds=held, members=members)


def fold_of(message: Examples) -> Fold:
    """A fold that was received."""
    return message.images, message.labels.long()


def save(fed: Federation, file: Path, rows: list, **blobs: bytes) -> None:
    """Keep a client's model, optimiser, random states and history in a file, with rows to send and bytes to keep."""
    (client,) = fed.clients
    tensors = {f"model/{name}": each for name, each in client.model.state_dict().items()}
    for index, moments in client.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": each for name, each in moments.items()}
    facts = {
        "streams": {purpose: each.bit_generator.state for purpose, each in client.streams.items()},
        "history": [asdict(epoch) for epoch in fed.history],
        "rows": rows,
    }
    write(file, facts, blobs, tensors)


def restore(fed: Federation, file: Path) -> tuple[list, dict[str, bytes]]:
    """Put back what `save` kept, exactly; returns the rows and the bytes. Raises DataError if nothing is readable."""
    (client,), (facts, blobs, tensors) = fed.clients, read(file)
    state, moments = client.optimiser.state_dict(), defaultdict[int, dict[str, Tensor]](dict)
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimiser":
            index, _, moment = rest.partition("/")
            moments[int(index)][moment] = tensor
    client.model.load_state_dict({name[6:]: each for name, each in tensors.items() if name.startswith("model/")})
    client.optimiser.load_state_dict({**state, "state": dict(moments)})
    for purpose, each in client.streams.items():
        each.bit_generator.state = facts["streams"][purpose]
    fed.history[:] = [Epoch(**epoch) for epoch in facts["history"]]
    return facts["rows"], blobs


def write(file: Path, facts: dict, blobs: dict[str, bytes], tensors: dict[str, Tensor] | None = None) -> None:
    """Keep facts (as JSON), bytes and tensors in a safetensors file, in one step."""
    content = {f"tensor/{name}": content_of.contiguous() for name, content_of in (tensors or {}).items()}
    content |= {
        f"bytes/{name}": torch.frombuffer(bytearray(content_of), dtype=torch.uint8)
        for name, content_of in blobs.items()
    }
    with replacing(file) as part:
        save_file(content, part, {"facts": json.dumps(facts)})


def read(file: Path) -> tuple[dict, dict[str, bytes], dict[str, Tensor]]:
    """What `write` kept. Four-dimensional tensors come back channels-last, as the model has them: an optimiser goes
    through its moments and the weights side by side. Raises DataError when there is nothing readable.
    """
    blobs, tensors = {}, {}
    try:
        with safe_open(file, "pt") as opened:
            facts = json.loads(opened.metadata()["facts"])
            for name in opened.keys():  # noqa: SIM118 (no mapping)
                kind, _, rest = name.partition("/")
                tensor = opened.get_tensor(name)
                if kind == "bytes":
                    blobs[rest] = tensor.numpy().tobytes()
                else:
                    tensors[rest] = tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file} cannot be read ({error}); the run has not begun at this site") from error
    return facts, blobs, tensors


def rows_of(fed: Federation) -> list[list]:
    """The rows that were recorded, as JSON keeps them."""
    return [list(asdict(row).values()) for row in fed.rows]


def row(values: Sequence) -> Row:
    """A row that was received; raises ValueError or TypeError when it is none."""
    round_index, client, metric, value = values
    return Row(int(round_index), int(client), str(metric), float(value))


def _cut(images: Images, fold: np.ndarray) -> Fold:
    indices = torch.from_numpy(fold)
    return images.train.images[indices], images.train.labels[indices]
