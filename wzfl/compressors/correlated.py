"""Correlated quantization: clients round the same coordinate in different directions."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wzfl.bitpack import pack, unpack
from wzfl.compressors.allocation import Allocation, length
from wzfl.compressors.envelope import open_parts, seal_parts
from wzfl.compressors.float32 import float32_bytes, float32_rows
from wzfl.compressors.inputs import (
    HIGHEST_BITRATE,
    LOWEST_BITRATE,
    check_bitrate,
    checked,
    dim_of,
    finite,
)
from wzfl.errors import InputError
from wzfl.public import Public
from wzfl.rotation import rotate, rotate_back

_RANGE_BYTES = 4


@dataclass(frozen=True)
class Correlated:
    """Stochastic rounding whose thresholds are spread evenly over the clients of a cohort. Unbiased.

    Client i's threshold for a coordinate is (pi_i + gamma_i) / p, with pi_i one of p strata that no
    other client has: where updates agree, rounding errors cancel in the mean, which then falls faster
    than 1/n. All clients share one rotation and one subset, so that their coordinates compare.

    Source: Suresh et al., "Correlated Quantization for Distributed Mean Estimation and Optimization"
    (ICML 2022). Instead of a uniform permutation, pi_i = a i + b modulo the next prime p, a and b uniform
    for each coordinate: pairs of clients are distributed the same (over p strata), and the mean's error
    depends on pairs alone. The range [-m, m] is each client's own.

    Attributes:
        bitrate: bits per coordinate.
        cohort: number of clients whose errors cancel; the client with id i is number i modulo cohort.
    """

    bitrate: float
    cohort: int

    wire_id: ClassVar[int] = 8
    aggregation: ClassVar[str] = "mean"
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bitrate("correlated", self.bitrate, LOWEST_BITRATE, HIGHEST_BITRATE)
        if self.cohort < 1:
            raise InputError(f"correlated takes a cohort of at least 1 client; got {self.cohort}")

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        dim = updates.shape[1]
        allocation = self._allocation(dim)
        shared = public.common(len(updates))
        sent = allocation.gather(rotate(updates, shared), shared)
        largest = sent.abs().amax(dim=1, keepdim=True)
        thresholds = self._thresholds(allocation.count, public)
        symbols = []
        for bits, columns in allocation.widths:
            step = _step(largest, bits)
            positions = (sent[:, columns].double() + largest) / torch.where(step > 0, step, 1)
            levels = torch.floor(positions + thresholds[:, columns]).clamp_(0, 2**bits - 1)
            symbols.append(pack(levels, bits))
        parts = zip(float32_bytes(largest), *symbols, strict=True)
        return seal_parts(self, parts, dim, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        allocation = self._allocation(dim)
        sizes = [_RANGE_BYTES, *allocation.sizes]
        range_bytes, *symbols = open_parts(self, payloads, sizes, dim, public)
        largest = float32_rows(range_bytes, side.device, public.clients)
        values = torch.empty(
            len(payloads), allocation.count, dtype=torch.float32, device=side.device
        )
        for (bits, columns), strings in zip(allocation.widths, symbols, strict=True):
            levels = unpack(strings, bits, length(columns), side.device)
            values[:, columns] = (_step(largest, bits) * levels - largest).float()
        values *= dim / allocation.count
        shared = public.common(len(payloads))
        return finite(rotate_back(allocation.scatter(values, shared), shared), public)

    def _thresholds(self, count: int, public: Public) -> Tensor:
        """`[clients, count]` float64 in [0, 1): uniform for each client, stratified over the cohort."""
        strata = _next_prime(self.cohort)
        common = public.common(1)
        factor = 1 + torch.floor(common.uniform("strata/factor", count).double() * (strata - 1))
        shift = torch.floor(common.uniform("strata/shift", count).double() * strata)
        numbers = torch.tensor([client % self.cohort for client in public.clients])
        stratum = (factor * numbers.to(factor)[:, None] + shift).remainder(strata)
        return (stratum + public.uniform("rounding", count)) / torch.full_like(stratum, strata)

    def _allocation(self, dim: int) -> Allocation:
        return Allocation.of(dim, self.bitrate, 1, 8 * _RANGE_BYTES)


def _step(largest: Tensor, bits: int) -> Tensor:
    """`[clients, 1]` float64: the distance of levels."""
    return 2 * largest.double() / torch.full_like(largest, 2**bits - 1)


def _next_prime(number: int) -> int:
    """The smallest prime of at least `number`."""
    candidate = max(2, number)
    while any(candidate % divisor == 0 for divisor in range(2, int(candidate**0.5) + 1)):
        candidate += 1
    return candidate
