"""The scale of a client's residuals: the server's plan, or the client's own, which it pays for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wzfl.compressors.envelope import check_sizes, float32_bytes, float32_rows
from wzfl.public import Public

_OWN_SCALE_BYTES = 4


def chosen(own: Tensor, public: Public) -> tuple[Tensor, list[bytes]]:
    """`[clients]`: the planned scale or, where there is none, `own`; and what a payload says of it."""
    planned = public.scale > 0
    scale = torch.where(planned, public.scale, own)
    told = float32_bytes(scale[:, None])
    return scale, [b"" if known else t for known, t in zip(planned.tolist(), told, strict=True)]


def read(
    bodies: Sequence[memoryview], size: int, public: Public
) -> tuple[Tensor, list[memoryview]]:
    """The scales `[clients]`, and what follows them in each body, `size` bytes.

    Raises:
        PayloadError: a body is not of its size, or a scale is not finite.
    """
    starts = [0 if known else _OWN_SCALE_BYTES for known in (public.scale > 0).tolist()]
    check_sizes(bodies, [start + size for start in starts])
    scale = public.scale.clone()
    for row, (body, start) in enumerate(zip(bodies, starts, strict=True)):
        if start:
            scale[row] = float32_rows([body[:start]], scale.device)[0, 0]
    return scale, [body[start:] for body, start in zip(bodies, starts, strict=True)]
