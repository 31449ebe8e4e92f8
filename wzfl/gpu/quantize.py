"""Quantizers: float32 coordinates to small symbols, and back; see `wzfl.kernels.quantize`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from wzfl.gpu.norms import added

_TILE = 1024
_SUMS = tl.constexpr(4)  # of block numbers, every fourth one in each


def fold(
    values: Tensor, noise: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """Symbols `[rows, count]`, uint8 or int32, and sums `[rows, 4]` int32; see `modulo.fold`."""
    rows, count = values.shape
    kind = torch.uint8 if bits <= 8 else torch.int32
    symbols = torch.empty(rows, count, dtype=kind, device=values.device)
    sums = torch.zeros(rows, _SUMS.value, dtype=torch.int32, device=values.device)
    with torch.cuda.device_of(values):
        _fold[(triton.cdiv(count, _TILE), rows)](
            values, values.stride(0), noise, noise.stride(0), cell, symbols, sums, count, covered,
            BITS=bits, TILE=_TILE,
        )  # fmt: skip
    return symbols, sums


def unfold(
    symbols: Tensor, noise: Tensor | None, expected: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """Distances `[rows, count]` float32, and sums `[rows, 4]` int32; see `modulo.unfold`."""
    rows, count = expected.shape
    residuals = torch.empty(rows, count, dtype=torch.float32, device=expected.device)
    sums = torch.zeros(rows, _SUMS.value, dtype=torch.int32, device=expected.device)
    offsets = expected if noise is None else noise
    with torch.cuda.device_of(expected):
        _unfold[(triton.cdiv(count, _TILE), rows)](
            symbols, symbols.stride(0), offsets, offsets.stride(0), expected, expected.stride(0),
            cell, residuals, sums, count, covered,
            BITS=bits, DITHERED=noise is not None, TILE=_TILE,
        )  # fmt: skip
    return residuals, sums


def nearest(
    values: Tensor, deviations: Tensor, centroids: Tensor, boundaries: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Indices `[rows, count]` uint8 of the centroids c nearest to `values / deviations`; see `eden.nearest`.

    And sum(values * c) and sum(c * c), `[rows]` float64.
    """
    rows, count = values.shape
    indices = torch.empty(rows, count, dtype=torch.uint8, device=values.device)
    parts = triton.cdiv(count, _TILE)
    products, squares = torch.empty(2, rows, parts, dtype=torch.float64, device=values.device)
    with torch.cuda.device_of(values):
        _nearest[(parts, rows)](
            values, values.stride(0), deviations, centroids, boundaries,
            indices, products, squares, count,
            BITS=len(centroids).bit_length() - 1, TILE=_TILE,
        )  # fmt: skip
    return indices, added(products), added(squares)


def lookup(indices: Tensor, tables: Tensor, out: Tensor) -> None:
    """Fills `out` `[rows, count]` float32 with the entries of `tables` `[rows, size]` that `indices` name."""
    rows, count = indices.shape
    with torch.cuda.device_of(indices):
        _lookup[(triton.cdiv(count, _TILE), rows)](
            indices, indices.stride(0), tables, tables.stride(0), out, out.stride(0), count,
            TILE=_TILE,
        )  # fmt: skip


def rounded(values: Tensor, noise: Tensor, bucket: int, levels: int) -> tuple[Tensor, Tensor]:
    """Norms `[rows, buckets]` and symbols `[rows, count]`, 0 to 2 * levels; see `qsgd.rounded`.

    `bucket` is a power of two.
    """
    rows, count = values.shape
    kind = torch.uint8 if levels < 128 else torch.int32
    symbols = torch.empty(rows, count, dtype=kind, device=values.device)
    buckets = triton.cdiv(count, bucket)
    norms = torch.empty(rows, buckets, dtype=torch.float32, device=values.device)
    with torch.cuda.device_of(values):
        _rounded[(buckets, rows)](
            values, values.stride(0), noise, noise.stride(0), norms, symbols, count, levels,
            BUCKET=bucket,
            enable_fp_fusion=False,  # a product and a sum in one rounding would be another number
        )  # fmt: skip
    return norms, symbols


@triton.jit
def _fold(
    values, values_stride, noise, noise_stride, cell, symbols, sums, count, covered,
    BITS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    MODULUS: tl.constexpr = 2.0**BITS
    INVERSE: tl.constexpr = 2.0**-BITS
    row, index = tl.program_id(1).to(tl.int64), tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside, size = index < count, tl.load(cell + row)
    value = tl.load(values + row * values_stride + index, mask=inside, other=0).to(tl.float64)
    offset = tl.load(noise + row * noise_stride + index, mask=inside, other=0).to(tl.float64)
    unwrapped = tl.floor(value / size + offset)
    block = tl.floor(unwrapped * INVERSE)
    symbol = (unwrapped - block * MODULUS).to(tl.int32)
    tl.store(symbols + row * count + index, symbol.to(symbols.dtype.element_ty), mask=inside)
    _add_up(sums + row * _SUMS, block, index, covered, TILE)


@triton.jit
def _unfold(
    symbols, symbols_stride, noise, noise_stride, expected, expected_stride,
    cell, residuals, sums, count, covered,
    BITS: tl.constexpr, DITHERED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    MODULUS: tl.constexpr = 2.0**BITS
    INVERSE: tl.constexpr = 2.0**-BITS
    row, index = tl.program_id(1).to(tl.int64), tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside, size = index < count, tl.load(cell + row)
    distance = tl.load(symbols + row * symbols_stride + index, mask=inside, other=0).to(tl.float64)
    if DITHERED:
        distance += 0.5
        distance -= tl.load(noise + row * noise_stride + index, mask=inside, other=0).to(tl.float64)
    near = tl.load(expected + row * expected_stride + index, mask=inside, other=0).to(tl.float64)
    distance -= near / size
    block = tl.floor(distance * -INVERSE + 0.5)
    residual = (distance + block * MODULUS) * size
    tl.store(residuals + row * count + index, residual.to(tl.float32), mask=inside)
    _add_up(sums + row * _SUMS, block, index, covered, TILE)


@triton.jit
def _add_up(sums, block, index, covered, TILE: tl.constexpr):
    """Adds the numbers of the first `covered` blocks, modulo 256, every fourth one to each of the sums."""
    if tl.program_id(0) * TILE < covered:
        low = (block - tl.floor(block * 0.00390625) * 256).to(tl.int32)
        low = tl.reshape(tl.where(index < covered, low, 0), [TILE // _SUMS, _SUMS])
        tl.atomic_add(sums + tl.arange(0, _SUMS), tl.sum(low, axis=0), sem="relaxed")


@triton.jit
def _nearest(
    values, values_stride, deviations, centroids, boundaries, indices, products, squares, count,
    BITS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    row, part = tl.program_id(1).to(tl.int64), tl.program_id(0)
    index = part * TILE + tl.arange(0, TILE)
    inside, deviation = index < count, tl.load(deviations + row)
    value = tl.load(values + row * values_stride + index, mask=inside, other=0).to(tl.float64)
    unit, place = value / deviation, tl.zeros([TILE], tl.int32)
    for level in tl.static_range(BITS):
        step = 1 << (BITS - 1 - level)
        below = tl.load(boundaries + place + (step - 1)) < unit
        place += tl.where(below, step, 0)
    tl.store(indices + row * count + index, place.to(tl.uint8), mask=inside)
    centroid = tl.where(inside, tl.load(centroids + place), 0.0)
    where = row * tl.num_programs(0) + part
    tl.store(products + where, tl.sum(value * centroid))
    tl.store(squares + where, tl.sum(centroid * centroid))


@triton.jit
def _lookup(
    indices, indices_stride, tables, tables_stride, out, out_stride, count, TILE: tl.constexpr
):
    row, index = tl.program_id(1).to(tl.int64), tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = index < count
    entry = tl.load(indices + row * indices_stride + index, mask=inside, other=0).to(tl.int32)
    value = tl.load(tables + row * tables_stride + entry, mask=inside, other=0)
    tl.store(out + row * out_stride + index, value, mask=inside)


@triton.jit
def _rounded(
    values, values_stride, noise, noise_stride, norms, symbols, count, levels, BUCKET: tl.constexpr
):
    row, bucket = tl.program_id(1).to(tl.int64), tl.program_id(0)
    index = bucket * BUCKET + tl.arange(0, BUCKET)
    inside = index < count
    value = tl.load(values + row * values_stride + index, mask=inside, other=0)
    offset = tl.load(noise + row * noise_stride + index, mask=inside, other=0).to(tl.float64)
    norm = tl.max(tl.abs(value))
    tl.store(norms + row * tl.num_programs(0) + bucket, norm)
    divisor = tl.where(norm > 0, norm, 1.0).to(tl.float64)
    most = tl.cast(levels, tl.float64)
    level = tl.floor(value.to(tl.float64) / divisor * most + offset) + most
    symbol = tl.minimum(tl.maximum(level, 0.0), 2 * most).to(tl.int32)
    tl.store(symbols + row * count + index, symbol.to(symbols.dtype.element_ty), mask=inside)
