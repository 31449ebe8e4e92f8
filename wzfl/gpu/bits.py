"""Symbols of a few bits <-> bit planes; see `wzfl.bitpack`, whose bytes these are."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 512


def pack(symbols: Tensor, bits: int) -> Tensor:
    """`[rows, bytes]` uint8: the planes of `symbols` `[rows, count]`, integers of up to 8 bits."""
    rows, count = symbols.shape
    size = (count * bits + 7) // 8
    out = torch.empty(rows, size, dtype=torch.uint8, device=symbols.device)
    with torch.cuda.device_of(symbols):
        _pack[(triton.cdiv(size, _TILE), rows)](
            symbols, symbols.stride(0), out, count, size, BITS=bits, TILE=_TILE
        )
    return out


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """`[rows, count]` uint8, the symbols whose planes are `packed` `[rows, bytes]`."""
    rows, size = packed.shape
    out = torch.empty(rows, count, dtype=torch.uint8, device=packed.device)
    with torch.cuda.device_of(packed):
        _unpack[(triton.cdiv(count, 8 * _TILE), rows)](
            packed, packed.stride(0), out, count, size, BITS=bits, TILE=_TILE
        )
    return out


@triton.jit
def _pack(symbols, stride, out, count, size, BITS: tl.constexpr, TILE: tl.constexpr):
    """Packs eight bits of one plane, or of the end of one and the start of the next, into a byte."""
    row, octet = tl.program_id(1).to(tl.int64), tl.program_id(0) * TILE + tl.arange(0, TILE)
    place = tl.arange(0, 8)[None, :]
    bit = octet.to(tl.int64)[:, None] * 8 + place
    length = tl.cast(count, tl.int64)  # a count of 1 is a constant
    plane = tl.zeros([TILE, 8], tl.int32)
    for number in tl.static_range(1, BITS):
        plane += (bit >= number * length).to(tl.int32)
    index = bit - plane * length
    symbol = tl.load(symbols + row * stride + index, mask=bit < BITS * length, other=0)
    values = ((symbol.to(tl.int32) >> plane) & 1) << (7 - place)
    tl.store(out + row * size + octet, tl.sum(values, axis=1).to(tl.uint8), mask=octet < size)


@triton.jit
def _unpack(packed, stride, out, count, size, BITS: tl.constexpr, TILE: tl.constexpr):
    """Unpacks eight symbols at a time, from a byte of each plane, or parts of two."""
    row, octet = tl.program_id(1).to(tl.int64), tl.program_id(0) * TILE + tl.arange(0, TILE)
    place = tl.arange(0, 8)[None, :]
    index, length = octet[:, None] * 8 + place, tl.cast(count, tl.int64)
    symbol = tl.zeros([TILE, 8], tl.int32)
    for plane in tl.static_range(BITS):
        bit = plane * length
        byte, shift = octet + (bit >> 3), (bit & 7).to(tl.int32)
        both = tl.load(packed + row * stride + byte, mask=byte < size, other=0).to(tl.int32) << 8
        if shift != 0:
            byte += 1
            both |= tl.load(packed + row * stride + byte, mask=byte < size, other=0).to(tl.int32)
        symbol |= ((both[:, None] >> (15 - shift - place)) & 1) << plane
    tl.store(out + row * count + index, symbol.to(tl.uint8), mask=index < count)
