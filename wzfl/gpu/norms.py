"""Sums over each row; a row's sum does not depend on its batch. See `wzfl.norms`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE, _TILES = 1024, 16  # coordinates at once, and how often


def energies(vectors: Tensor) -> Tensor:
    """`[rows]` float64: sums of squares of `[rows, count]`."""
    return _squares(vectors, None)


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """`[rows]` float64: sums of the squares of what two matrices `[rows, count]` differ by."""
    return _squares(left, right)


def _squares(left: Tensor, right: Tensor | None) -> Tensor:
    rows, count = left.shape
    parts = triton.cdiv(count, _TILE * _TILES)
    partial = torch.empty(rows, parts, dtype=torch.float64, device=left.device)
    other = left if right is None else right
    with torch.cuda.device_of(left):
        _add_squares[(parts, rows)](
            left, *left.stride(), other, *other.stride(), partial, count,
            APART=right is not None, TILE=_TILE, TILES=_TILES,
        )  # fmt: skip
    return added(partial)


def added(parts: Tensor) -> Tensor:
    """`[rows]` float64: sums of float64 `[rows, count]`."""
    rows, count = parts.shape
    sums = torch.empty(rows, dtype=torch.float64, device=parts.device)
    with torch.cuda.device_of(parts):
        _add_parts[(rows,)](parts, sums, count, TILE=_TILE)
    return sums


@triton.jit
def _add_squares(
    left, left_stride, left_step, right, right_stride, right_step, partial, count,
    APART: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    row, part = tl.program_id(1).to(tl.int64), tl.program_id(0)
    sums = tl.zeros([TILE], tl.float64)
    for tile in tl.static_range(TILES):
        index = (part * TILES + tile) * TILE + tl.arange(0, TILE)
        inside = index < count
        value = tl.load(left + row * left_stride + index * left_step, mask=inside, other=0)
        value = value.to(tl.float64)
        if APART:
            place = right + row * right_stride + index * right_step
            value -= tl.load(place, mask=inside, other=0).to(tl.float64)
        sums += value * value
    tl.store(partial + row * tl.num_programs(0) + part, tl.sum(sums))


@triton.jit
def _add_parts(partial, sums, parts, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    total = tl.zeros([TILE], tl.float64)
    for start in range(0, parts, TILE):
        index = start + tl.arange(0, TILE)
        total += tl.load(partial + row * parts + index, mask=index < parts, other=0)
    tl.store(sums + row, tl.sum(total))
