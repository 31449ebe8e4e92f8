"""TernGrad: each coordinate is -s, 0 or s."""

from dataclasses import dataclass
from math import ceil, log2
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wzfl.bitpack import packed_size, unpack_signs
from wzfl.compressors.envelope import check_sizes, check_starts, open_rows, seal_rows
from wzfl.compressors.float32 import float32_bytes, float32_rows
from wzfl.compressors.inputs import check_choice, checked, dim_of
from wzfl.entropy import decode_positions, encode_positions
from wzfl.errors import InputError, PayloadError, from_client
from wzfl.public import Public

_COUNT_BYTES = 4
_TRITS_PER_BYTE = 5  # 3**5 = 243 of 256: 1.6 bits each
_POWERS = np.array([81, 27, 9, 3, 1], dtype=np.uint8)


@dataclass(frozen=True)
class TernGrad:
    """s sign(x) b, where b is 1 with probability |x|/s and s is the bucket's largest magnitude.

    Unbiased, unless magnitudes are clipped first.

    Source: Wen et al., "TernGrad: Ternary Gradients to Reduce Communication in Distributed Deep Learning"
    (NeurIPS 2017), with buckets in place of layers. Its "2 bits" or "log2(3) bits" are bytes here.

    Attributes:
        bucket: coordinates that share s; None is the whole vector.
        clip: magnitudes are cut at this many root mean squares of the bucket; None does not.
        coding: "entropy" (which are not zero, range coded, then their signs: fewer bits than 1.585 when
            zeros abound, which depends on the data) or "packed" (5 symbols in a byte, 1.6 bits).
    """

    bucket: int | None = None
    clip: float | None = 2.5
    coding: str = "entropy"

    wire_id: ClassVar[int] = 11
    aggregation: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        check_choice("coding", self.coding, ("entropy", "packed"))
        if self.bucket is not None and self.bucket < 1:
            raise InputError(f"bucket must be at least 1, or null for one; got {self.bucket}")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip must be above 0, or null for none; got {self.clip}")

    @property
    def bitrate(self) -> float:
        return (1.6 if self.coding == "packed" else log2(3)) + 32 / (self.bucket or np.inf)

    @property
    def unbiased(self) -> bool:
        return self.clip is None

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        dim = updates.shape[1]
        magnitudes, scales = self._clipped(updates.abs())
        divisor = torch.where(scales > 0, scales, 1).repeat_interleave(self._bucket(dim), dim=1)
        chance = magnitudes.double() / divisor[:, :dim]
        nonzero = public.uniform("rounding", dim) < chance
        code = _to_entropy if self.coding == "entropy" else _to_trits
        rows = zip(
            float32_bytes(scales), nonzero.cpu().numpy(), (updates < 0).cpu().numpy(), strict=True
        )
        return seal_rows(
            self, [s + code(kept, negative) for s, kept, negative in rows], dim, public
        )

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        bodies = open_rows(self, payloads, dim, public)
        start = 4 * ceil(dim / self._bucket(dim))
        check_starts(bodies, start, public.clients)
        scales = float32_rows([body[:start] for body in bodies], side.device, public.clients)
        decode = _from_entropy if self.coding == "entropy" else _from_trits
        rows = []
        for body, client in zip(bodies, public.clients, strict=True):
            with from_client(client):
                rows.append(decode(body[start:], dim))
        symbols = torch.from_numpy(np.stack(rows))
        return symbols.to(side.device) * scales.repeat_interleave(self._bucket(dim), dim=1)[:, :dim]

    def _clipped(self, magnitudes: Tensor) -> tuple[Tensor, Tensor]:
        """`[clients, dim]` clipped magnitudes and `[clients, buckets]` scales."""
        dim = magnitudes.shape[1]
        bucket = self._bucket(dim)
        buckets = torch.nn.functional.pad(magnitudes, (0, -dim % bucket))
        buckets = buckets.view(len(magnitudes), -1, bucket)
        scales = buckets.amax(dim=2)
        if self.clip is not None:
            sizes = torch.full_like(scales[:1], bucket)
            sizes[:, -1] = bucket - (-dim % bucket)
            # Row by row, so that a row's sums do not depend on the batch.
            energies = torch.stack([row.double().square().sum(dim=1) for row in buckets])
            deviations = (energies / sizes).sqrt().float()
            scales = torch.minimum(scales, self.clip * deviations)
        clipped = torch.minimum(buckets, scales[:, :, None])
        return clipped.view(len(magnitudes), -1)[:, :dim], scales

    def _bucket(self, dim: int) -> int:
        return min(self.bucket or dim, dim)


def _to_entropy(nonzero: np.ndarray, negative: np.ndarray) -> bytes:
    count = int(nonzero.sum())
    signs = np.packbits(negative[nonzero]).tobytes()
    positions = encode_positions(np.flatnonzero(nonzero), len(nonzero))
    return count.to_bytes(_COUNT_BYTES, "little") + signs + positions


def _from_entropy(body: memoryview, dim: int) -> np.ndarray:
    count = int.from_bytes(body[:_COUNT_BYTES], "little")
    start = _COUNT_BYTES + packed_size(count, 1)
    if count > dim or len(body) < start:
        raise PayloadError(f"got {count} nonzero symbols in {len(body)} bytes; dim is {dim}")
    symbols = np.zeros(dim, dtype=np.float32)
    positions = decode_positions(body[start:], dim, count)
    symbols[positions] = unpack_signs([body[_COUNT_BYTES:start]], count)[0].numpy()
    return symbols


def _to_trits(nonzero: np.ndarray, negative: np.ndarray) -> bytes:
    trits = np.where(nonzero, np.where(negative, 2, 1), 0).astype(np.uint8)
    padded = np.pad(trits, (0, -len(trits) % _TRITS_PER_BYTE)).reshape(-1, _TRITS_PER_BYTE)
    return (padded * _POWERS).sum(axis=1, dtype=np.uint8).tobytes()


def _from_trits(body: memoryview, dim: int) -> np.ndarray:
    check_sizes([body], [ceil(dim / _TRITS_PER_BYTE)])
    octets = np.frombuffer(body, dtype=np.uint8)
    if octets.max() >= 3**_TRITS_PER_BYTE:
        raise PayloadError(f"got byte {octets.max()}; five symbols are at most 242")
    trits = (octets[:, None] // _POWERS % 3).reshape(-1)[:dim]
    return np.choose(trits, np.array([0, 1, -1], dtype=np.float32))
