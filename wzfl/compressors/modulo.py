"""Rounding modulo a few levels, and what side information makes of the result."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wzfl import gpu
from wzfl.kernels.quantize import fold_row, unfold_row

# Far below half the smallest float32, to which a decoded zero vector rounds; nothing is divided by 0.
SMALLEST_CELL = 1e-60
SUMS = 4  # of block numbers, modulo 256, every fourth one in each


def fold(
    values: Tensor, noise: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """Symbols `[clients, count]` of `bits` bits, floor(values / cell + noise) modulo 2**bits.

    With them sums `[clients, 4]` float64 of the numbers of the blocks of 2**bits cells in which the first
    `covered` lie. `cell` is `[clients]` float64.
    """
    if gpu.is_usable(values.device, values.shape[1]):
        from wzfl.gpu import quantize

        folded, added = quantize.fold(values, noise, cell, bits, covered)
        return folded, added.double()
    if not values.is_cpu:
        return fold_with_torch(values, noise, cell, bits, covered)
    return fold_rows(fold_row, values, noise, cell, bits, covered)


def unfold(
    symbols: Tensor, noise: Tensor | None, expected: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """Distances `[clients, count]` from `expected` to the nearest value that a symbol stands for.

    A dithered symbol stands for the middle of its cell less the shared noise, one without noise for the
    start of its cell, both modulo 2**bits cells. With them sums `[clients, 4]` float64 of block numbers, as
    those of `fold`.
    """
    if gpu.is_usable(expected.device, expected.shape[1]):
        from wzfl.gpu import quantize

        distances, added = quantize.unfold(symbols, noise, expected, cell, bits, covered)
        return distances, added.double()
    middle, noise = (0.0, torch.zeros_like(expected)) if noise is None else (0.5, noise)
    if not expected.is_cpu:
        return unfold_with_torch(symbols, middle, noise, expected, cell, bits, covered)

    def kernel(labels: np.ndarray, *others: Any) -> None:
        unfold_row(labels, middle, *others)

    return unfold_rows(kernel, symbols, noise, expected, cell, bits, covered)


def fold_rows(
    kernel: Callable[..., None],
    values: Tensor,
    noise: Tensor,
    cell: Tensor,
    bits: int,
    covered: int,
) -> tuple[Tensor, Tensor]:
    """What `fold` gives, by a compiled `kernel` (`wzfl.kernels`) that folds one client's row on a CPU."""
    symbols = np.empty(values.shape, np.uint8 if bits <= 8 else np.int32)
    totals = np.zeros((len(values), SUMS))
    rows = zip(values.numpy(), noise.numpy(), cell.tolist(), symbols, totals, strict=True)
    for row, offsets, size, out, total in rows:
        kernel(row, offsets, size, bits, covered, out, total)
    return torch.from_numpy(symbols), torch.from_numpy(totals)


def unfold_rows(
    kernel: Callable[..., None],
    symbols: Tensor,
    noise: Tensor,
    expected: Tensor,
    cell: Tensor,
    bits: int,
    covered: int,
) -> tuple[Tensor, Tensor]:
    """What `unfold` gives, by a compiled `kernel` (`wzfl.kernels`) that unfolds one client's row on a CPU."""
    residuals = torch.empty(expected.shape, dtype=torch.float32)
    totals = np.zeros((len(expected), SUMS))
    for row in range(len(expected)):
        kernel(
            symbols[row].numpy(),
            noise[row].numpy(),
            expected[row].numpy(),
            float(cell[row]),
            bits,
            covered,
            residuals[row].numpy(),
            totals[row],
        )
    return residuals, torch.from_numpy(totals)


def fold_with_torch(
    values: Tensor, noise: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """What `fold` gives, on any device."""
    indices = torch.floor(values.double() / cell[:, None] + noise)
    # Exact in floating point, and several times faster than fmod.
    blocks = torch.floor(indices * 2.0**-bits)
    symbols = indices.sub_(blocks, alpha=2.0**bits).to(torch.int32)
    return symbols, sums(blocks[:, :covered])


def unfold_with_torch(
    symbols: Tensor,
    middle: float,
    noise: Tensor,
    expected: Tensor,
    cell: Tensor,
    bits: int,
    covered: int,
) -> tuple[Tensor, Tensor]:
    """What `unfold` gives, on any device."""
    distances = symbols.double() + middle - noise - expected.double().div_(cell[:, None])
    blocks = torch.floor(distances * -(2.0**-bits) + 0.5)
    residuals = distances.add_(blocks, alpha=2.0**bits).mul_(cell[:, None])
    return residuals.float(), sums(blocks[:, :covered])


def sums(blocks: Tensor) -> Tensor:
    """`[clients, 4]` float64: the sums that `fold` gives, of block numbers `[clients, count]`."""
    low = blocks - torch.floor(blocks * 2.0**-8) * 2.0**8
    padded = torch.nn.functional.pad(low, (0, -low.shape[1] % SUMS))
    return padded.view(len(low), -1, SUMS).sum(dim=1, dtype=torch.float64)
