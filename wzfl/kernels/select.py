"""The largest magnitudes of a vector, without sorting it."""

import numpy as np

from wzfl.kernels import compiled
from wzfl.kernels.norms import magnitude

_HALF, _SAMPLE = 1 << 16, 4096


@compiled
def top_row(bits: np.ndarray, count: int, positions: np.ndarray) -> None:
    """Writes the ascending positions of the `count` largest magnitudes into `positions`.

    Ties go to the first. `bits` are float32, seen as uint32: without the sign their order is the same.
    Those above a bound that a sample suggests are candidates; a histogram of their upper halves, then
    one of the lower halves in the decisive bin, find the smallest that counts.
    """
    places = np.empty(len(bits), np.int64)
    candidates = _above(bits, _probably_below(bits, count), places)
    if candidates < count:
        candidates = _above(bits, np.uint32(0), places)
    places = places[:candidates]

    upper, lower = np.zeros(_HALF, np.int64), np.zeros(_HALF, np.int64)
    for place in places:
        upper[magnitude(bits[place]) >> np.uint32(16)] += 1
    high, above = _last_bin(upper, count)
    for place in places:
        if magnitude(bits[place]) >> np.uint32(16) == high:
            lower[bits[place] & np.uint32(0xFFFF)] += 1
    low, above_in_bin = _last_bin(lower, count - above)
    threshold = np.uint32(high << 16 | low)
    ties = count - above - above_in_bin
    found = 0
    for place in places:
        size = magnitude(bits[place])
        if size > threshold:
            positions[found] = place
            found += 1
        elif size == threshold and ties > 0:
            positions[found] = place
            found += 1
            ties -= 1


@compiled
def _probably_below(bits: np.ndarray, count: int) -> np.uint32:
    """A magnitude that more than `count` are likely to reach, by a sample; 0 if a sample is of no use."""
    step = len(bits) // _SAMPLE
    wanted = count / len(bits) * _SAMPLE
    rank = int(wanted + 4 * np.sqrt(wanted) + 8)
    if step < 2 or rank >= _SAMPLE:
        return np.uint32(0)
    sample = np.empty(_SAMPLE, np.uint32)
    for index in range(_SAMPLE):
        sample[index] = magnitude(bits[index * step])
    sample.sort()
    return sample[_SAMPLE - rank]


@compiled
def _above(bits: np.ndarray, bound: np.uint32, places: np.ndarray) -> int:
    """Writes the places of magnitudes of at least `bound` into `places`; returns how many they are."""
    found = 0
    for place in range(len(bits)):
        places[found] = place  # the next one's, if this is too small
        found += magnitude(bits[place]) >= bound
    return found


@compiled
def _last_bin(histogram: np.ndarray, count: int) -> tuple[int, int]:
    """The bin, from the top, in which the `count`-th value lies, and how many lie above it."""
    above, place = 0, len(histogram) - 1
    while above + histogram[place] < count:
        above += histogram[place]
        place -= 1
    return place, above


@compiled
def in_order(places: np.ndarray, dim: int, out: np.ndarray) -> None:
    """Fills int64 `out` with `places`, all different and below `dim`, the lowest first."""
    marks = np.zeros(dim, np.uint8)
    for place in places:
        marks[place] = 1
    place = found = 0
    while found < len(out):  # written whether it is one or not: nobody could foresee a branch
        out[found] = place
        found += marks[place]
        place += 1
