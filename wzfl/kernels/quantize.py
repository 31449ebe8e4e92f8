"""Quantizers of one vector, from float32 coordinates to small symbols and back."""

import numpy as np

from wzfl.kernels import compiled
from wzfl.kernels.norms import added, largest

_STRIP = 1024  # coordinates whose scratch stays in the first cache
_AT_ONCE = 4  # limits that a coordinate is compared with while it is at hand


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
    """Fills `symbols` with floor(values / cell + noise) modulo 2**bits.

    Adds the block numbers of the first `covered` coordinates, modulo 256, to the four `sums` in turn.
    """
    modulus, inverse = 2.0**bits, 2.0**-bits
    blocks, totals = np.empty(_STRIP), np.zeros(_STRIP)
    for start in range(0, len(values), _STRIP):
        part, offsets = values[start : start + _STRIP], noise[start : start + _STRIP]
        folded = symbols[start : start + _STRIP]
        for index in range(len(part)):
            unwrapped = np.floor(np.float64(part[index]) / cell + np.float64(offsets[index]))
            block = np.floor(unwrapped * inverse)
            folded[index] = np.int32(unwrapped - block * modulus)
            blocks[index] = block
        _add_blocks(blocks[: max(0, min(len(part), covered - start))], totals)
    _add_totals(totals, sums)


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
    """Fills `residuals` with the distances from `expected` to the nearest (symbols + middle - noise) * cell.

    Nearest modulo 2**bits cells. Adds block numbers to `sums` as `fold_row` does.
    """
    modulus, inverse = 2.0**bits, 2.0**-bits
    blocks, totals = np.empty(_STRIP), np.zeros(_STRIP)
    for start in range(0, len(symbols), _STRIP):
        folded, offsets = symbols[start : start + _STRIP], noise[start : start + _STRIP]
        near, out = expected[start : start + _STRIP], residuals[start : start + _STRIP]
        for index in range(len(folded)):
            distance = np.float64(folded[index]) + middle - np.float64(offsets[index])
            distance -= np.float64(near[index]) / cell
            block = np.floor(distance * -inverse + 0.5)
            out[index] = (distance + block * modulus) * cell
            blocks[index] = block
        _add_blocks(blocks[: max(0, min(len(folded), covered - start))], totals)
    _add_totals(totals, sums)


@compiled
def _add_blocks(blocks: np.ndarray, totals: np.ndarray) -> None:
    """Adds float64 `blocks` modulo 256 to the `totals` of their places in a strip."""
    for index in range(len(blocks)):
        totals[index] += blocks[index] - np.floor(blocks[index] * 2.0**-8) * 2.0**8


@compiled
def _add_totals(totals: np.ndarray, sums: np.ndarray) -> None:
    """Adds what `_add_blocks` gathered to the four `sums` in turn; whole numbers are exact in any order."""
    for index in range(len(totals)):
        sums[index % 4] += totals[index]


@compiled
def nearest_row(
    values: np.ndarray,
    deviation: float,
    centroids: np.ndarray,
    boundaries: np.ndarray,
    symbols: np.ndarray,
) -> tuple[float, float]:
    """Fills `symbols` with how many of 2**bits - 1 boundaries are below values / deviation.

    Returns sum(values * c) and sum(c * c), where c are the symbols' centroids.
    """
    limits = _limits(boundaries, deviation)
    passed, products, squares = np.empty(_STRIP, np.int32), np.zeros(_STRIP), np.zeros(_STRIP)
    for start in range(0, len(values), _STRIP):
        part, chosen = values[start : start + _STRIP], symbols[start : start + _STRIP]
        _count(part, limits, passed)
        for index in range(len(part)):
            chosen[index] = passed[index]
        for index in range(len(part)):
            centroid = centroids[passed[index]]
            products[index] += np.float64(part[index]) * centroid
            squares[index] += centroid * centroid
    return added(products), added(squares)


@compiled
def _limits(boundaries: np.ndarray, deviation: float) -> np.ndarray:
    """The lowest float32 above each boundary once divided by `deviation`.

    They are filled up with infinity to a multiple of `_AT_ONCE`.
    """
    limits = np.full(-(-len(boundaries) // _AT_ONCE) * _AT_ONCE, np.inf, np.float32)
    for number in range(len(boundaries)):
        boundary, limit = boundaries[number], np.float32(boundaries[number] * deviation)
        while boundary < np.float64(limit) / deviation:
            limit = np.nextafter(limit, np.float32(-np.inf))
        while limit < np.inf and not boundary < np.float64(limit) / deviation:
            limit = np.nextafter(limit, np.float32(np.inf))
        limits[number] = limit
    return limits


@compiled
def _count(values: np.ndarray, limits: np.ndarray, passed: np.ndarray) -> None:
    """Fills `passed` with how many `limits` each value is not below: faster than to search up to 255."""
    one, none = np.int32(1), np.int32(0)
    passed[: len(values)] = none
    for number in range(0, len(limits), _AT_ONCE):
        first, second = limits[number], limits[number + 1]
        third, fourth = limits[number + 2], limits[number + 3]
        for index in range(len(values)):
            value = values[index]
            low = (one if value >= first else none) + (one if value >= second else none)
            high = (one if value >= third else none) + (one if value >= fourth else none)
            passed[index] += low + high


@compiled
def levels_row(
    values: np.ndarray,
    noise: np.ndarray,
    bucket: int,
    levels: int,
    norms: np.ndarray,
    symbols: np.ndarray,
) -> None:
    """Fills `symbols` with floor(levels * values / norm + noise) + levels.

    The norm is a bucket's largest magnitude, and goes to `norms`.
    """
    for number in range(len(norms)):
        start = number * bucket
        part, offsets = values[start : start + bucket], noise[start : start + bucket]
        chosen = symbols[start : start + bucket]
        magnitude = largest(part.view(np.uint32))
        norms.view(np.uint32)[number] = magnitude
        divisor = np.float64(norms[number]) if magnitude else 1.0
        for index in range(len(part)):
            level = np.floor(np.float64(part[index]) / divisor * levels + offsets[index])
            chosen[index] = np.int32(min(max(level + levels, 0.0), 2.0 * levels))


@compiled
def values_row(
    symbols: np.ndarray, bucket: int, levels: int, norms: np.ndarray, out: np.ndarray
) -> None:
    """Fills float32 `out` with (symbols - levels) / levels times the norm of a bucket."""
    steps = np.float32(levels)
    for number in range(len(norms)):
        start = number * bucket
        chosen, values = symbols[start : start + bucket], out[start : start + bucket]
        for index in range(len(chosen)):
            values[index] = (np.float32(chosen[index]) - steps) / steps * norms[number]


@compiled
def interpolate_row(
    values: np.ndarray, unit: float, table: np.ndarray, per_unit: int, out: np.ndarray
) -> None:
    """Fills float32 `out` with an odd function of float32 `values`, both in units.

    `table` has it from 0 on, `per_unit` entries to a unit; beyond it, and of NaN, its last one counts.
    """
    last = np.float64(len(table) - 1)
    for index in range(len(values)):
        place = abs(np.float64(values[index])) / unit * per_unit
        place = place if place < last else last
        left = min(np.int32(place), np.int32(len(table) - 2))
        mean = table[left] + (table[left + 1] - table[left]) * (place - left)
        out[index] = np.copysign(mean, np.float64(values[index])) * unit


@compiled
def lookup_row(symbols: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """Fills float32 `out` with the entries of `table` that `symbols` name."""
    for index in range(len(symbols)):
        out[index] = table[symbols[index]]
