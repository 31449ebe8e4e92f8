"""No compression: float32."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wzfl.compressors.envelope import open_floats, seal_floats
from wzfl.public import Public


@dataclass(frozen=True)
class Uncompressed:
    """The update as it is, 32 bits per coordinate: the baseline of every comparison."""

    wire_id: ClassVar[int] = 0
    aggregation: ClassVar[str] = "mean"
    bitrate: ClassVar[float] = 32.0
    unbiased: ClassVar[bool] = True

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        return seal_floats(self, updates, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        return open_floats(self, payloads, side, public)
