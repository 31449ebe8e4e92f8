"""The largest magnitudes of a vector, without sorting it."""

import numpy as np

from wzfl.kernels import compiled

_HALF = 1 << 16


@compiled
def top_row(magnitudes: np.ndarray, count: int, positions: np.ndarray) -> None:
    """Writes the ascending positions of the `count` largest into `positions`; ties go to the first.

    `magnitudes` are non-negative float32, seen as uint32, whose order is the same: a histogram of
    their upper halves, then one of the lower halves in the decisive bin, find the smallest that counts.
    """
    upper, lower = np.zeros(_HALF, np.int64), np.zeros(_HALF, np.int64)
    for bits in magnitudes:
        upper[bits >> np.uint32(16)] += 1
    high, above = _last_bin(upper, count)
    for bits in magnitudes:
        if bits >> np.uint32(16) == high:
            lower[bits & np.uint32(0xFFFF)] += 1
    low, above_in_bin = _last_bin(lower, count - above)
    threshold = np.uint32(high << 16 | low)
    ties = count - above - above_in_bin
    found = 0
    for index in range(len(magnitudes)):
        if magnitudes[index] > threshold:
            positions[found] = index
            found += 1
        elif magnitudes[index] == threshold and ties > 0:
            positions[found] = index
            found += 1
            ties -= 1


@compiled
def _last_bin(histogram: np.ndarray, count: int) -> tuple[int, int]:
    """The bin, from the top, in which the `count`-th value lies, and how many lie above it."""
    above, place = 0, len(histogram) - 1
    while above + histogram[place] < count:
        above += histogram[place]
        place -= 1
    return place, above
