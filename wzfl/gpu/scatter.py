"""Writes values to places that are all different, so that their order does not matter.

Torch sorts places first where algorithms are to be deterministic, as it can not know that.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 1024


def scatter(values: Tensor, places: Tensor, dim: int) -> Tensor:
    """`[rows, dim]` float32: `values` `[rows, count]` at `places` `[rows, count]` int64, 0 elsewhere."""
    rows, count = values.shape
    out = torch.zeros(rows, dim, dtype=torch.float32, device=values.device)
    with torch.cuda.device_of(values):
        _scatter[(triton.cdiv(count, _TILE), rows)](
            values, values.stride(0), places, places.stride(0), out, count, dim, TILE=_TILE
        )
    return out


@triton.jit
def _scatter(values, values_stride, places, places_stride, out, count, dim, TILE: tl.constexpr):
    row, index = tl.program_id(1).to(tl.int64), tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = index < count
    place = tl.load(places + row * places_stride + index, mask=inside, other=0)
    value = tl.load(values + row * values_stride + index, mask=inside, other=0)
    tl.store(out + row * dim + place, value, mask=inside)
