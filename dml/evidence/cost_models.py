"""Models of what bytes cost elsewhere: seconds on a link, joules on a phone, other architectures, the break-even.

Nothing here was measured by this project. Seconds are bytes over the link's rate: no latency, no protocol overhead, no
loss. Joules are a published power model: P = alpha * rate + beta while the radio sends or gets, and a tail after it, in
which the radio stays awake: paid once a round, and for a message of a few hundred bytes nearly all there is to pay.
"""

from dataclasses import dataclass

import pandas as pd
import torch
from torch.nn import Module

from dml.models import VisionNet

NUMBER = 4  # bytes of a float32


@dataclass(frozen=True)
class Link:
    """Rates in Mbit/s."""

    name: str
    up: float
    down: float
    source: str

    def seconds(self, up: float, down: float) -> float:
        """Time for bytes up and then bytes down."""
        return 8e-6 * (up / self.up + down / self.down)


LINKS = (
    Link("NB-IoT", 0.062, 0.026, "Cat-NB1 peak rates, 3GPP Release 13"),
    Link("LTE-M", 0.375, 0.300, "Cat-M1 half-duplex peak rates, 3GPP Release 13"),
    Link("4G", 6, 13, "median rates, Huang et al., MobiSys 2012"),
    Link("home", 21.6, 80.2, "mean of UK homes, Ofcom, November 2020"),
    Link("author's", 30.78, 30.78, "the author's notebook on model weights, at 999d455"),
)
# The author's own estimate of what travels: the weights written out as JSON text, in bytes (same notebook).
AUTHOR_JSON = {"all": 42_066_981, "shallow": 1_235_822}


@dataclass(frozen=True)
class Radio:
    """Power of a phone's radio in mW: `up` and `down` per Mbit/s, `base` while it is active, and the energy of its
    `tail` in J (Huang et al., MobiSys 2012, the table of the power model: tail power times tail time).
    """

    name: str
    up: float
    down: float
    base: float
    tail: float

    def joules(self, link: Link, up: float, down: float) -> float:
        """Energy to send and to get so many bytes at the link's rates."""
        sending = (self.up * link.up + self.base) * link.seconds(up, 0)
        return 1e-3 * (sending + (self.down * link.down + self.base) * link.seconds(0, down))


RADIOS = {
    "4G": Radio("LTE", 438.39, 51.97, 1288.04, 1.0600 * 11.576),
    "home": Radio("Wi-Fi", 283.17, 137.01, 132.86, 0.1193 * 0.2381),
}


def architectures(size: int = 100) -> dict[str, int]:
    """Parameters of VisionNet for images of that size, and of three well-known networks, all with one output: by shape
    only, no weight is drawn for them.
    """
    from torchvision import models  # here, not above: it takes a second, which nothing else needs

    with torch.device("meta"):
        nets = {
            "VisionNet": None,
            "MobileNetV3-S": models.mobilenet_v3_small(num_classes=1),
            "ResNet-18": models.resnet18(num_classes=1),
            "ViT-B/16": models.vit_b_16(num_classes=1),
        }
    nets["VisionNet"] = VisionNet(size)
    return {name: parameters(net) for name, net in nets.items()}


def parameters(net: Module) -> int:
    return sum(tensor.numel() for tensor in net.parameters())


def losses_round(
    images: int, classes: int = 2, clients: int = 5, answer: str = "server, one sum"
) -> tuple[float, float]:
    """Payload bytes (up, down) of one DML client and round in float32: with two classes a loss an image, with more a
    probability for each class; down comes one sum of log-probabilities, or the K - 1 messages of the peers.
    """
    up = NUMBER * images * (1 if classes == 2 else classes)
    return up, NUMBER * images * classes if answer == "server, one sum" else (clients - 1) * up


def weights_round(parameters: int) -> tuple[float, float]:
    """Payload bytes (up, down) of one FedAvg client and round in float32."""
    return NUMBER * parameters, NUMBER * parameters


def images_bytes(images: int, size: int = 100) -> int:
    """Payload bytes of a public fold: uint8 pixels and a uint8 label each."""
    return images * (3 * size * size + 1)


def break_even(parameters: int, size: int = 100, classes: int = 2) -> dict[str, float]:
    """How many public images a round make one DML client's round as costly as FedAvg's: if every client has the images
    beforehand, and if fresh raw images are sent each round, as the published protocol needs.
    """
    weights, image = sum(weights_round(parameters)), sum(losses_round(1, classes))
    return {"images at hand": weights / image, "fresh images sent": weights / (image + images_bytes(1, size))}


def costs(sizes: pd.DataFrame) -> pd.DataFrame:
    """Rows of `sizes` (arm, up, down: bytes of a client and round) on every link: columns arm, link, seconds, joules,
    tail, the energy of transfer and tail (NaN where no power model is known; no tail where nothing is sent).
    """
    rows = []
    for row in sizes.itertuples():
        for link in LINKS:
            radio = RADIOS.get(link.name)
            joules = (radio.joules(link, row.up, row.down), radio.tail * (row.up > 0)) if radio else (float("nan"),) * 2
            rows.append((row.arm, link.name, link.seconds(row.up, row.down), *joules))
    return pd.DataFrame(rows, columns=["arm", "link", "seconds", "joules", "tail"])
