"""The scale of a client's residuals: the server's plan, or the client's own, which it pays for."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wzfl.compressors.envelope import check_sizes
from wzfl.compressors.float32 import float32_bytes, float32_rows
from wzfl.public import Public

_OWN_SCALE_BYTES = 4


def chosen(own: Callable[[Tensor], Tensor], public: Public) -> tuple[Tensor, list[bytes]]:
    """Scales `[clients]` (planned, else the client's own), and the bytes each payload spends on its own.

    `own` gives the clients' own scales of the rows whose numbers it is called with.
    """
    own_scale_bytes = [b""] * len(public.clients)
    alone = [row for row, known in enumerate(public.has_scale) if not known]
    if not alone:
        return public.scale, own_scale_bytes
    rows, scale = torch.tensor(alone, device=public.scale.device), public.scale.clone()
    scale[rows] = own(rows)
    for row, string in zip(alone, float32_bytes(scale[rows, None]), strict=True):
        own_scale_bytes[row] = string
    return scale, own_scale_bytes


def read(
    bodies: Sequence[memoryview], size: int, public: Public
) -> tuple[Tensor, list[memoryview]]:
    """The scales `[clients]`, and what follows them in each body, `size` bytes.

    Raises:
        PayloadError: a body is not of its size, or a scale is not finite.
    """
    starts = [0 if known else _OWN_SCALE_BYTES for known in public.has_scale]
    check_sizes(bodies, [start + size for start in starts], public.clients)
    scale = public.scale.clone()
    for row, (body, start) in enumerate(zip(bodies, starts, strict=True)):
        if start:
            scale[row] = float32_rows([body[:start]], scale.device, public.clients[row:])[0, 0]
    return scale, [body[start:] for body, start in zip(bodies, starts, strict=True)]
