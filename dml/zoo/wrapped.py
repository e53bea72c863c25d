"""Any module as a client's model: its randomness is the client's, and what does not fit is said in one line."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dml.models import Net, outputs
from dml.zoo.nets import Maker

TRIED = 2  # images with which a new model is tried


class Drop(nn.Module):
    """Stands in for `nn.Dropout`: what is kept is drawn from the generator it was handed for this step."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        self.rng: np.random.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.rng is None:
            return x
        kept = torch.from_numpy(self.rng.random(tuple(x.shape), np.float32)).to(x.device) >= self.rate
        return x * kept / (1 - self.rate)


class Wrapped(Net):
    """A module behind the face of a `Net`."""

    def __init__(self, kind: str, size: int, classes: int, module: nn.Module):
        super().__init__(kind, size, classes)
        self.module = module
        self.drops = [drop for drop in module.modules() if isinstance(drop, Drop)]

    def forward(self, images: Tensor, masks: tuple[np.random.Generator, ...] | None = None) -> Tensor:
        self.module.train(masks is not None)
        for drop in self.drops:
            drop.rng = masks[0] if masks else None
        return self.module(images)

    def dropout_masks(self, count: int, rng: np.random.Generator, device: torch.device) -> tuple:
        """The generator itself: only the module knows the shapes."""
        return (rng,)


def wrap(make: Maker, kind: str, size: int, classes: int, rng: np.random.Generator) -> Net:
    """The module that `make(size, logits)` returns, with first weights that depend on `rng` alone.

    Raises ValueError when it is no module, has a dropout other than `nn.Dropout`, or does not map float
    [N, 3, size, size] to [N, logits].
    """
    with _seeded(rng):
        module = make(size, outputs(classes))
    if not isinstance(module, nn.Module):
        raise ValueError(f"model {kind!r} returned a {type(module).__name__}; expected a torch.nn.Module")
    for name, layer in list(module.named_modules(remove_duplicate=False)):  # also a layer that has several names
        if isinstance(layer, nn.Dropout):
            parent, _, last = name.rpartition(".")
            if not name:
                raise ValueError(f"model {kind!r} is nothing but a dropout layer")
            setattr(module.get_submodule(parent), last, Drop(layer.p))
        elif isinstance(layer, nn.modules.dropout._DropoutNd):  # draws from torch's global generator
            raise ValueError(f"model {kind!r} has a {type(layer).__name__}; of dropout layers only nn.Dropout is known")
    model = Wrapped(kind, size, classes, module.float())
    shape = (TRIED, outputs(classes))
    try:
        with torch.no_grad():
            logits = model(torch.zeros(TRIED, 3, size, size))
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"model {kind!r} cannot take images [{TRIED}, 3, {size}, {size}]: {reason}") from error
    if not isinstance(logits, Tensor) or tuple(logits.shape) != shape:
        got = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(f"model {kind!r} returned {got}, expected logits {list(shape)} for {classes} classes")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"model {kind!r} has no parameter to train")
    return model


def own(path: str) -> Maker:
    """The function `make(size, logits)` that "package.module:function" names. Raises ValueError for none."""
    module, _, name = path.partition(":")
    try:
        make = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"model {path!r} cannot be imported ({error}); expected package.module:function") from error
    if not callable(make):
        raise ValueError(f"model {path!r} is no function; expected one of the image size and the number of logits")
    return make


def sources(kinds: str) -> list[str]:
    """SHA-256 of the file of each user's own module in a list of kinds ("package.module:function,resnet8"): it decides
    results as the code here does. Raises ValueError for a module that there is not.
    """
    found = []
    for path in (kind for kind in kinds.split(",") if ":" in kind):
        try:
            spec = find_spec(path.partition(":")[0])
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.has_location or spec.origin is None:
            raise ValueError(f"model {path!r} cannot be imported; expected package.module:function")
        found.append(hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest())
    return found


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """Let modules that draw their weights from torch's global generator draw them from `rng`; leaves it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**62)))
        yield
