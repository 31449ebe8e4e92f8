"""QSGD: stochastic rounding of each bucket to uniform levels."""

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wzfl import gpu
from wzfl.bitpack import pack, packed_size, unpack
from wzfl.compressors.allocation import in_order, scattered
from wzfl.compressors.envelope import check_sizes, open_rows, seal_parts
from wzfl.compressors.float32 import float32_bytes, float32_rows
from wzfl.compressors.inputs import (
    HIGHEST_BITRATE,
    LOWEST_BITRATE,
    check_bitrate,
    dim_of,
    finite,
    unchecked,
)
from wzfl.compressors.values import restored
from wzfl.errors import InputError
from wzfl.kernels.quantize import levels_row
from wzfl.public import Public

_NORM_BITS = 32
_FUSED_BUCKETS = [2**power for power in range(5, 13)]


@dataclass(frozen=True)
class QSGD:
    """Unbiased: each coordinate rounds stochastically to one of 2s + 1 multiples of its bucket's norm.

    Symbols take ceil(bitrate) bits, at least 2, so s = 2**(bits - 1) - 1. What a bitrate cannot pay
    for in full is sent for a shared random subset of the coordinates and scaled up to stay unbiased.

    Source: Alistarh et al., "QSGD" (NeurIPS 2017), in the fixed-length format of its experiments: the
    norm of a bucket is its largest magnitude. The subset is ours: symbols take 2 bits or more.

    Attributes:
        bitrate: bits per coordinate; norms cost 32/bucket on top at whole bitrates.
        bucket: coordinates that share a norm.
    """

    bitrate: float
    bucket: int = 1024

    wire_id: ClassVar[int] = 2
    aggregation: ClassVar[str] = "mean"
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bitrate("qsgd", self.bitrate, LOWEST_BITRATE, HIGHEST_BITRATE)
        if self.bucket < 1:
            raise InputError(f"bucket must be at least 1; got {self.bucket}")

    @property
    def symbol_bits(self) -> int:
        return max(2, ceil(self.bitrate))

    @property
    def levels(self) -> int:
        """s: nonzero levels on either side."""
        return 2 ** (self.symbol_bits - 1) - 1

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates, verify = unchecked(updates, public)
        dim = updates.shape[1]
        sent = self._sent(dim, public)
        values = updates if sent is None else updates.gather(1, sent)
        noise = public.uniform("rounding", values.shape[1])
        norms, symbols = rounded(values, noise, self.bucket, self.levels)
        strings = pack(symbols, self.symbol_bits)
        verify()
        parts = zip(float32_bytes(norms), strings, strict=True)
        return seal_parts(self, parts, dim, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        bodies = open_rows(self, payloads, dim, public)
        count = self._count(dim)
        norm_bytes = 4 * ceil(count / self.bucket)
        size = norm_bytes + packed_size(count, self.symbol_bits)
        check_sizes(bodies, [size] * len(bodies), public.clients)
        norms = float32_rows([body[:norm_bytes] for body in bodies], side.device, public.clients)
        strings = [body[norm_bytes:] for body in bodies]
        symbols = unpack(strings, self.symbol_bits, count, side.device)
        values = restored(symbols, norms, self.bucket, self.levels)
        sent = self._sent(dim, public)
        if sent is None:
            return finite(values, public)
        return finite(scattered(values * (dim / count), sent, dim), public)

    def _count(self, dim: int) -> int:
        """How many coordinates are sent."""
        if self.bitrate == self.symbol_bits:
            return dim
        cost = self.symbol_bits + _NORM_BITS / min(self.bucket, dim)
        return min(dim, max(1, round(self.bitrate * dim / cost)))

    def _sent(self, dim: int, public: Public) -> Tensor | None:
        """`[clients, count]`: which coordinates are sent, in order; None: all."""
        count = self._count(dim)
        if count == dim:
            return None
        # In order, so that neighbours, which are alike, share a bucket.
        return in_order(public.subset("sent", dim, count), dim)


def rounded(values: Tensor, noise: Tensor, bucket: int, levels: int) -> tuple[Tensor, Tensor]:
    """Norms `[clients, buckets]` and symbols `[clients, count]`, 0 to 2 * levels."""
    if gpu.is_usable(values.device, values.shape[1]) and bucket in _FUSED_BUCKETS:
        from wzfl.gpu import quantize

        return quantize.rounded(values, noise, bucket, levels)
    if not values.is_cpu:
        return rounded_with_torch(values, noise, bucket, levels)
    clients, count = values.shape
    norms = np.empty((clients, ceil(count / bucket)), np.float32)
    symbols = np.empty(values.shape, np.uint8 if levels < 128 else np.int32)
    rows = zip(values.numpy(), noise.numpy(), norms, symbols, strict=True)
    for row, offsets, largest, out in rows:
        levels_row(row, offsets, bucket, levels, largest, out)
    return torch.from_numpy(norms), torch.from_numpy(symbols)


def rounded_with_torch(
    values: Tensor, noise: Tensor, bucket: int, levels: int
) -> tuple[Tensor, Tensor]:
    """What `rounded` gives, on any device."""
    padded = torch.nn.functional.pad(values, (0, -values.shape[1] % bucket))
    norms = padded.unflatten(1, (-1, bucket)).abs().amax(dim=2)
    # A bucket of zeros: 0 / 1 is right. float64: 1e-38 / 1e-38 must not lose its digits.
    divisor = torch.where(norms > 0, norms, 1).double().repeat_interleave(bucket, dim=1)
    ratio = values.double() / divisor[:, : values.shape[1]] * levels
    symbols = (torch.floor(ratio + noise) + levels).clamp_(0, 2 * levels)
    return norms, symbols
