"""Reconstruction, view by view: what each attack recovers of a victim's images, next to what needs no message at all.

Private images are the first of the victim's shuffled ones, never picked. Recovered images are matched to private ones
in the way that favours the attacker (one to one, best total PSNR); the yardsticks are the mean public image and the
public image nearest to the private one.
"""

from collections.abc import Mapping

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dml.losses import log_probabilities
from dml.privacy import inversion
from dml.privacy.game import VICTIM, Game, seed_of
from dml.privacy.rates import psnr, ssim
from dml.privacy.shadows import Trained, attacker, features, pick, play
from dml.privacy.surrogate import known_logits, tangent_copy
from dml.privacy.views import ADVERSARIES, Known, Tap, View
from dml.streams import SERVER, stream
from dml.training import workers
from dml.training.clients import Fit, to_float
from dml.training.memory import carry_out

BATCH = 4
STEPS = 3  # by which `attack` advances
MEASURES = ("psnr", "psnr of the mean", "psnr of the nearest public", "ssim", "ssim of the mean")
ATTACKS = {  # name: the view it starts from
    "SGD step, 1 image": "calibration",
    "SGD step, 1 image, convolutions": "calibration",
    "SGD step, 1 image, dense input": "calibration",
    "SGD step, 4 images": "calibration",
    "10 SGD steps, 1 image": "calibration",
    "10 Adam steps, 1 image": "calibration",
    "round's update": "weights",
    "round's update, dense input": "weights",
    "round's update, convolutions": "partial weights",
    "model inversion": "weights",
    "model inversion of a copy": "losses",
    "paired logits": "losses",
}
SIZES = {  # how many private images an attack aims at; all of the fold where none is said
    "SGD step, 4 images": BATCH,
    **{name: 1 for name in ATTACKS if "1 image" in name},
}


def attack(game: Game, m: int, iterations: int, update: bool, device: torch.device) -> dict[str, Tensor]:
    """Every attack on victim m, by name: "<attack>/recovered" and "<attack>/private", uint8 [k, 3, size, size], and
    "<attack>/scores" [k, measures] in the order of `MEASURES`; "error/..." of dense inputs. With `update`, also the
    slow attack on what a whole round of training changed.
    """
    facts, _ = attacker(game, device)
    seed = seed_of(game.seed, m)
    rng, model = stream(seed, SERVER, "noise"), facts.model()
    own = stream(seed, VICTIM, "game").permutation(game.pool[game.members[m]])  # the order of the fold
    pixels, labels = pick(game, own, device)
    images, public = to_float(pixels).contiguous(), to_float(facts.public).contiguous()
    one, four = (inversion.gradient(model, images[:n], labels[:n]) for n in (1, BATCH))
    dense = inversion.dense_input(one)
    found = {
        "SGD step, 1 image": inversion.match(model, one, labels[:1], iterations, rng),
        "SGD step, 1 image, convolutions": inversion.match(model, inversion.shallow(one), labels[:1], iterations, rng),
        "SGD step, 4 images": inversion.match(model, four, labels[:BATCH], iterations, rng),
        "SGD step, 1 image, dense input": inversion.from_features(model, dense, iterations, rng),
    }
    lone = game.federation(m, lambda sender, data: data, device).clients[VICTIM]
    carry_out([Fit(lone, 1, "local", pixels[:1], labels[:1])])
    plain = inversion.descent(model, images[:1], labels[:1], game.experiment.epochs)
    found["10 SGD steps, 1 image"] = inversion.match_update(model, plain, labels[:1], iterations, rng, adaptive=False)
    found["10 Adam steps, 1 image"] = inversion.match_update(model, lone.parameters(), labels[:1], iterations, rng)
    workers.advance()
    views = _views(game, m, facts, device)
    after = views["weights"].weights(VICTIM)
    before = {name: value.detach() for name, value in model.named_parameters()}
    mixture = inversion.dense_input({name: before[name] - value for name, value in after.items()})
    found["round's update, dense input"] = inversion.from_features(model, mixture, iterations, rng)
    if update:
        partial = views["partial weights"].weights(VICTIM)
        found["round's update"] = inversion.match_update(model, after, labels, iterations, rng)
        found["round's update, convolutions"] = inversion.match_update(model, partial, labels, iterations, rng)
    workers.advance()
    table, mean, classes = views["losses"].table(VICTIM), public.mean(0), range(len(game.images.classes))
    for name, surrogate in (
        ("model inversion", facts.model(after)),
        ("model inversion of a copy", tangent_copy(facts, table)),
    ):
        found[name] = torch.cat([inversion.invert_model(surrogate, mean, label, iterations) for label in classes])
    pairs = torch.stack((features(log_probabilities(known_logits(model, facts, facts.public))), features(table)), 1)
    pairs = pairs.reshape(len(public), -1)
    surest = torch.stack([pairs[facts.labels == label].mean(0) for label in classes])
    found["paired logits"] = inversion.from_logits(pairs, public, surest)
    workers.advance()

    known = model.convolve(images).detach()
    kept = {
        "error/SGD step": _error(dense, known[:1]),
        "error/round's update": _error(mixture, known),
    }
    for name, recovered in found.items():
        candidates = images[: SIZES.get(name, len(images))]
        kept |= {f"{name}/{what}": value for what, value in _judge(recovered, candidates, public, mean).items()}
    return {name: value.cpu() for name, value in kept.items()}


def others(game: Game, m: int, found: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The control: "<attack>/scores" of what `attack` recovered, as if it had aimed at as many images of the pool that
    victim m did not train on.
    """
    facts, _ = attacker(game, device)
    public, strangers = to_float(facts.public), to_float(pick(game, game.pool[~game.members[m]], device)[0])
    scores = {}
    for name in ATTACKS:
        recovered = found[f"{name}/recovered"].to(device).float() / 255
        candidates = strangers[: SIZES.get(name, len(strangers))]
        scores[f"{name}/scores"] = _judge(recovered, candidates, public, public.mean(0))["scores"]
    return scores


def _views(game: Game, m: int, facts: Known, device: torch.device) -> dict[str, View]:
    """What the server of each arm holds after the first round with victim m."""
    trained, views = Trained(carry_out), {}
    for name in ("weights", "partial weights", "losses"):
        adversary, tap = ADVERSARIES[name], Tap()
        play(adversary.arm, game.federation(m, tap, device), trained, range(game.experiment.clients))
        views[name] = adversary.view(tap.sent, facts)
    return views


def _error(vector: Tensor, known: Tensor) -> Tensor:
    """The relative error of a vector to the nearest of some known ones."""
    return ((vector - known).norm(dim=1) / known.norm(dim=1)).min().detach()


def _judge(recovered: Tensor, private: Tensor, public: Tensor, mean: Tensor) -> dict[str, Tensor]:
    found, secret, known, average = (images.cpu().numpy() for images in (recovered, private, public, mean))
    table = psnr(found[:, None], secret[None])
    rows, columns = linear_sum_assignment(-table)
    targets = secret[columns]
    scores = np.stack(
        [
            table[rows, columns],
            psnr(average, targets),
            psnr(known[None], targets[:, None]).max(1),
            [ssim(image, target) for image, target in zip(found[rows], targets, strict=True)],
            [ssim(average, target) for target in targets],
        ],
        axis=1,
    )
    images = {"recovered": found[rows], "private": targets}
    return {name: torch.from_numpy((255 * pictures).round().astype(np.uint8)) for name, pictures in images.items()} | {
        "scores": torch.from_numpy(scores.astype(np.float32))
    }
