"""Half precision: the update cast to 16 bits per coordinate."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wzfl.compressors.envelope import check_sizes, open_rows, seal_rows
from wzfl.compressors.float32 import check_finite
from wzfl.compressors.inputs import check_choice, checked, dim_of, finite
from wzfl.compressors.values import values_from_bytes, values_size, values_to_bytes
from wzfl.public import Public


@dataclass(frozen=True)
class Cast:
    """Each coordinate rounded to the nearest bfloat16 or float16. Biased by at most that rounding.

    bfloat16 has float32's range. float16 is relative to the vector's largest magnitude, sent as float32, as
    its range is too small for gradients as they are.

    Attributes:
        format: "bfloat16" (8 significant bits) or "float16" (11).
    """

    format: str

    wire_id: ClassVar[int] = 13
    aggregation: ClassVar[str] = "mean"
    bitrate: ClassVar[float] = 16.0
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_choice("format", self.format, ("bfloat16", "float16"))

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        if self.format == "float16":
            strings = values_to_bytes(updates, 16)
        else:
            halves = updates.bfloat16().view(torch.int16).cpu().numpy()
            strings = [row.astype("<i2", copy=False).tobytes() for row in halves]
        return seal_rows(self, strings, updates.shape[1], public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        bodies = open_rows(self, payloads, dim, public)
        if self.format == "float16":
            check_sizes(bodies, [values_size(dim, 16)] * len(bodies), public.clients)
            return finite(values_from_bytes(bodies, 16, dim, side.device, public.clients), public)
        check_sizes(bodies, [2 * dim] * len(bodies), public.clients)
        words = np.stack([np.frombuffer(body, dtype="<i2").astype(np.int16) for body in bodies])
        values = torch.from_numpy(words).view(torch.bfloat16).float()
        check_finite(values, "bfloat16", public.clients)
        return values.to(side.device)
