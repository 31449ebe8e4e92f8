"""DRIVE and EDEN: rotate, quantize like a Gaussian, scale to be unbiased."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wzfl.bitpack import pack, unpack
from wzfl.compressors.allocation import Allocation, length
from wzfl.compressors.envelope import (
    LOWEST_BITRATE,
    check_bitrate,
    check_choice,
    checked,
    finite,
    float32_bytes,
    float32_rows,
    open_parts,
    seal_rows,
)
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
        updates = checked(updates, public)
        dim = updates.shape[1]
        allocation = self._allocation(dim)
        rotated = rotate(updates, public)
        energies = _row_sums(rotated.double().square())
        deviations = (energies / dim).sqrt()
        sent = allocation.gather(rotated, public).double()
        units = sent / torch.where(deviations > 0, deviations, 1)[:, None]
        symbols, levels = [], torch.empty_like(units)
        for bits, columns in allocation.widths:
            centroids, boundaries = _codebook(bits, units.device)
            indices = torch.bucketize(units[:, columns].contiguous(), boundaries)
            levels[:, columns] = centroids[indices]
            symbols.append(pack(indices, bits))
        products = _row_sums(sent * levels)
        if self.unbiased:
            # None of the few sent coordinates may say anything: they are all 0.
            scales = torch.where(products > 0, energies / products, 0)
        else:
            scales = products / _row_sums(levels.square())
        parts = zip(float32_bytes(scales[:, None]), *symbols, strict=True)
        return seal_rows(self, [b"".join(row) for row in parts], dim, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = side.shape[1]
        allocation = self._allocation(dim)
        sizes = [_SCALE_BYTES, *allocation.sizes]
        scale_bytes, *symbols = open_parts(self, payloads, sizes, dim, public)
        scales = float32_rows(scale_bytes, side.device)
        levels = torch.empty(len(payloads), allocation.count, device=side.device)
        for (bits, columns), strings in zip(allocation.widths, symbols, strict=True):
            centroids, _ = _codebook(bits, side.device)
            indices = unpack(strings, bits, length(columns)).to(side.device)
            levels[:, columns] = centroids[indices].float()
        return finite(rotate_back(allocation.scatter(levels * scales, public), public), public)

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


def _codebook(bits: int, device: torch.device) -> tuple[Tensor, Tensor]:
    centroids, boundaries = lloyd_max(bits)
    return torch.from_numpy(centroids).to(device), torch.from_numpy(boundaries).to(device)


def _row_sums(rows: Tensor) -> Tensor:
    """`[clients]`; row by row, so that a row's sum does not depend on the batch."""
    return torch.stack([row.sum() for row in rows])
