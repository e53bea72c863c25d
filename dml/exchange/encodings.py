"""Saying less: one ladder of encodings behind one interface, from float32 numbers down to one bit each.

An encoding turns one float32 tensor into named parts (`pack`) and back (`unpack`). Quantisers cut the numbers' domain
into 2^b equal cells and send the cell; the receiver reads its midpoint. The domain is [0, 1] for probabilities, and for
losses -log p through p, so that a midpoint is never a certainty; for weights and sums it is the tensor's own range,
which is sent along. `top` sends the share of numbers that is largest in magnitude, for updates of weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Parts = Mapping[str, np.ndarray]
LARGEST = 2**27  # numbers in a tensor that a receiver makes room for: 0.5 GB, above any model here

TO_UNIT = {"loss": lambda x: np.exp(-x), "unit": lambda x: x}
FROM_UNIT = {"loss": lambda p: -np.log(p), "unit": lambda p: p}


@dataclass(frozen=True)
class Encoding:
    """`pack(values, domain)` gives parts, `unpack(parts, count, domain)` the values, float32 [count].

    `domain` is "loss", "unit" or "range". `unpack` raises ValueError, with the reason, for parts that `pack` cannot
    make.
    """

    pack: Callable[[np.ndarray, str], Parts]
    unpack: Callable[[Parts, int, str], np.ndarray]


def pack_bits(cells: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [ceil(count * bits / 8)] from cells, uint8 [count] below 2^bits: the highest bit first."""
    return np.packbits(np.unpackbits(cells[:, None], axis=1)[:, 8 - bits :])


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The reverse of `pack_bits`, uint8 [count]. Raises ValueError when `packed` has another length or stray bits."""
    if packed.shape != (-(-count * bits // 8),):
        raise ValueError(f"{packed.size} bytes for {count} numbers of {bits} bits")
    flat = np.unpackbits(packed)
    if flat[count * bits :].any():
        raise ValueError("bits are set after the last number")
    padded = np.zeros((count, 8), np.uint8)
    padded[:, 8 - bits :] = flat[: count * bits].reshape(count, bits)
    return np.packbits(padded)


def cells_of(values: np.ndarray, bits: int, domain: str, bounds: Sequence[float] | np.ndarray = (0, 1)) -> np.ndarray:
    """The cell of each value, uint8; `bounds` [2] is the range when the domain is "range"."""
    if domain == "range":
        low, high = (float(bound) for bound in bounds)
        unit = (values - low) / (high - low) if high > low else np.zeros_like(values)
    else:
        unit = TO_UNIT[domain](values)
    return np.floor(unit * 2**bits).clip(0, 2**bits - 1).astype(np.uint8)


def midpoints(cells: np.ndarray, bits: int, domain: str, bounds: Sequence[float] | np.ndarray = (0, 1)) -> np.ndarray:
    """The values that cells are read as, float32."""
    unit = (cells.astype(np.float64) + 0.5) / 2**bits
    if domain == "range":
        low, high = (float(bound) for bound in bounds)
        return (low + unit * (high - low)).astype(np.float32)
    return FROM_UNIT[domain](unit).astype(np.float32)


def _bounds(parts: Parts) -> np.ndarray:
    bounds = _part(parts, "range", np.float32, 2)
    if bounds[0] > bounds[1]:
        raise ValueError(f"the range ends at {bounds[1]} before it begins at {bounds[0]}")
    return bounds


def _part(parts: Parts, name: str, dtype: type, count: int | None = None) -> np.ndarray:
    """A part, checked. Raises ValueError."""
    if name not in parts:
        raise ValueError(f'no part "{name}"; there are {", ".join(parts) or "none"}')
    part = parts[name]
    if part.dtype != dtype or part.ndim != 1 or (count is not None and len(part) != count):
        expected = f"{np.dtype(dtype)}{'' if count is None else f' [{count}]'}"
        raise ValueError(f'part "{name}" is {part.dtype} {list(part.shape)}, expected {expected}')
    if part.dtype.kind == "f" and not np.isfinite(part).all():
        raise ValueError(f'part "{name}" has a value that is not finite')
    return part


def number(dtype: type) -> Encoding:
    """Every number as a float of another width."""

    def pack(values: np.ndarray, domain: str) -> Parts:
        largest = np.finfo(dtype).max
        return {"": values.clip(-largest, largest).astype(dtype)}

    def unpack(parts: Parts, count: int, domain: str) -> np.ndarray:
        return _part(parts, "", dtype, count).astype(np.float32)

    return Encoding(pack, unpack)


def levels(bits: int) -> Encoding:
    """Every number as one of 2^bits midpoints; 1 bit of a two-class prediction is a hard label."""

    def pack(values: np.ndarray, domain: str) -> Parts:
        if domain != "range":
            return {"": pack_bits(cells_of(values, bits, domain), bits)}
        bounds = np.array([values.min(), values.max()] if values.size else [0, 0], np.float32)
        return {"": pack_bits(cells_of(values, bits, domain, bounds), bits), "range": bounds}

    def unpack(parts: Parts, count: int, domain: str) -> np.ndarray:
        bounds = _bounds(parts) if domain == "range" else (0, 1)
        return midpoints(unpack_bits(_part(parts, "", np.uint8), bits, count), bits, domain, bounds)

    return Encoding(pack, unpack)


def sparse(share: float | None) -> Encoding:
    """The `share` of numbers that is largest in magnitude, at least one, as (index, float32); None: all but zeros."""

    def pack(values: np.ndarray, domain: str) -> Parts:
        keep = np.count_nonzero(values) if share is None else max(1, round(share * values.size))
        size = torch.from_numpy(np.abs(values))
        index = np.sort(size.topk(min(int(keep), values.size)).indices.numpy()).astype(np.int32)
        return {"": values[index], "index": index}

    def unpack(parts: Parts, count: int, domain: str) -> np.ndarray:
        index = _part(parts, "index", np.int32)
        values = _part(parts, "", np.float32, len(index))
        if len(index) and (index[0] < 0 or index[-1] >= count or (np.diff(index) <= 0).any()):
            raise ValueError(f"indices must rise strictly and stay below {count}")
        full = np.zeros(count, np.float32)
        full[index] = values
        return full

    return Encoding(pack, unpack)


ENCODINGS = {
    "float32": number(np.float32),
    "float16": number(np.float16),
    "8 bits": levels(8),
    "4 bits": levels(4),
    "1 bit": levels(1),
    "top 1 %": sparse(0.01),
    "nonzero": sparse(None),
}
# What the server answers with: a sum of coarse numbers has more levels than its terms and a mean of sparse updates
# more entries, so the way down is less coarse than the way up.
ANSWER = {
    "float32": "float32",
    "float16": "float16",
    "8 bits": "8 bits",
    "4 bits": "8 bits",
    "1 bit": "8 bits",
    "top 1 %": "nonzero",
}


def pack(values: Tensor, encoding: str, domain: str) -> dict[str, Tensor]:
    """The parts of a float32 tensor of any shape under a named encoding."""
    parts = ENCODINGS[encoding].pack(values.detach().cpu().contiguous().numpy().ravel(), domain)
    return {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in parts.items()}


def unpack(parts: Mapping[str, Tensor], shape: tuple[int, ...], encoding: str, domain: str) -> Tensor:
    """The float32 tensor that `pack` was given, as far as the encoding keeps it. Raises ValueError with a reason."""
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if count > LARGEST:
        raise ValueError(f"{count} numbers; at most {LARGEST} are accepted")
    arrays = {name: part.numpy() for name, part in parts.items()}
    return torch.from_numpy(ENCODINGS[encoding].unpack(arrays, count, domain)).reshape(shape)
