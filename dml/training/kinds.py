"""Models by name: the one place that knows of all kinds."""

import numpy as np

from dml.models import WIDTHS, Net, VisionNet


def build(kind: str, size: int, classes: int, rng: np.random.Generator) -> Net:
    """A model by name: a width of VisionNet, one of the zoo, or a user's own as package.module:function (dml/zoo).

    Raises ValueError for an unknown name and a model that does not fit.
    """
    if kind in WIDTHS:
        return VisionNet(size, classes, rng, kind)
    from dml.zoo import catalogue  # an annex

    return catalogue.build(kind, size, classes, rng)
