"""Top-k sparsification, positions and values both paid for."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wzfl.compressors.allocation import scattered
from wzfl.compressors.envelope import check_starts, open_rows, seal_parts
from wzfl.compressors.inputs import (
    HIGHEST_BITRATE,
    LOWEST_BITRATE,
    check_bitrate,
    checked,
    dim_of,
    finite,
)
from wzfl.compressors.values import (
    check_value_bits,
    scale_bits,
    values_from_bytes,
    values_size,
    values_to_bytes,
)
from wzfl.entropy import decode_positions, encode_positions
from wzfl.errors import from_client
from wzfl.host import numbers_to_device, to_host
from wzfl.kernels.select import top_row
from wzfl.public import Public
from wzfl.theory import log2_binomial
from wzfl.threads import in_threads


@dataclass(frozen=True)
class TopK:
    """The k coordinates of largest magnitude; the rest decode to zero. Biased.

    Positions are entropy coded, near log2 C(dim, k) bits. k is the largest number whose positions and
    values fit the bitrate, so both ends know it.

    Source: Aji & Heafield, "Sparse Communication for Distributed Gradient Descent" (EMNLP 2017);
    Stich et al., "Sparsified SGD with Memory" (NeurIPS 2018).

    Attributes:
        bitrate: bits per coordinate of the vector.
        value_bits: 32 for float32, 16 for float16 relative to the largest magnitude, 2 to 8 for uniform
            levels up to the largest magnitude.
    """

    bitrate: float
    value_bits: int = 16

    wire_id: ClassVar[int] = 3
    aggregation: ClassVar[str] = "mean"
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_bitrate("topk", self.bitrate, LOWEST_BITRATE, HIGHEST_BITRATE)
        check_value_bits("topk", self.value_bits)

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        return self._sealed(*self._kept(updates), updates.shape[1], public)

    def encode_and_decode(self, updates: Tensor, public: Public) -> tuple[list[bytes], Tensor]:
        """See `SelfReading`."""
        updates = checked(updates, public)
        dim, (positions, strings) = updates.shape[1], self._kept(updates)
        bodies = [memoryview(string) for string in strings]
        values = values_from_bytes(
            bodies, self.value_bits, positions.shape[1], updates.device, public.clients
        )
        decoded = scattered(values, positions, dim)
        return self._sealed(positions, strings, dim, public), decoded

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        kept = _affordable(dim, self.bitrate, self.value_bits)
        bodies = open_rows(self, payloads, dim, public)
        size = values_size(kept, self.value_bits)
        check_starts(bodies, size, public.clients)
        values = values_from_bytes(
            [body[:size] for body in bodies], self.value_bits, kept, side.device, public.clients
        )

        def places_of(row: int) -> np.ndarray:
            with from_client(public.clients[row]):
                return decode_positions(bodies[row][size:], dim, kept)

        places = np.stack(in_threads(places_of, range(len(bodies))))
        return scattered(finite(values, public), numbers_to_device(places, side.device), dim)

    def _kept(self, updates: Tensor) -> tuple[Tensor, list[bytes]]:
        """Positions `[clients, k]`, and each client's values there."""
        kept = _affordable(updates.shape[1], self.bitrate, self.value_bits)
        positions = largest(updates, kept)
        return positions, values_to_bytes(updates.gather(1, positions), self.value_bits)

    def _sealed(
        self, positions: Tensor, strings: list[bytes], dim: int, public: Public
    ) -> list[bytes]:
        places = in_threads(lambda where: encode_positions(where, dim), to_host(positions))
        return seal_parts(self, zip(strings, places, strict=True), dim, public)


def largest(values: Tensor, count: int) -> Tensor:
    """`[clients, count]` int64: ascending positions of the largest magnitudes; ties go to the first."""
    if not values.is_cpu:
        return largest_with_torch(values, count)
    positions = np.empty((len(values), count), np.int64)
    for row, out in zip(values.numpy(), positions, strict=True):
        top_row(row.view(np.uint32), count, out)
    return torch.from_numpy(positions)


def largest_with_torch(values: Tensor, count: int) -> Tensor:
    """What `largest` gives, on any device."""
    magnitudes = values.abs()
    threshold = magnitudes.topk(count, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    above, ties = magnitudes > threshold, magnitudes == threshold
    missing = count - above.sum(dim=1, keepdim=True)
    kept = above | (ties & (ties.cumsum(dim=1, dtype=torch.int32) <= missing))
    return kept.nonzero()[:, 1].view(len(values), count)


@lru_cache
def _affordable(dim: int, bitrate: float, value_bits: int) -> int:
    """The largest k, at least 1, whose values and positions take at most bitrate * dim bits."""
    budget = bitrate * dim - scale_bits(value_bits)
    low, high = 1, dim
    while low < high:
        middle = (low + high + 1) // 2
        if middle * value_bits + log2_binomial(dim, middle) <= budget:
            low = middle
        else:
            high = middle - 1
    return low
