"""Quantizers: float32 coordinates to small symbols, and back; see `wzfl.kernels.quantize`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from wzfl.gpu.norms import added

_TILE = 1024


def fold(
    values: Tensor, noise: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """Symbols `[rows, count]`, uint8 or int32, and the first `covered` block numbers modulo 256, uint8."""
    rows, count = values.shape
    kind = torch.uint8 if bits <= 8 else torch.int32
    symbols = torch.empty(rows, count, dtype=kind, device=values.device)
    blocks = torch.empty(rows, covered, dtype=torch.uint8, device=values.device)
    with torch.cuda.device_of(values):
        _fold[(triton.cdiv(count, _TILE), rows)](
            *(values, values.stride(0), noise, noise.stride(0), cell, symbols, blocks, count, covered),
            BITS=bits, TILE=_TILE,
        )  # fmt: skip
    return symbols, blocks


def unfold(
    symbols: Tensor, noise: Tensor | None, expected: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """Distances `[rows, count]` float32, and the first `covered` block numbers modulo 256, uint8."""
    rows, count = expected.shape
    residuals = torch.empty(rows, count, device=expected.device)
    blocks = torch.empty(rows, covered, dtype=torch.uint8, device=expected.device)
    offsets = expected if noise is None else noise
    with torch.cuda.device_of(expected):
        _unfold[(triton.cdiv(count, _TILE), rows)](
            *(symbols, symbols.stride(0), offsets, offsets.stride(0), expected, expected.stride(0)),
            *(cell, residuals, blocks, count, covered),
            BITS=bits, DITHERED=noise is not None, TILE=_TILE,
        )  # fmt: skip
    return residuals, blocks


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
            *(values, values.stride(0), deviations, centroids, boundaries),
            *(indices, products, squares, count),
            BITS=len(centroids).bit_length() - 1, TILE=_TILE,
        )  # fmt: skip
    return indices, added(products), added(squares)


def rounded(values: Tensor, noise: Tensor, bucket: int, levels: int) -> tuple[Tensor, Tensor]:
    """Norms `[rows, buckets]` and symbols `[rows, count]`, 0 to 2 * levels; see `qsgd.rounded`.

    `bucket` is a power of two.
    """
    rows, count = values.shape
    kind = torch.uint8 if levels < 128 else torch.int32
    symbols = torch.empty(rows, count, dtype=kind, device=values.device)
    buckets = triton.cdiv(count, bucket)
    norms = torch.empty(rows, buckets, device=values.device)
    with torch.cuda.device_of(values):
        _rounded[(buckets, rows)](
            *(values, values.stride(0), noise, noise.stride(0), norms, symbols, count, levels),
            BUCKET=bucket,
            enable_fp_fusion=False,  # a product and a sum in one rounding would be another number
        )
    return norms, symbols


@triton.jit
def _fold(
    values, values_stride, noise, noise_stride, cell, symbols, blocks, count, covered,
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
    _keep(blocks + row * covered, block, index, covered)


@triton.jit
def _unfold(
    symbols, symbols_stride, noise, noise_stride, expected, expected_stride,
    cell, residuals, blocks, count, covered,
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
    _keep(blocks + row * covered, block, index, covered)


@triton.jit
def _keep(blocks, block, index, covered):
    """Stores the numbers of the first `covered` blocks, modulo 256."""
    low = block - tl.floor(block * 0.00390625) * 256
    tl.store(blocks + index, low.to(tl.int32).to(tl.uint8), mask=index < covered)


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
