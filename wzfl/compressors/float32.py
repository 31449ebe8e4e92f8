"""float32 values <-> strings of bytes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from wzfl.errors import PayloadError, from_client
from wzfl.host import ask, to_device, to_host
from wzfl.norms import largest_magnitudes


def float32_bytes(values: Tensor) -> list[bytes]:
    """One string per row of `values` `[clients, ...]`, little-endian float32."""
    return ask_bytes(values)()


def ask_bytes(values: Tensor) -> Callable[[], list[bytes]]:
    """Starts copying values to the host; calling the result gives them as `float32_bytes`."""
    copied = ask(values.float())
    return lambda: [row.tobytes() for row in copied().astype("<f4", copy=False)]


def float32_rows(
    bodies: Sequence[bytes | memoryview], device: torch.device, clients: Sequence[int]
) -> Tensor:
    """`[clients, count]` float32 on `device`: the inverse of `float32_bytes`.

    Raises:
        PayloadError: a value is not finite, which no encoder sends.
    """
    rows = to_device(bodies, device).view(torch.float32)
    check_finite(rows, "float32", clients)
    return rows


def check_finite(values: Tensor, kind: str, clients: Sequence[int]) -> None:
    """Raises a `PayloadError` that names the client of which some value `[clients, count]` is not finite."""
    wrong = ~np.isfinite(to_host(largest_magnitudes(values)))
    if wrong.any():
        with from_client(clients[int(wrong.argmax())]):
            raise PayloadError(f"got a value that is NaN or infinite; expected finite {kind}")
