"""QSGD: stochastic rounding of each bucket to uniform levels."""

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor

from wzfl.bitpack import pack, packed_size, unpack
from wzfl.compressors.envelope import (
    HIGHEST_BITRATE,
    LOWEST_BITRATE,
    check_bitrate,
    check_sizes,
    checked,
    finite,
    float32_bytes,
    float32_rows,
    open_rows,
    seal_rows,
)
from wzfl.public import Public

_NORM_BITS = 32


@dataclass(frozen=True)
class QSGD:
    """Unbiased: each coordinate rounds stochastically to one of 2s + 1 multiples of its bucket's norm.

    Symbols take ceil(bitrate) bits, at least 2, so s = 2**(bits - 1) - 1. What a bitrate cannot pay
    for in full is sent for a shared random subset of the coordinates and scaled up to stay unbiased.

    Source: Alistarh et al., "QSGD" (NeurIPS 2017), in the fixed-length format of its experiments: the
    norm of a bucket is its largest magnitude. The subset is ours: QSGD has no rates below 1.6 bits.

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

    @property
    def symbol_bits(self) -> int:
        return max(2, ceil(self.bitrate))

    @property
    def levels(self) -> int:
        """s: nonzero levels on either side."""
        return 2 ** (self.symbol_bits - 1) - 1

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        dim = updates.shape[1]
        sent = self._sent(dim, public)
        values = updates if sent is None else updates.gather(1, sent)
        norms = self._buckets(values).abs().amax(dim=2)
        # A bucket of zeros: 0 / 1 is right. float64: 1e-38 / 1e-38 must not lose its digits.
        divisor = torch.where(norms > 0, norms, 1).double().repeat_interleave(self.bucket, dim=1)
        ratio = values.double() / divisor[:, : values.shape[1]] * self.levels
        levels = torch.floor(ratio + public.uniform("rounding", values.shape[1]))
        symbols = (levels + self.levels).clamp_(0, 2 * self.levels)
        bodies = zip(float32_bytes(norms), pack(symbols, self.symbol_bits), strict=True)
        return seal_rows(self, [a + b for a, b in bodies], dim, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = side.shape[1]
        bodies = open_rows(self, payloads, dim, public)
        count = self._count(dim)
        norm_bytes = 4 * ceil(count / self.bucket)
        check_sizes(bodies, [norm_bytes + packed_size(count, self.symbol_bits)] * len(bodies))
        norms = float32_rows([body[:norm_bytes] for body in bodies], side.device)
        symbols = unpack([body[norm_bytes:] for body in bodies], self.symbol_bits, count)
        levels = (symbols.to(side.device) - self.levels).float() / self.levels
        values = levels * norms.repeat_interleave(self.bucket, dim=1)[:, :count]
        sent = self._sent(dim, public)
        if sent is None:
            return finite(values, public)
        estimates = torch.zeros(len(payloads), dim, device=side.device)
        return finite(estimates.scatter_(1, sent, values * (dim / count)), public)

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
        return public.subset("sent", dim, count).sort(dim=1).values

    def _buckets(self, values: Tensor) -> Tensor:
        """`[clients, buckets, bucket]`, the last bucket filled with zeros."""
        missing = -values.shape[1] % self.bucket
        padded = torch.nn.functional.pad(values, (0, missing))
        return padded.view(len(values), -1, self.bucket)
