"""Models other than VisionNet, all without batch normalisation: four of the literature's, and users' own.

Of torchvision where it serves. What torch would draw from its global random state comes from the generator at hand:
first weights, and the masks of dropout.
"""

import numpy as np

from dml.models import Net
from dml.zoo import nets, wrapped


def build(kind: str, size: int, classes: int, rng: np.random.Generator) -> Net:
    """A model of `nets.NETS` by name, or a user's own by "package.module:function" (see `wrapped.own`).

    Raises ValueError for an unknown name, and for a model that does not map images of this size to logits.
    """
    if ":" in kind:
        return wrapped.wrap(wrapped.own(kind), kind, size, classes, rng)
    if kind not in nets.NETS:
        known = ", ".join(("visionnet", "visionnet-half", "visionnet-quarter", *nets.NETS))
        raise ValueError(f"model {kind!r}: choose one of {known}, or give your own as package.module:function")
    return wrapped.wrap(nets.NETS[kind], kind, size, classes, rng)
