"""Top-k sparsification, positions and values both paid for."""

from dataclasses import dataclass
from functools import lru_cache
from math import lgamma, log
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wzfl.compressors.envelope import (
    HIGHEST_BITRATE,
    LOWEST_BITRATE,
    check_bitrate,
    checked,
    open_rows,
    seal_rows,
)
from wzfl.entropy import decode_mask, encode_mask
from wzfl.errors import InputError, PayloadError
from wzfl.public import Public

_SCALE_BYTES = 4


@dataclass(frozen=True)
class TopK:
    """The k coordinates of largest magnitude; the rest decode to zero. Biased.

    Positions are entropy coded, near log2 C(dim, k) bits. k is the largest number whose positions and
    values fit the bitrate, so both ends know it.

    Source: Aji & Heafield, "Sparse Communication for Distributed Gradient Descent" (EMNLP 2017);
    Stich et al., "Sparsified SGD with Memory" (NeurIPS 2018).

    Attributes:
        bitrate: bits per coordinate of the vector.
        value_bits: 32 for float32, 16 for float16 relative to the largest magnitude (which is sent
            as float32, so that tiny and huge values survive).
    """

    bitrate: float
    value_bits: int = 16

    wire_id: ClassVar[int] = 3
    aggregation: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        check_bitrate("topk", self.bitrate, LOWEST_BITRATE, HIGHEST_BITRATE)
        if self.value_bits not in (16, 32):
            raise InputError(f"topk takes value_bits 16 or 32; got {self.value_bits}")

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        dim = updates.shape[1]
        kept = _affordable(dim, self.bitrate, self.value_bits)
        positions = updates.abs().topk(kept, dim=1).indices.sort(dim=1).values
        values = updates.gather(1, positions)
        largest = values.abs().amax(dim=1, keepdim=True)
        bodies = [
            self._values_to_bytes(row, scale) + encode_mask(_mask(where, dim), kept)
            for row, scale, where in zip(
                values.cpu().numpy(), largest.cpu().numpy(), positions.cpu().numpy(), strict=True
            )
        ]
        return seal_rows(self, bodies, dim, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = side.shape[1]
        kept = _affordable(dim, self.bitrate, self.value_bits)
        estimates = np.zeros((len(payloads), dim), dtype=np.float32)
        for row, body in zip(estimates, open_rows(self, payloads, dim, public), strict=True):
            value_bytes = self._value_bytes(kept)
            if len(body) < value_bytes:
                raise PayloadError(f"got a body of {len(body)} bytes; expected over {value_bytes}")
            values = self._bytes_to_values(body[:value_bytes])
            if not np.isfinite(values).all():
                raise PayloadError("got a value that is NaN or infinite; expected finite ones")
            row[decode_mask(body[value_bytes:], dim, kept)] = values
        return torch.from_numpy(estimates).to(side.device)

    def _value_bytes(self, kept: int) -> int:
        return kept * self.value_bits // 8 + (_SCALE_BYTES if self.value_bits == 16 else 0)

    def _values_to_bytes(self, values: np.ndarray, largest: np.ndarray) -> bytes:
        if self.value_bits == 32:
            return values.astype("<f4").tobytes()
        relative = values.astype(np.float64) / np.where(largest > 0, largest, 1)
        return largest.astype("<f4").tobytes() + relative.astype("<f2").tobytes()

    def _bytes_to_values(self, body: memoryview) -> np.ndarray:
        if self.value_bits == 32:
            return np.frombuffer(body, dtype="<f4")
        largest = np.frombuffer(body[:_SCALE_BYTES], dtype="<f4")
        relative = np.frombuffer(body[_SCALE_BYTES:], dtype="<f2")
        return relative.astype(np.float32) * largest


def _mask(positions: np.ndarray, dim: int) -> np.ndarray:
    mask = np.zeros(dim, dtype=bool)
    mask[positions] = True
    return mask


@lru_cache
def _affordable(dim: int, bitrate: float, value_bits: int) -> int:
    """The largest k, at least 1, whose values and positions take at most bitrate * dim bits."""
    budget = bitrate * dim - (8 * _SCALE_BYTES if value_bits == 16 else 0)
    low, high = 1, dim
    while low < high:
        middle = (low + high + 1) // 2
        if middle * value_bits + _log2_binomial(dim, middle) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def _log2_binomial(n: int, k: int) -> float:
    return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2)
