"""Sums and maxima over each row of float32 `[rows, count]`."""

import numpy as np

from wzfl.kernels import compiled

_STRIP = 1024  # coordinates whose scratch stays in the first cache


@compiled
def energy_rows(values: np.ndarray) -> np.ndarray:
    """Sums of squares, float64."""
    squares, sums = np.empty(_STRIP), np.zeros(len(values))
    for row in range(len(values)):
        for start in range(0, values.shape[1], _STRIP):
            part = values[row, start : start + _STRIP]
            for index in range(len(part)):
                squares[index] = np.float64(part[index]) * np.float64(part[index])
            sums[row] += total(squares[: len(part)])
    return sums


@compiled
def distance_rows(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared distances, float64."""
    squares, sums = np.empty(_STRIP), np.zeros(len(left))
    for row in range(len(left)):
        for start in range(0, left.shape[1], _STRIP):
            part, other = left[row, start : start + _STRIP], right[row, start : start + _STRIP]
            for index in range(len(part)):
                difference = np.float64(part[index]) - np.float64(other[index])
                squares[index] = difference * difference
            sums[row] += total(squares[: len(part)])
    return sums


@compiled
def largest_rows(values: np.ndarray) -> np.ndarray:
    """Largest magnitudes, float32."""
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
    """Without the sign."""
    return np.uint32(bits & np.uint32(0x7FFFFFFF))


@compiled
def total(values: np.ndarray) -> float:
    """The sum, in four partial sums, so that additions need not wait for each other."""
    first = second = third = fourth = 0.0
    whole = len(values) // 4 * 4
    for index in range(0, whole, 4):
        first += values[index]
        second += values[index + 1]
        third += values[index + 2]
        fourth += values[index + 3]
    for index in range(whole, len(values)):
        first += values[index]
    return (first + second) + (third + fourth)
