"""DRIVE and EDEN: rotate, quantize like a Gaussian, scale to be unbiased."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wzfl import gpu
from wzfl.bitpack import pack, unpack
from wzfl.compressors.allocation import Allocation, length
from wzfl.compressors.envelope import seal_parts, unchecked_parts
from wzfl.compressors.float32 import ask_bytes
from wzfl.compressors.inputs import (
    LOWEST_BITRATE,
    check_bitrate,
    check_choice,
    dim_of,
    finite,
    unchecked,
)
from wzfl.host import Arrivals, numbers_to_device
from wzfl.kernels.quantize import lookup_row, nearest_row
from wzfl.norms import energies
from wzfl.public import Public
from wzfl.rotation import rotate, rotate_back
from wzfl.theory import lloyd_max, lloyd_max_distortion

_SCALE_BYTES = 4


@dataclass(frozen=True)
class Eden:
    """Rotates, rounds to the Gaussian Lloyd-Max codebook Q, and sends one scale.

    With the scale |x|**2 / <Ux, Q(Ux)> the estimate is unbiased (exactly so for a uniformly random
    rotation). 1 bit is DRIVE. At bitrates that are not whole, a shared random subset of the rotated
    coordinates takes one bit more; below 1 bit only a subset is sent.

    Source: Vargaftik et al., "DRIVE: One-bit Distributed Mean Estimation" (NeurIPS 2021) and "EDEN:
    Communication-Efficient and Robust Distributed Mean Estimation for Federated Learning" (ICML 2022).

    Attributes:
        bitrate: bits per coordinate, up to 8.
        scale: "unbiased", or "least_error" for <Ux, Q(Ux)> / |Q(Ux)|**2, which is for one vector, or for
            error feedback: errors of clients do not average out.
    """

    bitrate: float
    scale: str = "unbiased"

    wire_id: ClassVar[int] = 6
    aggregation: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        check_bitrate("eden", self.bitrate, LOWEST_BITRATE, 8)
        check_choice("scale", self.scale, ("unbiased", "least_error"))

    @property
    def unbiased(self) -> bool:
        return self.scale == "unbiased"

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates, verify = unchecked(updates, public)
        dim = updates.shape[1]
        allocation = self._allocation(dim)
        rotated = rotate(updates, public)
        energy = energies(rotated)
        deviations = torch.where(energy > 0, (energy / dim).sqrt(), 1)
        sent = allocation.gather(rotated, public)
        rounded, products, norms = [], torch.zeros_like(energy), torch.zeros_like(energy)
        for bits, columns in allocation.widths:
            indices, product, norm = nearest(sent[:, columns], deviations, bits)
            rounded.append((indices, bits))
            products, norms = products + product, norms + norm
        wanted = energy / products if self.unbiased else products / norms
        # None of the few sent coordinates may say anything: they are all 0.
        scales = ask_bytes(torch.where(products > 0, wanted, 0)[:, None])
        arrivals = Arrivals()
        symbols = [pack(indices, bits, arrivals) for indices, bits in rounded]
        verify()
        return seal_parts(self, zip(scales(), *symbols, strict=True), dim, public, arrivals)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        allocation = self._allocation(dim)
        sizes = [_SCALE_BYTES, *allocation.sizes]
        (scale_bytes, *symbols), check = unchecked_parts(self, payloads, sizes, dim, public)
        numbers = np.frombuffer(b"".join(scale_bytes), "<f4").astype(np.float32)
        scales = numbers_to_device(numbers, side.device)[:, None]
        values = torch.empty(
            len(payloads), allocation.count, dtype=torch.float32, device=side.device
        )
        for (bits, columns), strings in zip(allocation.widths, symbols, strict=True):
            centroids, _ = _codebook(bits, side.device)
            lookup(
                unpack(strings, bits, length(columns), side.device),
                centroids.float() * scales,
                values[:, columns],
            )
        estimates = rotate_back(allocation.scatter(values, public), public)
        return finite(estimates, public, meanwhile=check)

    def relative_variance(self, dim: int) -> float:
        """omega in E|estimate - update|**2 = omega |update|**2, for large dim: D / (1 - D)."""
        allocation = self._allocation(dim)
        kept = sum(
            length(columns) / dim * (1 - lloyd_max_distortion(bits))
            for bits, columns in allocation.widths
        )
        return 1 / kept - 1 if self.unbiased else 1 - kept

    def _allocation(self, dim: int) -> Allocation:
        return Allocation.of(dim, self.bitrate, 1, 8 * _SCALE_BYTES)


@lru_cache
def _codebook(bits: int, device: torch.device) -> tuple[Tensor, Tensor]:
    centroids, boundaries = lloyd_max(bits)
    return torch.from_numpy(centroids).to(device), torch.from_numpy(boundaries).to(device)


def nearest(values: Tensor, deviations: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices `[clients, count]` of the centroids c nearest to `values / deviations`.

    With them, for each client, sum(values * c) and sum(c * c), `[clients]` float64.
    """
    if gpu.is_usable(values.device, values.shape[1]):
        from wzfl.gpu import quantize

        return quantize.nearest(values, deviations, *_codebook(bits, values.device))
    if not values.is_cpu:
        return nearest_with_torch(values, deviations, bits)
    centroids, boundaries = lloyd_max(bits)
    indices, sums = np.empty(values.shape, np.uint8), []
    for row, deviation, out in zip(values.numpy(), deviations.tolist(), indices, strict=True):
        sums.append(nearest_row(row, deviation, centroids, boundaries, out))
    products, norms = torch.tensor(sums, dtype=torch.float64).unbind(1)
    return torch.from_numpy(indices), products, norms


def nearest_with_torch(
    values: Tensor, deviations: Tensor, bits: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What `nearest` gives, on any device."""
    centroids, boundaries = _codebook(bits, values.device)
    values = values.double().contiguous()
    indices = torch.bucketize(values / deviations[:, None], boundaries)
    levels = centroids[indices]
    return indices, (values * levels).sum(dim=1), levels.square().sum(dim=1)


def lookup(indices: Tensor, tables: Tensor, out: Tensor) -> None:
    """Fills `out` `[clients, count]` with the entries of each client's table that `indices` name."""
    if gpu.is_usable(tables.device, indices.shape[1]):
        from wzfl.gpu import quantize

        quantize.lookup(indices, tables, out)
        return
    if not tables.is_cpu:
        torch.gather(tables, 1, indices.long(), out=out)
        return
    for row, table, values in zip(indices.numpy(), tables.numpy(), out.numpy(), strict=True):
        lookup_row(row, table, values)
