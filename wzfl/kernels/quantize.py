"""Quantizers of one vector: float32 coordinates to small symbols, and back."""

import numpy as np

from wzfl.kernels import compiled
from wzfl.kernels.norms import added, largest

_STRIP = 1024  # coordinates whose scratch stays in the first cache


@compiled
def fold_row(
    values: np.ndarray,
    noise: np.ndarray,
    cell: float,
    bits: int,
    covered: int,
    symbols: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Symbols are floor(values / cell + noise) modulo 2**bits.

    Adds the block numbers of the first `covered` coordinates, modulo 256, to the four `sums` in turn.
    """
    modulus, inverse, blocks = 2.0**bits, 2.0**-bits, np.zeros(_STRIP)
    for start in range(0, len(values), _STRIP):
        part, offsets = values[start : start + _STRIP], noise[start : start + _STRIP]
        folded = symbols[start : start + _STRIP]
        for index in range(len(part)):
            unwrapped = np.floor(np.float64(part[index]) / cell + np.float64(offsets[index]))
            block = np.floor(unwrapped * inverse)
            folded[index] = np.int32(unwrapped - block * modulus)
            blocks[index] = block
        _add_blocks(blocks[: max(0, min(len(part), covered - start))], sums)


@compiled
def unfold_row(
    symbols: np.ndarray,
    middle: float,
    noise: np.ndarray,
    expected: np.ndarray,
    cell: float,
    bits: int,
    covered: int,
    residuals: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Residuals are the distances from `expected` to the nearest of (symbols + middle - noise) * cell.

    Nearest modulo 2**bits cells. Adds block numbers to `sums` as `fold_row` does.
    """
    modulus, inverse, blocks = 2.0**bits, 2.0**-bits, np.zeros(_STRIP)
    for start in range(0, len(symbols), _STRIP):
        folded, offsets = symbols[start : start + _STRIP], noise[start : start + _STRIP]
        near, out = expected[start : start + _STRIP], residuals[start : start + _STRIP]
        for index in range(len(folded)):
            distance = np.float64(folded[index]) + middle - np.float64(offsets[index])
            distance -= np.float64(near[index]) / cell
            block = np.floor(distance * -inverse + 0.5)
            out[index] = (distance + block * modulus) * cell
            blocks[index] = block
        _add_blocks(blocks[: max(0, min(len(folded), covered - start))], sums)


@compiled
def _add_blocks(blocks: np.ndarray, sums: np.ndarray) -> None:
    """Adds float64 `blocks` modulo 256 to the four `sums` in turn; overwrites `blocks`."""
    for index in range(len(blocks)):
        blocks[index] -= np.floor(blocks[index] * 2.0**-8) * 2.0**8
    whole = len(blocks) // 4 * 4
    first, second, third, fourth = sums
    for index in range(0, whole, 4):
        first += blocks[index]
        second += blocks[index + 1]
        third += blocks[index + 2]
        fourth += blocks[index + 3]
    sums[0], sums[1], sums[2], sums[3] = first, second, third, fourth
    for index in range(whole, len(blocks)):
        sums[index - whole] += blocks[index]


@compiled
def nearest_row(
    values: np.ndarray,
    deviation: float,
    centroids: np.ndarray,
    boundaries: np.ndarray,
    symbols: np.ndarray,
) -> tuple[float, float]:
    """Symbols count the 2**bits - 1 boundaries below values / deviation; their centroids are c.

    Returns sum(values * c) and sum(c * c).
    """
    units, products, squares = np.empty(_STRIP), np.zeros(_STRIP), np.zeros(_STRIP)
    for start in range(0, len(values), _STRIP):
        part, chosen = values[start : start + _STRIP], symbols[start : start + _STRIP]
        for index in range(len(part)):
            units[index] = np.float64(part[index]) / deviation
        if len(boundaries) < 4:
            chosen[:] = 0
            for boundary in boundaries:
                for index in range(len(part)):
                    chosen[index] += np.uint8(boundary < units[index])
        else:
            for index in range(len(part)):
                place, step = 0, len(centroids) // 2
                while step:
                    place += step * int(boundaries[place + step - 1] < units[index])
                    step //= 2
                chosen[index] = place
        for index in range(len(part)):
            level = centroids[chosen[index]]
            products[index] += np.float64(part[index]) * level
            squares[index] += level * level
    return added(products), added(squares)


@compiled
def levels_row(
    values: np.ndarray,
    noise: np.ndarray,
    bucket: int,
    levels: int,
    norms: np.ndarray,
    symbols: np.ndarray,
) -> None:
    """Symbols are floor(levels * values / norm + noise) + levels, the norm a bucket's largest magnitude."""
    for number in range(len(norms)):
        start, end = number * bucket, min(len(values), (number + 1) * bucket)
        magnitude = largest(values[start:end].view(np.uint32))
        norms.view(np.uint32)[number] = magnitude
        divisor = np.float64(norms[number]) if magnitude else 1.0
        for index in range(start, end):
            level = np.floor(
                np.float64(values[index]) / divisor * levels + np.float64(noise[index])
            )
            symbols[index] = np.int32(min(max(level + levels, 0.0), 2.0 * levels))


@compiled
def lookup_row(symbols: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """Fills float32 `out` with the entries of `table` that `symbols` name."""
    for index in range(len(symbols)):
        out[index] = table[symbols[index]]
