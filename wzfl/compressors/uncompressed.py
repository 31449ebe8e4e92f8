"""No compression: float32."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wzfl.compressors.envelope import (
    check_sizes,
    checked,
    float32_rows,
    open_rows,
    seal_rows,
)
from wzfl.gpu.host import to_host
from wzfl.public import Public


@dataclass(frozen=True)
class Uncompressed:
    """The update as it is, 32 bits per coordinate: the baseline of every comparison."""

    wire_id: ClassVar[int] = 0
    aggregation: ClassVar[str] = "mean"
    bitrate: ClassVar[float] = 32.0
    unbiased: ClassVar[bool] = True

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        return seal_rows(self, [row.data for row in to_host(updates)], updates.shape[1], public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = side.shape[1]
        bodies = open_rows(self, payloads, dim, public)
        check_sizes(bodies, [4 * dim] * len(bodies))
        return float32_rows(bodies, side.device)
