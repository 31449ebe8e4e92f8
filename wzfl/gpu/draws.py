"""SplitMix64 on the device; see `wzfl.kernels.draws`, whose numbers these are."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_INCREMENT = tl.constexpr(0x9E3779B97F4A7C15)
_FIRST, _SECOND = tl.constexpr(0xBF58476D1CE4E5B9), tl.constexpr(0x94D049BB133111EB)
_UNIT = tl.constexpr(2.0**-24)
_TILE = 1024


def words(keys: Tensor, count: int) -> Tensor:
    """`[rows, count]` int64: the first words of the streams at `keys` `[rows]` int64."""
    out = torch.empty(len(keys), count, dtype=torch.int64, device=keys.device)
    with torch.cuda.device_of(out):
        _fill_words[(triton.cdiv(count, _TILE), len(keys))](keys, out, count, TILE=_TILE)
    return out


def uniform(keys: Tensor, count: int) -> Tensor:
    """`[rows, count]` float32: multiples of 2**-24 in [0, 1), of the streams at `keys` `[rows]` int64."""
    out = torch.empty(len(keys), count, dtype=torch.float32, device=keys.device)
    with torch.cuda.device_of(out):
        _fill_uniform[(triton.cdiv(count, 2 * _TILE), len(keys))](keys, out, count, TILE=_TILE)
    return out


def signs(keys: Tensor, count: int) -> Tensor:
    """`[rows, count]` float32, -1 or +1, of the streams at `keys`."""
    out = torch.empty(len(keys), count, dtype=torch.float32, device=keys.device)
    with torch.cuda.device_of(out):
        _fill_signs[(triton.cdiv(count, _TILE), len(keys))](keys, out, count, TILE=_TILE)
    return out


@triton.jit
def _word(keys, row, index):
    """The word at `index`, counted from 0, of the row's stream."""
    key = tl.load(keys + row).to(tl.uint64, bitcast=True)
    state = key + (index + 1).to(tl.uint64) * _INCREMENT
    state = (state ^ (state >> 30)) * _FIRST
    state = (state ^ (state >> 27)) * _SECOND
    return state ^ (state >> 31)


@triton.jit
def sign(keys, row, position) -> tl.tensor:
    """-1 or +1, that at `position`, from 0, of the row's stream."""
    bit = (_word(keys, row, position >> 6) >> (position & 63).to(tl.uint64)).to(tl.int32) & 1
    return (2 * bit - 1).to(tl.float32)


@triton.jit
def _fill_uniform(keys, out, count, TILE: tl.constexpr):
    row, pair = tl.program_id(1), tl.program_id(0) * TILE + tl.arange(0, TILE)
    both = _word(keys, row, pair)
    both = tl.reshape(tl.join((both >> 8) & 0xFFFFFF, both >> 40), [2 * TILE])
    index = tl.program_id(0) * (2 * TILE) + tl.arange(0, 2 * TILE)
    place = out + row.to(tl.int64) * count + index
    tl.store(place, both.to(tl.int32).to(tl.float32) * _UNIT, mask=index < count)


@triton.jit
def _fill_signs(keys, out, count, TILE: tl.constexpr):
    row, index = tl.program_id(1), tl.program_id(0) * TILE + tl.arange(0, TILE)
    place = out + row.to(tl.int64) * count + index
    tl.store(place, sign(keys, row, index), mask=index < count)


@triton.jit
def _fill_words(keys, out, count, TILE: tl.constexpr):
    row, index = tl.program_id(1), tl.program_id(0) * TILE + tl.arange(0, TILE)
    place = out + row.to(tl.int64) * count + index
    tl.store(place, _word(keys, row, index).to(tl.int64, bitcast=True), mask=index < count)
