"""float32 values <-> strings of bytes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from wzfl.errors import PayloadError
from wzfl.host import ask, to_device, to_host
from wzfl.norms import largest_magnitudes


def float32_bytes(values: Tensor) -> list[bytes]:
    """One string per row of `values` `[clients, ...]`, little-endian float32."""
    return ask_bytes(values)()


def ask_bytes(values: Tensor) -> Callable[[], list[bytes]]:
    """Starts copying values to the host; calling the result gives them as `float32_bytes`."""
    copied = ask(values.float())
    return lambda: [row.tobytes() for row in copied().astype("<f4", copy=False)]


def float32_rows(bodies: Sequence[bytes | memoryview], device: torch.device) -> Tensor:
    """`[clients, count]` float32 on `device`: the inverse of `float32_bytes`.

    Raises:
        PayloadError: a value is not finite, which no encoder sends.
    """
    rows = to_device(bodies, device).view(torch.float32)
    if not np.isfinite(to_host(largest_magnitudes(rows))).all():
        raise PayloadError("got a value that is NaN or infinite; expected finite float32")
    return rows
