"""The server that chooses the public images: what it reads, and what a client can do about it.

A client of DML evaluates its model on whatever images it is sent and returns the loss of each, before it is refined on
them. A server that puts a candidate among them reads the loss of the client's private model on that candidate: what
FedAvg's server computes from the weights. It may send a near copy, so that no image is the same byte for byte.
"""

import hashlib
import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from dml.arms.federation import Federation
from dml.data.audit import NEAR, thumbnails
from dml.exchange.messages import FLOOR, MessageError
from dml.losses import contribution, log_probabilities
from dml.privacy.game import VICTIM
from dml.privacy.shadows import log_odds
from dml.training.clients import predict

QUALITY = 60  # of the re-encoded copy, as JPEG
CROP = 0.9  # of a side, kept by the cropped copy
BLUR = 1.0  # pixels, the blurred copy's standard deviation


def _encoded(images: Tensor) -> Tensor:
    """Each image through JPEG."""

    def one(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
        return np.asarray(Image.open(file))

    return torch.from_numpy(np.stack([one(image) for image in images.cpu().numpy()])).to(images.device)


def _cropped(images: Tensor) -> Tensor:
    """The middle of each image, at its size."""
    size = images.shape[1]
    edge = round(size * (1 - CROP) / 2)
    middle = images[:, edge : size - edge, edge : size - edge].permute(0, 3, 1, 2).float()
    return _bytes(interpolate(middle, size=size, mode="bilinear", align_corners=False))


def _blurred(images: Tensor) -> Tensor:
    from torchvision.transforms.functional import gaussian_blur  # here, not above: seconds, which no page needs

    return _bytes(gaussian_blur(images.permute(0, 3, 1, 2).float(), [5, 5], [BLUR, BLUR]))


def _bytes(images: Tensor) -> Tensor:
    """float [N, 3, H, W] as uint8 [N, H, W, 3]."""
    return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


COPIES: dict[str, Callable[[Tensor], Tensor]] = {  # of uint8 images [N, size, size, 3]
    "exact": lambda images: images,
    "re-encoded": _encoded,
    "cropped": _cropped,
    "mirrored": lambda images: images.flip(2),
    "blurred": _blurred,
}


def answers(fed: Federation, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What the server reads when all clients are asked about images (uint8 [N, size, size, 3]) before the refinement:
    the log-odds of the label in the victim's own message, [N], and in the sum over all clients, [N].
    """
    tables = [log_probabilities(predict(client, images)).clamp_min(np.log(FLOOR)) for client in fed.clients]
    total = torch.stack([contribution("student-first", table) for table in tables]).mean(0)
    return log_odds(tables[VICTIM], labels), log_odds(total, labels)


def pledge(images: Tensor, labels: Tensor) -> str:
    """The SHA-256 of a public fold: what a client notes before the start, for 32 bytes a fold."""
    content = images.cpu().contiguous().numpy().tobytes() + labels.cpu().to(torch.uint8).numpy().tobytes()
    return hashlib.sha256(content).hexdigest()


def require(pledged: str, images: Tensor, labels: Tensor) -> None:
    """Refuse a public fold that is not the one noted. Raises MessageError."""
    if (found := pledge(images, labels)) != pledged:
        raise MessageError(f"a public fold of SHA-256 {found[:12]}, expected {pledged[:12]}: an image was changed")


def near(images: Tensor, own: Tensor, threshold: float = NEAR) -> Tensor:
    """bool [N, n]: which images (uint8 [N, size, size, 3]) look like which of one's own, by the audit's thumbnails."""
    first, second = (thumbnails(each.permute(0, 3, 1, 2)) for each in (images, own))
    return first @ second.T >= threshold
