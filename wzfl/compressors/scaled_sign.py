"""Scaled sign: one bit per coordinate and the mean magnitude."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wzfl.bitpack import pack_signs, packed_size, unpack_signs
from wzfl.compressors.envelope import open_parts, seal_parts
from wzfl.compressors.float32 import float32_bytes, float32_rows
from wzfl.compressors.inputs import checked, dim_of
from wzfl.public import Public

_SCALE_BYTES = 4


@dataclass(frozen=True)
class ScaledSign:
    """sign(x) |x|_1 / dim. Biased; its errors are meant to be fed back (EF-signSGD).

    Source: Karimireddy et al., "Error Feedback Fixes SignSGD and other Gradient Compression Schemes"
    (ICML 2019).
    """

    wire_id: ClassVar[int] = 10
    aggregation: ClassVar[str] = "mean"
    bitrate: ClassVar[float] = 1.0
    unbiased: ClassVar[bool] = False

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        # Row by row, so that a row's sum does not depend on the batch.
        scales = torch.stack([row.double().abs().mean(dim=0, keepdim=True) for row in updates])
        parts = zip(float32_bytes(scales), pack_signs(updates), strict=True)
        return seal_parts(self, parts, updates.shape[1], public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        sizes = [_SCALE_BYTES, packed_size(dim, 1)]
        scale_bytes, signs = open_parts(self, payloads, sizes, dim, public)
        scales = float32_rows(scale_bytes, side.device, public.clients)
        return unpack_signs(signs, dim, side.device) * scales
