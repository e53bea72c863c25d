"""Train many same-shaped clients at once: their models become one batched model (`torch.func`), for clients and seeds.

An engine that was measured and is not used: processes that run the loop are faster, on a CPU and on a GPU. Its
arithmetic is the loop's (`clients.fit_one`), image for image and mask for mask; sums run in another order, so results
agree to rounding.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.utils.rnn import pad_sequence

from dml.training.clients import Client, Epoch, Fit, adam, autocast, correct, fit_one, objective, to_float
from dml.zoo.wrapped import Wrapped


def fit_all(fits: Sequence[Fit]) -> list[list[Epoch]]:
    """The histories of all fits, in their order; those that can share a stack do."""
    stacks = defaultdict(list)
    histories: dict[int, list[Epoch]] = {}
    for position, fit in enumerate(fits):
        if not isinstance(fit.client.model, Wrapped):  # which may keep statistics: a batch of models cannot
            stacks[_signature(fit)].append(position)
        else:
            histories[position] = fit_one(fit)
    for positions in stacks.values():
        histories.update(zip(positions, fit_stack([fits[p] for p in positions]), strict=True))
    return [histories[position] for position in range(len(fits))]


def _signature(fit: Fit) -> tuple:
    """Clients may share a stack when their steps correspond one to one."""
    model, batch = fit.client.model, fit.client.experiment.batch
    steps_so_far = 0 if fit.public else _steps(fit.client)
    steps = -(-len(fit.labels) // batch)
    shared = model.kind, model.size, model.classes, fit.phase, steps, steps_so_far, fit.form, fit.table is None
    return *shared, fit.labelled, fit.epochs, fit.learning_rate, fit.proximal


def fit_stack(fits: Sequence[Fit]) -> list[list[Epoch]]:
    """Train M clients in lockstep; every client's model and optimiser end as if it had been trained alone."""
    clients, first = [fit.client for fit in fits], fits[0]
    experiment, device, model = first.client.experiment, first.client.device, first.client.model
    names = [name for name, _ in model.named_parameters()]
    stacked = {name: torch.stack([c.parameters()[name] for c in clients]).requires_grad_() for name in names}
    optimiser = first.optimiser(stacked.values()) if first.public else adam(stacked.values(), experiment)
    if not first.public:
        _load_moments(optimiser, stacked, clients)
    began = [parameter.detach().clone() for parameter in stacked.values()] if first.proximal else []

    def forward(parameters, images, masks):
        return functional_call(model, parameters, (images, masks))

    histories: list[list[Epoch]] = [[] for _ in fits]
    for epoch in first.length:
        losses, right = [], []
        for batches in zip(*(fit.batches() for fit in fits), strict=True):
            indices = [index for index, _ in batches]
            here = pad_sequence([torch.ones(len(i), device=device) for i in indices], batch_first=True)
            images = _pad([fit.images[i] for fit, i in zip(fits, indices, strict=True)])
            labels = _pad([fit.labels[i] for fit, i in zip(fits, indices, strict=True)])
            table = None
            if first.table is not None:
                table = _pad([fit.table[i] for fit, i in zip(fits, indices, strict=True) if fit.table is not None])
            masks = tuple(_pad(list(parts)) for parts in zip(*(m for _, m in batches), strict=True))
            with autocast(device, experiment):
                logits = vmap(forward)(stacked, to_float(images), masks)
            loss = (objective(first, logits, labels, table) * here).sum(1) / here.sum(1)
            for now, then in zip(stacked.values(), began, strict=False):
                loss = loss + first.proximal / 2 * (now - then).square().flatten(1).sum(1)
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()  # models share no parameter, so each gets its own gradient
            optimiser.step()
            losses.append(loss.detach())
            right.append((correct(logits.detach(), labels) * here).sum(1))
        mean_loss = torch.stack(losses).mean(0).tolist()
        accuracy = torch.stack(right).sum(0).tolist()
        for row, fit in enumerate(fits):
            share = accuracy[row] / len(fit.labels)
            histories[row].append(Epoch(fit.round, fit.phase, epoch, fit.client.index, mean_loss[row], share))
    _unstack(optimiser, stacked, clients, keep_moments=not first.public)
    return histories


def _pad(parts: list[Tensor]) -> Tensor:
    """[M, longest, ...]: batches of one stack differ by an image or two; padding has no weight in the loss."""
    return pad_sequence(parts, batch_first=True)


def _steps(client: Client) -> int:
    state = client.optimiser.state.get(next(client.model.parameters()))
    return int(state["step"]) if state else 0


def _load_moments(optimiser, stacked: dict[str, Tensor], clients: Sequence[Client]) -> None:
    if _steps(clients[0]) == 0:
        return
    for name, parameter in stacked.items():
        states = [c.optimiser.state[dict(c.model.named_parameters())[name]] for c in clients]
        optimiser.state[parameter] = {
            "step": states[0]["step"].clone(),
            "exp_avg": torch.stack([s["exp_avg"] for s in states]),
            "exp_avg_sq": torch.stack([s["exp_avg_sq"] for s in states]),
        }


def _unstack(optimiser, stacked: dict[str, Tensor], clients: Sequence[Client], keep_moments: bool) -> None:
    for row, client in enumerate(clients):
        client.load({name: parameter.detach()[row] for name, parameter in stacked.items()})
        for name, parameter in client.model.named_parameters() if keep_moments else ():
            state = optimiser.state[stacked[name]]
            client.optimiser.state[parameter] = {
                "step": state["step"].clone(),
                "exp_avg": state["exp_avg"][row].clone(memory_format=torch.preserve_format),
                "exp_avg_sq": state["exp_avg_sq"][row].clone(memory_format=torch.preserve_format),
            }
