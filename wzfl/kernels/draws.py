"""SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), counter-based: word i needs no word before it."""

import numpy as np

from wzfl.kernels import compiled

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_UNIT = np.float32(2.0**-24)


@compiled
def word(key: np.uint64, index: int) -> np.uint64:
    """The word at `index`, counted from 0, of the stream that starts at `key`."""
    state = key + np.uint64(index + 1) * _INCREMENT
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


@compiled
def words(key: np.uint64, count: int) -> np.ndarray:
    """The first `count` words of the stream."""
    out = np.empty(count, np.uint64)
    for index in range(count):
        out[index] = word(key, index)
    return out


@compiled
def uniform(key: np.uint64, out: np.ndarray) -> None:
    """Fills float32 `out` with multiples of 2**-24 in [0, 1), two from each word."""
    for pair in range(len(out) // 2):
        both = word(key, pair)
        out[2 * pair] = np.float32(np.int64((both >> np.uint64(8)) & np.uint64(0xFFFFFF))) * _UNIT
        out[2 * pair + 1] = np.float32(np.int64(both >> np.uint64(40))) * _UNIT
    if len(out) % 2:
        last = word(key, len(out) // 2) >> np.uint64(8) & np.uint64(0xFFFFFF)
        out[len(out) - 1] = np.float32(np.int64(last)) * _UNIT


@compiled
def flip_signs(key: np.uint64, offset: int, values: np.ndarray) -> None:
    """Multiplies float32 `values`, seen as uint32, by the signs at `offset` and after, in place.

    The sign at position p is + where bit p % 64 of word p // 64 is set.
    """
    start = 0
    while start < len(values):
        flips, first = _flips(key, offset + start), (offset + start) % 32
        count = min(32 - first, len(values) - start)
        part = values[start : start + count]
        for index in range(count):
            part[index] ^= _sign_bit(flips, first + index)
        start += count


@compiled
def flipped(key: np.uint64, values: np.ndarray, out: np.ndarray) -> None:
    """Writes to `out` what `flip_signs` at 0 would make of `values`, which are elsewhere."""
    for start in range(0, len(values), 32):
        flips, part, there = _flips(key, start), values[start : start + 32], out[start : start + 32]
        for index in range(len(part)):
            there[index] = part[index] ^ _sign_bit(flips, index)


@compiled
def signs(key: np.uint64, out: np.ndarray) -> None:
    """Fills float32 `out`, seen as uint32, with signs, -1 or +1."""
    one = np.uint32(0x3F800000)
    out[:] = one
    flip_signs(key, 0, out)


@compiled
def progression(start: int, stride: int, modulus: int, out: np.ndarray) -> None:
    """Fills int64 `out` with start, start + stride and so on, modulo `modulus`; both are below that."""
    place = start
    for index in range(len(out)):
        out[index] = place
        place += stride
        place -= modulus if place >= modulus else 0


@compiled
def _flips(key: np.uint64, position: int) -> np.uint32:
    """Bits, from the lowest on, of the 32 places around `position`: 1 where the sign is -."""
    half = word(key, position // 64) >> np.uint64(32 * (position // 32 % 2))
    return np.uint32(~half & np.uint64(0xFFFFFFFF))


@compiled
def _sign_bit(flips: np.uint32, place: int) -> np.uint32:
    """The flip at `place`, moved to the place of a float32's sign."""
    return ((flips >> np.uint32(place)) & np.uint32(1)) << np.uint32(31)
