"""Stochastic k-level quantization after a random rotation."""

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
from wzfl.public import Public
from wzfl.rotation import rotate, rotate_back

_RANGE_BYTES = 8


@dataclass(frozen=True)
class StochasticKLevel:
    """Rotates, and rounds stochastically to k = 2**bits levels from the smallest to the largest value.

    Unbiased. At bitrates that are not whole, a shared random subset takes one bit more; below 1 bit only
    a subset is sent, scaled up.

    Source: Suresh et al., "Distributed Mean Estimation with Limited Communication" (ICML 2017),
    stochastic rotated quantization. The subset is ours.

    Attributes:
        bitrate: bits per coordinate.
        rotation: False quantizes the coordinates as they are.
    """

    bitrate: float
    rotation: bool = True

    wire_id: ClassVar[int] = 7
    aggregation: ClassVar[str] = "mean"
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bitrate("k_level", self.bitrate, LOWEST_BITRATE, HIGHEST_BITRATE)

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        dim = updates.shape[1]
        allocation = self._allocation(dim)
        rotated = rotate(updates, public) if self.rotation else updates
        sent = allocation.gather(rotated, public)
        noise = public.uniform("rounding", allocation.count)
        ends = torch.stack(torch.aminmax(sent, dim=1), dim=1)
        symbols = []
        for bits, columns in allocation.widths:
            low, step = _levels(ends, bits)
            positions = (sent[:, columns].double() - low) / torch.where(step > 0, step, 1)
            levels = torch.floor(positions + noise[:, columns]).clamp_(0, 2**bits - 1)
            symbols.append(pack(levels, bits))
        parts = zip(float32_bytes(ends), *symbols, strict=True)
        return seal_parts(self, parts, dim, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        allocation = self._allocation(dim)
        sizes = [_RANGE_BYTES, *allocation.sizes]
        end_bytes, *symbols = open_parts(self, payloads, sizes, dim, public)
        ends = float32_rows(end_bytes, side.device, public.clients)
        values = torch.empty(
            len(payloads), allocation.count, dtype=torch.float32, device=side.device
        )
        for (bits, columns), strings in zip(allocation.widths, symbols, strict=True):
            low, step = _levels(ends, bits)
            levels = unpack(strings, bits, length(columns), side.device)
            values[:, columns] = (low + step * levels).float()
        values *= dim / allocation.count
        spread = allocation.scatter(values, public)
        return finite(rotate_back(spread, public) if self.rotation else spread, public)

    def _allocation(self, dim: int) -> Allocation:
        return Allocation.of(dim, self.bitrate, 1, 8 * _RANGE_BYTES)


def _levels(ends: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The lowest level and the distance of levels, `[clients, 1]` float64 each."""
    low, high = ends.double().unsqueeze(2).unbind(1)
    return low, (high - low) / torch.full_like(low, 2**bits - 1)
