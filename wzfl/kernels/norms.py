"""Sums and maxima over each row of float32 `[rows, count]`."""

import numpy as np

from wzfl.kernels import compiled

_STRIP = 1024  # sums side by side, which stay in the first cache; a power of two


@compiled
def energy_rows(values: np.ndarray) -> np.ndarray:
    """Sum of squares of each row, float64 `[rows]`."""
    sums, energies = np.empty(_STRIP), np.empty(len(values))
    for row in range(len(values)):
        sums[:] = 0
        for start in range(0, values.shape[1], _STRIP):
            part = values[row, start : start + _STRIP]
            for index in range(len(part)):
                value = np.float64(part[index])
                sums[index] += value * value
        energies[row] = added(sums)
    return energies


@compiled
def distance_rows(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared distance between the rows of `left` and `right`, float64 `[rows]`."""
    sums, distances = np.empty(_STRIP), np.empty(len(left))
    for row in range(len(left)):
        sums[:] = 0
        for start in range(0, left.shape[1], _STRIP):
            part, other = left[row, start : start + _STRIP], right[row, start : start + _STRIP]
            for index in range(len(part)):
                difference = np.float64(part[index]) - np.float64(other[index])
                sums[index] += difference * difference
        distances[row] = added(sums)
    return distances


@compiled
def added(sums: np.ndarray) -> float:
    """Adds up a power of two of numbers by halves, in place; returns their sum."""
    half = len(sums) // 2
    while half:
        for index in range(half):
            sums[index] += sums[half + index]
        half //= 2
    return sums[0]


@compiled
def largest_rows(values: np.ndarray) -> np.ndarray:
    """Largest magnitude in each row, float32 `[rows]`."""
    magnitudes = np.zeros(len(values), np.float32)
    for row in range(len(values)):
        magnitudes.view(np.uint32)[row] = largest(values[row].view(np.uint32))
    return magnitudes


@compiled
def largest(bits: np.ndarray) -> np.uint32:
    """The largest magnitude of float32 values, all seen as uint32; magnitudes order like their bits."""
    first = second = third = fourth = np.uint32(0)
    whole = len(bits) // 4 * 4
    for index in range(0, whole, 4):
        first = max(first, magnitude(bits[index]))
        second = max(second, magnitude(bits[index + 1]))
        third = max(third, magnitude(bits[index + 2]))
        fourth = max(fourth, magnitude(bits[index + 3]))
    for index in range(whole, len(bits)):
        first = max(first, magnitude(bits[index]))
    return max(max(first, second), max(third, fourth))


@compiled
def magnitude(bits: np.uint32) -> np.uint32:
    """The bits of a float32 without its sign."""
    return np.uint32(bits & np.uint32(0x7FFFFFFF))
